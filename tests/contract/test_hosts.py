"""The contract of the book of hosts: in memory and in Postgres it is kept alike."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from headrace.catalogue import hosts as catalogue
from headrace.catalogue import migrate
from headrace.catalogue.database import Database
from headrace.errors import CatalogueUnavailable, NotFound
from headrace.hosts import Go, HostLimits, HostRules, LocalHosts, Wait, Why
from headrace.hosts import state as states
from headrace.hosts.rules import parse
from headrace.hosts.shared import SharedHosts
from headrace.hosts.state import FAILURES, Phase
from tests.conftest import ROOT

HOST = "archive.org:443"
TWO = HostRules(HostLimits(2))


@pytest.fixture
def database(database_url):
    migrate.upgrade(database_url)
    made = Database(database_url)
    yield made
    made.close()


@pytest.fixture(params=["local", "shared"])
def book(request, monkeypatch):
    """Make books with given rules; those of one test share what they know, as far as they can."""
    monkeypatch.setattr(states, "OPEN_SECONDS", 0.4)
    made = []

    def make(rules=TWO):
        if request.param == "local":
            made.append(LocalHosts(rules))
        else:
            made.append(SharedHosts(request.getfixturevalue("database"), rules, beat_seconds=0.1))
        return made[-1]

    yield make
    for one in made:
        one.close()


def wants(book, place="p", host=HOST, *, queue=False):
    """Return why a new connection has to wait, or ``None``."""
    decision = book.enter(host, place, queue=queue)
    return decision.why if isinstance(decision, Wait) else None


def break_down(book, host=HOST, times=FAILURES):
    for _ in range(times):
        book.failed(host, "it refuses connections")


def test_a_host_has_so_many_connections(book):
    """One more waits until one is given back; another host has its own."""
    hosts = book()
    assert [wants(hosts, name) for name in "abc"] == [None, None, Why.PLACE]
    assert wants(hosts, "other", "other.org:443") is None
    hosts.leave(HOST, "a")
    assert wants(hosts, "c") is None
    assert wants(hosts, "d") is Why.PLACE


def test_a_request_over_a_connection_needs_no_place(book):
    """However many are in use."""
    hosts = book()
    assert [wants(hosts, name) for name in "ab"] == [None, None]
    assert hosts.enter(HOST, None, queue=False) == Go()


def test_who_waits_is_served_in_the_order_of_coming(book):
    """A newcomer doesn't go before them, and who gives up leaves no gap."""
    hosts = book()
    assert [wants(hosts, name) for name in "ab"] == [None, None]
    assert [wants(hosts, name, queue=True) for name in "cde"] == [Why.PLACE] * 3
    hosts.leave(HOST, "a")
    assert [wants(hosts, name, queue=True) for name in "fed"] == [Why.PLACE] * 3
    hosts.leave(HOST, "c")
    assert wants(hosts, "e", queue=True) is Why.PLACE
    assert wants(hosts, "d", queue=True) is None


def test_giving_back_what_one_has_not_does_nothing(book):
    """Twice, or never had."""
    hosts = book()
    assert [wants(hosts, name) for name in "ab"] == [None, None]
    for name in ("x", "a", "a"):
        hosts.leave(HOST, name)
    assert [wants(hosts, name) for name in "cd"] == [None, Why.PLACE]


def test_the_last_place_is_given_once(book):
    """To whoever of twenty comes first."""
    hosts = book()
    with ThreadPoolExecutor(20) as pool:
        got = list(pool.map(lambda number: wants(hosts, f"p{number}"), range(20)))
    assert got.count(None) == 2


def test_a_pause_that_a_host_asks_for_is_kept(book):
    """By new connections and those that are there; then all is well again."""
    hosts = book()
    assert wants(hosts, "a") is None
    hosts.failed(HOST, "it answers 429", retry_after_seconds=0.3)
    waits = [hosts.enter(HOST, None, queue=False), hosts.enter(HOST, "b", queue=True)]
    assert [(wait.why, wait.detail) for wait in waits] == [(Why.COOLING, "it answers 429")] * 2
    assert all(0 < wait.seconds <= 0.3 for wait in waits)
    hosts.succeeded(HOST)  # what was under way doesn't end the pause
    assert wants(hosts, "b") is Why.COOLING
    time.sleep(0.3)
    assert wants(hosts, "b") is None
    hosts.succeeded(HOST)
    assert hosts.enter(HOST, None, queue=False) == Go()


def test_failures_in_a_row_open_the_circuit_and_a_success_between_does_not(book):
    """Five of them; four, an answer, and four are none."""
    hosts = book()
    for _ in range(2):
        assert wants(hosts, "a") is None
        break_down(hosts, times=FAILURES - 1)
        hosts.succeeded(HOST)
        hosts.leave(HOST, "a")
    assert wants(hosts, "a") is None
    break_down(hosts)
    refused = hosts.enter(HOST, "b", queue=True)
    assert (refused.why, refused.detail) == (Why.OPEN, "it refuses connections")
    assert wants(hosts, "c", "other.org:443") is None


