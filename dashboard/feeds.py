"""Feeds: what is watched, when it was last read, and what went wrong."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard.door import confirm, gateway, problems_shown, show_problem
from dashboard.words import ago, counted, every, plain, reason
from headrace.errors import HeadraceError

REFRESH_SECONDS = 5.0
INTERVALS = {"5 minutes": 300, "15 minutes": 900, "1 hour": 3600, "6 hours": 21600, "1 day": 86400}
RECIPES = ("web", "archive", "audio")


def show() -> None:
    """Draw the page."""
    st.title("Feeds")
    st.markdown(
        "A feed is read again and again, and what is new in it is ordered: RSS, Atom, a podcast, a web "
        "page with links to media, a bucket of the object store (`s3://BUCKET/PREFIX/`), or a folder that the "
        "operator has opened (`file:///FOLDER/`)."
    )
    _add()
    _list()


def _add() -> None:
    with st.form("feed", clear_on_submit=False):
        columns = st.columns([5, 2, 2, 1], vertical_alignment="bottom")
        url = columns[0].text_input("Address", placeholder="https://example.org/podcast.xml")
        interval = columns[1].selectbox("Read every", list(INTERVALS), index=1)
        recipe = columns[2].selectbox("Recipe", RECIPES)
        pressed = columns[3].form_submit_button("Watch", type="primary", width="stretch")
    if not pressed:
        return
    if not url.strip():
        st.error("Give the feed's address.")
        return
    try:
        gateway().post("/v1/feeds", {"url": url.strip(), "every_seconds": INTERVALS[interval], "recipe": recipe})
    except HeadraceError as error:
        show_problem(error)
    else:
        st.success(f"{plain(url)} is watched, every {interval}.")


@st.fragment(run_every=REFRESH_SECONDS)
def _list() -> None:
    with problems_shown():
        feeds: list[dict[str, Any]] = gateway().get("/v1/feeds")
        if not feeds:
            with st.container(border=True):
                st.subheader("No feed is watched")
                st.markdown("Give an address above; what it names now and later comes into the library by itself.")
        for feed in feeds:
            _feed(feed)


def _feed(feed: dict[str, Any]) -> None:
    with st.container(border=True), st.container(horizontal=True, vertical_alignment="center"):
        with st.container(gap="xsmall"):
            st.markdown(f"**{plain(feed['url'], 110)}**")
            words = (
                f"every {every(feed['every_seconds'])}",
                f"recipe {plain(feed['recipe'])}",
                counted(feed["entries"], "entry", "entries") + " seen",
                f"last read {ago(feed['last_checked_at'])}",
                f"next {ago(feed['next_check_at']) if feed['next_check_at'] else 'soon'}",
            )
            st.caption(" · ".join(words))
            if feed["error"]:
                st.markdown(f":red[{_problem(feed['error'])}]")
        if st.button("Remove", key=f"remove-{feed['feed_id']}"):
            confirm(
                f"Stop watching {plain(feed['url'], 300)}? What it brought stays in the library.",
                "Stop watching",
                lambda: _remove(feed["feed_id"]),
            )


def _problem(error: Any) -> str:
    return reason(error) if isinstance(error, dict) else plain(error, 400)


def _remove(feed_id: str) -> str:
    gateway().call("DELETE", f"/v1/feeds/{feed_id}")
    return "The feed is not watched any more."
