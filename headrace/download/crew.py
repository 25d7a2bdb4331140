"""The connections of one download: each fetches a share of the file, in a thread of its own.

1. A share belongs to one worker; before bytes are received their place is reserved, so a
   share can be cut behind that place at any time and the rest given to somebody else.
2. Who has finished takes the next stripe of what nobody has begun, over the same connection,
   else half of what will take longest.
3. A connection that has stalled is not waited for: another one asks for the same bytes, and
   whoever delivers first goes on with the share.
4. More connections are opened only as long as they make the whole faster. A server that
   refuses them keeps those it has granted. Where others wait for the host (``turns``), a
   worker that has ended its share makes room, unless it is the last one.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Sequence

from headrace.download import ranges
from headrace.download.bandwidth import Bandwidth
from headrace.download.guard import SLICE_SECONDS
from headrace.download.origins import Origin
from headrace.download.pace import Pace
from headrace.download.part import Part
from headrace.download.ranges import Span
from headrace.download.shares import Ask, Opened, Share
from headrace.download.worker import Worker
from headrace.errors import (
    Cancelled,
    ChecksumMismatch,
    SourceTooLarge,
)
from headrace.log import Log
from headrace.process import Stop

log = Log(__name__)

TICK_SECONDS = 0.1
LEAVE_SECONDS = 2 * SLICE_SECONDS
"""What workers get to write down what they have when a download ends early."""

GROW_SECONDS = 0.5
FIRST_GROW_SECONDS = 0.2
"""How often it is considered whether more connections help, and when for the first time."""

FIRST_GROWTH = 4
"""Connections that there are at least after that; then their number doubles."""

GROW_GAIN = 1.1
"""More connections helped if the whole became faster by so much."""

FAST_BYTES_PER_SECOND = 100e6
"""A connection as fast as this isn't what holds a download up."""

WORTH_HELP_SECONDS = 0.5
"""A share that will be done sooner isn't cut: a connection takes about so long to get going."""

CROWDED_SECONDS = 5.0
"""After an additional connection found no room, none is tried for so long."""

STALL_SECONDS = 3.0
"""A connection without a byte for so long is hedged."""

SLOW_SHARE = 0.25
"""So is one that is slower than this part of the usual speed, where seconds are to be won by it."""


