"""The supervisor: starts the parts of a plan, keeps them up, and stops them in reverse.

One loop, one thread. Each turn it looks at every part and does the next thing: start it
when all that it needs is up, ask it whether it answers, start it again when it died. What
to do about a death is decided by ``after_death``, which is pure.

A part that dies ``QUICK_DEATHS`` times in a row, each within ``QUICK_SECONDS``, is given
up, and the others go on. While the stack starts, one second try is all a part gets, and
a job none: then the start as a whole has failed.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from headrace.errors import DiskFull, HeadraceError, StackError
from headrace.stack import folders, processes
from headrace.stack.layout import Layout
from headrace.stack.parts import Part
from headrace.stack.record import PartRecord, PartState, Phase, Record

LOOK_SECONDS = 0.05
"""Between two looks while something starts."""
WATCH_SECONDS = 0.25
"""Between two looks when all is up; bounds how late a death is noticed."""
START_SECONDS = 120.0
"""How long a part may take until it answers: a slow machine's first Prefect migration takes 30."""
QUICK_SECONDS = 30.0
QUICK_DEATHS = 5
FIRST_DELAY_SECONDS = 0.25
LONGEST_DELAY_SECONDS = 30.0
LOG_LIMIT_BYTES = 20 * 1024 * 1024
"""A log that grows beyond this moves to ``.1``, so a part takes 40 MiB at most."""
LOG_CHECK_SECONDS = 30.0
TAIL_BYTES = 4096
TAIL_LINES = 5
"""Where a program's reason is looked for: Prefect prints "An exception occurred." below it."""
_EXCEPTION = re.compile(r"[\w.]+(Error|Exception)\b: ")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from a death: another start after ``delay_seconds``, or none."""

    again: bool
    delay_seconds: float = 0.0


def after_death(*, quick_deaths: int, starting: bool, job: bool) -> Verdict:
    """Decide what follows from a part's death.

    ``quick_deaths`` counts those in a row, with this one; ``starting``: the part has
    not been up since the stack was started.
    """
    if job or quick_deaths >= (2 if starting else QUICK_DEATHS):
        return Verdict(again=False)
    return Verdict(again=True, delay_seconds=min(FIRST_DELAY_SECONDS * 2.0**quick_deaths, LONGEST_DELAY_SECONDS))


class _Life:
    """What the supervisor knows of one part."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.state = PartState.WAITING
        self.child: subprocess.Popen[bytes] | None = None
        self.created: float | None = None
        self.started = 0.0
        """Unix time, for people and for heartbeats."""
        self.begun = 0.0
        """The same on the monotonic clock, for spans."""
        self.due = 0.0
        """When to start again (monotonic)."""
        self.restarts = 0
        self.quick_deaths = 0
        self.was_up = False
        self.message = ""

    @property
    def settled(self) -> bool:
        """Whether those that need it may start."""
        return self.state in {PartState.UP, PartState.DONE}

    def as_record(self) -> PartRecord:
        """Return what others may know."""
        pid = self.child.pid if self.child is not None and self.child.returncode is None else None
        return PartRecord(
            name=self.part.name,
            state=self.state,
            url=self.part.url,
            pid=pid,
            created=self.created if pid else None,
            started=self.started or None,
            restarts=self.restarts,
            message=self.message,
        )


