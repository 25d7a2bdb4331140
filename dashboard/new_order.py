"""New order: sources in, one order out, however often the button is pressed.

1. A form has a number; widgets carry it in their keys, so a late second click belongs to a
   form that is gone.
2. The idempotency key is made of the form's own random text and its content: the same form
   sent twice is one order, and a corrected form is not refused for having been tried.
3. A file is uploaded once: what the gateway called it is remembered until the order stands,
   and only one run of the script at a time sends a form.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

import streamlit as st
import yaml
from streamlit.runtime.uploaded_file_manager import UploadedFile

from dashboard.door import gateway, problems_shown, show_problem
from dashboard.item_list import show_order
from dashboard.places import link
from dashboard.words import FINAL, counted, plain
from headrace import recipe as recipes
from headrace.errors import HeadraceError, InvalidRecipe, InvalidRequest

RECIPES = {
    "web": "Streams for every browser: H.264 up to 1080p with AAC, as HLS and DASH",
    "archive": "Keep the original bytes, deduplicated and compressed; nothing to play",
    "audio": "Sound only: AAC streams of every track",
    "custom": "Your own settings, as YAML",
}
EXAMPLE = "name: small\nvideo:\n  heights: [240, 360]\n  crf: 26\naudio:\n  bitrate: 96000\n"
PLACEHOLDER = "https://example.org/film.mp4\ns3://bucket/key\nfile:///srv/media/film.mp4\nasset:ID"
MOST_MIB = 200
"""Of one picked file: Streamlit holds what the browser sends in memory."""
NAME_BYTES = 200
"""Of a picked file's name: file systems allow 255 bytes."""
REFRESH_SECONDS = 1.0


def show() -> None:
    """Draw the page."""
    st.title("New order")
    form = st.session_state.setdefault("form", _new_form(0))
    placed = st.session_state.get("placed")
    if placed and not form["working"]:
        _placed(placed)
        st.subheader("Another order")
    _form(form)


def _new_form(number: int) -> dict[str, Any]:
    """Return what belongs to one form, shared by all runs of the script that a person's clicks start."""
    return {
        "number": number,
        "secret": uuid4().hex,
        "lock": Lock(),
        "uploads": {},
        "order_id": None,
        "working": False,
        "problem": None,
    }


def _form(form: dict[str, Any]) -> None:
    number, working = form["number"], form["working"]
    left, right = st.columns([3, 2], gap="large")
    with right:
        recipe = st.radio(
            "Recipe", list(RECIPES), key=f"recipe-{number}", captions=list(RECIPES.values()), disabled=working
        )
    # In a form what was typed comes with the click, however fast that is.
    with left, st.form(f"order-{number}", border=False, enter_to_submit=False):
        text = st.text_area("URLs, one a line", key=f"sources-{number}", height=150, placeholder=PLACEHOLDER)
        files = st.file_uploader(
            "Or files from this computer",
            accept_multiple_files=True,
            key=f"files-{number}",
            max_upload_size=MOST_MIB,
        )
        st.caption(f"At most {MOST_MIB} MB a file here. `headrace ingest PATH` streams larger ones.")
        if recipe == "custom":
            recipe = st.text_area("Recipe as YAML", key=f"yaml-{number}", value=EXAMPLE, height=190)
        options = _options(number)
        st.form_submit_button(
            "Place order", type="primary", key=f"place-{number}", disabled=working, on_click=_start, args=(form,)
        )
    with left:
        if working:
            _work(form, _lines(text), files, recipe, options)
        elif form["problem"]:
            show_problem(form["problem"])


@dataclass(frozen=True, slots=True)
class _Options:
    """What was typed beside the sources."""

    collection: str
    sha256: str
    bytes_per_second: int | None


def _options(number: int) -> _Options:
    left, middle, right = st.columns([3, 3, 2])
    collection = left.text_input("Collection (optional)", key=f"collection-{number}")
    sha256 = middle.text_input(
        "SHA-256 (optional)", key=f"sha256-{number}", help="For a single source: what arrives must have this digest."
    )
    limit = right.number_input(
        "Limit in MB/s (optional)",
        min_value=0.01,
        value=None,
        key=f"limit-{number}",
        help="What the order's downloads may bring together, each second.",
    )
    return _Options(collection.strip(), sha256.strip(), None if limit is None else max(1024, int(limit * 1e6)))


