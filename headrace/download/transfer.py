"""One file from its source to its final name: asked for, resumed, fetched in shares, proven.

The first request asks for the first block. A server that knows ranges answers 206, and the
rest is shared out; one that doesn't answers 200, and its body is taken as it comes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import structlog

from headrace.download import offer as offers
from headrace.download import proof, ranges
from headrace.download.access import OPEN, Access
from headrace.download.body import Reply
from headrace.download.crew import Crew, Opened, Share
from headrace.download.guard import Guard, stoppable
from headrace.download.hold import Hold
from headrace.download.journal import Header, Journal, Validator
from headrace.download.offer import Offer
from headrace.download.pace import Pace
from headrace.download.part import Part
from headrace.download.proof import Promise
from headrace.download.ranges import Span
from headrace.download.session import Session, check_status
from headrace.errors import (
    ChecksumMismatch,
    SourceChanged,
    SourceEmpty,
    SourceRefused,
    SourceTooLarge,
    SourceUnavailable,
)
from headrace.model import Downloaded, OnProgress
from headrace.process import Stop
from headrace.source import redact

log = structlog.get_logger(__name__)

MOST_CONNECTIONS = 16
"""For one file, unless its wish says otherwise; as many as they help (``crew``)."""

WHOLE_ANSWERS = 3
"""How often a server that has answered ranges may answer one with the whole: an edge of a CDN may be odd."""

MAX_RESTARTS = 3
"""How often a source may become another file while it is downloaded."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to download, and what to hold it to."""

    url: str
    promises: tuple[Promise, ...] = ()
    """What the bytes must be."""
    max_bytes: int = 1 << 62
    access: Access = OPEN
    """What is shown to get in."""
    mirrors: tuple[str, ...] = ()
    """Other URLs of the same file; used together with the first where a digest tells whether they agree."""
    connections: int = MOST_CONNECTIONS
    """The most that are opened for it."""
    algorithms: tuple[str, ...] = ("blake3",)
    """Digests that are wanted in any case."""
    durable: bool = True
    """Whether the finished file is synced to the disk before it gets its name."""


class Downloader:
    """Downloads files, keeping connections for the next one; one for a process, for any thread."""

    def __init__(self, guard: Guard) -> None:
        self._session = Session(guard)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def fetch(
        self, wish: Wish, destination: Path, *, on_progress: OnProgress | None = None, stop: Stop | None = None
    ) -> Downloaded:
        """Download to ``destination``, going on where an earlier attempt was.

        Raises a ``SourceError`` (its ``retryable`` says whether another try can help; the bytes
        so far are kept for it), ``DiskFull``, ``DiskFailed``, ``Limited`` where another download
        is at it, or ``Cancelled`` when ``stop`` was set.
        """
        with stoppable(stop):
            return _Transfer(self._session, wish, destination, on_progress, stop).run()

    def read(self, url: str, max_bytes: int, access: Access = OPEN) -> bytes:
        """Return a small file's bytes; raises a ``SourceError``."""
        reply, content = self._session.read(url, {}, max_bytes, access)
        check_status(reply)
        return content


class _UnableToRange(Exception):  # noqa: N818 - not an error: another way is taken
    """The server answers every request with the whole file."""


