"""How commands speak: data on stdout, progress on stderr, tables only for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

P = ParamSpec("P")
R = TypeVar("R")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON Lines.")


def gateway_options(command: Callable[P, R]) -> Callable[..., R]:
    """Give a command the options that say which gateway it speaks to, as one argument ``gateway``."""

    @click.option("--home", type=click.Path(path_type=Path), envvar="HEADRACE_HOME", help="The running home.")
    @click.option("--url", default=None, help="The gateway's address.  [env: HEADRACE_URL]")
    @wraps(command)
    def wrapped(*args: Any, home: Path | None, url: str | None, **options: Any) -> R:
        from headrace import settings
        from headrace.client import Gateway

        found = settings.load(home, **({"url": url} if url else {}))
        gateway = Gateway.of(found)
        try:
            return command(*args, gateway=gateway, **options)  # type: ignore[arg-type]
        finally:
            gateway.close()

    return wrapped


def print_json(rows: Iterable[Any]) -> None:
    """Print each row as one line of JSON."""
    for row in rows:
        click.echo(json.dumps(row, default=_plain, ensure_ascii=False))


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Print rows for a person; without a terminal as text with tabs between."""
    if not rows:
        click.echo(empty, err=True)
        return
    texts = [[printable(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in texts:
            click.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in texts:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def printable(value: object) -> str:
    """Return a value as text that does nothing to a terminal; ``None`` is the empty text."""
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() else "?" for c in text)


def size(count: float | None) -> str:
    """Return a size in bytes for a person."""
    if count is None:
        return ""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:  # noqa: PLR2004 - the unit's step
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def duration(seconds: float | None) -> str:
    """Return a duration for a person, as ``m:ss`` or ``h:mm:ss``."""
    if seconds is None:
        return ""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
