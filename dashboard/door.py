"""The dashboard's door to the gateway, and what people see where it does not open.

1. Every page and every fragment calls the gateway inside ``problems_shown()``, so a gateway
   that is away is one clear message and never a trace.
2. An act that changes something says so, or says why not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from dashboard.words import plain, reason
from headrace import settings
from headrace.client import Gateway
from headrace.errors import HeadraceError, NotAllowed, StackError

WHAT_TO_DO = {
    StackError: "Start the stack with `headrace up`, or see with `headrace status` which part is down. "
    "Then reload this page.",
    NotAllowed: "The dashboard reads the gateway's address and token from `HEADRACE_URL` and `HEADRACE_TOKEN`, "
    "or from the running home (`HEADRACE_HOME`). Set them, and start the dashboard again.",
}


def gateway() -> Gateway:
    """Return the gateway that the settings name; raises ``NotAllowed`` where no token is known."""
    found = settings.load()
    return _connect(found.url, found.token.get_secret_value())


@st.cache_resource(max_entries=4, show_spinner=False)
def _connect(url: str, token: str) -> Gateway:
    """One client for each address and token, so that connections are kept; a new token makes a new one."""
    return Gateway(url, token)


@contextmanager
def problems_shown() -> Iterator[None]:
    """Show an error of the block as a message with what to do next."""
    try:
        yield
    except HeadraceError as error:
        show_problem(error)


def show_problem(error: HeadraceError) -> None:
    """Show an error: what happened, and what to do next."""
    todo = next((text for kind, text in WHAT_TO_DO.items() if isinstance(error, kind)), None)
    if todo is None:
        st.error(reason({"message": error.message, "hint": error.hint}))
    else:
        st.error(f"**{reason({'message': error.message})}**\n\n{todo}")


@st.dialog("Please confirm")
def confirm(question: str, label: str, act: Callable[[], str]) -> None:
    """Ask before ``act``, which returns what it did; ``question`` is harmless Markdown."""
    st.markdown(question)
    if not st.button(label, type="primary", key="confirm"):
        return
    with problems_shown():
        tell_after_rerun(act())
        st.rerun()


def tell_after_rerun(message: str) -> None:
    """Show a short message once the page is drawn again."""
    st.session_state["told"] = message


def show_told() -> None:
    """Show what ``tell_after_rerun`` left."""
    if message := st.session_state.pop("told", None):
        st.toast(plain(message))


def zone() -> tzinfo:
    """Return the browser's time zone."""
    try:
        return ZoneInfo(st.context.timezone or "UTC")
    except ZoneInfoNotFoundError:
        return UTC
