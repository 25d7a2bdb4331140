"""Library: every asset with its poster, and what the archive saves."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard.door import gateway
from dashboard.places import link, link_asset
from dashboard.words import counted, duration, plain, size

COLUMNS = 4
STEP = 24
"""Tiles that are drawn at first, and more at each press of the button."""
MOST = 500
"""Assets that are asked for; a search finds what is beyond."""


def show() -> None:
    """Draw the page."""
    st.title("Library")
    _space()
    search = st.text_input("Search", placeholder="Title, file name, type or hash", max_chars=200)
    found: list[dict[str, Any]] = gateway().get("/v1/assets", search=search.strip(), limit=MOST)
    if not found:
        _nothing(search)
        return
    count = f"More than {MOST} assets, the newest first" if len(found) == MOST else counted(len(found), "asset")
    st.caption(count + (f" for “{plain(search)}”" if search else ""))
    shown = st.session_state.setdefault("tiles", STEP)
    for start in range(0, min(shown, len(found)), COLUMNS):
        for column, asset in zip(st.columns(COLUMNS), found[start : start + COLUMNS], strict=False):
            with column:
                _tile(asset)
    if shown < len(found):
        st.button(f"Show more ({len(found) - shown} left)", on_click=_show_more)


def _show_more() -> None:
    st.session_state["tiles"] += STEP


def _nothing(search: str) -> None:
    if search:
        st.info(f"Nothing is found for “{plain(search)}”.")
        return
    with st.container(border=True):
        st.subheader("The library is empty")
        st.markdown("What you order comes here once its original is in the archive.")
        link("new_order", "Place the first order")


def _space() -> None:
    space = gateway().get("/v1/space")
    saved = space["saved_by_dedup_bytes"] + space["saved_by_compression_bytes"]
    share = f"{100 * saved / space['logical_bytes']:.0f} % saved" if saved * 100 > space["logical_bytes"] else None
    gone = space["dead_bytes"] + space["waiting_bytes"]
    unswept = f"{size(gone)} of it deleted" if gone else None
    tiles = (
        ("Archived originals", space["logical_bytes"], "All entries together, as if each were kept on its own"),
        ("Stored", space["stored_bytes"], "What they take in the object store"),
        ("Saved by deduplication", space["saved_by_dedup_bytes"], "Content that was there already"),
        ("Saved by compression", space["saved_by_compression_bytes"], "Content that could be made smaller"),
    )
    for column, (label, value, about) in zip(st.columns(len(tiles)), tiles, strict=True):
        delta = (unswept or share) if label == "Stored" else None
        column.metric(
            label, size(value), delta, delta_color="off", delta_arrow="off", border=True, help=about, height="stretch"
        )


def _tile(asset: dict[str, Any]) -> None:
    with st.container(border=True, key=f"tile-{asset['asset_id']}"):
        poster = (asset["playback"] or {}).get("poster")
        if poster:
            st.image(poster, width="stretch", alt="")
        else:
            with st.container(key=f"blank-{asset['asset_id']}"):
                st.caption(_state(asset), text_alignment="center")
        link_asset(asset["asset_id"], plain(asset["title"], 60))
        words = [duration(asset["duration_seconds"]), size(asset["size_bytes"]), plain(asset["media_type"], 40)]
        st.caption(" · ".join(word for word in words if word))


def _state(asset: dict[str, Any]) -> str:
    if asset["error"]:
        return "Not media" if asset["error"]["code"] == "not_media" else "Cannot be decoded"
    if asset["playback"]:
        return "No poster"
    return "No streams"
