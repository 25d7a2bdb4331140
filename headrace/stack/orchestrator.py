"""Prefect on one machine: the server, the workers, and the settings that keep both at home.

Nothing of it is imported here: the parts run Prefect, the supervisor stays light.
Settings: https://docs.prefect.io/v3/api-ref/settings-ref (read at 3.8.8).
"""

from __future__ import annotations

import sys
from datetime import timedelta

from headrace.stack.credentials import Credentials
from headrace.stack.health import HOST
from headrace.stack.layout import Layout, Ports

IO_POOL = "headrace-io"
CPU_POOL = "headrace-cpu"
IO_QUEUES = {"interactive": 1, "scheduled": 2, "backfill": 3}
"""Queue → priority; a worker takes from the lowest number first."""
IO_RUNS = 4
"""How many orders, bundles and scheduled runs go on at once; each is a process of about 150 MB."""

KEEP_RUNS = timedelta(days=7)
"""How long Prefect remembers a finished run; the truth is in Headrace's own tables."""
SCHEDULE_AHEAD = timedelta(minutes=5)
"""How far ahead runs are scheduled: two flows each minute for an hour would be 120 rows."""

SLOT_LEASE_SECONDS = 60
"""How long a slot stays taken after its run died; runs renew it, and start within 15 s."""

NOWHERE = "http://127.0.0.1:9"
"""The discard port, where nothing listens."""


def client_environment(layout: Layout) -> dict[str, str]:
    """Return what every process that uses Prefect gets, beside ``PREFECT_API_URL`` and its password."""
    return {
        "PREFECT_HOME": str(layout.prefect),
        "PREFECT_PROFILES_PATH": str(layout.prefect / "profiles.toml"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",  # a client that lost its address must fail, not start a server
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }


def server_environment(layout: Layout, ports: Ports, credentials: Credentials) -> dict[str, str]:
    """Return the settings of the server."""
    database = f"prefect:{credentials.prefect_database_password}@{HOST}:{ports.postgres}/prefect"
    return {
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(ports.prefect),
        "PREFECT_SERVER_API_AUTH_STRING": f"headrace:{credentials.prefect_password}",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{database}",
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(layout.prefect / "ui"),
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{ports.prefect}",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        # By default leases of concurrency slots live in the server's memory: a slot that was taken when
        # the server died would stay taken for ever, and `reconcile` (one at a time) never run again.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION": str(SLOT_LEASE_SECONDS),
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": _iso(KEEP_RUNS),
        "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": _iso(KEEP_RUNS),
        "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_SCHEDULED_TIME": _iso(SCHEDULE_AHEAD),
        "PREFECT__SERVER_FINAL": "1",  # what `prefect server start` sets: one server in this process
        # The UI's pages on blocks and work pools make the server fetch a registry from GitHub. It has
        # a copy of its own for when that fails, so it fails at once; loopback is exempt (NO_PROXY).
        "HTTP_PROXY": NOWHERE,
        "HTTPS_PROXY": NOWHERE,
        "http_proxy": NOWHERE,
        "https_proxy": NOWHERE,
    }


def server_argv(ports: Ports) -> list[str]:
    """Return the command of the server: what `prefect server start` runs, without importing its CLI first."""
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
    return [*command, "--host", HOST, "--port", str(ports.prefect), "--log-level", "warning"]


def worker_argv(pool: str, runs: int) -> list[str]:
    """Return the command of a process worker that keeps up to ``runs`` flow runs going."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--name", pool]
    return [*command, "--type", "process", "--limit", str(runs), "--install-policy", "never"]


def _iso(span: timedelta) -> str:
    """Write a span as pydantic reads it everywhere (ISO 8601)."""
    return f"PT{int(span.total_seconds())}S"
