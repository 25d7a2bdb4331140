"""The plan: every part of the stack, what it needs first, and how it is started. Pure.

``plan()`` reads nothing and starts nothing; the supervisor acts on what it returns.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from headrace.stack import objects, orchestrator, postgres, processes
from headrace.stack.credentials import STACK_ONLY_KEYS, Credentials
from headrace.stack.health import HOST, Check, HttpCheck, S3Check, WorkerCheck
from headrace.stack.layout import MARKER, Layout, Ports

JOBS_MODULE = "headrace.stack.jobs"

DROPPED = frozenset(
    # Long-lived parts start many processes from the same files: they gain from bytecode.
    {"PYTHONDONTWRITEBYTECODE"}
    # Another Prefect that the operator uses must not be mixed up with this one.
    | {"PREFECT_API_KEY", "PREFECT_PROFILE", "PREFECT_API_URL", "PREFECT_API_AUTH_STRING"}
)


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True, repr=False)
class Part:
    """One process of the stack, or a job that runs once and ends."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    """All of it; holds secrets, so ``repr`` shows nothing."""
    after: tuple[str, ...] = ()
    """What must be up (a job: done) before this starts."""
    check: Check | None = None
    """``None`` marks a job."""
    url: str = ""
    port: int | None = None
    account: postgres.Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    before: Callable[[], None] = _nothing
    """Done before each start of the process."""
    then: Callable[[], None] = _nothing
    """Done once it answers, before anything that needs it starts."""

    @property
    def is_job(self) -> bool:
        """Whether it runs once and ends."""
        return self.check is None


@dataclass(frozen=True, slots=True, repr=False)
class Site:
    """What a plan is made for: one home with its ports and secrets, and this installation."""

    layout: Layout
    ports: Ports
    credentials: Credentials
    settings: Mapping[str, str]
    """The lines of ``settings.env`` (``credentials.settings_for``)."""
    inherited: Mapping[str, str]
    """The environment of ``headrace up``."""
    source: Path | None
    """The clone, to be put on PYTHONPATH; ``None`` when everything is installed."""
    dashboard: Path | None
    """Streamlit's script, or ``None`` where there is none."""
    encodes: int = 2
    """How many encodes go on at once; each uses all cores, so more than one rarely helps."""


def environment(site: Site) -> dict[str, str]:
    """Return what every part of ours gets (not Postgres and rclone, which get the least)."""
    inherited = {key: value for key, value in site.inherited.items() if key not in DROPPED}
    ours = {key: value for key, value in site.settings.items() if key not in STACK_ONLY_KEYS}
    result = inherited | orchestrator.client_environment(site.layout) | ours
    result |= {MARKER: site.layout.id, "HEADRACE_HOME": str(site.layout.home), "PYTHONUNBUFFERED": "1"}
    result["TMPDIR"] = str(site.layout.temporary)
    for key in ("NO_PROXY", "no_proxy"):  # a proxy must not get what goes to loopback
        result[key] = ",".join(filter(None, (inherited.get(key), HOST, "localhost")))
    if site.source is not None:
        known = inherited.get("PYTHONPATH", "").split(os.pathsep)
        result["PYTHONPATH"] = os.pathsep.join([str(site.source), *(path for path in known if path)])
    return result


def plan(site: Site, cluster: postgres.Cluster) -> tuple[Part, ...]:
    """Return all parts, each after those that it needs."""
    migrate, register, recover = _jobs(site)
    return (*_stores(site, cluster), migrate, *_servers(site), register, recover, *_workers(site))


