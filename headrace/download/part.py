"""The part file of a download: written in any order, hashed in order, journaled block by block.

Workers write through a ``Lane`` each. A thread of the part follows the beginning that is
complete, reads it back (from the page cache) and computes the digests of the whole, so
they are there when the last byte is. What a journal claims is compared on the way: a
block that isn't what was written is missing again.

1. Bytes first, then the journal's line; both are synced in that order, in the background.
2. The file belongs to the download's ``Hold``; nothing is written after ``close``.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import structlog
import xxhash

from headrace.download import journal as journals
from headrace.download import proof, ranges
from headrace.download.guard import SLICE_SECONDS
from headrace.download.hold import Hold, translated
from headrace.download.journal import Header, Journal
from headrace.download.origins import Origin
from headrace.download.ranges import Span
from headrace.errors import Cancelled, ChecksumMismatch, DiskFailed, DiskFull, HeadraceError
from headrace.model import Pieces
from headrace.process import Stop

log = structlog.get_logger(__name__)

PIECE_TRIES = 3
"""How often a piece whose digest is wrong is fetched again."""

SYNC_SECONDS = 10.0
"""How often data and journal are synced while a download runs: what a power cut can cost."""

CLAIM_SECONDS = 5.0
"""A block that takes longer is claimed as far as it is: what a kill costs on a slow line."""

INLINE_BYTES = 1024 * 1024
"""Up to here the digests are computed by who writes; a thread costs more than it brings."""

WRITE_BYTES = 16 * 1024
"""Of one write. For larger ones the kernel takes large folios, which in a virtual machine it must
get from the host: 2 GiB took 5.5 s at 1 MiB, 3.8 at 256 KiB, 2.7 at 16 KiB (Linux 6.18, ext4)."""

KEPT_BLOCKS = 32
"""Written blocks that are kept in memory until they are hashed, so that they needn't be read back."""

KEEP_FREE_BYTES = 64 * 1024 * 1024
"""What a download leaves of the disk for the journals and databases beside it."""


