"""Download: the file is right, or there is a clear error; never a wrong file with success."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import threading
import time
from email.utils import formatdate
from ipaddress import ip_address, ip_network
from urllib.parse import quote

import pytest

from headrace.download import Downloader, Guard, Wish
from headrace.download.access import Access
from headrace.download.batch import unique_name
from headrace.download.guard import is_public
from headrace.download.proof import promise
from headrace.errors import (
    AddressForbidden,
    Cancelled,
    ChecksumMismatch,
    DiskFailed,
    DiskFull,
    HeadraceError,
    RedirectRefused,
    SourceEmpty,
    SourceForbidden,
    SourceNotFound,
    SourceRefused,
    SourceTimeout,
    SourceTooLarge,
    SourceTruncated,
    SourceUnavailable,
    SourceUnresolvable,
)
from headrace.model import Progress
from tests.authority import Authority
from tests.servers import BODY, ETAG, OTHER, serving

LOCAL = Guard((ip_network("127.0.0.0/8"),))


@pytest.fixture(scope="module")
def server():
    with serving() as running:
        yield running


def fetch(wish, destination, guard=LOCAL, **options):
    downloader = Downloader(guard)
    try:
        return downloader.fetch(wish, destination, **options)
    finally:
        downloader.close()


def get(server, path, folder, sha256=None, **wish):
    promises = (promise("sha256", sha256, "order"),) if sha256 else ()
    wanted = Wish(server.url + path, promises, algorithms=("blake3", "sha256"), **wish)
    return fetch(wanted, folder / "film")


@pytest.mark.parametrize("path", ["/good", "/unknown-length", "/redirect", "/named"])
def test_a_whole_body_arrives(server, tmp_path, path):
    """Plain, chunked without a length, redirected, and with a hostile name: the same bytes."""
    done = get(server, path, tmp_path)
    assert done.path.read_bytes() == BODY
    assert done.digests.sha256 == hashlib.sha256(BODY).hexdigest()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["film"]


def test_a_name_from_outside_is_only_a_label(server, tmp_path):
    """``../../../etc/passwd`` becomes the label ``passwd``, and never a path."""
    assert get(server, "/named", tmp_path).name == "passwd"


@pytest.mark.parametrize("name", ["/dev/null", "NUL.mp4", "aux", "..", "a\\..\\con.txt", "COM1"])
def test_no_name_is_a_device_or_a_way_out(server, tmp_path, name):
    """As the server says it; on no system that the file may be taken to."""
    server.answers["/odd"] = (200, {"Content_Disposition": f'attachment; filename="{name}"'}, BODY)
    label = get(server, "/odd", tmp_path).name
    assert label in {"null", "_NUL.mp4", "_aux", "untitled", "_con.txt", "_COM1"}


WHOLE = f"bytes 0-{len(BODY) - 1}/{len(BODY)}"
HALF = len(BODY) // 2


def md5(body):
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (200, {"Content_MD5": md5(BODY)}),
        (206, {"Content_MD5": md5(BODY), "Content_Range": WHOLE, "ETag": ETAG}),
        (206, {"Content_Digest": f"md5=:{md5(BODY)}:", "Content_Range": WHOLE, "ETag": ETAG}),
    ],
)
def test_a_digest_of_the_content_counts_where_that_is_the_whole(server, tmp_path, status, fields):
    """Also on a 206; one that lies is no success."""
    server.answers["/digest"] = (status, fields, BODY)
    label = "md5:content-md5" if "Content_MD5" in fields else "md5:content-digest"
    assert label in get(server, "/digest", tmp_path).proofs
    server.answers["/digest"] = (status, fields, OTHER)
    (tmp_path / "film").unlink()
    with pytest.raises(ChecksumMismatch):
        get(server, "/digest", tmp_path)
    assert not (tmp_path / "film").exists()


@pytest.mark.parametrize(
    ("status", "fields", "body", "error"),
    [
        (206, {}, BODY, SourceRefused),
        (206, {"Content_Range": "bytes a-b/*"}, BODY, SourceRefused),
        (206, {"Content_Range": f"bytes 0-{HALF}/{len(BODY)}"}, BODY, SourceRefused),
        (206, {"Content_Range": f"bytes 5-4/{len(BODY)}"}, b"x", SourceRefused),
        (206, {"Content_Range": WHOLE, "Content_Type": "multipart/byteranges; boundary=x"}, BODY, SourceRefused),
        (416, {"Content_Range": "bytes */0"}, b"", SourceEmpty),
        (416, {"Content_Range": f"bytes */{len(BODY)}"}, b"", HeadraceError),
        (204, {}, b"", HeadraceError),
        (304, {}, b"", HeadraceError),
    ],
)
def test_an_odd_answer_is_an_error(server, tmp_path, status, fields, body, error):
    """And no file."""
    server.answers["/odd"] = (status, fields, body)
    with pytest.raises(error):
        get(server, "/odd", tmp_path)
    assert not (tmp_path / "film").exists()


def test_from_https_nobody_is_sent_to_http(server, tmp_path):
    """What was private on its way would be open."""
    authority = Authority(tmp_path)
    with serving(tls=authority.server()) as secure:
        secure.redirects["/away"] = server.url + "/never"
        wish = Wish(secure.url.replace("http:", "https:") + "/away", access=Access(ca=authority.path))
        with pytest.raises(RedirectRefused, match="https to http"):
            fetch(wish, tmp_path / "film")
    assert "/never" not in server.seen


@pytest.mark.parametrize("path", ["/wrong-range", "/breaks-once"])
def test_a_short_file_that_breaks_off_is_resumed(server, tmp_path, path):
    """Pinned to the first reply's ETag; a range that wasn't asked for begins it anew."""
    assert get(server, path, tmp_path).path.read_bytes() == BODY
    assert server.seen[path][1]["range"] == f"bytes={len(BODY) // 2}-{len(BODY) - 1}"
    assert server.seen[path][1]["if-range"] == '"one"'


def test_a_short_file_that_changes_begins_anew(server, tmp_path):
    """Old and new bytes of the same size are never spliced (aria2, curl and wget do)."""
    done = get(server, "/breaks-then-changes", tmp_path)
    assert done.path.read_bytes() == OTHER
    assert done.restarts == 1


def test_a_server_without_ranges_is_asked_for_the_whole_again(server, tmp_path):
    """A body that broke off can't be resumed there; the error says that another try can help."""
    with pytest.raises(SourceTruncated):
        get(server, "/ignores-ranges", tmp_path)
    assert get(server, "/ignores-ranges", tmp_path).path.read_bytes() == BODY


