"""Asset: one content with its player, facts, renditions and history; ``?asset=ID`` names it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import streamlit as st

from dashboard.door import confirm, gateway, problems_shown, tell_after_rerun, zone
from dashboard.history import sentence
from dashboard.item_list import show_item
from dashboard.places import link
from dashboard.words import FINAL, clock, counted, duration, plain, reason, size

PLAYER_HEIGHT = 560
RECIPES = ("web", "audio")
REFRESH_SECONDS = 2.0
LATEST_ITEMS = 20
"""Of this asset; older ones have ended."""


def show() -> None:
    """Draw the page."""
    asset_id = st.query_params.get("asset", "").strip()
    if not asset_id:
        st.title("Asset")
        st.markdown("No asset is chosen.")
        link("library", "Choose one in the library")
        return
    asset: dict[str, Any] = gateway().get(f"/v1/assets/{_in_path(asset_id)}")
    link("library", "Back to the library")
    st.title(plain(asset["title"], 120), anchor=False)
    _notes(asset)
    _at_work(asset["asset_id"])
    left, right = st.columns([5, 3], gap="large")
    with left:
        _player(asset)
        _renditions(asset)
        _streams(asset)
    with right:
        _buttons(asset)
        _facts(asset)
        _original(asset)
    _entries(asset)
    _history(asset)


def _in_path(asset_id: str) -> str:
    """An id is hex; anything else must not reach into the gateway's paths."""
    return "".join(character for character in asset_id[:64] if character.isalnum()) or "none"


def _notes(asset: dict[str, Any]) -> None:
    if asset["deleted"]:
        st.warning("This asset is deleted. It can be restored until the archive is swept.")
    if asset["error"]:
        st.error(reason(asset["error"]))
    for warning in asset["warnings"]:
        st.warning(plain(warning, 400))


def _player(asset: dict[str, Any]) -> None:
    if asset["playback"] and not asset["deleted"]:
        st.iframe(asset["playback"]["watch"], height=PLAYER_HEIGHT, alt="Player")
        st.caption(
            f"[Open the player in its own tab]({asset['playback']['watch']}) — the link is good for "
            f"{asset['playback']['expires_in_seconds'] // 3600} hours"
        )
        return
    with st.container(border=True):
        st.markdown("**There is nothing to play.**")
        st.markdown("Publish it with the buttons beside, or keep it as it is: the original stays in the archive.")


def _renditions(asset: dict[str, Any]) -> None:
    if not asset["renditions"]:
        return
    st.subheader("Renditions")
    rows = [
        {
            "Name": plain(one["name"]),
            "Codec": plain(one["codec"]),
            "Picture": f"{one['width']} × {one['height']}" if one["width"] else "",
            "Rate": f"{one['frame_rate']:.5g} fps" if one["frame_rate"] else "",
            "Bitrate": f"{one['bitrate'] / 1000:,.0f} kbit/s" if one["bitrate"] else "",
            "Size": size(one["size_bytes"]),
        }
        for one in asset["renditions"]
    ]
    st.table(rows, border="horizontal", hide_index=True)


def _streams(asset: dict[str, Any]) -> None:
    probe = asset["streams"]
    if not probe:
        return
    st.subheader("Streams of the original")
    rows = [
        {"Stream": kind, "Codec": plain(one["codec"]), "Details": _details(kind, one)}
        for kind, several in (("Video", "video"), ("Audio", "audio"), ("Subtitles", "subtitles"))
        for one in probe.get(several) or []
    ]
    st.table(rows, border="horizontal", hide_index=True)


def _details(kind: str, one: dict[str, Any]) -> str:
    words: list[str] = []
    if kind == "Video":
        words = [f"{one['width']} × {one['height']}", f"{one['frame_rate'] or 0:.5g} fps", f"{one['bit_depth']} bit"]
        words += [f"turned by {one['rotation']}°"] if one["rotation"] else []
        words += [plain(one["color_transfer"])] if one["color_transfer"] else []
    elif kind == "Audio":
        words = [counted(one["channels"] or 0, "channel"), f"{(one['sample_rate'] or 0) / 1000:g} kHz"]
    words += [plain(one[name]) for name in ("language", "title") if one.get(name)]
    return " · ".join(words)


