"""Publications: one encode for each (asset, recipe), whoever ordered it.

An item joins a publication in one transaction with its own move, under a lock on the
publication's row; ``complete`` takes the same lock. So an item either sees the
publication live, or is completed with it: nobody waits for ever.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text

from headrace.catalogue import events, items, leases
from headrace.catalogue.database import Tx
from headrace.catalogue.items import Change
from headrace.catalogue.leases import Fence
from headrace.catalogue.orders import recipe_from, remember
from headrace.errors import HeadraceError, NotFound
from headrace.model import ItemState, PackagedSet, Progress, PublicationState, Rendition
from headrace.recipe import Recipe


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One object of a publication."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Publication:
    """A publication as it was read."""

    id: UUID
    asset_id: str
    recipe: Recipe
    state: PublicationState
    attempt: int
    prefix: str | None
    hls: str | None
    dash: str | None
    poster: str | None
    storyboard: str | None
    files: tuple[PublishedFile, ...]
    warnings: tuple[str, ...]
    duration_seconds: float | None
    size_bytes: int
    error: dict[str, Any] | None
    renditions: tuple[Rendition, ...]


_SELECT = """
    SELECT p.*, r.name AS recipe_name, r.body AS recipe_body,
      (SELECT coalesce(jsonb_agg(to_jsonb(n) - 'id' - 'publication_id'
                                 ORDER BY n.kind DESC, n.height DESC, n.name), '[]')
       FROM renditions n WHERE n.publication_id = p.id) AS renditions
    FROM publications p JOIN recipes r ON r.id = p.recipe_id
"""


def _publication(row: Any) -> Publication:
    return Publication(
        id=row.id,
        asset_id=row.asset_id,
        recipe=recipe_from(row.recipe_name, row.recipe_body),
        state=PublicationState(row.state),
        attempt=row.attempt,
        prefix=row.prefix,
        hls=row.hls,
        dash=row.dash,
        poster=row.poster,
        storyboard=row.storyboard,
        files=tuple(PublishedFile(**one) for one in row.files),
        warnings=tuple(row.warnings),
        duration_seconds=row.duration_seconds,
        size_bytes=row.size_bytes,
        error=row.error,
        renditions=tuple(Rendition(**one) for one in row.renditions),
    )


def get(tx: Tx, publication_id: UUID) -> Publication:
    """Return a publication; raises ``NotFound``."""
    row = tx.execute(text(_SELECT + " WHERE p.id = :id"), {"id": publication_id}).first()
    if row is None:
        raise NotFound(f"there is no publication {publication_id}")
    return _publication(row)


def of_assets(tx: Tx, asset_ids: Sequence[str]) -> dict[str, list[Publication]]:
    """Return the publications of assets that are not retired, the newest first."""
    rows = tx.execute(
        text(_SELECT + " WHERE p.asset_id = ANY(:ids) AND p.state <> 'retired' ORDER BY p.created_at DESC"),
        {"ids": list(asset_ids)},
    )
    found: dict[str, list[Publication]] = {}
    for row in rows:
        found.setdefault(row.asset_id, []).append(_publication(row))
    return found


def join(tx: Tx, item_id: UUID, asset_id: str, recipe: Recipe, *, fence: Fence | None = None) -> Publication:
    """Let an item wait for the publication of (asset, recipe), made here if there is none.

    A live one publishes the item at once (*duplicate*); a failed one is tried again.
    """
    remember(tx, recipe)
    tx.execute(
        text(
            """
            INSERT INTO publications (id, asset_id, recipe_id, attempt) VALUES (gen_random_uuid(), :asset, :recipe, 0)
            ON CONFLICT (asset_id, recipe_id) WHERE state <> 'retired' DO NOTHING
            """
        ),
        {"asset": asset_id, "recipe": recipe.identity},
    )
    row = tx.execute(
        text(
            """
            SELECT id, state FROM publications
            WHERE asset_id = :asset AND recipe_id = :recipe AND state <> 'retired' FOR UPDATE
            """
        ),
        {"asset": asset_id, "recipe": recipe.identity},
    ).one()
    if row.state == PublicationState.FAILED.value:
        tx.execute(
            text(
                "UPDATE publications SET state = 'pending', error = NULL, not_before = NULL,"
                " updated_at = now() WHERE id = :id"
            ),
            {"id": row.id},
        )
    publication = get(tx, row.id)
    live = publication.state is PublicationState.LIVE
    change = Change(
        asset_id=asset_id,
        publication_id=row.id,
        warnings=publication.warnings if live else None,
        duplicate=True if live else None,
    )
    items.set_state(tx, item_id, ItemState.PUBLISHED if live else ItemState.TRANSCODING, change, fence=fence)
    return publication


def begin(tx: Tx, publication_id: UUID, fence: Fence) -> Publication:
    """Start an attempt at a publication; raises ``LeaseLost`` where the lease is gone."""
    leases.check(tx, fence)
    tx.execute(
        text(
            """
            UPDATE publications SET state = 'working', updated_at = now(), fraction = NULL, speed = NULL,
                   eta_seconds = NULL
            WHERE id = :id AND state IN ('pending', 'working')
            """
        ),
        {"id": publication_id},
    )
    _move_waiting(tx, publication_id, ItemState.TRANSCODING)
    return get(tx, publication_id)


def uploading(tx: Tx, publication_id: UUID, fence: Fence) -> None:
    """Show that a publication's files are on their way to the object store."""
    leases.check(tx, fence)
    set_progress(tx, publication_id, Progress(None))
    _move_waiting(tx, publication_id, ItemState.PUBLISHING)


