"""Hosts: how each one is, and who of all workers has a connection to it or waits for one.

1. Whoever decides about a host has its row locked (``lock``), so two never take the last place.
2. A place is a lease on the database's clock. One that has expired doesn't count: a killed
   worker's places are free when theirs have.
3. A host's row is written when something happens to it. Work with a well host touches it only
   to lock it, when a connection is made.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from headrace.catalogue.database import Tx
from headrace.errors import NotFound
from headrace.hosts.state import CLEAN, HostState, Phase

FORGET_AFTER = "1 day"
"""A host that is well and unused for so long is forgotten."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """Who is at a host, at a time in seconds on the database's clock."""

    now: float
    active: int
    ahead: int
    """How many wait before the one that asks."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a process learns of a host at its heartbeat."""

    state: HostState
    wanted: int
    """How many others wait for a place."""


@dataclass(frozen=True, slots=True)
class Host:
    """A host as people see it."""

    host: str
    phase: Phase
    connections: int
    waiting: int
    failures: int
    until: datetime | None
    """When it is asked again, where it isn't now."""
    why: str
    used_at: datetime


_STATE = """
    h.failures, h.failed_of, coalesce(extract(epoch FROM h.cool_until), 0)::float8 AS cool_until,
    coalesce(extract(epoch FROM h.open_until), 0)::float8 AS open_until, h.open_seconds,
    coalesce(extract(epoch FROM h.probe_until), 0)::float8 AS probe_until,
    coalesce(extract(epoch FROM h.next_request_at), 0)::float8 AS next_request_at, h.why
"""


def _state(row: Any) -> HostState:
    return HostState(
        row.failures,
        row.failed_of,
        row.cool_until,
        row.open_until,
        row.open_seconds,
        row.probe_until,
        row.next_request_at,
        row.why,
    )


def lock(tx: Tx, host: str) -> HostState:
    """Return a host's state, and keep everybody else from deciding about it until this commit."""
    row = tx.execute(
        text(
            f"""
            INSERT INTO hosts AS h (host) VALUES (:host)
            ON CONFLICT (host) DO UPDATE SET used_at = clock_timestamp()
            RETURNING {_STATE}
            """
        ),
        {"host": host},
    ).one()
    return _state(row)


def crowd(tx: Tx, host: str, place: str | None = None) -> Crowd:
    """Count who is at a host that is locked; forgets the leases that have expired."""
    tx.execute(
        text(
            """
            DELETE FROM host_places WHERE id IN (
                SELECT id FROM host_places WHERE host = :host AND expires_at < clock_timestamp()
                FOR UPDATE SKIP LOCKED)
            """
        ),
        {"host": host},
    )
    row = tx.execute(
        text(
            """
            SELECT extract(epoch FROM clock_timestamp())::float8 AS now,
                   count(*) FILTER (WHERE p.waiting_since IS NULL) AS active,
                   count(*) FILTER (WHERE p.id <> coalesce(:place, '') AND (p.waiting_since, p.id) < (
                       coalesce((SELECT m.waiting_since FROM host_places m WHERE m.id = :place), 'infinity'),
                       coalesce(:place, ''))) AS ahead
            FROM host_places p WHERE p.host = :host AND p.expires_at >= clock_timestamp()
            """
        ),
        {"host": host, "place": place},
    ).one()
    return Crowd(row.now, row.active, row.ahead)


def write(tx: Tx, host: str, state: HostState) -> None:
    """Write the state of a host that is locked."""
    tx.execute(
        text(
            """
            UPDATE hosts SET
                failures = :failures, failed_of = :failed_of, open_seconds = :open_seconds, why = :why,
                cool_until = to_timestamp(nullif(:cool_until, 0)), open_until = to_timestamp(nullif(:open_until, 0)),
                probe_until = to_timestamp(nullif(:probe_until, 0)),
                next_request_at = to_timestamp(nullif(:next_request_at, 0))
            WHERE host = :host
            """
        ),
        {
            "host": host,
            "failures": state.failures,
            "failed_of": state.failed_of,
            "cool_until": state.cool_until,
            "open_until": state.open_until,
            "open_seconds": state.open_seconds,
            "probe_until": state.probe_until,
            "next_request_at": state.next_request_at,
            "why": state.why,
        },
    )


def take(tx: Tx, host: str, place: str, holder: str, seconds: float) -> None:
    """Write down a place for so long; who waited for it does so no more."""
    tx.execute(
        text(
            """
            INSERT INTO host_places (id, host, holder, expires_at)
            VALUES (:id, :host, :holder, clock_timestamp() + make_interval(secs => :seconds))
            ON CONFLICT (id) DO UPDATE SET waiting_since = NULL, expires_at = excluded.expires_at
            """
        ),
        {"id": place, "host": host, "holder": holder, "seconds": seconds},
    )


