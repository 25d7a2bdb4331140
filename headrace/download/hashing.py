"""The digests of a file whose blocks arrive in any order: hashed in the file's order, each judged first.

A thread follows the beginning that is complete, so the digests are there when the last byte is.
Blocks come from memory where they are still there, else from the page cache.

1. What a journal claims is compared before it counts; a block that isn't what was written is
   missing again.
2. A piece that isn't what its publisher says is missing again too; who has brought some of it
   is to blame, and from whom too much was wrong nothing that isn't hashed yet is believed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable

import xxhash

from headrace.download import proof
from headrace.download.blocks import Blocks
from headrace.download.origins import Origin
from headrace.errors import ChecksumMismatch, DiskFailed
from headrace.log import Log
from headrace.model import Pieces

log = Log(__name__)

PIECE_TRIES = 3
"""How often a piece whose digest is wrong is fetched again."""

INLINE_BYTES = 1024 * 1024
"""Up to here all digests are computed by who writes; a thread costs more than it brings."""

QUICK = frozenset({"blake3", "crc64nvme", "crc32c", "crc32"})
"""These don't hold up who writes."""

Blame = Callable[[Origin], None]


class Hashing:
    """The digests of one file in the making."""

    def __init__(
        self, blocks: Blocks, descriptor: int, algorithms: tuple[str, ...], pieces: Pieces | None, blame: Blame
    ) -> None:
        """``descriptor`` is the open file; ``blame`` is told who has brought a wrong piece."""
        self._blocks = blocks
        self._descriptor = descriptor
        self._digests = {name: proof.new(name) for name in algorithms}
        self._is_quick = QUICK.issuperset(algorithms)
        self._busy = False
        """Whether somebody is hashing."""
        self._pieces = pieces
        self._blame = blame
        self._wrong: Counter[int] = Counter()
        self._buffered: int | None = None
        self.hashed_bytes = 0
        self.following = False
        """Whether the thread runs."""
        self._waits = False

    def hexdigests(self) -> dict[str, str]:
        """Return the digests of what was hashed."""
        return {name: digest.hexdigest() for name, digest in self._digests.items()}

    @property
    def next_block(self) -> int:
        """The block that is hashed next."""
        return self.hashed_bytes // self._blocks.block

    def take_written(self, start: int, content: memoryview) -> None:
        """Hash bytes that are written, in the thread that wrote them, if their turn has come and nobody else is at it.

        They are in that core's cache; fetched from there by another core they cost twice as much.
        """
        blocks = self._blocks
        with blocks.changed:
            fresh = self.hashed_bytes - start
            quick = self._is_quick or start + len(content) <= INLINE_BYTES
            if self._busy or self._pieces is not None or not quick or fresh not in range(len(content)):
                return
            self._busy = True
        self._update(content[fresh:])
        with blocks.changed:
            self._busy = False
            self.hashed_bytes = start + len(content)
            if self._is_over():
                blocks.changed.notify_all()

    def nudge(self) -> None:
        """Wake the thread if there is something to do for it, under ``changed``: it is not woken for nothing."""
        if self._waits and self._is_ready():
            self._blocks.changed.notify_all()

    def _update(self, content: memoryview) -> None:
        for digest in self._digests.values():
            digest.update(content)

    def follow(self) -> None:
        """Hash block after block as they are complete and right, until the blocks are closed.

        Raises ``ChecksumMismatch`` for a piece that stays wrong, ``DiskFailed``.
        """
        blocks = self._blocks
        buffer = memoryview(bytearray(blocks.block))
        while True:
            with blocks.changed:
                self._waits = True
                blocks.changed.wait_for(lambda: blocks.closing or self._is_over() or self._is_ready())
                self._waits = False
                if blocks.closing or self._is_over():
                    return
                self._busy = True
                following = self._following_blocks()
            wrong = [block for block in following if not self._as_claimed(block, buffer)]
            if not wrong and self._as_promised(following, buffer):
                for block in following:
                    self._take(block, buffer)
            with blocks.changed:
                self._busy = False

    def _is_over(self) -> bool:
        return self._blocks.whole is not None and self.hashed_bytes >= self._blocks.whole

    def _is_ready(self) -> bool:
        return not self._busy and all(self._blocks.is_complete(block) for block in self._following_blocks())

    def _following_blocks(self) -> range:
        """Return the blocks that are judged together next: one, or those of a piece."""
        block, whole = self.next_block, self._blocks.whole
        if self._pieces is None:
            return range(block, block + 1)
        count = self._pieces.length_bytes // self._blocks.block
        first = block // count * count
        return range(first, first + count if whole is None else min(first + count, -(-whole // self._blocks.block)))

    def _content(self, block: int, buffer: memoryview) -> memoryview | None:
        """Return a complete block's bytes, kept or read; ``None`` where the file is too short."""
        kept = self._blocks.kept(block)
        if kept is not None:
            return kept
        view = buffer[: self._blocks.room(block)]
        if self._buffered != block:
            self._buffered = None
            if not read(self._descriptor, view, block * self._blocks.block):
                return None
            self._buffered = block
        return view

    def _as_claimed(self, block: int, buffer: memoryview) -> bool:
        """Return whether a block is what the journal claims, if it claims anything; else it is missing again."""
        blocks = self._blocks
        with blocks.changed:
            claim = blocks.claims.get(block)
        if claim is None:
            return True
        view = self._content(block, buffer)
        good = view is not None and short_digest(view) == claim[1]
        with blocks.changed:
            if blocks.claims.get(block) != claim:
                return False  # somebody writes it anew
            del blocks.claims[block]
        if not good:
            self._miss(range(block, block + 1))
        return good

    def _as_promised(self, following: range, buffer: memoryview) -> bool:
        """Return whether a piece is what its publisher says; else it is missing again."""
        if self._pieces is None:
            return True
        digest = proof.new(self._pieces.algorithm)
        for block in following:
            digest.update(self._content(block, buffer) or b"")
        piece, found = following.start * self._blocks.block // self._pieces.length_bytes, digest.hexdigest()
        if piece < len(self._pieces.values) and found == self._pieces.values[piece]:
            return True
        self._wrong[piece] += 1
        log.warning("download.wrong_piece", piece=piece, times=self._wrong[piece])
        if self._wrong[piece] > PIECE_TRIES or piece >= len(self._pieces.values):
            raise ChecksumMismatch(
                f"the {self._pieces.algorithm} of piece {piece + 1} of {len(self._pieces.values)} is not as promised",
                piece=piece,
                found=found,
            )
        for origin in self._blocks.origins_of(following):
            self._blame(origin)
            if origin.left_out:
                self._blocks.disown(origin, following.stop)
        self._miss(following)
        return False

    def _miss(self, blocks: range) -> None:
        self._buffered = None
        self._blocks.miss(blocks)

    def _take(self, block: int, buffer: memoryview) -> None:
        """Hash a block, of which some may have been hashed already."""
        content = self._content(block, buffer)
        if content is None:
            raise DiskFailed("the part file became shorter while it was written")
        fresh = content[self.hashed_bytes % self._blocks.block :]
        self._update(fresh)
        with self._blocks.changed:  # at once, so that nobody keeps a block that is hashed
            self.hashed_bytes += len(fresh)
            self._blocks.forget(block)
            self._blocks.changed.notify_all()


def read(descriptor: int, view: memoryview, position: int) -> bool:
    """Fill the view from a place of the file; return whether there was enough."""
    while view:
        count = os.preadv(descriptor, [view], position)
        if count == 0:
            return False
        view, position = view[count:], position + count
    return True


def short_digest(view: memoryview) -> str:
    """Return the hash that a journal's line has of some bytes."""
    return xxhash.xxh3_128_hexdigest(view)
