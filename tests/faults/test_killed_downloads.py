"""Downloads that are killed -9 at random moments: the right file in the end, and little comes twice.

Each file is killed once and finished by the next process. A few in `make test`, more in
`make test-long`, a thousand in `make soak`.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from pathlib import Path

import pytest

from headrace.download import Downloader, Guard, Wish, journal
from tests.servers import LARGE, Server, serving

CONTENT = LARGE[: 8 * 2**20 + 4321]
BLOCK = 2**20
IN_FLIGHT_BYTES = 128 * 1024
"""What the sockets of a connection hold: the server sends 64 KiB, then waits."""

MOST_SECONDS = 0.8
"""About as long as one download takes."""


def _fetch(url: str, destination: Path) -> None:
    downloader = Downloader(Guard(typed_may_be_private=True))
    downloader.fetch(Wish(url), destination)
    os._exit(0)  # a fork of the test has nothing to clean up


def _started(url: str, destination: Path) -> multiprocessing.process.BaseProcess:
    child = multiprocessing.get_context("fork").Process(target=_fetch, args=(url, destination))
    child.start()
    return child


def _killed(server: Server, folder: Path, name: str, moment: float) -> bool:
    """Kill one download and let another process finish it; return whether there was something to kill."""
    path, destination = f"/large/piece-of-{name}", folder / name
    child = _started(server.url + path, destination)
    time.sleep(moment)
    child.kill()
    child.join()
    if destination.exists():
        return False
    connections = server.most.get(path, 0)
    claimed = _claimed_bytes(destination)
    second = _started(server.url + path, destination)
    second.join(60)
    assert second.exitcode == 0
    assert destination.read_bytes() == CONTENT
    twice = server.sent.get(path, 0) - len(CONTENT)
    assert twice <= connections * (BLOCK + IN_FLIGHT_BYTES), (name, moment, twice, connections, claimed)
    destination.unlink()
    return True


def _claimed_bytes(destination: Path) -> int:
    found = journal.load(destination)
    return 0 if found is None else sum(length for length, _ in found.claims.values())


def _kill(folder: Path, kills: int) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    chance = random.Random(seed)
    killed = number = 0
    with serving() as server:
        while killed < kills:
            number += 1
            killed += _killed(server, folder, f"{seed}-{number}", chance.uniform(0.0, MOST_SECONDS))
            assert number < 3 * kills, "downloads end before they are killed"


def test_five_kills(tmp_path):
    """Whatever the moment, the file is right, and a block for each connection comes twice at most."""
    _kill(tmp_path, 5)


@pytest.mark.long
def test_a_hundred_kills(tmp_path):
    """The same, more often."""
    _kill(tmp_path, 100)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_kills(tmp_path):
    """The same, a thousand times: every file right."""
    _kill(tmp_path, 1000)
