"""The whole way: a source goes in, and what plays comes out, or a clear reason why not."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import blake3
import httpx
import psycopg2
import pytest

from headrace.check_stream import check
from headrace.stores.s3 import Endpoint, S3Bucket
from tests.conftest import SOURCE_BUCKET, source_folder
from tests.engine import films
from tests.orders import encoders, ingest, start_run, wait_until
from tests.servers import BODY, CANARY, LARGE, serving

SHORT_FILMS = (
    "mb_sar_2x1.mp4",
    "sample_portrait.mp4",
    "bear-vp9-odd-dimensions.webm",
    "mp_no_duration.webm",
    "sample_ac3_aac.mp4",
    "sample_with_srt.mkv",
    "tc_h265_10bits.mp4",
)
BROKEN = dict.fromkeys(("st_broken.mp4", "decord_corrupted.mp4", "sample_missing_stsd.mp4"), "undecodable")


def test_a_film_goes_all_the_way(stack, web, published):
    """The item says what it is, the streams are right, and the same bytes come back from the archive."""
    body = (web.folder / "own.mp4").read_bytes()
    assert published["sha256"] == hashlib.sha256(body).hexdigest()
    assert published["blake3"] == published["asset_id"] == blake3.blake3(body).hexdigest()
    assert (published["size_bytes"], published["media_type"]) == (len(body), "video/mp4")
    assert (published["error"], published["duplicate"], published["warnings"]) == (None, False, [])
    assert [finding for finding in check(published["playback"]["hls"]) if finding.severity == "error"] == []
    copy = stack.home / "copy.mp4"
    assert stack.cli("get", published["asset_id"][:10], "-o", copy).returncode == 0
    assert copy.read_bytes() == body


def test_known_content_ends_at_once(stack, web, published):
    """The second time nothing is encoded: the same asset, marked as a duplicate, in a few seconds."""
    started = time.monotonic()
    (item,) = ingest(stack, web.url + "/files/own.mp4?again")
    assert (item["asset_id"], item["duplicate"]) == (published["asset_id"], True)
    assert time.monotonic() - started < 15


def test_a_local_file_is_uploaded(stack, web, published):
    """A path is streamed to the gateway, and is the same asset."""
    (item,) = ingest(stack, web.folder / "own.mp4")
    assert item["source"].startswith("upload:")
    assert item["asset_id"] == published["asset_id"]


def test_another_recipe_of_a_known_asset_needs_no_download(stack, published):
    """``asset:ID`` with the recipe audio makes a publication of sound only, from the vault."""
    (item,) = ingest(stack, f"asset:{published['asset_id']}", "--recipe", "audio")
    assert item["state"] == "published"
    master = httpx.get(item["playback"]["hls"]).text
    assert "RESOLUTION" not in master
    assert "mp4a.40.2" in master
    with stack.api() as api:
        playback = api.get(f"/v1/assets/{published['asset_id']}/playback").json()
    assert playback["recipe"] == "web", "who asks for the film gets the picture too"


def test_what_is_only_kept_is_stored(stack, web):
    """Under ``archive`` a text is kept, compressed, and comes back; nothing plays."""
    (item,) = ingest(stack, web.url + "/text", "--recipe", "archive")
    assert (item["state"], item["playback"], item["error"]) == ("stored", None, None)
    shown = json.loads(stack.cli("show", item["asset_id"], "--json").stdout)
    assert shown["master"]["kind"] == "zstd"
    assert shown["master"]["stored_bytes"] < shown["size_bytes"]
    copy = stack.home / "copy.txt"
    assert stack.cli("get", item["asset_id"], "-o", copy).returncode == 0
    assert hashlib.sha256(copy.read_bytes()).hexdigest() == item["sha256"]


def test_every_bad_source_says_what_is_wrong(stack, web):
    """Each ends as its item's error with something to do next; together they are one failed order."""
    expected = {
        "/missing": "source_not_found",
        "/forbidden": "source_forbidden",
        "/empty": "source_empty",
        "/to-metadata": "address_forbidden",
        "/text": "not_media",
        "/named": "not_media",
        "/unknown-length": "not_media",
    }
    sources = [web.url + path for path in expected]
    found = ingest(stack, *sources, "http://nowhere.invalid/film.mp4", status=1)
    assert {item["source"].removeprefix(web.url): item["error"]["code"] for item in found} == {
        **expected,
        "http://nowhere.invalid/film.mp4": "source_unresolvable",
    }
    assert all(item["error"]["message"] and item["error"]["hint"] for item in found)
    assert all(item["state"] == "failed" for item in found)


