"""Bandwidth that all workers share: each process gets an equal part of it.

A process that downloads has a row for each order it downloads for, with a lease that it renews;
who has died is not counted any more when the lease is over. A limit, divided by the processes
that work on it, is what each keeps to; shares follow within ``BEAT_SECONDS``.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

from sqlalchemy import text

from headrace.catalogue.database import Database, Tx
from headrace.download.bandwidth import Bandwidth
from headrace.errors import CatalogueUnavailable
from headrace.log import Log

log = Log(__name__)

BEAT_SECONDS = 5.0
LEASE_SECONDS = 30.0
"""As leases on work (``leases``)."""


class SharedBandwidth:
    """This process's part of the bandwidth of the installation, and of each order."""

    def __init__(self, database: Database, bytes_per_second: int | None) -> None:
        """``bytes_per_second`` is what all workers together may bring; ``None`` is no limit."""
        self._database = database
        self._limit = bytes_per_second
        self._all = Bandwidth(bytes_per_second)
        self._holder = uuid4()
        self._lock = threading.Lock()
        self._telling = threading.Lock()  # else a beat under way would take a lease that was just given back
        self._limits: dict[UUID, tuple[int, Bandwidth]] = {}
        self._users: Counter[UUID] = Counter()
        self._beating: threading.Event | None = None

    @contextmanager
    def of_order(self, order_id: UUID, bytes_per_second: int | None) -> Iterator[tuple[Bandwidth, ...]]:
        """Take part for the block; yields the limits that its downloads keep to."""
        if self._limit is None and bytes_per_second is None:
            yield ()
            return
        own = self._join(order_id, bytes_per_second)
        try:
            self.beat()
            yield tuple(one for one in (self._all if self._limit is not None else None, own) if one is not None)
        finally:
            self._leave(order_id)

    def _join(self, order_id: UUID, bytes_per_second: int | None) -> Bandwidth | None:
        with self._lock:
            self._users[order_id] += 1
            if bytes_per_second is not None and order_id not in self._limits:
                self._limits[order_id] = bytes_per_second, Bandwidth(bytes_per_second)
            if self._beating is None:
                self._beating = threading.Event()
                threading.Thread(target=self._beat_on, args=(self._beating,), name="bandwidth", daemon=True).start()
            return self._limits[order_id][1] if order_id in self._limits else None

    def _leave(self, order_id: UUID) -> None:
        with self._lock:
            self._users[order_id] -= 1
            if self._users[order_id] > 0:
                return
            del self._users[order_id]
            self._limits.pop(order_id, None)
            if not self._users and self._beating is not None:
                self._beating.set()
                self._beating = None
        try:
            with self._telling, self._database.begin() as tx:
                with self._lock:
                    back_again = order_id in self._users
                if not back_again:
                    tx.execute(
                        text("DELETE FROM transfers WHERE holder = :holder AND order_id = :order"),
                        {"holder": self._holder, "order": order_id},
                    )
        except CatalogueUnavailable as error:
            log.warning("bandwidth.not_given_back", why=error.message)  # the lease ends by itself

    def _beat_on(self, over: threading.Event) -> None:
        while not over.wait(BEAT_SECONDS):
            try:
                self.beat()
            except CatalogueUnavailable as error:
                log.warning("bandwidth.unknown", why=error.message)  # the last shares hold until Postgres is back

    def beat(self) -> None:
        """Renew this process's leases and take its shares anew; raises ``CatalogueUnavailable``."""
        with self._telling:
            with self._lock:
                mine, limits = list(self._users), dict(self._limits)
            with self._database.begin() as tx:
                holders, by_order = _renewed(tx, self._holder, mine)
        if self._limit is not None:
            self._all.change(self._limit / max(1, holders))
        for order_id, (limit, own) in limits.items():
            own.change(limit / max(1, by_order.get(order_id, 1)))


def _renewed(tx: Tx, holder: UUID, orders: list[UUID]) -> tuple[int, dict[UUID, int]]:
    """Renew leases; return how many processes download at all, and for each order."""
    tx.execute(
        text(
            """
            INSERT INTO transfers (holder, order_id, until)
            SELECT :holder, o, clock_timestamp() + make_interval(secs => :seconds)
            FROM unnest(CAST(:orders AS uuid[])) AS o
            ON CONFLICT (holder, order_id) DO UPDATE SET until = excluded.until
            """
        ),
        {"holder": holder, "orders": orders, "seconds": LEASE_SECONDS},
    )
    tx.execute(
        text(
            """
            DELETE FROM transfers WHERE (holder, order_id) IN (
                SELECT holder, order_id FROM transfers WHERE until < clock_timestamp() FOR UPDATE SKIP LOCKED)
            """
        )
    )
    rows = tx.execute(text("SELECT order_id, holder FROM transfers")).all()
    return len({row.holder for row in rows}), Counter(row.order_id for row in rows)
