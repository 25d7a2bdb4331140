"""Orders and their bundles: what was asked for, and in which portions it is worked on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import blake3
from sqlalchemy import text

from headrace import terms
from headrace.catalogue import events, items, leases
from headrace.catalogue.database import Tx
from headrace.catalogue.items import Change
from headrace.errors import Conflict, InvalidRequest, NotFound
from headrace.model import ItemState, Source, Terms
from headrace.recipe import Recipe

MAX_SOURCES = 10_000
"""Sources in one order; larger wishes are several orders, so that one transaction stays short."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One source that an order asks for."""

    source: Source
    sha256: str | None = None
    terms: Terms = field(default_factory=Terms)


@dataclass(frozen=True, slots=True)
class Order:
    """An order as it was read."""

    id: UUID
    owner: str
    recipe: Recipe
    idempotency_key: str | None
    attempt: int
    created_at: datetime
    cancelled_at: datetime | None
    bytes_per_second: int | None
    """What its downloads may bring together, or ``None`` for no limit."""
    counts: dict[str, int]
    """Items by state; states with none are left out."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle as it was read."""

    id: UUID
    order_id: UUID
    owner: str
    ordinal: int
    attempt: int
    recipe: Recipe
    collection: str
    bytes_per_second: int | None


def body_digest(wanted: Sequence[Wanted], recipe: Recipe, collection: str, bytes_per_second: int | None = None) -> str:
    """Return what makes two order bodies the same: sources, checksums, terms, recipe, collection and limit.

    What an order doesn't say is left out, so that orders from before a field was known stay the same.
    """
    body = [
        [w.source.kind.value, w.source.locator, w.sha256, *([kept] if (kept := terms.to_json(w.terms)) else [])]
        for w in wanted
    ]
    limit = [] if bytes_per_second is None else [bytes_per_second]
    text_ = json.dumps([body, recipe.identity, collection, *limit], separators=(",", ":"), sort_keys=True)
    return blake3.blake3(text_.encode()).hexdigest()


def create(
    tx: Tx,
    owner: str,
    wanted: Sequence[Wanted],
    recipe: Recipe,
    *,
    key: str | None = None,
    collection: str = "",
    bytes_per_second: int | None = None,
) -> tuple[UUID, bool]:
    """Write an order with its items; return its id and whether it is new.

    The same key with the same body is the same order. Raises ``Conflict`` for the same key
    with another body, ``InvalidRequest`` for no sources or too many.
    """
    if not wanted:
        raise InvalidRequest("an order needs at least one source", hint="Name at least one URL, path or asset:ID.")
    if len(wanted) > MAX_SOURCES:
        raise InvalidRequest(f"{len(wanted)} sources are too many for one order; {MAX_SOURCES} is the most")
    remember(tx, recipe)
    digest = body_digest(wanted, recipe, collection, bytes_per_second)
    order_id = tx.execute(
        text(
            """
            INSERT INTO orders (id, owner, recipe_id, idempotency_key, body_digest, collection, bytes_per_second)
            VALUES (gen_random_uuid(), :owner, :recipe, :key, :digest, :collection, :rate)
            ON CONFLICT (owner, idempotency_key) DO NOTHING RETURNING id
            """
        ),
        {
            "owner": owner,
            "recipe": recipe.identity,
            "key": key,
            "digest": digest,
            "collection": collection,
            "rate": bytes_per_second,
        },
    ).scalar()
    if order_id is None:
        return _same(tx, owner, key, digest), False
    for ordinal, one in enumerate(wanted):
        items.add(tx, order_id, ordinal, one.source, one.sha256, one.terms)
    events.append(tx, "order.created", owner=owner, order_id=order_id, sources=len(wanted), recipe=recipe.name)
    return order_id, True


def _same(tx: Tx, owner: str, key: str | None, digest: str) -> UUID:
    row = tx.execute(
        text("SELECT id, body_digest FROM orders WHERE owner = :owner AND idempotency_key = :key"),
        {"owner": owner, "key": key},
    ).one()
    if row.body_digest != digest:
        raise Conflict(
            f"the key {key!r} was used for another order",
            hint="Use a new key for a new order, or send exactly the same sources and recipe.",
        )
    order_id: UUID = row.id
    return order_id


def remember(tx: Tx, recipe: Recipe) -> None:
    """Keep a recipe under its identity."""
    tx.execute(
        text(
            "INSERT INTO recipes (id, name, body) VALUES (:id, :name, CAST(:body AS jsonb)) ON CONFLICT (id) DO NOTHING"
        ),
        {"id": recipe.identity, "name": recipe.name, "body": recipe.canonical_json()},
    )


def recipe_from(row_name: str, body: dict[str, Any]) -> Recipe:
    """Return a recipe as it was kept."""
    return Recipe.model_validate({**body, "name": row_name})


_SELECT = """
    SELECT o.id, o.owner, o.idempotency_key, o.attempt, o.created_at, o.cancelled_at, o.bytes_per_second,
           r.name AS recipe_name, r.body,
           (SELECT coalesce(jsonb_object_agg(c.state, c.n), '{}') FROM
              (SELECT state, count(*) AS n FROM items WHERE order_id = o.id GROUP BY state) c) AS counts
    FROM orders o JOIN recipes r ON r.id = o.recipe_id
"""


def _order(row: Any) -> Order:
    return Order(
        id=row.id,
        owner=row.owner,
        recipe=recipe_from(row.recipe_name, row.body),
        idempotency_key=row.idempotency_key,
        attempt=row.attempt,
        created_at=row.created_at,
        cancelled_at=row.cancelled_at,
        bytes_per_second=row.bytes_per_second,
        counts=row.counts,
    )


