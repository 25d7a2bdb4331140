"""Bandwidth that processes share through Postgres."""

from __future__ import annotations

import threading
import time

import pytest
from sqlalchemy import text

from headrace.catalogue import bandwidth, migrate, orders
from headrace.catalogue.bandwidth import SharedBandwidth
from headrace.catalogue.database import Database
from headrace.catalogue.orders import Wanted
from headrace.recipe import named
from headrace.source import parse

MB = 1_000_000


@pytest.fixture
def database(database_url):
    migrate.upgrade(database_url)
    made = Database(database_url)
    yield made
    made.close()


def order(database):
    with database.begin() as tx:
        return orders.create(tx, "me", [Wanted(parse("http://h/a"))], named("web"))[0]


def rows(database):
    with database.begin() as tx:
        return tx.execute(text("SELECT count(*) FROM transfers")).scalar()


def test_without_limits_nothing_is_written(database):
    """Most installations have none."""
    with SharedBandwidth(database, None).of_order(order(database), None) as limits:
        assert limits == ()
        assert rows(database) == 0


def test_one_process_has_all_of_it(database):
    """Its own limit, and the order's."""
    with SharedBandwidth(database, 10 * MB).of_order(order(database), MB) as limits:
        assert [limit.bytes_per_second for limit in limits] == [10 * MB, MB]
    assert rows(database) == 0


def test_processes_share_equally(database):
    """The second one that comes takes its half at once, the first one gives it at its next beat."""
    one, other = SharedBandwidth(database, 10 * MB), SharedBandwidth(database, 10 * MB)
    wanted, another = order(database), order(database)
    with one.of_order(wanted, 4 * MB) as first:
        with other.of_order(wanted, 4 * MB) as second, other.of_order(another, None) as third:
            one.beat()
            assert [limit.bytes_per_second for limit in first] == [5 * MB, 2 * MB]
            assert [limit.bytes_per_second for limit in second] == [5 * MB, 2 * MB]
            assert [limit.bytes_per_second for limit in third] == [5 * MB]
        one.beat()
        assert [limit.bytes_per_second for limit in first] == [10 * MB, 4 * MB]


def test_two_bundles_of_a_process_share_its_part(database):
    """The limit is one object for all downloads of an order here, as long as one of them runs."""
    shared, wanted = SharedBandwidth(database, None), order(database)
    with shared.of_order(wanted, MB) as first:
        with shared.of_order(wanted, MB) as second:
            assert first[0] is second[0]
        assert rows(database) == 1
    assert rows(database) == 0


def test_who_has_died_is_not_counted_for_long(database, monkeypatch):
    """Without being renewed a lease ends by itself."""
    monkeypatch.setattr(bandwidth, "LEASE_SECONDS", 0.3)
    dead, alive, wanted = SharedBandwidth(database, None), SharedBandwidth(database, None), order(database)
    left = dead.of_order(wanted, 4 * MB)
    left.__enter__()
    with alive.of_order(wanted, 4 * MB) as (limit,):
        assert limit.bytes_per_second == 2 * MB
        time.sleep(0.4)
        alive.beat()
        assert limit.bytes_per_second == 4 * MB


def test_shares_follow_by_themselves(database, monkeypatch):
    """A thread renews and asks again, and ends with the last download."""
    monkeypatch.setattr(bandwidth, "BEAT_SECONDS", 0.05)
    one, other, wanted = SharedBandwidth(database, 8 * MB), SharedBandwidth(database, 8 * MB), order(database)
    with one.of_order(wanted, None) as (limit,), other.of_order(wanted, None):
        deadline = time.monotonic() + 5
        while limit.bytes_per_second != 4 * MB:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    deadline = time.monotonic() + 5
    while any(thread.name == "bandwidth" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_database_that_is_away_leaves_the_last_share(database_url):
    """The beat says so, and nothing else happens."""
    from headrace.errors import CatalogueUnavailable

    gone = SharedBandwidth(Database("postgresql+psycopg2://x:y@127.0.0.1:9/none"), MB)
    with pytest.raises(CatalogueUnavailable):
        gone.beat()
