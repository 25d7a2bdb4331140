"""``up``, ``down``, ``status`` and ``logs``: the embedded stack (``headrace.stack``)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headrace.cli import home_option
from headrace.cli.output import printable

if TYPE_CHECKING:
    from headrace.stack.control import Options
    from headrace.stack.record import PartRecord, Record

FOLLOW_SECONDS = 0.2
"""How often ``logs -f`` looks for new lines."""


@click.command()
@click.option("--port-base", type=click.IntRange(1, 65531), help="First of five ports.  [default: the last, or 8700]")
@click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True, help="Encodes at once.")
@click.option("--detach", is_flag=True, help="Return when it is ready, and leave it running.")
@home_option
def up(port_base: int | None, workers: int, detach: bool, home: Path | None) -> None:
    """Start the whole system on this machine: database, object store, Prefect, workers, gateway, dashboard.

    Prints where each part is, and "ready" last; then stays until Ctrl-C. One encode uses all
    cores; with two --workers the next one starts up while the last one ends. An 8K film takes
    some GB of memory: with little of it, --workers 1.
    """
    from headrace.settings import default_home
    from headrace.stack import control

    options = control.Options(home or default_home(), port_base, workers)
    if detach:
        bring_up(options)
        click.echo("ready")
        return
    supervised = control.up(options, _Progress().show, once=lambda: click.echo("ready"))
    if not supervised:
        click.echo("It runs already; `headrace down` stops it.", err=True)
        click.echo("ready")


def bring_up(options: Options) -> None:
    """Start the stack in the background, showing each part as it comes up; return when it is ready."""
    from headrace.stack import control

    control.up_detached(options, _Progress().show)


@click.command()
@home_option
def down(home: Path | None) -> None:
    """Stop everything that `headrace up` started, and end whatever is left of it."""
    from headrace.settings import default_home
    from headrace.stack import control

    was = control.status(home or default_home())
    ended = control.down(home or default_home())
    click.echo("stopped" if was.parts or ended else "not running", err=True)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@home_option
def status(as_json: bool, home: Path | None) -> int:
    """Show the parts of the running system; the exit status is 0 when all are up, else 1.

    Below them the hosts that sources are read from and that must be left alone for a while.
    """
    from headrace.settings import default_home
    from headrace.stack import control
    from headrace.stack.record import PartState, Phase

    known = control.status(home or default_home())
    good = known.phase is Phase.READY and all(part.state in {PartState.UP, PartState.DONE} for part in known.parts)
    troubled = _hosts_in_trouble(home, known)
    if as_json:
        click.echo(json.dumps({**_as_json(known, good=good), "hosts": troubled}))
    elif not known.parts:
        click.echo("not running" + (f": {known.message}" if known.message else ""))
    else:
        _table(known)
        _host_lines(troubled)
    return 0 if good else 1


@click.command()
@click.argument("part", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is logged from now on.")
@home_option
def logs(part: str | None, follow: bool, home: Path | None) -> None:
    """Show what the parts have logged, each line after its part's name."""
    from headrace.settings import default_home
    from headrace.stack import control

    where = home or default_home()
    read_to: dict[str, int] = {}
    while True:
        for name, file in control.logs(where, part).items():
            size = file.stat().st_size
            begin = read_to.get(name, 0)
            with file.open("rb") as log:
                log.seek(begin if begin <= size else 0)  # it was rotated
                whole, _, _ = log.read().rpartition(b"\n")
            read_to[name] = (begin if begin <= size else 0) + (len(whole) + 1 if whole else 0)
            for line in whole.decode("utf-8", "replace").splitlines():
                click.echo(f"{name}: {line}")
        if not follow:
            return
        time.sleep(FOLLOW_SECONDS)


class _Progress:
    """Prints each part once, when it is up."""

    def __init__(self) -> None:
        self._printed: set[str] = set()
        self._line = _printer()

    def show(self, now: Record) -> None:
        """Print the parts that have come up since the last record."""
        for part in now.parts:
            if part.state == "up" and part.name not in self._printed:
                self._printed.add(part.name)
                self._line(part.name, part.url)


def _printer() -> Callable[[str, str], None]:
    if not sys.stdout.isatty():
        return lambda name, url: click.echo(f"{name:<10} {url}".rstrip())
    from rich.console import Console  # honours NO_COLOR

    console = Console(highlight=False)
    return lambda name, url: console.print(f"[green]✓[/] [bold]{name:<10}[/] [cyan]{url}[/]", soft_wrap=True)


def _as_json(known: Record, *, good: bool) -> dict[str, object]:
    now = time.time()
    return {
        "up": good,
        "phase": known.phase,
        "message": known.message,
        "hint": known.hint,
        "supervisor_pid": known.supervisor_pid,
        "parts": {
            part.name: {
                "state": part.state,
                "pid": part.pid,
                "url": part.url or None,
                "uptime_seconds": _uptime(part, now),
                "restarts": part.restarts,
                "message": part.message,
            }
            for part in known.parts
        },
    }


def _hosts_in_trouble(home: Path | None, known: Record) -> list[dict[str, Any]] | None:
    """Return what the gateway says of hosts that aren't well; ``None`` where it can't be asked."""
    from headrace import settings
    from headrace.client import Gateway
    from headrace.errors import HeadraceError

    url = next((part.url for part in known.parts if part.name == "gateway" and part.state == "up"), None)
    if url is None:
        return None
    try:
        gateway = Gateway.of(settings.load(home, url=url))
        return [host for host in gateway.get("/v1/hosts") if host["state"] != "ok"]
    except HeadraceError as error:
        click.echo(f"headrace: the hosts can't be asked for: {error.message}", err=True)
        return None


def _host_lines(troubled: list[dict[str, Any]] | None) -> None:
    for host in troubled or []:
        until = f" until {host['until'][11:19]} UTC" if host["until"] else ""
        click.echo(f"{'host':<10}  {host['state']:<10}  {printable(host['host'])}{until}: {printable(host['reason'])}")


def _table(known: Record) -> None:
    now = time.time()
    for part in known.parts:
        uptime = _uptime(part, now)
        shown = f"{uptime:.0f} s" if uptime is not None else ""
        words = (f"{part.name:<10}", f"{part.state:<10}", f"{part.pid or '':>8}", f"{shown:>9}", f"{part.restarts:>3}")
        click.echo("  ".join((*words, part.url or part.message)).rstrip())
        if part.message and part.url:
            click.echo(f"  {part.message}")
    if known.message:
        click.echo(f"{known.message} {known.hint}".rstrip())


def _uptime(part: PartRecord, now: float) -> float | None:
    return round(now - part.started, 1) if part.pid and part.started else None
