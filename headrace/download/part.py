"""The part file of a download: written in any order, hashed in order, journaled block by block.

Workers write through a ``Lane`` each; ``hashing`` follows, and ``blocks`` knows what is there.

1. Bytes first, then the journal's line; both are synced in that order, in the background.
2. The file belongs to the download's ``Hold``; nothing is written after ``close``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from headrace.download import journal as journals
from headrace.download.blocks import Blocks
from headrace.download.guard import SLICE_SECONDS
from headrace.download.hashing import INLINE_BYTES, Blame, Hashing, read, short_digest
from headrace.download.hold import FULL, Hold, translated
from headrace.download.journal import Header, Journal
from headrace.download.origins import Origin
from headrace.errors import Cancelled, DiskFailed, DiskFull
from headrace.model import Pieces
from headrace.process import Stop

SYNC_SECONDS = 10.0
"""How often data and journal are synced while a download runs: what a power cut can cost."""

CLAIM_SECONDS = 5.0
"""A block that takes longer is claimed as far as it is: what a kill costs on a slow line."""

WRITE_BYTES = 32 * 1024
"""Of one write: the largest folio whose pages Linux keeps ready for each core (``PAGE_ALLOC_COSTLY_ORDER``, 6.18).
Larger ones come from memory that a virtual machine may have to get from its host first: 2 GiB took 1.6 s at 32 KiB,
1.9 at 16, and anything from 1.5 to 3.2 from 128 KiB on."""

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
        blame: Blame,
    ) -> None:
        """Begin: what ``found`` claims is kept and compared, without it anything there is dropped.

        Where it isn't ``journaled`` nothing is kept for another attempt. A piece that isn't what
        ``pieces`` say is missing again, and each origin that had brought some of it is to ``blame``.

        Raises ``DiskFull`` where it can't fit, ``DiskFailed``.
        """
        self.destination = hold.destination
        self.header = header
        self.block = header.block_bytes
        self.blocks = Blocks(self.block, header.size_bytes, found.claims if found is not None else {})
        """What is there, and what is missing."""
        self.descriptor = hold.descriptor
        """The open file."""
        self._hold = hold
        self._hashing = Hashing(self.blocks, self.descriptor, algorithms, pieces, blame)
        self._journaled = journaled
        self._failure: BaseException | None = None
        self._writers = 0
        self._one_writes = threading.Lock()  # the kernel lets one write to a file at a time; the others would spin
        self._threads: list[threading.Thread] = []
        self._journal: int | None = None
        self._closed = threading.Event()
        self._unsynced = False
        self._named = False
        self._prepare(found)
        self.resumed_bytes = self.blocks.done_bytes

    def _prepare(self, found: Journal | None) -> None:
        with translated(self.destination):
            if found is None:
                self._hold.clear()
            self._reserve()
            self._believe_beginnings()
            if found is not None:
                self._open_journal(fresh=False)
        if self.blocks.lengths:
            self._follow(max(self.blocks.lengths) * self.block + 1)

    def _believe_beginnings(self) -> None:
        """Compare the claims of unfinished blocks now, because a worker goes on behind them."""
        for block, (length, digest) in list(self.blocks.claims.items()):
            if length < self.blocks.room(block):
                view = memoryview(bytearray(length))
                if not (read(self.descriptor, view, block * self.block) and short_digest(view) == digest):
                    del self.blocks.lengths[block]
                del self.blocks.claims[block]

    def _reserve(self) -> None:
        """Check the room on the disk, and take it, so that a full disk is known before a byte comes."""
        size = self.header.size_bytes
        if size is None or size <= INLINE_BYTES:
            return
        check_room(self.destination, self._lacking_bytes())
        try:
            with self._telling_what_is_missing():
                os.posix_fallocate(self.descriptor, 0, size)
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}:
                raise

    def _lacking_bytes(self) -> int:
        """Return how many bytes of the disk the file will still take; 0 where nobody knows."""
        return max(0, (self.header.size_bytes or 0) - os.fstat(self.descriptor).st_blocks * 512)

    @contextlib.contextmanager
    def _telling_what_is_missing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            lacking = self._lacking_bytes()
            if error.errno not in FULL or not lacking:
                raise
            check_room(self.destination, lacking)
            raise DiskFull(  # a quota, which says no number, or somebody has made room meanwhile
                f"no more of the disk may be used, and {lacking} bytes are missing for this source",
                path=str(self.destination),
                missing_bytes=lacking,
            ) from error

    def check(self) -> None:
        """Raise what went wrong in the background (``DiskFull``, ``ChecksumMismatch``)."""
        if self._failure is not None:
            raise self._failure

    # Writing

    def lane(self, start: int, origin: Origin | None) -> Lane:
        """Return what writes from ``start`` on; the block that ``start`` is in must be there up to it."""
        return Lane(self, start, origin)

    def write(self, position: int, view: memoryview) -> None:
        """Write bytes at a place; does nothing once the part is let go of."""
        with self.blocks.changed:
            if self.blocks.closing:
                return
            self._writers += 1
        try:
            with translated(self.destination), self._telling_what_is_missing(), self._one_writes:
                at = 0
                while at < len(view):
                    at += os.pwrite(self.descriptor, view[at : at + WRITE_BYTES], position + at)
        finally:
            with self.blocks.changed:
                self._writers -= 1
                if self.blocks.closing:
                    self.blocks.changed.notify_all()

    def claim(self, block: int, content: memoryview, origin: Origin | None) -> None:
        """Remember that a block, or its beginning, is written: ``content`` is what, and who sent it."""
        length = len(content)
        # A file of one block that is complete leaves nothing to resume.
        lasting = self._journaled and (block > 0 or length != self.header.size_bytes)
        line = journals.claim_line(block, length, short_digest(content)).encode() if lasting else b""
        with translated(self.destination), self.blocks.changed:
            if self.blocks.closing or not self.blocks.add(block, length, origin):
                return
            self._unsynced = True
            if lasting:
                self._open_journal(fresh=True)
                assert self._journal is not None  # noqa: S101 - just opened
                os.write(self._journal, line)
        self._hashing.take_written(block * self.block, content)
        with self.blocks.changed:
            self._follow(block * self.block + length)
            self._hashing.nudge()

    def _follow(self, end: int) -> None:
        """Start the thread that hashes, unless whoever writes has done it up to ``end``."""
        if self._hashing.hashed_bytes < end and not self._hashing.following and not self.blocks.closing:
            self._hashing.following = True
            self._start(self._hashing.follow, "digests")

    def hand_on(self, block: int, buffer: memoryview, length: int) -> memoryview:
        """Keep a written block for whoever hashes, if its turn comes soon; return a buffer to go on with."""
        with self.blocks.changed:
            if not self._hashing.following or not self.blocks.keep(block, buffer, length, self._hashing.next_block):
                return buffer
        return self.blocks.take_buffer()

    def _open_journal(self, *, fresh: bool) -> None:
        if self._journal is not None:
            return
        self._hold.journaled = True
        path = journals.journal_path(self.destination)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._journal = os.open(path, flags | (os.O_TRUNC if fresh else 0), 0o666)
        if fresh:
            os.write(self._journal, journals.header_line(self.header).encode())
        else:
            mixed = journals.MIXED_LINE + "\n" if self.header.mixed else ""
            os.write(self._journal, f"\n{mixed}".encode())  # the first character ends a line that was cut
        self._start(self._sync_now_and_then, "sync")

    # In the background

    def _start(self, work: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=self._watched, args=(work,), name=f"{name} of a download", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _watched(self, work: Callable[[], None]) -> None:
        try:
            with translated(self.destination):
                work()
        except BaseException as error:  # noqa: BLE001 - the thread ends here; who waits for it raises it
            with self.blocks.changed:
                self._failure = error
                self.blocks.changed.notify_all()

    def _sync_now_and_then(self) -> None:
        while not self._closed.wait(SYNC_SECONDS):  # an event of its own: blocks change a thousand times a second
            with self.blocks.changed:
                unsynced, self._unsynced = self._unsynced, False
            if unsynced:
                self._sync()

    def _sync(self) -> None:
        os.fdatasync(self.descriptor)
        if self._journal is not None:
            os.fdatasync(self._journal)
        if not self._named:
            journals.sync_folder(self.destination.parent)
            self._named = True

    # The end

    def digests(
        self, size_bytes: int, stop: Stop | None = None, on_wait: Callable[[int], None] | None = None
    ) -> dict[str, str] | None:
        """Return the digests of the whole as hex, or ``None`` where wrong blocks must come again first.

        Waits until everything is hashed, and tells ``on_wait`` now and then how much is.
        Raises ``DiskFull``, ``ChecksumMismatch``, or ``Cancelled`` when ``stop`` was set.
        """
        with self.blocks.changed:
            self.blocks.whole = size_bytes
            self._follow(size_bytes)
            self.blocks.changed.notify_all()  # the last block of a file of unknown length is complete only now
        while not self._wait_until_settled(size_bytes):
            if stop is not None and stop.is_set():
                raise Cancelled("the download was stopped")
            if on_wait is not None:
                on_wait(self._hashing.hashed_bytes)
        self.check()
        if self._hashing.hashed_bytes < size_bytes:
            return None
        with self.blocks.changed:
            self._unsynced = False  # nothing is left to resume: whoever gives it its name syncs it, if that is wanted
        return self._hashing.hexdigests()

    def _wait_until_settled(self, size_bytes: int) -> bool:
        """Return whether that was so within a slice of time."""
        with self.blocks.changed:
            return self.blocks.changed.wait_for(lambda: self._settled(size_bytes), SLICE_SECONDS)

    def _settled(self, size_bytes: int) -> bool:
        return self._hashing.hashed_bytes >= size_bytes or self.blocks.is_damaged or self._failure is not None

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
        with self.blocks.changed:
            self.blocks.closing = True
            self._closed.set()
            self.blocks.changed.notify_all()
            self.blocks.changed.wait_for(lambda: self._writers == 0)
        for thread in self._threads:
            thread.join()


def check_room(destination: Path, size_bytes: int) -> None:
    """Raise ``DiskFull`` where so many bytes don't fit beside a destination."""
    lacking = size_bytes + KEEP_FREE_BYTES - shutil.disk_usage(destination.parent).free
    if lacking > 0:
        raise DiskFull(
            f"{lacking} bytes are missing on the disk for this source", path=str(destination), missing_bytes=lacking
        )


