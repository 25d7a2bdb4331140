"""Addresses that we sign: what S3 promises of the object, and what errors call it."""

from __future__ import annotations

import hashlib
import threading
import time
from contextlib import closing

import pytest

from headrace.download import Downloader, Guard, Signed, Wish
from headrace.download.journal import Validator
from headrace.download.proof import promise
from headrace.download.signed import Known, speaking_of
from headrace.errors import Cancelled, ChecksumMismatch, SourceForbidden, SourceRefused, SourceUnavailable
from tests.servers import BODY, ETAG, OTHER, serving

SHOWN = "s3://films/x"


def known(body: bytes, etag: str = ETAG) -> Signed:
    digest = promise("sha256", hashlib.sha256(body).hexdigest(), "x-amz-checksum-sha256")
    return Signed(SHOWN, Known(Validator(etag, None), (digest,)))


def fetch(url, folder, *, stop=None, **wish):
    with closing(Downloader(Guard(typed_may_be_private=True))) as one:
        return one.fetch(Wish(url, **wish), folder / "x", stop=stop)


def test_the_stores_checksum_is_held_to(server, tmp_path):
    """Of the version that it was said of: a right one is a proof, a wrong one an error, another one's is nothing."""
    assert "sha256:x-amz-checksum-sha256" in fetch(server.url + "/good", tmp_path, signed=known(BODY)).proofs
    with pytest.raises(ChecksumMismatch):
        fetch(server.url + "/good", tmp_path / "wrong", signed=known(OTHER))
    assert fetch(server.url + "/good", tmp_path / "new", signed=known(OTHER, '"old"')).proofs == ("content-length",)


def test_a_mirror_is_held_to_the_stores_checksum(server, tmp_path):
    """Its version says nothing of the store's, so nothing excuses other bytes."""
    with serving() as mirror:
        mirror.answers["/x"] = (200, {"ETag": '"its own"'}, OTHER)
        with pytest.raises(ChecksumMismatch):
            fetch(server.url + "/forbidden", tmp_path, signed=known(BODY), mirrors=(mirror.url + "/x",))
        mirror.answers["/x"] = (200, {"ETag": '"its own"'}, BODY)
        done = fetch(server.url + "/forbidden", tmp_path, signed=known(BODY), mirrors=(mirror.url + "/x",))
    assert "sha256:x-amz-checksum-sha256" in done.proofs


@pytest.mark.parametrize("name", ["refused", "refused-and-cut", "refused-and-silent"])
def test_an_error_is_what_its_head_says(server, tmp_path, name):
    """With the store's own code where that has come; a text that doesn't come changes nothing, and holds nobody up."""
    since = time.monotonic()
    with pytest.raises(SourceForbidden) as caught:
        fetch(f"{server.url}/{name}?X-Amz-Signature=canary", tmp_path, signed=Signed(SHOWN))
    assert time.monotonic() - since < 5
    told = caught.value.message + caught.value.hint
    assert caught.value.evidence["status"] == 403
    assert SHOWN in told
    assert "restored" in told
    assert ("InvalidObjectState" in told) is (name == "refused")
    assert str(server.server_port) not in told
    assert "canary" not in told


def test_a_stop_ends_the_wait_for_an_errors_text(server, tmp_path, monkeypatch):
    """As any other wait."""
    monkeypatch.setattr("headrace.download.session.ERROR_SECONDS", 60.0)
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    since = time.monotonic()
    with pytest.raises(Cancelled):
        fetch(server.url + "/refused-and-silent", tmp_path, stop=stop)
    assert time.monotonic() - since < 4


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("10.0.0.5 refuses connections on port 9000", f"{SHOWN}: the object store refuses connections on port 9000"),
        ("http://10.0.0.5:9000/films/x?X=… broke off", f"{SHOWN} broke off"),
        ("http://10.0.0.5:9000/y redirects to ftp", f"{SHOWN}: http://the object store/y redirects to ftp"),
        ("10.0.0.5:9000 is left alone for 30 s", f"{SHOWN}: the object store is left alone for 30 s"),
        ("the source has 5 bytes; 4 is the most", f"{SHOWN}: the source has 5 bytes; 4 is the most"),
    ],
)
def test_errors_name_the_object(said, told):
    """And not where it is; their evidence stays."""
    with pytest.raises(SourceUnavailable) as caught, speaking_of(Signed(SHOWN), "http://10.0.0.5:9000/films/x?X=1"):
        raise SourceUnavailable(said, retry_after_seconds=5)
    assert caught.value.message == told
    assert caught.value.evidence == {"retry_after_seconds": 5}


def test_a_host_that_is_called_like_a_word_changes_no_words():
    """Such as ``s3`` or ``server`` among containers."""
    with pytest.raises(SourceRefused) as caught, speaking_of(Signed(SHOWN), "http://server:9000/films/x?X=1"):
        raise SourceRefused("the server answers 400", status=400)
    assert caught.value.message == f"{SHOWN}: the server answers 400"
