"""What ``fetch`` says: finished files on stdout, events with ``--json``, and on a terminal how each file gets on.

``shown`` chooses: ``_Events`` writes JSON Lines, ``_Lines`` a line for what has ended, ``_OnTerminal``
besides that keeps a picture of what is going on at the bottom of the terminal (``board``).
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import click

from headrace.cli.board import MOST_ROWS, Board, line
from headrace.cli.output import print_json
from headrace.download.batch import Job, Outcome, Watcher
from headrace.errors import HeadraceError
from headrace.model import Progress

EVENT_SECONDS = 1.0
"""A file's progress is told so often, and not before it has taken so long."""


class Display(Watcher, Protocol):
    """Who is told how jobs get on, and how they end."""

    def ended(self, outcome: Outcome) -> None:
        """Say how a job has ended."""


@contextmanager
def shown(files: int, *, as_json: bool) -> Iterator[Display]:
    """Yield what shows the progress of so many files."""
    if as_json:
        events = _Events()
        yield events
        if files > 1:
            events.summary()
    elif sys.stderr.isatty():
        with _on_terminal(files) as display:
            yield display
    else:
        yield _Lines()


class _Events:
    """JSON Lines; the documentation of ``fetch --json`` lists them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since = time.monotonic()
        self._told: dict[int, float] = {}
        """When a job was told of last, at first when it began; by the job's identity."""
        self._files = self._failed = self._bytes = 0

    def started(self, job: Job) -> None:
        self._told[id(job)] = time.monotonic()

    def progress(self, job: Job, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._told[id(job)] < EVENT_SECONDS:
            return
        self._told[id(job)] = now
        speed, eta = progress.speed, progress.eta_seconds
        self._print(
            "progress",
            job,
            done_bytes=progress.done_bytes,
            size_bytes=progress.size_bytes,
            fraction=None if progress.fraction is None else round(progress.fraction, 4),
            speed_bytes_per_second=None if speed is None else round(speed),
            eta_seconds=None if eta is None else round(eta, 1),
            connections=progress.connections,
            **({} if progress.checked_bytes is None else {"checked_bytes": progress.checked_bytes}),
        )

    def retrying(self, job: Job, error: HeadraceError, wait_seconds: float) -> None:
        self._print("retry", job, error=error.to_json(), wait_seconds=round(wait_seconds, 1))

    def ended(self, outcome: Outcome) -> None:
        job, done, error = outcome.job, outcome.done, outcome.error
        row: dict[str, Any] = {"error": error.to_json() if error else None}
        if done is not None:
            row |= {"resumed_bytes": done.resumed_bytes, "size_bytes": done.size_bytes, **done.sums}
            row |= {"proofs": list(done.proofs), "restarts": done.restarts}
            row |= {"kept": True} if done.kept else {}
        self._files += 1
        self._failed += error is not None
        self._bytes += done.size_bytes if done else 0
        self._print("failed" if error else "finished", job, **row)

    def summary(self) -> None:
        seconds = round(time.monotonic() - self._since, 3)
        counts = {"files": self._files, "failed": self._failed, "bytes": self._bytes, "seconds": seconds}
        print_json([{"event": "summary", **counts}])

    def _print(self, event: str, job: Job, **more: Any) -> None:
        with self._lock:
            print_json([{"event": event, "url": job.shown, "path": str(job.path), **more}])
            sys.stdout.flush()


class _Lines:
    """A line for what has ended: paths on stdout, errors on stderr."""

    def started(self, job: Job) -> None:
        pass

    def progress(self, job: Job, progress: Progress) -> None:
        pass

    def retrying(self, job: Job, error: HeadraceError, wait_seconds: float) -> None:
        click.echo(f"headrace: {job.shown}: {error.message}; again in {wait_seconds:.0f} s", err=True)

    def ended(self, outcome: Outcome) -> None:
        error = outcome.error
        if error is not None:
            click.echo(f"headrace: {outcome.job.shown}: {error.message}\n  {error.hint}".rstrip(), err=True)
        else:
            self.say(str(outcome.job.path))

    def say(self, path: str) -> None:
        click.echo(path)
        sys.stdout.flush()


class _OnTerminal(_Lines):
    """Lines above, and the board below them."""

    def __init__(self, board: Board, above: Callable[[str], None]) -> None:
        """``above`` prints a line above the board."""
        self._board = board
        self._above = above

    def started(self, job: Job) -> None:
        self._board.started(job)

    def progress(self, job: Job, progress: Progress) -> None:
        self._board.progress(job, progress)

    def retrying(self, job: Job, error: HeadraceError, wait_seconds: float) -> None:
        self._board.retrying(job, error, wait_seconds)

    def ended(self, outcome: Outcome) -> None:
        self._board.ended(outcome)
        super().ended(outcome)

    def say(self, path: str) -> None:
        if sys.stdout.isatty():
            self._above(path)
        else:
            super().say(path)


@contextmanager
def _on_terminal(files: int) -> Iterator[Display]:
    from rich.cells import cell_len, set_cell_size
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(stderr=True)
    if console.is_dumb_terminal:
        yield _Lines()
        return
    board = Board(files)

    plain = {} if console.encoding.startswith("utf") else str.maketrans({"━": "=", "─": "-", "…": ".", "×": "x"})

    def fit(text: str, width: int) -> str:
        clean = "".join(c if c.isprintable() else "?" for c in text)
        return set_cell_size(clean, width) if cell_len(clean) <= width else set_cell_size(clean, width - 1) + "…"

    def picture() -> Text:
        rows = board.rows(min(MOST_ROWS, console.height - 2))
        drawn = [[(text.translate(plain), style) for text, style in line(row, console.width, fit)] for row in rows]
        return Text("\n").join(Text.assemble(*pieces) for pieces in drawn)

    def above(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    # Not the redirection of stdout: it would take lines from a file to the terminal.
    with Live(get_renderable=picture, console=console, refresh_per_second=4, transient=True, redirect_stdout=False):
        yield _OnTerminal(board, above)
    if summary := board.summary():
        click.echo(summary, err=True)
