"""The book of hosts for all workers together: in Postgres (``headrace.catalogue.hosts``).

1. Entering and leaving are one short transaction each; nobody holds a database connection
   while it waits. A request over a connection that is there costs none, as long as the host
   has no rate and was well at the last heartbeat.
2. Places are leases. One thread for the process renews them, as ``headrace.claim`` does for
   work, and learns how the hosts are and whether others wait. It ends when nothing is held.
3. A process that is killed loses its places when their leases end; ``headrace up`` gives back
   those of its last run at once.
4. While Postgres is away nothing new is begun; what goes on does so, and what couldn't be
   written down is logged. Places then end by their leases.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from uuid import uuid4

from headrace.catalogue import hosts as book
from headrace.catalogue.database import Database, Tx
from headrace.catalogue.hosts import Seen
from headrace.claim import machine_name
from headrace.errors import CatalogueUnavailable
from headrace.hosts import state as states
from headrace.hosts.rules import HostRules
from headrace.hosts.state import CLEAN, GO, Go, HostState, Wait, Why
from headrace.log import Log

log = Log(__name__)

LEASE_SECONDS = 30.0
"""As of all leases (``catalogue.leases``): the longest that a dead worker's places are missed."""

TURN_SECONDS = 5.0
"""A turn in the queue, which is asked for again several times in that: the dead don't hold it up."""

BEAT_SECONDS = 2.0
"""How soon a process notices that others wait, or that a host wants a pause."""

IDLE_SECONDS = 3.0
"""A connection is kept for the next request of the same download, or the next of its bundle."""

PATIENCE_SECONDS = 30.0
"""Longer than that a worker has better things to do: the item is put off."""

NOT_SEEN = Seen(CLEAN, 0)


class SharedHosts:
    """``Hosts`` of all processes that use one database."""

    shared = True
    idle_seconds = IDLE_SECONDS
    patience_seconds = PATIENCE_SECONDS

    def __init__(
        self,
        database: Database,
        rules: HostRules | None = None,
        *,
        lease_seconds: float = LEASE_SECONDS,
        beat_seconds: float = BEAT_SECONDS,
    ) -> None:
        """``beat_seconds`` is how often leases of ``lease_seconds`` are renewed."""
        self.rules = rules or HostRules()
        self._database = database
        self._lease_seconds = lease_seconds
        self._beat_seconds = beat_seconds
        self._holder = f"{machine_name()}/{os.getpid()}/{uuid4()}"
        self._lock = threading.Lock()
        self._held: dict[str, str] = {}
        """Places, with their hosts."""
        self._queued: dict[str, str] = {}
        """Turns, with their hosts; who waits keeps its own by asking again."""
        self._seen: dict[str, Seen] = {}
        """Of the hosts where something is held."""
        self._calls: list[Callable[[], None]] = []
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def enter(self, host: str, place: str | None, *, queue: bool) -> Go | Wait:
        """See ``Hosts``."""
        limits = self.rules.of(host)
        if place is None and limits.requests_per_second is None and self._seen.get(host, NOT_SEEN).state.is_clean:
            return GO
        with self._database.begin() as tx:
            before = book.lock(tx, host)
            crowd = book.crowd(tx, host, place)
            room = place is None or states.has_room(crowd.active, crowd.ahead, limits)
            after, decision = states.may_enter(before, crowd.now, limits, room=room, may_probe=queue)
            if after != before:
                book.write(tx, host, after)
            if place is not None and isinstance(decision, Go):
                book.take(tx, host, place, self._holder, self._lease_seconds)
            elif place is not None and isinstance(decision, Wait) and queue and decision.why is Why.PLACE:
                book.queue(tx, host, place, self._holder, TURN_SECONDS)
                self._queued[place] = host
        if place is not None and isinstance(decision, Go):
            self._hold(host, place)
        self._remember(host, after)
        return decision

    def leave(self, host: str, place: str) -> None:
        """See ``Hosts``."""
        with self._lock:
            held = self._held.pop(place, None) is not None
            if held and host in self._seen:
                seen = self._seen[host]
                self._seen[host] = replace(seen, wanted=max(0, seen.wanted - 1))  # one of them gets this place
            if held and host not in self._held.values():
                self._seen.pop(host, None)
        if held or self._queued.pop(place, None) is not None:
            self._write(lambda tx: book.leave(tx, place))

    def succeeded(self, host: str) -> None:
        """See ``Hosts``."""
        seen = self._seen.get(host)
        if seen is None or not seen.state.is_clean:
            self._change(host, states.after_success)

    def failed(self, host: str, why: str, *, of: str = "", retry_after_seconds: float | None = None) -> None:
        """See ``Hosts``."""

        def after(state: HostState, now: float) -> HostState:
            return states.after_failure(state, now, why, of=of, retry_after_seconds=retry_after_seconds)

        self._change(host, after)

    def wanted(self, host: str) -> bool:
        """See ``Hosts``."""
        return self._seen.get(host, NOT_SEEN).wanted > 0

    def each_beat(self, call: Callable[[], None]) -> Callable[[], None]:
        """See ``Hosts``."""
        self._calls.append(call)
        return lambda: self._calls.remove(call)

    def close(self) -> None:
        """See ``Hosts``."""
        self._closed.set()
        with self._lock:
            thread, self._thread = self._thread, None
            known = bool(self._held or self._queued)
            self._held.clear()
            self._queued.clear()
            self._seen.clear()
        if thread is not None:
            thread.join()
        if known:
            self._write(lambda tx: book.leave_all(tx, self._holder))

    def _hold(self, host: str, place: str) -> None:
        self._queued.pop(place, None)
        with self._lock:
            self._held[place] = host
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._beat, name="hosts", daemon=True)
                self._thread.start()

    def _remember(self, host: str, state: HostState) -> None:
        with self._lock:
            if host in self._held.values():
                self._seen[host] = replace(self._seen.get(host, NOT_SEEN), state=state)

    def _change(self, host: str, change: Callable[[HostState, float], HostState]) -> None:
        def apply(tx: Tx) -> None:
            before = book.lock(tx, host)
            after = change(before, book.crowd(tx, host).now)
            if after != before:
                book.write(tx, host, after)
            self._remember(host, after)

        self._write(apply)

    def _write(self, act: Callable[[Tx], None]) -> None:
        """Write down what has happened already: that can't fail who did it."""
        try:
            with self._database.begin() as tx:
                act(tx)
        except CatalogueUnavailable as error:
            log.warning("hosts.unwritten", why=error.message)

    def _beat(self) -> None:
        while not self._closed.wait(self._beat_seconds):
            for call in list(self._calls):
                call()
            with self._lock:
                held = dict(self._held)
                if not held:
                    self._thread = None
                    return
            try:
                self._renew(held)
            except CatalogueUnavailable as error:
                log.warning("hosts.unrenewed", places=len(held), why=error.message)

    def _renew(self, held: dict[str, str]) -> None:
        with self._database.begin() as tx:
            book.renew(tx, self._holder, held, self._lease_seconds)
            seen = book.look(tx, Counter(held.values()), self._holder)
        with self._lock:
            self._seen = {host: one for host, one in seen.items() if host in self._held.values()}
            gone = [place for place in held if place not in self._held]
        for place in gone:  # given back while it was renewed, which may have written it down again
            self._write(partial(book.leave, place=place))
