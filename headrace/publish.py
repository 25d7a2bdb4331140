"""Publishing a folder of streams: media first, manifests last, each file verified.

1. A prefix is immutable: one attempt of one publication, never written again.
2. Media files, then media playlists, then the multivariant playlist and the MPD. So whoever
   sees a manifest can fetch all that it names.
3. Types and cache headers follow from the file's name alone.

RFC 8216 (HLS) and RFC 8081-style registrations give the types; ``immutable`` is RFC 8246.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from headrace.errors import InvalidRequest, ObjectDamaged, ObjectMissing
from headrace.model import OnProgress, Progress
from headrace.process import Stop
from headrace.stores import ObjectStore

TYPES = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".mpd": "application/dash+xml",
    ".mp4": "video/mp4",
    ".m4a": "audio/mp4",
    ".m4s": "video/iso.segment",
    ".vtt": "text/vtt; charset=utf-8",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".json": "application/json",
}
MANIFESTS = frozenset({".m3u8", ".mpd"})
PRIVATE = frozenset({"report.json"})
"""Not for players: names of tools and their arguments."""

MEDIA_CACHE = "public, max-age=31536000, immutable"
"""A prefix never changes; a year is the longest that HTTP's authors recommend (RFC 9111)."""

MANIFEST_CACHE = "public, max-age=60"
"""Short, so that taking a publication down shows."""

FILES_AT_ONCE = 4


def content_type(name: str) -> str:
    """Return the type that a published file is served with."""
    return TYPES.get(Path(name).suffix, "application/octet-stream")


def cache_control(name: str) -> str:
    """Return the cache header that a published file is served with."""
    return MANIFEST_CACHE if Path(name).suffix in MANIFESTS else MEDIA_CACHE


def plan_order(names: list[str], top: tuple[str, ...]) -> list[list[str]]:
    """Return the files in waves, each of which may go up at once: media, media playlists, then ``top``."""
    media = [name for name in names if Path(name).suffix not in MANIFESTS]
    playlists = [name for name in names if Path(name).suffix in MANIFESTS and name not in top]
    return [wave for wave in (media, playlists, [name for name in top if name in names]) if wave]


def publish(
    bucket: ObjectStore,
    prefix: str,
    folder: Path,
    names: list[str],
    *,
    top: tuple[str, ...],
    on_progress: OnProgress | None = None,
    stop: Stop | None = None,
) -> dict[str, int]:
    """Upload ``names`` of ``folder`` under ``prefix`` (``"a/b/"``); return their sizes in bytes.

    ``top`` are the manifests that go last, in that order. Raises ``StoreUnavailable`` (a retry
    can help; the prefix of the failed attempt is left for the reaper), ``ObjectDamaged`` where
    a file did not arrive whole, ``Cancelled``.
    """
    missing = [name for name in names if not (folder / name).is_file()]
    if missing or not names:
        raise InvalidRequest(f"nothing to publish in {folder}" if not names else f"{missing[0]} is not in {folder}")
    sizes = {name: (folder / name).stat().st_size for name in names}
    whole, done = sum(sizes.values()), 0

    def put(name: str) -> str:
        bucket.put_file(
            prefix + name,
            folder / name,
            content_type=content_type(name),
            cache_control=cache_control(name),
            stop=stop,
        )
        return name

    for wave in plan_order(names, top):
        with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            for name in pool.map(put, wave):
                done += sizes[name]
                if on_progress is not None:
                    on_progress(Progress(done / whole))
        for name in wave:
            _verify(bucket, prefix + name, folder / name)
    return sizes


def _verify(bucket: ObjectStore, key: str, path: Path) -> None:
    """Compare a published file with its original: its size, and a manifest byte for byte."""
    found = bucket.stat(key)
    if found is None:
        raise ObjectMissing(f"{key} is not there after its upload", key=key)
    size = path.stat().st_size
    whole = found.size_bytes == size
    if whole and path.suffix in MANIFESTS:
        whole = bucket.read_range(key, 0, size) == path.read_bytes()
    if not whole:
        raise ObjectDamaged(f"{key} did not arrive whole", key=key, size_bytes=found.size_bytes)


def remove(bucket: ObjectStore, prefix: str) -> int:
    """Remove everything under a prefix; return how many objects."""
    keys = [found.key for found in bucket.list(prefix)]
    bucket.delete(keys)
    return len(keys)