def test_a_wrong_checksum_fails_the_item(stack, web):
    """And says what the checksum is."""
    (item,) = ingest(stack, web.url + "/good", "--sha256", "0" * 64, status=1)
    assert item["error"]["code"] == "checksum_mismatch"
    assert hashlib.sha256(BODY).hexdigest() in item["error"]["message"]


def test_ten_sources_with_three_bad_ones(stack, web, tmp_path):
    """Seven are published, three say why, and the exit status is 3."""
    for number in range(7):
        films.film(web.folder / f"ten-{number}.mp4", seconds=1, size="160x90", more=f"-metadata title={number}")
    listed = tmp_path / "sources.txt"
    good = [f"{web.url}/files/ten-{number}.mp4" for number in range(7)]
    bad = [web.url + path for path in ("/missing", "/empty", "/text")]
    listed.write_text("# ten\n" + "\n".join(good[:4] + bad + good[4:]) + "\n")
    found = ingest(stack, "--from-file", listed, status=3)
    assert [item["source"] for item in found] == good[:4] + bad + good[4:]
    assert [item["state"] for item in found] == ["published"] * 4 + ["failed"] * 3 + ["published"] * 3


@pytest.mark.long
def test_short_films_of_every_kind(stack):
    """Aspect ratios, rotation, odd sizes, no duration, sound only, subtitles, 10 bit: all play; broken ones say why."""
    folder = films.shared("INDEX.md").parent
    with serving(folder) as server:
        found = ingest(stack, *(f"{server.url}/files/{name}" for name in (*SHORT_FILMS, *BROKEN)), status=3)
    by_name = {item["source"].rsplit("/", 1)[1]: item for item in found}
    assert {name: by_name[name]["state"] for name in SHORT_FILMS} == dict.fromkeys(SHORT_FILMS, "published")
    assert {name: by_name[name]["error"]["code"] for name in BROKEN} == BROKEN


@pytest.mark.long
def test_cancelling_ends_the_work_within_five_seconds(stack, web):
    """The encoder is gone, the item is cancelled, and scratch is empty again."""
    films.film(web.folder / "long.mp4", seconds=120, size="1280x720", more="-preset ultrafast")
    order_id = stack.cli("ingest", web.url + "/files/long.mp4").stdout.strip()
    wait_until(lambda: encoders(stack), 60)
    assert stack.cli("cancel", order_id).returncode == 0
    wait_until(lambda: not encoders(stack), 5)
    with stack.api() as api:
        (item,) = api.get(f"/v1/orders/{order_id}").json()["item_list"]
    assert item["state"] == "cancelled"
    wait_until(lambda: not list((stack.home / "scratch" / "publications").glob("*")), 10)


def test_a_feed_brings_what_is_new(stack, web):
    """The first look takes in what is there, the next only what was added, and an unchanged feed costs a 304."""
    films.film(web.folder / "episode-1.mp4", seconds=1, size="160x90", more="-metadata title=e1")
    films.film(web.folder / "episode-2.mp4", seconds=1, size="160x90", more="-metadata title=e2")
    episode = '<item><title>E{0}</title><guid>e{0}</guid><enclosure url="/files/episode-{0}.mp4"/></item>'

    def show(*numbers):
        body = "<rss><channel>" + "".join(episode.format(n) for n in numbers) + "</channel></rss>"
        web.feeds["/feed"] = ("application/rss+xml", body.encode(), f'"{len(numbers)}"')

    def brought():
        with stack.api() as api:
            return sorted(i["source"][-13:] for i in api.get("/v1/items").json() if "episode-" in i["source"])

    show(1)
    added = stack.cli("watch", "add", web.url + "/feed", "--every", "1m", "--recipe", "archive")
    assert added.returncode == 0, added.stderr
    look(stack)
    wait_until(lambda: brought() == ["episode-1.mp4"], 60)
    show(2, 1)
    make_due(stack)
    look(stack)
    wait_until(lambda: brought() == ["episode-1.mp4", "episode-2.mp4"], 60)
    make_due(stack)
    look(stack)
    wait_until(lambda: web.seen["/feed"][-1].get("if-none-match") == '"2"', 60)
    assert brought() == ["episode-1.mp4", "episode-2.mp4"]
    assert stack.cli("watch", "remove", web.url + "/feed").returncode == 0
    assert stack.cli("watch", "list", "--json").stdout == ""


