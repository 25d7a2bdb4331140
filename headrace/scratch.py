"""A worker's working space: what each item and publication has on this machine's disk.

Everything here can be made again from the source or the vault; losing it costs time only.
Folders are named by our own ids, so names from outside never become paths.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import UUID

from headrace.model import Downloaded


@dataclass(frozen=True, slots=True)
class Scratch:
    """The folders under one root."""

    root: Path

    def item(self, item_id: UUID) -> Path:
        """Return an item's folder, made if it is missing."""
        return self._made("items", str(item_id))

    def publication(self, publication_id: UUID, token: int) -> Path:
        """Return the folder of one attempt at a publication, made if it is missing.

        The fencing token keeps a run that lost its lease out of its successor's way.
        """
        return self._made("publications", f"{publication_id}.{token}")

    def master(self, asset_id: str) -> Path:
        """Return where the store stage leaves an asset's original for an encoder on this machine."""
        return self._made("masters") / asset_id

    def _made(self, *names: str) -> Path:
        folder = self.root.joinpath(*names)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def keep_download(self, item_id: UUID, done: Downloaded) -> None:
        """Remember a finished download beside its file."""
        body = {**asdict(done), "path": done.path.name}
        fresh = self.item(item_id) / "download.json.new"
        fresh.write_text(json.dumps(body), encoding="utf-8")
        fresh.replace(fresh.with_name("download.json"))

    def kept_download(self, item_id: UUID) -> Downloaded | None:
        """Return an item's finished download, or ``None`` where this machine has none."""
        folder = self.item(item_id)
        try:
            body = json.loads((folder / "download.json").read_text(encoding="utf-8"))
            done = Downloaded(**{**body, "path": folder / body["path"], "proofs": tuple(body["proofs"])})
            there = done.path.stat().st_size == done.size_bytes
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None
        return done if there else None

    def drop_item(self, item_id: UUID) -> None:
        """Remove what an item has here."""
        shutil.rmtree(self.root / "items" / str(item_id), ignore_errors=True)

    def drop_publication(self, publication_id: UUID, token: int | None = None) -> None:
        """Remove what an attempt at a publication has here, or (``None``) every attempt."""
        for folder in (self.root / "publications").glob(f"{publication_id}.{'*' if token is None else token}"):
            shutil.rmtree(folder, ignore_errors=True)

    def drop_master(self, asset_id: str) -> None:
        """Remove an original; the vault has it."""
        (self.root / "masters" / asset_id).unlink(missing_ok=True)

    def sweep(self, older_than_seconds: float) -> int:
        """Remove what nobody touched for so long; return how many things."""
        oldest, swept = time.time() - older_than_seconds, 0
        for path in self.root.glob("*/*"):
            newest = max((inner.stat().st_mtime for inner in [path, *path.rglob("*")]), default=0)
            if newest < oldest:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
                swept += 1
        return swept
