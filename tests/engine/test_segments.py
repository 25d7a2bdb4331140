"""Several connections for one file, against a server with one bad habit for each path.

The file is right, or there is a clear error; never a wrong file with success.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import blake3
import pytest
import xxhash
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from headrace.download import Access, Downloader, Guard, Signed, Wish, journal
from headrace.download.body import Wire
from headrace.download.crew import Crew
from headrace.download.hashing import Hashing
from headrace.download.part import KEEP_FREE_BYTES
from headrace.download.proof import promise
from headrace.errors import (
    Cancelled,
    ChecksumMismatch,
    DiskFull,
    HeadraceError,
    Limited,
    SourceForbidden,
    SourceRefused,
    SourceTimeout,
    SourceTruncated,
)
from headrace.model import Downloaded, Progress
from tests.conftest import ROOT
from tests.servers import ETAG, LARGE, LARGER, Server, serving

TYPED = Guard(typed_may_be_private=True)
RIGHT = promise("sha256", hashlib.sha256(LARGE).hexdigest(), "order")
BLOCK = 2**20
OURS = Signed("s3://films/large")


def fetch(server: Server, name: str, folder: Path, *, stop=None, on_progress=None, **wish) -> Downloaded:
    downloader = Downloader(TYPED)
    try:
        wanted = Wish(f"{server.url}/large/{name}", **wish)
        done = downloader.fetch(wanted, folder / "film", stop=stop, on_progress=on_progress)
        assert done.sums["blake3"] == blake3.blake3(done.path.read_bytes()).hexdigest()
        return done
    finally:
        downloader.close()


def interrupted(server: Server, name: str, folder: Path, after_bytes: int, **wish) -> None:
    """Begin a download and stop it once so much was sent."""
    stop = threading.Event()

    def watch() -> None:
        while server.sent.get(f"/large/{name}", 0) < after_bytes:
            time.sleep(0.005)
        stop.set()

    threading.Thread(target=watch, daemon=True).start()
    with pytest.raises(Cancelled):
        fetch(server, name, folder, stop=stop, **wish)


def settled(server: Server, name: str) -> int:
    """Return how much a path has sent, once nothing of it is on its way any more."""
    while server.open[f"/large/{name}"]:
        time.sleep(0.01)
    return server.sent[f"/large/{name}"]


def test_a_large_file_comes_over_several_connections(server, tmp_path):
    """Whole, hashed, with the final name alone; the connections are used again for the next stripe."""
    done = fetch(server, "good", tmp_path, algorithms=("blake3", "sha256"))
    assert done.path.read_bytes() == LARGE
    assert done.sums["sha256"] == hashlib.sha256(LARGE).hexdigest()
    assert [path.name for path in tmp_path.iterdir()] == ["film"]
    assert len(server.seen["/large/good"]) > 2
    assert server.sent["/large/good"] == len(LARGE)


def test_every_range_is_pinned_to_the_first_answer(server, tmp_path):
    """With ``If-Range`` and the strong ETag."""
    fetch(server, "good", tmp_path)
    first, *others = server.seen["/large/good"]
    assert first["range"] == f"bytes=0-{BLOCK - 1}"
    assert all(one["if-range"] == ETAG for one in others)


def test_without_an_etag_the_date_pins(server, tmp_path):
    """``Last-Modified`` is the validator then."""
    assert fetch(server, "dated", tmp_path).path.read_bytes() == LARGE
    assert server.seen["/large/dated"][-1]["if-range"] == "Sat, 21 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize("name", ["bare", "weak", "empty-tag", "without-ranges"])
def test_what_can_not_be_pinned_comes_over_one_connection(server, tmp_path, name):
    """No validator, a weak one, or no ranges at all: one body, from its beginning to its end."""
    done = fetch(server, name, tmp_path)
    assert done.path.read_bytes() == LARGE
    assert len(server.seen[f"/large/{name}"]) <= 2


def test_a_long_body_of_unknown_length_arrives(server, tmp_path):
    """Chunked, many blocks and a part of one; its end is known when it is there."""
    done = fetch(server, "chunked", tmp_path)
    assert done.path.read_bytes() == LARGE
    assert done.sums["blake3"] == blake3.blake3(LARGE).hexdigest()


def test_a_range_that_does_not_say_its_version_is_not_believed(server, tmp_path):
    """Another file of the same size could be behind it; the whole is read from one reply instead."""
    done = fetch(server, "silent-later", tmp_path)
    assert done.path.read_bytes() in {LARGE, LARGER}


def test_a_connection_too_many_may_be_forbidden(server, tmp_path):
    """A 403 to one connection, while others get on, ends that one only."""
    assert fetch(server, "two-allowed", tmp_path).path.read_bytes() == LARGE


def test_one_edge_that_ignores_ranges_costs_nothing(server, tmp_path):
    """A 200 of the same version now and then is asked again; what came by ranges stays."""
    assert fetch(server, "sometimes-whole", tmp_path).path.read_bytes() == LARGE
    assert all("range" in seen for seen in server.seen["/large/sometimes-whole"]), "it was begun again, as a whole"


def test_a_slow_loris_is_ended_on_all_its_connections(server, tmp_path, monkeypatch):
    """Trickling ranges are as slow together."""
    monkeypatch.setattr("headrace.download.pace.SLOW_SECONDS", 1.0)
    started = time.monotonic()
    with pytest.raises(SourceTimeout):
        fetch(server, "loris", tmp_path, connections=4)
    assert time.monotonic() - started < 15
    assert not (tmp_path / "film").exists()


def test_pauses_between_tries_grow_and_are_not_all_alike(server, tmp_path, monkeypatch):
    """Twice as long each time, less a random part: clients that failed together don't come back together."""
    paused: list[float] = []
    monkeypatch.setattr(Crew, "rest", lambda _crew, _share, seconds: paused.append(seconds))
    with pytest.raises(SourceTruncated):
        fetch(server, "broken", tmp_path, connections=1)
    whole = [0.01 * 2**number for number in range(len(paused))]
    assert len(paused) == 5
    assert all(most / 2 <= seconds <= most for seconds, most in zip(paused, whole, strict=True))
    assert len({round(seconds / most, 6) for seconds, most in zip(paused, whole, strict=True)}) > 1


