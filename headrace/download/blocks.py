"""Which blocks of a part file are there: claimed by a journal, or written since; and the memory they are in.

Everything here is read and changed under ``changed``, by the workers that write blocks and the
thread that hashes them. A block is *complete* once its length is all that there is of it; a
claim is what a journal says of it, until somebody has compared.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from headrace.download import ranges
from headrace.download.origins import Origin
from headrace.download.ranges import Span

KEPT_BYTES = 32 * 1024 * 1024
"""Of written blocks that are kept in memory until they are hashed, so that they needn't be read back."""


class Blocks:
    """The blocks of one file."""

    def __init__(self, block_bytes: int, whole_bytes: int | None, claims: Mapping[int, tuple[int, str]]) -> None:
        """``claims`` are a journal's: block → bytes from its start, and their hash."""
        self.block = block_bytes
        self.whole = whole_bytes
        """The size of the file, ``None`` until it is known."""
        self.claims = dict(claims)
        self.lengths = {index: length for index, (length, _) in self.claims.items()}
        self.changed = threading.Condition()
        self.closing = False
        self._origins: dict[int, Origin] = {}
        self._damaged: list[Span] = []
        self._kept: dict[int, memoryview] = {}
        self._buffers: list[memoryview] = []

    def room(self, block: int) -> int:
        """Return the bytes of a block; the last one may be shorter."""
        return self.block if self.whole is None else min(self.block, self.whole - block * self.block)

    def is_complete(self, block: int) -> bool:
        """Return whether all of a block is there."""
        return self.lengths.get(block) == self.room(block)

    @property
    def done_bytes(self) -> int:
        """How many bytes are there, in whole blocks and beginnings of blocks."""
        with self.changed:
            return sum(self.lengths.values())

    def take_missing(self) -> list[Span]:
        """Return what no line claims and no worker has written; the size must be known.

        What has turned out to be wrong so far is among it, and isn't taken again (``take_damaged``).
        """
        assert self.whole is not None  # noqa: S101 - the caller knows it
        with self.changed:
            self._damaged.clear()
            done = sorted((index * self.block, index * self.block + n) for index, n in self.lengths.items())
        return ranges.missing(self.whole, done)

    def add(self, block: int, length: int, origin: Origin | None) -> bool:
        """Take note of written bytes, under ``changed``; ``False`` where there are as many already."""
        if length <= self.lengths.get(block, 0) and block not in self.claims:
            return False  # a worker that was overtaken has less than there is
        self.claims.pop(block, None)
        self.lengths[block] = length
        if origin is not None:
            self._origins[block] = origin
        return True

    def origins_of(self, blocks: range) -> set[Origin]:
        """Return who has brought some blocks in this attempt."""
        with self.changed:
            return {self._origins[block] for block in blocks if block in self._origins}

    # What turned out to be wrong

    def miss(self, blocks: range) -> None:
        """Let blocks be fetched again."""
        with self.changed:
            for block in blocks:
                self.lengths.pop(block, None)
                self.forget(block)
            last = blocks.stop - 1
            self._damaged.append((blocks.start * self.block, last * self.block + self.room(last)))
            self.changed.notify_all()

    def disown(self, origin: Origin, first: int) -> None:
        """Let everything be fetched again, from block ``first`` on, that an origin has brought."""
        with self.changed:
            of_it = [block for block, one in self._origins.items() if one is origin and block >= first]
            suspect = [block for block in of_it if self.is_complete(block)]
        for block in suspect:
            self.miss(range(block, block + 1))

    @property
    def is_damaged(self) -> bool:
        """Whether something must be fetched again."""
        return bool(self._damaged)

    def take_damaged(self) -> list[Span]:
        """Return the spans that must be fetched again, once each."""
        with self.changed:
            found, self._damaged = self._damaged, []
        return found

    # Memory, each buffer of a block

    def take_buffer(self) -> memoryview:
        """Return a buffer that nobody uses."""
        with self.changed:
            if self._buffers:
                return self._buffers.pop()
        return memoryview(bytearray(self.block if self.whole is None else min(self.block, self.whole)))

    def give_buffer(self, buffer: memoryview) -> None:
        """Take a buffer back."""
        with self.changed:
            self._buffers.append(buffer)

    def keep(self, block: int, buffer: memoryview, length: int, next_hashed: int) -> bool:
        """Keep a written block in memory if its turn to be hashed comes soon; return whether it is kept."""
        with self.changed:
            most = KEPT_BYTES // self.block
            if not 0 <= block - next_hashed < most or len(self._kept) >= most:
                return False
            if self.lengths.get(block) != length:
                return False  # judged meanwhile, and wrong: it comes again
            self._kept[block] = buffer[:length]
            return True

    def kept(self, block: int) -> memoryview | None:
        """Return a block that is in memory."""
        with self.changed:
            return self._kept.get(block)

    def forget(self, block: int) -> None:
        """Free a block's memory, under ``changed``."""
        kept = self._kept.pop(block, None)
        if kept is not None:
            self._buffers.append(memoryview(kept.obj))
