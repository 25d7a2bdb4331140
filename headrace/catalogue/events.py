"""Events: what happened, appended in the transaction that made it happen.

Outbox, audit, webhooks and metering read this table; nothing updates or deletes in it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from headrace.catalogue.database import Tx


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    id: int
    at: datetime
    kind: str
    order_id: UUID | None
    item_id: UUID | None
    asset_id: str | None
    body: dict[str, Any]


def append(
    tx: Tx,
    kind: str,
    *,
    owner: str | None = None,
    order_id: UUID | None = None,
    item_id: UUID | None = None,
    asset_id: str | None = None,
    publication_id: UUID | None = None,
    **body: Any,
) -> None:
    """Append one event; ``body`` must be JSON-able and hold no secret."""
    tx.execute(
        text(
            """
            INSERT INTO events (kind, owner, order_id, item_id, asset_id, publication_id, body)
            VALUES (:kind, :owner, :order_id, :item_id, :asset_id, :publication_id, CAST(:body AS jsonb))
            """
        ),
        {
            "kind": kind,
            "owner": owner,
            "order_id": order_id,
            "item_id": item_id,
            "asset_id": asset_id,
            "publication_id": publication_id,
            "body": json.dumps(body),
        },
    )


def of_asset(tx: Tx, owner: str, asset_id: str, limit: int = 200) -> list[Event]:
    """Return the newest events of an asset that the owner may see, oldest first."""
    rows = tx.execute(
        text(
            """
            SELECT id, at, kind, order_id, item_id, asset_id, body FROM events
            WHERE asset_id = :asset AND (owner IS NULL OR owner = :owner)
            ORDER BY id DESC LIMIT :limit
            """
        ),
        {"asset": asset_id, "owner": owner, "limit": limit},
    )
    return [Event(*row) for row in rows][::-1]
