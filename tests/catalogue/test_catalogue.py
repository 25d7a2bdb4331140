"""The catalogue on a real Postgres: the invariants hold, whoever tries what at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError

from headrace.catalogue import assets, events, feeds, items, leases, migrate, orders, publications, tables, work
from headrace.catalogue.assets import Described
from headrace.catalogue.database import Database
from headrace.catalogue.items import MOVES, Change
from headrace.catalogue.orders import Wanted
from headrace.catalogue.work import Work
from headrace.errors import (
    Cancelled,
    CatalogueUnavailable,
    Conflict,
    InvalidRequest,
    LeaseLost,
    NotFound,
    NotMedia,
    SourceNotFound,
    StackError,
)
from headrace.model import FINAL_STATES, Digests, ItemState, PackagedSet, Progress, Rendition, StoredMaster
from headrace.recipe import named
from headrace.source import parse

WEB = named("web")
A, B = "a" * 64, "b" * 64


@pytest.fixture
def database(database_url):
    migrate.upgrade(database_url)
    made = Database(database_url)
    yield made
    made.close()


def order(tx, *urls, owner="me", key=None, recipe=WEB):
    return orders.create(tx, owner, [Wanted(parse(url)) for url in urls], recipe, key=key)[0]


def item_of(tx, order_id):
    return items.find(tx, "me", order_id=order_id)[0]


def known_asset(tx, asset_id=A, owner="me"):
    assets.describe(tx, Digests(asset_id, B, 10), Described("video/mp4", "video", 1.0, {}))
    assets.add_master(tx, StoredMaster(asset_id, 10, 8, "zstd", "samples", f"masters/{uuid4()}"))
    assets.add_entry(tx, owner, asset_id, title="Film", path="film.mp4")


def to_transcoding(tx, order_id, asset_id=A):
    item = item_of(tx, order_id)
    items.set_state(tx, item.id, ItemState.STORING)
    return publications.join(tx, item.id, asset_id, WEB)


def packaged():
    rendition = Rendition("240p", "video", "240p.mp4", "avc1.42c00d", 1000, 10, 426, 240, 25.0)
    return PackagedSet(Path(), (rendition,), "master.m3u8", "manifest.mpd", ("240p.mp4", "master.m3u8"), 1.0)


SIZES = {"240p.mp4": 10, "master.m3u8": 5}


# Migrations


def test_the_migrations_make_what_the_tables_say(database_url):
    """Upgraded from nothing, the database has every table, and Alembic sees no difference to the models."""
    from alembic import command

    migrate.upgrade(database_url)
    database = Database(database_url)
    with database.begin() as tx:
        made = set(inspect(tx).get_table_names())
        command.check(migrate._config(tx))
    database.close()
    assert set(tables.SQLModel.metadata.tables) <= made


def test_the_migrations_make_the_same_constraints_and_indexes_as_the_models(postgres):
    """Alembic does not compare checks, so a state that only one of them knows would pass it."""

    def made_by(make):
        url = postgres.database()
        database = Database(url)
        with database.begin() as tx:
            make(url, tx)
        with database.begin() as tx:
            constraints = tx.execute(
                text(
                    """
                    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
                    WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'
                    """
                )
            ).all()
            indexes = tx.execute(
                text(
                    "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE tablename <> 'alembic_version'"
                    " AND schemaname = 'public'"
                )
            ).all()
        database.close()
        return {tuple(row) for row in (*constraints, *indexes)}

    migrated = made_by(lambda url, _tx: migrate.upgrade(url))
    assert migrated == made_by(lambda _url, tx: tables.SQLModel.metadata.create_all(tx))
    assert len(migrated) > 60


def test_a_downgrade_takes_everything_back_and_an_upgrade_brings_it_again(database_url):
    """Down to nothing and up again."""
    migrate.upgrade(database_url)
    migrate.downgrade(database_url, "base")
    database = Database(database_url)
    with database.begin() as tx:
        assert inspect(tx).get_table_names() == ["alembic_version"]
        assert tx.execute(text("SELECT count(*) FROM pg_sequences")).scalar() == 0
    database.close()
    migrate.upgrade(database_url)


def test_several_may_upgrade_at_once(database_url):
    """Replicas that start together migrate once."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate.upgrade, [database_url] * 4))
    database = Database(database_url)
    with database.begin() as tx:
        assert tx.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == [migrate.head()]
    database.close()


