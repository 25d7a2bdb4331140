"""What is waiting to be started: the questions that ``flows.submit`` asks.

A piece of work is *due* when its row says unfinished, nobody holds its lease, and its
time has come. ``hand_over`` marks it in a compare-and-set on ``attempt``, so that two
reconcilers never hand over the same attempt; the attempt is part of the run's
idempotency key (a key returns even a failed run for ever).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from sqlalchemy import text

from headrace.catalogue.database import Tx


class Work(StrEnum):
    """The kinds of work that are handed to the orchestrator; the values are the tables."""

    ORDER = "orders"
    BUNDLE = "bundles"
    PUBLICATION = "publications"


@dataclass(frozen=True, slots=True)
class Due:
    """A piece of work that may be handed over."""

    kind: Work
    id: UUID
    attempt: int
    """How often it was handed over before."""
    run_id: UUID | None
    """The run that it was last handed to; where that still waits or starts, leave it."""
    lapsed: bool
    """Whether a lease that was taken since then has expired: that run is dead, whatever Prefect says."""


_CONDITIONS = {
    Work.ORDER: """
        w.cancelled_at IS NULL AND EXISTS (
            SELECT 1 FROM items i WHERE i.order_id = w.id AND i.state = 'queued' AND i.bundle_id IS NULL
              AND (i.not_before IS NULL OR i.not_before <= clock_timestamp()))
    """,
    Work.BUNDLE: """
        EXISTS (SELECT 1 FROM items i WHERE i.bundle_id = w.id AND i.state IN ('queued', 'downloading', 'storing'))
        AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.name = 'bundle:' || w.id AND l.expires_at >= clock_timestamp())
    """,
    Work.PUBLICATION: """
        w.state IN ('pending', 'working') AND (w.not_before IS NULL OR w.not_before <= clock_timestamp())
        AND NOT EXISTS (
            SELECT 1 FROM leases l WHERE l.name = 'publication:' || w.id AND l.expires_at >= clock_timestamp())
    """,
}


_LEASES = {Work.ORDER: "order:", Work.BUNDLE: "bundle:", Work.PUBLICATION: "publication:"}
"""What the names of a kind's leases begin with; orders are planned without one."""


def due(tx: Tx, kind: Work, *, only: UUID | None = None, limit: int = 200) -> list[Due]:
    """Return the work of a kind that is due, the oldest first."""
    rows = tx.execute(
        text(
            f"""
            SELECT w.id, w.attempt, w.run_id, EXISTS (
                SELECT 1 FROM leases l WHERE l.name = :prefix || w.id
                  AND l.expires_at > w.submitted_at AND l.expires_at < clock_timestamp()) AS lapsed
            FROM {kind.value} w
            WHERE (CAST(:only AS uuid) IS NULL OR w.id = :only) AND {_CONDITIONS[kind]}
            ORDER BY w.created_at LIMIT :limit
            """
        ),
        {"only": only, "limit": limit, "prefix": _LEASES[kind]},
    )
    return [Due(kind, row.id, row.attempt, row.run_id, row.lapsed) for row in rows]


def hand_over(tx: Tx, work: Due) -> int | None:
    """Mark work as handed over and return the number of the new attempt; ``None`` if somebody else did."""
    attempt: int | None = tx.execute(
        text(
            f"""
            UPDATE {work.kind.value} SET attempt = attempt + 1, submitted_at = clock_timestamp(), run_id = NULL
            WHERE id = :id AND attempt = :attempt RETURNING attempt
            """
        ),
        {"id": work.id, "attempt": work.attempt},
    ).scalar()
    return attempt


def remember_run(tx: Tx, work: Due, run_id: UUID) -> None:
    """Remember the run that work was handed to."""
    tx.execute(
        text(f"UPDATE {work.kind.value} SET run_id = :run WHERE id = :id"),
        {"id": work.id, "run": run_id},
    )


def sweep(tx: Tx) -> None:
    """Forget leases that ended long ago (their tokens are never used again: one sequence)."""
    tx.execute(text("DELETE FROM leases WHERE expires_at < clock_timestamp() - interval '1 day'"))
