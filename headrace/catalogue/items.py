"""Items: one source of an order each, moving through the stages.

``set_state`` is the only function that writes an item's state. It checks the move, the
lease where there is one, and appends the event in the same transaction.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from headrace import terms
from headrace.catalogue import events, leases
from headrace.catalogue.database import Tx
from headrace.catalogue.leases import Fence
from headrace.errors import Cancelled, Conflict, HeadraceError, NotFound
from headrace.model import FINAL_STATES, ItemState, Progress, Source, SourceKind, Terms

NO_TERMS = Terms()

_S = ItemState
MOVES: dict[ItemState, frozenset[ItemState]] = {
    _S.QUEUED: frozenset({_S.DOWNLOADING, _S.STORING, _S.FAILED, _S.CANCELLED}),
    _S.DOWNLOADING: frozenset({_S.QUEUED, _S.STORING, _S.FAILED, _S.CANCELLED}),
    _S.STORING: frozenset(
        {_S.QUEUED, _S.DOWNLOADING, _S.TRANSCODING, _S.PUBLISHED, _S.STORED, _S.FAILED, _S.CANCELLED}
    ),
    _S.TRANSCODING: frozenset({_S.PUBLISHING, _S.PUBLISHED, _S.FAILED, _S.CANCELLED}),
    _S.PUBLISHING: frozenset({_S.TRANSCODING, _S.PUBLISHED, _S.FAILED, _S.CANCELLED}),
    _S.FAILED: frozenset({_S.QUEUED}),
    _S.CANCELLED: frozenset({_S.QUEUED}),
    _S.PUBLISHED: frozenset(),
    _S.STORED: frozenset(),
}
"""From where an item may move to where; staying is always allowed and is no event."""


@dataclass(frozen=True, slots=True)
class Item:
    """An item as it was read, with what its asset and publication say."""

    id: UUID
    order_id: UUID
    owner: str
    source: Source
    expected_sha256: str | None
    terms: Terms
    state: ItemState
    attempts: int
    not_before: datetime | None
    progress: Progress
    asset_id: str | None
    publication_id: UUID | None
    duplicate: bool
    proofs: tuple[str, ...]
    warnings: tuple[str, ...]
    error: dict[str, Any] | None
    created_at: datetime
    updated_at: datetime
    sha256: str | None
    size_bytes: int | None
    media_type: str | None
    title: str | None
    playable: bool


@dataclass(frozen=True, slots=True)
class Change:
    """What a move writes beside the state; ``None`` leaves a column as it is."""

    asset_id: str | None = None
    publication_id: UUID | None = None
    duplicate: bool | None = None
    proofs: tuple[str, ...] | None = None
    warnings: tuple[str, ...] | None = None
    error: HeadraceError | None = None
    attempts: int | None = None
    retry_after_seconds: float | None = None
    """Not to be planned again before so long from now."""
    evidence: dict[str, Any] = field(default_factory=dict)
    """More for the event's body."""


_SELECT = """
    SELECT i.id, i.order_id, o.owner, i.source_kind, i.locator, i.source, i.name, i.expected_sha256, {terms}, i.state,
           i.attempts, i.not_before, coalesce(i.fraction, p.fraction) AS fraction, coalesce(i.speed, p.speed) AS speed,
           coalesce(i.eta_seconds, p.eta_seconds) AS eta_seconds, i.asset_id, i.publication_id, i.duplicate,
           i.proofs, i.warnings, i.error, i.created_at, i.updated_at, a.sha256, a.size_bytes, a.media_type,
           p.state IS NOT DISTINCT FROM 'live' AS playable
    FROM items i
    JOIN orders o ON o.id = i.order_id
    LEFT JOIN assets a ON a.id = i.asset_id
    LEFT JOIN publications p ON p.id = i.publication_id
"""


_WHOLE = _SELECT.format(terms="i.terms")
_LISTED = _SELECT.format(terms="NULL::jsonb AS terms")
"""Lists go without the terms: a Metalink's pieces are megabytes."""


