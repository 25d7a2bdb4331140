"""Downloads against real servers, with a host's limits: in one process, and in several through Postgres."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from headrace.catalogue import hosts as catalogue
from headrace.catalogue import items, migrate, orders
from headrace.catalogue.database import Database
from headrace.catalogue.orders import Wanted
from headrace.download import Downloader, Guard, Wish, turns
from headrace.errors import (
    Cancelled,
    SourceBusy,
    SourceForbidden,
    SourceNotFound,
    SourceUnavailable,
    SourceUnresolvable,
)
from headrace.hosts import HostLimits, HostRules, LocalHosts, Why
from headrace.hosts import state as states
from headrace.hosts.rules import parse
from headrace.hosts.shared import SharedHosts
from headrace.model import ItemState
from headrace.recipe import named
from headrace.source import parse as parse_source
from tasks.items import _settle
from tests.conftest import ROOT
from tests.servers import BODY, LARGE, serving

TYPED = Guard(typed_may_be_private=True)


@pytest.fixture
def database(database_url):
    migrate.upgrade(database_url)
    made = Database(database_url)
    yield made
    made.close()


@pytest.fixture
def downloader():
    """Make downloaders with a limit, whose book is their own."""
    made = []

    def make(connections=16, **rules):
        made.append(Downloader(TYPED, LocalHosts(HostRules(HostLimits(connections, **rules)))))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def shared(database):
    """Make downloaders that share a book in Postgres, as several processes would."""
    made = []

    def make(connections=16):
        hosts = SharedHosts(database, HostRules(HostLimits(connections)), beat_seconds=0.2)
        made.append((Downloader(TYPED, hosts), hosts))
        return made[-1][0]

    yield make
    for one, hosts in made:
        one.close()
        hosts.close()


def in_threads(work, count):
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))


def outcome(call):
    try:
        return call()
    except Exception as error:
        return error


# Connections


def test_many_files_share_a_hosts_connections(server, downloader, tmp_path):
    """Never more than may be; who waits goes on over a connection that is done, and makes no new one."""
    one = downloader(3)

    def fetch(number):
        for turn in range(10):
            one.fetch(Wish(server.url + "/good"), tmp_path / f"{number}-{turn}")
        return time.monotonic()

    in_threads(fetch, 12)
    assert server.most_connections <= 3
    assert server.connected <= 6
    assert all(path.read_bytes() == BODY for path in tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) == 120


def test_a_file_makes_do_with_what_its_host_may_have(server, downloader, tmp_path):
    """It doesn't wait for additional connections, and nothing fails for want of them."""
    wish = Wish(server.url + "/large/steady", connections=8)
    assert downloader(2).fetch(wish, tmp_path / "film").path.read_bytes() == LARGE
    assert server.most_connections == 2


def test_one_connection_is_enough_for_everybody(server, downloader, tmp_path):
    """The tightest limit ends nothing in a standstill: several large files, redirects, short ones, errors."""
    one = downloader(1)
    names = ["large/dated", "redirect", "good", "large/without-ranges", "unknown-length", "forbidden", "large/weak"]

    def fetch(number):
        return outcome(lambda: one.fetch(Wish(f"{server.url}/{names[number]}"), tmp_path / str(number)))

    got = in_threads(fetch, len(names))
    assert [type(one) for one in got].count(SourceForbidden) == 1
    assert sum(not isinstance(one, Exception) for one in got) == len(names) - 1
    assert server.most_connections <= 2  # a body without a length leaves httpx one that is idle


def test_a_file_that_has_several_connections_makes_room(server, downloader, tmp_path):
    """Another one of the same host begins long before the first one ends, and both are right."""
    one = downloader(4)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(one.fetch, Wish(server.url + "/large/steady", connections=4), tmp_path / "film")
        while server.open.get("/large/steady", 0) < 4:
            assert not first.done()
            time.sleep(0.01)
        one.fetch(Wish(server.url + "/good"), tmp_path / "short")
        assert not first.done()
        assert first.result().path.read_bytes() == LARGE
    assert server.most_connections <= 4


