"""One file from its source to its final name: asked for, resumed, fetched in shares, proven.

The first request asks for the first block. A server that knows ranges answers 206, and the
rest is shared out; one that doesn't answers 200, and its body is taken as it comes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from headrace.download import proof, ranges
from headrace.download.access import OPEN, Access
from headrace.download.bandwidth import Bandwidth
from headrace.download.body import Reply
from headrace.download.crew import Crew
from headrace.download.guard import Guard, stoppable
from headrace.download.hold import Hold
from headrace.download.journal import Header, Journal, Validator
from headrace.download.offer import Offer
from headrace.download.origins import Origin, Origins, UnableToRange
from headrace.download.pace import Pace
from headrace.download.part import Part
from headrace.download.proof import Promise
from headrace.download.ranges import Span
from headrace.download.session import Session, check_status
from headrace.download.shares import Opened, Share
from headrace.download.signed import Signed, speaking_of
from headrace.errors import (
    ChecksumMismatch,
    SourceChanged,
    SourceEmpty,
    SourceError,
    SourceRefused,
    SourceTooLarge,
    SourceTruncated,
)
from headrace.hosts import Hosts
from headrace.log import Log
from headrace.model import Downloaded, OnProgress, Pieces
from headrace.process import Stop
from headrace.source import redact

log = Log(__name__)

MOST_CONNECTIONS = 16
"""For one file, unless its wish says otherwise; as many as they help (``crew``)."""

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
    typed: bool = True
    """Whether who runs this has written the URLs; a publisher's lead to no private address (``Guard``)."""
    signed: Signed | None = None
    """Given where the URL was signed by ourselves: what it stands for."""
    mirrors: tuple[str, ...] = ()
    """Other URLs of the same file; used together with the first where a digest tells whether they agree."""
    size_bytes: int | None = None
    """Of the whole file, where that is known beforehand."""
    pieces: Pieces | None = None
    """Digests of its consecutive pieces: a wrong one is fetched again, from elsewhere if there is a mirror."""
    connections: int = MOST_CONNECTIONS
    """The most that are opened for it."""
    limits: tuple[Bandwidth, ...] = ()
    """Of bandwidth, each of which other downloads may share."""
    algorithms: tuple[str, ...] = ("blake3",)
    """Digests that are wanted in any case."""
    durable: bool = True
    """Whether the finished file is synced to the disk before it gets its name."""

    @property
    def held_to(self) -> tuple[Promise, ...]:
        """All that is promised before anybody is asked for the bytes."""
        return (*self.promises, *(self.signed.promises() if self.signed is not None else ()))


class Downloader:
    """Downloads files, keeping connections for the next one; one for a process, for any thread."""

    def __init__(self, guard: Guard, hosts: Hosts | None = None) -> None:
        """``hosts`` says who may be asked when; by default it is this downloader's own book."""
        self._session = Session(guard, hosts)

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
        with stoppable(stop), speaking_of(wish.signed, wish.url):
            return _Transfer(self._session, wish, destination, on_progress, stop).run()

    def read(self, url: str, max_bytes: int, access: Access = OPEN) -> bytes:
        """Return a small file's bytes; raises a ``SourceError``."""
        reply, content = self._session.read(url, {}, max_bytes, access)
        check_status(reply)
        return content