class Supervisor:
    """Runs the parts of one stack until it is told to stop; the caller holds the lock."""

    def __init__(self, layout: Layout, parts: Sequence[Part], changed: Callable[[Record], None]) -> None:
        """Take the parts, each after those that it needs; ``changed`` gets each new record."""
        self._layout = layout
        self._lives = {part.name: _Life(part) for part in parts}
        self._changed = changed
        self._stopping = False
        self._phase = Phase.STARTING
        self._begun = time.time()
        self._message = ""
        self._hint = ""
        self._last: Record | None = None
        self._logs_checked = time.monotonic()

    def stop(self, *_: object) -> None:
        """Tell ``run`` to stop everything and return; a signal handler may call it.

        Only a flag, since ``threading.Event`` can deadlock when a signal comes inside its ``wait``.
        """
        self._stopping = True

    def run(self) -> None:
        """Start all parts, keep them up until ``stop``, stop them.

        Raises ``StackError`` or ``DiskFull`` where the start fails; then nothing runs.
        """
        try:
            while not self._stopping:
                self._look()
                if self._phase is Phase.STARTING and all(life.settled for life in self._lives.values()):
                    self._phase = Phase.READY
                self._tell()
                self._rotate_logs()
                busy = any(life.state is PartState.STARTING for life in self._lives.values())
                time.sleep(LOOK_SECONDS if busy or self._phase is Phase.STARTING else WATCH_SECONDS)
        except HeadraceError as error:
            self._message, self._hint = error.message, error.hint
            raise
        finally:
            self._end()

    def _look(self) -> None:
        for life in self._lives.values():
            if life.child is not None and life.child.poll() is not None and life.state is not PartState.DONE:
                self._bury(life, life.child)
            try:
                self._advance(life)
            except (StackError, DiskFull) as error:
                if not life.was_up:
                    raise
                # It was up once: the others go on, and it is tried again.
                life.message = error.message
                if life.child is None:
                    life.state, life.due = PartState.RESTARTING, time.monotonic() + LONGEST_DELAY_SECONDS

    def _advance(self, life: _Life) -> None:
        free = life.state is PartState.WAITING and all(self._lives[name].settled for name in life.part.after)
        if free or (life.state is PartState.RESTARTING and time.monotonic() >= life.due):
            self._start(life)
        elif life.state is PartState.STARTING and life.child is not None:
            self._ask(life, life.part, life.child)

    def _start(self, life: _Life) -> None:
        part = life.part
        part.before()
        life.started, life.begun = time.time(), time.monotonic()
        life.state = PartState.STARTING
        with folders.writing(self._layout.log(part.name)):
            log = self._layout.log(part.name).open("ab")
        with log:
            life.child = _spawn(part, log, self._layout.prefect)
        life.created = processes.created(life.child.pid)

    def _ask(self, life: _Life, part: Part, child: subprocess.Popen[bytes]) -> None:
        if part.check is not None and part.check.answers(life.started):
            part.then()
            life.state, life.was_up, life.message = PartState.UP, True, ""
        elif time.monotonic() - life.begun > START_SECONDS:
            life.message = f"it did not answer within {START_SECONDS:.0f} s"
            family = processes.descendants([child.pid])
            child.kill()
            child.wait()  # before psutil does, who would not tell us how it ended
            processes.end(family)

    def _bury(self, life: _Life, child: subprocess.Popen[bytes]) -> None:
        """Take note of a death, and decide what follows."""
        life.child = None
        if life.part.is_job and child.returncode == 0:
            life.state = PartState.DONE
            return
        quick = time.monotonic() - life.begun < QUICK_SECONDS or not life.was_up
        life.quick_deaths = life.quick_deaths + 1 if quick else 1
        life.message = life.message or _cause(child.returncode)
        verdict = after_death(quick_deaths=life.quick_deaths, starting=not life.was_up, job=life.part.is_job)
        if verdict.again:
            life.state, life.due = PartState.RESTARTING, time.monotonic() + verdict.delay_seconds
            life.restarts += 1
            return
        life.state = PartState.FAILED
        life.message = f"{life.message}; its log ends: {tail(self._layout.log(life.part.name))}"
        if not life.was_up:
            raise _start_failure(life.part, self._layout, life.message)

    def _tell(self) -> None:
        now = Record(
            phase=self._phase,
            supervisor_pid=os.getpid(),
            started=self._begun,
            message=self._message,
            hint=self._hint,
            parts=tuple(life.as_record() for life in self._lives.values()),
        )
        if now == self._last:
            return
        try:
            self._changed(now)
            self._last = now
        except (StackError, DiskFull):
            if self._phase is Phase.STARTING:
                raise
            # What runs goes on running, and stopping goes on, whatever the disk says.

    def _rotate_logs(self) -> None:
        if time.monotonic() - self._logs_checked < LOG_CHECK_SECONDS:
            return
        self._logs_checked = time.monotonic()
        for name in self._lives:
            rotate(self._layout.log(name), LOG_LIMIT_BYTES)

    def _end(self) -> None:
        """Stop everything, in reverse: those that need a part before the part."""
        failed = bool(self._message)
        self._phase = Phase.STOPPING
        self._tell()
        for level in reversed(levels([life.part for life in self._lives.values()])):
            pids = [child.pid for name in level if (child := self._lives[name].child) is not None]
            processes.end(processes.descendants(pids))
        processes.end_all(self._layout)
        for life in self._lives.values():
            if life.child is not None:
                life.child.poll()
            if life.state is not PartState.FAILED:
                life.state = PartState.STOPPED
        self._phase = Phase.FAILED if failed else Phase.STOPPED
        self._tell()


def _spawn(part: Part, log: IO[bytes], folder: Path) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 - an argv list, never a shell
            part.argv,
            env=dict(part.environment),
            cwd=folder if part.account is None else "/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which then stops them in order
            user=part.account.uid if part.account else None,
            group=part.account.gid if part.account else None,
            extra_groups=[] if part.account else None,
        )
    except OSError as error:
        raise StackError(f"{part.name} can't be started: {error}", hint="Install headrace again.") from error


def levels(parts: Sequence[Part]) -> list[list[str]]:
    """Group parts by how many steps of need they are away from a part that needs nothing."""
    depth: dict[str, int] = {}
    for part in parts:
        depth[part.name] = 1 + max((depth[name] for name in part.after), default=-1)
    return [[name for name, at in depth.items() if at == level] for level in range(max(depth.values(), default=-1) + 1)]


def tail(log: Path) -> str:
    """Return the line among a log's last that names an exception, else its last that says something."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        return ""
    named = [line for line in lines[-TAIL_LINES:] if _EXCEPTION.match(line)]
    return (named or lines or [""])[-1]


def rotate(log: Path, limit_bytes: int) -> None:
    """Move what a log holds to ``.1`` where it has grown beyond the limit; its writer goes on appending."""
    try:
        if log.stat().st_size > limit_bytes:
            with folders.writing(log):
                shutil.copyfile(log, log.with_name(log.name + ".1"))
                os.truncate(log, 0)
    except (FileNotFoundError, StackError, DiskFull):
        return  # it is tried again; a log is no reason to stop


def _cause(returncode: int) -> str:
    if returncode < 0:
        try:
            return f"it was ended by {signal.Signals(-returncode).name}"
        except ValueError:
            return f"it was ended by signal {-returncode}"
    return f"it ended with status {returncode}"


def _start_failure(part: Part, layout: Layout, message: str) -> HeadraceError:
    if "No space left on device" in message:
        return DiskFull(f"{part.name} did not start: the disk of {layout.home} is full")
    return StackError(f"{part.name} did not start: {message}", hint=f"See {layout.log(part.name)}.")
