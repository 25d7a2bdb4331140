"""What ``fetch`` shows on stderr while it works: bars on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from headrace.download.batch import Job, Outcome
    from headrace.model import Progress

MOST_BARS = 12
"""More would scroll; the rest is in the total."""


class Display(Protocol):
    """Where progress goes; called from several threads."""

    def progress(self, job: Job, progress: Progress) -> None:
        """Show how far a file is."""

    def ended(self, outcome: Outcome) -> None:
        """Count a file that has ended."""


class _Nothing:
    def progress(self, job: Job, progress: Progress) -> None:
        pass

    def ended(self, outcome: Outcome) -> None:
        pass


@contextmanager
def shown(files: int, *, quiet: bool) -> Iterator[Display]:
    """Yield what shows the progress of so many files."""
    if quiet or not sys.stderr.isatty():
        yield _Nothing()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        yield _Bars(bars, files)


class _Bars:
    def __init__(self, bars: Any, files: int) -> None:
        self._bars = bars
        self._files = files
        self._lock = threading.Lock()
        self._tasks: dict[int, Any] = {}
        self._speeds: dict[int, float] = {}
        self._ended = self._failed = 0
        self._bytes = 0
        self._total = bars.add_task("All files", total=files, note="") if files > 1 else None

    def progress(self, job: Job, progress: Progress) -> None:
        from rich.markup import escape

        with self._lock:
            task = self._tasks.get(id(job))
            if task is None:
                if len(self._tasks) >= MOST_BARS:
                    return
                task = self._tasks[id(job)] = self._bars.add_task(escape(job.path.name[:40]), total=None, note="")
            self._speeds[id(job)] = progress.speed or 0.0
            total = None if progress.fraction is None else 1.0
            self._bars.update(task, total=total, completed=progress.fraction or 0.0, note=_note(progress))
            self._show_total()

    def ended(self, outcome: Outcome) -> None:
        with self._lock:
            task = self._tasks.pop(id(outcome.job), None)
            self._speeds.pop(id(outcome.job), None)
            if task is not None and self._files > 1:
                self._bars.remove_task(task)
            self._ended += 1
            self._failed += outcome.error is not None
            self._bytes += outcome.done.size_bytes if outcome.done else 0
            self._show_total()

    def _show_total(self) -> None:
        if self._total is not None:
            failed = f", {self._failed} failed" if self._failed else ""
            speed = sum(self._speeds.values()) / 1e6
            note = f"{self._ended} of {self._files}{failed}, {self._bytes / 1e6:.1f} MB, {speed:.1f} MB/s"
            self._bars.update(self._total, completed=self._ended, note=note)


def _note(progress: Progress) -> str:
    speed = f"{(progress.speed or 0) / 1e6:.1f} MB/s"
    return f"{speed}, {progress.connections} connections" if (progress.connections or 0) > 1 else speed