def test_without_a_validator_nothing_is_resumed(server, tmp_path):
    """With neither ETag nor date there is nothing to pin a resume to."""
    with pytest.raises(SourceTruncated):
        get(server, "/breaks-without-validator", tmp_path)
    assert get(server, "/breaks-without-validator", tmp_path).path.read_bytes() == BODY
    assert all("if-range" not in seen for seen in server.seen["/breaks-without-validator"])


def test_a_short_file_without_a_validator_is_never_spliced(server, tmp_path):
    """Half of one version and half of another have the right size, and nothing tells them apart."""
    with pytest.raises(SourceTruncated):
        get(server, "/breaks-bare", tmp_path)
    assert get(server, "/breaks-bare", tmp_path).path.read_bytes() == OTHER


@pytest.mark.parametrize(
    ("path", "error", "retryable"),
    [
        ("/missing", SourceNotFound, False),
        ("/forbidden", SourceForbidden, False),
        ("/teapot", SourceRefused, False),
        ("/empty", SourceEmpty, False),
        ("/encoded", SourceRefused, False),
        ("/busy", SourceUnavailable, True),
        ("/short", SourceTruncated, True),
        ("/chunked-broken", SourceTruncated, True),
        ("/loop", RedirectRefused, False),
        ("/to-file", RedirectRefused, False),
        ("/to-metadata", AddressForbidden, False),
    ],
)
def test_a_bad_answer_is_a_clear_error(server, tmp_path, path, error, retryable):
    """Each says what it is, whether a retry can help, and leaves no file under the final name."""
    with pytest.raises(error) as caught:
        get(server, path, tmp_path)
    assert caught.value.retryable is retryable
    assert not (tmp_path / "film").exists()


def test_retry_after_is_kept(server, tmp_path):
    """A 503 says when to come back."""
    with pytest.raises(SourceUnavailable) as caught:
        get(server, "/busy", tmp_path)
    assert caught.value.evidence["retry_after_seconds"] == 7


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("%B2", None), ("Fri, 31 Dec 99999999999 23:59:59 GMT", None), ("9" * 400, 86400), ("soon", None)],
)
def test_an_odd_retry_after_does_no_harm(server, tmp_path, said, seconds):
    """Numbers that are none, years that aren't, and for ever: an ordinary error, a day at most."""
    with pytest.raises(SourceUnavailable) as caught:
        get(server, f"/odd-retry-after?{said}", tmp_path)
    assert caught.value.evidence["retry_after_seconds"] == seconds


