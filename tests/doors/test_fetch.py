"""``headrace fetch``: getting in, lists, objects, events, and what a terminal shows."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import boto3
import pytest
from moto.server import ThreadedMotoServer

from headrace.cli.board import Board, Row, amount, line
from headrace.download import proof
from headrace.download.batch import Job, Outcome
from headrace.errors import SourceUnavailable
from headrace.model import Downloaded, Progress
from tests.authority import Authority
from tests.conftest import ROOT
from tests.doors.test_cli import SHA256, headrace
from tests.forward_proxy import proxying
from tests.servers import BODY, LARGE, serving

CANARY = "c4nary-in-the-mine"
BASIC = "Basic YWRhOmxvdmU="  # ada:love


@pytest.fixture
def server():
    with serving() as running:
        yield running


def file(folder, name, text, mode=0o600):
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return path


def rows(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def ended(done):
    """Return the rows of files that have ended; on a busy machine there is progress before."""
    return [row for row in rows(done) if row["event"] in {"finished", "failed"}]


# Getting in


def test_a_login_comes_from_a_file_the_environment_or_the_url(server, tmp_path):
    """Never from an argument of its own."""
    url, out = server.url + "/for-ada", tmp_path / "film"
    password = file(tmp_path, "password", "love\n")
    netrc = file(tmp_path, ".netrc", "machine 127.0.0.1 login ada password love\n")
    for words, more in (
        (("--user", "ada", "--password-file", password), {}),
        (("--user", "ada"), {"HEADRACE_PASSWORD": "love"}),
        (("--netrc-file", netrc), {}),
        (("--netrc",), {"HOME": str(tmp_path)}),
        (("--header", f"authorization: {BASIC}"), {}),
    ):
        done = headrace("fetch", url, "-o", out, "--sha256", SHA256, *words, **more)
        assert done.returncode == 0, (words, done.stderr)
        out.unlink()
    done = headrace("fetch", url.replace("//", "//ada:love@"), "-o", out, "--json")
    (row,) = ended(done)
    assert (row["event"], row["url"]) == ("finished", url)
    assert headrace("fetch", url, "-o", tmp_path / "other").returncode == 1


def test_the_closest_login_wins(server, tmp_path):
    """The URL's own over the option's, that over netrc's."""
    netrc = file(tmp_path, "netrc", "machine 127.0.0.1 login eve password no\n")
    given = ("fetch", "-o", tmp_path / "film", "--netrc-file", netrc)
    headrace(*given, server.url + "/good", "--user", "bob", HEADRACE_PASSWORD="x")
    headrace(*given, server.url.replace("//", "//ada:love@") + "/good", "--user", "bob", HEADRACE_PASSWORD="x")
    (option, url) = (seen["authorization"] for seen in server.seen["/good"])
    assert (option, url) == ("Basic Ym9iOng=", BASIC)


def test_tokens_headers_and_cookies(server, tmp_path):
    """From files, or stdin."""
    token = file(tmp_path, "token", "abc\n")
    cookies = file(tmp_path, "cookies", "127.0.0.1\tFALSE\t/\tFALSE\t0\ta\t1\n")
    done = headrace(
        *("fetch", server.url + "/good", "-o", tmp_path / "film", "--bearer-file", token, "--cookies", cookies),
        *("--header", "X-One: 1", "--header", "x-two: 2"),
    )
    assert done.returncode == 0, done.stderr
    (seen,) = server.seen["/good"]
    assert [seen[name] for name in ("authorization", "cookie", "x-one", "x-two")] == ["Bearer abc", "a=1", "1", "2"]


