"""The picture that ``fetch`` keeps at the bottom of a terminal: a line for each file at work, and one for all.

A ``Board`` is told what happens, and says at any time what its lines are: ``rows`` are values,
``line`` (pure) lays one out for a width, from 40 columns up. Who draws them is ``fetching``.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from headrace.cli.output import duration, size
from headrace.download.batch import Job, Outcome
from headrace.errors import HeadraceError
from headrace.model import Progress

MOST_ROWS = 16
"""More can't be followed; the line for all counts the rest."""

YOUNG_SECONDS = 0.5
"""A file that is done sooner gets no line: thousands of them would flicker."""

RECENT_SECONDS = 5.0
"""The speed of all is that of so long."""

SETTLED_SECONDS = 2.0
"""Before, nobody knows how long all will take."""

PERCENT, AMOUNT, SPEED, LEFT, LINES = 5, 13, 10, 7, 3
"""Columns of the parts: ``100 %``, ``1023/1023 MiB``, ``1023 MiB/s``, ``9:59:59``, ``16×``."""

NARROWEST_BAR, WIDEST_BAR = 8, 30
NARROWEST_NAME, WIDEST_NAME = 16, 44

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")

LONG_SECONDS = 10 * 3600
"""From here on whole hours are told."""

Piece = tuple[str, str]
"""Some text, and rich's name of its style."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one line says."""

    name: str
    fraction: float | None = None
    amount: str = ""
    speed: float | None = None
    eta_seconds: float | None = None
    connections: int | None = None
    note: str = ""
    """Instead of all numbers."""


@dataclass(slots=True)
class _File:
    job: Job
    since: float
    progress: Progress | None = None
    base: int = 0
    """What was there when it was heard of first."""
    why: str = ""
    again_at: float | None = None


class Board:
    """What is going on, for any thread."""

    def __init__(self, files: int, clock: Callable[[], float] = time.monotonic) -> None:
        """``files`` are expected."""
        self._files = files
        self._clock = clock
        self._lock = threading.Lock()
        self._going: dict[int, _File] = {}
        self._ended = self._failed = 0
        self._bytes = self._fetched = 0
        self._since = clock()
        self._marks: deque[tuple[float, int, float]] = deque([(self._since, 0, 0.0)])

    def started(self, job: Job) -> None:
        """Take note that a job's turn has come."""
        with self._lock:
            self._going[id(job)] = _File(job, self._clock())

    def progress(self, job: Job, progress: Progress) -> None:
        """Take note of how far a file is."""
        with self._lock:
            file = self._going[id(job)]
            if file.progress is None:
                file.base = progress.done_bytes or 0
            file.progress, file.again_at = progress, None

    def retrying(self, job: Job, error: HeadraceError, wait_seconds: float) -> None:
        """Take note that a job is tried again after a pause."""
        with self._lock:
            file = self._going[id(job)]
            file.why, file.again_at = error.message, self._clock() + wait_seconds

    def ended(self, outcome: Outcome) -> None:
        """Take note of how a job has ended."""
        with self._lock:
            self._going.pop(id(outcome.job), None)
            self._ended += 1
            self._failed += outcome.error is not None
            if outcome.done is not None:
                self._bytes += outcome.done.size_bytes
                self._fetched += 0 if outcome.done.kept else outcome.done.size_bytes - outcome.done.resumed_bytes

    def rows(self, most: int = MOST_ROWS) -> list[Row]:
        """Return the lines for now: of the files that are at work for the longest, and of all."""
        with self._lock:
            now = self._clock()
            old = [file for file in self._going.values() if now - file.since >= YOUNG_SECONDS]
            rows = [_row(file, now) for file in old[: max(1, most - 1)]]
            return [*rows, self._all(now)] if self._files > 1 else rows

    def summary(self) -> str:
        """Return one line about all that has ended; "" where nothing came."""
        seconds = max(self._clock() - self._since, 1e-3)
        if not self._bytes and self._files == 1:
            return ""
        failed = f", {self._failed} failed" if self._failed else ""
        files = f"{self._ended - self._failed} of {self._files} files{failed}: " if self._files > 1 else ""
        took = f"{seconds:.1f} s" if seconds < 60 else duration(seconds)  # noqa: PLR2004 - a minute
        return f"{files}{size(self._bytes)} in {took}, {size(self._fetched / seconds)}/s"

    def _all(self, now: float) -> Row:
        going = [file.progress for file in self._going.values() if file.progress is not None]
        done = self._bytes + sum(progress.done_bytes or 0 for progress in going)
        fetched = self._fetched + sum(
            max(0, (file.progress.done_bytes or 0) - file.base) for file in self._going.values() if file.progress
        )
        fraction = (self._ended + sum(progress.fraction or 0.0 for progress in going)) / self._files
        self._marks.append((now, fetched, fraction))
        while now - self._marks[0][0] > RECENT_SECONDS and len(self._marks) > 2:  # noqa: PLR2004 - a stretch has two ends
            self._marks.popleft()
        then, before, _ = self._marks[0]
        speed = max(0.0, (fetched - before) / (now - then)) if now > then else None
        failed = f", {self._failed} failed" if self._failed else ""
        eta = max((progress.eta_seconds or 0.0 for progress in going), default=0.0)  # no sooner than any of them
        if fraction > 0 and now - self._since > SETTLED_SECONDS:
            eta = max(eta, (now - self._since) * (1 - fraction) / fraction)
        return Row(f"{self._ended}/{self._files} files{failed}", fraction, amount(done), speed, eta or None)