def test_who_waits_can_be_stopped(server, downloader, tmp_path):
    """Within a second."""
    one = downloader(1)
    stop, slow = threading.Event(), threading.Event()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(one.fetch, Wish(server.url + "/slow"), tmp_path / "slow", stop=slow)
        while not server.connected:
            time.sleep(0.01)
        second = pool.submit(one.fetch, Wish(server.url + "/good"), tmp_path / "good", stop=stop)
        time.sleep(0.3)
        stopped = time.monotonic()
        stop.set()
        with pytest.raises(Cancelled):
            second.result(5)
        assert time.monotonic() - stopped < 1
        slow.set()
        with pytest.raises(Cancelled):
            first.result(5)


def test_requests_keep_to_a_rate(server, downloader, tmp_path):
    """Over connections that are kept, too."""
    one, began = downloader(4, requests_per_second=10.0), time.monotonic()
    for number in range(6):
        one.fetch(Wish(server.url + "/good"), tmp_path / str(number))
    assert time.monotonic() - began >= 0.5


WORKER = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from headrace.catalogue.database import Database
from headrace.download import Downloader, Guard, Wish
from headrace.hosts import HostLimits, HostRules
from headrace.hosts.shared import SharedHosts
database_url, url, folder, limit = sys.argv[1:5]
hosts = SharedHosts(Database(database_url), HostRules(HostLimits(int(limit))), beat_seconds=0.2)
downloader = Downloader(Guard(typed_may_be_private=True), hosts)
print("ready", flush=True)
sys.stdin.readline()
def fetch(name):
    downloader.fetch(Wish(url + name, connections=4), Path(folder) / name.replace("/", "_"))
with ThreadPoolExecutor(4) as pool:
    list(pool.map(fetch, sys.argv[5:]))