def test_a_checksum_file_gets_the_login_of_its_own_origin(server, tmp_path):
    """Beside the file that of the file, also the one in its URL; elsewhere none."""
    words = ("-d", tmp_path, "--json", "--sums")
    headrace("fetch", server.url.replace("//", "//ada:love@") + "/good", *words, "auto")
    assert server.seen["/good.sha256"][0]["authorization"] == BASIC
    with serving() as other:
        sums = other.url + "/SHA256SUMS"
        other.feeds["/SHA256SUMS"] = ("text/plain", f"{SHA256}  for-ada\n".encode(), '"s"')
        words = (server.url + "/for-ada", *words, sums, "--user", "ada", "--header", "X-Key: 1")
        (row,) = ended(headrace("fetch", *words, HEADRACE_PASSWORD="love"))
        assert "sha256:sidecar" in row["proofs"]
        (seen,) = other.seen["/SHA256SUMS"]
        assert not {"authorization", "x-key"} & set(seen)


def test_a_password_is_asked_for_on_a_terminal(server, tmp_path):
    """And not shown there."""
    words = ["fetch", server.url + "/for-ada", "-o", str(tmp_path / "film"), "--user", "ada"]
    shown, status = on_terminal(words, answers={b"Password of ada": b"love\n"})
    assert status == 0
    assert b"love" not in shown
    assert (tmp_path / "film").read_bytes() == BODY


@pytest.mark.parametrize(
    "words",
    [
        ("--user", "ada"),
        ("--user", "a:b", "--password-file", "FILE"),
        ("--user", "ada", "--password-file", "FILE", "--bearer-file", "FILE"),
        ("--header", f"Authorization: {CANARY}", "--bearer-file", "FILE"),
        ("--header", f"X: {CANARY}\r\nY: {CANARY}"),
        ("--header", f"Range: {CANARY}"),
        ("--header", CANARY),
        ("--key", "FILE"),
        ("--certificate", "FILE"),
        ("--ca", "FILE"),
        ("--cookies", "FILE"),
        ("--netrc-file", "FILE"),
        ("--proxy", f"socks5://u:{CANARY}@p"),
        ("--credential", "nobody"),
        ("--credential", "a", "--bearer-file", "FILE"),
        ("--bearer-file", "/nowhere"),
        ("--mirror", f"ftp://u:{CANARY}@h/x", "http://127.0.0.1:9/y"),
    ],
)
def test_wrong_options_are_told_before_anything_starts(server, tmp_path, words):
    """Exit status 2, one clear line, no secret."""
    wrong = str(file(tmp_path, "wrong", f"{CANARY}\n"))
    words = [wrong if word == "FILE" else word for word in words]
    done = headrace("fetch", server.url + "/good", "-d", tmp_path / "out", *words, HEADRACE_HOME=str(tmp_path))
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert server.seen == {}


def test_a_named_credential_is_for_its_hosts(server, tmp_path):
    """From the home, or where the setting says; a URL of another host fails and is not asked."""
    file(tmp_path, "credentials.toml", '[films]\nhosts = ["127.0.0.1"]\nuser = "ada"\npassword = "love"\n')
    words = ("fetch", "--credential", "films", "-d", tmp_path / "out", "--json")
    home = {"HEADRACE_HOME": str(tmp_path)}
    done = headrace(*words, server.url + "/for-ada", server.url.replace("127.0.0.1", "localhost") + "/good", **home)
    found = {row["event"]: row for row in ended(done)}
    assert found["finished"]["url"] == server.url + "/for-ada"
    assert "is not for localhost" in found["failed"]["error"]["message"]
    assert "/good" not in server.seen
    moved = (tmp_path / "credentials.toml").rename(tmp_path / "moved.toml")
    done = headrace(*words, server.url + "/for-ada", HEADRACE_CREDENTIALS=str(moved), **home)
    assert done.returncode == 0, done.stderr
    moved.chmod(0o644)
    done = headrace(*words, server.url + "/for-ada", HEADRACE_CREDENTIALS=str(moved), **home)
    assert done.returncode == 2
    assert "chmod 600" in done.stderr


