"""Long lists of files over several processes.

Python runs one thread of a process at a time, and a short file is hardly anything but Python. So
a list of ``MANY`` files is worked off by a process for each core, each with connections of its
own; whoever makes them divides limits among them.

1. The processes are forks: they are made before this one has threads, and begin with a copy of
   everything, the jobs included. Only numbers of jobs, progress and outcomes go between them.
2. Each reads the next job's number from one file, whose offset they share, so that all end
   together. No lock of ours is held meanwhile: one that dies holds nobody up.
3. One that dies takes its jobs with it, not the others': they end with an error, and what came
   of them is kept on the disk.
4. When whoever started them dies, or ends early, they write down what they have, and end.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Self

from headrace.download.batch import Job, Outcome, Watcher, fetch_all
from headrace.download.transfer import Downloader
from headrace.errors import HeadraceError, Limited, ToolInterrupted
from headrace.log import Log
from headrace.model import Progress
from headrace.process import end_with

log = Log(__name__)

MANY = 256
"""Fewer files are done before another process has paid for itself (some 20 ms)."""

MOST_PROCESSES = 8

_NUMBER = struct.Struct("=q")

TELL_SECONDS = 0.1
TELL_EVENTS = 64
"""How long, and how many, events are kept back to be told together."""

ENDING = frozenset({signal.SIGINT, signal.SIGTERM})

END_SECONDS = 5.0
"""What a process gets to write down what it has."""


def processes_for(files: int, at_once: int) -> int:
    """Return how many processes so many files are worth; elsewhere than on Linux forks aren't safe."""
    worth = files >= MANY and sys.platform == "linux"
    return min(os.cpu_count() or 1, MOST_PROCESSES, at_once) if worth else 1


class Spread:
    """Processes that work off jobs; a context manager that ends them."""

    def __init__(self, downloader: Downloader, jobs: Sequence[Job], *, at_once: int, processes: int) -> None:
        """Start them; nothing may have used the ``downloader`` yet. Each does its part of ``at_once``.

        Raises ``Limited`` where the system lets none be started; where fewer than wanted are, they do all.
        """
        self._jobs = jobs
        self._over = False
        self._pipes: list[Connection] = []
        self._children: list[BaseProcess] = []
        sys.stdout.flush()  # else the forks would write what is still to be written, too
        sys.stderr.flush()
        try:
            # Of a file, unlike a memfd, each read moves the shared offset on before another one begins.
            with tempfile.TemporaryFile() as numbers:
                numbers.write(b"".join(map(_NUMBER.pack, range(len(jobs)))))
                numbers.flush()
                os.lseek(numbers.fileno(), 0, os.SEEK_SET)
                for number in range(processes):
                    share = at_once // processes + (number < at_once % processes)
                    self._start(downloader, numbers.fileno(), share)
        except OSError as error:
            if not self._children:
                raise Limited(f"no other process can be started: {error.strerror}", hint="Give -j 1.") from error

    def _start(self, downloader: Downloader, numbers: int, at_once: int) -> None:
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe(duplex=False)
        with theirs:
            here = (os.getpid(), [*self._pipes, ours])
            arguments = (downloader, self._jobs, numbers, at_once, theirs, *here)
            child = context.Process(target=_work, args=arguments, daemon=True)
            # Until a fork has handlers of its own, signals wait.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
            try:
                child.start()
            except OSError:
                ours.close()
                raise
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._pipes.append(ours)
        self._children.append(child)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes; what came is kept for another run."""
        for pipe in self._pipes:  # whoever waits for us to read must not wait any more
            pipe.close()
        for child in self._children:
            if child.is_alive() and not self._over:
                child.terminate()
        until = time.monotonic() + END_SECONDS
        for child in self._children:
            child.join(max(0.0, until - time.monotonic()))
            if child.is_alive():
                child.kill()
                child.join()

    def outcomes(self, watcher: Watcher) -> Iterator[Outcome]:
        """Yield each outcome as it is known, telling ``watcher`` how jobs get on."""
        left = set(range(len(self._jobs)))
        open_pipes = list(self._pipes)
        while open_pipes:
            for pipe in wait(open_pipes):
                assert isinstance(pipe, Connection)  # noqa: S101 - what was given
                try:
                    events = pipe.recv()
                except Exception as ending:  # noqa: BLE001 - the end, or half a message of one that died in the middle
                    log.debug("download.process_ended", why=str(ending))
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
        self._over = True


class _Teller:
    """In a process: tells the one that started it, several events at once. Its job's number is all it says of it."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._numbers: dict[int, int] = {}
        self._events: list[tuple[Any, ...]] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell_on, name="teller", daemon=True)
        self._thread.start()

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
            if len(self._events) >= TELL_EVENTS:
                self._flush()

    def _tell_on(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # who does the jobs notices it too
            while not self._over.wait(TELL_SECONDS):
                with self._lock:
                    self._flush()

    def _flush(self) -> None:
        if self._events:
            events, self._events = self._events, []
            self._pipe.send(events)

    def close(self) -> None:
        """Tell what is left."""
        self._over.set()
        self._thread.join()
        with self._lock:
            self._flush()
        self._pipe.close()


def _work(
    downloader: Downloader,
    jobs: Sequence[Job],
    numbers: int,
    at_once: int,
    pipe: Connection,
    parent: int,
    others: Sequence[Connection],
) -> None:
    """Do jobs until there are none, or until who started this process ends it, or has ended."""
    for one in ENDING:
        if signal.getsignal(one) is not signal.SIG_IGN or one is signal.SIGTERM:
            signal.signal(one, _interrupted)
    for end in others:  # with these open here, nobody would notice that the reader has gone
        end.close()
    teller = _Teller(pipe)

    def mine() -> Iterator[Job]:
        while content := os.read(numbers, _NUMBER.size):
            (number,) = _NUMBER.unpack(content)
            teller.takes(number, jobs[number])
            yield jobs[number]

    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        end_with(parent, signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        try:
            for outcome in fetch_all(downloader, mine(), at_once=at_once, watcher=teller):
                teller.ended(outcome)
        finally:
            _deaf()
            teller.close()
    downloader.close()


def _interrupted(_: int, __: FrameType | None) -> None:
    """Once: a terminal's Ctrl-C and who started this process both say so, and the second would cut the first short."""
    _deaf()
    raise KeyboardInterrupt


def _deaf() -> None:
    for one in ENDING:
        signal.signal(one, _nothing)  # not SIG_IGN: Python tells of a signal that came just before


def _nothing(_: int, __: FrameType | None) -> None:
    pass
