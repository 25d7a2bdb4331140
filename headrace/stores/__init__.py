"""The object-store protocol; ``s3``, ``local`` and ``memory`` keep it.

1. A key is made by us (hashes, UUIDs, our own file names), never from outside text.
2. A ``put`` is atomic: a reader sees the whole object or none.
3. Types and cache headers are derived from the key by whoever serves it; what a store
   keeps of them is a courtesy (an ``rclone serve s3`` forgets them at a restart).
4. A store retries one idempotent request (5 tries); nobody above it does.

``tests/contract/test_stores.py`` holds every store to this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from headrace.model import OnProgress
from headrace.process import Stop

READ_BYTES = 4 * 1024 * 1024
"""What one ranged read brings: enough that the request's cost doesn't count, little enough for memory."""

TRIES = 5
"""How often a store tries one idempotent request (DESIGN.md, invariant 5)."""


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """What a store says of an object."""

    key: str
    size_bytes: int
    etag: str | None
    modified: datetime | None = None


class ObjectStore(Protocol):
    """One bucket, or what stands for one.

    Any call raises ``StoreUnavailable`` (a retry can help) or ``StoreRefused``.
    """

    def put_file(
        self,
        key: str,
        path: Path,
        *,
        content_type: str,
        cache_control: str = "",
        on_progress: OnProgress | None = None,
        stop: Stop | None = None,
    ) -> None:
        """Store a file's bytes; raises ``Cancelled`` when ``stop`` was set, leaving nothing behind."""

    def put_bytes(self, key: str, content: bytes, *, content_type: str, cache_control: str = "") -> None:
        """Store a small object."""

    def stat(self, key: str) -> ObjectStat | None:
        """Return what is known of an object, or ``None`` where there is none."""

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """Return ``length`` bytes from ``start``; raises ``ObjectMissing``."""

    def stream(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield an object's bytes, or those of a range, in pieces; raises ``ObjectMissing``."""

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        """Yield the objects whose key begins with a folder's path (``"p/"``), in any order."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are not there don't matter."""

    def presign_get(self, key: str, seconds: int, *, content_type: str) -> str | None:
        """Return a URL that anyone may read the object with, or ``None`` where the store has none."""
