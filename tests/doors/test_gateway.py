"""The gateway: who may do what, what comes back, and how errors read."""

from __future__ import annotations

import uuid

import httpx
import pytest

from gateway import byte_ranges
from gateway.playback import sign_children
from headrace import links

PROBLEM = "application/problem+json"


@pytest.fixture
def api(stack):
    with stack.api() as client:
        yield client


def assert_problem(reply, status, code):
    assert (reply.status_code, reply.headers["content-type"]) == (status, PROBLEM), reply.text
    body = reply.json()
    assert (body["code"], body["status"]) == (code, status)
    assert body["title"]
    return body


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/orders"),
        ("POST", "/v1/orders"),
        ("GET", "/v1/items"),
        ("POST", "/v1/uploads"),
        ("GET", "/v1/assets"),
        ("DELETE", "/v1/assets/abcdef"),
        ("GET", "/v1/assets/abcdef/original"),
        ("GET", "/v1/feeds"),
        ("GET", "/v1/system"),
        ("GET", "/v1/hosts"),
        ("POST", "/v1/hosts/archive.org:443/reset"),
        ("GET", "/v1/space"),
        ("GET", "/metrics"),
    ],
)
@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic eDp5", "Bearer"])
def test_without_the_token_nothing_is_told(stack, method, path, header):
    """Missing, wrong and of another kind: 401, and how to get one."""
    reply = httpx.request(method, stack.url + path, headers={"Authorization": header} if header else {})
    assert "settings.env" in assert_problem(reply, 401, "not_allowed")["hint"]
    assert reply.headers["www-authenticate"] == "Bearer"


def test_health_needs_no_token(stack):
    """It tells nothing but that it lives."""
    reply = httpx.get(stack.url + "/healthz")
    assert reply.status_code == 200
    assert set(reply.json()) == {"status", "version"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"sources": []}, "invalid_request"),
        ({}, "invalid_request"),
        ({"sources": ["http://h/a"], "recipe": "nope"}, "invalid_recipe"),
        ({"sources": ["http://h/a"], "recipe": {"video": {"heights": [0]}, "x": 1}}, "invalid_recipe"),
        ({"sources": ["/etc/passwd"]}, "invalid_source"),
        ({"sources": ["file:///etc/passwd"]}, "invalid_source"),
        ({"sources": ["s3://secret-bucket/film.mp4"]}, "invalid_source"),
        ({"sources": ["http://ada:love@h/a"]}, "invalid_source"),
        ({"sources": [{"source": "http://h/a", "sha256": "x"}]}, "invalid_request"),
        ({"sources": ["http://h/a"], "unknown": 1}, "invalid_request"),
        ({"sources": ["http://h/a"], "key": ""}, "invalid_request"),
    ],
)
def test_a_bad_order_is_a_problem_document(api, body, code):
    """It says which field and what would be right, and nothing is ordered."""
    before = len(api.get("/v1/orders").json())
    assert_problem(api.post("/v1/orders", json=body), 422, code)
    assert len(api.get("/v1/orders").json()) == before


def test_a_feed_with_a_login_is_not_watched(api):
    """Its address would be stored."""
    body = assert_problem(api.post("/v1/feeds", json={"url": "https://ada:love@h/feed"}), 422, "invalid_source")
    assert "credential" in body["hint"]
    assert "love" not in str(body)


@pytest.mark.parametrize("source", [f"upload:{uuid.uuid4()}", "asset:abcdef123456"])
def test_what_does_not_exist_can_not_be_ordered(api, source):
    """An unknown upload and an unknown asset are 404 at once."""
    assert_problem(api.post("/v1/orders", json={"sources": [source]}), 404, "not_found")


def test_the_same_key_is_the_same_order(api):
    """Again with the same body 200 and the same order; with another body 409."""
    key = str(uuid.uuid4())
    body = {"sources": ["http://127.0.0.1:9/x"], "recipe": "archive"}
    first = api.post("/v1/orders", json=body, headers={"Idempotency-Key": key})
    again = api.post("/v1/orders", json={**body, "key": key})
    other = api.post("/v1/orders", json={**body, "recipe": "web", "key": key})
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["order_id"] == again.json()["order_id"]
    assert first.headers["location"] == f"/v1/orders/{first.json()['order_id']}"
    assert_problem(other, 409, "conflict")
    assert api.post(f"/v1/orders/{first.json()['order_id']}/cancel").status_code == 200