def test_one_file_that_fails_is_no_failure_of_its_host(book):
    """However often it is tried; five of them are."""
    hosts = book()
    for _ in range(20):
        hosts.failed(HOST, "it answers 500", of="one")
    assert wants(hosts, "a") is None
    for name in ("two", "three", "four", "five"):
        hosts.failed(HOST, "it answers 500", of=name)
    assert wants(hosts, "b") is Why.OPEN


def test_a_probe_decides(book):
    """Its failure keeps everybody out, for twice as long; its success lets all in."""
    hosts = book(HostRules(HostLimits(100)))
    break_down(hosts)
    time.sleep(0.45)
    assert [wants(hosts, name, queue=True) for name in "ab"] == [None, Why.PROBE]
    break_down(hosts, times=1)
    refused = hosts.enter(HOST, "b", queue=True)
    assert refused.why is Why.OPEN
    assert 0.4 < refused.seconds <= 0.8
    time.sleep(0.85)
    assert [wants(hosts, name, queue=True) for name in "cd"] == [None, Why.PROBE]
    hosts.succeeded(HOST)
    assert [wants(hosts, f"p{number}", queue=True) for number in range(20)] == [None] * 20


def test_one_of_many_who_ask_at_once_is_the_probe(book):
    """The race itself."""
    hosts = book(HostRules(HostLimits(100)))
    break_down(hosts)
    time.sleep(0.45)
    with ThreadPoolExecutor(20) as pool:
        got = list(pool.map(lambda number: wants(hosts, f"p{number}", queue=True), range(20)))
    assert sorted(map(str, got)) == ["None"] + ["probe"] * 19


def test_an_additional_connection_never_probes(book):
    """Its failure says nothing about the host, so nobody would hear of it."""
    hosts = book()
    break_down(hosts)
    time.sleep(0.45)
    assert [wants(hosts, "a"), wants(hosts, "b", queue=True)] == [Why.PROBE, None]


def test_a_prober_that_dies_blocks_nobody_for_ever(book, monkeypatch):
    """The right to probe is a lease."""
    monkeypatch.setattr(states, "PROBE_SECONDS", 0.3)
    hosts = book()
    break_down(hosts)
    time.sleep(0.45)
    assert [wants(hosts, name, queue=True) for name in "ab"] == [None, Why.PROBE]
    time.sleep(0.35)
    assert wants(hosts, "b", queue=True) is None


def test_requests_keep_to_the_rate(book):
    """Each is told how long to wait, and has its time booked; what is too far ahead is not."""
    hosts = book(parse(f"{HOST}=2@5/s"))
    pauses = [hosts.enter(HOST, None, queue=False).pause_seconds for _ in range(6)]
    assert pauses[0] == 0
    assert pauses[-1] == pytest.approx(1.0, abs=0.2)
    slow = book(parse("slow.org=2@1/min"))
    assert slow.enter("slow.org:80", None, queue=False) == Go()
    assert slow.enter("slow.org:80", None, queue=False).why is Why.RATE


# Several processes, which only the book in Postgres has


@pytest.fixture
def two(database):
    """Two processes' books, with short leases."""
    books = [SharedHosts(database, TWO, lease_seconds=1.0, beat_seconds=0.1) for _ in range(2)]
    yield books
    for one in books:
        one.close()


def test_processes_share_places_pauses_and_circuits(two):
    """What one of them is told holds for the other."""
    one, other = two
    assert [wants(one, "a"), wants(other, "b"), wants(one, "c"), wants(other, "d")] == [None, None] + [Why.PLACE] * 2
    one.failed(HOST, "it answers 503", retry_after_seconds=60)
    assert wants(other, "d") is Why.COOLING
    deadline = time.monotonic() + 5
    while (
        other.enter(HOST, None, queue=False) == Go()
    ):  # it has a connection, and learns of the pause from its heartbeat
        assert time.monotonic() < deadline
        time.sleep(0.05)
    break_down(one, "b.org:80")
    assert wants(other, "e", "b.org:80") is Why.OPEN


def test_processes_share_a_rate(database):
    """Two that ask in turn are booked one after the other."""
    books = [SharedHosts(database, parse(f"{HOST}=9@5/s"), lease_seconds=1.0, beat_seconds=0.1) for _ in range(2)]
    since = time.monotonic()
    due = [books[number % 2].enter(HOST, None, queue=False).pause_seconds + time.monotonic() for number in range(6)]
    for one in books:
        one.close()
    assert 0.95 < due[-1] - since < 5


def test_a_place_is_held_as_long_as_its_process_lives(two):
    """Longer than a lease, too."""
    one, other = two
    assert [wants(one, name) for name in "ab"] == [None, None]
    time.sleep(1.5)
    assert wants(other, "c") is Why.PLACE
    one.close()
    assert wants(other, "c") is None


