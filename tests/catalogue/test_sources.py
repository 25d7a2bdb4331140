"""What an order's sources that are no URLs become: objects and uploads, from a real S3 API, in a real catalogue."""

import hashlib
import socket
import threading
import time
import uuid
from contextlib import closing
from dataclasses import replace

import boto3
import pytest
from moto.server import ThreadedMotoServer

from headrace import objects, wiring
from headrace.catalogue import items, migrate, orders, uploads
from headrace.catalogue.orders import Wanted
from headrace.download import Access, Bandwidth, turns
from headrace.errors import Cancelled, InvalidSource, SourceEmpty, SourceNotFound
from headrace.model import Source, SourceKind
from headrace.recipe import named
from headrace.settings import Settings
from headrace.source import parse
from headrace.stores.s3 import Endpoint, Presigner
from tasks import download
from tests.forward_proxy import proxying
from tests.servers import LARGE, LARGER

REGION = {"region_name": "us-east-1", "aws_access_key_id": "key", "aws_secret_access_key": "secret"}


RATE = 16 * 2**20
"""Bytes a second for all orders."""


class Held(threading.Event):
    """A claim that is never lost, until it is set."""

    fence = None


@pytest.fixture
def s3():
    """A client of an S3 whose ranges, ETags and checksums are right, with an object."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    client = boto3.client("s3", endpoint_url="http://{}:{}".format(*moto.get_host_and_port()), **REGION)
    for bucket in ("films", "headrace-incoming"):
        client.create_bucket(Bucket=bucket)
    client.put_object(Bucket="films", Key="in/a film.mp4", Body=LARGE, ChecksumAlgorithm="SHA256")
    yield client
    moto.stop()


@pytest.fixture
def here(s3, database_url, tmp_path, monkeypatch):
    """A house on that S3; no address at all is allowed to URLs."""
    migrate.upgrade(database_url)
    monkeypatch.setenv("HEADRACE_DOWNLOAD_RATE", str(RATE))
    made = Settings(
        home=tmp_path,
        database_url=database_url,
        s3_endpoint_url=s3.meta.endpoint_url,
        s3_access_key_id="key",
        s3_secret_access_key="secret",
        source_buckets="films",
        source_folders=str(tmp_path / "open"),
    )
    with closing(wiring.build(made)) as house:
        yield house


def ordered(here, source):
    with here.database.begin() as tx:
        order_id, _ = orders.create(tx, "me", [Wanted(source)], named("archive"))
        (item,) = items.find(tx, "me", order_id=order_id)
    return item


def brought(here, item, held=None, limits=(), on_progress=lambda _: None):
    return download._bring(here, held or Held(), item, on_progress, limits)


def test_an_object_is_resumed_and_proven(here):
    """By another signature, and with the checksum that S3 was told when it was put there."""
    item, held = ordered(here, parse("s3://films/in/a film.mp4")), Held()

    def stop_midway(progress):
        if progress.done_bytes > len(LARGE) / 3:
            held.set()

    with pytest.raises(Cancelled):
        brought(here, item, held, (Bandwidth(16 * 2**20),), stop_midway)
    done = brought(here, item)
    assert done.path.read_bytes() == LARGE
    assert done.resumed_bytes > len(LARGE) / 4
    assert "sha256:x-amz-checksum-sha256" in done.proofs
    assert done.name == "a film.mp4"


def test_an_object_that_changes_is_brought_anew(here, s3):
    """The checksum that S3 had of the old one says nothing of the new one."""
    item = ordered(here, parse("s3://films/in/a film.mp4"))
    asked = objects.known

    def then_changed(*words):
        found = asked(*words)
        s3.put_object(Bucket="films", Key="in/a film.mp4", Body=LARGER, ChecksumAlgorithm="SHA256")
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects, "known", then_changed)
        done = brought(here, item)
    assert done.path.read_bytes() == LARGER
    assert done.proofs == ("content-length",)


def test_an_object_that_changes_midway_is_brought_anew(here, s3):
    """The new one whole, and the restart is said."""
    item, changed = ordered(here, parse("s3://films/in/a film.mp4")), threading.Event()

    def change(progress):
        if progress.done_bytes and progress.done_bytes > 2**20 and not changed.is_set():
            changed.set()
            s3.put_object(Bucket="films", Key="in/a film.mp4", Body=LARGER)

    done = brought(here, item, limits=(Bandwidth(8 * 2**20),), on_progress=change)
    assert done.path.read_bytes() == LARGER
    assert done.restarts == 1


@pytest.mark.parametrize("encoding", ["gzip", "utf-8", "aws-chunked"])
def test_an_object_is_brought_as_it_is_stored(here, s3, encoding):
    """What its uploader said of an encoding is not how S3 sends it."""
    s3.put_object(Bucket="films", Key="odd", Body=LARGE, ContentEncoding=encoding)
    assert brought(here, ordered(here, parse("s3://films/odd"))).path.read_bytes() == LARGE


ODD_KEYS = [
    "a b+c%20d",
    "ünï/日本",
    "//x//y",
    "a?b#c&d=e;f",
    "quote'\"`{}|^[]",
    "~tilde*()!",
    "dots/..a/b..",
    "%2e%2e/x",
]


@pytest.mark.parametrize("key", ODD_KEYS)
def test_an_odd_key_is_asked_for_as_it_is(here, s3, key):
    """Nothing of it is taken for another one."""
    s3.put_object(Bucket="films", Key=key, Body=b"odd")
    assert brought(here, ordered(here, parse(f"s3://films/{key}"))).path.read_bytes() == b"odd"


@pytest.mark.parametrize(
    "key", ["../headrace-incoming/1", "x/../../headrace-incoming/1", "./../headrace-incoming/1", "."]
)
def test_no_key_leads_out_of_its_bucket(here, s3, key):
    """Refused when it is ordered, and when it is asked for."""
    s3.put_object(Bucket="headrace-incoming", Key="1", Body=b"somebody else's")
    with pytest.raises(InvalidSource):
        parse(f"s3://films/{key}")
    with pytest.raises(InvalidSource):
        brought(here, ordered(here, Source(SourceKind.S3, f"s3://films/{key}", "s3://films/x", "x")))


def test_a_store_that_does_not_answer_is_left_soon(here, monkeypatch):
    """Nobody can stop that question, so it isn't waited for long."""
    monkeypatch.setattr("headrace.stores.s3.ASK_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        away = Endpoint(f"http://127.0.0.1:{silent.getsockname()[1]}", "us-east-1", "key", "secret")
        since = time.monotonic()
        assert objects.known(Presigner(away), "s3://films/x") is None
        assert time.monotonic() - since < 5


def test_an_upload_is_brought_the_same_way(here, s3):
    """It keeps the name that it came with, and no limit of the order slows it."""
    s3.put_object(Bucket="headrace-incoming", Key="uploads/1", Body=LARGE)
    digest = hashlib.sha256(LARGE).hexdigest()
    upload = uploads.Upload(uuid.uuid4(), "me", "holiday.mov", len(LARGE), digest, "uploads/1")
    with here.database.begin() as tx:
        uploads.add(tx, upload)
    source = replace(parse(f"upload:{upload.id}"), name=upload.name)
    done = brought(here, ordered(here, source), limits=(Bandwidth(1.0),))
    assert done.path.read_bytes() == LARGE
    assert done.name == "holiday.mov"
    assert "sha256:upload" in done.proofs


def test_objects_come_through_the_environments_proxy(here, monkeypatch):
    """As everything else that is asked of the operator's S3."""
    with proxying() as proxy, monkeypatch.context() as patch:
        patch.setenv("http_proxy", proxy.url)
        house = replace(here, object_access=Access(proxies=wiring._proxies()))
        brought(house, ordered(house, parse("s3://films/in/a film.mp4")))
        assert any("/films/in/a%20film.mp4?" in asked for asked in proxy.asked)


def test_one_object_that_fails_is_not_the_whole_store(here):
    """Each try has another signature, and is of the same object."""
    one, other = (f"http://h/films/x?a=1&X-Amz-Signature={number}" for number in (1, 2))
    assert turns._digest(one) == turns._digest(other) != turns._digest("http://h/films/y?X-Amz-Signature=1")


@pytest.mark.parametrize(
    ("said", "proxied"),
    [
        ({"HTTP_PROXY": "http://p:1"}, True),
        ({"HTTP_PROXY": "http://p:1", "no_proxy": "*"}, False),
        ({"ALL_PROXY": "socks5://p:1"}, False),
        ({"http_proxy": "http://p:1", "ALL_PROXY": "socks5://p:1"}, True),
    ],
)
def test_proxies_of_the_environment(monkeypatch, said, proxied):
    """As obstore takes them; one of a kind that isn't known is left out, and the others count."""
    for one in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(one, raising=False)
        monkeypatch.delenv(one.upper(), raising=False)
    for one, value in said.items():
        monkeypatch.setenv(one, value)
    assert (wiring._proxies().of("http://s3.example.org/x") is not None) is proxied


def test_an_empty_source_is_refused_wherever_it_is(here, s3, tmp_path):
    """An object like a URL, and a local file like an object."""
    s3.put_object(Bucket="films", Key="empty", Body=b"")
    (tmp_path / "open").mkdir()
    (tmp_path / "open/empty").touch()
    with pytest.raises(SourceEmpty):
        brought(here, ordered(here, parse("s3://films/empty")))
    with pytest.raises(SourceEmpty):
        brought(here, ordered(here, parse(f"file://{tmp_path}/open/empty")))


def test_the_rate_for_all_orders_is_kept(here):
    """HEADRACE_DOWNLOAD_RATE, as a worker reads it."""
    item, since = ordered(here, parse("s3://films/in/a film.mp4")), time.monotonic()
    with here.bandwidth.of_order(item.order_id, None) as limits:
        brought(here, item, limits=limits)
    assert time.monotonic() - since > len(LARGE) / RATE * 0.8


def test_objects_that_can_not_be_had(here):
    """One that has gone, and a bucket that was closed meanwhile."""
    with pytest.raises(SourceNotFound, match=r"s3://films/nothing\.mp4: .* \(NoSuchKey\)"):
        brought(here, ordered(here, parse("s3://films/nothing.mp4")))
    with pytest.raises(InvalidSource, match="not open to orders"):
        brought(here, ordered(here, parse("s3://headrace-incoming/uploads/1")))