def set_progress(tx: Tx, publication_id: UUID, progress: Progress) -> None:
    """Write how far the work on a publication is."""
    tx.execute(
        text(
            """
            UPDATE publications SET fraction = :fraction, speed = :speed, eta_seconds = :eta, updated_at = now()
            WHERE id = :id AND state = 'working'
            """
        ),
        {"id": publication_id, "fraction": progress.fraction, "speed": progress.speed, "eta": progress.eta_seconds},
    )


def complete(tx: Tx, publication_id: UUID, fence: Fence, prefix: str, made: PackagedSet, sizes: dict[str, int]) -> int:
    """Make a publication live, and published every item that waits for it; return how many items.

    The files must be in the object store, verified, before this is called (durable before known).
    """
    leases.check(tx, fence)
    row = tx.execute(text(_COMPLETE), {"id": publication_id, **_completed(prefix, made, sizes)}).one()
    tx.execute(text("DELETE FROM renditions WHERE publication_id = :id"), {"id": publication_id})
    for rendition in made.renditions:
        tx.execute(text(_ADD_RENDITION), {"publication_id": publication_id, **_columns(rendition)})
    events.append(
        tx, "publication.live", asset_id=row.asset_id, publication_id=publication_id, renditions=len(made.renditions)
    )
    return _move_waiting(tx, publication_id, ItemState.PUBLISHED, Change(warnings=made.warnings))


_COMPLETE = """
    UPDATE publications SET state = 'live', prefix = :prefix, hls = :hls, dash = :dash, poster = :poster,
        storyboard = :storyboard, files = CAST(:files AS jsonb), duration_seconds = :duration,
        size_bytes = :size, warnings = CAST(:warnings AS jsonb), error = NULL, fraction = 1, speed = NULL,
        eta_seconds = NULL, published_at = now(), updated_at = now()
    WHERE id = :id AND state = 'working' RETURNING asset_id
"""

_ADD_RENDITION = """
    INSERT INTO renditions (id, publication_id, name, kind, file, codec, bitrate, size_bytes, width, height,
                            frame_rate, language, channels)
    VALUES (gen_random_uuid(), :publication_id, :name, :kind, :file, :codec, :bitrate, :size_bytes, :width, :height,
            :frame_rate, :language, :channels)
"""


