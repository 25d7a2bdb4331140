"""Storing, reading and checking masters in one bucket."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import blake3
import zstandard

from headrace.errors import Cancelled, DiskFull, ObjectDamaged, ObjectMissing
from headrace.model import Digests, OnProgress, Progress, StoredMaster
from headrace.process import Stop
from headrace.stores import ObjectStore
from headrace.vault.compress import SAMPLE_BYTES, choose, sample_offsets

ZSTD_LEVEL = 6
"""About 100 MB/s a core and within a few per cent of level 9 on text (zstd's own table, 1.5)."""

FRAME_BYTES = 4 * 1024 * 1024
"""Plaintext of one zstd frame: frames are independent, so a reader may start at any of them."""

MEDIA_TYPE = "application/octet-stream"
"""What a master's object is to the store; its real type stands in the catalogue."""


@dataclass(frozen=True, slots=True)
class Vault:
    """The masters in a bucket."""

    bucket: ObjectStore

    def store(
        self,
        path: Path,
        digests: Digests,
        media_type: str,
        scratch: Path,
        *,
        on_progress: OnProgress | None = None,
        stop: Stop | None = None,
    ) -> StoredMaster:
        """Write a content's object, read it back and compare; return what to commit.

        ``scratch`` is a folder for the compressed form. Raises ``StoreUnavailable`` (a retry
        can help), ``ObjectDamaged`` where what came back differs, ``DiskFull``, ``Cancelled``.
        """
        choice = choose(media_type, _samples(path, digests.size_bytes))
        key = f"masters/{uuid.uuid4()}"
        packed = scratch / f"{uuid.uuid4()}.zst"
        try:
            source, stored_bytes = path, digests.size_bytes
            if choice.kind == "zstd":
                source, stored_bytes = packed, _compress(path, packed, stop)
            self.bucket.put_file(key, source, content_type=MEDIA_TYPE, on_progress=on_progress, stop=stop)
        finally:
            packed.unlink(missing_ok=True)
        stored = StoredMaster(digests.blake3, digests.size_bytes, stored_bytes, choice.kind, choice.reason, key)
        try:
            self.verify(stored, stop=stop)
        except BaseException:
            self.discard(stored)
            raise
        return stored

    def discard(self, stored: StoredMaster) -> None:
        """Remove an object that no catalogue row speaks of."""
        self.bucket.delete([stored.object_key])

    def read(self, stored: StoredMaster, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield a range of a master's original bytes.

        A whole read is checked against the hash at its end; a part of one can't be.
        """
        end = stored.size_bytes if length is None else min(stored.size_bytes, start + length)
        whole = start == 0 and end == stored.size_bytes
        if whole:
            self.check(stored)  # a cut object is damage, not a store that is away
        if stored.kind == "raw":
            pieces = self.bucket.stream(stored.object_key, start, end - start)
        else:
            pieces = _cut(_unpack(self.bucket.stream(stored.object_key)), start, end)
        return _checked(pieces, stored) if whole else pieces

    def verify(self, stored: StoredMaster, *, stop: Stop | None = None) -> None:
        """Read a master whole; raises ``ObjectDamaged`` or ``ObjectMissing``."""
        for _ in self.read(stored):
            if stop is not None and stop.is_set():
                raise Cancelled("the check was stopped")

    def check(self, stored: StoredMaster) -> None:
        """Look whether a master's object is there and has its size, without reading it."""
        found = self.bucket.stat(stored.object_key)
        if found is None:
            raise ObjectMissing(f"the object of the master {stored.blake3} is missing", key=stored.object_key)
        if found.size_bytes != stored.stored_bytes:
            raise ObjectDamaged(
                f"the object of the master {stored.blake3} has {found.size_bytes} bytes, not {stored.stored_bytes}",
                key=stored.object_key,
            )

    def restore(
        self,
        stored: StoredMaster,
        destination: Path,
        *,
        on_progress: OnProgress | None = None,
        stop: Stop | None = None,
    ) -> None:
        """Write a master's original bytes to a file; it appears whole and verified, or not at all."""
        destination.parent.mkdir(parents=True, exist_ok=True)
        fresh = destination.with_name(f".{destination.name}.{uuid.uuid4().hex[:8]}.part")
        done = 0
        try:
            with fresh.open("xb") as file:
                for piece in self.read(stored):
                    if stop is not None and stop.is_set():
                        raise Cancelled("the restore was stopped")
                    file.write(piece)
                    done += len(piece)
                    if on_progress is not None:
                        on_progress(Progress(done / stored.size_bytes))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(destination)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise DiskFull(f"no space is left for {destination}") from error
            raise
        finally:
            fresh.unlink(missing_ok=True)


def _samples(path: Path, size_bytes: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        for offset in sample_offsets(size_bytes):
            file.seek(offset)
            yield file.read(SAMPLE_BYTES)


def _compress(path: Path, packed: Path, stop: Stop | None) -> int:
    packer = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True, threads=-1)
    try:
        with path.open("rb") as source, packed.open("xb") as target:
            while piece := source.read(FRAME_BYTES):
                if stop is not None and stop.is_set():
                    raise Cancelled("the compression was stopped")
                target.write(packer.compress(piece))
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFull("no space is left to compress this source") from error
        raise
    return packed.stat().st_size


def _unpack(pieces: Iterator[bytes]) -> Iterator[bytes]:
    waiting = b""
    unpacker = zstandard.ZstdDecompressor().decompressobj()
    for piece in pieces:
        waiting = piece
        while waiting:
            try:
                plain = unpacker.decompress(waiting)
            except zstandard.ZstdError as error:
                raise ObjectDamaged("a compressed master can't be unpacked") from error
            waiting = unpacker.unused_data
            if unpacker.eof:
                unpacker = zstandard.ZstdDecompressor().decompressobj()
            if plain:
                yield plain


def _cut(pieces: Iterator[bytes], start: int, end: int) -> Iterator[bytes]:
    at = 0
    for piece in pieces:
        wanted = piece[max(0, start - at) : max(0, end - at)]
        at += len(piece)
        if wanted:
            yield wanted
        if at >= end:
            return


def _checked(pieces: Iterator[bytes], stored: StoredMaster) -> Iterator[bytes]:
    digest, size = blake3.blake3(), 0
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
        yield piece
    if size != stored.size_bytes or digest.hexdigest() != stored.blake3:
        raise ObjectDamaged(
            f"the master {stored.blake3} came back damaged ({size} of {stored.size_bytes} bytes)",
            key=stored.object_key,
        )