def _start(form: dict[str, Any]) -> None:
    """Runs before the page is drawn again, so the button is already off when the work begins."""
    form["working"], form["problem"] = True, None


def _lines(text: str) -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _work(form: dict[str, Any], sources: list[str], files: list[UploadedFile], recipe: str, options: _Options) -> None:
    try:
        # A second click starts a second run of this script while the first still waits for the gateway.
        with st.spinner("Placing the order …"), form["lock"]:
            if form["order_id"] is None:
                wanted = _wanted(form["uploads"], sources, files, options.sha256)
                form["order_id"] = _place(form["secret"], wanted, _recipe(recipe), options)
    except HeadraceError as error:
        form["problem"] = error
    else:
        st.session_state["placed"] = form["order_id"]
        st.session_state["form"] = _new_form(form["number"] + 1)
    form["working"] = False
    st.rerun()


def _wanted(
    uploads: dict[str, str], sources: list[str], files: list[UploadedFile], sha256: str
) -> list[dict[str, Any]]:
    """Return the order's sources, with the files uploaded; raises where the form can't be an order."""
    count = len(sources) + len(files)
    if count == 0:
        raise InvalidRequest("there is nothing to order", hint="Give at least one URL, or pick a file.")
    if sha256 and count != 1:
        raise InvalidRequest(f"a SHA-256 goes with exactly one source, and these are {count}")
    for file in files:
        if file.file_id not in uploads:
            uploads[file.file_id] = _upload(file)
    names = sources + [uploads[file.file_id] for file in files]
    return [{"source": name, "sha256": sha256 or None} for name in names]


def _upload(file: UploadedFile) -> str:
    """Send a picked file to the gateway; returns the source that names it there."""
    if file.size == 0:
        raise InvalidRequest(f"{file.name} is empty", hint="There is nothing to take in.")
    name = file.name.replace("\0", "").replace("\\", "/").rpartition("/")[2].lstrip(".") or "upload"
    short = name.encode()[-NAME_BYTES:].decode(errors="ignore")  # the end, for the extension
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
        path = Path(folder) / short
        path.write_bytes(file.getbuffer())
        return str(gateway().upload(path)["source"])


def _recipe(text: str) -> Any:
    """Return a recipe's name, or the mapping that its YAML is; raises ``InvalidRecipe``."""
    if text in RECIPES:
        return text
    if len(text) > recipes.MAX_RECIPE_BYTES:
        raise InvalidRecipe("this is too long for a recipe")
    try:
        body = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidRecipe(f"the recipe is not YAML: {error}", hint="Compare it with the example.") from error
    if not isinstance(body, dict):
        raise InvalidRecipe("a recipe is a mapping of settings", hint="Compare it with the example.")
    return recipes.parse(body).model_dump(mode="json")


def _place(secret: str, wanted: list[dict[str, Any]], recipe: Any, options: _Options) -> str:
    content = json.dumps([wanted, recipe, asdict(options)], sort_keys=True).encode()
    key = f"dashboard-{secret}-{hashlib.blake2b(content, digest_size=8).hexdigest()}"
    order = gateway().place(
        wanted, recipe, key=key, collection=options.collection, bytes_per_second=options.bytes_per_second
    )
    return str(order["order_id"])


@st.fragment(run_every=REFRESH_SECONDS)
def _placed(order_id: str) -> None:
    """Draw the order that this form made, as it goes on."""
    with problems_shown():
        order = gateway().get(f"/v1/orders/{order_id}")
        items = order["item_list"]
        ended = sum(item["state"] in FINAL for item in items)
        words = "is done" if ended == len(items) else "is placed"
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**Your order {words}**: {ended} of {counted(len(items), 'item')} ended.", width="content")
            link("now", "Now: everything at work")
            link("library")
        show_order(order_id, items, f"recipe {plain(order['recipe'])}", "placed")