def test_a_prefix_of_a_bucket_is_a_feed(stack, tmp_path):
    """Media files under it are taken in, other files and other buckets are not."""
    made = stack.settings
    endpoint = Endpoint(
        made["HEADRACE_S3_ENDPOINT_URL"],
        "us-east-1",
        made["HEADRACE_S3_ACCESS_KEY_ID"],
        made["HEADRACE_S3_SECRET_ACCESS_KEY"],
    )
    bucket = S3Bucket(endpoint, SOURCE_BUCKET)
    bucket.make()
    bucket.put_file("in/drop.mp4", films.film(tmp_path / "drop.mp4", seconds=1), content_type="video/mp4")
    bucket.put_bytes("in/notes.txt", b"no film", content_type="text/plain")
    address = f"s3://{SOURCE_BUCKET}/in/"
    assert stack.cli("watch", "add", "s3://headrace-vault/masters/").returncode == 2
    assert stack.cli("watch", "add", address, "--recipe", "archive").returncode == 0
    look(stack)

    def brought():
        with stack.api() as api:
            return {one["source"]: one["state"] for one in api.get("/v1/items").json() if "s3://" in one["source"]}

    wait_until(lambda: brought() == {address + "drop.mp4": "stored"}, 90)
    assert stack.cli("watch", "remove", address).returncode == 0


def look(stack):
    """Start the deployment ``watch-feed``, as its schedule does."""
    start_run(stack, "watch-feed/watch-feed", {})


def make_due(stack):
    """Let every feed's time have come."""
    url = stack.settings["HEADRACE_DATABASE_URL"].replace("+psycopg2", "")
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE feeds SET next_check_at = now()")


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_every_shared_film(stack):
    """Every good film and every audio file is published and passes the stream check; every broken one says why."""
    folder = films.shared("INDEX.md").parent
    names = sorted(path.name for path in Path(folder).iterdir() if path.name != "INDEX.md")
    with serving(folder) as server:
        found = ingest(stack, *(f"{server.url}/files/{name}" for name in names), status=3, timeout=1100)
    states = {item["source"].rsplit("/", 1)[1]: item for item in found}
    assert {name for name, item in states.items() if item["state"] == "failed"} == set(BROKEN)
    for name, item in states.items():
        if name not in BROKEN:
            assert item["state"] == "published", (name, item)
            errors = [f for f in check(item["playback"]["hls"]) if f.severity == "error"]
            assert errors == [], name


METALINK = """<?xml version="1.0"?><metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="large.bin">
<size>{size}</size><hash type="sha-512">{sha512}</hash>
<pieces type="sha-256" length="1048576">{pieces}</pieces>
<url priority="1">{url}/large/damaged</url><url priority="2">{url}/large/second</url></file></metalink>"""


def test_a_metalink_brings_a_file_from_its_mirrors(stack, web, tmp_path):
    """A mirror with a damaged byte costs a piece; what proved the file stays with the item and the entry."""
    digests = [hashlib.sha256(LARGE[at : at + 2**20]).hexdigest() for at in range(0, len(LARGE), 2**20)]
    described = METALINK.format(
        size=len(LARGE),
        sha512=hashlib.sha512(LARGE).hexdigest(),
        pieces="".join(f"<hash>{digest}</hash>" for digest in digests),
        url=web.url,
    )
    (tmp_path / "large.meta4").write_text(described)
    (item,) = ingest(stack, "--metalink", tmp_path / "large.meta4", "--recipe", "archive")
    assert (item["state"], item["sha256"]) == ("stored", hashlib.sha256(LARGE).hexdigest())
    assert item["proofs"] == ["content-length", "sha512:order", "sha256-pieces:metalink"]
    (asset,) = json.loads(stack.cli("show", item["asset_id"], "--json").stdout)["entries"]
    assert sorted(asset["proofs"]) == sorted(item["proofs"])


def test_what_proved_a_file_stays_with_it(stack, web):
    """What was ordered, and what the server promises of the whole, are with the item and its entry."""
    digest = hashlib.sha512(LARGE).hexdigest()
    with stack.api() as api:
        source = {"source": web.url + "/large/promising", "digests": {"sha512": digest}}
        order = api.post("/v1/orders", json={"sources": [source], "recipe": "archive"}).json()["order_id"]

        def brought():
            (item,) = api.get(f"/v1/orders/{order}").json()["item_list"]
            return item

        wait_until(lambda: brought()["state"] == "stored", 60)
        proofs = brought()["proofs"]
        assert proofs == ["content-length", "sha512:order", "sha256:repr-digest"]
        entries = api.get(f"/v1/assets/{brought()['asset_id']}").json()["entries"]
    assert any(set(proofs) <= set(entry["proofs"]) for entry in entries)


