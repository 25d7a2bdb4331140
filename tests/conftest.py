"""Servers for tests, each real, on free ports, in temporary homes, and ended with the session.

``postgres``   a throw-away cluster (no fsync); ``postgres.database()`` makes an empty database
``s3_server``  rclone with the three buckets, and its keys
``stack``      the whole embedded stack, through its own command line
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from headrace.stack import credentials, folders, health, objects, processes
from headrace.stack import postgres as engine
from headrace.stack.layout import MARKER, PORTS_NEEDED, Layout
from tests.engine import films
from tests.orders import ingest
from tests.servers import Server, serving

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job ignores it, and so would every program that a test starts and interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
NO_SKIPS = "HEADRACE_NO_SKIPS"
"""Set where everything that tests need is there (the gate): a test that needs a server or the
browser and is skipped is a failed one then."""
SERVERS = frozenset({"postgres", "s3_server", "stack"})
SOURCE_BUCKET = "headrace-test-drop"
"""A bucket that the tests' stacks may read sources from; a test makes it."""
START_SECONDS = 30.0
UP_SECONDS = 180.0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Turn the skips of tests that need a server or the browser into failures, where nothing may be missing."""
    report = yield
    needs = SERVERS & set(getattr(item, "fixturenames", ())) or item.get_closest_marker("browser")
    if report.skipped and needs and os.environ.get(NO_SKIPS):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and {NO_SKIPS} is set: {report.longrepr}"
    return report


def free_ports(count: int = PORTS_NEEDED) -> int:
    """Return the first of so many free ports in a row, below those that clients get."""
    for _ in range(200):
        base = random.randrange(12000, 30000)
        if all(health.is_free(port) for port in range(base, base + count)):
            return base
    raise RuntimeError("no free ports")


def wait_for(check: health.Check, child: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + START_SECONDS
    while not check.answers(0):
        assert child.poll() is None, f"{child.args} ended with {child.returncode}"
        assert time.monotonic() < deadline, f"{child.args} does not answer"
        time.sleep(0.02)


@contextlib.contextmanager
def removed_afterwards(home: Path) -> Iterator[Layout]:
    """Give the layout of a temporary home; remove what root keeps of it elsewhere."""
    layout = Layout(home.resolve(), as_root=os.geteuid() == 0)
    try:
        yield layout
    finally:
        processes.end_all(layout)
        if layout.as_root:
            shutil.rmtree(layout.postgres, ignore_errors=True)


@dataclass(frozen=True)
class PostgresServer:
    """A running cluster; the superuser is ``headrace_admin``."""

    port: int
    password: str

    def database(self) -> str:
        """Make an empty database, and return its SQLAlchemy URL."""
        name = f"test_{uuid.uuid4().hex}"
        with engine.admin(self.port, self.password) as connection:
            engine.create_database(connection, name, engine.ADMIN)
        return f"postgresql+psycopg2://{engine.ADMIN}:{self.password}@127.0.0.1:{self.port}/{name}"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """Start PostgreSQL alone, in about a second."""
    with removed_afterwards(tmp_path_factory.mktemp("postgres")) as layout:
        server = PostgresServer(free_ports(1), credentials.new().postgres_password)
        cluster = engine.prepare(layout, server.password, durable=False)
        account = cluster.account
        with (layout.home / "postgres.log").open("wb") as log:
            child = subprocess.Popen(
                engine.argv(cluster, server.port, durable=False),
                env={MARKER: layout.id, "PATH": os.defpath},
                cwd="/",
                stdout=log,
                stderr=log,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
        wait_for(engine.PostgresCheck(server.port, server.password, layout.settings), child)
        yield server


@pytest.fixture
def database_url(postgres: PostgresServer) -> str:
    """Make an empty database for one test."""
    return postgres.database()


@dataclass(frozen=True)
class S3Server:
    """A running ``rclone serve s3``; ``folder`` holds one folder per bucket."""

    endpoint_url: str
    access_key_id: str
    secret_access_key: str
    folder: Path


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Start rclone alone."""
    with removed_afterwards(tmp_path_factory.mktemp("s3")) as layout:
        secrets, port = credentials.new(), free_ports(1)
        objects.prepare(layout.objects)
        environment = {MARKER: layout.id, "PATH": os.defpath, **objects.environment(secrets)}
        with (layout.home / "s3.log").open("wb") as log:
            child = subprocess.Popen(objects.argv(layout.objects, port), env=environment, stdout=log, stderr=log)
        wait_for(health.S3Check(port), child)
        yield S3Server(
            f"http://127.0.0.1:{port}", secrets.s3_access_key_id, secrets.s3_secret_access_key, layout.objects
        )