def test_proxies_of_the_environment_and_of_the_option(server, tmp_path):
    """As with curl: lower case for http, ``no_proxy``, and the option wins, also with none at all."""
    url, out = server.url + "/good", tmp_path / "film"
    with proxying("ada:love") as proxy:
        given = proxy.url.replace("//", "//ada:love@")
        for words, environment, asked in (
            ((), {"http_proxy": given}, 1),
            ((), {"HTTP_PROXY": given}, 0),
            ((), {"ALL_PROXY": given}, 1),
            ((), {"all_proxy": given, "no_proxy": "127.0.0.0/8"}, 0),
            (("--proxy", given), {"no_proxy": "*"}, 1),
            (("--proxy", ""), {"http_proxy": given}, 0),
        ):
            proxy.asked.clear()
            assert headrace("fetch", url, "-o", out, *words, **environment).returncode == 0
            assert len(proxy.asked) == asked, (words, environment)


def test_a_client_certificate(tmp_path):
    """With its key and the authority."""
    authority = Authority(tmp_path)
    certificate, key = authority.certificate("me")
    with serving(tls=authority.server(wants_client=True)) as server:
        url = server.url.replace("http:", "https:") + "/good"
        words = ("fetch", url, "-o", tmp_path / "film", "--certificate", certificate, "--key", key)
        assert headrace(*words, "--ca", authority.path).returncode == 0
        assert headrace(*words).returncode == 1


@pytest.mark.long
def test_no_secret_is_told_or_kept(server, tmp_path):
    """Not in JSON, errors, logs or journals, whatever goes wrong."""
    password = file(tmp_path, "password", CANARY)
    cookies = file(tmp_path, "cookies", f"127.0.0.1\tFALSE\t/\tFALSE\t0\ta\t{CANARY}\n")
    out = tmp_path / "out"
    login = server.url.replace("//", f"//ada:{CANARY}@")
    given = ("--cookies", cookies, "--header", f"X-Key: {CANARY}", "--proxy", "")
    urls = [
        f"{login}{path}?key={CANARY}" for path in ("/large/expiring", "/large/good", "/missing", "/loop", "/to-file")
    ]
    urls += [f"http://u:{CANARY}@nowhere.invalid/x", f"ftp://u:{CANARY}@h/x"]
    urls += [f"http://u:{CANARY}@[::1/x", f"https://u:{CANARY}@127.0.0.1:{server.server_port}/x"]
    told = ""
    for words in ((), ("--json",), ("--user", "ada", "--password-file", password)):
        done = headrace("fetch", *urls, "-d", out, *given, *words, HEADRACE_LOG="DEBUG", timeout=300)
        assert done.returncode == 3
        told += done.stdout + done.stderr
    assert "/large/expiring" in told
    assert CANARY not in told
    assert list(out.glob("*.journal"))
    for path in out.glob("*.journal"):
        assert CANARY not in path.read_text()
    assert CANARY in str(server.seen["/large/good"])


# Lists


def test_a_list_gives_each_file_its_options(server, tmp_path):
    """Names, folders below, checksums, headers, logins."""
    file(tmp_path, "credentials.toml", '[films]\nhosts = ["127.0.0.1"]\nuser = "ada"\npassword = "love"\n')
    listed = file(
        tmp_path,
        "list",
        f"# films\n{server.url}/good\n out=one.bin\n dir=a/b\n checksum=sha-256={SHA256}\n header=X-One: 1\n"
        f"{server.url}/for-ada\n\tcredential=films\n\tout=one.bin\n\n{server.url}/good?2\n sha256={'0' * 64}\n"
        f"ftp://h/x\n",
    )
    words = ("fetch", "--from-file", listed, "-d", tmp_path / "out", "--json")
    done = headrace(*words, "--header", "X-Two: 2", HEADRACE_HOME=str(tmp_path))
    assert done.returncode == 3
    found = {row["url"]: row for row in ended(done)}
    assert found[server.url + "/good"]["path"] == str(tmp_path / "out/a/b/one.bin")
    assert "sha256:order" in found[server.url + "/good"]["proofs"]
    assert found[server.url + "/for-ada"]["path"] == str(tmp_path / "out/one.bin")
    assert found[server.url + "/good?2"]["error"]["code"] == "checksum_mismatch"
    assert found["ftp://h/x"]["error"]["code"] == "invalid_source"
    seen = next(seen for seen in server.seen["/good"] if "x-one" in seen)
    assert (seen["x-one"], seen["x-two"]) == ("1", "2")


