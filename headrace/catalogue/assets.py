"""Assets, their masters, and the entries through which owners see them.

An owner sees an asset only through an entry of theirs; for anybody else it does not exist.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from headrace.catalogue import events
from headrace.catalogue.database import Tx
from headrace.errors import HeadraceError, InvalidRequest, NotFound
from headrace.model import Digests, StoredMaster

SHORTEST_PREFIX = 6
"""The fewest characters of an asset's id that may stand for it on the command line."""


@dataclass(frozen=True, slots=True)
class Described:
    """What was found out about a content, to be kept with its asset."""

    media_type: str
    kind: str
    duration_seconds: float | None
    probe: dict[str, Any] | None
    problem: HeadraceError | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """An owner's named reference to an asset."""

    id: UUID
    title: str
    path: str
    collection: str
    proofs: tuple[str, ...]
    """Which checks the bytes had passed when its item brought them, such as ``sha256:order``."""
    created_at: datetime
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True)
class Asset:
    """An asset as its owner sees it."""

    id: str
    sha256: str
    size_bytes: int
    media_type: str
    kind: str
    duration_seconds: float | None
    probe: dict[str, Any] | None
    problem: dict[str, Any] | None
    created_at: datetime
    entries: tuple[Entry, ...]
    master: StoredMaster | None

    @property
    def title(self) -> str:
        """The newest entry's title."""
        return self.entries[0].title if self.entries else self.id[:12]


def describe(tx: Tx, digests: Digests, described: Described) -> bool:
    """Write an asset, or find it; return whether it was known already."""
    problem = described.problem
    row = tx.execute(
        text(
            """
            INSERT INTO assets (id, sha256, size_bytes, media_type, kind, duration_seconds, probe, problem)
            VALUES (:id, :sha256, :size, :media_type, :kind, :duration, CAST(:probe AS jsonb), CAST(:problem AS jsonb))
            ON CONFLICT (id) DO UPDATE SET media_type = excluded.media_type, kind = excluded.kind,
                duration_seconds = excluded.duration_seconds, probe = excluded.probe, problem = excluded.problem
            RETURNING xmax <> 0 AS known
            """
        ),
        {
            "id": digests.blake3,
            "sha256": digests.sha256,
            "size": digests.size_bytes,
            "media_type": described.media_type,
            "kind": described.kind,
            "duration": described.duration_seconds,
            "probe": None if described.probe is None else json.dumps(described.probe),
            "problem": None if problem is None else json.dumps(problem.to_json()),
        },
    ).one()
    known: bool = row.known
    if not known:
        events.append(tx, "asset.created", asset_id=digests.blake3, size_bytes=digests.size_bytes)
    return known


def digests(tx: Tx, asset_id: str) -> Digests:
    """Return an asset's digests; raises ``NotFound``."""
    row = tx.execute(text("SELECT id, sha256, size_bytes FROM assets WHERE id = :id"), {"id": asset_id}).first()
    if row is None:
        raise NotFound(f"there is no asset {asset_id}")
    return Digests(row.id, row.sha256, row.size_bytes)


def media_type(tx: Tx, asset_id: str) -> str:
    """Return the type that an asset was found to be; raises ``NotFound``."""
    found: str | None = tx.execute(text("SELECT media_type FROM assets WHERE id = :id"), {"id": asset_id}).scalar()
    if found is None:
        raise NotFound(f"there is no asset {asset_id}")
    return found


def problem(tx: Tx, asset_id: str) -> dict[str, Any] | None:
    """Return why nothing can be played from an asset (an error object), or ``None``."""
    found: dict[str, Any] | None = tx.execute(
        text("SELECT problem FROM assets WHERE id = :id"), {"id": asset_id}
    ).scalar()
    return found


def set_problem(tx: Tx, asset_id: str, error: HeadraceError) -> None:
    """Remember what an encoder found out: that the content can't be played."""
    tx.execute(
        text("UPDATE assets SET problem = CAST(:problem AS jsonb) WHERE id = :id"),
        {"id": asset_id, "problem": json.dumps(error.to_json())},
    )


def master(tx: Tx, asset_id: str) -> StoredMaster | None:
    """Return where an asset's original is, or ``None`` where it is not durable yet."""
    row = tx.execute(
        text(
            """
            SELECT m.asset_id, a.size_bytes, m.stored_bytes, m.kind, m.reason, m.object_key
            FROM masters m JOIN assets a ON a.id = m.asset_id WHERE m.asset_id = :id
            """
        ),
        {"id": asset_id},
    ).first()
    return StoredMaster(*row) if row else None


