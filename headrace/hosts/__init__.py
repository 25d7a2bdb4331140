"""What one host may be asked by all downloads together: connections, requests, pauses.

1. A host has at most so many connections of ours at once, and so many requests a second
   where a rule says so (``rules``). Who comes first is served first.
2. ``Retry-After`` on a 429 or 503 is a pause for everybody, not only for who was told.
3. A host that fails again and again isn't asked for a while: its circuit opens. Then one
   request probes it, and what becomes of that one decides (``state``, pure).
4. Nobody is lost with a place in hand: places have leases, on the clock of who keeps the book.

``Hosts`` is the book. ``LocalHosts`` keeps it for one process (``headrace fetch``),
``SharedHosts`` for all workers in Postgres; one contract suite holds both to it. A book never
waits: who is told to does so in ``headrace.download.turns``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from headrace.hosts.local import LocalHosts
from headrace.hosts.rules import HostLimits, HostRules
from headrace.hosts.state import Go, HostState, Wait, Why

__all__ = ["Go", "HostLimits", "HostRules", "HostState", "Hosts", "LocalHosts", "Wait", "Why", "host_key"]


class Hosts(Protocol):
    """The book of what hosts are asked; used from any thread. A ``host`` is what ``host_key`` returns."""

    rules: HostRules

    shared: bool
    """Whether other processes wait for the places that this one has."""

    idle_seconds: float
    """How long a connection that nobody uses may be kept: it has a place all the while."""

    patience_seconds: float
    """How long to wait while a host's places are all taken, before the work is put off."""

    def enter(self, host: str, place: str | None, *, queue: bool) -> Go | Wait:
        """Ask to send a request, over a connection that is there (``place`` is ``None``) or a new one.

        A ``Go`` for a new connection gives it the place by that name (any unique text); ``leave``
        gives it back. To ``queue`` keeps a turn by that name where there is no place: ask again
        soon, or ``leave`` the queue. Who doesn't want to wait is no probe either, since failures
        of additional connections aren't reported. May raise ``CatalogueUnavailable``.
        """

    def leave(self, host: str, place: str) -> None:
        """Give back a place, or a turn in the queue; does nothing where there is none."""

    def succeeded(self, host: str) -> None:
        """Take note of an answer that shows that the host works; a 404 does, and a 500, too."""

    def failed(self, host: str, why: str, *, of: str = "", retry_after_seconds: float | None = None) -> None:
        """Take note of a failure.

        ``why`` is for people. ``of`` names what was asked for where the host may be well
        otherwise: one file's failures in a row count once. ``retry_after_seconds`` is the pause
        that the host wants, which counts as no failure.
        """

    def wanted(self, host: str) -> bool:
        """Return whether another process waits for a place, so that one that is free is not kept."""

    def each_beat(self, call: Callable[[], None]) -> Callable[[], None]:
        """Have something called every few seconds while places are held, to close what is idle.

        Returns what ends that.
        """

    def close(self) -> None:
        """Give back every place."""


MAX_NAME = 253
"""Characters of a host's name (RFC 1035, section 2.3.4); longer ones can't be resolved, nor be a key."""


def host_key(hostname: str | None, port: int | None) -> str:
    """Return the name of a host: lower case, without the dot of the root, with its port."""
    name = (hostname or "").lower().rstrip(".")[:MAX_NAME]
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
