"""The names of a content: BLAKE3-256 and SHA-256, in one pass over the file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import blake3

from headrace.errors import Cancelled
from headrace.model import Digests
from headrace.process import Stop

READ_BYTES = 4 * 1024 * 1024
"""Large enough that hashing dominates the calls, small enough to notice a stop at once."""


def digest_file(path: Path, stop: Stop | None = None) -> Digests:
    """Return a file's digests, read once.

    Raises ``Cancelled`` when ``stop`` was set, and ``OSError`` where it can't be read.
    """
    first, second, size = blake3.blake3(), hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            if stop is not None and stop.is_set():
                raise Cancelled("hashing was stopped")
            first.update(block)
            second.update(block)
            size += len(block)
    return Digests(first.hexdigest(), second.hexdigest(), size)