def test_a_wrong_list_is_refused_as_a_whole(server, tmp_path):
    """Exit status 2; nothing was asked for."""
    listed = file(tmp_path, "list", f"{server.url}/good\n out=../x\n nonsense={CANARY}\n")
    done = headrace("fetch", "--from-file", listed, "-d", tmp_path / "out")
    assert done.returncode == 2
    assert "line 2" in done.stderr
    assert "line 3" in done.stderr
    assert CANARY not in done.stderr
    assert server.seen == {}


def test_a_list_from_stdin(server, tmp_path):
    """As other tools write it."""
    argv = [sys.executable, "-m", "headrace.cli", "fetch", "--from-file", "-", "-d", str(tmp_path)]
    done = subprocess.run(argv, input=f"{server.url}/good\n", text=True, cwd=ROOT, check=False, capture_output=True)
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "good"))


# Objects


@pytest.fixture(scope="module")
def bucket(s3_server):
    keys = {"aws_access_key_id": s3_server.access_key_id, "aws_secret_access_key": s3_server.secret_access_key}
    client = boto3.client("s3", endpoint_url=s3_server.endpoint_url, region_name="us-east-1", **keys)
    client.put_object(Bucket="headrace-incoming", Key="films/large one.bin", Body=LARGE)
    client.put_object(Bucket="headrace-incoming", Key="films/body", Body=BODY)
    client.put_object(Bucket="headrace-incoming", Key="films/SHA256SUMS", Body=f"{SHA256}  body\n".encode())
    return {
        "AWS_ENDPOINT_URL": s3_server.endpoint_url,
        "AWS_ACCESS_KEY_ID": s3_server.access_key_id,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_access_key,
    }


def test_objects_are_fetched_by_signed_addresses(bucket, tmp_path):
    """The address is nobody's business; a publisher's list beside the object is read in the same way."""
    done = headrace("fetch", "s3://headrace-incoming/films/large one.bin", "-d", tmp_path, "--json", **bucket)
    (row,) = ended(done)
    assert (row["event"], row["url"]) == ("finished", "s3://headrace-incoming/films/large one.bin")
    assert (tmp_path / "large one.bin").read_bytes() == LARGE
    assert "X-Amz" not in done.stdout + done.stderr
    done = headrace("fetch", "s3://headrace-incoming/films/body", "-d", tmp_path, "--sums", "auto", "--json", **bucket)
    assert "sha256:sidecar" in ended(done)[0]["proofs"]


def test_an_object_is_resumed_with_another_signature(tmp_path):
    """Segments, and what an interruption left, as with any URL; here from an S3 whose ranges are right."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    endpoint = "http://{}:{}".format(*moto.get_host_and_port())
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": CANARY, "AWS_ENDPOINT_URL": endpoint}
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret"
    )
    client.create_bucket(Bucket="films")
    client.put_object(Bucket="films", Key="large", Body=LARGE)
    with proxying() as proxy:
        proxy.pause = 0.05  # 2.5 MB/s at most, so that it is far from its end when it is interrupted
        argv = [sys.executable, "-m", "headrace.cli", "fetch", "s3://films/large", "-d", str(tmp_path), "--json"]
        argv += ["--connections", "2"]
        environment = {**os.environ, **keys, "PYTHONPATH": str(ROOT), "http_proxy": proxy.url}
        child = subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        journal = tmp_path / "large.part.journal"
        until = time.monotonic() + 60
        while time.monotonic() < until and not (journal.exists() and len(journal.read_text().splitlines()) > 4):
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=30)
        signature = re.search(r"X-Amz-Signature=(\w+)", proxy.asked[0])[1]
        assert signature not in journal.read_text()
        first = len(proxy.asked)
        proxy.pause = 0.0
        done = headrace(*argv[3:], http_proxy=proxy.url, **keys)
        (row,) = ended(done)
    moto.stop()
    assert row["resumed_bytes"] > 2**21
    assert (tmp_path / "large").read_bytes() == LARGE
    assert first > 1
    assert all("X-Amz-Signature=" in asked for asked in proxy.asked)
    assert "Signature" not in done.stdout + done.stderr


def test_an_objects_checksum_is_held_to(tmp_path):
    """What S3 was told when it was put there; the body comes in ranges, which it promises nothing of."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    endpoint = "http://{}:{}".format(*moto.get_host_and_port())
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_ENDPOINT_URL": endpoint}
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret"
    )
    client.create_bucket(Bucket="films")
    client.put_object(Bucket="films", Key="large", Body=LARGE, ChecksumAlgorithm="SHA256")
    done = headrace("fetch", "s3://films/large", "-d", tmp_path, "--json", **keys)
    moto.stop()
    assert "sha256:x-amz-checksum-sha256" in ended(done)[0]["proofs"]
    assert (tmp_path / "large").read_bytes() == LARGE