def add_master(tx: Tx, stored: StoredMaster) -> StoredMaster:
    """Remember a durable, verified master; return the one that counts.

    Where another writer was first, that one is returned, and the caller's object is waste.
    """
    tx.execute(
        text(
            """
            INSERT INTO masters (asset_id, kind, reason, stored_bytes, object_key)
            VALUES (:id, :kind, :reason, :stored, :key) ON CONFLICT (asset_id) DO NOTHING
            """
        ),
        {
            "id": stored.blake3,
            "kind": stored.kind,
            "reason": stored.reason,
            "stored": stored.stored_bytes,
            "key": stored.object_key,
        },
    )
    kept = master(tx, stored.blake3)
    if kept is None:
        raise NotFound(f"the asset {stored.blake3} vanished while its master was stored")
    if kept.object_key == stored.object_key:
        events.append(
            tx, "master.stored", asset_id=stored.blake3, stored_bytes=stored.stored_bytes, encoding=stored.kind
        )
    return kept


def replace_master(tx: Tx, stored: StoredMaster) -> None:
    """Put a verified master in the place of one that was found damaged or missing."""
    tx.execute(
        text(
            """
            UPDATE masters SET kind = :kind, reason = :reason, stored_bytes = :stored, object_key = :key,
                   stored_at = now() WHERE asset_id = :id
            """
        ),
        {
            "id": stored.blake3,
            "kind": stored.kind,
            "reason": stored.reason,
            "stored": stored.stored_bytes,
            "key": stored.object_key,
        },
    )
    events.append(tx, "master.repaired", asset_id=stored.blake3, stored_bytes=stored.stored_bytes)


def add_entry(
    tx: Tx, owner: str, asset_id: str, *, title: str, path: str, collection: str = "", item_id: UUID | None = None
) -> None:
    """Let an owner see an asset under a name; where they see it so already its proofs are added only."""
    added = tx.execute(
        text(
            """
            INSERT INTO entries (id, owner, asset_id, title, path, collection, item_id, proofs)
            VALUES (gen_random_uuid(), :owner, :asset, :title, :path, :collection, :item,
                    coalesce((SELECT proofs FROM items WHERE id = :item), '[]'))
            ON CONFLICT (owner, collection, path, asset_id) WHERE deleted_at IS NULL DO UPDATE SET proofs =
                (SELECT coalesce(jsonb_agg(DISTINCT one), '[]')
                 FROM jsonb_array_elements(entries.proofs || excluded.proofs) AS one)
            RETURNING xmax = 0 AS added
            """
        ),
        {
            "owner": owner,
            "asset": asset_id,
            "title": title,
            "path": path,
            "collection": collection,
            "item": item_id,
        },
    ).scalar_one()
    if added:
        events.append(tx, "entry.created", owner=owner, asset_id=asset_id, item_id=item_id, title=title)


_SELECT = """
    SELECT a.*, m.kind AS master_kind, m.reason, m.stored_bytes, m.object_key,
      (SELECT jsonb_agg(jsonb_build_object('id', e.id, 'title', e.title, 'path', e.path, 'collection', e.collection,
                                           'proofs', e.proofs,
                                           'created_at', e.created_at, 'deleted_at', e.deleted_at)
                        ORDER BY e.created_at DESC)
       FROM entries e WHERE e.asset_id = a.id AND e.owner = :owner
         AND (e.deleted_at IS NULL OR :with_deleted)) AS seen
    FROM assets a LEFT JOIN masters m ON m.asset_id = a.id
"""


def _asset(row: Any) -> Asset:
    stored = None
    if row.object_key is not None:
        stored = StoredMaster(row.id, row.size_bytes, row.stored_bytes, row.master_kind, row.reason, row.object_key)
    return Asset(
        id=row.id,
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        media_type=row.media_type,
        kind=row.kind,
        duration_seconds=row.duration_seconds,
        probe=row.probe,
        problem=row.problem,
        created_at=row.created_at,
        entries=tuple(_entry(one) for one in row.seen or ()),
        master=stored,
    )


def _entry(one: dict[str, Any]) -> Entry:
    deleted = one["deleted_at"]
    return Entry(
        id=UUID(one["id"]),
        title=one["title"],
        path=one["path"],
        collection=one["collection"],
        proofs=tuple(one["proofs"]),
        created_at=datetime.fromisoformat(one["created_at"]),
        deleted_at=datetime.fromisoformat(deleted) if deleted else None,
    )


def find(tx: Tx, owner: str, *, search: str = "", limit: int = 500) -> list[Asset]:
    """Return an owner's assets, the newest first; ``search`` is matched in titles and paths."""
    pattern = "%" + search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    rows = tx.execute(
        text(
            _SELECT
            + """
            WHERE a.id IN (SELECT asset_id FROM entries e WHERE e.owner = :owner AND e.deleted_at IS NULL
                           AND (:search = '' OR e.title ILIKE :pattern OR e.path ILIKE :pattern))
            ORDER BY a.created_at DESC LIMIT :limit
            """
        ),
        {"owner": owner, "with_deleted": False, "search": search, "pattern": pattern, "limit": limit},
    )
    return [_asset(row) for row in rows]


