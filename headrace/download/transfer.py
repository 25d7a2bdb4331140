"""One source, one connection: streamed to disk, resumed where it was left, checked at the end."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Self

import httpx
import structlog

from headrace.digests import digest_file
from headrace.download import journal as journals
from headrace.download.guard import Guard
from headrace.download.journal import Journal, Validator
from headrace.download.session import Session, check_status
from headrace.errors import (
    Cancelled,
    ChecksumMismatch,
    DiskFull,
    HeadraceError,
    SourceChanged,
    SourceEmpty,
    SourceRefused,
    SourceTimeout,
    SourceTooLarge,
    SourceTruncated,
    SourceUnavailable,
)
from headrace.model import Downloaded, OnProgress, Progress
from headrace.process import Stop
from headrace.source import redact, safe_name

log = structlog.get_logger(__name__)

SYNC_BYTES = 16 * 1024 * 1024
"""Data and journal are synced each time so much has come: what a kill can cost."""

SLOW_BYTES_PER_SECOND = 1024
SLOW_SECONDS = 60.0
"""Slower than this over so long is a slow loris, not a source."""

OWN_RESUMES = 5
"""How often one call resumes a body that broke off, as long as each time brought new bytes."""

REPORT_SECONDS = 0.5
"""Twice a second is often enough for a person."""

KEEP_FREE_BYTES = 64 * 1024 * 1024
"""What a download leaves of the disk for the journals and databases beside it."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to download, and what to hold it to."""

    url: str
    sha256: str | None = None
    """Lower-case hex, or ``None`` for no check."""
    max_bytes: int = 1 << 62
    headers: dict[str, str] = field(default_factory=dict)
    """Sent to the first origin only."""


def fetch(
    wish: Wish,
    destination: Path,
    *,
    guard: Guard,
    on_progress: OnProgress | None = None,
    stop: Stop | None = None,
) -> Downloaded:
    """Download to ``destination``, resuming what an earlier attempt left beside it.

    Raises a ``SourceError`` (its ``retryable`` says whether another try can help; the bytes
    so far are kept for it), ``DiskFull``, or ``Cancelled`` when ``stop`` was set.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    with _Attempt(wish, destination, guard, on_progress, stop) as attempt:
        for left in range(OWN_RESUMES, -1, -1):
            before = attempt.written
            try:
                return attempt.run()
            except SourceChanged:
                attempt.start_again()
                if left == 0:
                    raise
            except (SourceTruncated, SourceUnavailable, SourceTimeout) as error:
                if left == 0 or attempt.written <= before or not attempt.resumable:
                    raise
                log.info("download.resume", source=redact(wish.url), at=attempt.written, why=error.message)
    raise SourceTruncated("the source broke off too often")


class _Attempt:
    """One call of ``fetch``: the connection and the part file so far."""

    def __init__(
        self, wish: Wish, destination: Path, guard: Guard, on_progress: OnProgress | None, stop: Stop | None
    ) -> None:
        self.wish = wish
        self.destination = destination
        self.written = 0
        self.resumable = False
        self._stop = stop
        self._on_progress = on_progress
        self._session = Session(guard)
        self._journal: Journal | None = journals.load(destination)
        self._resumed_bytes = self._journal.written_bytes if self._journal else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._session.close()

    def run(self) -> Downloaded:
        journal = self._journal
        if journal is not None and journal.validator.if_range is None:
            self.start_again()  # nothing to pin a resume to
            journal = None
        if journal is not None and journal.size_bytes == journal.written_bytes:
            return self._finish(journal, None)
        with self._open(journal) as reply:
            start = self._start_of(reply, journal)
            fresh = Journal(self.wish.url, _validator(reply), _whole_size(reply, start), start)
            self._check_room(fresh)
            self.resumable = fresh.validator.if_range is not None
            self._journal = self._receive(reply, fresh)
            return self._finish(self._journal, reply)

    @contextlib.contextmanager
    def _open(self, journal: Journal | None) -> Iterator[httpx.Response]:
        pinned = {}
        if journal is not None and journal.validator.if_range is not None:
            pinned = {"Range": f"bytes={journal.written_bytes}-", "If-Range": journal.validator.if_range}
        with self._session.get(self.wish.url, pinned, private=self.wish.headers) as reply:
            check_status(reply)
            yield reply

    def _start_of(self, reply: httpx.Response, journal: Journal | None) -> int:
        """Return at which byte the reply's body goes into the file, or raise ``SourceChanged``."""
        if reply.status_code != httpx.codes.PARTIAL_CONTENT:
            if journal is not None:
                log.info(
                    "download.restart", source=redact(self.wish.url), why="the source has changed or has no ranges"
                )
            return 0
        if journal is None:
            raise SourceRefused("the server answers a plain request with a part of the file")
        got = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", reply.headers.get("content-range", ""))
        same = got is not None and int(got[1]) == journal.written_bytes
        if got is not None and journal.size_bytes is not None and got[3] != "*":
            same = same and int(got[3]) == journal.size_bytes
        if journal.validator.etag is not None:
            same = same and _validator(reply).etag in {journal.validator.etag, None}
        if not same:
            raise SourceChanged("the source became another file while it was downloaded; it starts again")
        return journal.written_bytes

    def start_again(self) -> None:
        """Drop what is on disk."""
        journals.forget(self.destination)
        self._journal, self.written, self._resumed_bytes = None, 0, 0

    def _check_room(self, journal: Journal) -> None:
        if journal.size_bytes is None:
            return
        if journal.size_bytes > self.wish.max_bytes:
            raise SourceTooLarge(f"the source has {journal.size_bytes} bytes; {self.wish.max_bytes} is the most")
        missing = journal.size_bytes - journal.written_bytes + KEEP_FREE_BYTES
        missing -= shutil.disk_usage(self.destination.parent).free
        if missing > 0:
            raise DiskFull(f"{missing} bytes are missing on the disk for this source", path=str(self.destination))

    def _receive(self, reply: httpx.Response, journal: Journal) -> Journal:
        """Write the body after ``journal.written_bytes``; return the journal of all of it."""
        if journal.written_bytes == 0:
            self.start_again()
        path = journals.part_path(self.destination)
        self.written = journal.written_bytes
        pace = _Pace(self.written, journal.size_bytes, self._on_progress)
        try:
            with path.open("r+b" if journal.written_bytes else "wb") as file:
                file.truncate(journal.written_bytes)
                file.seek(journal.written_bytes)
                try:
                    for piece in reply.iter_raw():  # no chunk size: httpx would hold back, and lose, the last bytes
                        self._take(file, piece, pace)
                        if self.written - journal.written_bytes >= SYNC_BYTES:
                            journal = self._sync(file, journal)
                finally:
                    journal = self._journal = self._sync(file, journal)
        except OSError as error:
            raise _disk_error(error, self.destination) from error
        if journal.size_bytes is not None and journal.written_bytes != journal.size_bytes:
            raise SourceTruncated(f"{journal.written_bytes} of {journal.size_bytes} announced bytes arrived")
        return journal

    def _take(self, file: IO[bytes], piece: bytes, pace: _Pace) -> None:
        if self._stop is not None and self._stop.is_set():
            raise Cancelled("the download was stopped")
        file.write(piece)
        self.written += len(piece)
        if self.written > self.wish.max_bytes:
            raise SourceTooLarge(f"the source has more than {self.wish.max_bytes} bytes")
        pace.step(self.written)

    def _sync(self, file: IO[bytes], journal: Journal) -> Journal:
        file.flush()
        os.fdatasync(file.fileno())
        journal = replace(journal, written_bytes=self.written)
        if self.written:
            journals.save(self.destination, journal)
        return journal

    def _finish(self, journal: Journal, reply: httpx.Response | None) -> Downloaded:
        if journal.written_bytes == 0:
            journals.forget(self.destination)
            raise SourceEmpty("the source has no bytes")
        digests = digest_file(journals.part_path(self.destination), self._stop)
        proofs = ["content-length"] if journal.size_bytes is not None else []
        if self.wish.sha256 is not None:
            if digests.sha256 != self.wish.sha256.lower():
                self.start_again()
                raise ChecksumMismatch(
                    f"the SHA-256 is {digests.sha256}, not {self.wish.sha256.lower()} as ordered",
                    sha256=digests.sha256,
                )
            proofs.append("sha256:order")
        journals.finish(self.destination)
        return Downloaded(
            path=self.destination,
            digests=digests,
            media_type=reply.headers.get("content-type", "").partition(";")[0].strip() or None if reply else None,
            name=_name_of(reply) if reply else None,
            resumed_bytes=self._resumed_bytes,
            proofs=tuple(proofs),
        )


