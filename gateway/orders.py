"""Orders and items: place, look, cancel, try again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from flows import submit
from gateway import shapes
from gateway.auth import Here, Owner
from headrace import local, objects, terms
from headrace import recipe as recipes
from headrace.catalogue import assets, items, orders, publications, uploads
from headrace.catalogue.database import Tx
from headrace.catalogue.items import Item
from headrace.catalogue.orders import MAX_SOURCES, Wanted
from headrace.catalogue.work import Work
from headrace.download.proof import ALGORITHMS
from headrace.errors import InvalidRequest, OrchestratorUnavailable
from headrace.log import Log
from headrace.model import ItemState, Source, SourceKind, Terms
from headrace.source import parse_ordered, safe_name
from headrace.terms import MAX_MIRRORS, MAX_PIECES
from headrace.wiring import House

log = Log(__name__)
router = APIRouter(prefix="/v1")

SHA256 = r"^[0-9a-fA-F]{64}$"


class PiecesBody(BaseModel):
    """Digests of a file's consecutive pieces, as a Metalink has them."""

    model_config = ConfigDict(extra="forbid")
    algorithm: str = Field(max_length=20)
    length_bytes: Annotated[int, Field(ge=1)]
    values: list[Annotated[str, Field(max_length=128)]] = Field(min_length=1, max_length=MAX_PIECES)


class SourceBody(BaseModel):
    """A source with where else it lies, what it must be, and what opens it."""

    model_config = ConfigDict(extra="forbid")
    source: str = Field(max_length=8192)
    sha256: Annotated[str | None, Field(pattern=SHA256)] = None
    mirrors: list[Annotated[str, Field(max_length=8192)]] = Field(default=[], max_length=MAX_MIRRORS)
    digests: dict[str, str] = Field(default={}, max_length=len(ALGORITHMS))
    size_bytes: Annotated[int | None, Field(ge=1)] = None
    pieces: PiecesBody | None = None
    credential: Annotated[str | None, Field(min_length=1, max_length=100)] = None


class OrderBody(BaseModel):
    """What ``POST /v1/orders`` takes."""

    model_config = ConfigDict(extra="forbid")
    sources: list[str | SourceBody] = Field(max_length=MAX_SOURCES)
    recipe: str | dict[str, Any] = "web"
    key: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    collection: str = Field(default="", max_length=200)
    bytes_per_second: Annotated[int | None, Field(ge=1024)] = None