@pytest.mark.parametrize(("in_seconds", "least", "most"), [(90, 80, 90), (-90, 0, 0)])
def test_retry_after_may_be_a_date(server, tmp_path, in_seconds, least, most):
    """In the future it is as long as it takes till then, in the past no time (RFC 9110, section 10.2.3)."""
    said = quote(formatdate(time.time() + in_seconds, usegmt=True))
    with pytest.raises(SourceUnavailable) as caught:
        get(server, f"/odd-retry-after?{said}", tmp_path)
    assert least <= caught.value.evidence["retry_after_seconds"] <= most


def test_five_redirects_are_followed_and_no_more(server, tmp_path):
    """FIELD.md, Security."""
    server.redirects |= {f"/hop{number}": f"/hop{number + 1}" for number in range(1, 6)} | {"/hop6": "/good"}
    assert get(server, "/hop2", tmp_path).path.read_bytes() == BODY
    with pytest.raises(RedirectRefused):
        get(server, "/hop1", tmp_path)


def names(monkeypatch, *answers):
    """Let each look-up of a name have the next answer, the last one for ever; return how many there were."""
    asked, real = [], socket.getaddrinfo

    def getaddrinfo(host, port, *more, **options):
        if host[-1].isdigit():
            return real(host, port, *more, **options)
        found = answers[min(len(asked), len(answers) - 1)]
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr("headrace.download.guard.socket.getaddrinfo", getaddrinfo)
    return asked


def test_every_address_of_a_name_is_checked(server, tmp_path, monkeypatch):
    """One that is private among public ones is enough to refuse it."""
    names(monkeypatch, ["8.8.8.8", "10.0.0.1"])
    with pytest.raises(AddressForbidden):
        fetch(Wish(f"http://films.example:{server.server_port}/good"), tmp_path / "film", guard=Guard())


def test_a_name_is_resolved_once_and_that_address_is_connected_to(server, tmp_path, monkeypatch):
    """Who answers with another one the second time (DNS rebinding) is not asked a second time."""
    asked = names(monkeypatch, ["127.0.0.1"], ["169.254.169.254"])
    done = fetch(Wish(f"http://films.example:{server.server_port}/good"), tmp_path / "film", guard=LOCAL)
    assert done.path.read_bytes() == BODY
    assert asked == ["films.example"]


@pytest.mark.parametrize("kept", [False, True])
def test_a_public_host_leads_nowhere_private(server, tmp_path, monkeypatch, kept):
    """Though its user typed the first address, and private ones may be typed; over a kept connection too."""
    monkeypatch.setattr("headrace.download.session.is_public", lambda _: True)
    server.redirects["/inside"] = f"http://localhost:{server.server_port}/secret"
    with contextlib.closing(Downloader(Guard(typed_may_be_private=True))) as downloader:
        if kept:
            downloader.fetch(Wish(server.url + "/good"), tmp_path / "film")
        with pytest.raises(AddressForbidden):
            downloader.fetch(Wish(server.url + "/inside"), tmp_path / "other")
    assert "/secret" not in server.seen


def test_a_wrong_checksum_keeps_nothing(server, tmp_path):
    """Bytes that are not what was ordered are thrown away."""
    with pytest.raises(ChecksumMismatch) as caught:
        get(server, "/good", tmp_path, sha256="0" * 64)
    assert hashlib.sha256(BODY).hexdigest() in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_a_right_checksum_is_a_proof(server, tmp_path):
    """The proof is recorded."""
    assert "sha256:order" in get(server, "/good", tmp_path, sha256=hashlib.sha256(BODY).hexdigest()).proofs


@pytest.mark.parametrize("path", ["/good", "/unknown-length"])
def test_too_large_a_source_is_refused(server, tmp_path, path):
    """By its announced length, or as soon as too much has come."""
    with pytest.raises(SourceTooLarge):
        get(server, path, tmp_path, max_bytes=1000)