class _Pace:
    """Measures speed over a sliding window, reports it, and ends what is too slow."""

    def __init__(self, start: int, whole: int | None, on_progress: OnProgress | None) -> None:
        self._whole = whole
        self._on_progress = on_progress
        self._marks = [(time.monotonic(), start)]

    def step(self, written: int) -> None:
        now = time.monotonic()
        since, at = self._marks[0]
        if now - since > SLOW_SECONDS and (written - at) / (now - since) < SLOW_BYTES_PER_SECOND:
            raise SourceTimeout(f"the source sends less than {SLOW_BYTES_PER_SECOND} bytes a second")
        if now - self._marks[-1][0] < REPORT_SECONDS:
            return
        self._marks.append((now, written))
        while now - self._marks[0][0] > SLOW_SECONDS and len(self._marks) > 2:  # noqa: PLR2004 - keep a window
            self._marks.pop(0)
        if self._on_progress is None:
            return
        recent = next(mark for mark in self._marks if now - mark[0] <= 5 or mark is self._marks[-2])  # noqa: PLR2004
        speed = (written - recent[1]) / max(now - recent[0], 1e-6)
        eta = (self._whole - written) / speed if self._whole and speed > 0 else None
        self._on_progress(Progress(written / self._whole if self._whole else None, speed, eta))


def _validator(reply: httpx.Response) -> Validator:
    etag = reply.headers.get("etag")
    if etag is not None and (etag.startswith("W/") or not etag.startswith('"')):
        etag = None
    return Validator(etag, reply.headers.get("last-modified"))


def _whole_size(reply: httpx.Response, start: int) -> int | None:
    if reply.headers.get("content-encoding", "identity").lower() not in {"identity", ""}:
        raise SourceRefused("the server insists on an encoded answer, whose length can't be checked")
    length = reply.headers.get("content-length")
    if length is None or "transfer-encoding" in reply.headers:
        return None
    return start + int(length)


def _name_of(reply: httpx.Response) -> str | None:
    """Return a label for the download: from ``Content-Disposition`` (RFC 6266), else from the URL."""
    disposition = reply.headers.get("content-disposition", "")
    found = re.search(r"filename\*=(?:UTF-8|utf-8)''([^;\s]+)", disposition)
    if found:
        return safe_name(httpx.URL(f"http://x/{found[1]}").path)
    found = re.search(r'filename="?([^";]+)"?', disposition)
    return safe_name(found[1]) if found else safe_name(reply.url.path) if reply.url.path.strip("/") else None


def _disk_error(error: OSError, path: Path) -> HeadraceError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFull("no space is left for this source", path=str(path))
    return SourceUnavailable(f"{path.name} can't be written: {error.strerror}")