@pytest.mark.parametrize("algorithm", ["blake3", "sha256", "md5"])
def test_a_digest_is_held_to(server, tmp_path, algorithm):
    """Right ones are proofs, wrong ones are errors that keep nothing."""
    digest = proof.new(algorithm)
    digest.update(BODY)
    given = ("fetch", server.url + "/good", "-o", tmp_path / "film", "--json", f"--{algorithm}")
    (row,) = ended(headrace(*given, digest.hexdigest()))
    assert f"{algorithm}:order" in row["proofs"]
    (tmp_path / "film").unlink()
    (row,) = ended(headrace(*given, "0" * len(digest.hexdigest())))
    assert row["error"]["code"] == "checksum_mismatch"
    assert list(tmp_path.iterdir()) == []


def test_objects_that_can_not_be_had(bucket, tmp_path):
    """Missing, no such bucket, wrong keys, no keys: our errors."""
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}
    nobody["AWS_SHARED_CREDENTIALS_FILE"] = nobody["AWS_CONFIG_FILE"] = str(tmp_path / "none")
    for address, more, code in (
        ("s3://headrace-incoming/nothing", {}, "source_not_found"),
        ("s3://no-such-bucket/nothing", {}, "source_not_found"),
        ("s3://headrace-incoming/films/body", {"AWS_SECRET_ACCESS_KEY": CANARY}, "source_forbidden"),
        ("s3://headrace-incoming/films/body", nobody, "store_refused"),
        ("s3://headrace-incoming", {}, "invalid_source"),
    ):
        done = headrace("fetch", address, "-d", tmp_path, "--json", **{**bucket, **more})
        (row,) = ended(done)
        assert row["error"]["code"] == code, (address, row)
        assert CANARY not in done.stdout + done.stderr


# Events


def test_events_tell_how_a_file_gets_on(server, tmp_path):
    """Progress once a second and not at once, a retry with its reason, a summary for several files."""
    done = headrace(
        *("fetch", server.url + "/large/bare-and-slow", server.url + "/busy-once", server.url + "/missing"),
        *("-d", tmp_path, "--json"),
    )
    found = rows(done)
    slow = server.url + "/large/bare-and-slow"
    progress = [row for row in found if row["event"] == "progress" and row["url"] == slow]
    assert progress
    for row in progress:
        assert set(row) == {
            *("event", "url", "path", "done_bytes", "size_bytes", "fraction", "speed_bytes_per_second"),
            *("eta_seconds", "connections"),
        }
        assert row["size_bytes"] == len(LARGE)
        assert 0 < row["done_bytes"] <= len(LARGE)
        assert row["fraction"] == pytest.approx(row["done_bytes"] / len(LARGE), abs=1e-3)
    assert len(progress) < 8
    retry = next(row for row in found if row["event"] == "retry")
    assert retry["url"] == server.url + "/busy-once"
    assert retry["error"]["code"] == "source_unavailable"
    assert retry["wait_seconds"] >= 1
    assert found[-1] == {
        "event": "summary",
        "files": 3,
        "failed": 1,
        "bytes": len(LARGE) + len(BODY),
        "seconds": found[-1]["seconds"],
    }