def _row(file: _File, now: float) -> Row:
    name, progress = file.job.path.name, file.progress
    if file.again_at is not None:
        return Row(name, note=f"again in {max(0.0, file.again_at - now):.0f} s: {file.why}")
    if progress is None:
        return Row(name, note="asking …")
    if progress.checked_bytes is not None:
        done, whole = progress.checked_bytes, progress.size_bytes
        return Row(name, done / whole if whole else None, "checking what is there")
    return Row(
        name,
        progress.fraction,
        amount(progress.done_bytes or 0, progress.size_bytes),
        progress.speed,
        progress.eta_seconds,
        progress.connections,
    )


def amount(done: float, whole: int | None = None) -> str:
    """Return how much there is, and of how much in whose unit, in few characters.

    >>> amount(3 << 19, 5 << 20)
    '1.5/5.0 MiB'
    """
    step, unit = 1, UNITS[0]
    for bigger in UNITS[1:]:
        if (whole or done) < 1000 * step:
            break
        step, unit = 1024 * step, bigger

    def number(count: float) -> str:
        return f"{count / step:.1f}" if step > 1 and (whole or done) < 100 * step else f"{count / step:.0f}"

    return f"{number(done)} {unit}" if whole is None else f"{number(done)}/{number(whole)} {unit}"


def line(row: Row, width: int, fit: Callable[[str, int], str]) -> list[Piece]:
    """Lay a row out for so many columns; ``fit`` cuts or fills a text to some. Pure."""
    bar, name = _widths(width)
    pieces: list[Piece] = [(fit(row.name, name), "bold")]
    if row.note:
        return [*pieces, (" " + fit(row.note, width - name - 1), "yellow")]
    if bar:
        pieces += [(" ", ""), *_bar(row.fraction, bar)]
    percent = "" if row.fraction is None else f"{100 * row.fraction:.0f} %"
    pieces.append((f" {percent:>{PERCENT}}", ""))
    if row.amount and row.speed is None:  # words take the room of the numbers behind them
        return [*pieces, ("  " + fit(row.amount, max(0, width - name - bar - bool(bar) - PERCENT - 3)), "dim")]
    speed = "" if row.speed is None else f"{amount(row.speed)}/s"
    left = "" if row.eta_seconds is None else _left(row.eta_seconds)
    pieces += [(f" {row.amount:>{AMOUNT}}", ""), (f" {speed:>{SPEED}}", "green")]
    if width >= NARROWEST_NAME + PERCENT + AMOUNT + SPEED + LEFT + LINES + 5:
        lines = f"{row.connections}×" if row.connections else ""
        pieces += [(f" {left:>{LEFT}}", "cyan"), (f" {lines:>{LINES}}", "dim")]
    return pieces


def _left(seconds: float) -> str:
    return duration(seconds) if seconds < LONG_SECONDS else f"{min(seconds / 3600, 99999):.0f} h"


def _widths(width: int) -> tuple[int, int]:
    """Return the columns of the bar, 0 where there is no room for one, and of the name."""
    room = width - (PERCENT + AMOUNT + SPEED + LEFT + LINES) - 5
    if room < NARROWEST_NAME:  # no time and no connections either
        return 0, max(1, width - (PERCENT + AMOUNT + SPEED) - 3)
    if room < NARROWEST_NAME + NARROWEST_BAR + 1:
        return 0, room
    bar = min(WIDEST_BAR, max(NARROWEST_BAR, (room - 1) // 3))
    return bar, min(WIDEST_NAME, room - bar - 1)


def _bar(fraction: float | None, width: int) -> list[Piece]:
    full = 0 if fraction is None else round(width * min(1.0, fraction))
    return [("━" * full, "cyan"), ("─" * (width - full), "bright_black")]  # told apart without colours too