downloader.close()
hosts.close()
"""


@pytest.mark.long
def test_processes_together_keep_to_the_limit_of_a_host(server, database, database_url, tmp_path):
    """Three of them, each with several files and connections: the server never sees more, and all is right."""
    names = ["/large/steady", "/large/dated", "/large/weak", "/good", "/unknown-length", "/redirect", "/breaks-once"]
    workers = []
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        argv = [sys.executable, "-c", WORKER, database_url, server.url, str(folder), "3", *names]
        workers.append(
            subprocess.Popen(
                argv,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate(timeout=120)
        assert worker.returncode == 0
    assert server.most_connections <= 3
    for path in tmp_path.rglob("*_*"):
        assert path.read_bytes() == (LARGE if "large" in path.name else BODY)
    with database.begin() as tx:
        (host,) = catalogue.find(tx)
    assert (host.connections, host.waiting, host.phase) == (0, 0, states.Phase.OK)


def test_another_workers_file_gets_its_turn(server, shared, tmp_path):
    """Though one worker has all connections and goes on for long."""
    one, other = shared(4), shared(4)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(one.fetch, Wish(server.url + "/large/steady", connections=4), tmp_path / "film")
        while server.open.get("/large/steady", 0) < 4:
            assert not first.done()
            time.sleep(0.01)
        other.fetch(Wish(server.url + "/good"), tmp_path / "short")
        assert first.result().path.read_bytes() == LARGE
    assert server.most_connections <= 4


def test_workers_that_are_done_hold_nothing(server, shared, database, tmp_path):
    """What they keep for the next request is closed soon."""
    one = shared()
    for name in ("good", "unknown-length", "large/dated"):
        one.fetch(Wish(f"{server.url}/{name}"), tmp_path / name.replace("/", "-"))
    deadline = time.monotonic() + 8
    while True:
        with database.begin() as tx:
            (host,) = catalogue.find(tx)
        if not host.connections:
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not server.connections


def test_who_waits_too_long_is_put_off(server, shared, tmp_path, monkeypatch):
    """With the host, its limit, and a time; the place it waited for is not lost."""
    monkeypatch.setattr(SharedHosts, "patience_seconds", 0.5)
    one, other = shared(1), shared(1)
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(outcome, lambda: one.fetch(Wish(server.url + "/slow"), tmp_path / "slow", stop=stop))
        while not server.connected:
            time.sleep(0.01)
        with pytest.raises(
            SourceBusy, match=rf"all 1 connections that 127.0.0.1:{server.server_port} may have"
        ) as busy:
            other.fetch(Wish(server.url + "/good"), tmp_path / "good")
        assert busy.value.retryable
        assert busy.value.evidence["retry_after_seconds"] > 0
        stop.set()
        assert isinstance(first.result(), Cancelled)
    other.fetch(Wish(server.url + "/good"), tmp_path / "good")


# Pauses


def test_a_pause_is_everybodys(server, shared, tmp_path):
    """Who was told, and another worker; what is short is waited for."""
    one, other = shared(), shared()
    server.state["pause"] = 2
    with pytest.raises(SourceUnavailable) as told:
        one.fetch(Wish(server.url + "/pausing"), tmp_path / "a")
    assert told.value.evidence["retry_after_seconds"] == 2
    before = time.monotonic()
    other.fetch(Wish(server.url + "/good"), tmp_path / "b")
    assert 1.5 < time.monotonic() - before < 5
    assert len(server.seen["/good"]) == 1


def test_a_long_pause_is_said_and_not_waited_for(server, shared, tmp_path):
    """Nothing is asked meanwhile."""
    one, other = shared(), shared()
    server.state["pause"] = 120
    with pytest.raises(SourceUnavailable):
        one.fetch(Wish(server.url + "/pausing"), tmp_path / "a")
    with pytest.raises(SourceBusy, match=r"127.0.0.1:\d+ asked for a pause \(it answers 429\): .* until \d") as busy:
        other.fetch(Wish(server.url + "/good"), tmp_path / "b")
    assert 100 < busy.value.evidence["retry_after_seconds"] <= 120
    assert "/good" not in server.seen


# The circuit


def test_a_host_that_is_away_is_left_alone_and_probed_by_one(server, downloader, tmp_path, monkeypatch):
    """Closed, open, half-open with one request of many, and closed again."""
    monkeypatch.setattr(states, "OPEN_SECONDS", 1.0)
    monkeypatch.setattr(turns, "PATIENCE_SECONDS", 0.2)
    one, server.state["down"] = downloader(), 503
    for number in range(states.FAILURES):
        with pytest.raises(SourceUnavailable):
            one.fetch(Wish(f"{server.url}/down?{number}"), tmp_path / "film")
    with pytest.raises(SourceBusy, match=r"fails again and again \(it answers 503\)"):
        one.fetch(Wish(server.url + "/good"), tmp_path / "film")
    assert "/good" not in server.seen
    time.sleep(1.1)
    asked = len(server.seen["/down"])
    got = in_threads(lambda n: outcome(lambda: one.fetch(Wish(f"{server.url}/down?{n}"), tmp_path / f"f{n}")), 10)
    assert len(server.seen["/down"]) == asked + 1
    assert sorted(type(error).__name__ for error in got) == ["SourceBusy"] * 9 + ["SourceUnavailable"]
    server.state["down"] = 0
    monkeypatch.setattr(turns, "PATIENCE_SECONDS", 10.0)
    got = in_threads(lambda n: one.fetch(Wish(server.url + "/slow-to-answer"), tmp_path / f"g{n}"), 10)
    assert len(got) == 10
    assert one.fetch(Wish(server.url + "/good"), tmp_path / "film").path.read_bytes() == BODY


def test_only_the_probe_is_on_its_way_while_it_lasts(server, downloader, tmp_path, monkeypatch):
    """The others wait for its outcome."""
    monkeypatch.setattr(states, "OPEN_SECONDS", 0.2)
    one, server.state["down"] = downloader(), 503
    for number in range(states.FAILURES):
        assert isinstance(
            outcome(lambda n=number: one.fetch(Wish(f"{server.url}/down?{n}"), tmp_path / "film")), SourceUnavailable
        )
    time.sleep(0.3)
    with ThreadPoolExecutor(8) as pool:
        going = [
            pool.submit(one.fetch, Wish(server.url + "/slow-to-answer"), tmp_path / f"g{number}") for number in range(8)
        ]
        time.sleep(0.35)
        assert len(server.seen["/slow-to-answer"]) == 1
        assert all(future.result().size_bytes == len(BODY) for future in going)


def test_no_answer_at_all_opens_the_circuit(downloader, tmp_path):
    """A port where nobody is; that takes five tries, whatever they are for."""
    with serving() as gone:
        url = gone.url
    one = downloader()
    for _ in range(states.FAILURES):
        with pytest.raises(SourceUnavailable, match="refuses connections"):
            one.fetch(Wish(url + "/film"), tmp_path / "film")
    hosts = one._session._turns._hosts
    assert hosts.enter(url.removeprefix("http://"), "p", queue=False).why is Why.OPEN


@pytest.mark.parametrize(
    ("path", "kind"), [("missing", SourceNotFound), ("forbidden", SourceForbidden), ("down", SourceUnavailable)]
)
def test_what_is_wrong_with_one_file_is_not_the_hosts(server, downloader, tmp_path, path, kind):
    """Not found, forbidden, or failing for ever: others of its host go on."""
    one, server.state["down"] = downloader(), 503
    for _ in range(2 * states.FAILURES):
        with pytest.raises(kind):
            one.fetch(Wish(f"{server.url}/{path}"), tmp_path / "film")
    assert one.fetch(Wish(server.url + "/good"), tmp_path / "good").path.read_bytes() == BODY


def test_many_bad_addresses_are_not_the_hosts_fault(server, downloader, tmp_path):
    """A server that answers 500 to each of them may answer the next one well."""
    one, server.state["down"] = downloader(), 500
    for number in range(2 * states.FAILURES):
        with pytest.raises(SourceUnavailable):
            one.fetch(Wish(f"{server.url}/down?{number}"), tmp_path / "film")
    assert one.fetch(Wish(server.url + "/good"), tmp_path / "good").path.read_bytes() == BODY


def test_a_host_that_does_not_exist_is_no_host_that_fails(downloader, tmp_path):
    """A misspelt name is said at once, however many files are wanted of it."""
    one = downloader()
    for _ in range(2 * states.FAILURES):
        with pytest.raises(SourceUnresolvable):
            one.fetch(Wish("http://does-not-exist.invalid/film"), tmp_path / "film")


def test_a_server_that_refuses_a_third_connection_is_well(server, downloader, tmp_path):
    """503 for each of them opens no circuit, and the file comes over two."""
    one = downloader()
    done = one.fetch(Wish(server.url + "/large/two-at-most", connections=16), tmp_path / "film")
    assert done.path.read_bytes() == LARGE
    assert one._session._turns._hosts.enter(server.url.removeprefix("http://"), None, queue=False) == states.GO


# Orders


def test_waiting_for_a_turn_uses_up_no_try_of_an_item(database):
    """It leaves its bundle until then; an open circuit is a try, since not all hosts come back."""
    with database.begin() as tx:
        order_id, _ = orders.create(tx, "me", [Wanted(parse_source("http://h/a.mp4"))], named("web"))
        item = items.find(tx, "me", order_id=order_id)[0]
        items.set_state(tx, item.id, ItemState.DOWNLOADING)
    house, held = SimpleNamespace(database=database), SimpleNamespace(fence=None)
    for why, attempts in ((Why.PLACE, 0), (Why.COOLING, 0), (Why.OPEN, 1)):
        busy = SourceBusy("not now", why=why.value, retry_after_seconds=45.0)
        assert _settle(house, held, item, busy, last=False) is None
        with database.begin() as tx:
            now = items.get(tx, item.id)
        assert (now.state, now.attempts) == (ItemState.QUEUED, attempts)
        assert 40 < (now.not_before - now.updated_at).total_seconds() < 50


def test_rules_reach_the_wire(server, tmp_path):
    """As an operator writes them."""
    one = Downloader(TYPED, LocalHosts(parse("127.0.0.1=1")))
    one.fetch(Wish(server.url + "/large/steady", connections=8), tmp_path / "film")
    one.close()
    assert server.most_connections == 1


def test_a_mirror_that_is_free_is_not_waited_past(server, downloader, tmp_path):
    """While the first host is left alone the file comes from the second one at once."""
    one = downloader()
    with serving() as busy:
        busy.state["pause"] = 10
        with pytest.raises(SourceUnavailable):
            one.fetch(Wish(busy.url + "/pausing"), tmp_path / "other")
        since = time.monotonic()
        one.fetch(Wish(busy.url + "/good", mirrors=(server.url + "/good",)), tmp_path / "film")
        assert time.monotonic() - since < 3
        assert "/good" not in busy.seen
    assert (tmp_path / "film").read_bytes() == BODY
