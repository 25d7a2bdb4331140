"""Download: each item's bytes into its scratch folder."""

from __future__ import annotations

from uuid import UUID

from prefect import task

from headrace.catalogue import items, uploads
from headrace.catalogue.items import Item
from headrace.claim import Claim
from headrace.digests import digest_file
from headrace.download import Wish
from headrace.download.proof import Promise, check, promise
from headrace.errors import ObjectMissing, SourceNotFound
from headrace.model import Downloaded, ItemState, Progress, SourceKind
from headrace.stores import ObjectStore
from headrace.wiring import House, house
from tasks.items import each_item
from tasks.policy import STAGE
from tasks.report import Reporter

CATALOGUED = ("blake3", "sha256")
"""The digests that an asset is known by."""

UNFINISHED = (ItemState.QUEUED, ItemState.DOWNLOADING, ItemState.STORING)


@task(name="download", task_run_name="download the sources", **STAGE)
def download(held: Claim, bundle_id: UUID) -> int:
    """Bring each unfinished item's bytes to this machine; return how many items there were."""
    here = house()

    def work(item: Item) -> None:
        download_item(here, held, item)

    return each_item(here, held, bundle_id, UNFINISHED, work, at_once=here.settings.download_jobs)


def download_item(here: House, held: Claim, item: Item) -> None:
    """Download one item, unless this machine has its bytes already."""
    if here.scratch.kept_download(item.id) is not None or item.source.kind is SourceKind.ASSET:
        return
    with here.database.begin() as tx:
        items.set_state(tx, item.id, ItemState.DOWNLOADING, fence=held.fence)
    report = Reporter(here.database, lambda tx, progress: items.set_progress(tx, item.id, progress))
    here.scratch.keep_download(item.id, _bring(here, held, item, report))


def _bring(here: House, held: Claim, item: Item, report: Reporter) -> Downloaded:
    destination = here.scratch.item(item.id) / "source"
    if item.source.kind is SourceKind.URL:
        wish = Wish(item.source.locator, promised(item), here.settings.max_source_bytes, algorithms=CATALOGUED)
        return here.downloader.fetch(wish, destination, on_progress=report, stop=held)
    if item.source.kind is SourceKind.UPLOAD:
        with here.database.begin() as tx:
            upload = uploads.get(tx, UUID(item.source.locator), item.owner)
        return _copy(here.incoming, upload.object_key, item, held, report, here, name=upload.name)
    bucket, _, key = item.source.locator.removeprefix("s3://").partition("/")
    return _copy(here.bucket(bucket), key, item, held, report, here, name=item.source.name)


def _copy(
    bucket: ObjectStore, key: str, item: Item, held: Claim, report: Reporter, here: House, *, name: str
) -> Downloaded:
    """Bring an object of a bucket to this machine."""
    found = bucket.stat(key)
    if found is None:
        raise SourceNotFound(f"{item.source.shown} is no longer there")
    destination, done = here.scratch.item(item.id) / "source", 0
    part = destination.with_suffix(".part")
    try:
        with part.open("wb") as file:
            for piece in bucket.stream(key):
                held.check()
                file.write(piece)
                done += len(piece)
                report(Progress(done / found.size_bytes))
    except ObjectMissing as error:
        raise SourceNotFound(f"{item.source.shown} is no longer there") from error
    digests = digest_file(part, held)
    sums = {"blake3": digests.blake3, "sha256": digests.sha256}
    proofs = check(promised(item), sums)
    part.replace(destination)
    return Downloaded(destination, digests.size_bytes, sums, None, name, proofs=("content-length", *proofs))


def promised(item: Item) -> tuple[Promise, ...]:
    """Return what an item's bytes must be."""
    return (promise("sha256", item.expected_sha256, "order"),) if item.expected_sha256 else ()
