"""Now: what is at work, what has just ended, and why something failed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import streamlit as st

from dashboard.door import gateway, problems_shown, zone
from dashboard.item_list import Items, by_order, show_item, show_order
from dashboard.places import link
from dashboard.words import LOST, ago, plain

REFRESH_SECONDS = 2.0
AT_WORK = ("downloading", "storing", "transcoding", "publishing", "queued")
RECENT = 100
"""The newest items that are looked through for what ended today."""
SHOWN_FINISHED = 10
SHOWN_ORDERS = 10
MOST_OF_STATE = 200


def show() -> None:
    """Draw the page; its content draws itself again."""
    st.title("Now")
    _content()


@st.fragment(run_every=REFRESH_SECONDS)
def _content() -> None:
    with problems_shown():
        door = gateway()
        counts = door.get("/v1/summary")
        if not any(counts.values()):
            _nothing_yet()
            return
        recent: Items = door.get("/v1/items", limit=RECENT)
        working: Items = []
        for state in AT_WORK:
            if counts[state]:
                working += door.get("/v1/items", state=state, limit=MOST_OF_STATE)
        orders = {order["order_id"]: order for order in door.get("/v1/orders", limit=RECENT)}
        _counts(counts, recent)
        _at_work(working, orders)
        _ended(recent, orders)


def _nothing_yet() -> None:
    with st.container(border=True):
        st.subheader("Nothing has been ordered yet")
        st.markdown("Name a URL or pick files, and watch them become streams here.")
        link("new_order", "Place the first order")


def _counts(counts: dict[str, int], recent: Items) -> None:
    here = zone()
    today = datetime.now(here).date()
    ended = [item for item in recent if item["state"] in {"published", "stored"}]
    finished = sum(datetime.fromisoformat(item["updated_at"]).astimezone(here).date() == today for item in ended)
    tiles = [(state.capitalize(), f"{counts[state]:,}") for state in sorted(AT_WORK, key=list(counts).index)]
    tiles += [("Finished today", f"{finished}+" if finished == RECENT else f"{finished}")]
    tiles += [("Failed", f"{counts['failed']:,}")]
    for column, (label, value) in zip(st.columns(len(tiles)), tiles, strict=True):
        column.metric(label, value, border=True)


def _about(order: dict[str, Any] | None) -> str:
    if order is None:
        return ""
    states = " · ".join(f"{count} {state}" for state, count in order["counts"].items())
    return f"recipe {plain(order['recipe'])} · placed {ago(order['created_at'])} · {states}"


def _at_work(working: Items, orders: dict[str, Any]) -> None:
    st.subheader("At work")
    if not working:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown("Nothing is at work.", width="content")
            link("new_order", "Place an order")
        return
    grouped = by_order(working)
    for order_id, items in list(grouped.items())[:SHOWN_ORDERS]:
        show_order(order_id, items, _about(orders.get(order_id)), "work")
    if len(grouped) > SHOWN_ORDERS:
        st.caption(f"and {len(grouped) - SHOWN_ORDERS} more orders")


def _ended(recent: Items, orders: dict[str, Any]) -> None:
    lost = [item for item in recent if item["state"] in LOST]
    finished = [item for item in recent if item["state"] in {"published", "stored"}]
    finished.sort(key=lambda item: item["updated_at"], reverse=True)
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader("Recently finished")
        if not finished:
            st.caption("Nothing yet.")
        else:
            with st.container(border=True):
                for item in finished[:SHOWN_FINISHED]:
                    show_item(item)
    with right:
        st.subheader("Failed or cancelled")
        if not lost:
            st.caption("Nothing: every recent item went through.")
        for order_id, items in list(by_order(lost).items())[:SHOWN_ORDERS]:
            show_order(order_id, items, _about(orders.get(order_id)), "lost")
