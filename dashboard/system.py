"""System: whether every part is well, who works, and where the other doors are."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard.door import gateway, problems_shown
from dashboard.words import ago, plain

REFRESH_SECONDS = 5.0


def show() -> None:
    """Draw the page."""
    st.title("System")
    _content()


@st.fragment(run_every=REFRESH_SECONDS)
def _content() -> None:
    with problems_shown():
        door = gateway()
        system = door.get("/v1/system")
        counts = door.get("/v1/summary")
        _parts(system["parts"])
        _workers(system["workers"])
        _counts(counts)
        _doors(system)


def _parts(parts: dict[str, dict[str, str]]) -> None:
    st.subheader("Parts")
    told = {"gateway": {"state": "ok", "detail": ""}, **parts}
    for column, (name, part) in zip(st.columns(len(told)), told.items(), strict=True):
        well = part["state"] == "ok"
        with column.container(border=True, height="stretch", gap="xsmall"):
            st.markdown(f"**{plain(name[:1].upper() + name[1:])}**")
            st.badge("running" if well else plain(part["state"]), color="green" if well else "red")
            if part["detail"]:
                st.caption(plain(part["detail"], 300))


def _workers(workers: list[dict[str, Any]]) -> None:
    st.subheader("Workers")
    online = [worker for worker in workers if worker["state"] == "online"]
    if not online:
        st.warning("No worker is online: orders wait until one is. `headrace status` shows what the stack does.")
    rows = [
        {
            "Worker": plain(worker["name"]),
            "Pool": plain(worker["pool"]),
            "State": f":{'green' if worker['state'] == 'online' else 'gray'}-badge[{plain(worker['state'])}]",
            "Last heartbeat": ago(worker["last_heartbeat_at"]),
        }
        for worker in workers
    ]
    if rows:
        st.table(rows, border="horizontal", hide_index=True)


def _counts(counts: dict[str, int]) -> None:
    st.subheader("Items by state")
    for column, (state, count) in zip(st.columns(len(counts)), counts.items(), strict=True):
        column.metric(state.capitalize(), f"{count:,}")


def _doors(system: dict[str, Any]) -> None:
    st.subheader("Doors")
    with st.container(horizontal=True, vertical_alignment="center"):
        if system["prefect_ui_url"]:
            st.link_button("Prefect UI", system["prefect_ui_url"])
        st.link_button("Gateway health", system["gateway_url"].rstrip("/") + "/healthz")
        st.caption(f"Headrace {plain(system['version'])} · gateway at {plain(system['gateway_url'])}", width="content")