def _item(row: Any) -> Item:
    return Item(
        id=row.id,
        order_id=row.order_id,
        owner=row.owner,
        source=Source(SourceKind(row.source_kind), row.locator, row.source, row.name),
        expected_sha256=row.expected_sha256,
        terms=terms.of_row(row.terms),
        state=ItemState(row.state),
        attempts=row.attempts,
        not_before=row.not_before,
        progress=Progress(row.fraction, row.speed, row.eta_seconds),
        asset_id=row.asset_id,
        publication_id=row.publication_id,
        duplicate=row.duplicate,
        proofs=tuple(row.proofs),
        warnings=tuple(row.warnings),
        error=row.error,
        created_at=row.created_at,
        updated_at=row.updated_at,
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        media_type=row.media_type,
        title=row.name,
        playable=row.playable,
    )


def add(
    tx: Tx, order_id: UUID, ordinal: int, source: Source, expected_sha256: str | None, under: Terms = NO_TERMS
) -> UUID:
    """Append an item to an order; it starts ``queued``."""
    item_id: UUID = tx.execute(
        text(
            """
            INSERT INTO items (id, order_id, ordinal, source_kind, source, locator, name, expected_sha256,
                               terms, attempts, duplicate)
            VALUES (gen_random_uuid(), :order_id, :ordinal, :kind, :shown, :locator, :name, :sha256,
                    CAST(:terms AS jsonb), 0, false)
            RETURNING id
            """
        ),
        {
            "order_id": order_id,
            "ordinal": ordinal,
            "kind": source.kind.value,
            "shown": source.shown,
            "locator": source.locator,
            "name": source.name,
            "sha256": expected_sha256,
            "terms": None if (kept := terms.to_json(under)) is None else json.dumps(kept),
        },
    ).scalar_one()
    return item_id


def get(tx: Tx, item_id: UUID) -> Item:
    """Return an item; raises ``NotFound``."""
    row = tx.execute(text(_WHOLE + " WHERE i.id = :id"), {"id": item_id}).first()
    if row is None:
        raise NotFound(f"there is no item {item_id}")
    return _item(row)


def of_bundle(tx: Tx, bundle_id: UUID) -> list[Item]:
    """Return a bundle's items in their order's order."""
    rows = tx.execute(text(_WHOLE + " WHERE i.bundle_id = :id ORDER BY i.ordinal"), {"id": bundle_id})
    return [_item(row) for row in rows]


def of_publication(tx: Tx, publication_id: UUID) -> list[Item]:
    """Return the items that wait for a publication or have been completed by it."""
    rows = tx.execute(
        text(_LISTED + " WHERE i.publication_id = :id ORDER BY i.created_at"),
        {"id": publication_id},
    )
    return [_item(row) for row in rows]


def find(
    tx: Tx,
    owner: str,
    *,
    order_id: UUID | None = None,
    state: ItemState | None = None,
    asset_id: str | None = None,
    limit: int = 1000,
) -> list[Item]:
    """Return an owner's items: those of one order in its order, else the newest first."""
    where, values = ["o.owner = :owner"], {"owner": owner, "limit": limit}
    for column, value in (("i.order_id", order_id), ("i.state", state and state.value), ("i.asset_id", asset_id)):
        if value is not None:
            name = column.removeprefix("i.")
            where.append(f"{column} = :{name}")
            values[name] = value
    order = "i.ordinal" if order_id else "i.created_at DESC, i.ordinal"
    rows = tx.execute(text(f"{_LISTED} WHERE {' AND '.join(where)} ORDER BY {order} LIMIT :limit"), values)
    return [_item(row) for row in rows]


def counts(tx: Tx, owner: str) -> dict[str, int]:
    """Return how many items of an owner are in each state; states with none are left out."""
    rows = tx.execute(
        text(
            "SELECT i.state, count(*) FROM items i JOIN orders o ON o.id = i.order_id"
            " WHERE o.owner = :owner GROUP BY i.state"
        ),
        {"owner": owner},
    )
    return {row[0]: row[1] for row in rows}


