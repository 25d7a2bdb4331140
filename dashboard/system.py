"""System: whether every part is well, who works, and where the other doors are."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import streamlit as st

from dashboard.door import gateway, problems_shown, tell_after_rerun, zone
from dashboard.words import ago, clock, counted, plain

REFRESH_SECONDS = 5.0

MOST_HOSTS = 20
"""Those in trouble come first."""

HOST_COLOURS = {"ok": "green", "cooling": "orange", "open": "red", "probing": "blue"}


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
        _hosts(door.get("/v1/hosts"))
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


def _hosts(hosts: list[dict[str, Any]]) -> None:
    """Draw the hosts that are in trouble or in use; what is well and unused is no news."""
    shown = [host for host in hosts if host["state"] != "ok" or host["connections"] or host["waiting"]]
    st.subheader("Hosts")
    if not shown:
        st.caption("No source is being read, and every host is well.")
    for host in shown[:MOST_HOSTS]:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{plain(host['host'])}**", width="content")
            colour = HOST_COLOURS.get(host["state"], "gray")
            st.markdown(f":{colour}-badge[{plain(host['state'])}]", width="content")
            st.caption(_host_words(host))
            if host["state"] != "ok" and st.button("Try again now", key=f"reset {host['host']}"):
                gateway().post(f"/v1/hosts/{quote(host['host'], safe='')}/reset")
                tell_after_rerun(f"{host['host']} is asked again.")
                st.rerun()
    if len(shown) > MOST_HOSTS:
        st.caption(f"And {counted(len(shown) - MOST_HOSTS, 'more host', 'more hosts')}.")


def _host_words(host: dict[str, Any]) -> str:
    words = [f"{host['connections']} of {counted(host['connections_limit'], 'connection')}"]
    if host["waiting"]:
        words.append(f"{host['waiting']} waiting")
    if host["failures"]:
        words.append(f"{counted(host['failures'], 'failure')} in a row")
    if host["reason"]:
        words.append(plain(host["reason"], 300))
    if host["until"]:
        words.append(f"asked again {ago(host['until'])}, at {clock(host['until'], zone())[11:]}")
    return " · ".join(words)


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
