"""The dashboard in a real browser: what people do on each page, and what hostile text must not do there.

While a page runs again, Streamlit holds an element that was and the same one that is side by
side for a moment; ``shows`` waits until there are exactly as many as there should be.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from dashboard.words import ago, counted, every, plain, progress_words
from tests.engine import films
from tests.servers import serving

CHROMIUM = Path(os.environ.get("HEADRACE_TEST_CHROMIUM") or "/usr/bin/chromium")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --autoplay-policy=no-user-gesture-required"
)
HOSTILE = "**bold** [x](javascript:alert(1)) <img src=x onerror=alert(1)> :smile: $x$ `y` www.evil.example a@b.c"
ENDS_MS = 60_000
"""Until a small film is published, on a machine that is busy with other tests."""
LOADS_MS = 30_000
"""Until a page shows what it should, there too."""
APP = Path(__file__).resolve().parent.parent.parent / "dashboard" / "app.py"
WORD_JOINER = "\u2060"


class Seen:
    """What a page did that it must not do."""

    def __init__(self, page):
        self.wrong = []
        page.set_default_timeout(20_000)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.wrong.append(f"uncaught: {error}"))
        page.on("dialog", lambda dialog: (self.wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", self._request)

    def _console(self, message):
        # On a deep link Streamlit's client first asks for /PAGE/_stcore/…, gets 404, and then finds the root.
        if message.type == "error" and "/_stcore/" not in message.location.get("url", ""):
            self.wrong.append(f"console: {message.text}")

    def _request(self, request):
        if request.url.startswith(("http:", "https:", "ws:")) and urlsplit(request.url).hostname != "127.0.0.1":
            self.wrong.append(f"outside: {request.url}")


@pytest.fixture(scope="module")
def chromium():
    """A browser for the tests of this file."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is absent (HEADRACE_TEST_CHROMIUM)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@contextmanager
def visiting(stack, browser):
    """The dashboard's first page, in a session of its own; at the end nothing may have gone wrong in it."""
    with stack.api() as api:
        url = api.get("/v1/system").json()["dashboard_url"]
    context = browser.new_context(viewport={"width": 1280, "height": 900}, base_url=url)
    made = context.new_page()
    seen = Seen(made)
    made.goto("/")
    made.get_by_role("heading", name="Now").wait_for()
    yield made
    assert made.get_by_test_id("stException").count() == 0
    context.close()
    assert seen.wrong == []


@pytest.fixture
def page(stack, chromium):
    """The dashboard's first page."""
    with visiting(stack, chromium) as made:
        yield made


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    """A server with a film of our own."""
    folder = tmp_path_factory.mktemp("dashboard")
    films.film(folder / "river.mp4", seconds=3, size="160x90")
    films.film(folder / "brook.mp4", seconds=1, size="160x90")
    with serving(folder) as server:
        yield server


@pytest.fixture(scope="module")
def ordered(stack, web, chromium):
    """The items of one order through the form, sent with three clicks: a film, a picked file, and what is missing."""
    name = HOSTILE.replace("/", "") + ".mp4"
    picked = {"name": name, "mimeType": "video/mp4", "buffer": (web.folder / "brook.mp4").read_bytes()}
    with visiting(stack, chromium) as page:
        go(page, "New order")
        page.locator("input[type=file]").set_input_files([picked])
        shows(1, page.get_by_text(re.compile(r"^\d.*KB$")))
        page.get_by_label("URLs, one a line").fill(f"{web.url}/files/river.mp4\n\n{web.url}/missing")
        page.get_by_role("button", name="Place order").evaluate(
            "button => { button.click(); button.click(); setTimeout(() => button.click(), 30) }"
        )
        shows(1, page.get_by_text("Your order is done: 3 of 3 items ended"), ENDS_MS)
    with stack.api() as api:
        items = api.get("/v1/items").json()
    return [item for item in items if item["source"].startswith(web.url) or (item["title"] or "")[:8] == HOSTILE[:8]]


def shows(count, locator, timeout=LOADS_MS):
    """Wait until exactly so many elements that match are visible; fail where that doesn't come."""
    sync_api = pytest.importorskip("playwright.sync_api")
    sync_api.expect(locator.filter(visible=True)).to_have_count(count, timeout=timeout)