class _Transfer:
    """One call of ``fetch``."""

    def __init__(
        self, session: Session, wish: Wish, destination: Path, on_progress: OnProgress | None, stop: Stop | None
    ) -> None:
        self._wish = wish
        self._destination = destination
        self._on_progress = on_progress
        self._stop = stop
        self._origins = Origins(
            session, wish.url, wish.mirrors, wish.access, typed=wish.typed, signed=wish.signed is not None
        )
        self._ranges = True
        self._size: int | None = wish.size_bytes
        self._asks = False
        self._restarts = 0

    def run(self) -> Downloaded:
        with contextlib.closing(Hold(self._destination)) as hold:
            return self._until_done(hold)

    def _until_done(self, hold: Hold) -> Downloaded:
        found = self._resumable(hold)
        while True:
            try:
                return self._attempt(hold, found)
            except UnableToRange:
                self._ranges = False
                hold.clear()
            except SourceChanged as error:
                if self._restarts >= MAX_RESTARTS:
                    raise
                self._restarts += 1
                # Ranges may be answered by machines that never agree on a version: one reply is of one file.
                self._ranges = self._ranges and self._restarts < MAX_RESTARTS
                log.warning("download.restart", source=redact(self._wish.url), why=error.message)
                hold.clear()
            except ChecksumMismatch as error:
                if "piece" in error.evidence or not self._origins.next_after_mismatch():
                    raise  # what is right of the pieces is kept
            except SourceError:
                if not self._origins.next_after_failure():
                    raise  # what came is kept until another origin has answered
            found = None

    def _resumable(self, hold: Hold) -> Journal | None:
        """Return what an earlier attempt left, if what is still to come can be pinned to it."""
        found = hold.journal()
        if found is None or not found.claims or found.header.size_bytes is None:
            return None
        if found.header.block_bytes != self._block(found.header.size_bytes):
            return None
        if self._wish.size_bytes not in {found.header.size_bytes, None}:
            return None
        return found if self._proven or self._origins.has(found.header) else None

    def _block(self, size_bytes: int | None) -> int:
        return ranges.block_bytes(size_bytes, self._wish.pieces.length_bytes if self._wish.pieces else None)

    @property
    def _proven(self) -> bool:
        """Whether the wish says what the bytes must be."""
        return bool(self._wish.promises or self._wish.pieces)

    def _can_be_continued(self, validator: Validator, offer: Offer | None = None) -> bool:
        """Return whether bytes of several replies may be put together: pinned, or proven at the end."""
        return validator.if_range is not None or self._proven or bool(offer and offer.promises)

    # One attempt

    def _attempt(self, hold: Hold, found: Journal | None) -> Downloaded:
        asked_at = time.monotonic()
        with contextlib.ExitStack() as stack:
            origin, reply, offer = self._begin(stack) if found is None else self._go_on(stack, found)
            wait = time.monotonic() - asked_at
            pinned = offer.validator if found is None else found.header.validator
            promises = proof.chosen((*self._wish.promises, *self._known(pinned), *offer.promises))
            self._origins.mix(proven=bool(promises) or self._proven)
            header = self._header(offer) if found is None else replace(found.header, mixed=self._is_mixed(found))
            self._size = header.size_bytes
            self._check_size(header.size_bytes)
            part = Part(
                hold,
                header,
                tuple(dict.fromkeys((*self._wish.algorithms, *(one.algorithm for one in promises)))),
                found,
                journaled=header.size_bytes is not None and self._can_be_continued(header.validator),
                pieces=self._wish.pieces,
                blame=self._origins.blame,
            )
            with contextlib.closing(part):
                self._fetch(part, offer, Opened(stack.pop_all(), reply.body, origin, wait))
                sums = self._sums(part, offer)
            try:
                labels = proof.check(promises, sums)
            except ChecksumMismatch as error:
                hold.clear()
                if part.resumed_bytes and not self._restarts:
                    raise SourceChanged(f"{error.message}; the bytes of an earlier attempt aren't believed") from error
                raise
            hold.give_name(durable=self._wish.durable)
            return self._downloaded(part, offer, sums, labels)

    def _begin(self, stack: contextlib.ExitStack) -> tuple[Origin, Reply, Offer]:
        wanted = self._wish.size_bytes
        reply, offer = self._origins.probe(stack, ranged=self._ranges, proven=self._proven, size_bytes=wanted)
        return self._origins.current, reply, offer

    def _header(self, offer: Offer) -> Header:
        origin, size = self._origins.current, offer.size_bytes
        return Header(redact(origin.url), origin.check, offer.validator, size, self._block(size), self._origins.mixed)

    def _go_on(self, stack: contextlib.ExitStack, found: Journal) -> tuple[Origin, Reply, Offer]:
        self._origins.begin_with(found.header)
        self._origins.mix(proven=self._proven)
        start, end = self._first_missing(found)
        return self._origins.open(stack, start, end, found.header.size_bytes or 0)

    def _known(self, pinned: Validator) -> tuple[Promise, ...]:
        """Return what the store of a signed address promises; a mirror's version says nothing of the store's."""
        if self._wish.signed is None:
            return ()
        return self._wish.signed.promises(pinned if self._origins.current.signed else None)

    def _is_mixed(self, found: Journal) -> bool:
        return found.header.mixed or self._origins.mixed

    def _check_size(self, size: int | None) -> None:
        if size is not None and size > self._wish.max_bytes:
            raise SourceTooLarge(f"the source has {size} bytes; {self._wish.max_bytes} is the most")
        if size is not None and self._wish.pieces is not None and not self._wish.pieces.make_up(size):
            raise SourceRefused(f"the source has {size} bytes, which the promised pieces do not make up")

    def _first_missing(self, found: Journal) -> Span:
        size, block = found.header.size_bytes or 0, found.header.block_bytes
        done = sorted((index * block, index * block + length) for index, (length, _) in found.claims.items())
        spans = ranges.missing(size, done)
        start, end = spans[0] if spans else (0, size)  # with nothing missing the version is asked for all the same
        return start, min(end, (start // block + 1) * block)

    def _ask(self, start: int, end: int, avoid: Origin | None) -> Opened:
        assert self._size is not None  # noqa: S101 - a file that is continued has a size
        asked_at = time.monotonic()
        with contextlib.ExitStack() as stack:
            origin, reply, _ = self._origins.open(stack, start, end, self._size, avoid=avoid)
            return Opened(stack.pop_all(), reply.body, origin, time.monotonic() - asked_at)

    def _fetch(self, part: Part, offer: Offer, opened: Opened) -> None:
        """Bring everything that is missing; the reply that is open comes first."""
        self._asks = offer.ranged and self._can_be_continued(part.header.validator, offer)
        pace = Pace(part.blocks.done_bytes, self._on_progress)
        self._run(self._crew(part, pace), part, offer, opened)
        pace.report(part.blocks.done_bytes, part.header.size_bytes, 0)

    def _crew(self, part: Part, pace: Pace) -> Crew:
        return Crew(
            part,
            self._ask if self._asks else None,
            most=self._wish.connections,
            pace=pace,
            stop=self._stop,
            max_bytes=self._wish.max_bytes,
            limits=self._wish.limits,
        )

    def _run(self, crew: Crew, part: Part, offer: Offer, opened: Opened) -> None:
        size = part.header.size_bytes
        if offer.start == 0 and offer.end == size and size is not None and size <= ranges.MIN_BLOCK_BYTES:
            crew.run_here(Share(0, size), opened)
            return
        spans = part.blocks.take_missing() if size is not None else []
        first = self._first_share(part, offer, opened, spans)
        missing = sum(end - start for start, end in spans)
        count = ranges.connections_at_start(missing, self._wish.connections, opened.wait_seconds) if offer.ranged else 1
        if first is not None and first[0].end is not None:
            spans = _without(spans, (first[0].start, first[0].end))
        crew.run(first, spans, count)

    def _first_share(
        self, part: Part, offer: Offer, opened: Opened, spans: Sequence[Span]
    ) -> tuple[Share, Opened] | None:
        """Return the share that the open reply brings, unless its beginning turned out to be damaged."""
        if not offer.ranged:
            return Share(0, part.header.size_bytes, settled=False), opened
        if offer.end is not None and any(start == offer.start for start, _ in spans):
            # Up to a block's end, though the reply may be shorter: a block has one worker.
            end = -(-offer.end // part.block) * part.block
            return Share(offer.start, min(end, part.header.size_bytes or end)), opened
        opened.stack.close()
        return None

    def _sums(self, part: Part, offer: Offer) -> dict[str, str]:
        """Return the digests of the whole, once every block is what was written."""
        size = self._size_of(part)
        if offer.size_bytes is None:
            self._check_end(size)
        checked = Pace(part.blocks.done_bytes, self._on_progress).checked
        while (sums := part.digests(size, self._stop, lambda count: checked(count, size))) is None:
            self._again(part)
        return sums

    def _check_end(self, size: int) -> None:
        """Check a size that nobody knew before the body had ended."""
        if size == 0:
            raise SourceEmpty("the source has no bytes")
        if self._ranges and size == ranges.MIN_BLOCK_BYTES:
            raise UnableToRange  # perhaps a 200 that was cut to the range: the whole is asked for instead
        wanted = self._wish.size_bytes
        if wanted is not None and size < wanted:
            raise SourceTruncated(f"the source ended after {size} of {wanted} bytes")
        if wanted is not None and size > wanted:
            raise SourceRefused(f"the source has {size} bytes, and {wanted} are wanted")
        self._check_size(size)

    def _size_of(self, part: Part) -> int:
        return part.blocks.done_bytes if part.header.size_bytes is None else part.header.size_bytes

    def _downloaded(self, part: Part, offer: Offer, sums: dict[str, str], labels: Sequence[str]) -> Downloaded:
        return Downloaded(
            path=self._destination,
            size_bytes=self._size_of(part),
            sums=sums,
            media_type=offer.media_type,
            name=offer.name,
            resumed_bytes=part.resumed_bytes if not self._restarts else 0,
            proofs=self._proofs(part, labels),
            restarts=self._restarts,
        )

    def _proofs(self, part: Part, labels: Sequence[str]) -> tuple[str, ...]:
        length = ["content-length"] if part.header.size_bytes is not None else []
        pieces = [self._wish.pieces.label] if self._wish.pieces is not None else []
        return (*length, *labels, *pieces)

    def _again(self, part: Part) -> None:
        """Fetch the blocks that turned out to be wrong."""
        spans = part.blocks.take_damaged()
        log.warning("download.damaged", source=redact(self._wish.url), spans=len(spans))
        missing = sum(end - start for start, end in spans)
        crew = self._crew(part, Pace(part.blocks.done_bytes, self._on_progress))
        crew.run(None, spans, ranges.connections_at_start(missing, self._wish.connections))


def _without(spans: Sequence[Span], taken: Span) -> list[Span]:
    """Return spans without one that lies inside one of them."""
    left = []
    for start, end in spans:
        left += [span for span in ((start, min(end, taken[0])), (max(start, taken[1]), end)) if span[0] < span[1]]
    return left
