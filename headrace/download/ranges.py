"""What is still to be fetched, by whom, and how it is shared out. Pure.

Offsets are bytes from the start of the file; a span is ``(start, end)`` with ``end`` excluded.
Shares begin and end at blocks, because the journal speaks of blocks.
"""

from __future__ import annotations

from collections.abc import Iterable

MIB = 1024 * 1024
MIN_BLOCK_BYTES = MIB
MAX_BLOCKS = 262_144
"""Blocks of a file: a journal stays below 16 MB, and a kill costs a block for each connection."""

MAX_PIECE_BLOCK = 4 * MIB
MAX_PIECE_PARTS = 1024
"""Where a publisher's pieces decide: each connection has a block in memory, so longer pieces are divided."""

MAX_UNDIVIDED_PIECE = 8 * MIB
"""Of a piece that no smaller block divides. Publishers use powers of two."""

MIN_SHARE_BYTES = 4 * MIB
"""Less is not worth another connection when a download begins: it is half a second at 8 MB/s."""

START_CONNECTIONS = 1
"""What a large file begins with; more come at once where that one isn't fast, and as long as they help.
Where one is fast enough a second one costs: its bytes are hashed later, out of the caches."""

FAR_SECONDS = 0.03
FAR_START_CONNECTIONS = 8
"""A server that answers so late is far away or slow: there a connection's speed is bounded by what may be
in flight on it, and several help for sure; to find that out by doubling costs more than they do."""

MIN_STRIPE_BYTES = 8 * MIB
MAX_STRIPE_BYTES = 256 * MIB
WAITS = 32
STRIPE_SECONDS = 0.1
"""What a connection asks for at once; see ``stripe``."""

Span = tuple[int, int]


def block_bytes(size_bytes: int | None, piece_bytes: int | None = None) -> int:
    """Return the block of a file of this size: 1 MiB up to 256 GiB, then the next power of two that suffices.

    Where pieces of the file have digests of their own, a piece is a whole number of blocks.
    """
    if piece_bytes is not None:
        fitting = (n for n in range(1, MAX_PIECE_PARTS) if piece_bytes % n == 0 and piece_bytes // n <= MAX_PIECE_BLOCK)
        return piece_bytes // next(fitting, 1)
    block = MIN_BLOCK_BYTES
    while size_bytes is not None and size_bytes > block * MAX_BLOCKS:
        block *= 2
    return block


def missing(size_bytes: int, done: Iterable[Span]) -> list[Span]:
    """Return what of ``[0, size_bytes)`` the done spans (sorted by start) leave over."""
    gaps, at = [], 0
    for start, end in done:
        if start > at:
            gaps.append((at, start))
        at = max(at, end)
    if at < size_bytes:
        gaps.append((at, size_bytes))
    return gaps


def connections_at_start(missing_bytes: int, most: int, wait_seconds: float = 0.0) -> int:
    """Return how many connections a download of so many bytes begins with, 1 to ``most``.

    ``wait_seconds`` is how long the first answer took.
    """
    start = START_CONNECTIONS if wait_seconds < FAR_SECONDS else FAR_START_CONNECTIONS
    return max(1, min(most, start, missing_bytes // MIN_SHARE_BYTES))


def stripe(left: int, connections: int, block: int, rate: float, wait_seconds: float) -> int:
    """Return how many bytes a connection asks for next, whole blocks of what is ``left``.

    ``rate`` is the connection's (bytes a second, 0 where unknown) and ``wait_seconds`` what it
    waits for an answer: that wait costs at most a 32nd, and a stripe lasts ``STRIPE_SECONDS`` at
    least, unless ``connections``, the most that there may be, would find nothing to do. Small
    stripes keep the connections close to each other in the file, so that its hash is nearly
    done when they are.
    """
    wanted = max(MIN_STRIPE_BYTES, min(MAX_STRIPE_BYTES, rate * max(STRIPE_SECONDS, wait_seconds * WAITS)))
    fair = left / max(1, connections)
    return max(1, -(-int(min(wanted, fair)) // block)) * block


def split_point(reserved: int, end: int, block: int, *, own_speed: float = 1.0, other_speed: float = 1.0) -> int | None:
    """Return where a share is cut so that both parts end together; ``None`` where it is too short.

    ``reserved`` is up to where its worker may be writing already; the result is a block's start
    beyond it. Speeds are of the worker that has it and of the one that helps.
    """
    first = -(-reserved // block) * block
    if end - first < 2 * block:
        return None
    keep = (end - first) * own_speed / max(own_speed + other_speed, 1e-9)
    at = first + int(keep) // block * block
    return min(max(at, first), (end - 1) // block * block)
