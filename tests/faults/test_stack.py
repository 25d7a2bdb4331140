"""The embedded stack as a whole, through its command line: starts, deaths, mistakes, and the end."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg2
import pytest

from headrace.stack import credentials, processes
from headrace.stack.layout import Ports
from tests.conftest import ROOT, Stack, removed_afterwards, running, stack_in

PARTS = ("postgres", "s3", "prefect", "gateway", "dashboard", "worker-io", "worker-cpu")
SECOND_START_SECONDS = 30.0
BACK_SECONDS = 40.0
LONG_NAME = "a home with spaces and a name that is much longer than any Unix socket's path may be " + "x" * 60

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Start a stack that tests may do harm to, in a home with an awkward path."""
    with running(stack_in(tmp_path_factory.mktemp("faults") / LONG_NAME)) as started:
        yield started


def parts_of(stack: Stack) -> dict[str, dict[str, object]]:
    """Return the parts in ``status --json``."""
    parts = stack.status()["parts"]
    assert isinstance(parts, dict)
    return parts


def supervisors_of(stack: Stack) -> list[int]:
    """Return the pids of the daemons of a home."""
    return [
        process.info["pid"]
        for process in psutil.process_iter(["pid", "cmdline"])
        if {"headrace.stack", str(stack.layout.home)} <= set(process.info["cmdline"] or ())
    ]


def wait_until_up(stack: Stack) -> None:
    """Wait until ``status`` says that all is up."""
    deadline = time.monotonic() + BACK_SECONDS
    while stack.cli("status").returncode:
        assert time.monotonic() < deadline, stack.cli("status").stdout
        time.sleep(0.1)


def connect(stack: Stack) -> psycopg2.extensions.connection:
    """Connect to Headrace's database."""
    connection = psycopg2.connect(stack.settings["HEADRACE_DATABASE_URL"].replace("+psycopg2", ""))
    connection.autocommit = True
    return connection


def assert_one_clear_line(ended: subprocess.CompletedProcess[str], *words: str) -> None:
    """Check that a failure is a line, a hint, and no traceback."""
    assert ended.returncode == 1, ended.stdout
    assert "Traceback" not in ended.stderr
    lines = ended.stderr.strip().splitlines()
    assert 1 <= len(lines) <= 2, ended.stderr
    assert all(word in ended.stderr for word in words), ended.stderr


def test_up_starts_every_part_and_down_leaves_no_process(tmp_path: Path) -> None:
    """The whole promise, on an empty home; nobody else may read it, and no secret is shown."""
    made = stack_in(tmp_path / "home")
    with removed_afterwards(made.home) as layout:
        started = made.up()
        assert started.returncode == 0, started.stderr
        assert started.stdout.splitlines()[-1] == "ready"
        assert all(part in started.stdout for part in PARTS[:5])
        assert made.home.stat().st_mode & 0o777 == 0o700
        shown = made.cli("status").stdout + made.cli("status", "--json").stdout + made.cli("logs").stdout
        found = processes.find(layout)
        shown += " ".join(word for process in found for word in process.cmdline())
        assert len(found) >= len(PARTS)
        secrets = credentials.complete(made.settings, cluster=None, settings=layout.settings)
        assert not [name for name in secrets.__slots__ if getattr(secrets, name) in shown]
        ended = made.cli("down")
        assert ended.returncode == 0, ended.stderr
        assert processes.find(layout) == []
        assert not [process for process in found if process.is_running() and process.status() != "zombie"]
        assert made.cli("status").returncode == 1
        assert made.cli("down").returncode == 0


@pytest.mark.long
def test_status_shows_every_part(own: Stack) -> None:
    """As a table for people, and one JSON object for programs."""
    assert own.cli("status").returncode == 0
    assert own.status()["up"] is True
    parts = parts_of(own)
    assert set(PARTS) <= set(parts)
    assert {parts[name]["state"] for name in PARTS} == {"up"}
    assert parts["gateway"]["url"] == own.url


@pytest.mark.long
def test_logs_show_each_line_after_its_part(own: Stack) -> None:
    """Of one part or of all; an unknown part is an error that names the others."""
    assert "postgres: " in own.cli("logs").stdout
    assert {line.partition(":")[0] for line in own.cli("logs", "s3").stdout.splitlines()} == {"s3"}
    assert_one_clear_line(own.cli("logs", "nothing"), "nothing", "postgres")


