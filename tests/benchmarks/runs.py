"""Commands side by side: each in turn, several rounds, medians and ratios."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """What one run of a command cost, its children included."""

    wall_seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Contender:
    """A command under a name; ``before`` clears what its last run left."""

    name: str
    argv: Sequence[str]
    before: Callable[[], None]
    check: Callable[[], None]
    """Raises where the result isn't right: a wrong answer has no time."""


def headrace(*words: str) -> list[str]:
    """Return the argv of ``headrace WORDS`` in this environment."""
    return [sys.executable, "-m", "headrace.cli", *words]


def program(name: str) -> str | None:
    """Return a peer's path, or ``None`` where it isn't installed."""
    return shutil.which(name) or (f"/usr/sbin/{name}" if os.access(f"/usr/sbin/{name}", os.X_OK) else None)


def measure(argv: Sequence[str]) -> Run:
    """Run a command once; raises where it fails."""
    started = time.monotonic()
    child = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert child.stderr is not None
    said = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    child.stderr.close()
    if child.returncode != 0:
        raise RuntimeError(f"{argv[0]} ended with {child.returncode}: {said.decode(errors='replace')[-500:]}")
    return Run(time.monotonic() - started, usage.ru_utime + usage.ru_stime)


def compare(title: str, contenders: Sequence[Contender], rounds: int, *, warm: bool = False) -> dict[str, list[Run]]:
    """Run the contenders in turn, and print medians and the ratios of the first one to the others.

    Where it is ``warm`` each run comes right after one of the same command that isn't counted, and finds the memory
    that this has given back: in a virtual machine who touches a page first pays for it.
    """
    runs: dict[str, list[Run]] = {one.name: [] for one in contenders}
    for number in range(rounds):
        for one in (*contenders[number % len(contenders) :], *contenders[: number % len(contenders)]):
            one.before()
            os.sync()  # what the last one left for the disk to do isn't this one's
            if warm:
                measure(one.argv)
                one.before()
            runs[one.name].append(measure(one.argv))
            one.check()
            one.before()
    print(f"\n{title} ({rounds} rounds, medians; min-max in brackets)")
    first = runs[contenders[0].name]
    for one in contenders:
        mine = runs[one.name]
        walls = [run.wall_seconds for run in mine]
        line = f"  {one.name:<28}{statistics.median(walls):7.2f} s [{min(walls):.2f}-{max(walls):.2f}]"
        line += f"  CPU {_median(mine, 'cpu_seconds'):6.2f} s"
        if mine is not first:
            wall = _median(first, "wall_seconds") / _median(mine, "wall_seconds")
            cpu = _median(first, "cpu_seconds") / _median(mine, "cpu_seconds")
            line += f"  headrace is {wall:.2f} x its wall, {cpu:.2f} x its CPU"
        print(line, flush=True)
    return runs


def _median(runs: Sequence[Run], name: str) -> float:
    return statistics.median(getattr(run, name) for run in runs)