def _stores(site: Site, cluster: postgres.Cluster) -> tuple[Part, ...]:
    layout, ports, secrets = site.layout, site.ports, site.credentials
    least = {MARKER: layout.id, "PATH": os.defpath, "HOME": str(layout.home), "LC_ALL": "C"}
    least["TMPDIR"] = str(layout.temporary)

    def clear() -> None:
        processes.end_orphans_of(cluster.folder)
        postgres.forget_stale_pid(cluster)

    return (
        Part(
            name="postgres",
            argv=tuple(postgres.argv(cluster, ports.postgres)),
            environment={key: value for key, value in least.items() if key not in {"HOME", "TMPDIR"}},
            check=postgres.PostgresCheck(ports.postgres, secrets.postgres_password, layout.settings),
            url=f"postgresql://{HOST}:{ports.postgres}",
            port=ports.postgres,
            account=cluster.account,
            stop_signal=signal.SIGINT,  # "fast": it does not wait for clients
            before=clear,
            then=lambda: postgres.provide_databases(ports.postgres, secrets),
        ),
        Part(
            name="s3",
            argv=tuple(objects.argv(layout.objects, ports.s3)),
            environment=least | objects.environment(secrets),
            check=S3Check(ports.s3),
            url=f"http://{HOST}:{ports.s3}",
            port=ports.s3,
            before=lambda: objects.prepare(layout.objects),
        ),
    )


def _jobs(site: Site) -> tuple[Part, Part, Part]:
    ours = environment(site)
    run = (sys.executable, "-m", JOBS_MODULE)
    return (
        Part(name="migrate", argv=(*run, "migrate"), environment=ours, after=("postgres",)),
        Part(name="register", argv=(*run, "register"), environment=ours, after=("prefect",)),
        Part(
            name="recover",
            argv=(sys.executable, "-m", "flows.recover"),
            environment=ours,
            after=("register", "migrate", "s3"),
        ),
    )


def _servers(site: Site) -> tuple[Part, ...]:
    ports, ours = site.ports, environment(site)
    uvicorn = (sys.executable, "-m", "uvicorn", "--factory", "gateway.app:create_app", "--host", HOST)
    prefect = Part(
        name="prefect",
        argv=tuple(orchestrator.server_argv(ports)),
        environment=ours | orchestrator.server_environment(site.layout, ports, site.credentials),
        after=("postgres",),
        check=HttpCheck(ports.prefect, "/api/health"),
        url=f"http://{HOST}:{ports.prefect}",
        port=ports.prefect,
    )
    gateway = Part(
        name="gateway",
        argv=(*uvicorn, "--port", str(ports.gateway), "--no-access-log", "--timeout-graceful-shutdown", "2"),
        environment=ours,
        after=("migrate", "s3"),
        check=HttpCheck(ports.gateway, "/healthz"),
        url=f"http://{HOST}:{ports.gateway}",
        port=ports.gateway,
    )
    return (prefect, gateway) if site.dashboard is None else (prefect, gateway, _dashboard(site, site.dashboard, ours))


def _dashboard(site: Site, script: Path, ours: Mapping[str, str]) -> Part:
    port = site.ports.dashboard
    options = {
        "server.port": str(port),
        "server.address": HOST,
        "browser.serverAddress": HOST,  # else it asks the internet for its own address
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "server.enableXsrfProtection": "true",
        "server.showEmailPrompt": "false",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
    }
    flags = [f"--{key}={value}" for key, value in options.items()]
    return Part(
        name="dashboard",
        argv=(sys.executable, "-m", "streamlit", "run", str(script), *flags),
        environment=ours,
        check=HttpCheck(port, "/_stcore/health"),
        url=f"http://{HOST}:{port}",
        port=port,
    )


def _workers(site: Site) -> tuple[Part, ...]:
    ours = environment(site)
    auth = f"headrace:{site.credentials.prefect_password}"
    pools = [("worker-io", orchestrator.IO_POOL, orchestrator.IO_RUNS)]
    pools += [("worker-cpu", orchestrator.CPU_POOL, site.encodes)]
    return tuple(
        Part(
            name=name,
            argv=tuple(orchestrator.worker_argv(pool, runs)),
            environment=ours,
            after=("register", "migrate", "s3"),
            check=WorkerCheck(site.ports.prefect, pool, pool, auth),
        )
        for name, pool, runs in pools
    )
