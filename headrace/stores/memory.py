"""A store in memory, for tests of what stands above a store."""

from __future__ import annotations

from obstore.store import MemoryStore

from headrace.stores.objects import ObstoreBucket


def memory_bucket(name: str = "memory") -> ObstoreBucket:
    """Return an empty bucket that is gone with the process."""
    return ObstoreBucket(MemoryStore(), name)