def test_exit_statuses_on_the_command_line(stack):
    """2 usage, 4 not found, 5 not allowed, 6 conflict: each with one clear line."""
    key = str(uuid.uuid4())
    for words, status in (
        (("ingest",), 2),
        (("ingest", "ftp://h/x"), 2),
        (("ingest", "http://h/x", "--recipe", "nope"), 2),
        (("ingest", "http://h/x", "http://h/y", "--sha256", "0" * 64), 2),
        (("ingest", "/no/such/file"), 2),
        (("show", "abcdef123456"), 4),
        (("cancel", str(uuid.uuid4())), 4),
        (("ingest", "http://127.0.0.1:9/x", "--key", key, "--recipe", "archive"), 0),
        (("ingest", "http://127.0.0.1:9/y", "--key", key, "--recipe", "archive"), 6),
    ):
        done = stack.cli(*words)
        assert done.returncode == status, (words, done.stderr)
        assert "Traceback" not in done.stderr
    wrong = stack.cli("items", "--url", "http://127.0.0.1:9")
    assert wrong.returncode == 1
    assert "headrace up" in wrong.stderr


def test_uploads_are_checked(api):
    """An empty body and a wrong checksum are refused; a hostile name becomes a label."""
    assert_problem(api.post("/v1/uploads", content=b""), 422, "invalid_request")
    wrong = api.post("/v1/uploads", params={"sha256": "0" * 64}, content=b"x")
    assert_problem(wrong, 422, "checksum_mismatch")
    good = api.post("/v1/uploads", params={"name": "../../etc/passwd"}, content=b"x")
    assert good.status_code == 202
    assert good.json()["name"] == "passwd"
    assert good.json()["source"] == "upload:" + good.json()["upload_id"]


def test_unknown_paths_are_problems_too(api):
    """A person who mistypes gets the same kind of answer."""
    assert_problem(api.get("/v1/nothing"), 404, "not_found")
    assert_problem(api.get("/v1/items", params={"state": "dancing"}), 422, "invalid_request")
    assert_problem(api.get("/v1/orders/not-a-uuid"), 422, "invalid_request")


# Playback


def test_media_is_served_with_right_ranges_and_types(published):
    """206 with the right bytes, 416 beyond the end, 304 for what is known, HEAD without a body."""
    master = httpx.get(published["playback"]["hls"])
    assert master.headers["content-type"] == "application/vnd.apple.mpegurl"
    assert httpx.get(published["playback"]["dash"]).headers["content-type"] == "application/dash+xml"
    folder = published["playback"]["hls"].rsplit("/", 1)[0]
    name = next(line for line in master.text.splitlines() if line.endswith(".m3u8") and not line.startswith("#"))
    playlist = httpx.get(f"{folder}/{name}").text
    film = f"{folder}/" + next(line for line in playlist.splitlines() if line.endswith(".mp4"))
    whole = httpx.get(film)
    assert (whole.status_code, whole.headers["content-type"]) == (200, "video/mp4")
    part = httpx.get(film, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole.content)}"
    tail = httpx.get(film, headers={"Range": "bytes=-5"})
    assert tail.content == whole.content[-5:]
    beyond = httpx.get(film, headers={"Range": f"bytes={len(whole.content)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(whole.content)}")
    assert httpx.get(film, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304
    head = httpx.head(film)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(whole.content)), b"")
    assert "immutable" in whole.headers["cache-control"]
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["access-control-allow-origin"] == "*"


def test_media_needs_a_signed_address(stack, published):
    """Another token, another publication, an expired one, or a file that is not published: refused."""
    base, _, rest = published["playback"]["hls"].partition("/media/")
    publication, token, _ = rest.split("/")
    subject, key = links.media_subject(publication), stack.settings["HEADRACE_SIGNING_KEY"]
    expired = links.sign(key, subject, -10)
    assert_problem(httpx.get(f"{base}/media/{publication}/1.x/master.m3u8"), 401, "not_allowed")
    assert_problem(httpx.get(f"{base}/media/{uuid.uuid4()}/{token}/master.m3u8"), 401, "not_allowed")
    assert_problem(httpx.get(f"{base}/media/{publication}/{expired}/master.m3u8"), 401, "not_allowed")
    for name in ("report.json", "nothing.mp4", "..%2f..%2fsecret", "%00"):
        assert httpx.get(f"{base}/media/{publication}/{token}/{name}").status_code in {404, 405}


