"""The pages and the links between them.

Streamlit knows a page by its path, so a ``st.Page`` may be made anew wherever a link is
drawn; pages are imported when they are shown, and none needs to import another.
"""

from __future__ import annotations

import importlib
from functools import partial

import streamlit as st
from streamlit.navigation.page import StreamlitPage

TITLES = {
    "now": "Now",
    "new_order": "New order",
    "library": "Library",
    "feeds": "Feeds",
    "system": "System",
    "asset": "Asset",
}
"""Module in this package, and path in the address → title."""


def page(name: str) -> StreamlitPage:
    """Return a page; the asset's has no place of its own in the navigation."""
    return st.Page(
        partial(_show, name),
        title=TITLES[name],
        url_path=name,
        default=name == "now",
        visibility="hidden" if name == "asset" else "visible",
    )


def _show(name: str) -> None:
    importlib.import_module(f"dashboard.{name}").show()


def link(name: str, label: str | None = None) -> None:
    """Draw a link to a page; ``label`` is harmless Markdown."""
    st.page_link(page(name), label=label or TITLES[name])


def link_asset(asset_id: str, label: str) -> None:
    """Draw a link to an asset's page; ``label`` is harmless Markdown."""
    st.page_link(page("asset"), label=label or asset_id[:12], query_params={"asset": asset_id})
