"""A bundle: download, identify, store; then its encodes are started."""

from __future__ import annotations

from uuid import UUID

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Cancelled as CancelledState
from prefect.states import Completed

from flows import submit
from headrace.catalogue import items, orders
from headrace.catalogue.items import Change
from headrace.catalogue.work import Work
from headrace.claim import Claim, claim
from headrace.errors import Cancelled, LeaseLost, WorkAbandoned
from headrace.model import ItemState
from headrace.wiring import House, house
from tasks import policy
from tasks.download import download
from tasks.identify import identify
from tasks.store import store


@flow(name="ingest-bundle", flow_run_name="bundle {bundle_id}")
def ingest_bundle(bundle_id: UUID) -> State[None]:
    """Bring a bundle's items into the archive; one bad item never fails the others."""
    here = house()
    with claim(here.database, f"bundle:{bundle_id}") as held:
        if held is None:
            return Completed(message="another run is at it")
        with here.database.begin() as tx:
            bundle = orders.bundle(tx, bundle_id)
        if bundle.attempt > policy.MAX_RUNS:
            return _abandon(here, held, bundle_id)
        try:
            download(held, bundle_id)
            identify(held, bundle_id)
            store(held, bundle)
        except (LeaseLost, Cancelled) as error:
            drop_cancelled(here, bundle_id)
            return CancelledState(message=error.message)
    return start_encodes(here, bundle_id)


def drop_cancelled(here: House, bundle_id: UUID) -> None:
    """Remove what cancelled items have on this machine; the others go on in another run."""
    with here.database.begin() as tx:
        mine = items.of_bundle(tx, bundle_id)
    for item in mine:
        if item.state is ItemState.CANCELLED:
            here.scratch.drop_item(item.id)


def start_encodes(here: House, bundle_id: UUID) -> State[None]:
    """Start the encodes that the bundle's items wait for."""
    with here.database.begin() as tx:
        mine = items.of_bundle(tx, bundle_id)
    waiting = {item.publication_id for item in mine if item.state is ItemState.TRANSCODING}
    for publication_id in waiting:
        if publication_id is not None:
            submit.start(here, Work.PUBLICATION, publication_id)
    counts = {state: sum(item.state is state for item in mine) for state in ItemState}
    return Completed(message=", ".join(f"{count} {state.value}" for state, count in counts.items() if count))


def _abandon(here: House, held: Claim, bundle_id: UUID) -> State[None]:
    error = WorkAbandoned(f"the work on this source ended unexpectedly {policy.MAX_RUNS} times")
    with here.database.begin() as tx:
        for item in items.of_bundle(tx, bundle_id):
            if item.state in {ItemState.QUEUED, ItemState.DOWNLOADING, ItemState.STORING}:
                items.set_state(tx, item.id, ItemState.FAILED, Change(error=error), fence=held.fence)
    return Completed(message=error.message)
