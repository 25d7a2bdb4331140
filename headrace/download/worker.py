"""One connection of a download: a thread that fetches shares, one after another.

It tries its share again where that helps, as long as bytes come; where others get on, it leaves
its share to them instead.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.download.body import Body
from headrace.download.guard import stoppable
from headrace.download.shares import Opened, Share
from headrace.download.turns import NoRoom, extra
from headrace.errors import (
    Cancelled,
    HeadraceError,
    SourceBusy,
    SourceForbidden,
    SourceRefused,
    SourceTimeout,
    SourceTruncated,
    SourceUnavailable,
)
from headrace.log import Log
from headrace.process import Stop

if TYPE_CHECKING:
    from headrace.download.crew import Crew

log = Log(__name__)

NOTHING = memoryview(b"")
RIVAL_BYTES = 64 * 1024
"""The first bytes that show that another connection delivers."""

OWN_TRIES = 5
PROGRESS_BYTES = 64 * 1024
"""How often in a row a share is asked for again where that brings less than this."""

BACKOFF_SECONDS = 0.25
MAX_BACKOFF_SECONDS = 5.0
"""Between such tries: doubled each time, and a random half of it left out."""

OWN_PATIENCE_SECONDS = 30.0
"""A server that asks for a longer pause (Retry-After) is left alone, and the error says for how long."""

WAIT_SECONDS = 0.1
"""How soon it is noticed, while waiting for another try, that the download is over."""


@dataclass(slots=True)
class _Ending:
    """When a worker stops reading: its share is somebody else's, or the download is over."""

    crew: Crew
    share: Share

    def is_set(self) -> bool:
        return self.share.halted or self.crew.is_set()


class Worker(threading.Thread):
    """Fetches shares, one after another."""

    def __init__(
        self, crew: Crew, share: Share, opened: Opened | None, instead_of: tuple[Share, int] | None = None
    ) -> None:
        super().__init__(name="download", daemon=True)
        self.error: BaseException | None = None
        self._crew = crew
        self._share = share
        self._opened = opened
        self._instead_of = instead_of

    def run(self) -> None:
        """Fetch shares until there are none; what ends it early is its ``error``."""
        share: Share | None = self._share
        try:
            while share is not None:
                self._share = share
                done = self._carry_if_there_is_room()
                share = self._crew.leave(share, take_next=done)
        except BaseException as error:  # noqa: BLE001 - the thread ends here; who waits for it raises it
            self.error = error
            self._crew.leave(self._share, take_next=False)

    def _carry_if_there_is_room(self) -> bool:
        try:
            return self.carry()
        except NoRoom:
            if self._instead_of is not None:
                self._crew.rival_failed(self._instead_of[0])
            self._crew.put_back(self._share)
            return False

    def carry(self) -> bool:
        """Fetch the worker's share, trying again where that helps; return whether to go on with another."""
        share, failures = self._share, 0
        ending = _Ending(self._crew, share)
        while True:
            before = share.position
            try:
                with stoppable(ending):
                    self._stream(share, ending)
            except Cancelled:
                if not share.halted:
                    raise
                return True
            except (SourceForbidden, SourceRefused) as error:
                if share.halted or self._crew.is_set():
                    return True
                # Some servers say so to a connection too many. Where nobody gets on, it is meant.
                if not self._leave_to_others(share, before, error):
                    raise
                return False
            except (SourceBusy, SourceTruncated, SourceUnavailable, SourceTimeout) as error:
                if share.halted or self._crew.is_set():
                    return True
                if self._leave_to_others(share, before, error):
                    return False
                failures = 0 if share.position - before >= PROGRESS_BYTES else failures + 1
                self._wait_or_raise(error, failures, ending)
            else:
                return True

    def _leave_to_others(self, share: Share, before: int, error: HeadraceError) -> bool:
        """Return whether a share that brought nothing needn't be tried again by this worker."""
        if self._instead_of is not None:
            self._crew.rival_failed(self._instead_of[0])
        elif share.position != before or not self._crew.give_back(share):
            return False
        log.info("download.fewer", why=error.message)
        return True

    def _wait_or_raise(self, error: HeadraceError, failures: int, ending: Stop) -> None:
        wait = min(MAX_BACKOFF_SECONDS, BACKOFF_SECONDS * 2 ** (failures - 1)) * random.uniform(0.5, 1.0)  # noqa: S311
        wait = max(wait if failures else 0.0, error.evidence.get("retry_after_seconds") or 0.0)
        if self._crew.ask is None or failures > OWN_TRIES or wait > OWN_PATIENCE_SECONDS:
            raise error
        log.info("download.resume", at=self._share.position, why=error.message, wait_seconds=round(wait, 2))
        self._crew.rest(self._share, wait)
        until = time.monotonic() + wait
        while time.monotonic() < until and not ending.is_set():
            time.sleep(min(WAIT_SECONDS, max(0.0, until - time.monotonic())))

    def _stream(self, share: Share, ending: Stop) -> None:
        opened, self._opened = self._opened, None
        if opened is None:
            assert self._crew.ask is not None  # noqa: S101 - who can't ask has an open reply, or has raised
            assert share.end is not None  # noqa: S101
            avoid = self._instead_of[0].origin if self._instead_of is not None else None
            share.asking = True
            with extra(not self._crew.is_alone(share)):
                opened = self._crew.ask(share.position, share.end, avoid)
            share.asking = False
            self._crew.take_times(opened)
        share.origin = opened.origin
        with opened.stack:
            if self._instead_of is None:
                self._copy(share, opened.body, ending)
            else:
                self._rival(share, opened.body, ending)

    def _rival(self, share: Share, body: Body, ending: Stop) -> None:
        """Wait for the first bytes, then go on with the stalled share, unless it has got on meanwhile."""
        assert self._instead_of is not None  # noqa: S101 - the caller asked
        room = memoryview(bytearray(RIVAL_BYTES))
        count = body.read_into(room[: self._crew.reserve(share, len(room))], ending)
        (rivalled, seen), self._instead_of = self._instead_of, None
        if count and self._crew.take_over(share, rivalled, seen):
            self._copy(share, body, ending, room[:count])
        else:
            self._crew.rival_failed(rivalled)
            share.end = share.position

    def _copy(self, share: Share, body: Body, ending: Stop, first: memoryview = NOTHING) -> None:
        """Move a body into the file; its ``first`` bytes have been read already."""
        crew = self._crew
        limited = crew.limited
        lane = crew.part.lane(share.position, share.origin)
        try:
            while count := crew.reserve(share, len(lane.room())):
                room = lane.room()[:count]
                if first:
                    count = min(len(first), count)
                    room[:count], first = first[:count], first[count:]
                else:
                    count = body.read_into(room, ending)
                if count == 0:
                    if share.end is None:
                        share.end = share.position
                        return
                    raise SourceTruncated(f"the body ended {share.left()} bytes too early")
                if not crew.advance(share, count):
                    return
                if limited:
                    crew.pay(share, count, ending)
                if lane.filled(count):
                    share.flushed = share.position
        finally:
            lane.close(keep=crew.begin_write(share))  # nobody writes beside who has taken over
            crew.end_write(share)
