"""How a host is, and what follows from it. Pure: times are seconds on the clock of who keeps the book.

The circuit is M. Nygard's breaker ("Release It!", 2007): *closed* while all is well; *open* after
``FAILURES`` in a row, when nothing is asked; *half-open* when that time is over: one request
probes. Its success closes the circuit, its failure opens it for twice as long. The right to
probe is a lease, so that a prober that dies blocks nobody for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from headrace.hosts.rules import HostLimits

FAILURES = 5
"""In a row. One or two are the network's hiccups, and a request's own tries are as many."""

OPEN_SECONDS = 30.0
MOST_OPEN_SECONDS = 600.0
"""How long nothing is asked: doubled with each probe that fails. The first is about how long a
server's restart takes; with the last a host that is back is noticed within ten minutes."""

PROBE_SECONDS = 60.0
"""No head of an answer takes longer (``download.body.ANSWER_SECONDS``)."""

MOST_COOL_SECONDS = 600.0
"""A longer ``Retry-After`` holds for who was told; one odd address of a host that serves many
must not silence all of it for a day."""

AGAIN_SECONDS = 0.5
"""How soon to ask again where a place may become free, or a probe end, at any moment."""

MOST_PAUSE_SECONDS = 30.0
"""The most that a request is booked ahead where a host has a rate."""


class Why(StrEnum):
    """What a request waits for."""

    PLACE = "place"
    RATE = "rate"
    COOLING = "cooling"
    OPEN = "open"
    PROBE = "probe"


class Phase(StrEnum):
    """How a host is, for people."""

    OK = "ok"
    COOLING = "cooling"
    OPEN = "open"
    PROBING = "probing"


@dataclass(frozen=True, slots=True)
class Go:
    """A request may be made, after so long a pause; it has been booked for then."""

    pause_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Wait:
    """No request yet: ask again in so many seconds."""

    seconds: float
    why: Why
    detail: str = ""
    """What the host did; may be empty."""


GO = Go()


@dataclass(frozen=True, slots=True)
class HostState:
    """What is remembered of a host; a time of 0 means never."""

    failures: int = 0
    """In a row."""
    failed_of: str = ""
    """What the last one was about, where that may be at fault instead of the host."""
    cool_until: float = 0.0
    open_until: float = 0.0
    """Not 0: the circuit is open until then, and half-open afterwards."""
    open_seconds: float = 0.0
    """How long it was opened for the last time."""
    probe_until: float = 0.0
    """The lease of who probes."""
    next_request_at: float = 0.0
    """Where there is a rate: when the next request may be made."""
    why: str = ""
    """What the host did last, of all that is wrong."""

    @property
    def is_clean(self) -> bool:
        """Return whether a success would change nothing."""
        return not (self.failures or self.cool_until or self.open_until)

    def phase(self, now: float) -> Phase:
        """Return how the host is at a time."""
        if self.open_until:
            return Phase.OPEN if now < self.open_until else Phase.PROBING
        return Phase.COOLING if now < self.cool_until else Phase.OK

    def until(self, now: float) -> float | None:
        """Return when the host may be asked again, or ``None`` where it may be now."""
        ends = max(self.open_until, self.cool_until)
        return ends if now < ends else None


CLEAN = HostState()


def has_room(active: int, ahead: int, limits: HostLimits) -> bool:
    """Return whether there is a place for one more, with so many connections and so many waiting before it."""
    return active + ahead < limits.connections


def may_enter(
    state: HostState, now: float, limits: HostLimits, *, room: bool, may_probe: bool = True
) -> tuple[HostState, Go | Wait]:
    """Decide about a request; return what the host's state is with it, and the decision.

    ``room`` is whether there is a place for its connection, or none is needed; ``may_probe``
    whether its outcome says how the host is.
    """
    if now < state.open_until:
        return state, Wait(max(state.open_until, state.cool_until) - now, Why.OPEN, state.why)
    if now < state.cool_until:
        return state, Wait(state.cool_until - now, Why.COOLING, state.why)
    if state.open_until and (now < state.probe_until or not may_probe):
        return state, Wait(AGAIN_SECONDS, Why.PROBE, state.why)
    if not room:
        return state, Wait(AGAIN_SECONDS, Why.PLACE)
    pause = 0.0
    if limits.requests_per_second is not None:
        at = max(now, state.next_request_at)
        pause = at - now
        if pause > MOST_PAUSE_SECONDS:
            return state, Wait(pause - MOST_PAUSE_SECONDS, Why.RATE)
        state = replace(state, next_request_at=at + 1 / limits.requests_per_second)
    if state.open_until:
        state = replace(state, probe_until=now + pause + PROBE_SECONDS)
    return state, Go(pause) if pause else GO


def after_success(state: HostState, now: float) -> HostState:
    """Return a host's state after an answer that shows that it works; a pause that it asked for goes on."""
    if now < state.cool_until:
        return replace(CLEAN, cool_until=state.cool_until, why=state.why, next_request_at=state.next_request_at)
    return replace(CLEAN, next_request_at=state.next_request_at)


def after_failure(
    state: HostState, now: float, why: str, *, of: str = "", retry_after_seconds: float | None = None
) -> HostState:
    """Return a host's state after a failure (``Hosts.failed``)."""
    if retry_after_seconds is not None:
        until = now + min(retry_after_seconds, MOST_COOL_SECONDS)
        state = replace(state, cool_until=max(state.cool_until, until), why=why)
    if now < state.open_until:  # it was under way before the circuit opened, and tells nothing new
        return replace(state, why=why)
    if state.open_until:
        return _opened(state, now, min(2 * state.open_seconds, MOST_OPEN_SECONDS), why)
    if retry_after_seconds is not None or (of and of == state.failed_of and state.failures):
        return replace(state, why=why)
    state = replace(state, failures=state.failures + 1, failed_of=of, why=why)
    return _opened(state, now, OPEN_SECONDS, why) if state.failures >= FAILURES else state


def _opened(state: HostState, now: float, seconds: float, why: str) -> HostState:
    return replace(state, open_until=now + seconds, open_seconds=seconds, probe_until=0.0, why=why)