def test_a_full_disk_is_said_at_once(server, tmp_path, monkeypatch):
    """Before a byte is written, with how much is missing."""
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("headrace.download.part.shutil.disk_usage", lambda _: usage)
    with pytest.raises(DiskFull, match="bytes are missing"):
        get(server, "/large/good", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_stop_ends_a_download_soon(server, tmp_path):
    """A stop is noticed while bytes trickle in."""
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        fetch(Wish(server.url + "/slow"), tmp_path / "film", guard=LOCAL, stop=stop)
    assert time.monotonic() - started < 3


def test_a_slow_loris_is_ended(server, tmp_path, monkeypatch):
    """A source below the minimum speed for the whole window ends as a timeout."""
    monkeypatch.setattr("headrace.download.pace.SLOW_SECONDS", 0.5)
    with pytest.raises(SourceTimeout):
        get(server, "/slow", tmp_path)


def test_progress_is_reported(server, tmp_path, monkeypatch):
    """Fractions grow up to the whole."""
    seen: list[Progress] = []
    monkeypatch.setattr("headrace.download.pace.REPORT_SECONDS", 0.0)
    fetch(Wish(server.url + "/good"), tmp_path / "film", guard=LOCAL, on_progress=seen.append)
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_a_host_that_does_not_exist_is_named(tmp_path):
    """With a hint, and without a retry."""
    with pytest.raises((SourceUnresolvable, SourceUnavailable), match=r"nowhere\.invalid"):
        fetch(Wish("http://nowhere.invalid/x"), tmp_path / "film", guard=LOCAL)


def test_nobody_listening_can_be_tried_again(tmp_path):
    """A refused connection may be a restart."""
    with pytest.raises(SourceUnavailable):
        fetch(Wish("http://127.0.0.1:9/x"), tmp_path / "film", guard=LOCAL)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0x7f.1", "2130706433", "127.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"]
)
def test_loopback_is_refused_however_it_is_written(server, tmp_path, host):
    """Orders may not read from this machine unless its network is allowed."""
    with pytest.raises(AddressForbidden):
        fetch(Wish(f"http://{host}:{server.server_port}/good"), tmp_path / "film", guard=Guard())


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "100.64.0.1",
        "::",
        "::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a00:1",
        "2002:7f00:1::",
        "::ffff:10.0.0.1",
        "fe80::1",
        "fc00::1",
        "fec0::1",
        "::ffff:0:7f00:1",
        "ff02::1",
    ],
)
def test_addresses_that_are_not_public(address):
    """Also those that hide an IPv4 address inside (``is_global`` alone lets some pass)."""
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808"])
def test_addresses_that_are_public(address):
    """Ordinary ones, and NAT64 of ordinary ones."""
    assert is_public(ip_address(address))


def test_a_typed_private_address_is_the_users_own_business(server, tmp_path):
    """``headrace fetch`` may read what its user typed."""
    done = fetch(Wish(server.url + "/redirect"), tmp_path / "film", guard=Guard(typed_may_be_private=True))
    assert done.path.read_bytes() == BODY


def test_cookies_stay_with_their_download(server, tmp_path):
    """What one download is given is not sent with the next one, which may be another owner's."""
    downloader = Downloader(LOCAL)
    for name in ("cookie", "good"):
        downloader.fetch(Wish(f"{server.url}/{name}"), tmp_path / name)
    downloader.close()
    assert "cookie" not in server.seen["/good"][-1]


def test_a_connection_with_a_surplus_is_not_used_again(server, tmp_path):
    """Bytes that nobody asked for are not the next answer."""
    downloader = Downloader(LOCAL)
    assert downloader.fetch(Wish(server.url + "/surplus"), tmp_path / "a").path.read_bytes() == b"right"
    assert downloader.fetch(Wish(server.url + "/good"), tmp_path / "b").path.read_bytes() == BODY
    downloader.close()


def test_a_head_that_never_ends_is_ended(server, tmp_path, monkeypatch):
    """A byte now and then keeps no download waiting for ever."""
    monkeypatch.setattr("headrace.download.session.ANSWER_SECONDS", 0.5)
    with pytest.raises(SourceTimeout):
        get(server, "/dripping-head", tmp_path)


def test_a_part_file_is_never_another_files_destination():
    """A source called like an unfinished file gets another name."""
    taken = set()
    assert [unique_name(name, taken) for name in ("x", "x.part", "X.PART.journal")] == [
        "x",
        "x.part.file",
        "X.PART.journal.file",
    ]


def test_a_folder_that_can_not_be_made_is_our_error(server, tmp_path):
    """Not the system's."""
    (tmp_path / "file").touch()
    with pytest.raises(DiskFailed):
        fetch(Wish(server.url + "/good"), tmp_path / "file" / "film")


def test_private_headers_stay_with_their_origin(server, tmp_path):
    """A redirect to another origin gets no credentials."""
    with serving() as other:
        server.feeds.clear()
        target = other.url + "/good"
        handler = type(server.RequestHandlerClass.__name__, (server.RequestHandlerClass,), {})
        handler.at_away = lambda self: self._send(302, Location=target)  # type: ignore[attr-defined]
        with serving() as first:
            first.RequestHandlerClass = handler
            wish = Wish(first.url + "/away", access=Access(bearer="secret"))
            fetch(wish, tmp_path / "film", guard=LOCAL)
            assert first.seen["/away"][0]["authorization"] == "Bearer secret"
        assert "authorization" not in other.seen["/good"][0]
