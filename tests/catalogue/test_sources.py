"""What an order's sources that are no URLs become: objects and uploads, from a real S3 API, in a real catalogue."""

import hashlib
import threading
import time
import uuid
from contextlib import closing
from dataclasses import replace

import boto3
import pytest
from moto.server import ThreadedMotoServer

from headrace import wiring
from headrace.catalogue import items, migrate, orders, uploads
from headrace.catalogue.orders import Wanted
from headrace.download import Bandwidth
from headrace.errors import Cancelled, InvalidSource, SourceNotFound
from headrace.recipe import named
from headrace.settings import Settings
from headrace.source import parse
from tasks import download
from tests.forward_proxy import proxying
from tests.servers import LARGE

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
    """By another signature, in segments, and with the checksum that S3 was told when it was put there."""
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
    with proxying() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        brought(here, ordered(here, parse("s3://films/in/a film.mp4")))
        assert any("/films/in/a%20film.mp4?" in asked for asked in proxy.asked)


def test_the_rate_for_all_orders_is_kept(here):
    """HEADRACE_DOWNLOAD_RATE, as a worker reads it."""
    item, since = ordered(here, parse("s3://films/in/a film.mp4")), time.monotonic()
    with here.bandwidth.of_order(item.order_id, None) as limits:
        brought(here, item, limits=limits)
    assert time.monotonic() - since > len(LARGE) / RATE * 0.8


def test_objects_that_can_not_be_had(here):
    """One that has gone, and a bucket that was closed meanwhile."""
    with pytest.raises(SourceNotFound):
        brought(here, ordered(here, parse("s3://films/nothing.mp4")))
    with pytest.raises(InvalidSource, match="not open to orders"):
        brought(here, ordered(here, parse("s3://headrace-incoming/uploads/1")))