def test_a_database_that_is_away_is_said_so():
    """A retry can help; a missing setting is another matter."""
    database = Database("postgresql+psycopg2://nobody:x@127.0.0.1:9/none")
    with pytest.raises(CatalogueUnavailable), database.begin():
        pass
    with pytest.raises(StackError):
        Database("")


# Constraints


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE items SET state = 'dancing'",
        "UPDATE items SET state = 'published'",
        "UPDATE items SET state = 'failed'",
        "UPDATE items SET error = '{}'",
        "UPDATE items SET fraction = 2",
        "UPDATE items SET attempts = -1",
        "UPDATE items SET asset_id = 'nothing'",
        "INSERT INTO assets (id, sha256, size_bytes, media_type, kind) VALUES ('x', repeat('a', 64), 1, 'a', 'video')",
        """INSERT INTO assets (id, sha256, size_bytes, media_type, kind)
           VALUES (repeat('a', 64), repeat('a', 64), 0, 'a', 'video')""",
        "INSERT INTO leases (name, holder, token, expires_at) VALUES ('a', 'b', 0, now())",
    ],
)
def test_the_database_refuses_what_must_not_be(database, statement):
    """Whatever a programme does: states, shapes and references are checked by Postgres itself."""
    with database.begin() as tx:
        order(tx, "http://h/a.mp4")
    with pytest.raises(IntegrityError), database.begin() as tx:
        tx.execute(text(statement))


def test_one_asset_per_content_and_one_publication_per_recipe(database):
    """A second of either is the first."""
    with database.begin() as tx:
        known_asset(tx)
        assert assets.describe(tx, Digests(A, B, 10), Described("video/mp4", "video", 1.0, {})) is True
        first = to_transcoding(tx, order(tx, "http://h/a"))
        second = to_transcoding(tx, order(tx, "http://h/b"))
        assert first.id == second.id


# Orders


def test_the_same_key_is_the_same_order(database):
    """With the same body; another body is a conflict, and another owner's key is another order."""
    with database.begin() as tx:
        first = orders.create(tx, "me", [Wanted(parse("http://h/a"))], WEB, key="k")
        again = orders.create(tx, "me", [Wanted(parse("http://h/a"))], WEB, key="k")
        other = orders.create(tx, "you", [Wanted(parse("http://h/b"))], WEB, key="k")
    assert (first[1], again[1], other[1]) == (True, False, True)
    assert first[0] == again[0] != other[0]
    with pytest.raises(Conflict), database.begin() as tx:
        orders.create(tx, "me", [Wanted(parse("http://h/b"))], WEB, key="k")


def test_two_equal_orders_at_once_are_one(database):
    """Ten threads with one key make one order with one item."""

    def place(_):
        with database.begin() as tx:
            return order(tx, "http://h/a", key="k")

    with ThreadPoolExecutor(10) as pool:
        assert len(set(pool.map(place, range(10)))) == 1
    with database.begin() as tx:
        assert len(items.find(tx, "me")) == 1


def test_an_order_needs_sources(database):
    """None is refused, and leaves nothing."""
    with pytest.raises(InvalidRequest), database.begin() as tx:
        orders.create(tx, "me", [], WEB)
    with database.begin() as tx:
        assert orders.newest(tx, "me") == []


def test_another_owners_things_do_not_exist(database):
    """Orders, assets and feeds of somebody else are not found, and not told apart from none."""
    with database.begin() as tx:
        order_id = order(tx, "http://h/a")
        known_asset(tx)
        feed = feeds.add(tx, "me", "http://h/feed", WEB, 900)
        for look in (
            lambda: orders.get(tx, order_id, "you"),
            lambda: assets.get(tx, "you", A),
            lambda: feeds.get(tx, feed.id, "you"),
            lambda: orders.cancel(tx, order_id, "you"),
        ):
            with pytest.raises(NotFound):
                look()
        assert assets.find(tx, "you") == []


# Items


