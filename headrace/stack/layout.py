"""Where everything of a stack is: files under its home, and ports above its base. Pure.

::

    HOME/settings.env    secrets and addresses (0600), read by headrace.settings
    HOME/stack.lock      held by the supervisor
    HOME/stack.json      the record: what runs, for status and down
    HOME/logs/           one file per part, and supervisor.log
    HOME/postgres/       cluster and binaries; for root below /var/lib/headrace instead
    HOME/objects/        the buckets of rclone
    HOME/prefect/        PREFECT_HOME
    HOME/stack.tmp/      temporary files, emptied at each start
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from headrace.settings import SETTINGS_FILE

DEFAULT_PORT_BASE = 8700
PORTS_NEEDED = 5
"""Gateway, dashboard, Prefect, S3 and Postgres, in this order from the base."""
LAST_PORT = 65535

ROOT_STATE = Path("/var/lib/headrace")
"""Where root's stacks keep Postgres, which refuses to run as root: the home may be closed to others."""

MARKER = "HEADRACE_STACK"
"""The environment variable that every process of a stack carries; its value is ``Layout.id``."""

BUCKETS = ("headrace-vault", "headrace-streams", "headrace-incoming")


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of a stack, counted from ``base``."""

    base: int = DEFAULT_PORT_BASE

    @property
    def gateway(self) -> int:
        """What people and machines talk to."""
        return self.base

    @property
    def dashboard(self) -> int:
        """Streamlit."""
        return self.base + 1

    @property
    def prefect(self) -> int:
        """The Prefect API and UI."""
        return self.base + 2

    @property
    def s3(self) -> int:
        """The S3 endpoint."""
        return self.base + 3

    @property
    def postgres(self) -> int:
        """PostgreSQL."""
        return self.base + 4


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of the stack in ``home`` (absolute); ``as_root`` moves Postgres out of it."""

    home: Path
    as_root: bool = False

    @property
    def id(self) -> str:
        """The home's name among processes and folders: 16 hex digits of its path's hash."""
        return hashlib.sha256(str(self.home).encode("utf-8", "surrogateescape")).hexdigest()[:16]

    @property
    def settings(self) -> Path:
        """Secrets and addresses."""
        return self.home / SETTINGS_FILE

    @property
    def lock(self) -> Path:
        """The supervisor's lock."""
        return self.home / "stack.lock"

    @property
    def record(self) -> Path:
        """What runs."""
        return self.home / "stack.json"

    @property
    def logs(self) -> Path:
        """A folder with one log per part."""
        return self.home / "logs"

    @property
    def objects(self) -> Path:
        """A folder with one folder per bucket."""
        return self.home / "objects"

    @property
    def prefect(self) -> Path:
        """``PREFECT_HOME``."""
        return self.home / "prefect"

    @property
    def postgres(self) -> Path:
        """The folder that holds the cluster and, for root, a copy of the binaries."""
        if not self.as_root:
            return self.home / "postgres"
        readable = re.sub(r"[^A-Za-z0-9]+", "-", self.home.name).strip("-")[:32]
        return ROOT_STATE / f"{readable or 'home'}-{self.id}"

    @property
    def cluster(self) -> Path:
        """``PGDATA``."""
        return self.postgres / "cluster"

    @property
    def temporary(self) -> Path:
        """``TMPDIR`` of the parts, emptied at each start: Prefect shares /tmp/runner_storage between users."""
        return self.home / "stack.tmp"

    def log(self, part: str) -> Path:
        """Return where a part's log is."""
        return self.logs / f"{part}.log"