def _facts(asset: dict[str, Any]) -> None:
    master = asset["master"]
    kept = (
        f"{size(master['stored_bytes'])}, {plain(master['kind'])}: {plain(master['reason'])}" if master else "not yet"
    )
    facts = {
        "Type": plain(asset["media_type"]),
        "Size": f"{size(asset['size_bytes'])} ({asset['size_bytes']:,} bytes)",
        "Duration": duration(asset["duration_seconds"]),
        "In the archive": kept,
        "Streams": size(asset["published_bytes"]) if asset["published_bytes"] else "",
        "First seen": clock(asset["created_at"], zone()),
        "BLAKE3": f"`{asset['blake3']}`",
        "SHA-256": f"`{asset['sha256']}`",
    }
    st.subheader("Facts")
    rows = [{"Fact": f"**{name}**", "Value": value} for name, value in facts.items() if value]
    st.table(rows, border="horizontal", hide_index=True, hide_header=True)


def _original(asset: dict[str, Any]) -> None:
    if asset["master"] is None or asset["deleted"]:
        return
    st.subheader("The original")
    st.markdown("Write the original bytes to a file, every one of them checked:")
    st.code(f"headrace get {asset['asset_id'][:16]} -o FILE", language=None)


@st.fragment
def _buttons(asset: dict[str, Any]) -> None:
    path, title = f"/v1/assets/{asset['asset_id']}", plain(asset["title"])
    with st.container(horizontal=True):
        if asset["deleted"]:
            if st.button("Restore", type="primary"):
                _acted(lambda: _post(path + "/restore", "The asset is back in the library."))
            return
        if asset["playback"] and st.button("Unpublish"):
            confirm(
                f"Take the streams of **{title}** offline? The original stays, and it can be published again.",
                "Unpublish",
                lambda: _post(path + "/unpublish", "The streams are offline."),
            )
        if st.button("Delete"):
            confirm(
                f"Remove **{title}** from the library? It can be restored on this page for some time.",
                "Delete",
                lambda: _delete(path),
            )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        recipe = st.selectbox("Publish again with the recipe", RECIPES)
        if st.button("Publish"):
            _acted(lambda: _publish(asset["asset_id"], recipe))


def _acted(act: Callable[[], str]) -> None:
    with problems_shown():
        tell_after_rerun(act())
        st.rerun()


def _at_work(asset_id: str) -> None:
    """Draw the items that make something of this asset; when they end the page is drawn anew."""
    if _working(asset_id):
        st.fragment(_work, run_every=REFRESH_SECONDS)(asset_id)


def _work(asset_id: str) -> None:
    with problems_shown():
        working = _working(asset_id)
        if not working:
            st.rerun()
        for item in working:
            with st.container(border=True):
                show_item(item)


def _working(asset_id: str) -> list[dict[str, Any]]:
    items = gateway().get("/v1/items", asset=asset_id, limit=LATEST_ITEMS)
    order_id = st.session_state.get(f"ordered-{asset_id}")
    if order_id:  # a queued item does not name its asset yet
        items += gateway().get(f"/v1/orders/{order_id}")["item_list"]
    return list({item["item_id"]: item for item in items if item["state"] not in FINAL}.values())


def _post(path: str, told: str) -> str:
    gateway().post(path)
    return told


def _delete(path: str) -> str:
    gateway().call("DELETE", path)
    return "The asset is removed from the library."


def _publish(asset_id: str, recipe: str) -> str:
    order = gateway().place([{"source": f"asset:{asset_id}"}], recipe, key=f"dashboard-{uuid4()}")
    st.session_state[f"ordered-{asset_id}"] = order["order_id"]
    return "Ordered."


def _entries(asset: dict[str, Any]) -> None:
    st.subheader("Entries")
    rows = [
        {
            "Title": plain(entry["title"]),
            "File": plain(entry["path"]),
            "Collection": plain(entry["collection"]),
            "Checked by": plain(", ".join(entry["proofs"])),
            "Added": clock(entry["created_at"], zone()),
            "State": "deleted" if entry["deleted_at"] else "in the library",
        }
        for entry in asset["entries"]
    ]
    st.table(rows, border="horizontal", hide_index=True)


def _history(asset: dict[str, Any]) -> None:
    st.subheader("History")
    events = gateway().get(f"/v1/assets/{asset['asset_id']}/events")
    rows = [{"When": clock(event["at"], zone()), "What": sentence(event)} for event in reversed(events)]
    st.table(rows, border="horizontal", hide_index=True, height=min(360, 60 + 40 * len(rows)))
