"""Progress of an order on stderr: bars on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

Show = Callable[[list[dict[str, Any]]], None]

MOST_BARS = 12
"""More would scroll; the rest is counted."""

FINAL = frozenset({"published", "stored", "failed", "cancelled"})
STAGE_SHARE = {
    "queued": (0.0, 0.0),
    "downloading": (0.0, 0.25),
    "storing": (0.25, 0.1),
    "transcoding": (0.35, 0.55),
    "publishing": (0.9, 0.1),
}
"""State → where its part of the bar begins, and how much of the bar it is: an estimate for people."""


@contextmanager
def shown(*, quiet: bool) -> Iterator[Show]:
    """Yield what shows an order's items as they are."""
    if sys.stderr.isatty() and not quiet:
        with _bars() as show:
            yield show
    elif quiet:
        yield lambda _items: None
    else:
        yield _lines()


def _lines() -> Show:
    seen: dict[str, str] = {}

    def show(items: list[dict[str, Any]]) -> None:
        for item in items:
            if seen.get(item["item_id"]) != item["state"]:
                seen[item["item_id"]] = item["state"]
                click.echo(f"{item['state']}: {item['source']}", err=True)

    return show


@contextmanager
def _bars() -> Iterator[Show]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    bars: dict[str, TaskID] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def show(items: list[dict[str, Any]]) -> None:
            working = [item for item in items if item["state"] not in FINAL or item["item_id"] in bars]
            for item in working:
                if item["item_id"] not in bars:
                    if len(bars) >= MOST_BARS:
                        continue
                    name = escape((item["title"] or item["source"])[:40])
                    bars[item["item_id"]] = progress.add_task(name, total=1.0, note="")
                progress.update(bars[item["item_id"]], completed=done(item), note=note(item))

        yield show


def done(item: dict[str, Any]) -> float:
    """Return how much of its way an item has gone, 0 to 1."""
    if item["state"] in FINAL:
        return 1.0
    start, share = STAGE_SHARE[item["state"]]
    return float(start + share * (item["percent"] or 0.0) / 100)


def note(item: dict[str, Any]) -> str:
    """Return the state, with the speed where there is one."""
    speed = item["speed"]
    if not speed or item["state"] in FINAL:
        return str(item["state"])
    if item["state"] == "transcoding":
        return f"{item['state']} {speed:.1f}×"
    return f"{item['state']} {speed / 1e6:.1f} MB/s"
