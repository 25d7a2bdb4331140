"""The system's Chromium, as tests use it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

CHROMIUM = Path(os.environ.get("HEADRACE_TEST_CHROMIUM") or "/usr/bin/chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)


@dataclass
class Seen:
    """What happened in a page."""

    problems: list[str] = field(default_factory=list)
    """Errors of the console, of scripts, and requests that failed for another reason than being given up."""
    requests: list[str] = field(default_factory=list)


@contextmanager
def opened(url: str = "about:blank") -> Iterator[tuple[Page, Seen]]:
    """Open a page in a new browser; skips where there is none."""
    if not CHROMIUM.is_file():
        pytest.skip(f"{CHROMIUM} is absent: apt install chromium, or set HEADRACE_TEST_CHROMIUM")
    seen = Seen()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("console", lambda said: seen.problems.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: seen.problems.append(str(error)))
        page.on("request", lambda request: seen.requests.append(request.url))
        page.on(
            "requestfailed",
            lambda request: (
                seen.problems.append(f"{request.url}: {request.failure}")
                if request.failure != "net::ERR_ABORTED"
                else None
            ),
        )
        page.goto(url)
        try:
            yield page, seen
        finally:
            browser.close()
