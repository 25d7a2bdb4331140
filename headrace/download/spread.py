"""Long lists of files over several processes.

Python runs one thread of a process at a time, and a short file is hardly anything but Python. So
a list of ``MANY`` files is worked off by a process for each core, each with connections of its
own; whoever makes them divides limits among them.

1. The processes are forks: they are made before this one has threads, and begin with a copy of
   everything, the jobs included. Only numbers of jobs, progress and outcomes go between them.
2. Each takes the next job of one list, so that all end together.
3. One that dies takes its jobs with it, not the others': they end with an error, and what came
   of them is kept on the disk.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Self

from headrace.download.batch import Job, Outcome, Watcher, fetch_all
from headrace.download.transfer import Downloader
from headrace.errors import HeadraceError, ToolInterrupted
from headrace.model import Progress

MANY = 256
"""Fewer files are done before another process has paid for itself (some 20 ms)."""

MOST_PROCESSES = 8

TELL_SECONDS = 0.1
TELL_EVENTS = 64
"""How long, and how many, events are kept back to be told together."""

END_SECONDS = 5.0
"""What a process gets to write down what it has."""


def processes_for(files: int, at_once: int) -> int:
    """Return how many processes so many files are worth."""
    forks = "fork" in multiprocessing.get_all_start_methods()
    return min(os.cpu_count() or 1, MOST_PROCESSES, at_once) if files >= MANY and forks else 1


class Spread:
    """Processes that work off jobs; a context manager that ends them."""

    def __init__(self, downloader: Downloader, jobs: Sequence[Job], *, at_once: int, processes: int) -> None:
        """Start them; nothing may have used the ``downloader`` yet. Each does its part of ``at_once``."""
        self._jobs = jobs
        context = multiprocessing.get_context("fork")
        taken = context.Value("l", 0)
        sys.stdout.flush()  # else the forks would write what is still to be written, too
        sys.stderr.flush()
        self._pipes: list[Connection] = []
        self._children: list[BaseProcess] = []
        for number in range(processes):
            ours, theirs = context.Pipe(duplex=False)
            share = at_once // processes + (number < at_once % processes)
            child = context.Process(target=_work, args=(downloader, jobs, taken, share, theirs), daemon=True)
            child.start()
            theirs.close()
            self._pipes.append(ours)
            self._children.append(child)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes; what came is kept for another run."""
        for child in self._children:
            if child.is_alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid or 0, signal.SIGINT)
        until = time.monotonic() + END_SECONDS
        for child in self._children:
            child.join(max(0.0, until - time.monotonic()))
            if child.is_alive():
                child.kill()
                child.join()
        for pipe in self._pipes:
            pipe.close()

    def outcomes(self, watcher: Watcher) -> Iterator[Outcome]:
        """Yield each outcome as it is known, telling ``watcher`` how jobs get on."""
        left = set(range(len(self._jobs)))
        open_pipes = list(self._pipes)
        while open_pipes:
            for pipe in wait(open_pipes):
                assert isinstance(pipe, Connection)  # noqa: S101 - what was given
                try:
                    events = pipe.recv()
                except (EOFError, OSError):
                    open_pipes.remove(pipe)
                    continue
                for number, kind, *facts in events:
                    if kind == "ended":
                        left.discard(number)
                        yield Outcome(self._jobs[number], *facts)
                    else:
                        getattr(watcher, kind)(self._jobs[number], *facts)
        for number in sorted(left):
            error = ToolInterrupted(
                "a process of this download was ended", hint="Run it again; it goes on where it was."
            )
            yield Outcome(self._jobs[number], error=error)


class _Teller:
    """In a process: tells the one that started it, several events at once. Its job's number is all it says of it."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._numbers: dict[int, int] = {}
        self._events: list[tuple[Any, ...]] = []
        self._lock = threading.Lock()
        self._told = time.monotonic()

    def takes(self, number: int, job: Job) -> None:
        """Take note of a job's number."""
        self._numbers[id(job)] = number

    def started(self, job: Job) -> None:
        self._tell(job, "started")

    def progress(self, job: Job, progress: Progress) -> None:
        self._tell(job, "progress", progress)

    def retrying(self, job: Job, error: HeadraceError, wait_seconds: float) -> None:
        self._tell(job, "retrying", error, wait_seconds)

    def ended(self, outcome: Outcome) -> None:
        self._tell(outcome.job, "ended", outcome.done, outcome.error)

    def _tell(self, job: Job, kind: str, *facts: object) -> None:
        with self._lock:
            self._events.append((self._numbers[id(job)], kind, *facts))
            now = time.monotonic()
            if len(self._events) >= TELL_EVENTS or now - self._told > TELL_SECONDS:
                self._flush(now)

    def _flush(self, now: float) -> None:
        events, self._events, self._told = self._events, [], now
        self._pipe.send(events)

    def close(self) -> None:
        """Tell what is left."""
        with self._lock:
            self._flush(time.monotonic())
        self._pipe.close()


def _work(downloader: Downloader, jobs: Sequence[Job], taken: Any, at_once: int, pipe: Connection) -> None:
    """Do jobs until there are none."""
    teller = _Teller(pipe)

    def mine() -> Iterator[Job]:
        while True:
            with taken.get_lock():
                number, taken.value = taken.value, taken.value + 1
            if number >= len(jobs):
                return
            teller.takes(number, jobs[number])
            yield jobs[number]

    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):  # who started it has ended, or ends it
        for outcome in fetch_all(downloader, mine(), at_once=at_once, watcher=teller):
            teller.ended(outcome)
        teller.close()
    downloader.close()
