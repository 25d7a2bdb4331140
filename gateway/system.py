"""How the system is: health, parts, workers, numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from sqlalchemy import text

from flows.submit import prefect_client
from gateway.auth import Here, Owner
from headrace import __version__
from headrace.catalogue import hosts, items
from headrace.errors import CatalogueUnavailable, HeadraceError, OrchestratorUnavailable, StoreError
from headrace.hosts.state import Phase
from headrace.model import ItemState
from headrace.wiring import House

router = APIRouter()


@router.get("/healthz")
def healthz(here: Here) -> JSONResponse:
    """Answer 200 where Postgres answers, 503 where it does not."""
    state = _probe_database(here)
    return JSONResponse({"status": state["state"], "version": __version__}, 200 if state["state"] == "ok" else 503)


@router.get("/v1/system")
def system(_owner: Owner, here: Here) -> dict[str, Any]:
    """Return each part's state, the workers, and where the other doors are."""
    workers: list[dict[str, Any]] = []
    orchestrator = {"state": "ok", "detail": ""}
    try:
        workers = _workers()
    except OrchestratorUnavailable as error:
        orchestrator = _down(error)
    return {
        "version": __version__,
        "parts": {
            "postgres": _probe_database(here),
            "object store": _probe_store(here),
            "prefect": orchestrator,
        },
        "workers": workers,
        "prefect_ui_url": here.settings.prefect_ui_url,
        "gateway_url": here.settings.url,
        "dashboard_url": here.settings.dashboard_url,
    }


@router.get("/v1/summary")
def summary(owner: Owner, here: Here) -> dict[str, int]:
    """Return how many items are in each state."""
    with here.database.begin() as tx:
        counts = items.counts(tx, owner)
    return {state.value: counts.get(state.value, 0) for state in ItemState}


@router.get("/metrics")
def metrics(owner: Owner, here: Here) -> Response:
    """Return the numbers in Prometheus' text format (version 0.0.4)."""
    counts = summary(owner, here)
    lines = [
        "# HELP headrace_items Items by state.",
        "# TYPE headrace_items gauge",
        *(f'headrace_items{{state="{state}"}} {count}' for state, count in counts.items()),
        *_host_lines(here),
    ]
    return Response("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4; charset=utf-8")


def _host_lines(here: House) -> list[str]:
    """Return the numbers of hosts; each host by its name only while something goes on there."""
    with here.database.begin() as tx:
        found = hosts.find(tx)
    phases = Counter(host.phase for host in found)
    lines = ["# HELP headrace_hosts Hosts that sources are read from, by state.", "# TYPE headrace_hosts gauge"]
    lines += [f'headrace_hosts{{state="{phase}"}} {phases[phase]}' for phase in Phase]
    for name, help_text in (("connections", "Connections to a host"), ("waiting", "Requests that wait for one")):
        lines += [f"# HELP headrace_host_{name} {help_text}.", f"# TYPE headrace_host_{name} gauge"]
        lines += [
            f'headrace_host_{name}{{host="{_label(host.host)}"}} {getattr(host, name)}'
            for host in found
            if host.connections or host.waiting
        ]
    return lines


def _label(text: str) -> str:
    """Return outside text as a label's value (Prometheus, text-based format 0.0.4)."""
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _probe_database(here: House) -> dict[str, str]:
    try:
        with here.database.begin() as tx:
            tx.execute(text("SELECT 1"))
    except CatalogueUnavailable as error:
        return _down(error)
    return {"state": "ok", "detail": ""}


def _probe_store(here: House) -> dict[str, str]:
    try:
        here.streams.stat("health")
    except StoreError as error:
        return _down(error)
    return {"state": "ok", "detail": ""}


def _down(error: HeadraceError) -> dict[str, str]:
    return {"state": "down", "detail": error.message}


def _workers() -> list[dict[str, Any]]:
    with prefect_client() as client:
        pools = client.read_work_pools()
        return [
            {
                "pool": pool.name,
                "name": worker.name,
                "state": "online" if str(worker.status).endswith("ONLINE") else "offline",
                "last_heartbeat_at": worker.last_heartbeat_time,
            }
            for pool in pools
            for worker in client.read_workers_for_work_pool(pool.name)
        ]
