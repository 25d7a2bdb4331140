"""How many bytes a second downloads may bring together: a bucket that fills steadily.

Who has received bytes pays for them and waits until they are earned; the network's own flow
control slows the sender. What isn't used is kept for ``BURST_SECONDS`` only.
"""

from __future__ import annotations

import threading
import time

from headrace.download.guard import SLICE_SECONDS
from headrace.process import Stop

BURST_SECONDS = 0.25
"""So much may come at once after a pause."""

SMALLEST_READ_BYTES = 4096
"""Below about a network's packets several reads would cost more than they smooth."""


class Bandwidth:
    """A limit that several downloads share, in any thread; it may be changed while they run."""

    def __init__(self, bytes_per_second: float | None = None) -> None:
        """``None`` is no limit."""
        self._rate = bytes_per_second
        self._lock = threading.Lock()
        self._earned_at = 0.0
        """When everything that was received is earned, on the monotonic clock."""

    @property
    def bytes_per_second(self) -> float | None:
        """The limit, or ``None`` where there is none."""
        return self._rate

    def change(self, bytes_per_second: float | None) -> None:
        """Set another limit; it holds from the next bytes on."""
        self._rate = bytes_per_second

    def read_bytes(self, room: int) -> int:
        """Return how much of ``room`` is to be received at once, so that the flow is smooth."""
        rate = self._rate
        return room if rate is None else min(room, max(SMALLEST_READ_BYTES, int(rate * BURST_SECONDS)))

    def pay(self, count: int, stop: Stop) -> None:
        """Wait until ``count`` received bytes are earned, or until ``stop``."""
        rate = self._rate
        if rate is None:
            return
        with self._lock:
            begin = max(self._earned_at, time.monotonic() - BURST_SECONDS)
            self._earned_at = until = begin + count / rate
        while (wait := until - time.monotonic()) > 0 and not stop.is_set():
            time.sleep(min(wait, SLICE_SECONDS))
