"""The common part of every store: obstore (Rust) moves the bytes.

obstore's exceptions are translated here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from headrace.errors import Cancelled, HeadraceError, ObjectMissing, StoreRefused, StoreUnavailable
from headrace.model import OnProgress, Progress
from headrace.process import Stop
from headrace.stores import READ_BYTES, ObjectStat

DELETE_AT_ONCE = 1000
"""S3's DeleteObjects takes so many keys (API reference)."""


class ObstoreBucket:
    """An ``ObjectStore`` over any of obstore's backends."""

    keeps_attributes = True
    """Whether the backend can keep content types at all."""

    def __init__(self, backend: Any, name: str) -> None:
        self._backend = backend
        self.name = name

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
        """Store a file in one request."""
        if stop is not None and stop.is_set():
            raise Cancelled("the upload was stopped")
        with self._translated(key):
            obstore.put(
                self._backend, key, path, attributes=self._attributes(content_type, cache_control), use_multipart=False
            )
        if on_progress is not None:
            on_progress(Progress(1.0))

    def put_bytes(self, key: str, content: bytes, *, content_type: str, cache_control: str = "") -> None:
        """Store a small object."""
        attributes = self._attributes(content_type, cache_control)
        with self._translated(key):
            obstore.put(self._backend, key, content, attributes=attributes, use_multipart=False)

    def stat(self, key: str) -> ObjectStat | None:
        """Return size and ETag, or ``None``."""
        try:
            with self._translated(key):
                found = obstore.head(self._backend, key)
        except ObjectMissing:
            return None
        return _stat(key, found)

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """Return a range's bytes."""
        if length == 0:
            return b""
        with self._translated(key):
            return bytes(obstore.get_range(self._backend, key, start=start, length=length))

    def stream(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield a range in pieces of ``READ_BYTES``."""
        if length is None:
            found = self.stat(key)
            if found is None:
                raise ObjectMissing(f"{self.name}/{key} is not there", key=key)
            length = found.size_bytes - start
        end = start + length
        while start < end:
            piece = self.read_range(key, start, min(READ_BYTES, end - start))
            if not piece:
                raise ObjectMissing(f"{self.name}/{key} ends at {start} bytes", key=key)
            yield piece
            start += len(piece)

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        """Yield what lies under a prefix."""
        with self._translated(prefix):
            for page in obstore.list(self._backend, prefix=prefix):
                for found in page:
                    yield _stat(found["path"], found)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects, a thousand at a time."""
        waiting = list(keys)
        for first in range(0, len(waiting), DELETE_AT_ONCE):
            try:
                with self._translated("delete"):
                    obstore.delete(self._backend, waiting[first : first + DELETE_AT_ONCE])
            except ObjectMissing:
                continue  # what was to go is gone

    def presign_get(self, key: str, seconds: int, *, content_type: str) -> str | None:  # noqa: ARG002
        """Return ``None``: only S3 has such URLs."""
        return None

    def _attributes(self, content_type: str, cache_control: str) -> dict[str, str] | None:
        if not self.keeps_attributes:
            return None
        return {"Content-Type": content_type, **({"Cache-Control": cache_control} if cache_control else {})}

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise ObjectMissing(f"{self.name}/{key} is not there", key=key) from error
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise StoreRefused(f"the object store refuses access to {self.name}", key=key) from error
        except NotImplementedError as error:
            raise StoreRefused(f"the object store can't do this to {self.name}/{key}", key=key) from error
        except (BaseError, OSError) as error:
            raise _unavailable(self.name, key, error) from error


def _stat(key: str, found: Any) -> ObjectStat:
    return ObjectStat(key, found["size"], found.get("e_tag") or None, found.get("last_modified"))


def _unavailable(name: str, key: str, error: Exception) -> HeadraceError:
    reason = str(error).strip().splitlines()[0][:300]
    return StoreUnavailable(f"the object store failed at {name}/{key}: {reason}", key=key)
