"""Download: each item's bytes into its scratch folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from prefect import task

from headrace import local, objects
from headrace.catalogue import items, orders, uploads
from headrace.catalogue.items import Item
from headrace.claim import Claim
from headrace.download import Bandwidth, Signed, Wish, hold, proof
from headrace.download.access import OPEN
from headrace.download.part import check_room
from headrace.download.proof import Promise, promise
from headrace.errors import SourceChanged, SourceEmpty, SourceTooLarge, SourceTruncated
from headrace.model import Downloaded, ItemState, OnProgress, Progress, SourceKind
from headrace.wiring import House, house
from tasks.items import each_item
from tasks.policy import STAGE
from tasks.report import Reporter

CATALOGUED = ("blake3", "sha256")
"""The digests that an asset is known by."""

UNFINISHED = (ItemState.QUEUED, ItemState.DOWNLOADING, ItemState.STORING)

PIECE_BYTES = 1024 * 1024


@task(name="download", task_run_name="download the sources", **STAGE)
def download(held: Claim, bundle_id: UUID) -> int:
    """Bring each unfinished item's bytes to this machine; return how many items there were."""
    here = house()
    with here.database.begin() as tx:
        bundle = orders.bundle(tx, bundle_id)
    with here.bandwidth.of_order(bundle.order_id, bundle.bytes_per_second) as limits:

        def work(item: Item) -> None:
            download_item(here, held, item, limits)

        return each_item(here, held, bundle_id, UNFINISHED, work, at_once=here.settings.download_jobs)


def download_item(here: House, held: Claim, item: Item, limits: Sequence[Bandwidth] = ()) -> None:
    """Download one item, unless this machine has its bytes already."""
    if here.scratch.kept_download(item.id) is not None or item.source.kind is SourceKind.ASSET:
        return
    with here.database.begin() as tx:
        items.set_state(tx, item.id, ItemState.DOWNLOADING, fence=held.fence)
    report = Reporter(here.database, lambda tx, progress: items.set_progress(tx, item.id, progress))
    here.scratch.keep_download(item.id, _bring(here, held, item, report, limits))


def _bring(here: House, held: Claim, item: Item, report: OnProgress, limits: Sequence[Bandwidth]) -> Downloaded:
    destination = here.scratch.item(item.id) / "source"
    if item.source.kind is SourceKind.FILE:
        with local.opened(Path(item.source.locator), here.settings.folders) as file:
            return _Copy(here, held, item, report, limits).run(file, destination)
    if item.source.kind is SourceKind.URL:
        return here.downloader.fetch(wish(here, item, limits), destination, on_progress=report, stop=held)
    asked = _upload_wish(here, item) if item.source.kind is SourceKind.UPLOAD else _object_wish(here, item, limits)
    done = here.object_downloader.fetch(asked, destination, on_progress=report, stop=held)
    return replace(done, name=item.source.name)


def wish(here: House, item: Item, limits: Sequence[Bandwidth] = ()) -> Wish:
    """Return what the engine is asked for, for an item with a URL."""
    return Wish(
        item.source.locator,
        promised(item),
        here.settings.max_source_bytes,
        OPEN if item.terms.credential is None else here.access(item.terms.credential, item.source.locator),
        mirrors=item.terms.mirrors,
        size_bytes=item.terms.size_bytes,
        pieces=item.terms.pieces,
        limits=tuple(limits),
        algorithms=CATALOGUED,
    )


def _object_wish(here: House, item: Item, limits: Sequence[Bandwidth]) -> Wish:
    """Return the same for an object in an open bucket; raises ``InvalidSource`` where that isn't open any more."""
    here.check_bucket(objects.named(item.source.locator)[0])
    known = objects.known(here.presigner, item.source.locator)
    return _signed_wish(here, item.source.locator, promised(item), limits, Signed(item.source.shown, known))


def _upload_wish(here: House, item: Item) -> Wish:
    """Return the same for an upload. No limit slows it: those are for how bytes come from outside."""
    with here.database.begin() as tx:
        upload = uploads.get(tx, UUID(item.source.locator), item.owner)
    promises = (*promised(item), Promise("sha256", upload.sha256, "upload"))
    return _signed_wish(here, f"s3://{here.incoming.name}/{upload.object_key}", promises, (), Signed(item.source.shown))


def _signed_wish(
    here: House, address: str, promises: Sequence[Promise], limits: Sequence[Bandwidth], signed: Signed
) -> Wish:
    return Wish(
        objects.signed(here.presigner, address),
        tuple(promises),
        here.settings.max_source_bytes,
        here.object_access,
        signed=signed,
        limits=tuple(limits),
        algorithms=CATALOGUED,
    )


def promised(item: Item) -> tuple[Promise, ...]:
    """Return what an item's bytes must be."""
    first = (promise("sha256", item.expected_sha256, "order"),) if item.expected_sha256 else ()
    return (*first, *(promise(algorithm, value, "order") for algorithm, value in item.terms.digests))


def _pieces_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield a local file's bytes; raises ``SourceChanged`` where somebody writes it meanwhile."""
    before = os.fstat(file.fileno())
    while piece := file.read(PIECE_BYTES):
        yield piece
    after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise SourceChanged("the file was written to while it was read")


@dataclass(frozen=True, slots=True)
class _Copy:
    """A local file becomes one in the scratch folder, hashed on the way."""

    here: House
    held: Claim
    item: Item
    report: OnProgress
    limits: Sequence[Bandwidth]

    def run(self, file: BinaryIO, destination: Path) -> Downloaded:
        """Copy the file; raises a ``SourceError``, ``DiskFull``, ``DiskFailed``."""
        size_bytes = os.fstat(file.fileno()).st_size
        if size_bytes == 0:
            raise SourceEmpty("the source has no bytes")
        most = self.here.settings.max_source_bytes
        if size_bytes > most:
            raise SourceTooLarge(f"{self.item.source.shown} has {size_bytes} bytes; {most} is the most")
        promises = promised(self.item)
        algorithms = dict.fromkeys((*CATALOGUED, *(one.algorithm for one in promises)))
        digests = {name: proof.new(name) for name in algorithms}
        part = destination.with_suffix(".part")
        with hold.translated(destination):
            check_room(destination, size_bytes)
            done = self._write(part, _pieces_of(file), digests, size_bytes)
        if done != size_bytes:
            raise SourceTruncated(f"{self.item.source.shown} has {done} bytes, not {size_bytes}")
        sums = {name: digest.hexdigest() for name, digest in digests.items()}
        labels = proof.check(promises, sums)
        part.replace(destination)
        return Downloaded(destination, done, sums, None, self.item.source.name, proofs=("content-length", *labels))

    def _write(self, part: Path, pieces: Iterable[bytes], digests: Mapping[str, proof.Hasher], size_bytes: int) -> int:
        done = 0
        with part.open("wb") as file:
            for piece in pieces:
                self.held.check()
                file.write(piece)
                for digest in digests.values():
                    digest.update(piece)
                done += len(piece)
                for limit in self.limits:
                    limit.pay(len(piece), self.held)
                self.report(Progress(min(1.0, done / max(1, size_bytes)), done_bytes=done, size_bytes=size_bytes))
        return done