class Lane:
    """One worker's way through the file: forward, a block at a time.

    Bytes are received into the block's buffer. When it is full, or has taken too long, they are
    written, claimed and, if their turn has come, hashed, while they are in the core's cache.
    """

    def __init__(self, part: Part, start: int, origin: Origin | None) -> None:
        """``origin`` is who sends the bytes."""
        self._part = part
        self._origin = origin
        self._block = start // part.block
        self._filled = self._flushed = start % part.block
        self._buffer = part.blocks.take_buffer()
        self._flushed_at = time.monotonic()
        if self._filled and not read(part.descriptor, self._buffer[: self._filled], self._block * part.block):
            raise DiskFailed("the part file became shorter while it was written")

    def room(self) -> memoryview:
        """Return where the next bytes go, up to the block's end."""
        return self._buffer[self._filled :]

    def filled(self, count: int) -> bool:
        """Take note of bytes in the ``room``; return whether they were written. Raises ``DiskFull``."""
        self._filled += count
        part = self._part
        whole = self._filled == part.block or self._block * part.block + self._filled == part.header.size_bytes
        if not whole and time.monotonic() - self._flushed_at < CLAIM_SECONDS:
            return False
        self._flush()
        if whole:
            self._buffer = part.hand_on(self._block, self._buffer, self._filled)
            self._block, self._filled, self._flushed = self._block + 1, 0, 0
        return True

    def _flush(self) -> None:
        """Write and claim what has come of the block."""
        fresh = self._buffer[self._flushed : self._filled]
        if fresh:
            self._part.write(self._block * self._part.block + self._flushed, fresh)
            self._part.claim(self._block, self._buffer[: self._filled], self._origin)
            self._flushed = self._filled
        self._flushed_at = time.monotonic()

    def close(self, *, keep: bool) -> None:
        """Write what has come, if it is to be kept, and give the buffer back."""
        if keep:
            self._flush()
        self._part.blocks.give_buffer(self._buffer)