def test_a_credential_opens_a_door_and_is_written_nowhere(stack, web):
    """An order names it; its secret is in no table, no log and no run."""
    path = stack.home / "credentials.toml"
    path.write_text(f'[canary]\nhosts = ["127.0.0.1"]\nbearer = "{CANARY}"\nplain_http = true\n')
    path.chmod(0o600)
    (item,) = ingest(stack, web.url + "/for-the-canary", "--credential", "canary", "--recipe", "archive")
    assert item["state"] == "stored", item
    (refused,) = ingest(stack, web.url + "/for-the-canary?2", "--recipe", "archive", status=1)
    assert refused["error"]["code"] == "source_forbidden"
    url = stack.settings["HEADRACE_DATABASE_URL"].replace("+psycopg2", "")
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        tables = [name for (name,) in cursor.fetchall()]
        assert {"items", "orders", "events"} <= set(tables)
        for table in tables:
            cursor.execute(f'SELECT count(*) FROM "{table}" AS t WHERE t::text LIKE %s', (f"%{CANARY}%",))
            assert cursor.fetchone() == (0,), table
    connection.close()
    kept = [one for one in stack.home.rglob("*") if one.is_file() and one != path]
    assert any(one.suffix == ".log" for one in kept)
    assert not [one for one in kept if CANARY.encode() in one.read_bytes()]


def test_a_local_folder_is_a_source(stack, web):
    """Its files become items; what lies outside of it is refused, and so is a folder that isn't open."""
    folder = source_folder(stack.home) / "in"
    folder.mkdir(parents=True)
    (folder / "one.bin").write_bytes(BODY[:5000])
    (folder / "two.bin").write_bytes(BODY[:6000])
    found = ingest(stack, f"file://{folder}/", "--recipe", "archive")
    assert [(item["state"], item["size_bytes"]) for item in found] == [("stored", 5000), ("stored", 6000)]
    assert found[0]["source"] == f"file://{folder}/one.bin"
    (wrong,) = ingest(stack, f"file://{folder}//one.bin", "--sha256", "0" * 64, status=1)
    assert wrong["error"]["code"] == "checksum_mismatch"
    assert stack.cli("ingest", f"file://{folder}/", "--sha256", "0" * 64).returncode == 2
    refused = stack.cli("ingest", "file:///etc/passwd")
    assert (refused.returncode, "HEADRACE_SOURCE_FOLDERS" in refused.stderr) == (2, True)
    (folder / "link.bin").symlink_to("/etc/passwd")
    refused = stack.cli("ingest", f"file://{folder}/link.bin")
    assert refused.returncode == 2


def test_an_order_keeps_to_its_rate(stack, web):
    """A limit for the order slows its downloads, and is shown with it."""
    started = time.monotonic()
    (item,) = ingest(stack, web.url + "/large/good?limited", "--limit-rate", "6M", "--recipe", "archive")
    assert item["state"] == "stored"
    assert time.monotonic() - started > len(LARGE) / (6 * 2**20) * 0.8
    with stack.api() as api:
        assert api.get(f"/v1/orders/{item['order_id']}").json()["bytes_per_second"] == 6 * 2**20


@pytest.mark.long
def test_a_watched_folder_is_taken_in(stack, web):
    """Files that have settled are ordered once; files that have changed again."""
    folder = source_folder(stack.home) / "watched"
    folder.mkdir(parents=True)
    (folder / "film.mp4").write_bytes((web.folder / "own.mp4").read_bytes())
    hour_ago = time.time() - 3600
    os.utime(folder / "film.mp4", (hour_ago, hour_ago))
    (folder / "growing.mp4").write_bytes(b"not yet")
    feed = stack.cli("watch", "add", f"file://{folder}/", "--every", "1m", "--recipe", "archive").stdout.strip()
    start_run(stack, "watch-feed/watch-feed", {})
    with stack.api() as api:

        def brought():
            found = api.get("/v1/items").json()
            return [item for item in found if item["source"].startswith(f"file://{folder}/")]

        wait_until(lambda: [item["state"] for item in brought()] == ["stored"], 60)
        assert brought()[0]["source"].endswith("/film.mp4")
    assert stack.cli("watch", "remove", feed).returncode == 0
