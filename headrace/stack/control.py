"""``up``, ``down``, ``status`` and ``logs``: what the command line asks of a stack.

``up`` holds the lock while it supervises. With ``detach`` a daemon does, and ``up`` only
watches its record until it is ready; a pipe carries the daemon's failure, since the
record can't be written when the disk is full.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

import headrace
from headrace.errors import DiskFull, HeadraceError, StackError
from headrace.stack import credentials, folders, health, parts, postgres, processes, record, supervisor
from headrace.stack.layout import MARKER, Layout, Ports
from headrace.stack.record import PartRecord, PartState, Phase, Record

START_PATIENCE_SECONDS = 180.0
"""How long ``up --detach`` waits for its daemon: each part has its own, shorter limit."""
DOWN_PATIENCE_SECONDS = 30.0
LOOK_SECONDS = 0.05
LOG_AT_START_BYTES = 5 * 1024 * 1024
"""A log that is longer than this when the stack starts moves to ``.1``."""

Show = Callable[[Record], None]
"""Gets each new record while a stack starts."""


@dataclass(frozen=True, slots=True)
class Options:
    """What ``up`` was asked for; ``port_base=None`` means the home's last one."""

    home: Path
    port_base: int | None = None
    encodes: int = 2


def layout_of(home: Path) -> Layout:
    """Return the layout of a home, with symbolic links followed: it is one home, however it is named."""
    return Layout(home.expanduser().resolve(), as_root=os.geteuid() == 0)


def up(options: Options, show: Show, *, once: Callable[[], None] = lambda: None) -> bool:
    """Supervise the stack of a home in this process until SIGTERM, SIGINT or SIGHUP.

    ``once`` is called when it is ready. Returns ``False``, at once, where another
    supervisor has it (after it is ready). Raises ``StackError`` or ``DiskFull``.
    """
    layout = layout_of(options.home)
    folders.prepare_home(layout.home)
    while True:
        with record.held(layout) as ours:
            if ours:
                _supervise(layout, options, show, once)
                return True
        if _join(layout, show):
            return False


def up_detached(options: Options, show: Show) -> None:
    """Start a daemon that supervises the stack, and return when it is ready; raises as ``up`` does."""
    layout = layout_of(options.home)
    folders.prepare_home(layout.home)
    while record.is_held(layout):
        if _join(layout, show):
            return
    folders.private_folder(layout.logs)
    supervisor.rotate(layout.log("supervisor"), LOG_AT_START_BYTES)
    ours, theirs = os.pipe()
    command = [sys.executable, "-m", "headrace.stack", str(layout.home), str(theirs), str(options.encodes)]
    command += [str(options.port_base)] if options.port_base is not None else []
    # Unmarked, like an `up` in the foreground: the lock tells who supervises, and of two
    # daemons that start at once the first must not take the second for a leftover.
    environment = {key: value for key, value in os.environ.items() if key != MARKER}
    if (source := source_folder()) is not None:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(source), environment.get("PYTHONPATH"))))
    with folders.writing(layout.logs), layout.log("supervisor").open("ab") as log:
        daemon = subprocess.Popen(  # noqa: S603 - an argv list, never a shell
            command,
            env=environment,
            cwd=layout.home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(theirs,),
        )
    os.close(theirs)
    _await(layout, daemon, ours, show)


def serve_detached(options: Options, report: int) -> int:
    """Be the daemon of ``up_detached``: supervise, and say through ``report`` (a pipe) how the start went."""

    def answer(outcome: dict[str, str]) -> None:
        nonlocal report
        if report >= 0:
            os.write(report, json.dumps(outcome).encode())
            os.close(report)
            report = -1

    os.set_inheritable(report, False)
    try:
        up(options, lambda _: None, once=lambda: answer({}))
        answer({})
    except HeadraceError as error:
        sys.stderr.write(f"{error.message}\n")
        answer({"code": error.code, "message": error.message, "hint": error.hint})
        return 1
    return 0


def down(home: Path) -> int:
    """Stop the stack of a home and whatever it left; return how many leftovers had to be ended.

    Raises ``StackError`` where the supervisor can't be stopped.
    """
    layout = layout_of(home)
    for sign in (signal.SIGTERM, signal.SIGKILL):
        if record.is_held(layout):
            _signal_supervisor(layout, sign)
        deadline = time.monotonic() + DOWN_PATIENCE_SECONDS
        while record.is_held(layout) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
    ended = processes.end_all(layout)
    if layout.record.exists():
        record.write(layout, Record(Phase.STOPPED))
    return ended


def status(home: Path) -> Record:
    """Return what is known of the stack of a home, corrected by what is seen to live."""
    layout = layout_of(home)
    known = record.read(layout)
    if known is None:
        return Record(Phase.STOPPED)
    if record.is_held(layout):
        return known
    left = tuple(_as_seen(part) for part in known.parts)
    if not any(part.pid for part in left):
        return Record(Phase.FAILED if known.phase is Phase.FAILED else Phase.STOPPED, message=known.message)
    return Record(
        Phase.FAILED,
        started=known.started,
        message="the supervisor was killed; nobody restarts what dies now",
        hint="Run `headrace up` again, or `headrace down`.",
        parts=left,
    )


def logs(home: Path, part: str | None) -> dict[str, Path]:
    """Return the log files of a stack by part, of one part or of all; raises ``StackError`` for an unknown one."""
    layout = layout_of(home)
    found = {file.stem: file for file in sorted(layout.logs.glob("*.log"))}
    if part is None:
        return found
    if part not in found:
        raise StackError(f"no log of {part!r} in {layout.logs}", hint=f"There are: {', '.join(found) or 'none'}.")
    return {part: found[part]}