def get(tx: Tx, owner: str, name: str, *, with_deleted: bool = False) -> Asset:
    """Return the asset of an owner that an id, or the beginning of one, names.

    Raises ``NotFound`` (also for another owner's), ``InvalidRequest`` where several begin so.
    """
    name = name.lower().removeprefix("asset:")
    if len(name) < SHORTEST_PREFIX or not all(c in "0123456789abcdef" for c in name):
        raise NotFound(f"there is no asset {name[:80]!r}", hint="`headrace assets` lists the library.")
    rows = tx.execute(
        text(
            _SELECT
            + """
            WHERE a.id LIKE :prefix AND EXISTS (SELECT 1 FROM entries e WHERE e.asset_id = a.id AND e.owner = :owner
                                                AND (e.deleted_at IS NULL OR :with_deleted))
            LIMIT 2
            """
        ),
        {"owner": owner, "prefix": name + "%", "with_deleted": with_deleted},
    ).all()
    if not rows:
        raise NotFound(f"there is no asset {name}", hint="`headrace assets` lists the library.")
    if len(rows) > 1:
        raise InvalidRequest(f"several assets begin with {name}", hint="Give more characters of the id.")
    return _asset(rows[0])


def delete(tx: Tx, owner: str, asset_id: str) -> int:
    """Remove an owner's entries of an asset; return how many. Nothing of the asset itself is lost."""
    gone = tx.execute(
        text("UPDATE entries SET deleted_at = now() WHERE owner = :owner AND asset_id = :asset AND deleted_at IS NULL"),
        {"owner": owner, "asset": asset_id},
    ).rowcount
    if gone:
        events.append(tx, "entry.deleted", owner=owner, asset_id=asset_id, entries=gone)
    return gone


def undelete(tx: Tx, owner: str, asset_id: str) -> int:
    """Bring back the entries that the owner's last ``delete`` of an asset removed; return how many."""
    back = tx.execute(
        text(
            """
            UPDATE entries SET deleted_at = NULL WHERE owner = :owner AND asset_id = :asset AND deleted_at = (
                SELECT max(deleted_at) FROM entries WHERE owner = :owner AND asset_id = :asset)
            """
        ),
        {"owner": owner, "asset": asset_id},
    ).rowcount
    if back:
        events.append(tx, "entry.restored", owner=owner, asset_id=asset_id, entries=back)
    return back


def masters(tx: Tx) -> list[StoredMaster]:
    """Return every master of the vault (operators only)."""
    rows = tx.execute(
        text(
            """
            SELECT m.asset_id, a.size_bytes, m.stored_bytes, m.kind, m.reason, m.object_key
            FROM masters m JOIN assets a ON a.id = m.asset_id ORDER BY m.stored_at
            """
        )
    )
    return [StoredMaster(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Space:
    """What the vault holds and saves, in bytes (DESIGN.md, ``space --json``)."""

    logical_bytes: int
    unique_bytes: int
    stored_bytes: int
    dead_bytes: int
    waiting_bytes: int
    saved_by_dedup_bytes: int
    saved_by_compression_bytes: int


def space(tx: Tx, owners: Sequence[str] | None = None) -> Space:
    """Return the vault's bytes: of everybody, or as ``owners`` see them."""
    row = tx.execute(
        text(
            """
            WITH seen AS (
                SELECT asset_id, count(*) FILTER (WHERE deleted_at IS NULL) AS live FROM entries
                WHERE CAST(:owners AS text[]) IS NULL OR owner = ANY(:owners) GROUP BY asset_id)
            SELECT coalesce(sum(a.size_bytes * s.live), 0) AS logical,
                   coalesce(sum(a.size_bytes) FILTER (WHERE s.live > 0), 0) AS uniq,
                   coalesce(sum(m.stored_bytes) FILTER (WHERE s.live > 0), 0) AS stored,
                   coalesce(sum(m.stored_bytes) FILTER (WHERE s.live = 0), 0) AS waiting
            FROM seen s JOIN assets a ON a.id = s.asset_id JOIN masters m ON m.asset_id = a.id
            """
        ),
        {"owners": list(owners) if owners is not None else None},
    ).one()
    logical, unique, stored, waiting = (int(value) for value in row)
    return Space(
        logical_bytes=logical,
        unique_bytes=unique,
        stored_bytes=stored + waiting,
        dead_bytes=0,
        waiting_bytes=waiting,
        saved_by_dedup_bytes=logical - unique,
        saved_by_compression_bytes=unique - stored,
    )