def go(page, name):
    """Choose a page in the navigation."""
    page.get_by_test_id("stTopNavLink").filter(has_text=re.compile(f"^{name}$")).click()
    shows(1, page.get_by_role("heading", name=name, level=1))


def read(page):
    """Return all text of the page as people read it."""
    return page.evaluate("document.body.innerText").replace(WORD_JOINER, "")


def asset_of(items, beginning):
    """Return the asset of the item whose source begins so."""
    return next(item["asset_id"] for item in items if item["source"].startswith(beginning))


@pytest.mark.browser
def test_three_clicks_make_one_order(ordered):
    """However fast the button is pressed: one order with its three items, two of them published."""
    assert len({item["order_id"] for item in ordered}) == 1
    assert sorted(item["state"] for item in ordered) == ["failed", "published", "published"]


@pytest.mark.browser
def test_a_film_is_found_and_played(web, ordered, page):
    """It has its poster in the Library, and plays in the frame on its Asset page."""
    go(page, "Library")
    page.get_by_label("Search").fill("river")
    page.keyboard.press("Enter")
    shows(1, page.get_by_text("1 asset for"))
    asset_id = asset_of(ordered, web.url + "/files/river")
    poster = page.locator(f".st-key-tile-{asset_id} img")
    poster.wait_for()
    page.wait_for_function("image => image.naturalWidth > 0", arg=poster.element_handle())
    page.get_by_role("link", name="river").click()
    page.wait_for_url("**/asset?asset=" + asset_id)
    shows(1, page.get_by_role("heading", name="Renditions"))
    video = page.frame_locator("iframe").locator("video")
    video.evaluate("video => { video.muted = true; video.play() }")
    deadline = time.monotonic() + 20
    while video.evaluate("video => video.currentTime") < 0.5:
        assert time.monotonic() < deadline, "it does not play"
        page.wait_for_timeout(100)


@pytest.mark.browser
@pytest.mark.parametrize("path", ["/", "/library", "/asset?asset="])
def test_a_hostile_name_is_only_text(ordered, page, path):
    """The picked file's name does nothing on any page that shows it."""
    page.goto(path + (asset_of(ordered, "upload:") if path.endswith("=") else ""))
    page.get_by_text("bold").first.wait_for()
    assert HOSTILE[:45] in read(page)
    assert page.locator("a[href^=javascript], img[src=x], main strong:text-is('bold'), .katex").count() == 0
    assert page.locator("a[href*='evil.example'], a[href^=mailto]").count() == 0


@pytest.mark.browser
def test_a_failed_source_says_why_and_can_be_tried_again(ordered, page):
    """Now shows the reason and the hint; Retry queues the item again."""
    page.get_by_text("The server answers 404").first.wait_for()
    assert "Check the address" in read(page)
    (order_id,) = {item["order_id"] for item in ordered}
    failed = page.locator(f".st-key-lost-{order_id}")
    assert "/missing" in failed.inner_text()
    failed.get_by_role("button", name="Retry").click()
    shows(1, page.get_by_text("1 item queued again"))


@pytest.mark.browser
def test_a_wrong_form_says_what_is_wrong_and_keeps_what_was_typed(page):
    """Nothing is ordered, and the text is still there to be put right."""
    go(page, "New order")
    for text, message in (("not a url", "is neither an http(s) URL"), ("", "There is nothing to order")):
        page.get_by_label("URLs, one a line").fill(text)
        page.get_by_role("button", name="Place order").click()
        shows(1, page.get_by_text(message))
        assert page.get_by_label("URLs, one a line").input_value() == text


@pytest.mark.browser
def test_an_asset_is_deleted_after_a_question_and_comes_back(ordered, page):
    """Delete asks first; the page of what was deleted offers Restore."""
    asset_id = asset_of(ordered, "upload:")
    page.goto(f"/asset?asset={asset_id}")
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Restore").click()
    shows(1, page.get_by_text("The asset is back in the library"))
    shows(1, page.get_by_role("button", name="Delete", exact=True))
    shows(1, page.get_by_role("heading", name="History"))
    shows(1, page.get_by_text("Brought back into the library"))
    shown = read(page)
    assert all(word in shown for word in ("BLAKE3", "SHA-256", "First seen", "headrace get " + asset_id[:16]))