def test_states_move_only_as_they_may(database):
    """Every pair of states: allowed moves work and append one event, the others are refused."""
    for old in ItemState:
        for to in ItemState:
            with database.begin() as tx:
                known_asset(tx)
                item = item_of(tx, order(tx, "http://h/a"))
                error = '{"code": "x"}' if old is ItemState.FAILED else None
                tx.execute(
                    text("UPDATE items SET state = :s, asset_id = :a, error = CAST(:e AS jsonb) WHERE id = :i"),
                    {"s": old.value, "a": A, "e": error, "i": item.id},
                )
                change = Change(error=SourceNotFound("gone")) if to is ItemState.FAILED else None
                if old is to or to in MOVES[old]:
                    items.set_state(tx, item.id, to, change)
                    assert items.get(tx, item.id).state is to
                    count = tx.execute(text("SELECT count(*) FROM events WHERE item_id = :i"), {"i": item.id})
                    assert count.scalar() == (old is not to)
                else:
                    with pytest.raises((Conflict, Cancelled)):
                        items.set_state(tx, item.id, to, change)


def test_final_states_lead_nowhere_but_to_a_retry():
    """Published and stored are for ever."""
    assert {state: MOVES[state] for state in FINAL_STATES} == {
        ItemState.PUBLISHED: frozenset(),
        ItemState.STORED: frozenset(),
        ItemState.FAILED: frozenset({ItemState.QUEUED}),
        ItemState.CANCELLED: frozenset({ItemState.QUEUED}),
    }


def test_progress_is_no_event_and_spares_what_has_ended(database):
    """A late report changes nothing."""
    with database.begin() as tx:
        item = item_of(tx, order(tx, "http://h/a"))
        items.set_progress(tx, item.id, Progress(0.5, 100.0, 3.0))
        assert items.get(tx, item.id).progress == Progress(0.5, 100.0, 3.0)
        items.set_state(tx, item.id, ItemState.CANCELLED)
        items.set_progress(tx, item.id, Progress(0.9))
        assert items.get(tx, item.id).progress == Progress(None)


# Leases


def test_a_lease_is_held_by_one(database):
    """The second gets nothing until it expires; then its token is larger, and the first is fenced off."""
    with database.begin() as tx:
        first = leases.acquire(tx, "x", "one", seconds=0.2)
        assert leases.acquire(tx, "x", "two") is None
        leases.renew(tx, first, seconds=0.2)
    threading.Event().wait(0.3)
    with database.begin() as tx:
        second = leases.acquire(tx, "x", "two")
        assert second.token > first.token
        for call in (leases.check, leases.renew):
            with pytest.raises(LeaseLost):
                call(tx, first)
        leases.release(tx, first)  # a late release does no harm
        leases.check(tx, second)


def test_a_sleeper_cannot_overwrite(database):
    """A worker that lost its lease can't move an item."""
    with database.begin() as tx:
        item = item_of(tx, order(tx, "http://h/a"))
        fence = leases.acquire(tx, "bundle:1", "one")
        leases.revoke(tx, "bundle:1")
    with pytest.raises(LeaseLost), database.begin() as tx:
        items.set_state(tx, item.id, ItemState.DOWNLOADING, fence=fence)
    with database.begin() as tx:
        assert items.get(tx, item.id).state is ItemState.QUEUED


def test_nobody_takes_a_lease_between_the_check_and_the_commit(database):
    """Who wants it waits for the commit that checked it."""
    with database.begin() as tx:
        fence = leases.acquire(tx, "x", "one", seconds=0.2)
    taken: list[float] = []

    def take():
        with database.begin() as tx:
            leases.acquire(tx, "x", "two")
            taken.append(1)

    with database.begin() as tx:
        leases.check(tx, fence)
        thread = threading.Thread(target=take)
        thread.start()
        threading.Event().wait(0.5)
        assert not taken
    thread.join()
    assert taken


def test_a_machines_leases_are_given_back_together(database):
    """And nobody else's."""
    with database.begin() as tx:
        leases.acquire(tx, "x", "m1/1")
        leases.acquire(tx, "y", "m10/1")
        assert leases.release_machine(tx, "m1") == 1
        assert leases.acquire(tx, "x", "m2/1") is not None
        assert leases.acquire(tx, "y", "m2/1") is None


# Publications