def test_without_ranges_the_first_reply_is_the_file(server, tmp_path):
    """Nothing is asked twice, and nothing encoded is asked for."""
    assert fetch(server, "without-ranges", tmp_path).path.read_bytes() == LARGE
    (asked,) = server.seen["/large/without-ranges"]
    assert asked["accept-encoding"] == "identity"


def test_what_can_not_be_continued_leaves_nothing(server, tmp_path):
    """Without a validator a journal would be of no use."""
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    with pytest.raises(Cancelled):
        fetch(server, "bare-and-slow", tmp_path, stop=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_promised_digest_allows_ranges_without_a_validator(server, tmp_path):
    """What the whole must be is known, so a splice can't pass."""
    done = fetch(server, "bare", tmp_path, promises=(RIGHT,))
    assert done.path.read_bytes() == LARGE
    assert len(server.seen["/large/bare"]) > 2
    assert "sha256:order" in done.proofs


def test_a_silent_change_is_found_by_the_digest(server, tmp_path):
    """Nothing says that the source changed but the bytes; there is no file."""
    with pytest.raises(ChecksumMismatch):
        fetch(server, "changing-silently", tmp_path, promises=(RIGHT,))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["breaking", "if-range-unknown", "shifted", "short-answers", "whole-cut-to-the-range"],
)
def test_a_server_with_a_bad_habit_does_no_harm(server, tmp_path, name):
    """Bodies that break off, ranges that are wrong or short, refused connections: the right file."""
    assert fetch(server, name, tmp_path).path.read_bytes() == LARGE


def test_a_body_that_breaks_off_goes_on_where_it_was(server, tmp_path):
    """Nothing is fetched twice."""
    fetch(server, "breaking", tmp_path)
    assert server.sent["/large/breaking"] == len(LARGE)


def test_a_server_that_refuses_connections_keeps_those_it_has_granted(server, tmp_path):
    """A 503 to a third connection ends that one, not the download."""
    done = fetch(server, "two-at-most", tmp_path, connections=8)
    assert done.path.read_bytes() == LARGE


def test_a_source_that_changes_starts_again(server, tmp_path):
    """Old and new bytes of the same size are never spliced (aria2, curl and wget do)."""
    done = fetch(server, "changing", tmp_path)
    assert done.path.read_bytes() == LARGER
    assert done.restarts == 1


