"""Playback straight from S3, where the endpoint's profile allows: right ranges, CORS, content types."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from urllib.parse import urlsplit

import httpx
import pytest
from moto.server import ThreadedMotoServer

from headrace import links, package, publish, transcode
from headrace.catalogue import assets, items, leases, migrate, orders, publications
from headrace.catalogue.assets import Described
from headrace.catalogue.database import Database
from headrace.catalogue.orders import Wanted
from headrace.digests import digest_file
from headrace.identify import probe
from headrace.model import ItemState
from headrace.recipe import parse as parse_recipe
from headrace.source import parse
from headrace.stores.s3 import Endpoint, S3Bucket
from tests.browser import opened
from tests.conftest import ROOT, free_ports
from tests.end_to_end.test_playback import play
from tests.engine import films
from tests.orders import wait_until

KEY = "a signing key"


@pytest.fixture(scope="module")
def s3():
    """An S3 whose ranges and CORS are right; moto is not asked about signatures, which it doesn't check."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def film(postgres, s3, tmp_path_factory):
    """A film that is published on that S3 and known to a catalogue; its database and asset."""
    folder = tmp_path_factory.mktemp("signed")
    source = films.film(folder / "film.mp4", seconds=2)
    recipe = parse_recipe({"video": {"heights": [90]}})
    work, out = folder / "work", folder / "out"
    work.mkdir()
    out.mkdir()
    encoded = transcode.encode(source, probe(source), recipe, work, threads=1)
    made = package.package(encoded, recipe, out)
    bucket = S3Bucket(Endpoint(s3, "us-east-1", "key", "secret"), "headrace-streams")
    bucket.make()
    url = postgres.database()
    migrate.upgrade(url)
    database, digests = Database(url), digest_file(source)
    with database.begin() as tx:
        assets.describe(tx, digests, Described("video/mp4", "video", 2.0, {}))
        assets.add_entry(tx, "default", digests.blake3, title="Signed", path="film.mp4")
        order_id, _ = orders.create(tx, "default", [Wanted(parse("http://h/film.mp4"))], recipe)
        (item,) = orders.unplanned_items(tx, order_id)
        items.set_state(tx, item.id, ItemState.STORING)
        publication = publications.join(tx, item.id, digests.blake3, recipe)
        fence = leases.acquire(tx, f"publication:{publication.id}", "test")
        publications.begin(tx, publication.id, fence)
        prefix = f"{publication.id}/{fence.token}/"
        sizes = publish.publish(bucket, prefix, out, list(made.files), top=(made.hls, made.dash))
        publications.complete(tx, publication.id, fence, prefix, made, sizes)
    database.close()
    return url, digests.blake3


@pytest.fixture(scope="module")
def gateway(film, s3, tmp_path_factory):
    """A gateway whose players can reach that S3."""
    port = free_ports(1)
    settings = {
        "URL": f"http://127.0.0.1:{port}",
        "TOKEN": "token",
        "SIGNING_KEY": KEY,
        "DATABASE_URL": film[0],
        "S3_ENDPOINT_URL": s3,
        "S3_PUBLIC_URL": s3,
        "S3_ACCESS_KEY_ID": "key",
        "S3_SECRET_ACCESS_KEY": "secret",
        "HOME": str(tmp_path_factory.mktemp("home")),
    }
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **{f"HEADRACE_{k}": v for k, v in settings.items()}}
    argv = [sys.executable, "-m", "uvicorn", "--factory", "gateway.app:create_app", "--port", str(port)]
    child = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answers():
        try:
            return httpx.get(settings["URL"] + "/healthz").status_code == 200
        except httpx.TransportError:
            return False

    wait_until(answers, 60)
    yield settings["URL"]
    child.terminate()
    child.wait(10)


def test_playlists_name_signed_addresses_and_the_media_comes_from_s3(gateway, film, s3):
    """The gateway serves manifests only; every media file is a URL that needs no other key."""
    reply = httpx.get(f"{gateway}/v1/assets/{film[1]}/playback", headers={"Authorization": "Bearer token"}).json()
    master = httpx.get(reply["hls"]).text
    children = [line for line in master.splitlines() if line and not line.startswith("#")]
    assert all("://" not in child for child in children), "playlists stay with the gateway"
    playlist = httpx.get(reply["hls"].rsplit("/", 1)[0] + "/" + children[0]).text
    media = next(line for line in playlist.splitlines() if line and not line.startswith("#"))
    assert media.startswith(s3)
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in media
    part = httpx.get(media, headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, b"ftyp")
    assert part.headers["content-type"] == "video/mp4"
    mpd = httpx.get(reply["dash"])
    assert "X-Amz-Signature" in mpd.text
    assert mpd.headers["content-type"] == "application/dash+xml"


@pytest.mark.browser
def test_a_film_plays_from_s3_in_the_browser(gateway, film, s3):
    """The page's policy lets the player fetch from S3, and nothing else."""
    watch = links.watch_url(gateway, KEY, "default", film[1], 1)
    with opened(watch) as (page, seen):
        said = play(page, 0.5)
        assert said["errors"] == []
        assert said["mediaError"] is None
        time.sleep(0.2)
    assert seen.problems == []
    media = {urlsplit(url).netloc for url in seen.requests if ".mp4" in url}
    assert media == {urlsplit(s3).netloc}


def test_without_a_public_address_the_gateway_serves_the_media_itself(published):
    """As in the embedded stack: rclone's ranges are wrong, so players never see the bucket."""
    folder = published["playback"]["hls"].rsplit("/", 1)[0]
    master = httpx.get(published["playback"]["hls"]).text
    child = next(line for line in master.splitlines() if line and not line.startswith("#"))
    assert "://" not in httpx.get(f"{folder}/{child}").text