def queue(tx: Tx, host: str, place: str, holder: str, seconds: float) -> None:
    """Write down, for so long, that somebody waits for a place; who waits already keeps its turn."""
    tx.execute(
        text(
            """
            INSERT INTO host_places (id, host, holder, waiting_since, expires_at)
            VALUES (:id, :host, :holder, clock_timestamp(), clock_timestamp() + make_interval(secs => :seconds))
            ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at
            """
        ),
        {"id": place, "host": host, "holder": holder, "seconds": seconds},
    )


def leave(tx: Tx, place: str) -> None:
    """Give back a place, or a turn; does nothing where there is none."""
    tx.execute(text("DELETE FROM host_places WHERE id = :id"), {"id": place})


def leave_all(tx: Tx, holder: str) -> None:
    """Give back everything that a process has."""
    tx.execute(text("DELETE FROM host_places WHERE holder = :holder"), {"holder": holder})


def renew(tx: Tx, holder: str, places: Mapping[str, str], seconds: float) -> None:
    """Hold a process's places (by name, with their hosts) for so long from now.

    One that has expired meanwhile, and was forgotten, is written down again: the connection is
    there, so the truth is that it counts, even where that makes one more than may be.
    """
    tx.execute(
        text(
            """
            INSERT INTO host_places (id, host, holder, waiting_since, expires_at)
            SELECT place, host, :holder, NULL, clock_timestamp() + make_interval(secs => :seconds)
            FROM unnest(CAST(:places AS text[]), CAST(:hosts AS text[])) AS held (place, host) ORDER BY place
            ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at
            """
        ),
        {"holder": holder, "seconds": seconds, "places": list(places), "hosts": list(places.values())},
    )


def look(tx: Tx, hosts: Collection[str], holder: str) -> dict[str, Seen]:
    """Return how hosts are, and how many other processes' turns wait there."""
    rows = tx.execute(
        text(
            f"""
            SELECT h.host, {_STATE}, (
                SELECT count(*) FROM host_places p
                WHERE p.host = h.host AND p.waiting_since IS NOT NULL AND p.holder <> :holder
                  AND p.expires_at >= clock_timestamp()) AS wanted
            FROM hosts h WHERE h.host = ANY(:hosts)
            """
        ),
        {"hosts": list(hosts), "holder": holder},
    )
    return {row.host: Seen(_state(row), row.wanted) for row in rows}


MOST_FOUND = 1000
"""Hosts that are listed: one order can name ten thousand."""


def find(tx: Tx) -> list[Host]:
    """Return the hosts that are known, those in trouble first, then the last ones used; ``MOST_FOUND`` at most."""
    rows = tx.execute(
        text(
            f"""
            SELECT h.host, h.used_at, {_STATE}, extract(epoch FROM clock_timestamp())::float8 AS now,
                   greatest(h.open_until, h.cool_until) AS ends,
                   count(p.id) FILTER (WHERE p.waiting_since IS NULL) AS active,
                   count(p.id) FILTER (WHERE p.waiting_since IS NOT NULL) AS waiting
            FROM hosts h LEFT JOIN host_places p ON p.host = h.host AND p.expires_at >= clock_timestamp()
            GROUP BY h.host
            ORDER BY h.open_until IS NOT NULL OR coalesce(h.cool_until > clock_timestamp(), false) DESC,
                     h.failures > 0 DESC, h.used_at DESC
            LIMIT :most
            """
        ),
        {"most": MOST_FOUND},
    )
    return [_host(row) for row in rows]


def _host(row: Any) -> Host:
    state = _state(row)
    phase, until = state.phase(row.now), state.until(row.now)
    return Host(
        host=row.host,
        phase=phase,
        connections=row.active,
        waiting=row.waiting,
        failures=state.failures,
        until=row.ends if until is not None else None,
        why=state.why if phase is not Phase.OK or state.failures else "",
        used_at=row.used_at,
    )


def reset(tx: Tx, host: str) -> None:
    """Let a host be asked again at once; its connections stay. Raises ``NotFound``."""
    if tx.execute(text("SELECT 1 FROM hosts WHERE host = :host FOR UPDATE"), {"host": host}).first() is None:
        raise NotFound(f"nothing is known of the host {host}", hint="`headrace status` lists those in trouble.")
    write(tx, host, CLEAN)


def sweep(tx: Tx) -> int:
    """Forget hosts that are well and unused for a day, and leases that have expired; return how many hosts."""
    tx.execute(text("DELETE FROM host_places WHERE expires_at < clock_timestamp()"))
    return tx.execute(
        text(
            f"""
            DELETE FROM hosts h
            WHERE h.used_at < clock_timestamp() - interval '{FORGET_AFTER}'
              AND greatest(h.open_until, h.cool_until, h.used_at) < clock_timestamp() - interval '{FORGET_AFTER}'
              AND NOT EXISTS (SELECT 1 FROM host_places p WHERE p.host = h.host)
            """
        )
    ).rowcount


def release_machine(tx: Tx, machine: str) -> int:
    """Give back every place of a machine whose processes are known to have ended; return how many."""
    return tx.execute(
        text("DELETE FROM host_places WHERE starts_with(holder, :prefix)"), {"prefix": machine + "/"}
    ).rowcount