def test_a_publication_completes_everybody_who_waits(database):
    """Two orders, one encode; a third order finds it live."""
    with database.begin() as tx:
        known_asset(tx)
        first, second = order(tx, "http://h/a"), order(tx, "http://h/b")
        publication = to_transcoding(tx, first)
        to_transcoding(tx, second)
        fence = leases.acquire(tx, f"publication:{publication.id}", "one")
        publications.begin(tx, publication.id, fence)
        publications.uploading(tx, publication.id, fence)
        assert item_of(tx, first).state is ItemState.PUBLISHING
        assert publications.complete(tx, publication.id, fence, "p/", packaged(), SIZES) == 2
        assert item_of(tx, first).state is item_of(tx, second).state is ItemState.PUBLISHED
        third = order(tx, "http://h/c")
        to_transcoding(tx, third)
        assert item_of(tx, third).state is ItemState.PUBLISHED
        assert item_of(tx, third).duplicate
        assert publications.of_assets(tx, [A])[A][0].renditions == packaged().renditions


def test_nobody_who_joins_while_a_publication_completes_waits_for_ever(database):
    """Joining and completing at once: the item is completed, or sees it live."""
    for _ in range(10):
        with database.begin() as tx:
            known_asset(tx)
            publication = to_transcoding(tx, order(tx, "http://h/a"))
            late = order(tx, "http://h/b")
            fence = leases.acquire(tx, f"publication:{publication.id}", "one")
            publications.begin(tx, publication.id, fence)

        def complete(publication=publication, fence=fence):
            with database.begin() as tx:
                publications.complete(tx, publication.id, fence, "p/", packaged(), SIZES)

        def join(late=late):
            with database.begin() as tx:
                to_transcoding(tx, late)

        with ThreadPoolExecutor(2) as pool:
            for future in [pool.submit(complete), pool.submit(join)]:
                future.result()
        with database.begin() as tx:
            assert item_of(tx, late).state is ItemState.PUBLISHED
            publications.retire(tx, "me", A)


def test_a_failed_publication_fails_everybody_and_is_tried_again_by_the_next(database):
    """The error is theirs too; a new order makes it pending."""
    with database.begin() as tx:
        known_asset(tx)
        first = order(tx, "http://h/a")
        publication = to_transcoding(tx, first)
        fence = leases.acquire(tx, f"publication:{publication.id}", "one")
        publications.begin(tx, publication.id, fence)
        publications.fail(tx, publication.id, fence, NotMedia("nothing in it"))
        assert item_of(tx, first).error["code"] == "not_media"
        assert work.due(tx, Work.PUBLICATION) == []
        leases.release(tx, fence)
        to_transcoding(tx, order(tx, "http://h/b"))
        assert [due.id for due in work.due(tx, Work.PUBLICATION)] == [publication.id]


def test_cancelling_stops_only_what_nobody_else_waits_for(database):
    """The first cancel leaves the shared encode, the second ends it."""
    with database.begin() as tx:
        known_asset(tx)
        first, second = order(tx, "http://h/a"), order(tx, "http://h/b")
        publication = to_transcoding(tx, first)
        to_transcoding(tx, second)
        fence = leases.acquire(tx, f"publication:{publication.id}", "one")
        publications.begin(tx, publication.id, fence)
        assert orders.cancel(tx, first, "me") == 1
        leases.check(tx, fence)
        assert orders.cancel(tx, second, "me") == 1
        with pytest.raises(LeaseLost):
            leases.check(tx, fence)
        assert work.due(tx, Work.PUBLICATION) == []


def test_a_cancelled_order_can_be_retried(database):
    """Its items are queued again, and the order is due."""
    with database.begin() as tx:
        order_id = order(tx, "http://h/a")
        orders.cancel(tx, order_id, "me")
        assert work.due(tx, Work.ORDER) == []
        assert orders.retry(tx, order_id, "me") == 1
        assert [due.id for due in work.due(tx, Work.ORDER)] == [order_id]


# Work


def test_work_is_handed_over_once(database):
    """Ten who try at once: one gets the attempt."""
    with database.begin() as tx:
        order(tx, "http://h/a")
        (due,) = work.due(tx, Work.ORDER)

    def hand_over(_):
        with database.begin() as tx:
            return work.hand_over(tx, due)

    with ThreadPoolExecutor(10) as pool:
        assert sorted(pool.map(hand_over, range(10)), key=str) == [1] + [None] * 9


