"""An order becomes bundles, and each bundle a run."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from prefect import flow, get_run_logger
from prefect.runtime import flow_run

from flows import submit
from flows.ingest_bundle import ingest_bundle
from headrace import recipe as recipes
from headrace.catalogue import orders, work
from headrace.catalogue.items import Item
from headrace.catalogue.orders import Wanted
from headrace.catalogue.work import Work
from headrace.model import SourceKind
from headrace.source import parse_ordered
from headrace.wiring import House, house

OWNER = "default"
"""Whose the orders are that are placed in Prefect itself; its API is for operators only."""

BUNDLE_ITEMS = 200
BUNDLE_BYTES = 64 * 1024 * 1024
UNKNOWN_BYTES = 8 * 1024 * 1024
"""DESIGN.md, Orchestration: about 64 MiB or 200 items. A URL's size is unknown before it is asked
for; at 8 MiB each, an order of films is spread over workers and one of small files is not shredded."""


def _name() -> str:
    parameters = flow_run.get_parameters()
    sources = parameters.get("sources") or []
    return f"order {parameters.get('order_id') or (sources[0] if sources else '')}"[:200]


@flow(name="ingest-order", flow_run_name=_name)
def ingest_order(
    sources: list[str] | None = None,
    recipe: str = "web",
    order_id: UUID | None = None,
    key: str | None = None,
) -> UUID:
    """Take in sources: place the order (unless ``order_id`` names one that was), plan it, start its bundles."""
    here = house()
    if order_id is None:
        wanted = [Wanted(parse_ordered(text)) for text in sources or []]
        order_id, _ = submit.place(here, OWNER, wanted, recipes.named(recipe), key=key)
    bundles = plan(here, order_id)
    get_run_logger().info("order %s: %d bundle(s)", order_id, len(bundles))
    if len(bundles) == 1:
        _run_here(here, bundles[0])
    else:
        for bundle_id in bundles:
            submit.start(here, Work.BUNDLE, bundle_id)
    return order_id


def plan(here: House, order_id: UUID) -> list[UUID]:
    """Put the order's queued items into bundles; return those."""
    with here.database.begin() as tx:
        waiting = orders.unplanned_items(tx, order_id)
        return [orders.add_bundle(tx, order_id, [item.id for item in portion]) for portion in plan_bundles(waiting)]


def plan_bundles(waiting: Sequence[Item]) -> list[list[Item]]:
    """Return the portions that items are worked on in. Pure; keeps their order."""
    portions: list[list[Item]] = []
    weight = 0
    for item in waiting:
        size = 0 if item.source.kind is SourceKind.ASSET else UNKNOWN_BYTES
        full = not portions or len(portions[-1]) >= BUNDLE_ITEMS or weight + size > BUNDLE_BYTES
        if full:
            portions.append([])
            weight = 0
        portions[-1].append(item)
        weight += size
    return portions


def _run_here(here: House, bundle_id: UUID) -> None:
    """Run a bundle in this process: an order of one bundle saves the start of another."""
    with here.database.begin() as tx:
        mine = [due for due in work.due(tx, Work.BUNDLE, only=bundle_id) if work.hand_over(tx, due) is not None]
        run_id = flow_run.get_id()
        for due in mine:
            if run_id is not None:
                work.remember_run(tx, due, UUID(str(run_id)))
    if mine:
        ingest_bundle(bundle_id)
