"""The library: assets as their owner sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response

from gateway import byte_ranges, shapes
from gateway.auth import Here, Owner
from headrace.catalogue import assets, events, publications
from headrace.errors import NotFound

router = APIRouter(prefix="/v1")


@router.get("/assets")
def find(
    owner: Owner,
    here: Here,
    search: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=5000)] = 500,
) -> list[dict[str, Any]]:
    """Return the library, the newest first."""
    with here.database.begin() as tx:
        found = assets.find(tx, owner, search=search, limit=limit)
        known = publications.of_assets(tx, [asset.id for asset in found])
    return [shapes.asset(asset, known.get(asset.id, []), owner, here.settings) for asset in found]


@router.get("/assets/{name}")
def read(name: str, owner: Owner, here: Here) -> dict[str, Any]:
    """Return one asset, also one that was deleted and can be restored."""
    with here.database.begin() as tx:
        asset = assets.get(tx, owner, name, with_deleted=True)
        known = publications.of_assets(tx, [asset.id])
    return shapes.asset(asset, known.get(asset.id, []), owner, here.settings)


@router.delete("/assets/{name}")
def delete(name: str, owner: Owner, here: Here) -> dict[str, Any]:
    """Remove an asset from the library; ``restore`` takes that back."""
    with here.database.begin() as tx:
        asset = assets.get(tx, owner, name)
        count = assets.delete(tx, owner, asset.id)
    return {"asset_id": asset.id, "entries": count}


@router.post("/assets/{name}/restore")
def restore(name: str, owner: Owner, here: Here) -> dict[str, Any]:
    """Bring back what was deleted last."""
    with here.database.begin() as tx:
        asset = assets.get(tx, owner, name, with_deleted=True)
        count = assets.undelete(tx, owner, asset.id)
    if not count:
        raise NotFound(f"nothing of {asset.id[:12]} was deleted")
    return {"asset_id": asset.id, "entries": count}


@router.post("/assets/{name}/unpublish")
def unpublish(name: str, owner: Owner, here: Here) -> dict[str, Any]:
    """Take an asset's streams offline; its master stays, and a new order publishes it again."""
    with here.database.begin() as tx:
        asset = assets.get(tx, owner, name, with_deleted=True)
        count = publications.retire(tx, owner, asset.id)
    return {"asset_id": asset.id, "publications": count}


@router.get("/assets/{name}/playback")
def playback(name: str, owner: Owner, here: Here) -> dict[str, Any]:
    """Return fresh links that play an asset; 404 where there is nothing to play."""
    body = read(name, owner, here)
    if body["deleted"] or body["playback"] is None:
        raise NotFound(f"{body['title']} has nothing to play", hint="Order asset:ID with the recipe web.")
    found: dict[str, Any] = body["playback"]
    return found


@router.get("/assets/{name}/events")
def history(name: str, owner: Owner, here: Here) -> list[dict[str, Any]]:
    """Return what happened to an asset, oldest first."""
    with here.database.begin() as tx:
        asset = assets.get(tx, owner, name, with_deleted=True)
        found = events.of_asset(tx, owner, asset.id)
    return [{"at": event.at, "kind": event.kind, "item_id": event.item_id, **event.body} for event in found]


@router.api_route("/assets/{name}/original", methods=["GET", "HEAD"])
def original(name: str, owner: Owner, here: Here, request: Request) -> Response:
    """Return an asset's original bytes, whole (verified while they are sent) or a range."""
    with here.database.begin() as tx:
        asset = assets.get(tx, owner, name)
    master = asset.master
    if master is None:
        raise NotFound(f"the original of {asset.title} is not in the archive yet")

    def pieces(start: int, length: int) -> Iterator[bytes]:
        return here.vault.read(master, start, length)

    return byte_ranges.respond(
        request,
        size=asset.size_bytes,
        etag=f'"{asset.id}"',
        read=pieces,
        headers={
            "Content-Type": asset.media_type,
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(asset.entries[0].path)}",
            "Cache-Control": "private, max-age=0",
        },
    )


@router.get("/space")
def space(owner: Owner, here: Here) -> dict[str, int]:
    """Return what the owner's archive holds and saves, in bytes."""
    with here.database.begin() as tx:
        found = assets.space(tx, [owner])
    return {name: getattr(found, name) for name in found.__dataclass_fields__}
