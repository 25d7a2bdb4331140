"""A claim: a lease that is held while work goes on, and the signal to stop when it is lost.

``Claim`` is what long work takes as ``stop``. It is set when the lease was taken over,
expired or revoked (which is how a cancelled order ends its runs), so the work stops
within seconds and its next commit fails: a worker that was asleep can't overwrite.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from headrace.catalogue import leases
from headrace.catalogue.database import Database
from headrace.catalogue.leases import LEASE_SECONDS, Fence
from headrace.errors import CatalogueUnavailable, LeaseLost
from headrace.log import Log

log = Log(__name__)

RENEW_SECONDS = 1.5
"""How often a lease is renewed, and so how soon a cancelled order is noticed: with the 2 s that
a program gets after SIGTERM (``headrace.process``) it is gone within 5 s (DESIGN.md, Orchestration)."""


class Claim:
    """A held lease; ``is_set()`` once it is lost."""

    def __init__(self, database: Database, fence: Fence) -> None:
        self.fence = fence
        self._database = database
        self._lost = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease {fence.name}", daemon=True)
        self._thread.start()

    def is_set(self) -> bool:
        """Return whether the work should stop now."""
        return self._lost.is_set()

    def check(self) -> None:
        """Raise ``LeaseLost`` if the work should stop now."""
        if self.is_set():
            raise LeaseLost(f"the lease {self.fence.name} is no longer ours", token=self.fence.token)

    def close(self) -> None:
        """Stop renewing, and give the lease back."""
        self._done.set()
        self._thread.join()
        if not self._lost.is_set():
            with self._database.begin() as tx:
                leases.release(tx, self.fence)

    def _keep(self) -> None:
        good_until = time.monotonic() + LEASE_SECONDS
        while not self._done.wait(RENEW_SECONDS):
            asked = time.monotonic()
            try:
                with self._database.begin() as tx:
                    leases.renew(tx, self.fence)
                good_until = asked + LEASE_SECONDS
            except LeaseLost:
                break
            except CatalogueUnavailable as error:
                log.warning("lease.unrenewed", lease=self.fence.name, why=error.message)
                if time.monotonic() >= good_until:
                    break
        else:
            return
        log.warning("lease.lost", lease=self.fence.name)
        self._lost.set()


def machine_name() -> str:
    """Return what this machine's leases begin with, so that they can be given back together."""
    return os.environ.get("HEADRACE_STACK") or platform.node() or "machine"


@contextmanager
def claim(database: Database, name: str) -> Iterator[Claim | None]:
    """Hold the lease ``name`` for the block; yields ``None`` where somebody else holds it."""
    holder = f"{machine_name()}/{os.getpid()}"
    with database.begin() as tx:
        fence = leases.acquire(tx, name, holder)
    if fence is None:
        yield None
        return
    held = Claim(database, fence)
    try:
        yield held
    finally:
        held.close()
