"""Identify: which content an item's bytes are, and whether it is known already."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from uuid import UUID

from prefect import task

from headrace import identify as engine
from headrace.catalogue import assets, items
from headrace.catalogue.assets import Described
from headrace.catalogue.items import Change, Item
from headrace.claim import Claim
from headrace.errors import MediaError, ObjectMissing
from headrace.model import Downloaded, ItemState, MediaInfo, SourceKind, VideoStream
from headrace.wiring import House, house
from tasks.items import each_item
from tasks.policy import STAGE

READY = (ItemState.QUEUED, ItemState.DOWNLOADING)
NOT_MEDIA_TYPE = "application/octet-stream"
"""What is served of a content that is no media: never what a server claimed it to be."""


@task(name="identify", task_run_name="identify the contents", **STAGE)
def identify(held: Claim, bundle_id: UUID) -> int:
    """Write each downloaded item's asset; return how many items there were."""
    here = house()

    def work(item: Item) -> None:
        identify_item(here, held, item)

    return each_item(here, held, bundle_id, READY, work)


def identify_item(here: House, held: Claim, item: Item) -> None:
    """Find or describe the asset of one item."""
    if item.source.kind is SourceKind.ASSET:
        with here.database.begin() as tx:
            asset = assets.get(tx, item.owner, item.source.locator)
            items.set_state(tx, item.id, ItemState.STORING, Change(asset_id=asset.id, duplicate=True), fence=held.fence)
        return
    done = here.scratch.kept_download(item.id)
    if done is None:
        raise ObjectMissing("the download is not on this machine", hint="Retry the order.")
    with here.database.begin() as tx:
        known = assets.master(tx, done.digests.blake3) is not None
    described = None if known else describe(done, held)
    with here.database.begin() as tx:
        if described is not None:
            assets.describe(tx, done.digests, described)
        change = Change(
            asset_id=done.digests.blake3, duplicate=known, proofs=done.proofs, evidence={"proofs": list(done.proofs)}
        )
        items.set_state(tx, item.id, ItemState.STORING, change, fence=held.fence)


def describe(done: Downloaded, held: Claim) -> Described:
    """Return what a content is; what is wrong with it is kept as its problem, not raised."""
    try:
        media = engine.probe(done.path, stop=held)
    except MediaError as error:
        return Described(NOT_MEDIA_TYPE, "other", None, None, error)
    return Described(media.media_type, media.kind.value, media.duration_seconds, facts(media))


def facts(media: MediaInfo) -> dict[str, Any]:
    """Return what the library shows of a file's streams, as JSON-able values."""
    return {
        "container": media.container,
        "bit_rate": media.bit_rate,
        "video": [{**asdict(stream), **_geometry(stream)} for stream in media.video],
        "audio": [asdict(stream) for stream in media.audio],
        "subtitles": [asdict(stream) for stream in media.subtitles],
    }


def _geometry(stream: VideoStream) -> dict[str, Any]:
    width, height = stream.display_size
    return {
        "sample_aspect_ratio": str(stream.sample_aspect_ratio),
        "frame_rate": None if stream.frame_rate is None else round(float(stream.frame_rate), 3),
        "display_width": width,
        "display_height": height,
    }
