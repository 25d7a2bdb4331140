"""Playing in a real browser: the watch page, its menus, and nothing from outside."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

import pytest

from tests.browser import opened
from tests.engine import films
from tests.orders import ingest, wait_until
from tests.servers import serving

pytestmark = pytest.mark.browser


def until(page, expression, seconds=30):
    """Wait until an expression is true; the page's policy forbids what ``wait_for_function`` does (eval)."""
    wait_until(lambda: page.evaluate(f"() => Boolean({expression})"), seconds)


def play(page, seconds=2.0):
    """Start the film (muted, as browsers ask for) and return what the player says after a while."""
    until(page, "window.headrace.ready || window.headrace.errors.length > 0")
    # Not awaited: a film that stalls never answers, and must fail the wait below.
    page.evaluate("() => { const v = document.querySelector('video'); v.muted = true; v.play(); }")
    until(page, f"document.querySelector('video').currentTime > {seconds}")
    return page.evaluate(
        """() => { const v = document.querySelector('video'); const hls = window.headrace.hls; return {
            time: v.currentTime, duration: v.duration, width: v.videoWidth, height: v.videoHeight,
            frames: v.getVideoPlaybackQuality().totalVideoFrames, errors: window.headrace.errors,
            mediaError: v.error && v.error.message, levels: hls.levels.length, sounds: hls.audioTracks.length } }"""
    )


def test_a_published_film_plays_without_an_error(published):
    """Pictures are decoded, the console is silent, and every request goes to the gateway."""
    watch = published["playback"]["watch"]
    with opened(watch) as (page, seen):
        said = play(page, 0.5)
        assert said["errors"] == []
        assert said["mediaError"] is None
        assert said["frames"] > 5
        assert (said["width"], said["height"]) == (320, 180)
        assert abs(said["duration"] - 2.0) < 0.2
    assert seen.problems == []
    assert {urlsplit(url).netloc for url in seen.requests if url.startswith("http")} == {urlsplit(watch).netloc}


def test_the_storyboard_shows_what_is_coming(published):
    """Moving along the strip shows a tile and its time; a click goes there."""
    with opened(published["playback"]["watch"]) as (page, seen):
        play(page, 0.2)
        page.wait_for_selector("#strip:not([hidden])")
        box = page.locator("#strip").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 4)
        page.wait_for_selector("#preview:not([hidden])")
        assert page.locator("#when").inner_text() == "00:01"
        assert page.locator("#tile").bounding_box()["height"] > 40
        page.evaluate("document.querySelector('video').pause()")
        page.mouse.click(box["x"] + box["width"] / 4, box["y"] + 4)
        until(page, "Math.abs(document.querySelector('video').currentTime - 0.5) < 0.1")
    assert seen.problems == []


def test_a_link_that_is_not_good_says_so(stack, published):
    """A person sees a sentence, not a stack trace or an empty player."""
    with opened(f"{stack.url}/watch/{published['asset_id']}?t=1.x") as (page, _seen):
        assert page.locator("#problem").is_visible()
        assert "not valid" in page.locator("#problem").inner_text()
        assert not page.locator("video").is_visible()


def test_a_hostile_title_is_text(stack, tmp_path):
    """Markup in a file's name stays text, also inside the script's facts."""
    name = "</script><img src=x onerror=alert(1)>.mp4"
    films.film(tmp_path / "plain.mp4", seconds=1, size="160x90", more="-metadata title=hostile")
    with stack.api() as api:
        body = (tmp_path / "plain.mp4").read_bytes()
        source = api.post("/v1/uploads", params={"name": name}, content=body).json()["source"]
    (item,) = ingest(stack, source)
    with opened(item["playback"]["watch"]) as (page, seen):
        assert play(page, 0.2)["errors"] == []
        assert "onerror" in page.locator("#title").inner_text()
        assert page.locator("img").count() == 0
    assert seen.problems == []


@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_shared_film_plays_in_the_browser(stack):
    """Every good film and every audio file: decoded in Chromium without an error (the fault tests' films apart)."""
    folder = films.shared("INDEX.md").parent
    broken = {"st_broken.mp4", "decord_corrupted.mp4", "sample_missing_stsd.mp4"}
    names = sorted(path.name for path in folder.iterdir() if path.name not in {*broken, "INDEX.md"})
    with serving(folder) as server:
        found = ingest(stack, *(f"{server.url}/files/{name}" for name in names), timeout=800)
    with opened() as (page, seen):
        for item in found:
            page.goto(item["playback"]["watch"])
            duration = item["playback"]["duration_seconds"]
            seconds = duration if duration < 2 else 0.5  # short ones to their end: a buffer may end too early
            said = play(page, 0.9 * seconds)
            assert said["errors"] == [], item["source"]
            assert said["mediaError"] is None, item["source"]
            assert said["levels"] >= 1, item["source"]
            assert abs(said["duration"] - duration) < 0.5, (item["source"], said, duration)
            time.sleep(0.1)
    assert seen.problems == []
