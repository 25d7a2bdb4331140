"""The dashboard's entry: ``streamlit run dashboard/app.py``.

It is a client of the gateway and of nothing else. ``places.py`` names the pages, each a
file with a ``show()``; ``door.py`` speaks with the gateway; ``words.py`` makes outside
text harmless.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard import places
from dashboard.door import problems_shown, show_told

HERE = Path(__file__).parent


def main() -> None:
    """Draw the page that the address names."""
    st.set_option("client.showErrorDetails", "none")
    st.set_page_config(page_title="Headrace", layout="wide", page_icon=str(HERE / "logo.svg"))
    st.html(HERE / "style.css")
    st.logo(HERE / "logo.svg", size="large")
    chosen = st.navigation([places.page(name) for name in places.TITLES], position="top")
    show_told()
    with problems_shown():
        chosen.run()


main()