def _completed(prefix: str, made: PackagedSet, sizes: dict[str, int]) -> dict[str, Any]:
    return {
        "prefix": prefix,
        "hls": made.hls,
        "dash": made.dash,
        "poster": made.poster,
        "storyboard": made.storyboard,
        "files": json.dumps([{"name": name, "size_bytes": sizes[name]} for name in made.files]),
        "duration": made.duration_seconds,
        "size": sum(sizes.values()),
        "warnings": json.dumps(made.warnings),
    }


def _columns(rendition: Rendition) -> dict[str, Any]:
    return {name: getattr(rendition, name) for name in Rendition.__dataclass_fields__}


def fail(tx: Tx, publication_id: UUID, fence: Fence, error: HeadraceError) -> int:
    """End a publication with an error, and fail every item that waits for it; return how many items."""
    leases.check(tx, fence)
    row = tx.execute(
        text(
            """
            UPDATE publications SET state = 'failed', error = CAST(:error AS jsonb), updated_at = now()
            WHERE id = :id AND state IN ('pending', 'working') RETURNING asset_id
            """
        ),
        {"id": publication_id, "error": json.dumps(error.to_json())},
    ).one()
    events.append(tx, "publication.failed", asset_id=row.asset_id, publication_id=publication_id, error=error.to_json())
    return _move_waiting(tx, publication_id, ItemState.FAILED, Change(error=error))


def postpone(tx: Tx, publication_id: UUID, fence: Fence, seconds: float) -> None:
    """Put a publication back, to be tried again after ``seconds``."""
    leases.check(tx, fence)
    tx.execute(
        text(
            """
            UPDATE publications SET state = 'pending',
                not_before = clock_timestamp() + make_interval(secs => :seconds), updated_at = now()
            WHERE id = :id AND state = 'working'
            """
        ),
        {"id": publication_id, "seconds": seconds},
    )
    _move_waiting(tx, publication_id, ItemState.TRANSCODING)


def _move_waiting(tx: Tx, publication_id: UUID, to: ItemState, change: Change | None = None) -> int:
    rows = tx.execute(
        text(
            """
            SELECT id FROM items WHERE publication_id = :id AND state IN ('transcoding', 'publishing')
            ORDER BY id FOR UPDATE
            """
        ),
        {"id": publication_id},
    ).all()
    for row in rows:
        items.set_state(tx, row.id, to, change)
    return len(rows)


def retire(tx: Tx, owner: str, asset_id: str) -> int:
    """Take an asset's live publications offline; their objects are swept later. Returns how many."""
    rows = tx.execute(
        text(
            """
            UPDATE publications SET state = 'retired', updated_at = now()
            WHERE asset_id = :asset AND state = 'live' RETURNING id
            """
        ),
        {"asset": asset_id},
    ).all()
    for row in rows:
        events.append(tx, "publication.retired", owner=owner, asset_id=asset_id, publication_id=row.id)
    return len(rows)


def retired_prefixes(tx: Tx, older_than_seconds: float, limit: int = 100) -> list[tuple[UUID, str]]:
    """Return retired publications whose objects are still there, retired at least so long ago."""
    rows = tx.execute(
        text(
            """
            SELECT id, prefix FROM publications WHERE state = 'retired' AND prefix IS NOT NULL
              AND updated_at < now() - make_interval(secs => :age) ORDER BY updated_at LIMIT :limit
            """
        ),
        {"age": older_than_seconds, "limit": limit},
    )
    return [(row.id, row.prefix) for row in rows]


def forget_prefix(tx: Tx, publication_id: UUID) -> None:
    """Remember that a retired publication's objects are gone."""
    tx.execute(
        text("UPDATE publications SET prefix = NULL, files = '[]' WHERE id = :id AND state = 'retired'"),
        {"id": publication_id},
    )