def get(tx: Tx, order_id: UUID, owner: str | None = None) -> Order:
    """Return an order; raises ``NotFound``, also for one that belongs to somebody else."""
    row = tx.execute(
        text(_SELECT + " WHERE o.id = :id AND (CAST(:owner AS text) IS NULL OR o.owner = :owner)"),
        {"id": order_id, "owner": owner},
    ).first()
    if row is None:
        raise NotFound(f"there is no order {order_id}")
    return _order(row)


def newest(tx: Tx, owner: str, limit: int = 100) -> list[Order]:
    """Return an owner's newest orders."""
    rows = tx.execute(
        text(_SELECT + " WHERE o.owner = :owner ORDER BY o.created_at DESC LIMIT :limit"),
        {"owner": owner, "limit": limit},
    )
    return [_order(row) for row in rows]


def cancel(tx: Tx, order_id: UUID, owner: str) -> int:
    """Cancel an order's unfinished items and revoke the leases on its work; return how many items.

    Runs notice the lost lease within seconds and stop their processes. An encode that
    another order waits for too goes on.
    """
    get(tx, order_id, owner)
    tx.execute(text("UPDATE orders SET cancelled_at = coalesce(cancelled_at, now()) WHERE id = :id"), {"id": order_id})
    waiting = tx.execute(
        text(
            """
            SELECT id, bundle_id, publication_id FROM items
            WHERE order_id = :id AND state NOT IN ('published', 'stored', 'failed', 'cancelled')
            ORDER BY id FOR UPDATE
            """
        ),
        {"id": order_id},
    ).all()
    for row in waiting:
        items.set_state(tx, row.id, ItemState.CANCELLED)
    for bundle_id in {row.bundle_id for row in waiting if row.bundle_id}:
        leases.revoke(tx, f"bundle:{bundle_id}")
    for publication_id in {row.publication_id for row in waiting if row.publication_id}:
        _abandon(tx, publication_id)
    events.append(tx, "order.cancelled", owner=owner, order_id=order_id, items=len(waiting))
    return len(waiting)


def _abandon(tx: Tx, publication_id: UUID) -> None:
    """Retire a publication that nobody waits for any more, and stop the work on it."""
    abandoned = tx.execute(
        text(
            """
            UPDATE publications SET state = 'retired', updated_at = now()
            WHERE id = :id AND state IN ('pending', 'working') AND NOT EXISTS (
                SELECT 1 FROM items WHERE publication_id = :id AND state IN ('transcoding', 'publishing'))
            """
        ),
        {"id": publication_id},
    ).rowcount
    if abandoned:
        leases.revoke(tx, f"publication:{publication_id}")


def retry(tx: Tx, order_id: UUID, owner: str) -> int:
    """Queue an order's failed and cancelled items again; return how many."""
    get(tx, order_id, owner)
    rows = tx.execute(
        text("SELECT id FROM items WHERE order_id = :id AND state IN ('failed', 'cancelled') ORDER BY id FOR UPDATE"),
        {"id": order_id},
    ).all()
    for row in rows:
        items.set_state(tx, row.id, ItemState.QUEUED, Change(attempts=0))
    if rows:
        tx.execute(text("UPDATE orders SET cancelled_at = NULL WHERE id = :id"), {"id": order_id})
        events.append(tx, "order.retried", owner=owner, order_id=order_id, items=len(rows))
    return len(rows)


def unplanned_items(tx: Tx, order_id: UUID) -> list[items.Item]:
    """Return the queued items of an order that are in no bundle and may start now; locks the order."""
    tx.execute(text("SELECT 1 FROM orders WHERE id = :id FOR UPDATE"), {"id": order_id})
    rows = tx.execute(
        text(
            """
            SELECT id FROM items WHERE order_id = :id AND state = 'queued' AND bundle_id IS NULL
              AND (not_before IS NULL OR not_before <= clock_timestamp()) ORDER BY ordinal
            """
        ),
        {"id": order_id},
    ).all()
    return [items.get(tx, row.id) for row in rows]


def add_bundle(tx: Tx, order_id: UUID, item_ids: Sequence[UUID]) -> UUID:
    """Put items into a new bundle of their order; return its id."""
    bundle_id: UUID = tx.execute(
        text(
            """
            INSERT INTO bundles (id, order_id, ordinal, attempt)
            SELECT gen_random_uuid(), :order_id, coalesce(max(ordinal), -1) + 1, 0
            FROM bundles WHERE order_id = :order_id RETURNING id
            """
        ),
        {"order_id": order_id},
    ).scalar_one()
    tx.execute(
        text("UPDATE items SET bundle_id = :bundle, not_before = NULL WHERE id = ANY(:ids)"),
        {"bundle": bundle_id, "ids": list(item_ids)},
    )
    return bundle_id


def bundle(tx: Tx, bundle_id: UUID) -> Bundle:
    """Return a bundle; raises ``NotFound``."""
    row = tx.execute(
        text(
            """
            SELECT b.id, b.order_id, o.owner, b.ordinal, b.attempt, o.collection, o.bytes_per_second, r.name, r.body
            FROM bundles b
            JOIN orders o ON o.id = b.order_id JOIN recipes r ON r.id = o.recipe_id WHERE b.id = :id
            """
        ),
        {"id": bundle_id},
    ).first()
    if row is None:
        raise NotFound(f"there is no bundle {bundle_id}")
    return Bundle(
        row.id,
        row.order_id,
        row.owner,
        row.ordinal,
        row.attempt,
        recipe_from(row.name, row.body),
        row.collection,
        row.bytes_per_second,
    )
