"""The journal of a download: what is safely on disk, and of which version of the source.

``NAME.part`` holds the bytes and ``NAME.part.json`` says how many of them count. The
data is synced before the journal is replaced, so a kill at any moment leaves a journal
that claims no more than there is.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Validator:
    """What pins a download to one version of its source; both may be missing."""

    etag: str | None
    """A strong ETag with its quotes; weak ones are no validators of bytes (RFC 9110, section 8.8.1)."""
    last_modified: str | None

    @property
    def if_range(self) -> str | None:
        """The value for ``If-Range`` (RFC 9110, section 13.1.5)."""
        return self.etag or self.last_modified


@dataclass(frozen=True, slots=True)
class Journal:
    """How much of which version of a source is on disk."""

    url: str
    validator: Validator
    size_bytes: int | None
    """The whole length as the server said it, or ``None``."""
    written_bytes: int
    """From the beginning of the file; all synced."""


def part_path(destination: Path) -> Path:
    """Return where the bytes of an unfinished download are."""
    return destination.with_name(destination.name + ".part")


def _journal_path(destination: Path) -> Path:
    return destination.with_name(destination.name + ".part.json")


def load(destination: Path) -> Journal | None:
    """Return what an earlier attempt left, or ``None`` where that is nothing or can't be trusted."""
    try:
        body: dict[str, Any] = json.loads(_journal_path(destination).read_text(encoding="utf-8"))
        body["validator"] = Validator(**body["validator"])
        journal = Journal(**body)
        on_disk = part_path(destination).stat().st_size
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
    return journal if 0 < journal.written_bytes <= on_disk else None


def save(destination: Path, journal: Journal) -> None:
    """Replace the journal atomically; the data it speaks of must be synced already."""
    path = _journal_path(destination)
    fresh = path.with_name(path.name + ".new")
    with fresh.open("w", encoding="utf-8") as file:
        json.dump(asdict(journal), file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def forget(destination: Path) -> None:
    """Remove the journal and the unfinished bytes."""
    _journal_path(destination).unlink(missing_ok=True)
    part_path(destination).unlink(missing_ok=True)


def finish(destination: Path) -> None:
    """Give a complete, checked download its final name; durable when this returns."""
    part_path(destination).replace(destination)
    _journal_path(destination).unlink(missing_ok=True)
    folder = os.open(destination.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
