"""Feeds: what is watched, how often, and which of its entries were seen already."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from headrace.catalogue import events
from headrace.catalogue.database import Tx
from headrace.catalogue.orders import recipe_from, remember
from headrace.errors import Conflict, HeadraceError, NotFound
from headrace.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Feed:
    """A feed as it was read."""

    id: UUID
    owner: str
    url: str
    recipe: Recipe
    every_seconds: int
    etag: str | None
    last_modified: str | None
    last_checked_at: datetime | None
    next_check_at: datetime
    error: dict[str, Any] | None
    entries: int


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """One thing that a feed offers."""

    guid: str
    """What the feed calls it; the URL where it says nothing."""
    url: str
    title: str
    size_bytes: int | None = None


_SELECT = """
    SELECT f.*, r.name AS recipe_name, r.body,
           (SELECT count(*) FROM feed_entries e WHERE e.feed_id = f.id) AS entries
    FROM feeds f JOIN recipes r ON r.id = f.recipe_id
"""


def _feed(row: Any) -> Feed:
    return Feed(
        id=row.id,
        owner=row.owner,
        url=row.url,
        recipe=recipe_from(row.recipe_name, row.body),
        every_seconds=row.every_seconds,
        etag=row.etag,
        last_modified=row.last_modified,
        last_checked_at=row.last_checked_at,
        next_check_at=row.next_check_at,
        error=row.error,
        entries=row.entries,
    )


def add(tx: Tx, owner: str, url: str, recipe: Recipe, every_seconds: int) -> Feed:
    """Watch a feed from now on; raises ``Conflict`` where the owner watches it already."""
    remember(tx, recipe)
    try:
        feed_id = tx.execute(
            text(
                """
                INSERT INTO feeds (id, owner, url, recipe_id, every_seconds)
                VALUES (gen_random_uuid(), :owner, :url, :recipe, :every) RETURNING id
                """
            ),
            {"owner": owner, "url": url, "recipe": recipe.identity, "every": every_seconds},
        ).scalar_one()
    except IntegrityError as error:
        raise Conflict(f"{url} is watched already", hint="`headrace watch list` shows the feeds.") from error
    events.append(tx, "feed.added", owner=owner, feed_id=str(feed_id), url=url)
    return get(tx, feed_id, owner)


def get(tx: Tx, feed_id: UUID, owner: str | None = None) -> Feed:
    """Return a feed that is watched; raises ``NotFound``."""
    row = tx.execute(
        text(
            _SELECT
            + " WHERE f.id = :id AND f.removed_at IS NULL AND (CAST(:owner AS text) IS NULL OR f.owner = :owner)"
        ),
        {"id": feed_id, "owner": owner},
    ).first()
    if row is None:
        raise NotFound(f"there is no feed {feed_id}", hint="`headrace watch list` shows the feeds.")
    return _feed(row)


def find(tx: Tx, owner: str) -> list[Feed]:
    """Return the feeds that an owner watches."""
    rows = tx.execute(
        text(_SELECT + " WHERE f.owner = :owner AND f.removed_at IS NULL ORDER BY f.created_at"), {"owner": owner}
    )
    return [_feed(row) for row in rows]


def due(tx: Tx, limit: int = 50) -> list[Feed]:
    """Return the feeds whose time has come, the longest waiting first."""
    rows = tx.execute(
        text(
            _SELECT
            + """ WHERE f.removed_at IS NULL AND f.next_check_at <= clock_timestamp()
                  ORDER BY f.next_check_at LIMIT :limit"""
        ),
        {"limit": limit},
    )
    return [_feed(row) for row in rows]


def remove(tx: Tx, feed_id: UUID, owner: str) -> None:
    """Stop watching a feed; what it brought stays. Raises ``NotFound``."""
    feed = get(tx, feed_id, owner)
    tx.execute(text("UPDATE feeds SET removed_at = now() WHERE id = :id"), {"id": feed.id})
    events.append(tx, "feed.removed", owner=owner, feed_id=str(feed.id), url=feed.url)


def unseen(tx: Tx, feed_id: UUID, entries: Sequence[FeedEntry]) -> list[FeedEntry]:
    """Return the entries that this feed has not shown before, in their order; locks the feed."""
    tx.execute(text("SELECT 1 FROM feeds WHERE id = :id FOR UPDATE"), {"id": feed_id})
    known = {
        row.guid
        for row in tx.execute(
            text("SELECT guid FROM feed_entries WHERE feed_id = :id AND guid = ANY(:guids)"),
            {"id": feed_id, "guids": [entry.guid for entry in entries]},
        )
    }
    new: dict[str, FeedEntry] = {}
    for entry in entries:
        if entry.guid not in known:
            new.setdefault(entry.guid, entry)
    return list(new.values())


def mark_seen(tx: Tx, feed_id: UUID, entries: Sequence[FeedEntry], order_id: UUID) -> None:
    """Remember entries with the order that takes them in, in the transaction that creates the order."""
    for entry in entries:
        tx.execute(
            text(
                """
                INSERT INTO feed_entries (feed_id, guid, url, title, order_id)
                VALUES (:feed, :guid, :url, :title, :order) ON CONFLICT DO NOTHING
                """
            ),
            {"feed": feed_id, "guid": entry.guid, "url": entry.url, "title": entry.title, "order": order_id},
        )


def checked(
    tx: Tx,
    feed_id: UUID,
    *,
    etag: str | None = None,
    last_modified: str | None = None,
    error: HeadraceError | None = None,
) -> None:
    """Remember that a feed was looked at, with its validators, and when to look again.

    With an ``error`` the validators stay as they were.
    """
    tx.execute(
        text(
            """
            UPDATE feeds SET last_checked_at = now(), error = CAST(:error AS jsonb),
                etag = CASE WHEN :error IS NULL THEN :etag ELSE etag END,
                last_modified = CASE WHEN :error IS NULL THEN :last_modified ELSE last_modified END,
                next_check_at = clock_timestamp() + make_interval(secs => every_seconds)
            WHERE id = :id
            """
        ),
        {
            "id": feed_id,
            "etag": etag,
            "last_modified": last_modified,
            "error": None if error is None else json.dumps(error.to_json()),
        },
    )
