"""A file that is there already: kept if it is what was promised, or if nothing was."""

from __future__ import annotations

from pathlib import Path

from headrace.download import proof
from headrace.download.hold import translated
from headrace.download.transfer import Wish
from headrace.errors import Cancelled, ChecksumMismatch
from headrace.model import Downloaded
from headrace.process import Stop

READ_BYTES = 1024 * 1024


def existing(wish: Wish, destination: Path, stop: Stop) -> Downloaded | None:
    """Return a finished file that can be kept, with what it was held to; ``None`` where it must be downloaded.

    Without size, digest or pieces its name is enough: names appear only with files that are
    whole. Raises ``DiskFailed``, or ``Cancelled`` when ``stop`` was set.
    """
    with translated(destination):
        if not destination.is_file():
            return None
        size = destination.stat().st_size
        if wish.size_bytes not in {size, None} or (wish.pieces is not None and not wish.pieces.make_up(size)):
            return None
        sums, pieces = _digests(destination, wish, stop)
    try:
        labels = proof.check(wish.held_to, sums)
    except ChecksumMismatch:
        return None
    if wish.pieces is not None and pieces != wish.pieces.values:
        return None
    held_to = (*labels, *([wish.pieces.label] if wish.pieces is not None else []))
    return Downloaded(destination, size, sums, None, None, proofs=held_to, kept=True)


def _digests(path: Path, wish: Wish, stop: Stop) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the digests of the whole that are promised, and those of its pieces; reads nothing without any."""
    digests = {one.algorithm: proof.new(one.algorithm) for one in wish.held_to}
    if not digests and wish.pieces is None:
        return {}, ()
    pieces: list[str] = []
    with path.open("rb") as file:
        while file.peek(1):
            piece = proof.new(wish.pieces.algorithm) if wish.pieces is not None else None
            left = READ_BYTES if wish.pieces is None else wish.pieces.length_bytes
            while left and (content := file.read(min(left, READ_BYTES))):
                if stop.is_set():
                    raise Cancelled("the check of a file was stopped")
                for digest in (*digests.values(), *([piece] if piece is not None else [])):
                    digest.update(content)
                left -= len(content)
            if piece is not None:
                pieces.append(piece.hexdigest())
    return {name: digest.hexdigest() for name, digest in digests.items()}, tuple(pieces)
