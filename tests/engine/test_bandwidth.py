"""Limits of bandwidth: smooth, shared, changeable, and noticed by a stop."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from headrace.download import Bandwidth, Downloader, Guard, Wish
from headrace.errors import Cancelled
from tests.servers import LARGE, serving

MIB = 2**20
NEVER = threading.Event()


def fetch(url: str, destination: Path, limit: Bandwidth, stop: threading.Event | None = None) -> float:
    """Return how many seconds a download took."""
    downloader = Downloader(Guard(typed_may_be_private=True))
    since = time.monotonic()
    try:
        downloader.fetch(Wish(url, limits=(limit,)), destination, stop=stop)
    finally:
        downloader.close()
    return time.monotonic() - since


def test_no_limit_costs_nothing():
    """Without a limit nobody waits, and reads are as large as they were."""
    limit = Bandwidth()
    assert limit.read_bytes(MIB) == MIB
    since = time.monotonic()
    limit.pay(10**12, NEVER)
    assert time.monotonic() - since < 0.1


def test_reads_are_small_on_a_slow_line():
    """A quarter of a second's worth, but no single bytes."""
    assert Bandwidth(100_000).read_bytes(MIB) == 25_000
    assert Bandwidth(10).read_bytes(MIB) == 4096


def test_what_was_not_used_is_not_saved_up():
    """After a long pause only a short burst is free."""
    limit = Bandwidth(1_000_000)
    time.sleep(0.6)
    since = time.monotonic()
    limit.pay(1_000_000, NEVER)
    assert 0.6 < time.monotonic() - since < 0.95


def test_a_download_keeps_to_its_limit(tmp_path):
    """All connections of it together."""
    with serving() as server:
        seconds = fetch(f"{server.url}/large/good", tmp_path / "film", Bandwidth(12 * MIB))
    assert (tmp_path / "film").read_bytes() == LARGE
    assert 1.5 < seconds < 4


def test_two_downloads_share_a_limit(tmp_path):
    """Both together are as fast as the limit."""
    limit, took = Bandwidth(24 * MIB), []
    with serving() as server:

        def one(name: str) -> None:
            took.append(fetch(f"{server.url}/large/good", tmp_path / name, limit))

        threads = [threading.Thread(target=one, args=(name,)) for name in ("one", "two")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(took) == 2
    assert 1.5 < max(took) < 4


def test_a_limit_may_be_lifted_while_a_download_runs(tmp_path):
    """The rest comes at full speed."""
    limit = Bandwidth(MIB)
    threading.Timer(1.0, limit.change, args=(None,)).start()
    with serving() as server:
        assert fetch(f"{server.url}/large/good", tmp_path / "film", limit) < 8


def test_a_stop_is_noticed_while_bytes_are_paid_for(tmp_path):
    """Nobody waits for a slow line to be stopped."""
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    with serving() as server:
        since = time.monotonic()
        with pytest.raises(Cancelled):
            fetch(f"{server.url}/large/good", tmp_path / "film", Bandwidth(1000), stop)
        assert time.monotonic() - since < 4