def test_a_process_learns_that_others_wait(two):
    """Until it has given them a place."""
    one, other = two
    assert [wants(one, name) for name in "ab"] == [None, None]
    assert not one.wanted(HOST)
    assert wants(other, "c", queue=True) is Why.PLACE
    deadline = time.monotonic() + 5
    while not one.wanted(HOST):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    one.leave(HOST, "a")
    assert not one.wanted(HOST)
    assert wants(other, "c", queue=True) is None


def test_what_is_idle_is_closed_at_the_heartbeat(two):
    """Which goes on as long as something is held, and begins again."""
    one, _ = two
    called = threading.Event()
    stop = one.each_beat(called.set)
    for name in "ab":
        assert wants(one, name) is None
        assert called.wait(5)
        one.leave(HOST, name)
        time.sleep(0.3)
        called.clear()
    stop()


KILLED = """
import sys, time
from headrace.catalogue.database import Database
from headrace.hosts import HostLimits, HostRules
from headrace.hosts.shared import SharedHosts
hosts = SharedHosts(Database(sys.argv[1]), HostRules(HostLimits(2)), lease_seconds=2.0, beat_seconds=0.2)
for name in "ab":
    hosts.enter(sys.argv[2], "killed-" + name, queue=False)
print("in", flush=True)
time.sleep(60)
"""


def test_a_process_that_is_killed_loses_its_places_with_their_leases(two, database_url):
    """Not before, and not much later."""
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, database_url, HOST],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "in\n"
    time.sleep(2.5)
    assert wants(two[0], "c") is Why.PLACE
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert wants(two[0], "c") is Why.PLACE
    killed, deadline = time.monotonic(), time.monotonic() + 5
    while wants(two[0], "c") is Why.PLACE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert 1.0 < time.monotonic() - killed < 3.0


def test_places_of_this_machines_last_run_are_given_back(two, database):
    """When it is known that none of its processes lives."""
    assert [wants(two[0], name) for name in "ab"] == [None, None]
    with database.begin() as tx:
        holder = two[0]._holder
        assert catalogue.release_machine(tx, "another") == 0
        assert catalogue.release_machine(tx, holder.split("/")[0]) == 2
    assert wants(two[1], "c") is None


def test_the_operator_sees_who_is_in_trouble_first_and_may_reset_it(two, database):
    """With the reason and the time; an unknown host is not found."""
    one, _ = two
    assert wants(one, "a", "well.org:443") is None
    break_down(one)
    one.failed("busy.org:443", "it answers 429", retry_after_seconds=60)
    with database.begin() as tx:
        found = catalogue.find(tx)
        phases = {host.host: (host.phase, host.connections, host.until is not None, host.why) for host in found}
        assert phases == {
            HOST: (Phase.OPEN, 0, True, "it refuses connections"),
            "busy.org:443": (Phase.COOLING, 0, True, "it answers 429"),
            "well.org:443": (Phase.OK, 1, False, ""),
        }
        assert found[-1].host == "well.org:443"
        catalogue.reset(tx, HOST)
        with pytest.raises(NotFound):
            catalogue.reset(tx, "unknown.org:1")
    assert wants(one, "b") is None


def test_hosts_that_are_well_and_unused_are_forgotten_after_a_day(two, database):
    """Others are not."""
    from sqlalchemy import text

    for host in ("old.org:1", "held.org:1", "new.org:1"):
        assert wants(two[0], host, host) is None
    two[0].leave("old.org:1", "old.org:1")
    with database.begin() as tx:
        tx.execute(text("UPDATE hosts SET used_at = now() - interval '2 days' WHERE host <> 'new.org:1'"))
        assert catalogue.sweep(tx) == 1
        assert {host.host for host in catalogue.find(tx)} == {"held.org:1", "new.org:1"}


def test_while_postgres_is_away_nothing_is_begun_and_nothing_breaks(database):
    """What was done already is not failed by it."""
    away = SharedHosts(Database("postgresql+psycopg2://nobody@127.0.0.1:9/none"), TWO)
    with pytest.raises(CatalogueUnavailable):
        away.enter(HOST, "a", queue=True)
    assert away.enter(HOST, None, queue=False) == Go()
    away.failed(HOST, "it refuses connections")
    away.succeeded(HOST)
    away.leave(HOST, "a")
    away.close()


def test_what_is_written_is_read_back(database):
    """Every field of a host's state, to the microsecond."""
    state = states.HostState(3, "abc", 1.7e9 + 0.25, 1.8e9, 30.0, 1.9e9, 2e9 + 0.125, 'it\'s "so"; DROP TABLE hosts')
    with database.begin() as tx:
        catalogue.lock(tx, HOST)
        catalogue.write(tx, HOST, state)
        assert catalogue.lock(tx, HOST) == state
        catalogue.write(tx, HOST, replace(state, cool_until=0.0))
        assert catalogue.lock(tx, HOST).cool_until == 0.0
