"""Whether a content is worth compressing: by its type, else by samples. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import zstandard

COMPRESSED_TYPES = frozenset(
    {
        "application/gzip",
        "application/pdf",
        "application/vnd.rar",
        "application/x-7z-compressed",
        "application/x-bzip2",
        "application/x-xz",
        "application/zip",
        "application/zstd",
        "image/avif",
        "image/gif",
        "image/heic",
        "image/jpeg",
        "image/jxl",
        "image/png",
        "image/webp",
    }
)
"""Types whose bytes are compressed by their own format."""

PLAIN_MEDIA_TYPES = frozenset({"audio/x-wav", "audio/wav", "audio/aiff", "audio/x-aiff", "video/x-yuv4mpeg"})
"""Sound and pictures whose container usually holds them uncompressed."""

SAMPLE_BYTES = 4096
SAMPLES_PER_MIB = 3
MAX_SAMPLES = 96
"""3 x 4 KiB per MiB (FIELD.md, Vault), and no more than 384 KiB in all: enough to know."""

WORTH_RATIO = 0.95
"""Compressed to more than this share of its size, a content is kept as it is: reading it in
place is worth more than a twentieth of the space."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How a content is kept, and why."""

    kind: str
    """``raw`` or ``zstd``."""
    reason: str


def choose(media_type: str, samples: Iterable[bytes]) -> Choice:
    """Decide from the type where that is enough, else from samples (read only then)."""
    if media_type in COMPRESSED_TYPES:
        return Choice("raw", f"{media_type} is compressed already")
    if media_type.startswith(("video/", "audio/")) and media_type not in PLAIN_MEDIA_TYPES:
        return Choice("raw", f"{media_type} holds compressed streams")
    # Level 1 is the cheapest honest estimate of what level 6 will do.
    packer = zstandard.ZstdCompressor(level=1)
    taken = packed = 0
    for sample in samples:
        taken += len(sample)
        packed += len(packer.compress(sample))
    ratio = packed / taken if taken else 1.0
    if ratio > WORTH_RATIO:
        return Choice("raw", f"samples compress to {ratio:.0%} only")
    return Choice("zstd", f"samples compress to {ratio:.0%}")


def sample_offsets(size_bytes: int) -> list[int]:
    """Return where samples of ``SAMPLE_BYTES`` are taken: evenly over the content, from its start."""
    count = min(MAX_SAMPLES, max(1, SAMPLES_PER_MIB * size_bytes // (1024 * 1024)))
    last = max(0, size_bytes - SAMPLE_BYTES)
    return sorted({last * index // max(1, count - 1) for index in range(count)})
