"""The turns of requests: each waits until its host may be asked, and reports what became of it.

The book (``headrace.hosts``) decides and never waits; here is who waits. A first connection
waits for its turn. An additional one of a download that gets on already (``extra``) never does:
the download goes on with those it has, and with one fewer where others wait.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from uuid import uuid4

import httpx

from headrace.download.body import Wire
from headrace.download.guard import SLICE_SECONDS, current_stop
from headrace.errors import Cancelled, CatalogueUnavailable, SourceBusy, SourceTimeout, SourceUnavailable
from headrace.hosts import Go, Hosts, Wait, Why
from headrace.process import Stop

PATIENCE_SECONDS = 30.0
"""A host that must be left alone for longer is; the error says for how long (as ``crew``'s)."""

LOOK_SECONDS = 5.0
"""How often it is looked whether a host that is left alone may be asked earlier: a person may say so."""

COUNTED = (SourceUnavailable, SourceTimeout, httpx.TimeoutException, httpx.TransportError)
"""What a host's failure looks like before there is an answer."""

_PAUSES = frozenset({httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE})
_DOWN = frozenset({408, 425, 429, 502, 503, 504, *range(520, 531)})
"""Answers of a host that is overloaded or away, the last ones as proxies such as Cloudflare give
them. A 500 isn't one: many servers answer so to one bad address, and well to all others."""

Kept = Callable[[], Wire | None]
"""Gives a connection that is there and free, if there is one."""

_EXTRA: ContextVar[bool] = ContextVar("extra", default=False)


class NoRoom(Exception):  # noqa: N818 - not an error: the download goes on with the connections it has
    """An additional connection can't be had now."""


@contextmanager
def extra(really: bool = True) -> Iterator[None]:  # noqa: FBT001, FBT002 - reads as a sentence: extra(not alone)
    """Let this thread's requests in the block be additional ones: where they would wait they raise ``NoRoom``."""
    token = _EXTRA.set(really)
    try:
        yield
    finally:
        _EXTRA.reset(token)


class _Queue:
    """Those of this process who wait for one host, the first of them first."""

    __slots__ = ("changed", "count")

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.count = 0

    def rest(self, seconds: float, kept: Kept, stop: Stop | None) -> Wire | None:
        """Wait so long, or until somebody is done; return a connection that is free then."""
        until = time.monotonic() + seconds
        with self.changed:
            while True:
                if stop is not None and stop.is_set():
                    raise Cancelled("the download was stopped")
                wire, left = kept(), until - time.monotonic()
                if wire is not None or left <= 0:
                    return wire
                if self.changed.wait(min(left, SLICE_SECONDS)):
                    return kept()


class Turns:
    """Who may ask which host when; one for a session, for any thread."""

    def __init__(self, hosts: Hosts, shed: Callable[[str], bool]) -> None:
        """``shed`` closes a connection to a host that nobody uses, and says whether there was one."""
        self._hosts = hosts
        self._shed = shed
        self._lock = threading.Lock()
        self._queues: dict[str, _Queue] = {}

    def take(self, host: str, kept: Kept) -> tuple[Wire | None, contextlib.ExitStack]:
        """Wait until the host may be asked; return a ``kept`` connection for it, or ``None`` for a new one.

        Closing the stack closes the connection, once it is made, and gives back its place. Raises
        ``SourceBusy`` where it takes too long, ``Cancelled``, and ``NoRoom`` in a block of ``extra``.
        """
        additional = _EXTRA.get()
        if additional and self._is_wanted(host):
            _close(kept())
            raise NoRoom
        # Who has just ended a request doesn't go before those who wait.
        wire = kept() if additional or host not in self._queues else None
        place = "" if wire else uuid4().hex
        decision = self._enter(host, wire, place, queue=not additional)
        if isinstance(decision, Wait):
            if additional:
                raise NoRoom
            wire, place, decision = self._wait(host, kept, place or uuid4().hex, decision)
        own = wire.own if wire else contextlib.ExitStack()
        if wire is None:
            own.callback(self._leave, host, place)
        if decision.pause_seconds:
            self._pause(decision.pause_seconds, own)
        return wire, own

    def freed(self, host: str) -> None:
        """Wake who has waited longest: a connection is free, or a place."""
        queue = self._queues.get(host)
        if queue is not None:
            with queue.changed:
                queue.changed.notify()

    def is_wanted_elsewhere(self, host: str) -> bool:
        """Return whether a connection that is free should be closed, since another process waits."""
        return self._hosts.wanted(host)

    def answered(self, host: str, url: str, status: int, retry_after_seconds: float | None) -> None:
        """Report an answer. What an additional connection is refused with says nothing about the host."""
        if status not in _DOWN:
            self._hosts.succeeded(host)
        elif not _EXTRA.get():
            pause = retry_after_seconds if status in _PAUSES else None
            self._hosts.failed(host, f"it answers {status}", of=_digest(url), retry_after_seconds=pause)

    def broke(self, host: str, url: str, error: Exception) -> None:
        """Report what came instead of an answer (``COUNTED``)."""
        if _EXTRA.get():
            return
        if isinstance(error, SourceUnavailable):
            self._hosts.failed(host, error.message)
        elif isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            self._hosts.failed(host, "no connection can be made")
        else:
            timed_out = isinstance(error, SourceTimeout | httpx.TimeoutException)
            why = "no answer came in time" if timed_out else "it breaks off before it answers"
            self._hosts.failed(host, why, of=_digest(url))

    def _is_wanted(self, host: str) -> bool:
        return host in self._queues or self._hosts.wanted(host)

    def _enter(self, host: str, wire: Wire | None, place: str, *, queue: bool) -> Go | Wait:
        """Ask the book; a connection that may not be used is closed."""
        try:
            decision = self._hosts.enter(host, place if wire is None else None, queue=queue)
        except CatalogueUnavailable as error:
            _close(wire)
            if not queue:
                raise NoRoom from error
            raise
        if isinstance(decision, Wait):
            _close(wire)
        return decision

    def _wait(self, host: str, kept: Kept, place: str, wait: Wait) -> tuple[Wire | None, str, Go]:
        since = time.monotonic()
        with self._queue(host) as queue, contextlib.ExitStack() as giving_up:
            giving_up.callback(self._leave, host, place)
            while True:
                self._check(host, wait, since)
                wire: Wire | None = None
                if wait.why is not Why.PLACE:
                    queue.rest(min(wait.seconds, LOOK_SECONDS) + random.uniform(0, 0.1), _nothing, current_stop())  # noqa: S311
                elif (wire := kept()) is None and not self._shed(host):  # one that can't be ours may be idle
                    wire = queue.rest(wait.seconds * random.uniform(0.8, 1.0), kept, current_stop())  # noqa: S311
                decision = self._enter(host, wire, place, queue=True)
                if isinstance(decision, Go):
                    if wire is None:
                        giving_up.pop_all()
                    return wire, place, decision
                wait = decision

    def _check(self, host: str, wait: Wait, since: float) -> None:
        """Raise ``SourceBusy`` where the wait is too long."""
        waited = time.monotonic() - since
        if wait.why is Why.PLACE:
            if waited > self._hosts.patience_seconds:
                raise _busy(host, wait, self._hosts.rules.of(host).connections, PATIENCE_SECONDS)
        elif waited + wait.seconds > PATIENCE_SECONDS:
            raise _busy(host, wait, 0, wait.seconds)

    @contextmanager
    def _queue(self, host: str) -> Iterator[_Queue]:
        with self._lock:
            queue = self._queues.setdefault(host, _Queue())
            queue.count += 1
        try:
            yield queue
        finally:
            with self._lock:
                queue.count -= 1
                if not queue.count:
                    del self._queues[host]

    def _leave(self, host: str, place: str) -> None:
        self._hosts.leave(host, place)
        self.freed(host)

    @staticmethod
    def _pause(seconds: float, own: contextlib.ExitStack) -> None:
        stop, until = current_stop(), time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if stop is not None and stop.is_set():
                own.close()
                raise Cancelled("the download was stopped")
            time.sleep(min(left, SLICE_SECONDS))


def _busy(host: str, wait: Wait, connections: int, seconds: float) -> SourceBusy:
    until = (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%H:%M:%S UTC")
    did = f" ({wait.detail})" if wait.detail else ""
    message = {
        Why.PLACE: f"all {connections} connections that {host} may have are in use by this installation",
        Why.RATE: f"{host} has all the requests that it may have for a while",
        Why.COOLING: f"{host} asked for a pause{did}: it is left alone until {until}",
        Why.OPEN: f"{host} fails again and again{did}: it is left alone until {until}",
        Why.PROBE: f"{host} failed again and again{did}: it is being tried with one request",
    }[wait.why]
    return SourceBusy(message, host=host, why=wait.why.value, retry_after_seconds=seconds)


def _close(wire: Wire | None) -> None:
    if wire is not None:
        wire.own.close()


def _nothing() -> None:
    return None


def _digest(url: str) -> str:
    """Return what tells addresses apart: a signature (SigV4) is another one for each try."""
    if "X-Amz-Signature=" in url:
        url = url.partition("?")[0]
    return blake2b(url.encode("utf-8", "replace"), digest_size=8).hexdigest()
