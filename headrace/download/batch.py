"""Many files: several at once, over connections that are used again, each tried again on its own.

This is the retry layer of ``headrace fetch``; the stages of an order have Prefect's instead
(DESIGN.md, invariant 5).
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from queue import SimpleQueue
from typing import Protocol

from headrace.download.existing import existing
from headrace.download.guard import stoppable
from headrace.download.transfer import Downloader, Wish
from headrace.errors import Cancelled, HeadraceError
from headrace.log import Log
from headrace.model import Downloaded, Progress

log = Log(__name__)

TRIES = 4
BACKOFF_SECONDS = 1.0
"""Before a file is tried again; doubled each time, and a random half of it left out."""

MOST_PATIENCE_SECONDS = 300.0
"""A server that asks for a longer pause (Retry-After) fails its file."""

RESERVED = (".part", ".part.journal")
"""How the names of unfinished files end: no finished one may be called so."""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One file that is wanted."""

    shown: str
    """The source as people may see it."""
    path: Path
    wish: Callable[[], Wish]
    """Makes the wish when a try begins, because signed addresses don't live long; may raise a ``HeadraceError``."""
    keep_existing: bool = False
    """Whether a file that is there already is kept, if it is what was promised."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: with a file, or with an error."""

    job: Job
    done: Downloaded | None = None
    error: HeadraceError | None = None


class Watcher(Protocol):
    """Who is told how jobs are getting on; called from several threads."""

    def started(self, job: Job) -> None:
        """Take note that a job's turn has come."""

    def progress(self, job: Job, progress: Progress) -> None:
        """Take note of how far a file is."""

    def retrying(self, job: Job, error: HeadraceError, wait_seconds: float) -> None:
        """Take note that a job is tried again after a pause."""


def fetch_all(downloader: Downloader, jobs: Iterable[Job], *, at_once: int, watcher: Watcher) -> Iterator[Outcome]:
    """Fetch every job, ``at_once`` at a time; yield each outcome as it is known.

    A job is taken from ``jobs`` when its turn comes. Left early, it stops what is going on; what
    came is kept for another call.
    """
    stop, waiting, taking = threading.Event(), iter(jobs), threading.Lock()
    ended: SimpleQueue[Outcome | BaseException | None] = SimpleQueue()

    def work() -> None:
        try:
            while not stop.is_set():
                with taking:
                    job = next(waiting, None)
                if job is None:
                    break
                ended.put(_fetch(downloader, job, watcher, stop))
        except BaseException as error:  # noqa: BLE001 - the thread ends here; who waits raises it
            ended.put(error)
        ended.put(None)

    threads = [threading.Thread(target=work, name="file", daemon=True) for _ in range(at_once)]
    try:
        for thread in threads:
            thread.start()
        for _ in threads:
            while (outcome := ended.get()) is not None:
                if isinstance(outcome, BaseException):
                    raise outcome
                yield outcome
    finally:
        stop.set()
        for thread in threads:
            if thread.ident is not None:  # else it was never started
                thread.join()


def _fetch(downloader: Downloader, job: Job, watcher: Watcher, stop: threading.Event) -> Outcome:
    watcher.started(job)
    for left in range(TRIES - 1, -1, -1):
        try:
            with stoppable(stop):
                wish = job.wish()
            done = existing(wish, job.path, stop) if job.keep_existing else None
            if done is None:
                done = downloader.fetch(wish, job.path, on_progress=lambda now: watcher.progress(job, now), stop=stop)
        except Cancelled as error:
            return Outcome(job, error=error)
        except HeadraceError as error:
            pause = max(
                BACKOFF_SECONDS * 2 ** (TRIES - 1 - left) * random.uniform(0.5, 1.0),  # noqa: S311 - no secret
                error.evidence.get("retry_after_seconds") or 0.0,
            )
            if not error.retryable or not left or pause > MOST_PATIENCE_SECONDS:
                return Outcome(job, error=error)
            log.info("download.again", source=job.shown, why=error.message, wait_seconds=round(pause, 1))
            watcher.retrying(job, error, pause)
            if stop.wait(pause):
                return Outcome(job, error=error)
        else:
            return Outcome(job, done)
    raise AssertionError("the last try returns")


def unique_name(name: str, taken: set[str]) -> str:
    """Return ``name``, or with a number where it is taken already; remembers what it returns.

    Upper and lower case count as the same: some file systems can't tell them apart.
    """
    if name.lower().endswith(RESERVED):
        name += ".file"
    stem, suffix = PurePath(name).stem, PurePath(name).suffix
    free, number = name, 1
    while free.lower() in taken:
        number += 1
        free = f"{stem} ({number}){suffix}"
    taken.add(free.lower())
    return free
