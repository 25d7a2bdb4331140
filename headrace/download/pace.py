"""How fast a download is: what people are shown, and the end of what is too slow."""

from __future__ import annotations

import time
from collections import deque

from headrace.errors import SourceTimeout
from headrace.model import OnProgress, Progress

SLOW_BYTES_PER_SECOND = 1024
SLOW_SECONDS = 60.0
"""Slower than this over so long is a slow loris, not a source."""

RECENT_SECONDS = 5.0
"""The speed that is shown is that of so long."""

REPORT_SECONDS = 0.5
"""Twice a second is often enough for a person."""


class Pace:
    """The speed of one download, measured by who calls ``step`` now and then."""

    def __init__(self, start: int, on_progress: OnProgress | None) -> None:
        self._on_progress = on_progress
        self._marks = deque([(time.monotonic(), start)])
        self._reported = 0.0

    def step(self, done_bytes: int, size_bytes: int | None, connections: int, *, held: bool = False) -> None:
        """Take how much is there; raises ``SourceTimeout`` (a retry can help) for a slow loris.

        ``held`` says that we are the ones who are slow, because a limit of bandwidth wants it.
        """
        now = time.monotonic()
        since, at = self._marks[0]
        if not held and now - since > SLOW_SECONDS and done_bytes - at < SLOW_BYTES_PER_SECOND * (now - since):
            raise SourceTimeout(f"the source sends less than {SLOW_BYTES_PER_SECOND} bytes a second")
        if now - self._reported >= REPORT_SECONDS:
            self.report(done_bytes, size_bytes, connections, now)

    def report(self, done_bytes: int, size_bytes: int | None, connections: int, now: float | None = None) -> None:
        """Tell who wants to know, whenever they were told last."""
        self._reported = now = time.monotonic() if now is None else now
        self._marks.append((now, done_bytes))
        while now - self._marks[0][0] > SLOW_SECONDS and len(self._marks) > 2:  # noqa: PLR2004 - keep a window
            self._marks.popleft()
        if self._on_progress is not None:
            speed = self.speed(now)
            eta = (size_bytes - done_bytes) / speed if size_bytes and speed > 0 else None
            fraction = min(1.0, done_bytes / size_bytes) if size_bytes else None
            self._on_progress(Progress(fraction, speed, eta, connections, done_bytes, size_bytes))

    def checked(self, checked_bytes: int, size_bytes: int) -> None:
        """Tell who wants to know how much has been read again, where everything is there."""
        if self._on_progress is not None:
            self._on_progress(Progress(1.0, None, None, 0, size_bytes, size_bytes, checked_bytes))

    def speed(self, now: float) -> float:
        """Return the recent bytes a second."""
        first = next((mark for mark in self._marks if now - mark[0] <= RECENT_SECONDS), self._marks[-1])
        last = self._marks[-1]
        if first is last and len(self._marks) > 1:
            first = self._marks[-2]
        return (last[1] - first[1]) / max(last[0] - first[0], 1e-6) if first is not last else 0.0
