"""Items as people see them: where each is, how fast it goes, and why it stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from dashboard.door import gateway, problems_shown
from dashboard.places import link_asset
from dashboard.words import COLOURS, FINAL, LOST, ago, counted, done, duration, plain, progress_words, reason, size

MOST_ROWS = 12
"""Rows of one order; the rest is counted."""

Items = list[dict[str, Any]]


def by_order(items: Items) -> dict[str, Items]:
    """Return items under their orders, both in the order in which they came."""
    orders: dict[str, Items] = {}
    for item in items:
        orders.setdefault(item["order_id"], []).append(item)
    return orders


def show_order(order_id: str, items: Items, about: str, key: str) -> None:
    """Draw an order's items under a line about it, with the buttons that make sense."""
    with st.container(border=True, key=f"{key}-{order_id}"):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.markdown(f"**Order {order_id[:8]}** · {about}", width="content")
            if any(item["state"] not in FINAL for item in items):
                _button("Cancel", f"{key}-cancel-{order_id}", lambda: _cancel(order_id))
            elif any(item["state"] in LOST for item in items):
                _button("Retry", f"{key}-retry-{order_id}", lambda: _retry(order_id))
        for item in items[:MOST_ROWS]:
            show_item(item)
        if len(items) > MOST_ROWS:
            st.caption(f"and {len(items) - MOST_ROWS} more")


def _button(label: str, key: str, act: Callable[[], str]) -> None:
    if st.button(label, key=key):
        with problems_shown():
            st.toast(act())


def _cancel(order_id: str) -> str:
    count = gateway().post(f"/v1/orders/{order_id}/cancel")["cancelled"]
    return f"{counted(count, 'item')} cancelled. What is at work stops within seconds."


def _retry(order_id: str) -> str:
    count = gateway().post(f"/v1/orders/{order_id}/retry")["queued"]
    return f"{counted(count, 'item')} queued again."


def show_item(item: dict[str, Any]) -> None:
    """Draw one item: a bar while it is at work, else how it ended."""
    with st.container(gap="xsmall", key=f"item-{item['item_id']}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.badge(item["state"], color=COLOURS.get(item["state"], "blue"))  # type: ignore[arg-type]
            title = plain(item["title"] or item["source"], 70)
            if item["asset_id"] and item["state"] in {"published", "stored"}:
                link_asset(item["asset_id"], title)
            else:
                st.markdown(f"**{title}**", width="content")
        st.caption(_source_words(item))
        if item["error"]:
            st.markdown(f":red[{reason(item['error'])}]")
        elif item["state"] == "queued":
            if item["attempts"]:
                st.caption(f"Tried {counted(item['attempts'], 'time')}; comes again {ago(item['not_before'])}")
        elif item["state"] not in FINAL:
            st.progress(done(item), text=progress_words(item))
        for warning in item["warnings"]:
            st.caption(f"Warning: {plain(warning, 300)}")


def _source_words(item: dict[str, Any]) -> str:
    words = [plain(item["source"], 120)]
    if item["size_bytes"]:
        words.append(size(item["size_bytes"]))
    if item["playback"] and item["playback"]["duration_seconds"]:
        words.append(duration(item["playback"]["duration_seconds"]))
    if item["duplicate"]:
        words.append("known already")
    if item["state"] in FINAL:
        words.append(ago(item["updated_at"]))
    return " · ".join(words)
