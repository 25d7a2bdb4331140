"""Leases with fencing: who may work on what, until when, on the database's clock.

1. A token comes from one sequence, so it grows with every change of hands, for ever.
2. ``check`` locks the lease's row for the rest of the transaction: nobody can take the
   lease over between the check and the commit.
3. A worker that was asleep finds another token, or an expired lease, and gets ``LeaseLost``.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text

from headrace.catalogue.database import Tx
from headrace.errors import LeaseLost

LEASE_SECONDS = 30.0
"""How long a lease lasts without being renewed: the longest that a dead worker's work waits.
Holders renew every few seconds (``headrace.claim``), so that a slow database costs nobody a lease."""


@dataclass(frozen=True, slots=True)
class Fence:
    """A lease that was held when it was made: its name and fencing token."""

    name: str
    token: int


def acquire(tx: Tx, name: str, holder: str, seconds: float = LEASE_SECONDS) -> Fence | None:
    """Take the lease if it is free or has expired; return ``None`` while somebody holds it."""
    row = tx.execute(
        text(
            """
            INSERT INTO leases (name, holder, token, expires_at)
            VALUES (:name, :holder, nextval('lease_tokens'), clock_timestamp() + make_interval(secs => :seconds))
            ON CONFLICT (name) DO UPDATE
            SET holder = excluded.holder, token = excluded.token, expires_at = excluded.expires_at
            WHERE leases.expires_at < clock_timestamp()
            RETURNING token
            """
        ),
        {"name": name, "holder": holder, "seconds": seconds},
    ).first()
    return Fence(name, row.token) if row else None


def renew(tx: Tx, fence: Fence, seconds: float = LEASE_SECONDS) -> None:
    """Hold the lease for another ``seconds``; raises ``LeaseLost`` where it was taken, revoked or expired."""
    done = tx.execute(
        text(
            """
            UPDATE leases SET expires_at = clock_timestamp() + make_interval(secs => :seconds)
            WHERE name = :name AND token = :token AND expires_at >= clock_timestamp()
            """
        ),
        {"name": fence.name, "token": fence.token, "seconds": seconds},
    )
    if done.rowcount != 1:
        raise LeaseLost(f"the lease {fence.name} is no longer ours", token=fence.token)


def check(tx: Tx, fence: Fence) -> None:
    """Raise ``LeaseLost`` unless the lease is held; if it is, nobody takes it before this commit."""
    row = tx.execute(
        text(
            "SELECT 1 FROM leases WHERE name = :name AND token = :token AND expires_at >= clock_timestamp() FOR SHARE"
        ),
        {"name": fence.name, "token": fence.token},
    ).first()
    if row is None:
        raise LeaseLost(f"the lease {fence.name} is no longer ours", token=fence.token)


def release(tx: Tx, fence: Fence) -> None:
    """Give the lease back; does nothing where it is no longer held."""
    tx.execute(
        text("DELETE FROM leases WHERE name = :name AND token = :token"), {"name": fence.name, "token": fence.token}
    )


def revoke(tx: Tx, name: str) -> None:
    """Take the lease from whoever holds it; the holder notices at its next renewal or commit."""
    tx.execute(text("DELETE FROM leases WHERE name = :name"), {"name": name})


def release_machine(tx: Tx, machine: str) -> int:
    """Give back every lease of a machine whose processes are known to have ended; return how many."""
    return tx.execute(text("DELETE FROM leases WHERE starts_with(holder, :prefix)"), {"prefix": machine + "/"}).rowcount
