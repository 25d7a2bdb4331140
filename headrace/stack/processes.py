"""Finding and ending the processes of a stack.

A process is ours if its environment carries our marker, if it descends from one that
does, or if it is a postgres that works inside our cluster's folder (postgres overwrites
its children's environment to show their titles). Never by name alone, and never
ourselves or those who started us.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path

import psutil

from headrace.stack.layout import MARKER, Layout

GRACE_SECONDS = 3.0
"""From the polite signal to SIGKILL."""
CREATED_TOLERANCE_SECONDS = 1.0
"""psutil counts a process's birth from the boot time, which it rounds."""

_GONE = (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess)


def find(layout: Layout) -> list[psutil.Process]:
    """Return every living process of the stack, without this one and its ancestors."""
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        if process.pid not in spared and _is_ours(process, layout):
            found[process.pid] = process
            with contextlib.suppress(*_GONE):
                found |= {child.pid: child for child in process.children(recursive=True) if child.pid not in spared}
    return list(found.values())


def descendants(pids: Iterable[int]) -> list[psutil.Process]:
    """Return the living processes of these pids and everything below them."""
    found: dict[int, psutil.Process] = {}
    for pid in pids:
        with contextlib.suppress(*_GONE):
            process = psutil.Process(pid)
            found |= {one.pid: one for one in (process, *process.children(recursive=True))}
    return list(found.values())


def end(processes: Iterable[psutil.Process], grace_seconds: float = GRACE_SECONDS) -> None:
    """Ask processes to end, and kill those that have not after ``grace_seconds``; return when all are gone."""
    waiting = list(processes)
    for process in waiting:
        with contextlib.suppress(*_GONE):
            process.send_signal(polite_signal(process))
    _, stubborn = psutil.wait_procs(waiting, timeout=grace_seconds)
    for process in stubborn:
        with contextlib.suppress(*_GONE):
            process.kill()
    psutil.wait_procs(stubborn, timeout=grace_seconds)


def end_all(layout: Layout) -> int:
    """End every process of the stack, the database last; return how many there were."""
    found = find(layout)
    databases = [process for process in found if _is_database(process, layout.cluster)]
    leading = {process.pid for process in databases}
    end(process for process in found if process.pid not in leading)
    masters = [process for process in databases if _parent(process) not in leading]
    end(masters)
    end(process for process in databases if process.is_running())
    # What a dying process has started in the meantime.
    late = find(layout)
    end(late)
    return len(found) + len(late)


def end_orphans_of(cluster: Path) -> None:
    """End what a killed postmaster left; its children hold the shared memory and block a restart."""
    end(process for process in psutil.process_iter() if _is_database(process, cluster))


def is_database(pid: int, cluster: Path) -> bool:
    """Return whether a pid is a living postgres of a cluster; a zombie is not."""
    try:
        return _is_database(psutil.Process(pid), cluster)
    except _GONE:
        return False


def is_alive(pid: int | None, created: float | None) -> bool:
    """Return whether this pid is still the process that was born at ``created`` (Unix time)."""
    if pid is None or created is None:
        return False
    try:
        process = psutil.Process(pid)
        alive: bool = process.status() != psutil.STATUS_ZOMBIE
        return alive and abs(process.create_time() - created) < CREATED_TOLERANCE_SECONDS
    except _GONE:
        return False


def created(pid: int) -> float | None:
    """Return when a process was born (Unix time), or ``None`` where it is gone."""
    try:
        return psutil.Process(pid).create_time()
    except _GONE:
        return None


def polite_signal(process: psutil.Process) -> signal.Signals:
    """Return what asks a process to end soon: postgres' SIGTERM would wait for its clients."""
    try:
        is_postmaster = process.name() == "postgres" and "-D" in process.cmdline()
    except _GONE:
        is_postmaster = False
    return signal.SIGINT if is_postmaster else signal.SIGTERM


def listening_on(port: int) -> str:
    """Return who listens on a port, as ``name (pid)``, or nothing where it can't be seen."""
    try:
        for connection in psutil.net_connections("tcp"):
            address = connection.laddr
            listens = connection.status == psutil.CONN_LISTEN and address and address.port == port
            if listens and connection.pid:
                return f"{psutil.Process(connection.pid).name()} ({connection.pid})"
    except _GONE:
        pass
    return ""


def _is_ours(process: psutil.Process, layout: Layout) -> bool:
    try:
        marked = process.environ().get(MARKER) == layout.id
    except (*_GONE, OSError):
        marked = False
    return marked or _is_database(process, layout.cluster)


def _is_database(process: psutil.Process, cluster: Path) -> bool:
    try:
        return process.name() == "postgres" and Path(process.cwd()) == cluster
    except (*_GONE, OSError):
        return False


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except _GONE:
        return None
