"""The only door to subprocesses that do a piece of work and end (ffmpeg, ffprobe, Shaka Packager).

What always holds:

1. A program is an argv list; there is no shell.
2. It runs in a process group of its own and has no stdin. When the caller's
   ``stop`` is set, when it runs too long, or when it makes no progress, the
   whole group gets SIGTERM and, ``TERM_GRACE_SECONDS`` later, SIGKILL.
3. If the thread or the process that started it dies (kill -9), the kernel
   kills the program too (``PR_SET_PDEATHSIG``, Linux only).
4. Both pipes are drained all the time; only the end of stderr is kept.

The servers of the embedded stack live longer than their caller and are started by
``headrace.stack`` instead.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from headrace.errors import Cancelled, HeadraceError, ToolFailed, ToolStalled
from headrace.log import Log

log = Log(__name__)

TERM_GRACE_SECONDS = 2.0
"""From SIGTERM to SIGKILL. A cancelled order must be gone within 5 s (DESIGN.md, Orchestration)."""

POLL_SECONDS = 0.05
"""How often a running program is looked at; bounds how late a stop is noticed."""

STDERR_LINES = 60
"""How much of stderr is kept as evidence: the last lines, where programs say why they ended."""

STDOUT_LIMIT_BYTES = 64 * 1024 * 1024
"""A program that prints more than this to us is hostile or broken."""

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class Stop(Protocol):
    """What tells a long piece of work to end early; ``threading.Event`` is one."""

    def is_set(self) -> bool:
        """Return whether the work should end now."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the kernel lets a program use; ``None`` leaves the inherited limit."""

    memory_bytes: int | None = None
    cpu_seconds: int | None = None
    file_bytes: int | None = None

    def apply(self) -> None:
        """Set the limits on the calling process (runs in the child, before exec)."""
        for kind, value in (
            (resource.RLIMIT_AS, self.memory_bytes),
            (resource.RLIMIT_CPU, self.cpu_seconds),
            (resource.RLIMIT_FSIZE, self.file_bytes),
        ):
            if value is not None:
                resource.setrlimit(kind, (value, value))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended."""

    argv: tuple[str, ...]
    returncode: int
    """The exit status, or minus the signal that ended it."""
    stdout: str
    """What it printed, or empty where ``on_line`` took the lines."""
    stderr: str
    """The last ``STDERR_LINES`` lines."""
    seconds: float

    @property
    def command(self) -> str:
        """The argv as a shell would take it, for a log or a person."""
        return shlex.join(self.argv)


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    stop: Stop | None = None,
    timeout_seconds: float | None = None,
    stall_seconds: float | None = None,
    on_line: Callable[[str], bool] | None = None,
) -> Finished:
    """Run a program to its end and return how it ended, whatever its exit status.

    ``on_line`` gets each line of stdout as it comes and returns whether it shows
    progress; with ``stall_seconds``, a program that shows none for so long is
    stopped. ``env`` replaces the environment (``None`` inherits it).

    Raises ``Cancelled`` when ``stop`` was set, ``ToolStalled`` (retry can help) after
    ``timeout_seconds`` or ``stall_seconds``, ``ToolFailed`` when it can't be started.
    """
    words = tuple(str(word) for word in argv)
    started = time.monotonic()
    log.debug("process.start", command=shlex.join(words))
    try:
        child = subprocess.Popen(  # noqa: S603 - an argv list, never a shell
            words,
            cwd=cwd,
            env=dict(env) if env is not None else None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_in_child(limits or Limits()),  # noqa: PLW1509 - calls prctl and setrlimit only
        )
    except OSError as error:
        raise ToolFailed(f"{words[0]} can't be started: {error.strerror}", argv=list(words)) from error
    output = _Output(child, on_line)
    try:
        _wait(child, output, words, stop, timeout_seconds, stall_seconds)
    finally:
        terminate_group(child)
        output.join()
    seconds = time.monotonic() - started
    log.debug("process.end", command=words[0], returncode=child.returncode, seconds=round(seconds, 3))
    return Finished(words, child.returncode, output.stdout(), output.stderr(), seconds)


def terminate_group(child: subprocess.Popen[bytes]) -> None:
    """End a program and everything it started; do nothing if it has ended already."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(TERM_GRACE_SECONDS)


def _in_child(limits: Limits) -> Callable[[], None]:
    parent = os.getpid()

    def prepare() -> None:
        limits.apply()
        end_with(parent, signal.SIGKILL)

    return prepare


def end_with(parent: int, by: signal.Signals) -> None:
    """Let the kernel send the calling process a signal when its parent dies (Linux only); for a fork."""
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, by)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)


def _wait(
    child: subprocess.Popen[bytes],
    output: _Output,
    words: tuple[str, ...],
    stop: Stop | None,
    timeout_seconds: float | None,
    stall_seconds: float | None,
) -> None:
    started = time.monotonic()
    name = Path(words[0]).name
    while child.poll() is None:
        now = time.monotonic()
        if output.failure is not None:
            raise output.failure
        if stop is not None and stop.is_set():
            raise Cancelled(f"{name} was stopped")
        if timeout_seconds is not None and now - started > timeout_seconds:
            raise ToolStalled(f"{name} did not end within {timeout_seconds:.0f} s", argv=list(words))
        if stall_seconds is not None and now - output.last_progress > stall_seconds:
            raise ToolStalled(
                f"{name} made no progress for {stall_seconds:.0f} s", argv=list(words), stderr=output.stderr()
            )
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(POLL_SECONDS)


class _Output:
    """Drains both pipes of a child in two threads."""

    def __init__(self, child: subprocess.Popen[bytes], on_line: Callable[[str], bool] | None) -> None:
        self.last_progress = time.monotonic()
        self.failure: HeadraceError | None = None
        """What ``on_line`` raised in its thread; it ends the program."""
        self._on_line = on_line
        self._stdout: list[str] = []
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._taken = 0
        self._threads = [
            threading.Thread(target=self._drain, args=(child.stdout, self._take_stdout), daemon=True),
            threading.Thread(target=self._drain, args=(child.stderr, self._stderr.append), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def stdout(self) -> str:
        return "\n".join(self._stdout)

    def stderr(self) -> str:
        return "\n".join(self._stderr)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(TERM_GRACE_SECONDS)

    def _drain(self, pipe: IO[bytes] | None, take: Callable[[str], None]) -> None:
        if pipe is None:
            return
        with pipe:
            for line in pipe:
                take(line.decode("utf-8", "replace").rstrip("\r\n"))

    def _take_stdout(self, line: str) -> None:
        if self._on_line is not None:
            try:
                if self._on_line(line):
                    self.last_progress = time.monotonic()
            except HeadraceError as error:
                self.failure = error
            return
        self._taken += len(line)
        if self._taken <= STDOUT_LIMIT_BYTES:
            self._stdout.append(line)