@pytest.mark.long
def test_up_on_a_running_stack_says_ready(own: Stack) -> None:
    """Scripts need not know whether it runs."""
    before = parts_of(own)["gateway"]["pid"]
    assert own.up().stdout.splitlines()[-1] == "ready"
    foreground = own.cli("up")
    assert (foreground.returncode, foreground.stdout.splitlines()[-1]) == (0, "ready")
    assert parts_of(own)["gateway"]["pid"] == before


@pytest.mark.long
def test_no_part_talks_to_anything_but_loopback(own: Stack) -> None:
    """Nothing calls home: all sockets of all processes, looked at for half a minute."""
    peers: set[str] = set()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for process in processes.find(own.layout):
            try:
                sockets = process.net_connections("inet")
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            peers |= {address.ip for one in sockets for address in (one.laddr, one.raddr) if address}
        time.sleep(0.05)
    assert peers == {"127.0.0.1"}


@pytest.mark.long
@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_killed_comes_back(own: Stack, part: str) -> None:
    """The others stay up meanwhile, and none of them is restarted for it."""
    before = parts_of(own)
    pid = before[part]["pid"]
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + BACK_SECONDS
    while parts_of(own)[part]["pid"] in {pid, None}:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    wait_until_up(own)
    after = parts_of(own)
    assert [name for name in PARTS if after[name]["pid"] != before[name]["pid"]] == [part]


