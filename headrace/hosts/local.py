"""The book of hosts for one process: in memory, on its monotonic clock.

A place can't be lost here without the process, so there are no leases but the prober's. What a
well host costs is a look into a dict: many short files go through here.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from headrace.hosts import state as states
from headrace.hosts.rules import HostLimits, HostRules
from headrace.hosts.state import CLEAN, GO, Go, HostState, Wait, Why

IDLE_SECONDS = 15.0
"""A connection is kept for the next file; who waits for its place is given the connection."""


@dataclass(slots=True)
class _Page:
    """What the book says of one host; changed under the lock only."""

    limits: HostLimits
    state: HostState = CLEAN
    active: set[str] = field(default_factory=set)
    waiting: dict[str, None] = field(default_factory=dict)
    """In the order of their coming."""


class LocalHosts:
    """``Hosts`` of one process."""

    shared = False
    idle_seconds = IDLE_SECONDS
    patience_seconds = math.inf  # the places are this very process's: they become free

    def __init__(self, rules: HostRules | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` gives seconds, and never goes back."""
        self.rules = rules or HostRules()
        self._clock = clock
        self._lock = threading.Lock()
        self._pages: dict[str, _Page] = {}

    def enter(self, host: str, place: str | None, *, queue: bool) -> Go | Wait:
        """See ``Hosts``."""
        page = self._pages.get(host)
        if place is None and page is not None and page.state is CLEAN and page.limits.requests_per_second is None:
            return GO
        with self._lock:
            page = self._page(host)
            room = place is None or self._has_room(page, place)
            page.state, decision = states.may_enter(page.state, self._clock(), page.limits, room=room, may_probe=queue)
            if place is not None and isinstance(decision, Go):
                page.waiting.pop(place, None)
                page.active.add(place)
            elif place is not None and isinstance(decision, Wait) and queue and decision.why is Why.PLACE:
                page.waiting.setdefault(place)
            return decision

    def leave(self, host: str, place: str) -> None:
        """See ``Hosts``."""
        with self._lock:
            page = self._page(host)
            page.active.discard(place)
            page.waiting.pop(place, None)

    def succeeded(self, host: str) -> None:
        """See ``Hosts``."""
        page = self._pages.get(host)
        if page is None or page.state.is_clean:
            return
        with self._lock:
            after = states.after_success(page.state, self._clock())
            page.state = CLEAN if after == CLEAN else after

    def failed(self, host: str, why: str, *, of: str = "", retry_after_seconds: float | None = None) -> None:
        """See ``Hosts``."""
        with self._lock:
            page = self._page(host)
            page.state = states.after_failure(
                page.state, self._clock(), why, of=of, retry_after_seconds=retry_after_seconds
            )

    def wanted(self, host: str) -> bool:  # noqa: ARG002 - there is no other process
        """See ``Hosts``."""
        return False

    def each_beat(self, call: Callable[[], None]) -> Callable[[], None]:  # noqa: ARG002 - there is no beat
        """See ``Hosts``. Who waits for a place closes what is idle itself."""
        return lambda: None

    def close(self) -> None:
        """See ``Hosts``."""
        with self._lock:
            self._pages.clear()

    def _page(self, host: str) -> _Page:
        page = self._pages.get(host)
        if page is None:
            page = self._pages[host] = _Page(self.rules.of(host))
        return page

    @staticmethod
    def _has_room(page: _Page, place: str) -> bool:
        ahead = 0
        for waiting in page.waiting:
            if waiting == place:
                break
            ahead += 1
        return states.has_room(len(page.active), ahead, page.limits)