def test_a_source_that_changed_before_the_resume_starts_again(server, tmp_path):
    """The journal's validator is not the new one's; the new file comes whole."""
    interrupted(server, "steady", tmp_path, 6 * BLOCK)
    path = journal.journal_path(tmp_path / "film")
    path.write_text(path.read_text().replace('\\"one\\"', '\\"zero\\"'))
    part = journal.part_path(tmp_path / "film")
    part.write_bytes(LARGER[: part.stat().st_size])
    done = fetch(server, "steady", tmp_path)
    assert done.path.read_bytes() == LARGE
    assert (done.restarts, done.resumed_bytes) == (1, 0)


def test_a_range_that_is_encoded_is_refused(server, tmp_path):
    """Lengths and ranges of an encoded body count other bytes."""
    with pytest.raises(SourceRefused, match="encoded"):
        fetch(server, "encoded-later", tmp_path)
    assert not (tmp_path / "film").exists()


def test_a_source_that_breaks_off_for_ever_ends_as_an_error(server, tmp_path):
    """After some tries without a block of progress; what came is kept."""
    with pytest.raises(SourceTruncated):
        fetch(server, "broken", tmp_path)
    assert not (tmp_path / "film").exists()


def test_a_size_that_is_a_lie_ends_as_an_error(server, tmp_path):
    """The last megabyte never comes; there is no file, and the error can be tried again."""
    with pytest.raises((SourceTruncated, SourceRefused)):
        fetch(server, "lying-about-its-size", tmp_path)
    assert not (tmp_path / "film").exists()


def test_a_stalled_connection_is_hedged(server, tmp_path, monkeypatch):
    """Another connection brings what the stalled one owes, long before the server gives up."""
    monkeypatch.setattr("headrace.download.crew.STALL_SECONDS", 0.5)
    started = time.monotonic()
    assert fetch(server, "stalling", tmp_path).path.read_bytes() == LARGE
    assert time.monotonic() - started < 10


def test_a_connection_that_is_slow_but_moves_holds_nothing_up(server, tmp_path, monkeypatch):
    """Its share is cut, and in the end it isn't waited for, though it moves while others are being asked."""
    monkeypatch.setattr("headrace.download.crew.STALL_SECONDS", 0.5)
    started = time.monotonic()
    assert fetch(server, "far-and-one-slow", tmp_path, connections=4).path.read_bytes() == LARGE
    assert time.monotonic() - started < 10
    assert len(server.seen["/large/far-and-one-slow"]) < 20


def test_the_servers_own_digest_is_checked(server, tmp_path):
    """``Repr-Digest`` speaks of the whole, also in a 206; the proof is recorded."""
    assert "sha256:repr-digest" in fetch(server, "promising", tmp_path).proofs