@pytest.mark.browser
def test_a_feed_is_added_and_removed(web, page):
    """A feed is listed with when it is read; removing asks first."""
    web.feeds["/feed-for-people"] = ("application/rss+xml", b"<rss><channel></channel></rss>", '"1"')
    go(page, "Feeds")
    page.get_by_label("Address").fill(web.url + "/feed-for-people")
    page.get_by_role("button", name="Watch").click()
    shows(1, page.get_by_text("is watched, every 15 minutes"))
    shows(1, page.get_by_text("0 entries seen"))
    page.get_by_role("button", name="Remove").last.click()
    page.get_by_role("button", name="Stop watching").click()
    shows(1, page.get_by_text("is not watched any more"))
    shows(0, page.get_by_text("0 entries seen"))


@pytest.mark.browser
def test_every_page_is_shown(page):
    """Each page of the navigation has its heading and no error; System names what runs."""
    for name in ("New order", "Library", "Feeds", "System", "Now"):
        go(page, name)
        page.wait_for_timeout(300)
        assert page.get_by_test_id("stAlertContentError").count() == 0
    go(page, "System")
    shows(1, page.get_by_text("gateway at"))
    shown = read(page)
    assert all(
        word in shown for word in ("Postgres", "Object store", "Prefect", "headrace-io", "headrace-cpu", "online")
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"HEADRACE_URL": "http://127.0.0.1:9", "HEADRACE_TOKEN": "x"}, "does not answer"),
        ({"HEADRACE_URL": "http://127.0.0.1:9", "HEADRACE_TOKEN": ""}, "No token is known"),
    ],
)
def test_without_a_gateway_one_message_says_what_to_do(tmp_path, monkeypatch, settings, message):
    """Where nothing answers, or no token is known, a page is a message and no trace."""
    for name, value in {"HEADRACE_HOME": str(tmp_path), **settings}.items():
        monkeypatch.setenv(name, value)
    shown = AppTest.from_file(str(APP), default_timeout=20).run()
    assert not shown.exception
    (error,) = shown.error
    assert message in error.value
    assert "HEADRACE_TOKEN" in error.value or "headrace up" in error.value


@given(st.text(max_size=200))
def test_plain_changes_nothing_that_is_read(text):
    """Whatever comes in, all of its visible characters come out, and every punctuation is escaped."""
    made = plain(text, 1000)
    unescaped = re.sub(r"\\(.)", r"\1", made)
    assert [c for c in unescaped if c.isprintable() and c != " "] == [c for c in text if c.isprintable() and c != " "]
    assert re.sub(r"\\[!-/:-@\[-`{-~]", "", made) == re.sub(r"[!-/:-@\[-`{-~]", "", made)
    assert "\n" not in made


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (None, ""),
        ("*a* _b_", r"\*a\* \_b\_"),
        ("[x](javascript:1)", "\\[x\\]\\(javascript\\:\u20601\\)"),
        ("<b>", r"\<b\>"),
        (":red[x]", "\\:\u2060red\\[x\\]"),
        ("a@b.c", "a\u2060\\@b\\.c"),
        ("# one\n\n- two", r"\# one \- two"),
        ("\u202egnp.exe", r"gnp\.exe"),
        ("x" * 200, "x" * 159 + "…"),
    ],
)
def test_plain(text, shown):
    """Markdown, directives, addresses, line ends and turned text are shown, not obeyed."""
    assert plain(text) == shown


def test_words_for_people():
    """Times, intervals, counts and progress are said as people say them."""
    item = {"state": "transcoding", "percent": 50.0, "speed": 1.25, "eta_seconds": 65, "attempts": 0}
    assert progress_words(item) == "Transcoding · 62 % · 1.2 × real time · 1:05 left"
    assert progress_words(item | {"percent": None}) == "Waiting for an encoder"
    assert (
        progress_words(item | {"state": "downloading", "speed": 2.5e6}) == "Downloading · 12 % · 2.5 MB/s · 1:05 left"
    )
    assert (every(900), every(86400), every(90)) == ("15 min", "1 d", "90 s")
    assert (counted(1, "item"), counted(2000, "entry", "entries")) == ("1 item", "2,000 entries")
    assert ago(None) == "never"
