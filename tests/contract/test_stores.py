"""The contract of the object-store protocol: every store is held to the same behaviour."""

from __future__ import annotations

import threading
import uuid

import boto3
import httpx
import pytest

from headrace.errors import Cancelled, ObjectMissing, StoreRefused, StoreUnavailable
from headrace.stores import s3
from headrace.stores.local import LocalBucket
from headrace.stores.memory import memory_bucket
from headrace.stores.s3 import Endpoint, S3Bucket


def endpoint(server, **changes):
    fields = {
        "url": server.endpoint_url,
        "region": "us-east-1",
        "access_key_id": server.access_key_id,
        "secret_access_key": server.secret_access_key,
    }
    return Endpoint(**{**fields, **changes})


@pytest.fixture(params=["memory", "local", "s3"])
def bucket(request, tmp_path):
    if request.param == "memory":
        return memory_bucket()
    if request.param == "local":
        return LocalBucket(tmp_path / "objects")
    made = S3Bucket(endpoint(request.getfixturevalue("s3_server")), f"test-{uuid.uuid4().hex}")
    made.make()
    return made


def put(bucket, key, body, folder):
    path = folder / "body"
    path.write_bytes(body)
    bucket.put_file(key, path, content_type="video/mp4", cache_control="no-cache")


def test_what_is_put_comes_back(bucket, tmp_path):
    """Whole, by range, and as a stream."""
    body = bytes(range(256)) * 1000
    put(bucket, "a/b/film.mp4", body, tmp_path)
    assert bucket.stat("a/b/film.mp4").size_bytes == len(body)
    assert bucket.read_range("a/b/film.mp4", 1000, 10) == body[1000:1010]
    assert b"".join(bucket.stream("a/b/film.mp4")) == body
    assert b"".join(bucket.stream("a/b/film.mp4", 100_000, 5)) == body[100_000:100_005]
    assert b"".join(bucket.stream("a/b/film.mp4", len(body) - 3)) == body[-3:]


def test_a_put_replaces(bucket):
    """The newer whole object."""
    bucket.put_bytes("a", b"1", content_type="text/plain")
    bucket.put_bytes("a", b"22", content_type="text/plain")
    assert bucket.read_range("a", 0, 2) == b"22"


def test_what_is_missing_is_missing(bucket):
    """``None`` for a look, ``ObjectMissing`` for a read, nothing for a delete."""
    assert bucket.stat("nothing") is None
    with pytest.raises(ObjectMissing):
        bucket.read_range("nothing", 0, 1)
    with pytest.raises(ObjectMissing):
        list(bucket.stream("nothing"))
    bucket.delete(["nothing"])


def test_a_prefix_is_listed_and_deleted(bucket):
    """Only what lies under it."""
    for key in ("p/1/a", "p/1/b", "p/10/a"):
        bucket.put_bytes(key, b"x", content_type="text/plain")
    assert sorted(found.key for found in bucket.list("p/1/")) == ["p/1/a", "p/1/b"]
    bucket.delete(["p/1/a", "p/1/b"])
    assert [found.key for found in bucket.list("p/")] == ["p/10/a"]


def test_a_stop_is_heeded(bucket, tmp_path):
    """Nothing is left behind."""
    stop = threading.Event()
    stop.set()
    path = tmp_path / "body"
    path.write_bytes(b"x")
    with pytest.raises(Cancelled):
        bucket.put_file("a", path, content_type="video/mp4", stop=stop)
    assert bucket.stat("a") is None


def test_a_large_file_goes_in_parts_and_is_aborted_whole(s3_server, tmp_path, monkeypatch):
    """Progress grows to one; a stop in the middle leaves neither object nor open upload."""
    monkeypatch.setattr(s3, "SINGLE_PUT_BYTES", 1024)
    monkeypatch.setattr(s3, "PART_BYTES", 5 * 1024 * 1024)
    bucket = S3Bucket(endpoint(s3_server), f"test-{uuid.uuid4().hex}")
    bucket.make()
    path = tmp_path / "body"
    path.write_bytes(bytes(range(256)) * 4 * 12_345)
    seen = []
    bucket.put_file("large", path, content_type="video/mp4", on_progress=seen.append)
    assert b"".join(bucket.stream("large")) == path.read_bytes()
    assert seen[-1].fraction == 1.0
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        bucket.put_file("stopped", path, content_type="video/mp4", stop=stop)
    assert bucket.stat("stopped") is None
    assert bucket._control.list_multipart_uploads(Bucket=bucket.name).get("Uploads", []) == []


def test_wrong_keys_are_refused_and_a_server_that_is_away_is_unavailable(s3_server):
    """One needs the operator, the other only time."""
    wrong = S3Bucket(endpoint(s3_server, secret_access_key="wrong"), "headrace-vault")
    with pytest.raises(StoreRefused):
        wrong.put_bytes("a", b"x", content_type="text/plain")
    away = S3Bucket(endpoint(s3_server, url="http://127.0.0.1:9"), "headrace-vault")
    with pytest.raises(StoreUnavailable):
        list(away.stream("a"))


def test_a_presigned_url_needs_no_keys(s3_server):
    """And a made-up one is refused."""
    bucket = S3Bucket(endpoint(s3_server), "headrace-streams")
    bucket.put_bytes("x.mp4", b"film", content_type="video/mp4")
    url = bucket.presign_get("x.mp4", 60, content_type="video/mp4")
    assert httpx.get(url).content == b"film"
    assert httpx.get(url.replace("x.mp4", "y.mp4")).status_code in {403, 404}


def test_the_profile_is_found_by_trying(s3_server):
    """The embedded rclone 1.75 answers ranges with 200: players must not be sent there (DESIGN.md)."""
    bucket = S3Bucket(endpoint(s3_server), "headrace-streams")
    profile = bucket.profile()
    assert not profile.ranges
    assert not profile.players_may_fetch
    assert list(bucket.list("probe/")) == []


def test_buckets_are_made_once(s3_server):
    """Making it again does nothing."""
    name = f"test-{uuid.uuid4().hex}"
    for _ in range(2):
        S3Bucket(endpoint(s3_server), name).make()
    client = boto3.client(
        "s3",
        endpoint_url=s3_server.endpoint_url,
        aws_access_key_id=s3_server.access_key_id,
        aws_secret_access_key=s3_server.secret_access_key,
        region_name="us-east-1",
    )
    assert name in [found["Name"] for found in client.list_buckets()["Buckets"]]


def test_a_profile_says_in_which_region_an_object_is(tmp_path, monkeypatch):
    """As for AWS' own tools; what the environment says comes first, and us-east-1 is the last resort."""
    (tmp_path / "config").write_text(
        "[profile films]\nregion = eu-central-1\naws_access_key_id = k\naws_secret_access_key = s\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "films")

    def signed(**environment):
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it has read the profile, as a process does once
        return s3.Presigner(s3.endpoint_of(environment, None)).get("films", "a.mp4", 60)

    assert "eu-central-1" in signed()
    assert "eu-west-3" in signed(AWS_REGION="eu-west-3")
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "")  # as compose files leave it
    assert "us-east-1" in signed(AWS_ACCESS_KEY_ID="k", AWS_SECRET_ACCESS_KEY="s")
    S3Bucket(s3.endpoint_of({"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}, "http://127.0.0.1:9"), "films")
