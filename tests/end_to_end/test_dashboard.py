"""The dashboard in a real browser: what people do on each page, and what hostile text must not do there."""

from __future__ import annotations

import os
import re
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


@pytest.fixture
def page(stack, chromium):
    """The dashboard's first page, in a session of its own; at the end nothing may have gone wrong in it."""
    with stack.api() as api:
        url = api.get("/v1/system").json()["dashboard_url"]
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, base_url=url)
    made = context.new_page()
    seen = Seen(made)
    made.goto("/")
    made.get_by_role("heading", name="Now").wait_for()
    yield made
    assert made.get_by_test_id("stException").count() == 0
    context.close()
    assert seen.wrong == []


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    """A server with films of our own."""
    folder = tmp_path_factory.mktemp("dashboard")
    films.film(folder / "river.mp4", seconds=3)
    films.film(folder / "brook.mp4", seconds=1, size="160x90")
    with serving(folder) as server:
        yield server


def go(page, name):
    """Choose a page in the navigation."""
    page.get_by_test_id("stTopNavLink").filter(has_text=re.compile(f"^{name}$")).click()
    page.get_by_role("heading", name=name, level=1).wait_for()


def place(page, *urls, recipe="web"):
    """Fill in the form of a new order, without sending it."""
    go(page, "New order")
    if recipe != "web":
        page.get_by_test_id("stRadio").get_by_text(recipe, exact=True).click()
    page.get_by_label("URLs, one a line").fill("\n".join(urls))


def read(page):
    """Return all text of the page as people read it."""
    return page.evaluate("document.body.innerText").replace(WORD_JOINER, "")


def items_of(stack, source):
    """Return the items of a source."""
    with stack.api() as api:
        return [item for item in api.get("/v1/items").json() if item["source"] == source]


@pytest.mark.browser
def test_a_film_is_ordered_found_and_played(stack, web, page):
    """URL → New order → published there; in the Library with its poster; it plays on the Asset page."""
    place(page, web.url + "/files/river.mp4")
    page.get_by_role("button", name="Place order").click()
    page.get_by_text("Your order is done").wait_for(timeout=ENDS_MS)
    assert "published" in read(page)
    go(page, "Library")
    page.get_by_label("Search").fill("river")
    page.keyboard.press("Enter")
    page.get_by_text("1 asset for").wait_for()
    poster = page.get_by_test_id("stImage").locator("img")
    poster.wait_for()
    page.wait_for_function("image => image.naturalWidth > 0", arg=poster.element_handle())
    page.get_by_role("link", name="river").click()
    page.wait_for_url("**/asset?asset=*")
    page.get_by_role("heading", name="Renditions").wait_for()
    video = page.frame_locator("iframe").locator("video")
    video.evaluate("video => { video.muted = true; return video.play() }")
    video.evaluate("video => new Promise(done => { video.ontimeupdate = () => video.currentTime > 0.5 && done() })")
    asset = items_of(stack, web.url + "/files/river.mp4")[0]["asset_id"]
    assert asset in page.url
    assert asset in read(page)


@pytest.mark.browser
def test_two_clicks_make_one_order(stack, web, page):
    """Two clicks in the same instant, and a third one, are one order."""
    source = web.url + "/files/brook.mp4?twice"
    place(page, source, recipe="archive")
    button = page.get_by_role("button", name="Place order")
    page.get_by_label("URLs, one a line").blur()
    button.evaluate("button => { button.click(); button.click(); setTimeout(() => button.click(), 30) }")
    page.get_by_text("Your order is done").wait_for(timeout=ENDS_MS)
    page.wait_for_timeout(1000)
    assert len(items_of(stack, web.url + "/files/brook.mp4?twice")) == 1