@pytest.mark.long
def test_a_killed_supervisor_is_replaced_and_nothing_is_lost(own: Stack) -> None:
    """The next ``up`` ends what is left and starts within 30 s on the same data and secrets."""
    with connect(own) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS kept_over_kill (id int)")
        cursor.execute("INSERT INTO kept_over_kill VALUES (1)")
    token, supervisor = own.token, own.status()["supervisor_pid"]
    left = processes.find(own.layout)
    assert isinstance(supervisor, int)
    os.kill(supervisor, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while own.cli("status").returncode == 0:
        assert time.monotonic() < deadline
    assert "supervisor was killed" in own.cli("status").stdout
    begun = time.monotonic()
    assert own.up().stdout.splitlines()[-1] == "ready"
    assert time.monotonic() - begun < SECOND_START_SECONDS
    assert not [process for process in left if process.is_running() and process.status() != "zombie"]
    assert own.token == token
    with connect(own) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM kept_over_kill")
        assert cursor.fetchone() == (1,)
        cursor.execute("DROP TABLE kept_over_kill")


@pytest.mark.long
def test_down_after_a_killed_supervisor_ends_what_is_left_and_a_second_start_is_quick(own: Stack) -> None:
    """``down`` needs no supervisor, and two ``up`` at once make one stack."""
    supervisor = own.status()["supervisor_pid"]
    assert isinstance(supervisor, int)
    os.kill(supervisor, signal.SIGKILL)
    assert own.cli("down").returncode == 0
    assert processes.find(own.layout) == []
    begun = time.monotonic()
    command = [sys.executable, "-m", "headrace.cli", "up", "--detach"]
    two = [
        subprocess.Popen(command, env=own.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [child.communicate(timeout=120) for child in two]
    assert [child.returncode for child in two] == [0, 0], said
    assert time.monotonic() - begun < SECOND_START_SECONDS
    deadline = time.monotonic() + 5
    while len(supervisors_of(own)) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert supervisors_of(own) == [own.status()["supervisor_pid"]]


@pytest.mark.long
def test_ctrl_c_stops_everything(tmp_path: Path) -> None:
    """In the foreground ``up`` stays after "ready", and ends what it started."""
    made = stack_in(tmp_path / "home")
    with removed_afterwards(made.home) as layout:
        command = [sys.executable, "-m", "headrace.cli", "up", "--port-base", str(made.port_base)]
        with subprocess.Popen(command, env=made.environment, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert "ready\n" in iter(child.stdout.readline, "")
            child.send_signal(signal.SIGINT)
            assert child.wait(20) == 0
        assert processes.find(layout) == []


@pytest.mark.long
def test_flow_runs_and_what_they_started_end_with_the_stack(own: Stack) -> None:
    """Even processes that have left for a session of their own."""
    worker = parts_of(own)["worker-cpu"]["pid"]
    assert isinstance(worker, int)
    environment = psutil.Process(worker).environ()
    with subprocess.Popen(["sleep", "300"], env=environment, start_new_session=True) as encoder:
        assert own.cli("down").returncode == 0
        assert encoder.wait(5) is not None
    assert processes.find(own.layout) == []
    assert own.up().returncode == 0


@pytest.mark.long
def test_a_wrong_password_is_one_clear_line(own: Stack) -> None:
    """Somebody edited ``settings.env``; with the old line it runs again."""
    own.cli("down")
    right = own.layout.settings.read_text(encoding="utf-8")
    password = own.settings["HEADRACE_POSTGRES_PASSWORD"]
    own.layout.settings.write_text(right.replace(password, "wrong"), encoding="utf-8")
    assert_one_clear_line(own.up(), "HEADRACE_POSTGRES_PASSWORD", "settings.env")
    assert processes.find(own.layout) == []
    own.layout.settings.unlink()
    assert_one_clear_line(own.up(), "settings.env is missing", "backup")
    own.layout.settings.write_bytes(b"\xff\xfe")
    assert_one_clear_line(own.up(), "can't be read")
    own.layout.settings.write_text(right, encoding="utf-8")
    (own.home / "stack.json").write_bytes(b"\xff{")
    assert own.up().returncode == 0


@pytest.mark.parametrize("offset", [0, 4])
def test_a_busy_port_is_one_clear_line(tmp_path: Path, offset: int) -> None:
    """It names the part, the port, who has it, and what to do; nothing is left running."""
    made = stack_in(tmp_path / "home")
    port = made.port_base + offset
    with removed_afterwards(made.home) as layout, socket.create_server(("127.0.0.1", port)):
        part = {Ports(made.port_base).gateway: "gateway", Ports(made.port_base).postgres: "postgres"}[port]
        assert_one_clear_line(made.up(), part, str(port), "--port-base", str(os.getpid()))
        assert_one_clear_line(made.cli("up", "--port-base", str(made.port_base)), part, str(port))
        assert processes.find(layout) == []


def test_a_home_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    """A file in its place, a folder below a file, and one of another user."""
    (tmp_path / "file").touch()
    for home in (tmp_path / "file", tmp_path / "file" / "home"):
        assert_one_clear_line(stack_in(home).cli("up", "--detach"), str(home), "--home")
    if os.geteuid() == 0:
        (tmp_path / "theirs").mkdir()
        os.chown(tmp_path / "theirs", 65534, 65534)
        assert_one_clear_line(stack_in(tmp_path / "theirs").cli("up", "--detach"), "belongs to")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs root, to mount a small disk")
def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    """Before anything is started."""
    (tmp_path / "small").mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", tmp_path / "small"], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        made = stack_in(tmp_path / "small" / "home")
        with removed_afterwards(made.home):
            assert_one_clear_line(made.up(), "MiB left")
            subprocess.run(["dd", "if=/dev/zero", f"of={tmp_path}/small/filler"], capture_output=True, check=False)
            assert_one_clear_line(made.up(), "full")
    finally:
        subprocess.run(["umount", tmp_path / "small"], check=True)


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="it runs as an ordinary user already")
def test_an_ordinary_user_needs_no_root() -> None:
    """All is below the home then, the database too."""
    nobody, python = pwd.getpwnam("nobody"), _python_for_others()
    home = Path("/tmp") / f"headrace-nobody-{os.getpid()}"  # noqa: S108 - pytest's folders are closed to others
    home.mkdir()
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    made = replace(stack_in(home, HOME=str(home), **_packages()), python=python)
    identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    try:
        started = made.cli("up", "--detach", "--port-base", str(made.port_base), **identity)
        assert started.returncode == 0, started.stderr
        assert (home / "postgres/cluster/PG_VERSION").exists()
        assert json.loads(made.cli("status", "--json", **identity).stdout)["up"] is True
        assert {process.uids().real for process in psutil.process_iter() if _cwd(process, home)} == {nobody.pw_uid}
        assert made.cli("down", **identity).returncode == 0
        assert not [process for process in psutil.process_iter() if _cwd(process, home)]
    finally:
        made.cli("down", **identity)
        shutil.rmtree(home)


def _python_for_others() -> str:
    """Return an interpreter of our version that other users may run (pyenv's, in root's home, is not)."""
    if not all(folder.stat().st_mode & 0o001 for folder in (ROOT, *ROOT.parents)):
        pytest.skip(f"others can't read {ROOT}")
    ours = Path(sys.executable).resolve()
    if all(folder.stat().st_mode & 0o001 for folder in ours.parents):
        return sys.executable
    other = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
    imports = [str(other), "-c", "import redis.asyncio, asyncpg"]  # what depends on Python's last digit
    if not other.exists() or subprocess.run(imports, env=_packages(), capture_output=True, check=False).returncode:
        pytest.skip(f"others can't run {ours}, and {other} lacks something")
    return str(other)


def _packages() -> dict[str, str]:
    """Return where that interpreter finds our packages."""
    place = sysconfig.get_paths()["purelib"]
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"), place)))}


def _cwd(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(folder)
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess, OSError):
        return False