class Crew:
    """The workers of one download. It is the ``stop`` of their reading."""

    def __init__(
        self,
        part: Part,
        ask: Ask | None,
        *,
        most: int,
        pace: Pace,
        stop: Stop | None,
        max_bytes: int,
        limits: Sequence[Bandwidth] = (),
    ) -> None:
        """``ask`` is ``None`` where the source can't be asked for a part of the file."""
        self._part = part
        self._ask = ask
        self._most = most
        self._pace = pace
        self._stop = stop
        self._max_bytes = max_bytes
        self._limits = limits
        self._changed = threading.Condition()
        self._pending: deque[Span] = deque()
        self._at_work: set[Share] = set()
        self._workers: list[Worker] = []
        self._over = False
        self._here = False
        self._gone = 0
        self._base = part.blocks.done_bytes
        self._ticked = self._considered = time.monotonic()
        self._grow_seconds = FIRST_GROW_SECONDS
        self._considered_bytes = self._base
        self._before_growth: float | None = None
        self._crowded_until = 0.0
        self._usual_rate = 0.0
        self._rates: dict[Origin, float] = {}
        """Bytes a second of a connection to each origin, as last seen."""
        self._usual_wait = 0.0

    def is_set(self) -> bool:
        """Return whether a worker should stop reading."""
        return self._over or (self._stop is not None and self._stop.is_set())

    # In the calling thread

    def run_here(self, share: Share, opened: Opened) -> None:
        """Fetch one short share in the calling thread."""
        worker = Worker(self, share, opened)
        self._at_work.add(share)
        self._here = True
        worker.carry()
        if self.is_set():
            raise Cancelled("the download was stopped")

    def run(self, first: tuple[Share, Opened] | None, spans: Sequence[Span], begin_with: int) -> None:
        """Fetch everything, beginning with so many connections; raises what ended it early."""
        self._pending.extend(spans)
        if first is None:
            self._check_pending()
        try:
            if first is not None:
                self._hire(*first)
            self._hire_up_to(begin_with)
            while True:
                with self._changed:
                    self._changed.wait_for(self._anything_new, TICK_SECONDS)
                self._part.check()
                self._raise_failure()
                if self.is_set():
                    raise Cancelled("the download was stopped")
                if self._finished():
                    return
                self._tick(time.monotonic())
        finally:
            self._over = True
            until = time.monotonic() + LEAVE_SECONDS
            for worker in self._workers:
                worker.join(max(0.0, until - time.monotonic()))  # later ones end by themselves, and write nothing

    def _anything_new(self) -> bool:
        return not self._at_work or any(worker.error is not None for worker in self._workers)

    def _raise_failure(self) -> None:
        for worker in self._workers:
            if worker.error is not None:
                raise worker.error

    def _finished(self) -> bool:
        with self._changed:  # a worker between two shares holds it too
            self._pending.extend(self._part.blocks.take_damaged())
            self._check_pending()
            if self._pending and not self._at_work:
                self._hire_up_to(1)
            return not self._at_work and not self._pending

    def _check_pending(self) -> None:
        if self._pending and self._ask is None:
            raise ChecksumMismatch("a piece is not as promised, and can't be fetched again on its own")

    def _tick(self, now: float) -> None:
        seconds = now - self._ticked
        if seconds < TICK_SECONDS:
            return
        self._ticked = now
        with self._changed:
            for share in self._at_work:
                share.measure(now, seconds)
            self._take_rates()
            done = self._done_bytes()
            held = any(share.paying or share.asking for share in self._at_work)
        self._pace.step(done, self._part.header.size_bytes, len(self._at_work), held=held)
        if self._ask is not None and not self._here:
            self._consider_growth(now, done)
            self._hedge(now)

    def _take_rates(self) -> None:
        rates: dict[Origin, list[float]] = {}
        for share in self._at_work:
            if share.rate > 0 and share.origin is not None and not share.hedged:
                rates.setdefault(share.origin, []).append(share.rate)
        self._rates |= {origin: statistics.median(several) for origin, several in rates.items()}
        if rates:
            self._usual_rate = statistics.median(rate for several in rates.values() for rate in several)

    def _done_bytes(self) -> int:
        return self._base + self._gone + sum(share.position - share.start for share in self._at_work)

    def _consider_growth(self, now: float, done: int) -> None:
        if now - self._considered < self._grow_seconds or now < self._crowded_until:
            return
        rate = (done - self._considered_bytes) / (now - self._considered)
        self._considered, self._considered_bytes, self._grow_seconds = now, done, GROW_SECONDS
        count = len(self._at_work)
        if count >= self._most or not count or rate / count > FAST_BYTES_PER_SECOND:
            return
        if self._before_growth is not None and rate < self._before_growth * GROW_GAIN:
            self._most = count  # the last ones didn't help
            return
        self._before_growth = rate
        self._hire_up_to(min(self._most, max(FIRST_GROWTH, 2 * count)))

    def _hedge(self, now: float) -> None:
        with self._changed:
            slow = [share for share in self._at_work if self._is_slow(share, now)]
            rivals = []
            for share in slow[: max(0, self._most + 1 - len(self._at_work))]:
                share.hedged, share.hedged_at = True, now
                rivals.append((share, share.position, Share(share.flushed, share.end, settled=False)))
        for share, seen, rival in rivals:
            log.info("download.hedge", at=rival.start, rate=round(share.rate))
            self._hire(rival, instead_of=(share, seen))

    def _is_slow(self, share: Share, now: float) -> bool:
        if share.hedged or share.paying or share.writing or not share.settled or share.left() <= 0:
            return False
        if share.origin is not None and share.origin.left_out:
            return True
        if now - share.began_at < STALL_SECONDS:
            return False
        if now - share.moved_at > STALL_SECONDS:
            return True
        return self._lags(share, share.rate)

    def _lags(self, share: Share, rate: float) -> bool:
        """Return whether a share with that speed is so slow that another connection would win seconds by it."""
        usual = self._usual_for(share)
        won = share.left() / max(rate, 1.0) - share.left() / max(usual, 1.0)
        return rate < SLOW_SHARE * usual and won > STALL_SECONDS

    def _usual_for(self, share: Share) -> float:
        """Return the speed that a share may be expected to have: as others of its origin, or another origin's."""
        elsewhere = (rate for origin, rate in self._rates.items() if origin is not share.origin and not origin.left_out)
        beside = len(self._at_work) > 1
        return max(*elsewhere, self._rates.get(share.origin, 0.0) if share.origin and beside else 0.0, 0.0)

    # Hiring

    def _hire(self, share: Share, opened: Opened | None = None, instead_of: tuple[Share, int] | None = None) -> None:
        worker = Worker(self, share, opened, instead_of)
        with self._changed:
            self._at_work.add(share)
            self._workers.append(worker)
        worker.start()

    def _hire_up_to(self, count: int) -> None:
        while len(self._at_work) < count:
            with self._changed:
                share = self._next_share(eager=True)
            if share is None:
                return
            self._hire(share)

    def _next_share(self, *, eager: bool = False) -> Share | None:
        """Return what a free worker fetches next, or ``None`` where nothing is worth it."""
        if self._pending:
            return self._next_stripe()
        victims = [share for share in self._at_work if share.settled and share.end is not None and not share.hedged]
        if not victims or self._ask is None:
            return None
        rates = [share.rate for share in victims if share.rate > 0]
        usual = statistics.mean(rates) if rates else 1.0
        victim = max(victims, key=lambda share: share.left() / max(share.rate, usual * 0.01))
        if not eager and victim.left() / max(victim.rate, 1.0) < WORTH_HELP_SECONDS:
            return None
        assert victim.end is not None  # noqa: S101 - chosen so
        at = ranges.split_point(
            victim.reserved, victim.end, self._part.block, own_speed=victim.rate or usual, other_speed=usual
        )
        if at is None or at >= victim.end:
            return None
        share = Share(at, victim.end)
        victim.end = at
        return share

    def _next_stripe(self) -> Share:
        start, end = self._pending.popleft()
        left = end - start + sum(stop - begin for begin, stop in self._pending)
        length = ranges.stripe(left, self._most, self._part.block, self._usual_rate, self._usual_wait)
        stop = min(end, (start + length) // self._part.block * self._part.block)
        if stop <= start or self._ask is None:
            stop = end
        if stop < end:
            self._pending.appendleft((stop, end))
        return Share(start, stop)

    # Called by workers

    def reserve(self, share: Share, room: int) -> int:
        """Return how many of the next bytes its worker may receive now; 0 at the share's end."""
        with self._changed:
            if share.halted:
                return 0
            share.writing = False
            room = min(room, share.left(), self._max_bytes - share.position + 1)
            for limit in self._limits:
                room = limit.read_bytes(room)
            share.reserved = share.position + room
            return room

    def take_times(self, opened: Opened) -> None:
        """Take note of how long an answer took."""
        with self._changed:
            known = self._usual_wait or opened.wait_seconds
            self._usual_wait = 0.75 * known + 0.25 * opened.wait_seconds

    def advance(self, share: Share, count: int) -> bool:
        """Take note of bytes that have come; ``False`` where somebody else goes on with the share."""
        with self._changed:
            if share.halted:
                return False
            share.position += count
            share.writing = True
        if share.position > self._max_bytes:
            raise SourceTooLarge(f"the source has more than {self._max_bytes} bytes")
        if self._here:
            self._tick(time.monotonic())
        return True

    def take_over(self, rival: Share, share: Share, seen: int) -> bool:
        """Let a rival that has bytes go on with a share.

        ``False`` where that has got on since it was hedged and ``seen``, and wasn't too slow all the same.
        """
        with self._changed:
            if share not in self._at_work or share.writing:
                return False
            since = max(TICK_SECONDS, time.monotonic() - share.hedged_at)
            if share.position != seen and not self._lags(share, (share.position - seen) / since):
                return False
            if share.flushed != rival.start:  # it has written meanwhile: bytes that are hashed are not written again
                return False
            share.halted = rival.settled = True
            rival.end = share.end
            self._at_work.discard(share)
            self._gone += share.flushed - share.start
            return True

    def begin_write(self, share: Share) -> bool:
        """Take the right to write what a worker has at the end; ``False`` where somebody has taken over."""
        with self._changed:
            share.writing = not share.halted
            return share.writing

    def end_write(self, share: Share) -> None:
        """Take note that all of a worker's bytes are in the file."""
        with self._changed:
            share.flushed, share.writing = share.position, False

    def rival_failed(self, share: Share) -> None:
        """Let a share that a rival did not get on with be hedged again, after a while."""
        with self._changed:
            share.hedged, share.began_at = False, time.monotonic()

    def rest(self, share: Share, seconds: float) -> None:
        """Take note that a share waits because its server wants that."""
        with self._changed:
            share.began_at = time.monotonic() + seconds

    def give_back(self, share: Share) -> bool:
        """Leave a share to the others, who get on; ``False`` where there are none."""
        with self._changed:
            if share.halted:
                return True  # somebody else goes on with it already
            others = [one for one in self._at_work if one is not share and one.position > one.start and not one.halted]
            if not others or share.end is None:
                return False
            self._discard(share)
            self._pending.append((share.flushed, share.end))
            self._most = max(1, len(self._at_work))
            return True

    def put_back(self, share: Share) -> None:
        """Leave a share to the others, or to who is hired when there are none; no more are hired for a while."""
        with self._changed:
            if share.settled and share.end is not None and not share.halted:
                self._discard(share)
                self._pending.append((share.flushed, share.end))
            self._crowded_until, self._before_growth = time.monotonic() + CROWDED_SECONDS, None

    def is_alone(self, share: Share) -> bool:
        """Return whether nobody else is at work on the file."""
        with self._changed:
            return self._at_work <= {share}

    def _discard(self, share: Share) -> None:
        """Take a share out of the work, so that nobody cuts or hedges it any more; once."""
        if share in self._at_work:
            self._at_work.discard(share)
            self._gone += share.position - share.start

    def leave(self, share: Share, *, take_next: bool) -> Share | None:
        """End a share; return the worker's next one, or ``None``."""
        with self._changed:
            self._discard(share)
            following = None
            if take_next and not self._over and len(self._at_work) < self._most:
                following = self._next_share()
                if following is not None:
                    self._at_work.add(following)
            self._changed.notify_all()
            return following

    def pay(self, share: Share, count: int, stop: Stop) -> None:
        """Wait as long as the limits of bandwidth want it for so many bytes."""
        share.paying = True
        for limit in self._limits:
            limit.pay(count, stop)
        share.paying = False
        share.moved_at = time.monotonic()

    @property
    def limited(self) -> bool:
        """Whether bytes must be paid for."""
        return bool(self._limits)

    @property
    def part(self) -> Part:
        """The file."""
        return self._part

    @property
    def ask(self) -> Ask | None:
        """How parts of the file are asked for."""
        return self._ask