@pytest.mark.browser
def test_a_picked_file_with_a_hostile_name_is_only_text(stack, web, page):
    """A file is uploaded and archived; its name does nothing on any page that shows it."""
    go(page, "New order")
    page.get_by_test_id("stRadio").get_by_text("archive", exact=True).click()
    body = (web.folder / "brook.mp4").read_bytes() + b"hostile"
    name = HOSTILE.replace("/", "") + ".mp4"
    page.locator("input[type=file]").set_input_files([{"name": name, "mimeType": "video/mp4", "buffer": body}])
    page.get_by_text(re.compile(r"^\d.*KB$")).wait_for()
    page.get_by_role("button", name="Place order").click()
    page.get_by_text("Your order is done").wait_for(timeout=ENDS_MS)
    with stack.api() as api:
        (asset,) = [one for one in api.get("/v1/assets").json() if "javascript" in one["title"]]
    for path in ("/", "/library", f"/asset?asset={asset['asset_id']}"):
        page.goto(path)
        page.get_by_text("bold").first.wait_for()
        assert HOSTILE[:55] in read(page)
        assert page.locator("a[href^=javascript], img[src=x], main strong:text-is('bold'), .katex").count() == 0
        assert page.locator("a[href*='evil.example'], a[href^=mailto]").count() == 0


@pytest.mark.browser
def test_a_failed_source_says_why_and_can_be_tried_again(stack, web, page):
    """Now shows the reason and the hint; Retry queues it again."""
    place(page, web.url + "/missing", "not a url")
    page.get_by_role("button", name="Place order").click()
    page.get_by_text("is neither an http(s) URL").wait_for()
    page.get_by_label("URLs, one a line").fill(web.url + "/missing")
    page.get_by_role("button", name="Place order").click()
    page.get_by_text("Your order is done").wait_for(timeout=ENDS_MS)
    page.get_by_role("link", name="Now: everything at work").click()
    failed = page.get_by_test_id("stVerticalBlock").filter(has_text="/missing").last
    failed.get_by_text("The server answers 404").wait_for()
    assert "Check the address" in read(page)
    page.get_by_role("button", name="Retry").first.click()
    page.get_by_text("1 item queued again").wait_for()


@pytest.mark.browser
def test_an_asset_is_deleted_after_a_question_and_comes_back(stack, web, page):
    """Delete asks first; the page of what was deleted offers Restore."""
    source = web.url + "/files/brook.mp4?kept"
    (item,) = _archived(stack, source)
    page.goto(f"/asset?asset={item['asset_id']}")
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Restore").click()
    page.get_by_text("The asset is back in the library").wait_for()
    page.get_by_role("button", name="Delete", exact=True).wait_for()
    for words in ("BLAKE3", "SHA-256", "First seen", "headrace get " + item["asset_id"][:16], "brook.mp4"):
        assert words in read(page)


def _archived(stack, source):
    """Order a source under ``archive`` and wait for its item."""
    assert stack.cli("ingest", "--wait", "--recipe", "archive", source).returncode == 0
    return items_of(stack, source)


@pytest.mark.browser
def test_a_feed_is_added_and_removed(web, page):
    """A feed is listed with when it is read; removing asks first."""
    web.feeds["/feed-for-people"] = ("application/rss+xml", b"<rss><channel></channel></rss>", '"1"')
    go(page, "Feeds")
    page.get_by_label("Address").fill(web.url + "/feed-for-people")
    page.get_by_role("button", name="Watch").click()
    page.get_by_text("is watched, every 15 minutes").wait_for()
    page.get_by_text("0 entries seen").wait_for()
    page.get_by_role("button", name="Remove").last.click()
    page.get_by_role("button", name="Stop watching").click()
    page.get_by_text("is not watched any more").wait_for()
    page.get_by_text("0 entries seen").wait_for(state="hidden")


@pytest.mark.browser
def test_every_page_is_shown(page):
    """Each page of the navigation has its heading and no error; System names what runs."""
    for name in ("New order", "Library", "Feeds", "System", "Now"):
        go(page, name)
        page.wait_for_timeout(300)
        assert page.get_by_test_id("stAlertContentError").count() == 0
    go(page, "System")
    page.get_by_text("headrace-cpu").first.wait_for()
    shown = read(page)
    assert all(word in shown for word in ("Postgres", "Object store", "Prefect", "headrace-io", "online", "gateway at"))


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