def test_a_bundle_with_a_holder_is_not_due(database):
    """It is, as soon as the lease is gone and work is left."""
    with database.begin() as tx:
        order_id = order(tx, "http://h/a", "http://h/b")
        waiting = orders.unplanned_items(tx, order_id)
        bundle_id = orders.add_bundle(tx, order_id, [item.id for item in waiting])
        assert orders.unplanned_items(tx, order_id) == []
        fence = leases.acquire(tx, f"bundle:{bundle_id}", "one")
        assert work.due(tx, Work.BUNDLE) == []
        leases.release(tx, fence)
        assert [due.id for due in work.due(tx, Work.BUNDLE)] == [bundle_id]
        for item in waiting:
            items.set_state(tx, item.id, ItemState.FAILED, Change(error=SourceNotFound("gone")))
        assert work.due(tx, Work.BUNDLE) == []


def test_an_item_that_leaves_its_bundle_waits_for_its_time(database):
    """It is due for planning only after ``not_before``."""
    with database.begin() as tx:
        order_id = order(tx, "http://h/a")
        item = orders.unplanned_items(tx, order_id)[0]
        orders.add_bundle(tx, order_id, [item.id])
        items.set_state(tx, item.id, ItemState.DOWNLOADING)
        items.set_state(tx, item.id, ItemState.QUEUED, Change(retry_after_seconds=0.2))
        assert work.due(tx, Work.ORDER) == []
    threading.Event().wait(0.3)
    with database.begin() as tx:
        assert [due.id for due in work.due(tx, Work.ORDER)] == [order_id]


# The library


def test_deleting_hides_and_undeleting_brings_back(database):
    """Nothing of the asset is lost, and the space that waits is told."""
    with database.begin() as tx:
        known_asset(tx)
        assert assets.find(tx, "me", search="FIL")[0].id == A
        assert assets.find(tx, "me", search="%") == []
        assert assets.get(tx, "me", A[:8]).title == "Film"
        assert assets.delete(tx, "me", A) == 1
        assert assets.find(tx, "me") == []
        assert assets.space(tx).waiting_bytes == 8
        assert assets.undelete(tx, "me", A) == 1
        assert assets.find(tx, "me")[0].id == A
        assert [event.kind for event in events.of_asset(tx, "me", A)][-2:] == ["entry.deleted", "entry.restored"]


def test_space_tells_dedup_and_compression_apart(database):
    """Two entries of ten bytes kept in eight."""
    with database.begin() as tx:
        known_asset(tx)
        assets.add_entry(tx, "me", A, title="Copy", path="copy.mp4")
        space = assets.space(tx)
    assert (space.logical_bytes, space.unique_bytes, space.stored_bytes) == (20, 10, 8)
    assert (space.saved_by_dedup_bytes, space.saved_by_compression_bytes) == (10, 2)


@pytest.mark.parametrize("name", ["", "abc", "zzzzzz", "aaaaa%", "../../x", "a" * 65])
def test_a_name_that_is_none_is_not_found(database, name):
    """Too short, not hex, too long."""
    with database.begin() as tx:
        known_asset(tx)
        with pytest.raises(NotFound):
            assets.get(tx, "me", name)


def test_a_feed_shows_new_entries_once(database):
    """Seen entries are remembered with the order that took them in."""
    with database.begin() as tx:
        feed = feeds.add(tx, "me", "http://h/feed", WEB, 900)
        offered = [feeds.FeedEntry("1", "http://h/1", "One"), feeds.FeedEntry("2", "http://h/2", "Two")]
        assert feeds.unseen(tx, feed.id, offered) == offered
        order_id = order(tx, "http://h/1")
        feeds.mark_seen(tx, feed.id, offered[:1], order_id)
        assert feeds.unseen(tx, feed.id, offered) == offered[1:]
        assert [one.id for one in feeds.due(tx)] == [feed.id]
        feeds.checked(tx, feed.id, etag='"e"')
        assert feeds.due(tx) == []
        feeds.checked(tx, feed.id, error=SourceNotFound("gone"))
        assert feeds.get(tx, feed.id).etag == '"e"'
        assert feeds.get(tx, feed.id).error["code"] == "source_not_found"
    with pytest.raises(Conflict), database.begin() as tx:
        feeds.add(tx, "me", "http://h/feed", WEB, 900)