class _Transfer:
    """One call of ``fetch``."""

    def __init__(
        self, session: Session, wish: Wish, destination: Path, on_progress: OnProgress | None, stop: Stop | None
    ) -> None:
        self._session = session
        self._wish = wish
        self._destination = destination
        self._on_progress = on_progress
        self._stop = stop
        self._ranges = True
        self._if_range = True
        self._pinned = Validator(None, None)
        self._size: int | None = None
        self._restarts = 0
        self._whole_answers = 0

    def run(self) -> Downloaded:
        with contextlib.closing(Hold(self._destination)) as hold:
            return self._until_done(hold)

    def _until_done(self, hold: Hold) -> Downloaded:
        while True:
            try:
                return self._attempt(hold, self._resumable(hold))
            except _UnableToRange:
                self._ranges = False
            except SourceChanged as error:
                if self._restarts >= MAX_RESTARTS:
                    raise
                self._restarts += 1
                # Ranges may be answered by machines that never agree on a version: one reply is of one file.
                self._ranges = self._ranges and self._restarts < MAX_RESTARTS
                log.warning("download.restart", source=redact(self._wish.url), why=error.message)
            hold.clear()

    def _resumable(self, hold: Hold) -> Journal | None:
        """Return what an earlier attempt left, if what is still to come can be pinned to it."""
        found = hold.journal()
        if found is None or not self._ranges or not found.claims or found.header.size_bytes is None:
            return None
        return found if self._can_be_continued(found.header.validator) else None

    def _can_be_continued(self, validator: Validator, offer: Offer | None = None) -> bool:
        """Return whether bytes of several replies may be put together: pinned, or proven at the end."""
        return validator.if_range is not None or bool(self._wish.promises or (offer and offer.promises))

    # One attempt

    def _attempt(self, hold: Hold, found: Journal | None) -> Downloaded:
        with contextlib.ExitStack() as stack:
            if found is None:
                reply, offer = self._probe(stack)
                validator, size = offer.validator, offer.size_bytes
                header = Header(redact(self._wish.url), validator, size, ranges.block_bytes(size))
            else:
                header, validator, size = found.header, found.header.validator, found.header.size_bytes
                self._pinned, self._size = validator, size
                reply, offer = self._open_again(stack, *self._first_missing(found))
            self._pinned, self._size = validator, size
            if size is not None and size > self._wish.max_bytes:
                raise SourceTooLarge(f"the source has {size} bytes; {self._wish.max_bytes} is the most")
            promises = proof.chosen((*self._wish.promises, *offer.promises))
            algorithms = tuple(dict.fromkeys((*self._wish.algorithms, *(one.algorithm for one in promises))))
            lasting = size is not None and self._can_be_continued(validator)
            with contextlib.closing(Part(hold, header, algorithms, found, journaled=lasting)) as part:
                self._fetch(part, offer, Opened(stack.pop_all(), reply.body))
                sums = self._sums(part)
            try:
                labels = proof.check(promises, sums)
            except ChecksumMismatch as error:
                hold.clear()
                if part.resumed_bytes and not self._restarts:
                    raise SourceChanged(f"{error.message}; the bytes of an earlier attempt aren't believed") from error
                raise
            hold.give_name(durable=self._wish.durable)
            return self._downloaded(part, offer, sums, labels)

    def _probe(self, stack: contextlib.ExitStack) -> tuple[Reply, Offer]:
        """Ask for the first block, or for the whole where the server has no ranges."""
        asked = {"Range": f"bytes=0-{ranges.MIN_BLOCK_BYTES - 1}"} if self._ranges else {}
        reply = stack.enter_context(self._session.get(self._wish.url, asked, access=self._wish.access))
        if offers.is_empty(reply):
            raise SourceEmpty("the source has no bytes")
        if asked and reply.status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _UnableToRange
        check_status(reply)
        if reply.headers.get("content-length") == "0":
            raise SourceEmpty("the source has no bytes")
        offer = offers.of(reply)
        if asked and not offer.ranged and offer.size_bytes == ranges.MIN_BLOCK_BYTES:
            raise _UnableToRange  # some servers say 200 and cut the body to the range
        if offer.ranged and (not asked or offer.start != 0 or offer.size_bytes is None):
            if not asked:
                raise SourceRefused("the server answers a plain request with a part of the file")
            raise _UnableToRange  # a range, but not one that helps: the whole is asked for instead
        if offer.ranged and offer.end != offer.size_bytes and not self._can_be_continued(offer.validator, offer):
            raise _UnableToRange  # nothing would tell whether the next range is of the same file
        return reply, offer

    def _first_missing(self, found: Journal) -> Span:
        size, block = found.header.size_bytes or 0, found.header.block_bytes
        done = sorted((index * block, index * block + length) for index, (length, _) in found.claims.items())
        spans = ranges.missing(size, done)
        start, end = spans[0] if spans else (0, size)  # with nothing missing the version is asked for all the same
        return start, min(end, (start // block + 1) * block)

    def _open(self, stack: contextlib.ExitStack, start: int, end: int) -> tuple[Reply, Offer]:
        """Ask for a part of the file that was begun.

        A changed source answers an ``If-Range`` with 200 (RFC 9110, 13.1.5); some servers do so
        though nothing has changed, and are asked again without it: the reply is compared anyway.
        """
        for plainly in (not self._if_range, True):
            asked = self._range(start, end, plainly=plainly)
            with contextlib.ExitStack() as mine:
                reply = mine.enter_context(self._session.get(self._wish.url, asked, access=self._wish.access))
                check_status(reply)
                offer = offers.of(reply)
                if offer.ranged:
                    assert self._size is not None  # noqa: S101 - a file that is continued has a size
                    offers.fits(offer, start, self._size, self._pinned)
                    stack.push(mine.pop_all())
                    return reply, offer
            if self._pinned.if_range is not None and not self._pinned.agrees(offer.validator):
                raise SourceChanged("the source became another file while it was downloaded")
            if "If-Range" not in asked:
                break
            self._if_range = False
        raise _UnableToRange

    def _open_again(self, stack: contextlib.ExitStack, start: int, end: int) -> tuple[Reply, Offer]:
        """Ask for a part of what an earlier attempt began; one answer without ranges doesn't cost all of it."""
        for left in range(WHOLE_ANSWERS, -1, -1):
            try:
                return self._open(stack, start, end)
            except _UnableToRange:
                if not left:
                    raise
        raise AssertionError("the last try raises")

    def _range(self, start: int, end: int, *, plainly: bool) -> dict[str, str]:
        """Return the headers that ask for a part of the version that was begun."""
        asked = {"Range": f"bytes={start}-{end - 1}"}
        if self._pinned.if_range is not None and not plainly:
            asked["If-Range"] = self._pinned.if_range
        return asked

    def _ask(self, start: int, end: int) -> Opened:
        asked_at = time.monotonic()
        with contextlib.ExitStack() as stack:
            try:
                reply, _ = self._open(stack, start, end)
            except _UnableToRange:
                self._whole_answers += 1
                if self._whole_answers > WHOLE_ANSWERS:
                    raise
                raise SourceUnavailable("the server answers a range with the whole file") from None
            return Opened(stack.pop_all(), reply.body, time.monotonic() - asked_at)

    def _fetch(self, part: Part, offer: Offer, opened: Opened) -> None:
        """Bring everything that is missing; the reply that is open comes first."""
        size = part.header.size_bytes
        pace = Pace(part.done_bytes, self._on_progress)
        ask = self._ask if offer.ranged and self._can_be_continued(part.header.validator, offer) else None
        crew = Crew(
            part,
            ask,
            most=self._wish.connections,
            pace=pace,
            stop=self._stop,
            max_bytes=self._wish.max_bytes,
        )
        self._run(crew, part, offer, opened)
        pace.report(part.done_bytes, size, 0)

    def _run(self, crew: Crew, part: Part, offer: Offer, opened: Opened) -> None:
        size = part.header.size_bytes
        if offer.start == 0 and offer.end == size and size is not None and size <= ranges.MIN_BLOCK_BYTES:
            crew.run_here(Share(0, size), opened)
            return
        spans = part.missing() if size is not None else []
        first = self._first_share(part, offer, opened, spans)
        missing = sum(end - start for start, end in spans)
        count = ranges.connections_at_start(missing, self._wish.connections) if offer.ranged else 1
        if first is not None and first[0].end is not None:
            spans = _without(spans, (first[0].start, first[0].end))
        crew.run(first, spans, count)

    def _first_share(
        self, part: Part, offer: Offer, opened: Opened, spans: Sequence[Span]
    ) -> tuple[Share, Opened] | None:
        """Return the share that the open reply brings, unless its beginning turned out to be damaged."""
        if not offer.ranged:
            return Share(0, offer.size_bytes, settled=False), opened
        if offer.end is not None and any(start == offer.start for start, _ in spans):
            # Up to a block's end, though the reply may be shorter: a block has one worker.
            end = -(-offer.end // part.block) * part.block
            return Share(offer.start, min(end, part.header.size_bytes or end)), opened
        opened.stack.close()
        return None

    def _sums(self, part: Part) -> dict[str, str]:
        """Return the digests of the whole, once every block is what was written."""
        size = self._size_of(part)
        if size == 0:
            raise SourceEmpty("the source has no bytes")
        checked = Pace(part.done_bytes, self._on_progress).checked
        while (sums := part.digests(size, self._stop, lambda count: checked(count, size))) is None:
            self._again(part)
        return sums

    def _size_of(self, part: Part) -> int:
        return part.done_bytes if part.header.size_bytes is None else part.header.size_bytes

    def _downloaded(self, part: Part, offer: Offer, sums: dict[str, str], labels: Sequence[str]) -> Downloaded:
        return Downloaded(
            path=self._destination,
            size_bytes=self._size_of(part),
            sums=sums,
            media_type=offer.media_type,
            name=offer.name,
            resumed_bytes=part.resumed_bytes if not self._restarts else 0,
            proofs=(*(["content-length"] if part.header.size_bytes is not None else []), *labels),
            restarts=self._restarts,
        )

    def _again(self, part: Part) -> None:
        """Fetch the blocks that turned out not to be what was written."""
        spans = part.take_damaged()
        log.warning("download.damaged", source=redact(self._wish.url), spans=len(spans))
        pace = Pace(part.done_bytes, self._on_progress)
        crew = Crew(
            part, self._ask, most=self._wish.connections, pace=pace, stop=self._stop, max_bytes=self._wish.max_bytes
        )
        crew.run(None, spans, 1)


def _without(spans: Sequence[Span], taken: Span) -> list[Span]:
    """Return spans without one that lies inside one of them."""
    left = []
    for start, end in spans:
        left += [span for span in ((start, min(end, taken[0])), (max(start, taken[1]), end)) if span[0] < span[1]]
    return left
