"""The single-stage commands: no stack needed, data on stdout, errors in one line."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time

import blake3
import pytest

from headrace.cli import COMMANDS
from headrace.stores.s3 import Endpoint, S3Bucket
from tests.conftest import ROOT
from tests.engine import films
from tests.servers import BODY, serving

SHA256 = hashlib.sha256(BODY).hexdigest()
BLAKE3 = blake3.blake3(BODY).hexdigest()


def headrace(*words, timeout=120, **environment):
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "headrace.cli", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture(scope="module")
def server():
    with serving() as running:
        yield running


def test_fetch_writes_a_file(server, tmp_path):
    """``-o`` names it; stdout says where it is."""
    done = headrace("fetch", server.url + "/good", "-o", tmp_path / "film.mp4", "--sha256", SHA256)
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "film.mp4"))
    assert (tmp_path / "film.mp4").read_bytes() == BODY


def test_fetch_takes_many_and_says_which_failed(server, tmp_path):
    """Into a folder, from a list, as JSON Lines; exit status 3 when some failed, 1 when all did."""
    listed = tmp_path / "list.txt"
    listed.write_text(f"# films\n{server.url}/good\n\n{server.url}/missing\n")
    done = headrace("fetch", "--from-file", listed, "-d", tmp_path / "out", "--json")
    assert done.returncode == 3
    *rows, summary = map(json.loads, done.stdout.splitlines())
    good, bad = sorted((row for row in rows if row["event"] != "progress"), key=lambda row: row["url"])
    assert (good["event"], good["blake3"], good["error"]) == ("finished", BLAKE3, None)
    assert (bad["event"], bad["error"]["code"]) == ("failed", "source_not_found")
    assert (summary["event"], summary["files"], summary["failed"], summary["bytes"]) == ("summary", 2, 1, len(BODY))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good"]
    assert headrace("fetch", server.url + "/missing", "-o", tmp_path / "x").returncode == 1


@pytest.mark.parametrize(
    "words", [(), ("http://h/a", "http://h/b", "-o", "x"), ("http://h/a", "-o", "x", "-d", "y"), ("--nonsense",)]
)
def test_fetch_says_how_it_is_used(words):
    """Exit status 2."""
    done = headrace("fetch", *words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_fetch_checks_against_a_publishers_list(server, tmp_path):
    """``--sums`` proves each file that the list names, and refuses one that it doesn't."""
    server.feeds["/SHA256SUMS"] = ("text/plain", f"{SHA256}  good\n".encode(), '"s"')
    words = ("fetch", "-d", tmp_path, "--json", "--sums")
    for where in (server.url + "/SHA256SUMS", "auto"):
        row = json.loads(headrace(*words, where, server.url + "/good").stdout.splitlines()[-1])
        assert "sha256:sidecar" in row["proofs"]
    server.feeds["/promised.sha256"] = ("text/plain", f"{SHA256}\n".encode(), '"s"')
    server.answers["/promised"] = (200, {}, BODY)
    row = json.loads(headrace(*words, "auto", server.url + "/promised").stdout.splitlines()[-1])
    assert "sha256:sidecar" in row["proofs"]
    done = headrace(*words, server.url + "/SHA256SUMS", server.url + "/redirect")
    assert json.loads(done.stdout)["error"]["code"] == "invalid_request"
    server.feeds["/SHA256SUMS"] = ("text/plain", f"{'0' * 64}  good\n".encode(), '"t"')
    done = headrace(*words, server.url + "/SHA256SUMS", server.url + "/good")
    assert json.loads(done.stdout)["error"]["code"] == "checksum_mismatch"


def test_fetch_gives_files_of_the_same_name_different_names(server, tmp_path):
    """Two sources called alike don't write over each other."""
    done = headrace("fetch", server.url + "/good", server.url + "/good?again", "-d", tmp_path)
    assert done.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good", "good (2)"]


def test_fetch_tries_a_busy_server_again_when_it_says(server, tmp_path):
    """``Retry-After`` of a 503 is waited for."""
    started = time.monotonic()
    assert headrace("fetch", server.url + "/busy-once", "-o", tmp_path / "film").returncode == 0
    assert time.monotonic() - started > 1
    assert (tmp_path / "film").read_bytes() == BODY


def test_fetch_shows_no_secret_of_a_bad_address(tmp_path):
    """What is no URL is shown without user info and query."""
    done = headrace("fetch", "ftp://user:hunter2@host/x?sig=hunter2", "-d", tmp_path, "--json")
    assert done.returncode == 1
    assert "hunter2" not in done.stdout + done.stderr


def test_fetch_never_leaves_its_folder(server, tmp_path):
    """A name from the URL or the server is a label."""
    done = headrace("fetch", server.url + "/%2e%2e%2f%2e%2e%2fevil", "-d", tmp_path / "out")
    assert done.returncode == 1
    assert not (tmp_path / "evil").exists()


def test_transcode_check_and_publish_work_together(s3_server, tmp_path):
    """A film becomes a folder of streams, is found right, and goes to S3 with its manifests."""
    films.film(tmp_path / "film.mp4", seconds=1)
    out = tmp_path / "out"
    made = headrace("transcode", tmp_path / "film.mp4", "-o", out, "--json")
    assert made.returncode == 0, made.stderr
    assert {"master.m3u8", "manifest.mpd", "poster.jpg", "storyboard.jpg", "storyboard.vtt", "report.json"} <= {
        path.name for path in out.iterdir()
    }
    checked = headrace("check-stream", out, "--json")
    assert checked.returncode == 0, checked.stdout
    keys = {"AWS_ACCESS_KEY_ID": s3_server.access_key_id, "AWS_SECRET_ACCESS_KEY": s3_server.secret_access_key}
    sent = headrace(
        "publish", out, "s3://headrace-streams/by-hand/1", "--endpoint-url", s3_server.endpoint_url, "--json", **keys
    )
    assert sent.returncode == 0, sent.stderr
    assert json.loads(sent.stdout)["files"] == len(list(out.iterdir()))
    bucket = S3Bucket(
        Endpoint(s3_server.endpoint_url, "us-east-1", s3_server.access_key_id, s3_server.secret_access_key),
        "headrace-streams",
    )
    size = (out / "master.m3u8").stat().st_size
    assert bucket.read_range("by-hand/1/master.m3u8", 0, size) == (out / "master.m3u8").read_bytes()


def test_publish_says_what_is_wrong(tmp_path):
    """An empty folder, no bucket, wrong keys: one line each."""
    (tmp_path / "empty").mkdir()
    assert headrace("publish", tmp_path / "empty", "s3://bucket/p").returncode == 2
    assert headrace("publish", tmp_path, "bucket/p").returncode == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    """And the list of commands says the same as the command itself is for."""
    done = headrace(command, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


def test_without_a_stack_the_order_commands_say_what_to_do(tmp_path):
    """No token, no gateway: exit status 5 or 1, one line and a hint."""
    done = headrace("items", HEADRACE_HOME=str(tmp_path), HEADRACE_TOKEN="", HEADRACE_URL="http://127.0.0.1:9")
    assert done.returncode == 5
    assert "headrace up" in done.stderr
    away = headrace("items", HEADRACE_HOME=str(tmp_path), HEADRACE_TOKEN="x", HEADRACE_URL="http://127.0.0.1:9")
    assert away.returncode == 1
    assert "headrace up" in away.stderr