class Part:
    """The unfinished file of one download; a context manager that lets go of it."""

    def __init__(
        self,
        hold: Hold,
        header: Header,
        algorithms: tuple[str, ...],
        found: Journal | None,
        *,
        journaled: bool = True,
        pieces: Pieces | None = None,
        blame: Callable[[Origin], None] | None = None,
    ) -> None:
        """Begin: what ``found`` claims is kept and compared, without it anything there is dropped.

        Where it isn't ``journaled`` nothing is kept for another attempt. A piece that isn't what
        ``pieces`` say is missing again, and each origin that had brought some of it is to ``blame``.

        Raises ``DiskFull`` where it can't fit, ``DiskFailed``.
        """
        self.destination = hold.destination
        self.header = header
        self.block = header.block_bytes
        self._claims: dict[int, tuple[int, str]] = dict(found.claims) if found is not None else {}
        self._lengths = {index: length for index, (length, _) in self._claims.items()}
        self._digests = {name: proof.new(name) for name in algorithms}
        self._hashed = 0
        self._damaged: list[Span] = []
        self._changed = threading.Condition()
        self._failure: HeadraceError | None = None
        self._closing = False
        self._writers = 0
        self._one_writes = threading.Lock()  # the kernel lets one write to a file at a time; the others would spin
        self._following = False
        self._threads: list[threading.Thread] = []
        self._buffers: list[memoryview] = []
        self._kept: dict[int, memoryview] = {}
        self._journal: int | None = None
        self._unsynced = False
        self._named = False
        self._whole: int | None = header.size_bytes
        self._hold = hold
        self._journaled = journaled
        self._pieces = pieces
        self._blame = blame
        self._origins: dict[int, Origin | None] = {}
        self._bad: Counter[int] = Counter()
        self._buffered: int | None = None
        self._data = hold.descriptor
        self._prepare(found)
        self.resumed_bytes = sum(self._lengths.values())

    def _prepare(self, found: Journal | None) -> None:
        with translated(self.destination):
            if found is None:
                self._hold.clear()
            self._reserve()
            self._believe_beginnings()
            if found is not None:
                self._open_journal(fresh=False)
        if self._lengths:
            self._follow(max(self._lengths) * self.block + 1)

    def _believe_beginnings(self) -> None:
        """Compare the claims of unfinished blocks now, because a worker goes on behind them."""
        for block, (length, digest) in list(self._claims.items()):
            if length < self._room(block):
                view = memoryview(bytearray(length))
                if not (_read(self._data, view, block * self.block) and _short_digest(view) == digest):
                    del self._lengths[block]
                del self._claims[block]

    def _reserve(self) -> None:
        """Check the room on the disk, and take it, so that a full disk is known before a byte comes."""
        size = self.header.size_bytes
        if size is None or size <= INLINE_BYTES:
            return
        held = os.fstat(self._data).st_blocks * 512
        room = shutil.disk_usage(self.destination.parent).free
        lacking = size - held + KEEP_FREE_BYTES - room
        if lacking > 0:
            raise DiskFull(
                f"{lacking} bytes are missing on the disk for this source",
                path=str(self.destination),
                missing_bytes=lacking,
            )
        try:
            os.posix_fallocate(self._data, 0, size)
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}:
                raise

    # What is there, and what is missing

    def missing(self) -> list[Span]:
        """Return what no line claims and no worker has written; the size must be known."""
        assert self.header.size_bytes is not None  # noqa: S101 - the caller knows it
        with self._changed:
            done = sorted((index * self.block, index * self.block + n) for index, n in self._lengths.items())
        return ranges.missing(self.header.size_bytes, done)

    def take_damaged(self) -> list[Span]:
        """Return the spans that were claimed and turned out to be something else, once each."""
        with self._changed:
            found, self._damaged = self._damaged, []
        return found

    @property
    def done_bytes(self) -> int:
        """How many bytes are there, in whole blocks and beginnings of blocks."""
        with self._changed:
            return sum(self._lengths.values())

    @property
    def descriptor(self) -> int:
        """The open file."""
        return self._data

    def check(self) -> None:
        """Raise what went wrong in the background (``DiskFull``)."""
        if self._failure is not None:
            raise self._failure

    # Writing

    def lane(self, start: int, origin: Origin | None) -> Lane:
        """Return what writes from ``start`` on; the block that ``start`` is in must be there up to it."""
        return Lane(self, start, origin)

    def write(self, position: int, view: memoryview) -> None:
        """Write bytes at a place; does nothing once the part is let go of."""
        with self._changed:
            if self._closing:
                return
            self._writers += 1
        try:
            with translated(self.destination), self._one_writes:
                while view:
                    count = os.pwrite(self._data, view[:WRITE_BYTES], position)
                    view, position = view[count:], position + count
        finally:
            with self._changed:
                self._writers -= 1
                if self._closing:
                    self._changed.notify_all()

    def claim(self, block: int, content: memoryview, origin: Origin | None) -> None:
        """Remember that a block, or its beginning, is written: ``content`` is what, and who sent it."""
        length = len(content)
        # A file of one block that is complete leaves nothing to resume.
        kept = self._journaled and (block > 0 or length != self.header.size_bytes)
        line = b"" if not kept else journals.claim_line(block, length, _short_digest(content)).encode()
        with translated(self.destination), self._changed:
            if self._closing or (length <= self._lengths.get(block, 0) and block not in self._claims):
                return  # a worker that was overtaken claims less than there is
            self._claims.pop(block, None)
            self._lengths[block] = length
            if self._pieces is not None:
                self._origins[block] = origin
            self._unsynced = True
            if kept:
                self._open_journal(fresh=True)
                assert self._journal is not None  # noqa: S101 - just opened
                os.write(self._journal, line)
            self._take_inline(block * self.block, content)
            self._follow(block * self.block + length)
            self._changed.notify_all()

    def _take_inline(self, start: int, content: memoryview) -> None:
        """Hash the first bytes as they are written: for a small file a thread costs more than it brings."""
        if self._pieces is not None or self._following:
            return
        if self._hashed - start in range(len(content)) and start + len(content) <= INLINE_BYTES:
            fresh = content[self._hashed - start :]
            for digest in self._digests.values():
                digest.update(fresh)
            self._hashed += len(fresh)

    def _follow(self, end: int) -> None:
        """Start the thread that hashes, unless whoever writes has done it up to ``end``."""
        if self._hashed < end and not self._following:
            self._following = True
            self._start(self._hash, "digests")

    # Buffers, each of a block

    def take_buffer(self) -> memoryview:
        """Return a buffer that nobody uses."""
        with self._changed:
            if self._buffers:
                return self._buffers.pop()
        size = self.header.size_bytes
        return memoryview(bytearray(self.block if size is None else min(self.block, size)))

    def give_buffer(self, buffer: memoryview) -> None:
        """Take a buffer back."""
        with self._changed:
            self._buffers.append(buffer)

    def hand_on(self, block: int, buffer: memoryview, length: int) -> memoryview:
        """Keep a written block for whoever hashes, if its turn comes soon; return a buffer to go on with."""
        with self._changed:
            ahead = block - self._hashed // self.block
            if not self._following or ahead < 0 or ahead >= KEPT_BLOCKS or len(self._kept) >= KEPT_BLOCKS:
                return buffer
            self._kept[block] = buffer[:length]
        return self.take_buffer()

    def _open_journal(self, *, fresh: bool) -> None:
        if self._journal is not None:
            return
        path = journals.journal_path(self.destination)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._journal = os.open(path, flags | (os.O_TRUNC if fresh else 0), 0o666)
        if fresh:
            os.write(self._journal, journals.header_line(self.header).encode())
        else:
            os.write(self._journal, b"\n")  # ends a line that was cut
        self._start(self._sync_now_and_then, "sync")

    # In the background

    def _start(self, work: Any, name: str) -> None:
        thread = threading.Thread(target=self._watched, args=(work,), name=f"{name} of a download", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _watched(self, work: Any) -> None:
        try:
            with translated(self.destination):
                work()
        except HeadraceError as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _hash(self) -> None:
        """Hash block after block, in the file's order, as they are complete and right."""
        buffer = memoryview(bytearray(self.block))
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._ready())
                if self._closing:
                    return
                blocks = self._next_blocks()
            wrong = [block for block in blocks if not self._as_claimed(block, buffer)]
            if not wrong and self._as_promised(blocks, buffer):
                for block in blocks:
                    self._digest(block, buffer)

    def _next_blocks(self) -> range:
        """Return the blocks that are judged together next: one, or those of a piece."""
        block = self._hashed // self.block
        if self._pieces is None:
            return range(block, block + 1)
        count = self._pieces.length_bytes // self.block
        first = block // count * count
        ends = first + count if self._whole is None else min(first + count, -(-self._whole // self.block))
        return range(first, ends)

    def _ready(self) -> bool:
        """Return whether the next blocks are complete."""
        return all(self._lengths.get(block) == self._room(block) for block in self._next_blocks())

    def _room(self, block: int) -> int:
        size = self._whole
        return self.block if size is None else min(self.block, size - block * self.block)

    def _content(self, block: int, buffer: memoryview) -> memoryview | None:
        """Return a complete block's bytes, kept or read; ``None`` where the file is too short."""
        with self._changed:
            kept = self._kept.get(block)
        if kept is not None:
            return kept
        view = buffer[: self._room(block)]
        if self._buffered != block:
            self._buffered = None
            if not _read(self._data, view, block * self.block):
                return None
            self._buffered = block
        return view

    def _as_claimed(self, block: int, buffer: memoryview) -> bool:
        """Return whether a block is what the journal claims, if it claims anything; else it is missing again."""
        with self._changed:
            claim = self._claims.get(block)
        if claim is None:
            return True
        view = self._content(block, buffer)
        good = view is not None and _short_digest(view) == claim[1]
        with self._changed:
            if self._claims.get(block) != claim:
                return False  # somebody writes it anew
            del self._claims[block]
        if not good:
            self._miss(range(block, block + 1))
        return good

    def _as_promised(self, blocks: range, buffer: memoryview) -> bool:
        """Return whether a piece is what its publisher says; else it is missing again.

        Raises ``ChecksumMismatch`` where it has come wrong too often.
        """
        if self._pieces is None:
            return True
        digest = proof.new(self._pieces.algorithm)
        for block in blocks:
            digest.update(self._content(block, buffer) or b"")
        piece, found = blocks.start * self.block // self._pieces.length_bytes, digest.hexdigest()
        if piece < len(self._pieces.values) and found == self._pieces.values[piece]:
            return True
        self._bad[piece] += 1
        log.warning("download.bad_piece", piece=piece, times=self._bad[piece])
        if self._bad[piece] > PIECE_TRIES or piece >= len(self._pieces.values):
            raise ChecksumMismatch(
                f"the {self._pieces.algorithm} of piece {piece + 1} of {len(self._pieces.values)} is not as promised",
                piece=piece,
                found=found,
            )
        for origin in {self._origins.get(block) for block in blocks}:
            if self._blame is not None and origin is not None:
                self._blame(origin)
                self._disown(origin)
        self._miss(blocks)
        return False

    def _disown(self, origin: Origin) -> None:
        """Let everything be fetched again that an origin has brought which isn't asked any more."""
        if origin.left_out:
            first = self._hashed // self.block
            for block in [block for block, one in list(self._origins.items()) if one is origin and block >= first]:
                if self._lengths.get(block) == self._room(block):
                    self._miss(range(block, block + 1))

    def _miss(self, blocks: range) -> None:
        """Let blocks be fetched again."""
        with self._changed:
            for block in blocks:
                self._lengths.pop(block, None)
                if (kept := self._kept.pop(block, None)) is not None:
                    self._buffers.append(memoryview(kept.obj))
            self._damaged.append(
                (blocks.start * self.block, (blocks.stop - 1) * self.block + self._room(blocks.stop - 1))
            )
            self._buffered = None
            self._changed.notify_all()

    def _digest(self, block: int, buffer: memoryview) -> None:
        """Take a block, of which some may have been hashed already."""
        content = self._content(block, buffer)
        if content is None:
            raise DiskFailed("the part file became shorter while it was written")
        fresh = content[self._hashed % self.block :]
        for one in self._digests.values():
            one.update(fresh)
        with self._changed:
            self._hashed += len(fresh)
            if (kept := self._kept.pop(block, None)) is not None:
                self._buffers.append(memoryview(kept.obj))
            self._changed.notify_all()

    def _sync_now_and_then(self) -> None:
        while True:
            with self._changed:
                if self._changed.wait_for(lambda: self._closing, SYNC_SECONDS):
                    return
                unsynced, self._unsynced = self._unsynced, False
            if unsynced:
                self._sync()

    def _sync(self) -> None:
        os.fdatasync(self._data)
        if self._journal is not None:
            os.fdatasync(self._journal)
        if not self._named:
            journals.sync_folder(self.destination.parent)
            self._named = True

    # The end

    def digests(
        self, size_bytes: int, stop: Stop | None = None, on_wait: Callable[[int], None] | None = None
    ) -> dict[str, str] | None:
        """Return the digests of the whole as hex, or ``None`` where damaged blocks must come again first.

        Waits until everything is hashed, and tells ``on_wait`` now and then how much is.
        Raises ``DiskFull``, or ``Cancelled`` when ``stop`` was set.
        """
        with self._changed:
            self._whole = size_bytes
            self._follow(size_bytes)
            self._changed.notify_all()  # the last block of a file of unknown length is complete only now
        while not self._wait_until_settled(size_bytes):
            if stop is not None and stop.is_set():
                raise Cancelled("the download was stopped")
            if on_wait is not None:
                on_wait(self._hashed)
        self.check()
        if self._hashed < size_bytes:
            return None
        return {name: digest.hexdigest() for name, digest in self._digests.items()}

    def _wait_until_settled(self, size_bytes: int) -> bool:
        """Return whether that was so within a slice of time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._settled(size_bytes), SLICE_SECONDS)

    def _settled(self, size_bytes: int) -> bool:
        return self._hashed >= size_bytes or bool(self._damaged) or self._failure is not None

    def close(self) -> None:
        """End the threads; what was claimed stays, synced, for the next attempt."""
        self._end_threads()
        if self._journal is None:
            return
        try:
            with translated(self.destination):
                if self._unsynced:
                    self._sync()
        finally:
            os.close(self._journal)
            self._journal = None

    def _end_threads(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._writers == 0)
        for thread in self._threads:
            thread.join()


class Lane:
    """One worker's way through the file: forward, a block at a time.

    Bytes are received into the block's buffer and written when it is full, or when it has
    taken too long: one write, one hash and one claim for each.
    """

    def __init__(self, part: Part, start: int, origin: Origin | None) -> None:
        """``origin`` is who sends the bytes."""
        self._part = part
        self._origin = origin
        self._block = start // part.block
        self._filled = self.flushed = start % part.block
        self._buffer = part.take_buffer()
        self._flushed_at = time.monotonic()
        if self._filled:
            _read(part.descriptor, self._buffer[: self._filled], self._block * part.block)

    @property
    def position(self) -> int:
        """Up to here bytes have come."""
        return self._block * self._part.block + self._filled

    def room(self) -> memoryview:
        """Return where the next bytes go, up to the block's end."""
        return self._buffer[self._filled :]

    def filled(self, count: int) -> bool:
        """Take note of bytes in the ``room``; return whether they were written. Raises ``DiskFull``."""
        self._filled += count
        whole = self._filled == self._part.block or self.position == self._part.header.size_bytes
        if not whole and time.monotonic() - self._flushed_at < CLAIM_SECONDS:
            return False
        self.flush()
        if whole:
            self._buffer = self._part.hand_on(self._block, self._buffer, self._filled)
            self._block, self._filled, self.flushed = self._block + 1, 0, 0
        return True

    def flush(self) -> None:
        """Write and claim what has come of the block."""
        start = self._block * self._part.block
        if self._filled > self.flushed:
            self._part.write(start + self.flushed, self._buffer[self.flushed : self._filled])
            self._part.claim(self._block, self._buffer[: self._filled], self._origin)
            self.flushed = self._filled
        self._flushed_at = time.monotonic()

    def close(self, *, keep: bool) -> None:
        """Write what has come, if it is to be kept, and give the buffer back."""
        if keep:
            self.flush()
        self._part.give_buffer(self._buffer)


def _read(descriptor: int, view: memoryview, position: int) -> bool:
    """Fill the view from a place of the file; return whether there was enough."""
    while view:
        count = os.preadv(descriptor, [view], position)
        if count == 0:
            return False
        view, position = view[count:], position + count
    return True


def _short_digest(view: memoryview) -> str:
    return xxhash.xxh3_128_hexdigest(view)
