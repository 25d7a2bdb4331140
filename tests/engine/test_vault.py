"""The vault: the same bytes come back, or an error; compression where it helps, with its reason."""

from __future__ import annotations

import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.digests import digest_file
from headrace.errors import Cancelled, ObjectDamaged, ObjectMissing
from headrace.stores.memory import memory_bucket
from headrace.vault import Vault, choose
from headrace.vault import vault as module

TEXT = b"a line of text that repeats\n" * 5000
NOISE = random.Random(1).randbytes(300_000)


@pytest.fixture
def vault():
    return Vault(memory_bucket())


def store(vault, folder, content, media_type="application/octet-stream"):
    path = folder / "content"
    path.write_bytes(content)
    return vault.store(path, digest_file(path), media_type, folder)


@pytest.mark.parametrize(
    ("content", "media_type", "kind"),
    [
        (TEXT, "text/plain", "zstd"),
        (NOISE, "application/octet-stream", "raw"),
        (TEXT, "video/mp4", "raw"),
        (TEXT, "application/zip", "raw"),
        (bytes(100_000), "audio/x-wav", "zstd"),
        (b"x", "text/plain", "raw"),
    ],
)
def test_a_master_comes_back_as_it_was(vault, tmp_path, content, media_type, kind):
    """Whatever it is; kept compressed only where that helps, with the reason."""
    stored = store(vault, tmp_path, content, media_type)
    assert (stored.kind, stored.size_bytes) == (kind, len(content))
    assert stored.reason
    assert b"".join(vault.read(stored)) == content
    vault.restore(stored, tmp_path / "out" / "copy")
    assert (tmp_path / "out" / "copy").read_bytes() == content
    assert stored.stored_bytes == vault.bucket.stat(stored.object_key).size_bytes
    assert sorted(p.name for p in tmp_path.iterdir()) == ["content", "out"]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, len(TEXT)), st.integers(0, len(TEXT)), st.booleans())
def test_any_range_is_the_same_as_a_slice(tmp_path_factory, start, length, compressed):
    """Ranges of raw and of compressed masters, across frames."""
    vault = Vault(memory_bucket())
    stored = store(vault, tmp_path_factory.mktemp("v"), TEXT, "text/plain" if compressed else "video/mp4")
    assert b"".join(vault.read(stored, start, length)) == TEXT[start : start + length]


def test_frames_are_independent(vault, tmp_path, monkeypatch):
    """A master larger than a frame is several; all of them come back."""
    monkeypatch.setattr(module, "FRAME_BYTES", 10_000)
    stored = store(vault, tmp_path, TEXT, "text/plain")
    packed = vault.bucket.read_range(stored.object_key, 0, stored.stored_bytes)
    assert packed.count(b"\x28\xb5\x2f\xfd") == len(TEXT) // 10_000
    assert b"".join(vault.read(stored)) == TEXT


@pytest.mark.parametrize("media_type", ["text/plain", "video/mp4"])
@pytest.mark.parametrize("damage", ["flip", "cut", "swap"])
def test_damage_is_never_returned_as_success(vault, tmp_path, media_type, damage):
    """A flipped bit, a cut object and another content of the same size are all noticed; no file is left."""
    stored = store(vault, tmp_path, TEXT, media_type)
    body = bytearray(vault.bucket.read_range(stored.object_key, 0, stored.stored_bytes))
    if damage == "flip":
        body[len(body) // 2] ^= 1
    elif damage == "cut":
        del body[-10:]
    else:
        body = bytearray(reversed(body))
    vault.bucket.put_bytes(stored.object_key, bytes(body), content_type="x/y")
    with pytest.raises((ObjectDamaged, ObjectMissing)):
        vault.verify(stored)
    with pytest.raises((ObjectDamaged, ObjectMissing)):
        vault.restore(stored, tmp_path / "copy")
    assert not list(tmp_path.glob("*copy*"))


def test_an_object_that_does_not_read_back_is_not_stored(tmp_path):
    """Durable before known: what comes back is compared, and the bad object is removed."""

    class Forgetful(type(memory_bucket())):
        def put_file(self, key, path, **kwargs):
            super().put_file(key, path, **kwargs)
            self.put_bytes(key, bytes(path.stat().st_size), content_type="x/y")

    vault = Vault(Forgetful(memory_bucket()._backend, "forgetful"))
    with pytest.raises(ObjectDamaged):
        store(vault, tmp_path, NOISE, "video/mp4")
    assert list(vault.bucket.list("masters/")) == []


def test_a_missing_object_is_named(vault, tmp_path):
    """By a look at its size too."""
    stored = store(vault, tmp_path, TEXT)
    vault.check(stored)
    vault.discard(stored)
    with pytest.raises(ObjectMissing):
        vault.check(stored)
    with pytest.raises(ObjectMissing):
        vault.verify(stored)


def test_a_stop_leaves_nothing(vault, tmp_path):
    """Neither in the bucket nor in scratch."""
    stop = threading.Event()
    stop.set()
    path = tmp_path / "content"
    path.write_bytes(TEXT)
    with pytest.raises(Cancelled):
        vault.store(path, digest_file(path), "text/plain", tmp_path, stop=stop)
    assert list(vault.bucket.list("masters/")) == []
    assert [p.name for p in tmp_path.iterdir()] == ["content"]


def test_samples_are_read_only_where_the_type_does_not_say(vault):
    """A film is not read for nothing."""

    def samples():
        raise AssertionError("a sample was read")
        yield b""

    assert choose("video/mp4", samples()).kind == "raw"
