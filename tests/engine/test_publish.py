"""Publishing: manifests last, each file verified, types by suffix."""

from __future__ import annotations

import pytest

from headrace import publish
from headrace.errors import InvalidRequest, ObjectDamaged, StoreUnavailable
from headrace.stores.memory import memory_bucket

FILES = {
    "720p.mp4": b"v" * 1000,
    "audio-1.mp4": b"a",
    "720p.m3u8": b"#EXTM3U",
    "master.m3u8": b"#EXTM3U",
    "manifest.mpd": b"<MPD/>",
}
TOP = ("master.m3u8", "manifest.mpd")


@pytest.fixture
def folder(tmp_path):
    for name, body in FILES.items():
        (tmp_path / name).write_bytes(body)
    return tmp_path


class Recording(type(memory_bucket())):
    """Remembers the order of what was put, and can fail at a key."""

    def __init__(self, fail_at=""):
        super().__init__(memory_bucket()._backend, "recording")
        self.order, self.fail_at = [], fail_at

    def put_file(self, key, path, **kwargs):
        if self.fail_at and key.endswith(self.fail_at):
            raise StoreUnavailable("gone")
        self.order.append(key)
        super().put_file(key, path, **kwargs)


def test_manifests_come_last(folder):
    """Media, then media playlists, then the multivariant playlist and the MPD."""
    bucket = Recording()
    sizes = publish.publish(bucket, "p/1/", folder, list(FILES), top=TOP)
    assert sizes == {name: len(body) for name, body in FILES.items()}
    assert set(bucket.order[:2]) == {"p/1/720p.mp4", "p/1/audio-1.mp4"}
    assert bucket.order[2] == "p/1/720p.m3u8"
    assert set(bucket.order[3:]) == {"p/1/master.m3u8", "p/1/manifest.mpd"}


def test_a_failure_shows_no_manifest(folder):
    """Whoever looks during or after a failed attempt finds nothing to play."""
    bucket = Recording(fail_at="audio-1.mp4")
    with pytest.raises(StoreUnavailable):
        publish.publish(bucket, "p/1/", folder, list(FILES), top=TOP)
    assert not [key for key in bucket.order if key.endswith((".m3u8", ".mpd"))]


def test_a_file_that_did_not_arrive_whole_is_noticed(folder):
    """By its size; a manifest byte for byte."""

    class Lossy(Recording):
        def put_file(self, key, path, **kwargs):
            super().put_file(key, path, **kwargs)
            if key.endswith("master.m3u8"):
                self.put_bytes(key, b"#EXTM3X", content_type="x/y")

    with pytest.raises(ObjectDamaged):
        publish.publish(Lossy(), "p/1/", folder, list(FILES), top=TOP)


def test_types_and_cache_headers_follow_the_suffix():
    """As players and caches need them."""
    assert publish.content_type("a.m3u8") == "application/vnd.apple.mpegurl"
    assert publish.content_type("a.mpd") == "application/dash+xml"
    assert publish.content_type("a.mp4") == "video/mp4"
    assert publish.content_type("a.vtt").startswith("text/vtt")
    assert "immutable" in publish.cache_control("a.mp4")
    assert "immutable" not in publish.cache_control("a.m3u8")


def test_nothing_to_publish_is_said(tmp_path):
    """An empty list and a missing file are mistakes of the caller."""
    with pytest.raises(InvalidRequest):
        publish.publish(memory_bucket(), "p/", tmp_path, [], top=TOP)
    with pytest.raises(InvalidRequest, match=r"a\.mp4"):
        publish.publish(memory_bucket(), "p/", tmp_path, ["a.mp4"], top=TOP)


def test_a_prefix_is_removed_whole(folder):
    """And nothing beside it."""
    bucket = memory_bucket()
    publish.publish(bucket, "p/1/", folder, list(FILES), top=TOP)
    publish.publish(bucket, "p/10/", folder, list(FILES), top=TOP)
    assert publish.remove(bucket, "p/1/") == len(FILES)
    assert {found.key.split("/")[1] for found in bucket.list("p/")} == {"10"}