def test_the_watch_page_needs_a_signed_link(stack, published):
    """Without one it says so, politely, and shows nothing of the film."""
    good = httpx.get(published["playback"]["watch"])
    assert good.status_code == 200
    assert "script-src 'self'" in good.headers["content-security-policy"]
    for address in (
        f"{stack.url}/watch/{published['asset_id']}",
        published["playback"]["watch"][:-2] + "xx",
        f"{stack.url}/watch/{'0' * 64}?t=1.x",
    ):
        bad = httpx.get(address)
        assert bad.status_code == 403
        assert "own" not in bad.text.split("<script")[0].replace("unknown", "").split("<title>")[1].split("·")[0]


def test_the_original_comes_back(api, published):
    """Whole, by range, with a safe name, never to be shown in the page."""
    path = f"/v1/assets/{published['asset_id']}/original"
    whole = api.get(path)
    assert (whole.status_code, len(whole.content)) == (200, published["size_bytes"])
    assert whole.headers["content-disposition"].startswith("attachment; filename*=UTF-8''own.mp4")
    assert api.get(path, headers={"Range": "bytes=5-9"}).content == whole.content[5:10]
    assert whole.headers["etag"] == f'"{published["asset_id"]}"'


def test_deleting_and_bringing_back(stack, api, published):
    """A deleted asset can't be found or watched; undone, it plays as before."""
    asset = published["asset_id"]
    assert stack.cli("delete", asset).returncode == 0
    assert asset not in [one["asset_id"] for one in api.get("/v1/assets").json()]
    assert httpx.get(published["playback"]["watch"]).status_code == 404
    assert stack.cli("play", asset).returncode == 4
    assert stack.cli("delete", asset, "--undo").returncode == 0
    assert httpx.get(published["playback"]["watch"]).status_code == 200
    kinds = [event["kind"] for event in api.get(f"/v1/assets/{asset}/events").json()]
    assert kinds[-2:] == ["entry.deleted", "entry.restored"]


def test_the_system_tells_how_it_is(api):
    """Parts, workers and the other doors, without a secret."""
    system = api.get("/v1/system").json()
    assert {name: part["state"] for name, part in system["parts"].items()} == {
        "postgres": "ok",
        "object store": "ok",
        "prefect": "ok",
    }
    assert {"headrace-io", "headrace-cpu"} <= {worker["pool"] for worker in system["workers"]}
    assert 'headrace_items{state="published"}' in api.get("/metrics").text


def test_operators_commands(stack, published):
    """``verify`` reads every master, ``space`` adds up."""
    import json

    assert stack.cli("verify", "--read-data").returncode == 0
    space = json.loads(stack.cli("space", "--json").stdout)
    assert space["unique_bytes"] - space["saved_by_compression_bytes"] == space["stored_bytes"] - space["waiting_bytes"]
    assert space["logical_bytes"] - space["saved_by_dedup_bytes"] == space["unique_bytes"]


# Pure parts


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-0", (0, 1)),
        ("bytes=5-", (5, 5)),
        ("bytes=-3", (7, 3)),
        ("bytes=-30", (0, 10)),
        ("bytes=2-99", (2, 8)),
        ("bytes=5-4", None),
        ("bytes=0-1,3-4", None),
        ("bytes=-", None),
        ("items=0-1", None),
        ("bytes=x-1", None),
    ],
)
def test_ranges_are_read_as_the_rfc_says(header, expected):
    """One range is honoured; whatever is not one is answered with the whole (RFC 9110, section 14.2)."""
    span = byte_ranges.parse(header, 10)
    assert (None if span is None else (span.start, span.length)) == expected


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=99-100", "bytes=-0"])
def test_ranges_outside_are_not_satisfiable(header):
    """416."""
    with pytest.raises(byte_ranges.Unsatisfiable):
        byte_ranges.parse(header, 10)


def test_manifests_can_be_signed_child_by_child():
    """Media files become signed addresses; playlists stay with the gateway, which signs them in turn."""

    def sign(name):
        return f"https://s3/{name}?a=1&b=2" if name.endswith(".mp4") else name

    hls = '#EXTM3U\n#EXT-X-MAP:URI="v.mp4",BYTERANGE="1@0"\n#EXTINF:6,\nv.mp4\naudio.m3u8\n'
    assert sign_children(hls, "v.m3u8", sign) == (
        '#EXTM3U\n#EXT-X-MAP:URI="https://s3/v.mp4?a=1&b=2",BYTERANGE="1@0"\n#EXTINF:6,\n'
        "https://s3/v.mp4?a=1&b=2\naudio.m3u8\n"
    )
    mpd = "<MPD><BaseURL>v.mp4</BaseURL></MPD>"
    assert sign_children(mpd, "m.mpd", sign) == "<MPD><BaseURL>https://s3/v.mp4?a=1&amp;b=2</BaseURL></MPD>"