def test_a_finished_row_has_the_keys_of_old(server, tmp_path):
    """Scripts rely on them; one file has no summary."""
    (row,) = ended(headrace("fetch", server.url + "/good", "-d", tmp_path, "--json"))
    assert set(row) == {
        *("event", "url", "path", "error", "resumed_bytes", "size_bytes", "blake3", "proofs", "restarts"),
    }


# On a terminal

BY_TERMINAL = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that there is a /dev/tty to ask for a password on
from headrace.cli import main
main()
"""


def on_terminal(words, *, columns=80, answers=None, stdout=None):
    """Run ``headrace WORDS`` on a pseudo-terminal; return what it showed, and its exit status."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    child = subprocess.Popen(
        [sys.executable, "-c", BY_TERMINAL, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"},
        stdin=theirs,
        stdout=stdout or theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown, waiting = b"", dict(answers or {})
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:
                break
            shown += piece
            for question in [one for one in waiting if one in shown]:
                os.write(ours, waiting.pop(question))
    os.close(ours)
    return shown, child.wait(10)


def plain(shown):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


def test_a_terminal_shows_each_file_and_all(server, tmp_path):
    """Percent, size, speed, time left, connections; then one line about all, and paths that can be copied."""
    words = ["fetch", server.url + "/large/bare-and-slow", server.url + "/good", server.url + "/busy-once"]
    shown, status = on_terminal([*words, "-d", str(tmp_path)])
    text = plain(shown)
    assert status == 0
    assert re.search(r"bare-and-slow +[━─]+ +\d+ % +\d+\.\d/24\.0 MiB +[\d.]+ MiB/s +0:0\d +1×", text)
    assert re.search(r"busy-once +again in \d s: the server answers 503", text)
    assert re.search(r"1/3 files +[━─]+ +\d+ %", text)
    assert "3 of 3 files: " in text
    assert f"{tmp_path}/bare-and-slow\r\n" in text
    assert all(len(one.split("\r")[-1]) <= 80 for one in text.replace("\r\n", "\n").split("\n") if "MiB" in one)


def test_stdout_in_a_file_gets_the_paths(server, tmp_path):
    """And nothing else; the terminal has the rest."""
    with (tmp_path / "paths").open("wb") as file:
        shown, status = on_terminal(["fetch", server.url + "/large/steady", "-d", str(tmp_path)], stdout=file)
    assert status == 0
    assert (tmp_path / "paths").read_text() == f"{tmp_path}/steady\n"
    assert f"{tmp_path}/steady" not in plain(shown)


def job(name="film", **_):
    return Job(f"http://h/{name}", ROOT / name, lambda: None)


def fit(text, width):
    return text[:width].ljust(width)


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
@pytest.mark.parametrize(
    "row",
    [
        Row("x" * 300, 0.5, "1023/1023 MiB", 1023 * 2**20, 35999.0, 64),
        Row("x", 1.0, "999 TiB", 1023 * 2**30, 10.0**9, 1),
        Row("x", None, "1.0 GiB", None, None, None),
        Row("x", note="y" * 300),
    ],
)
def test_a_line_fits_its_terminal(row, width):
    """Whatever it has to say."""
    assert len("".join(text for text, _ in line(row, width, fit))) <= width


def test_the_board_counts(monkeypatch):
    """What has ended, what goes on, and what will be tried again."""
    now = [0.0]
    board = Board(4, lambda: now[0])
    done, going, again, young = (job(name) for name in ("done", "going", "again", "young"))
    for one in (done, going, again):
        board.started(one)
    board.progress(going, Progress(0.5, 100.0, 5.0, 2, 500, 1000))
    board.retrying(again, SourceUnavailable("it is busy"), 9.0)
    board.ended(Outcome(done, Downloaded(done.path, 1000, {}, None, None)))
    now[0] = 4.0
    board.started(young)
    shown = board.rows()
    assert [row.name for row in shown] == ["going", "again", "1/4 files"]
    assert shown[0].amount == "0.5/1.0 KiB"
    assert shown[1].note == "again in 5 s: it is busy"
    assert shown[2].fraction == 1.5 / 4
    assert shown[2].eta_seconds > 5
    board.ended(Outcome(again, error=SourceUnavailable("it is busy")))
    assert board.rows()[-1].name == "2/4 files, 1 failed"
    board.progress(going, Progress(1.0, None, None, 0, 1000, 1000, 250))
    assert board.rows()[0] == Row("going", 0.25, "checking what is there")


@pytest.mark.parametrize(
    ("done", "whole", "text"),
    [
        (0, None, "0 B"),
        (999, None, "999 B"),
        (1000, None, "1.0 KiB"),
        (1023 * 1024, None, "1.0 MiB"),
        (3 << 19, 5 << 20, "1.5/5.0 MiB"),
        (0, 999 << 20, "0/999 MiB"),
        (5 << 50, None, "5120 TiB"),
    ],
)
def test_amounts_are_short(done, whole, text):
    """At most nine characters, twice that less the unit for two."""
    assert amount(done, whole) == text


# Metalinks, and files that are there already

METALINK = """<metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="film.bin"><size>{size}</size>
<hash type="sha-256">{sha256}</hash><url>{url}/good</url><url>{url}/file</url></file></metalink>"""


def metalink(server, folder):
    return file(folder, "film.meta4", METALINK.format(size=len(BODY), sha256=SHA256, url=server.url))


def test_a_metalink_is_fetched_where_its_network_is_allowed(server, tmp_path):
    """A publisher's addresses are not the user's: a private one must have been allowed."""
    words = ("fetch", "--metalink", metalink(server, tmp_path), "-d", tmp_path / "out", "--json")
    refused = headrace(*words)
    assert refused.returncode == 1
    assert ended(refused)[0]["error"]["code"] == "address_forbidden"
    assert not server.seen
    done = headrace(*words, HEADRACE_ALLOWED_NETWORKS="127.0.0.0/8")
    assert done.returncode == 0, done.stderr
    (row,) = ended(done)
    assert (row["path"], row["sha256"]) == (str(tmp_path / "out" / "film.bin"), SHA256)
    assert "sha256:metalink" in row["proofs"]


def test_a_list_that_is_run_again_fetches_what_is_missing(server, tmp_path):
    """With ``--keep-existing``; what isn't what it must be comes again."""
    listed = file(tmp_path, "list", f"{server.url}/good\n  out=one\n  sha256={SHA256}\n{server.url}/good\n  out=two\n")
    words = ("fetch", "--from-file", listed, "-d", tmp_path / "out", "--json")
    assert headrace(*words).returncode == 0
    asked = len(server.seen["/good"])
    again = ended(headrace(*words, "--keep-existing"))
    assert [row.get("kept") for row in again] == [True, True]
    assert len(server.seen["/good"]) == asked
    (tmp_path / "out" / "one").write_bytes(b"damaged")
    again = ended(headrace(*words, "--keep-existing"))
    assert sorted(row.get("kept", False) for row in again) == [False, True]
    assert (tmp_path / "out" / "one").read_bytes() == BODY
    assert not any(row.get("kept") for row in ended(headrace(*words))), "without the option everything comes anew"


def test_a_list_of_checksums_that_is_too_long_is_refused(server, tmp_path):
    """Half of it would promise half; the last line could end in half a name."""
    line = f"{SHA256}  good\n"
    long = file(tmp_path, "SHA256SUMS", line * (2**20 // len(line) + 1))
    done = headrace("fetch", server.url + "/good", "-d", tmp_path, "--sums", long)
    assert done.returncode == 1
    assert "no checksum file" in done.stderr
    assert not (tmp_path / "good").exists()
