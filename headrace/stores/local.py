"""A store in a folder: one file for an object."""

from __future__ import annotations

from pathlib import Path

from obstore.store import LocalStore

from headrace.stores.objects import ObstoreBucket


class LocalBucket(ObstoreBucket):
    """A folder; it can keep no content types."""

    keeps_attributes = False

    def __init__(self, folder: Path) -> None:
        super().__init__(LocalStore(str(folder), mkdir=True), folder.name)