@router.post("/orders", status_code=202)
def place(
    body: OrderBody,
    owner: Owner,
    here: Here,
    response: Response,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> dict[str, Any]:
    """Place an order: 202 when it is new, 200 when the same key brought it before."""
    recipe = recipes.parse(body.recipe)
    with here.database.begin() as tx:
        wanted = [one for source in body.sources for one in _wanted(tx, here, owner, source)]
    order_id, new = submit.place(
        here,
        owner,
        wanted,
        recipe,
        key=body.key or idempotency_key,
        collection=safe_name(body.collection) if body.collection else "",
        bytes_per_second=body.bytes_per_second,
    )
    start(here, order_id)
    response.status_code = 202 if new else 200
    response.headers["Location"] = f"/v1/orders/{order_id}"
    return read(order_id, owner, here)


def start(here: House, order_id: UUID) -> None:
    """Start an order's run; where Prefect is away the order waits for ``reconcile``."""
    try:
        submit.start(here, Work.ORDER, order_id)
    except OrchestratorUnavailable as error:
        log.warning("order.waits", order=str(order_id), why=error.message)


def _wanted(tx: Tx, here: House, owner: str, one: str | SourceBody) -> list[Wanted]:
    """Check a source as far as that goes without reading it; a local folder becomes its files."""
    body = SourceBody(source=one) if isinstance(one, str) else one
    source = parse_ordered(body.source)
    if source.kind is SourceKind.FILE:
        found = local.sources(Path(source.locator), here.settings.folders, most=MAX_SOURCES)
        if Path(source.locator).is_dir():
            if body != SourceBody(source=body.source):
                raise InvalidRequest(f"{source.shown} is a folder: what one file must be doesn't go with it")
            return [Wanted(file) for file in found]
    if source.kind is SourceKind.UPLOAD:
        upload = uploads.get(tx, UUID(source.locator), owner)
        source = Source(source.kind, source.locator, source.shown, upload.name)
    elif source.kind is SourceKind.ASSET:
        asset = assets.get(tx, owner, source.locator)
        source = Source(source.kind, asset.id, f"asset:{asset.id}", asset.title)
    elif source.kind is SourceKind.S3:
        here.check_bucket(objects.named(source.locator)[0])
    return [Wanted(source, body.sha256.lower() if body.sha256 else None, _terms(here, body, source))]


def _terms(here: House, body: SourceBody, source: Source) -> Terms:
    """Return a source's terms; raises ``InvalidRequest`` where they don't go with it."""
    found = terms.of_body(
        mirrors=body.mirrors,
        digests=body.digests,
        size_bytes=body.size_bytes,
        pieces=body.pieces.model_dump() if body.pieces else None,
        credential=body.credential,
    )
    if source.kind is not SourceKind.URL and found != Terms(digests=found.digests):
        raise InvalidRequest(f"{source.shown} is no URL: mirrors, pieces, sizes and credentials don't go with it")
    if body.credential is not None:
        here.access(body.credential, source.locator)
    return found


@router.get("/orders")
def newest(owner: Owner, here: Here, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[dict[str, Any]]:
    """Return the newest orders."""
    with here.database.begin() as tx:
        return [shapes.order(order) for order in orders.newest(tx, owner, limit)]


@router.get("/orders/{order_id}")
def read(order_id: UUID, owner: Owner, here: Here) -> dict[str, Any]:
    """Return an order with its items."""
    with here.database.begin() as tx:
        order = orders.get(tx, order_id, owner)
        mine = items.find(tx, owner, order_id=order_id, limit=MAX_SOURCES)
        found = shaped(tx, here, mine)
    return {**shapes.order(order), "item_list": found}


@router.post("/orders/{order_id}/cancel")
def cancel(order_id: UUID, owner: Owner, here: Here) -> dict[str, Any]:
    """Cancel an order; what is at work for it stops within seconds."""
    with here.database.begin() as tx:
        count = orders.cancel(tx, order_id, owner)
    return {"order_id": str(order_id), "cancelled": count}


@router.post("/orders/{order_id}/retry", status_code=202)
def retry(order_id: UUID, owner: Owner, here: Here) -> dict[str, Any]:
    """Queue the failed and cancelled items of an order again."""
    with here.database.begin() as tx:
        count = orders.retry(tx, order_id, owner)
    if count:
        start(here, order_id)
    return {"order_id": str(order_id), "queued": count}


@router.get("/items")
def find(
    owner: Owner,
    here: Here,
    order: UUID | None = None,
    state: str | None = None,
    asset: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> list[dict[str, Any]]:
    """Return items: of one order in its order, else the newest first."""
    if state is not None and state not in {one.value for one in ItemState}:
        raise InvalidRequest(f"there is no state {state!r}", hint="One of: " + " ".join(ItemState))
    with here.database.begin() as tx:
        found = items.find(
            tx,
            owner,
            order_id=order,
            state=ItemState(state) if state else None,
            asset_id=assets.get(tx, owner, asset, with_deleted=True).id if asset else None,
            limit=limit,
        )
        return shaped(tx, here, found)


def shaped(tx: Tx, here: House, found: list[Item]) -> list[dict[str, Any]]:
    """Return items as JSON, each with the links to what it published."""
    known = publications.of_assets(tx, sorted({item.asset_id for item in found if item.asset_id}))
    by_id = {publication.id: publication for several in known.values() for publication in several}
    return [
        shapes.item(item, by_id.get(item.publication_id) if item.publication_id else None, here.settings)
        for item in found
    ]
