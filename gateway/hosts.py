"""Hosts: how those that sources are read from are, and letting one be asked again."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from gateway import shapes
from gateway.auth import Here, Owner
from headrace.catalogue import hosts

router = APIRouter()


@router.get("/v1/hosts")
def find(_owner: Owner, here: Here) -> list[dict[str, Any]]:
    """Return the hosts of the last day, those in trouble first."""
    with here.database.begin() as tx:
        found = hosts.find(tx)
    return [shapes.host(one, here.settings.host_rules.of(one.host)) for one in found]


@router.post("/v1/hosts/{host}/reset")
def reset(host: str, _owner: Owner, here: Here) -> dict[str, str]:
    """Close a host's circuit and end its pause, so that it is asked again at once."""
    with here.database.begin() as tx:
        hosts.reset(tx, host.lower())
    return {"host": host.lower()}