def source_folder() -> Path | None:
    """Return the clone that the package runs from, or ``None`` when it is installed as a wheel."""
    root = Path(headrace.__file__).resolve().parent.parent
    return None if root.name in {"site-packages", "dist-packages"} else root


def _supervise(layout: Layout, options: Options, show: Show, once: Callable[[], None]) -> None:
    told = False

    def changed(now: Record) -> None:
        nonlocal told
        record.write(layout, now)
        show(now)
        if now.phase is Phase.READY and not told:
            told = True
            once()

    try:
        planned = _prepare(layout, options)
    except HeadraceError as error:
        _leave_note(layout, error)
        raise
    boss = supervisor.Supervisor(layout, planned, changed)
    for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(sign) is not signal.SIG_IGN:  # as under nohup
            signal.signal(sign, boss.stop)
    boss.run()


def _prepare(layout: Layout, options: Options) -> tuple[parts.Part, ...]:
    """Do everything that comes before the first process, and return the plan."""
    record.write(layout, Record(Phase.STARTING, os.getpid(), time.time()))
    processes.end_all(layout)
    folders.check_free_space(layout.home, layout.postgres)
    found = credentials.read(layout)
    if not found and not layout.objects.exists():
        postgres.set_aside(layout)  # root's database lives outside the home, and outlived one that was removed
    existing = layout.cluster if layout.cluster.exists() else None
    secrets = credentials.complete(found, cluster=existing, settings=layout.settings)
    ports = Ports(credentials.port_base(options.port_base, found))
    settings = credentials.settings_for(secrets, ports)
    for folder in (layout.logs, layout.prefect):
        folders.private_folder(folder)
    folders.empty_private_folder(layout.temporary)
    source = source_folder()
    dashboard = _script("dashboard", source)
    site = parts.Site(layout, ports, secrets, settings, dict(os.environ), source, dashboard, options.encodes)
    credentials.save(layout, found, settings)
    planned = parts.plan(site, postgres.prepare(layout, secrets.postgres_password))
    for part in planned:
        supervisor.rotate(layout.log(part.name), LOG_AT_START_BYTES)
        if part.port is not None and not health.is_free(part.port):
            raise _busy(part.name, part.port)
    return planned


def _busy(part: str, port: int) -> StackError:
    by = processes.listening_on(port)
    return StackError(
        f"{part} can't have port {port}: it is used by {by or 'another program'}",
        hint="Stop that program, or choose other ports with --port-base N (five in a row).",
    )


def _script(package: str, source: Path | None) -> Path | None:
    """Return ``app.py`` of a package without importing it, or ``None`` where there is none."""
    spec = PathFinder.find_spec(package, [str(source), *sys.path] if source else sys.path)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(place) / "app.py").is_file():
            return Path(place) / "app.py"
    return None


def _settled(part: PartRecord) -> bool:
    """Return whether a part is up (not: was up, until a moment ago); raises for one that was given up."""
    if part.state is PartState.FAILED:
        raise StackError(
            f"{part.name} ends again and again: {part.message}",
            hint=f"`headrace logs {part.name}` says why; then `headrace down` and `headrace up`.",
        )
    return part.state is PartState.DONE or (part.state is PartState.UP and processes.is_alive(part.pid, part.created))


def _join(layout: Layout, show: Show) -> bool:
    """Wait until all parts of another supervisor's stack are up; ``False`` when that one has gone."""
    deadline = time.monotonic() + START_PATIENCE_SECONDS
    while record.is_held(layout):
        known = record.read(layout)
        if known is not None and known.phase in {Phase.READY, Phase.STARTING}:
            show(known)
            if known.phase is Phase.READY and all(_settled(part) for part in known.parts):
                return True
        if time.monotonic() > deadline:
            raise StackError(
                f"another `headrace up` holds {layout.lock} and does not get ready", hint="Run `headrace down` first."
            )
        time.sleep(LOOK_SECONDS)
    return False


def _await(layout: Layout, daemon: subprocess.Popen[bytes], report: int, show: Show) -> None:
    """Show the daemon's progress until it reports; raise what it reports."""
    os.set_blocking(report, False)
    said = b""
    try:
        while True:
            known = record.read(layout)
            if known is not None and known.supervisor_pid == daemon.pid:
                show(known)
            try:
                piece = os.read(report, 65536)
            except BlockingIOError:
                time.sleep(LOOK_SECONDS)
                continue
            if not piece:
                break
            said += piece
    finally:
        os.close(report)
    outcome = json.loads(said) if said else {"message": "the supervisor died", "hint": ""}
    if outcome:
        hint = outcome["hint"] or f"See {layout.log('supervisor')}."
        kind = DiskFull if outcome.get("code") == DiskFull.code else StackError
        raise kind(outcome["message"], hint=hint)


def _signal_supervisor(layout: Layout, sign: signal.Signals) -> None:
    pid = record.holder(layout)
    if pid is not None:
        os.kill(pid, sign)
    elif record.is_held(layout):
        raise StackError(
            f"{layout.lock} is held, but it does not say by whom",
            hint="End that `headrace up` with Ctrl-C; `fuser` on the file tells its pid.",
        )


def _leave_note(layout: Layout, error: HeadraceError) -> None:
    try:
        record.write(layout, Record(Phase.FAILED, message=error.message, hint=error.hint))
    except (StackError, DiskFull):
        return  # the error itself says what is wrong


def _as_seen(part: PartRecord) -> PartRecord:
    if processes.is_alive(part.pid, part.created):
        return part
    return PartRecord(part.name, PartState.STOPPED, part.url, restarts=part.restarts)