def set_state(
    tx: Tx, item_id: UUID, to: ItemState, change: Change | None = None, *, fence: Fence | None = None
) -> None:
    """Move an item to a state, and append the event; the only writer of ``items.state``.

    Raises ``LeaseLost`` where ``fence`` is no longer held, ``Cancelled`` where the order was
    cancelled meanwhile, ``Conflict`` for a move that ``MOVES`` does not have, ``NotFound``.
    """
    change = change or Change()
    if fence is not None:
        leases.check(tx, fence)
    row = tx.execute(
        text(
            """
            SELECT i.state, i.order_id, i.asset_id, o.owner FROM items i JOIN orders o ON o.id = i.order_id
            WHERE i.id = :id FOR UPDATE OF i
            """
        ),
        {"id": item_id},
    ).first()
    if row is None:
        raise NotFound(f"there is no item {item_id}")
    old = ItemState(row.state)
    _check_move(old, to)
    tx.execute(text(_UPDATE), _values(item_id, old, to, change))
    if old is to:
        return
    body: dict[str, Any] = {"from": old.value, "to": to.value, **change.evidence}
    if change.error is not None:
        body["error"] = change.error.to_json()
    events.append(
        tx,
        "item." + to.value,
        owner=row.owner,
        order_id=row.order_id,
        item_id=item_id,
        asset_id=change.asset_id or row.asset_id,
        publication_id=change.publication_id,
        **body,
    )


_UPDATE = """
    UPDATE items SET
        state = :state,
        asset_id = coalesce(:asset_id, asset_id),
        publication_id = coalesce(:publication_id, publication_id),
        duplicate = coalesce(:duplicate, duplicate),
        proofs = coalesce(CAST(:proofs AS jsonb), proofs),
        warnings = coalesce(CAST(:warnings AS jsonb), warnings),
        error = CAST(:error AS jsonb),
        attempts = coalesce(:attempts, attempts),
        not_before = clock_timestamp() + make_interval(secs => :retry_after),
        bundle_id = CASE WHEN :leave_bundle THEN NULL ELSE bundle_id END,
        fraction = CASE WHEN :moved THEN NULL ELSE fraction END,
        speed = CASE WHEN :moved THEN NULL ELSE speed END,
        eta_seconds = CASE WHEN :moved THEN NULL ELSE eta_seconds END,
        started_at = CASE WHEN :started THEN coalesce(started_at, clock_timestamp()) ELSE started_at END,
        updated_at = clock_timestamp()
    WHERE id = :id
"""


def _check_move(old: ItemState, to: ItemState) -> None:
    if old is to or to in MOVES[old]:
        return
    if old is ItemState.CANCELLED:
        raise Cancelled("the order was cancelled")
    raise Conflict(f"an item that is {old.value} can't become {to.value}")


def _values(item_id: UUID, old: ItemState, to: ItemState, change: Change) -> dict[str, Any]:
    return {
        "id": item_id,
        "state": to.value,
        "asset_id": change.asset_id,
        "publication_id": change.publication_id,
        "duplicate": change.duplicate,
        "proofs": None if change.proofs is None else json.dumps(change.proofs),
        "warnings": None if change.warnings is None else json.dumps(change.warnings),
        "error": None if change.error is None else json.dumps(change.error.to_json()),
        "attempts": change.attempts,
        "retry_after": change.retry_after_seconds,
        "leave_bundle": to is ItemState.QUEUED,
        "moved": old is not to,
        "started": to not in FINAL_STATES and to is not ItemState.QUEUED,
    }


def set_progress(tx: Tx, item_id: UUID, progress: Progress) -> None:
    """Write how far an item is; no event, and no effect on one that has ended."""
    tx.execute(
        text(
            """
            UPDATE items SET fraction = :fraction, speed = :speed, eta_seconds = :eta, updated_at = clock_timestamp()
            WHERE id = :id AND state NOT IN ('published', 'stored', 'failed', 'cancelled')
            """
        ),
        {"id": item_id, "fraction": progress.fraction, "speed": progress.speed, "eta": progress.eta_seconds},
    )
