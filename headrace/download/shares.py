"""A stretch of the file that one worker fetches, and the reply that it comes with."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from headrace.download.body import Body
from headrace.download.origins import Origin

LEAST_SECONDS = 0.01
"""A share that is younger says nothing of its speed yet."""


@dataclass(eq=False, slots=True)
class Share:
    """A stretch of the file that one worker fetches; changed under the crew's lock only."""

    start: int
    end: int | None
    """``None``: until the body ends."""
    settled: bool = True
    """Not while it is a rival's: such a share is neither cut nor hedged. Nor is one without ranges."""
    position: int = field(init=False)
    """Up to here the bytes have come."""
    flushed: int = field(init=False)
    """Up to here they are in the file."""
    reserved: int = field(init=False)
    """Up to here its worker may be receiving at this moment."""
    halted: bool = field(init=False, default=False)
    """Somebody else goes on with it."""
    writing: bool = field(init=False, default=False)
    """Its worker has bytes in hand: until they are in the file nobody else may take it over."""
    hedged: bool = field(init=False, default=False)
    hedged_at: float = field(init=False, default=0.0)
    paying: bool = field(init=False, default=False)
    """Its worker waits because a limit of bandwidth wants it."""
    asking: bool = field(init=False, default=False)
    """Its worker waits for its turn, for an answer, or before another try: each has an end of its own."""
    rate: float = field(init=False, default=0.0)
    """Bytes a second, recently."""
    began_at: float = field(init=False)
    moved_at: float = field(init=False)
    made_at: float = field(init=False)
    origin: Origin | None = field(init=False, default=None)
    """Who sends its bytes."""
    marked: int = field(init=False)

    def __post_init__(self) -> None:
        self.position = self.flushed = self.reserved = self.marked = self.start
        self.made_at = self.began_at = self.moved_at = time.monotonic()

    def left(self) -> int:
        """Return the bytes that are still to come; a lot where nobody knows."""
        return (1 << 62) if self.end is None else self.end - self.position

    def measure(self, now: float, seconds: float) -> None:
        """Take the speed of the last ``seconds``."""
        moved = self.position - self.marked
        if moved:
            self.moved_at = now
        seconds = min(seconds, max(now - self.made_at, LEAST_SECONDS))
        weight = min(1.0, seconds)
        self.rate = moved / seconds if self.rate == 0 else self.rate * (1 - weight) + moved / seconds * weight
        self.marked = self.position


@dataclass(slots=True)
class Opened:
    """A reply whose body is still to be read; ``stack`` closes it."""

    stack: contextlib.ExitStack
    body: Body
    origin: Origin
    wait_seconds: float = 0.0
    """From the request to the reply's head."""


Ask = Callable[[int, int, Origin | None], Opened]
"""Opens a reply with the file's bytes from the first offset up to the second, if possible not of an origin."""