def test_a_digest_that_the_server_doesnt_keep_is_an_error(server, tmp_path):
    """Who promises other bytes than it sends is not believed."""
    with pytest.raises(ChecksumMismatch, match="Repr-Digest"):
        fetch(server, "promising-wrongly", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_download_goes_on_where_it_was(server, tmp_path):
    """Nothing that came is fetched again."""
    interrupted(server, "steady", tmp_path, 10 * BLOCK, connections=1)
    before = settled(server, "steady")
    assert not (tmp_path / "film").exists()
    done = fetch(server, "steady", tmp_path, connections=1)
    assert done.path.read_bytes() == LARGE
    assert done.resumed_bytes > 8 * BLOCK
    assert server.sent["/large/steady"] - before == len(LARGE) - done.resumed_bytes


def test_holes_are_filled(server, tmp_path):
    """Blocks come out of order; what is missing between them is fetched, and nothing else."""
    interrupted(server, "steady", tmp_path, 12 * BLOCK, connections=1)
    path = journal.journal_path(tmp_path / "film")
    header, *lines = path.read_text().splitlines(keepends=True)
    path.write_text(header + "".join(line for number, line in enumerate(lines) if number % 3))
    claimed = sum(length for length, _ in journal.load(tmp_path / "film").claims.values())
    before = settled(server, "steady")
    done = fetch(server, "steady", tmp_path, connections=1)
    assert done.path.read_bytes() == LARGE
    assert done.resumed_bytes == claimed
    assert server.sent["/large/steady"] - before == len(LARGE) - claimed


def test_a_download_goes_on_in_another_place(server, tmp_path):
    """The part file and its journal are all that another machine needs."""
    interrupted(server, "steady", tmp_path / "one", 12 * BLOCK)
    (tmp_path / "one").rename(tmp_path / "two")
    assert fetch(server, "steady", tmp_path / "two").resumed_bytes > 4 * BLOCK


def test_a_copy_on_another_machine_goes_on(server, tmp_path):
    """Another process, other inodes, and nothing is left of the first one."""
    interrupted(server, "steady", tmp_path / "one", 12 * BLOCK)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    shutil.rmtree(tmp_path / "one")
    before = server.sent["/large/steady"]
    argv = [
        sys.executable,
        "-m",
        "headrace.cli",
        "fetch",
        f"{server.url}/large/steady",
        "-o",
        str(tmp_path / "two/film"),
    ]
    subprocess.run(argv, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True)
    assert (tmp_path / "two" / "film").read_bytes() == LARGE
    assert server.sent["/large/steady"] - before < len(LARGE) - 4 * BLOCK


def test_a_fresh_address_of_another_file_begins_anew(server, tmp_path):
    """The same path and size; its strong ETag tells."""
    interrupted(server, "steady", tmp_path, 12 * BLOCK)
    path = journal.journal_path(tmp_path / "film")
    path.write_text(path.read_text().replace('\\"one\\"', '\\"two\\"'))
    done = fetch(server, "steady?fresh", tmp_path)
    assert (done.resumed_bytes, done.path.read_bytes()) == (0, LARGE)


def test_an_expired_address_can_be_replaced(server, tmp_path):
    """A fresh address of the same version goes on with what the old one brought."""
    with pytest.raises(SourceForbidden):
        fetch(server, "expiring", tmp_path)
    done = fetch(server, "expiring?fresh", tmp_path)
    assert done.path.read_bytes() == LARGE
    assert done.resumed_bytes > 4 * BLOCK


def test_a_complete_part_of_another_source_is_not_taken(server, tmp_path):
    """Killed before the last rename, then asked for something else: that is what comes."""
    interrupted(server, "steady", tmp_path, 6 * BLOCK, connections=1)
    path = journal.journal_path(tmp_path / "film")
    header = path.read_text().splitlines()[0]
    lines = [
        f'[{at // BLOCK},{len(LARGE[at : at + BLOCK])},"{xxhash.xxh3_128_hexdigest(LARGE[at : at + BLOCK])}"]'
        for at in range(0, len(LARGE), BLOCK)
    ]
    path.write_text("\n".join([header, *lines]) + "\n")
    journal.part_path(tmp_path / "film").write_bytes(LARGE)
    downloader = Downloader(TYPED)
    with pytest.raises(HeadraceError):
        downloader.fetch(Wish("http://127.0.0.1:9/other"), tmp_path / "film")
    downloader.close()
    assert not (tmp_path / "film").exists()
    done = fetch(server, "steady", tmp_path)
    assert done.resumed_bytes == len(LARGE)


def test_a_beginning_that_is_damaged_comes_again(server, tmp_path):
    """A claim of a part of a block, ahead of its data: nobody goes on behind it."""
    interrupted(server, "steady", tmp_path, 6 * BLOCK, connections=1)
    path = journal.journal_path(tmp_path / "film")
    path.write_text(path.read_text().splitlines()[0] + '\n[0,500000,"' + "0" * 32 + '"]\n')
    assert fetch(server, "steady", tmp_path).path.read_bytes() == LARGE


def test_https_comes_from_its_socket_too(tmp_path, monkeypatch):
    """Several connections with TLS, certificates checked."""
    certificate, key = tls_files(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(tls=context) as secure:
        url = secure.url.replace("http:", "https:").replace("127.0.0.1", "localhost") + "/large/good"
        with pytest.raises(HeadraceError, match="certificate"):
            Downloader(TYPED).fetch(Wish(url), tmp_path / "film")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        direct: list[bool] = []
        made = Wire.__init__

        def watched(wire: Wire, *args: object) -> None:
            made(wire, *args)
            direct.append(wire._socket is not None)

        monkeypatch.setattr(Wire, "__init__", watched)
        downloader = Downloader(TYPED)
        assert downloader.fetch(Wish(url), tmp_path / "film").path.read_bytes() == LARGE
        downloader.close()
        assert direct
        assert all(direct)


def tls_files(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for localhost, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "tls.pem", folder / "tls.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return paths


def test_a_resumed_file_tells_how_its_check_gets_on(server, tmp_path, monkeypatch):
    """Reading what is there again takes its time where that is much, and nothing else is to be shown then."""
    interrupted(server, "steady", tmp_path, 20 * BLOCK, connections=1)
    hashed = Hashing._update

    def slowly(hashing: Hashing, content: memoryview) -> None:
        time.sleep(0.03)
        hashed(hashing, content)

    monkeypatch.setattr(Hashing, "_update", slowly)
    monkeypatch.setattr("headrace.download.part.SLICE_SECONDS", 0.02)
    seen: list[Progress] = []
    assert fetch(server, "steady", tmp_path, on_progress=seen.append).path.read_bytes() == LARGE
    checked = [one.checked_bytes for one in seen if one.checked_bytes is not None]
    assert len(checked) > 3
    assert checked == sorted(checked)
    assert checked[-1] <= len(LARGE)
    assert {one.size_bytes for one in seen} == {len(LARGE)}


def test_damage_on_the_disk_costs_its_blocks_only(server, tmp_path):
    """What the journal claims is compared; a block that isn't what was written comes again."""
    interrupted(server, "steady", tmp_path, 12 * BLOCK, connections=1)
    claimed = journal.load(tmp_path / "film").claims
    whole = sorted(block for block, (length, _) in claimed.items() if length == BLOCK)
    with journal.part_path(tmp_path / "film").open("r+b") as file:
        file.seek(whole[1] * BLOCK + 500_000)
        file.write(b"damaged")
    before = settled(server, "steady")
    done = fetch(server, "steady", tmp_path, connections=1)
    assert done.path.read_bytes() == LARGE
    resumed = sum(length for length, _ in claimed.values())
    assert server.sent["/large/steady"] - before == len(LARGE) - resumed + BLOCK


def test_a_journal_ahead_of_its_data_is_not_believed(server, tmp_path):
    """As after a power cut: the claims are there, the bytes are zeros."""
    interrupted(server, "steady", tmp_path, 12 * BLOCK)
    with journal.part_path(tmp_path / "film").open("r+b") as file:
        file.truncate(0)
        file.truncate(len(LARGE))
    assert fetch(server, "steady", tmp_path).path.read_bytes() == LARGE


def test_a_torn_journal_costs_its_torn_line_only(server, tmp_path):
    """A line that was cut is ignored, and lines that follow it count."""
    interrupted(server, "steady", tmp_path, 12 * BLOCK)
    path = journal.journal_path(tmp_path / "film")
    text = path.read_text()
    path.write_text(text[:-7])
    one_less = len(journal.load(tmp_path / "film").claims)
    assert one_less == len(journal.parse(text).claims) - 1
    assert fetch(server, "steady", tmp_path).path.read_bytes() == LARGE


def full_after(monkeypatch: pytest.MonkeyPatch, written: int) -> None:
    """Let the disk be full once so many bytes were written."""
    real, left = os.pwrite, [written]

    def pwrite(descriptor: int, content: bytes, position: int) -> int:
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= len(content)
        return real(descriptor, content, position)

    monkeypatch.setattr("headrace.download.part.os.pwrite", pwrite)


def test_a_disk_that_fills_up_ends_the_download_and_keeps_what_came(server, tmp_path, monkeypatch):
    """At once, with how much is missing; with room again it goes on."""
    monkeypatch.setattr("headrace.download.part.os.posix_fallocate", unsupported)
    with monkeypatch.context() as patched:
        full_after(patched, 8 * BLOCK)
        with pytest.raises(DiskFull, match="bytes are missing") as caught:
            fetch(server, "steady", tmp_path)
    assert 0 < caught.value.evidence["missing_bytes"] <= len(LARGE)
    assert not (tmp_path / "film").exists()
    done = fetch(server, "steady", tmp_path)
    assert done.resumed_bytes > 4 * BLOCK
    assert done.path.read_bytes() == LARGE


def test_a_full_disk_says_as_much_as_the_next_try_will_ask_for(server, tmp_path, monkeypatch):
    """Who makes that much room doesn't find it too little: what is left free for others is in it."""
    monkeypatch.setattr("headrace.download.part.os.posix_fallocate", unsupported)
    free = iter([2**40])  # at first, and nothing later
    monkeypatch.setattr("headrace.download.part.shutil.disk_usage", lambda _: SimpleNamespace(free=next(free, 0)))
    full_after(monkeypatch, 8 * BLOCK)
    with pytest.raises(DiskFull) as midway:
        fetch(server, "steady", tmp_path)
    with pytest.raises(DiskFull) as again:
        fetch(server, "steady", tmp_path)
    assert again.value.evidence["missing_bytes"] == midway.value.evidence["missing_bytes"] > KEEP_FREE_BYTES


def test_a_disk_without_room_for_the_rest_keeps_what_came(server, tmp_path, monkeypatch):
    """It is said before a byte is asked for, and nothing is lost."""
    interrupted(server, "steady", tmp_path, 12 * BLOCK)
    with monkeypatch.context() as patched:
        usage = type("Usage", (), {"free": 10})
        patched.setattr("headrace.download.part.shutil.disk_usage", lambda _: usage)
        with pytest.raises(DiskFull, match="bytes are missing"):
            fetch(server, "steady", tmp_path)
    assert fetch(server, "steady", tmp_path).resumed_bytes > 4 * BLOCK


def test_room_is_taken_at_once(server, tmp_path):
    """The whole file's, so that a full disk is known before the last gigabyte; and no journal says that it is there."""
    interrupted(server, "steady", tmp_path, 6 * BLOCK)
    assert journal.part_path(tmp_path / "film").stat().st_blocks * 512 >= len(LARGE)
    journal.journal_path(tmp_path / "film").unlink()
    done = fetch(server, "steady", tmp_path)
    assert (done.resumed_bytes, done.path.read_bytes()) == (0, LARGE)


def unsupported(*_: object) -> None:
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")


def test_data_is_synced_before_its_journal(server, tmp_path, monkeypatch):
    """Now and then while a download runs, and when it ends early; so a power cut leaves no claim ahead of its data."""
    monkeypatch.setattr("headrace.download.part.SYNC_SECONDS", 0.05)
    synced: list[str] = []
    real = os.fdatasync

    def fdatasync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr("headrace.download.part.os.fdatasync", fdatasync)
    interrupted(server, "steady", tmp_path, 12 * BLOCK)
    assert len(synced) >= 4
    assert synced == ["film.part", "film.part.journal"] * (len(synced) // 2)


def test_the_journal_holds_no_secret(server, tmp_path):
    """Neither user info nor the values of a query are written to the disk."""
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    downloader = Downloader(TYPED)
    address = f"http://user:hunter2@127.0.0.1:{server.server_port}/large/steady?sig=hunter2"
    with pytest.raises(Cancelled):
        downloader.fetch(Wish(address), tmp_path / "film", stop=stop)
    downloader.close()
    text = journal.journal_path(tmp_path / "film").read_text()
    assert "hunter2" not in text
    assert json.loads(text.splitlines()[0])["url"].endswith("/large/steady?sig=…")


def test_two_processes_do_not_write_one_file(server, tmp_path):
    """The second one is told so at once; the first one ends well."""
    done: list[Downloaded] = []
    first = threading.Thread(target=lambda: done.append(fetch(server, "steady", tmp_path)))
    first.start()
    while not server.most.get("/large/steady"):  # who asks for bytes holds the part
        time.sleep(0.01)
    with pytest.raises(Limited, match="another download"):
        fetch(server, "good", tmp_path)
    first.join()
    assert done[0].path.read_bytes() == LARGE


def test_progress_tells_speed_and_connections(server, tmp_path):
    """Fractions grow up to the whole, and more than one connection is at it."""
    seen: list[Progress] = []
    fetch(server, "steady", tmp_path, on_progress=seen.append)
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert max(progress.connections or 0 for progress in seen) > 1


def test_connections_are_added_while_they_help(server, tmp_path):
    """Of a source that is slow for each connection, more are opened than at the start, up to the most."""
    fetch(server, "steady", tmp_path, connections=5)
    assert 3 <= server.most["/large/steady"] <= 6  # a hedge may be one more


def test_a_stop_ends_every_connection_soon(server, tmp_path):
    """Within a second or so, threads and all."""
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        fetch(server, "steady", tmp_path, stop=stop)
    assert time.monotonic() - started < 3
    deadline = time.monotonic() + 3
    while any(thread.name == "download" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_request_that_nobody_answers_is_stopped_soon(tmp_path):
    """A stop is noticed while the server's answer is waited for."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        stop = threading.Event()
        threading.Timer(0.3, stop.set).start()
        downloader = Downloader(TYPED)
        started = time.monotonic()
        with pytest.raises(Cancelled):
            downloader.fetch(Wish(f"http://127.0.0.1:{deaf.getsockname()[1]}/x"), tmp_path / "film", stop=stop)
        assert time.monotonic() - started < 3
        downloader.close()


@pytest.mark.long
def test_errors_are_our_own(server, tmp_path):
    """Whatever a path does, no foreign exception comes out."""
    for name in [one.removeprefix("large_") for one in dir(server.RequestHandlerClass) if one.startswith("large_")]:
        if name in {"stalling", "steady", "crawling", "second", "other", "damaged", "longer", "whole_blocks"}:
            continue  # too slow for here, or nothing wrong
        try:
            done = fetch(server, name.replace("_", "-"), tmp_path / name)
        except HeadraceError:
            assert not (tmp_path / name / "film").exists()
        else:
            assert done.path.read_bytes() in {LARGE, LARGER}


@pytest.mark.parametrize("name", ["cut-and-chunked", "cut-and-told"])
def test_a_200_that_is_cut_to_the_range_is_not_the_whole(server, tmp_path, name):
    """Whatever it says of its length, the whole is asked for (rclone#6980)."""
    assert fetch(server, name, tmp_path).path.read_bytes() == LARGE


def test_another_url_to_the_same_name_is_another_file(server, tmp_path):
    """Same size, same date, same ETag: a version of one address says nothing of another's."""
    interrupted(server, "first-twin", tmp_path, 8 * BLOCK)
    done = fetch(server, "twin", tmp_path)
    assert done.path.read_bytes() == LARGER
    assert done.resumed_bytes == 0


def test_another_query_needs_a_strong_etag(server, tmp_path):
    """A fresh signature goes on with a strong ETag; a date alone may be another file's."""
    interrupted(server, "dated", tmp_path, 4 * BLOCK)
    assert fetch(server, "dated?id=2", tmp_path).resumed_bytes == 0


def test_a_signature_of_our_own_is_no_other_address(server, tmp_path):
    """Also with a date alone, which is all that some S3s have; another object's address stays another's."""
    interrupted(server, "dated", tmp_path, 4 * BLOCK, signed=OURS)
    done = fetch(server, "dated?signed=2", tmp_path, signed=OURS)
    assert done.resumed_bytes > 0
    assert done.path.read_bytes() == LARGE
    interrupted(server, "first-twin", tmp_path / "other", 8 * BLOCK, signed=OURS)
    assert fetch(server, "twin", tmp_path / "other", signed=OURS).resumed_bytes == 0


def test_a_file_of_whole_blocks(server, tmp_path):
    """No block and a half behind the last one."""
    assert fetch(server, "whole-blocks", tmp_path).path.read_bytes() == LARGE[: 8 * BLOCK]


def test_a_thread_that_dies_ends_the_download(server, tmp_path, monkeypatch):
    """Whatever it dies of: nobody waits for ever. A digest as slow as SHA-256 has a thread."""

    def dies(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("headrace.download.hashing.Hashing._take", dies)
    with pytest.raises(MemoryError):
        fetch(server, "good", tmp_path, promises=(RIGHT,))


def test_a_cookie_that_can_not_be_written_is_quoted_nowhere(server, tmp_path):
    """Neither in the error, nor is it the host's failure."""
    access = Access(headers=(("X-Odd", "canary "),))
    for name in ("good", "good"):
        with pytest.raises(SourceRefused) as refused:
            fetch(server, name, tmp_path, access=access)
        assert "canary" not in str(refused.value) + repr(refused.value.evidence)