@dataclass(frozen=True)
class Stack:
    """A running embedded stack, or the home of one."""

    home: Path
    port_base: int
    environment: dict[str, str]
    python: str = sys.executable

    def cli(
        self, *words: str | Path, timeout: float = UP_SECONDS, **options: object
    ) -> subprocess.CompletedProcess[str]:
        """Run ``headrace WORDS`` on this home to its end."""
        command = [self.python, "-m", "headrace.cli", *map(str, words)]
        return subprocess.run(
            command,
            env=self.environment,
            cwd="/",
            text=True,
            capture_output=True,
            timeout=timeout,
            check=False,
            **options,  # type: ignore[call-overload]
        )

    def up(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run ``headrace up --detach``."""
        return self.cli("up", "--detach", "--port-base", str(self.port_base), *words)

    def status(self) -> dict[str, object]:
        """Return ``headrace status --json``."""
        loaded: dict[str, object] = json.loads(self.cli("status", "--json").stdout)
        return loaded

    @property
    def layout(self) -> Layout:
        """Where everything is."""
        return Layout(self.home.resolve(), as_root=os.geteuid() == 0)

    @property
    def settings(self) -> dict[str, str]:
        """The lines of ``settings.env``."""
        return credentials.read(self.layout)

    @property
    def url(self) -> str:
        """The gateway."""
        return self.settings["HEADRACE_URL"]

    @property
    def token(self) -> str:
        """The gateway's bearer token."""
        return self.settings["HEADRACE_TOKEN"]

    def api(self) -> httpx.Client:
        """Return a client of the gateway that is logged in."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=30)


def source_folder(home: Path) -> Path:
    """Return the local folder that a stack's orders may read from."""
    return home.parent / "open-to-orders"


def stack_in(home: Path, **environment: str) -> Stack:
    """Return a stack that isn't started yet; orders may read from loopback."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("HEADRACE_", "PREFECT_"))}
    ours = {"HEADRACE_HOME": str(home), "HEADRACE_ALLOWED_NETWORKS": "127.0.0.0/8"}
    ours["HEADRACE_SOURCE_BUCKETS"] = SOURCE_BUCKET
    ours["HEADRACE_SOURCE_FOLDERS"] = str(source_folder(home))
    path = os.pathsep.join(filter(None, (str(ROOT), inherited.get("PYTHONPATH"))))
    return Stack(home, free_ports(), {**inherited, **ours, "PYTHONPATH": path, **environment})


@contextlib.contextmanager
def running(made: Stack) -> Iterator[Stack]:
    """Start a stack, and stop it at the end."""
    with removed_afterwards(made.home):
        started = made.up()
        assert started.returncode == 0, started.stdout + started.stderr
        try:
            yield made
        finally:
            made.cli("down")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Start the whole embedded stack, once for all tests that only use it."""
    with running(stack_in(folders.private_folder(tmp_path_factory.mktemp("stack") / "home"))) as started:
        yield started


@pytest.fixture(scope="session")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve a film of our own, besides all bad manners."""
    folder = tmp_path_factory.mktemp("web")
    films.film(folder / "own.mp4", seconds=2)
    with serving(folder) as server:
        yield server


@pytest.fixture(scope="session")
def published(stack: Stack, web: Server) -> dict[str, Any]:
    """Publish one film, once for all tests that look at it."""
    (item,) = ingest(stack, web.url + "/files/own.mp4")
    assert item["state"] == "published"
    found: dict[str, Any] = item
    return found
