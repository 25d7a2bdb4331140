"""Uploads: bytes that came through the gateway and lie in the incoming bucket."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text

from headrace.catalogue import events
from headrace.catalogue.database import Tx
from headrace.errors import NotFound


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload as it was read."""

    id: UUID
    owner: str
    name: str
    size_bytes: int
    sha256: str
    object_key: str


def add(tx: Tx, upload: Upload) -> None:
    """Remember an upload whose bytes are in the object store."""
    tx.execute(
        text(
            """
            INSERT INTO uploads (id, owner, name, size_bytes, sha256, object_key)
            VALUES (:id, :owner, :name, :size, :sha256, :key)
            """
        ),
        {
            "id": upload.id,
            "owner": upload.owner,
            "name": upload.name,
            "size": upload.size_bytes,
            "sha256": upload.sha256,
            "key": upload.object_key,
        },
    )
    events.append(tx, "upload.received", owner=upload.owner, upload_id=str(upload.id), size_bytes=upload.size_bytes)


def get(tx: Tx, upload_id: UUID, owner: str) -> Upload:
    """Return an upload; raises ``NotFound``, also for one that belongs to somebody else."""
    row = tx.execute(
        text("SELECT id, owner, name, size_bytes, sha256, object_key FROM uploads WHERE id = :id AND owner = :owner"),
        {"id": upload_id, "owner": owner},
    ).first()
    if row is None:
        raise NotFound(f"there is no upload {upload_id}", hint="Uploads are kept for a day; send the file again.")
    return Upload(*row)


def expired(tx: Tx, older_than_seconds: float, limit: int = 100) -> list[Upload]:
    """Return uploads of at least that age that no unfinished item needs."""
    rows = tx.execute(
        text(
            """
            SELECT id, owner, name, size_bytes, sha256, object_key FROM uploads u
            WHERE created_at < now() - make_interval(secs => :age) AND NOT EXISTS (
                SELECT 1 FROM items i WHERE i.source_kind = 'upload' AND i.locator = u.id::text
                  AND i.state NOT IN ('published', 'stored', 'cancelled'))
            ORDER BY created_at LIMIT :limit
            """
        ),
        {"age": older_than_seconds, "limit": limit},
    )
    return [Upload(*row) for row in rows]


def remove(tx: Tx, upload_id: UUID) -> None:
    """Forget an upload whose object is gone."""
    tx.execute(text("DELETE FROM uploads WHERE id = :id"), {"id": upload_id})
