"""The lock of the supervisor, and the record in which other commands read what runs.

The lock (``flock``) is the truth about whether a stack is supervised: the kernel drops it
with its holder, so neither a kill -9 nor a recycled pid can make it lie. The record is
replaced as a whole at each change; one that can't be read counts as absent.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from headrace.stack import folders, processes
from headrace.stack.layout import Layout


class Phase(StrEnum):
    """Where the stack as a whole is."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class PartState(StrEnum):
    """Where a part is."""

    WAITING = "waiting"
    """For others to be up first."""
    STARTING = "starting"
    UP = "up"
    DONE = "done"
    """A job that has ended well."""
    RESTARTING = "restarting"
    """It died and will be started again."""
    FAILED = "failed"
    """It died too often."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class PartRecord:
    """What others may know of a part."""

    name: str
    state: PartState
    url: str = ""
    pid: int | None = None
    created: float | None = None
    """When the process was born (Unix time), which tells it from a later one with its pid."""
    started: float | None = None
    """When the part was last started (Unix time)."""
    restarts: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """What others may know of a stack."""

    phase: Phase
    supervisor_pid: int | None = None
    started: float | None = None
    message: str = ""
    hint: str = ""
    parts: tuple[PartRecord, ...] = field(default=())

    def to_json(self) -> str:
        """Return the record as the text of a JSON object."""
        return json.dumps(asdict(self), indent=1)


def from_json(text: str) -> Record | None:
    """Return the record in ``text``, or ``None`` where it is damaged."""
    try:
        loaded: dict[str, Any] = json.loads(text)
        parts = tuple(replace(PartRecord(**part), state=PartState(part["state"])) for part in loaded.pop("parts"))
        return replace(Record(**loaded), phase=Phase(loaded["phase"]), parts=parts)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def read(layout: Layout) -> Record | None:
    """Return the record of a home, or ``None`` where there is none that makes sense."""
    try:
        return from_json(layout.record.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None


def write(layout: Layout, record: Record) -> None:
    """Replace the record."""
    folders.write_private(layout.record, record.to_json(), durable=False)


def is_held(layout: Layout) -> bool:
    """Return whether a supervisor lives."""
    try:
        descriptor = os.open(layout.lock, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _lock(descriptor)
    finally:
        os.close(descriptor)


def holder(layout: Layout) -> int | None:
    """Return the pid of the supervisor that holds the lock, or ``None`` where nobody does."""
    if not is_held(layout):
        return None
    try:
        pid, created = layout.lock.read_text(encoding="ascii").split()
        return int(pid) if processes.is_alive(int(pid), float(created)) else None
    except (OSError, ValueError):
        return None


@contextmanager
def held(layout: Layout) -> Iterator[bool]:
    """Try to take the lock and keep it for the ``with`` block; give whether that worked."""
    with _opened(layout.lock) as descriptor:
        ours = _lock(descriptor)
        if ours:
            with folders.writing(layout.lock):
                os.truncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()} {processes.created(os.getpid())}\n".encode("ascii"), 0)
        yield ours


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    with folders.writing(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, folders.PRIVATE_FILE)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
