"""S3: obstore for the bytes, boto3 for control (buckets, presigning, multipart with abort).

Facts of the API this rests on (Amazon S3 API reference, 2026): parts of 5 MiB to 5 GiB, at
most 10,000, all but the last of one size (R2 asks for it); CompleteMultipartUpload can answer
200 with an error in its body, and its lost reply becomes NoSuchUpload at the next try: so
the object is looked at before an upload is called failed.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import httpx
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)
from obstore.store import S3Store
from urllib3.exceptions import HTTPError as BrokenBody

from headrace.errors import Cancelled, HeadraceError, ObjectDamaged, ObjectMissing, StoreRefused, StoreUnavailable
from headrace.log import Log
from headrace.model import OnProgress, Progress
from headrace.process import Stop
from headrace.stores import TRIES
from headrace.stores.objects import ObstoreBucket

log = Log(__name__)

SINGLE_PUT_BYTES = 32 * 1024 * 1024
"""Up to this size an object goes in one request; above it in parts, so that a stop is noticed."""

PART_BYTES = 16 * 1024 * 1024
MAX_PARTS = 10_000
STREAM_BYTES = 1024 * 1024

ASK_SECONDS = 3.0
"""How long an object's headers are waited for, where they aren't indispensable."""

PARTS_AT_ONCE = 4
"""Uploads at once: 64 MiB of buffers at most."""


DEFAULT_REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an S3 is, and with which keys."""

    url: str
    """Empty means AWS."""
    region: str
    """Empty means what AWS' configuration says, else ``DEFAULT_REGION``."""
    access_key_id: str
    secret_access_key: str
    public_url: str = ""
    """As players reach it; empty means they can't."""
    session_token: str = ""
    """Of temporary keys."""


def endpoint_of(environment: Mapping[str, str], url: str | None) -> Endpoint:
    """Return the endpoint that ``AWS_*`` describe; ``url`` is that of another S3 than AWS."""
    return Endpoint(
        url=url or "",
        region=environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION", ""),
        access_key_id=environment.get("AWS_ACCESS_KEY_ID", ""),
        secret_access_key=environment.get("AWS_SECRET_ACCESS_KEY", ""),
        session_token=environment.get("AWS_SESSION_TOKEN", ""),
    )


@dataclass(frozen=True, slots=True)
class EndpointProfile:
    """What an endpoint really does, found by trying (DESIGN.md, One machine, and many)."""

    ranges: bool
    """A ranged GET is answered 206 with the right bytes."""
    cors: bool
    """A browser on another origin may read."""
    conditional_writes: bool
    """``If-None-Match: *`` protects an object that is there."""
    content_types: bool
    """A presigned URL can set the content type."""

    @property
    def players_may_fetch(self) -> bool:
        """Whether a player can be sent straight to the bucket."""
        return self.ranges and self.cors and self.content_types


class S3Bucket(ObstoreBucket):
    """One bucket of an S3."""

    def __init__(self, endpoint: Endpoint, bucket: str) -> None:
        self._endpoint = endpoint
        with _translated(bucket):
            region = _region(endpoint)
        backend = S3Store(
            bucket,
            config={
                "region": region,
                "access_key_id": endpoint.access_key_id,
                "secret_access_key": endpoint.secret_access_key,
                **({"session_token": endpoint.session_token} if endpoint.session_token else {}),
                **({"endpoint": endpoint.url} if endpoint.url else {}),
                "virtual_hosted_style_request": not endpoint.url,
            },
            client_options={
                "allow_http": endpoint.url.startswith("http://"),
                "timeout": timedelta(seconds=300),
                "connect_timeout": timedelta(seconds=10),
            },
            retry_config={
                "max_retries": TRIES - 1,
                "retry_timeout": timedelta(seconds=120),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=200),
                    "max_backoff": timedelta(seconds=8),
                    "base": 2,
                },
            },
        )
        super().__init__(backend, bucket)

    @cached_property
    def _control(self) -> Any:
        return _client(self._endpoint, self._endpoint.url)

    @cached_property
    def _signer(self) -> Any:
        return _client(self._endpoint, self._endpoint.public_url or self._endpoint.url)

    def make(self) -> None:
        """Create the bucket; does nothing where it exists."""
        with _translated(self.name):
            try:
                self._control.head_bucket(Bucket=self.name)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != httpx.codes.NOT_FOUND:
                    raise
                self._control.create_bucket(Bucket=self.name)

    def put_file(
        self,
        key: str,
        path: Path,
        *,
        content_type: str,
        cache_control: str = "",
        on_progress: OnProgress | None = None,
        stop: Stop | None = None,
    ) -> None:
        """Store a file: small ones in one request, others in parts that are aborted on any failure."""
        size = path.stat().st_size
        if size <= SINGLE_PUT_BYTES:
            super().put_file(
                key,
                path,
                content_type=content_type,
                cache_control=cache_control,
                on_progress=on_progress,
                stop=stop,
            )
            return
        headers = {"ContentType": content_type, **({"CacheControl": cache_control} if cache_control else {})}
        with _translated(self.name):
            upload_id = self._control.create_multipart_upload(Bucket=self.name, Key=key, **headers)["UploadId"]
            try:
                parts = self._put_parts(key, upload_id, path, size, on_progress, stop)
                self._complete(key, upload_id, parts, size)
            except BaseException:
                self._control.abort_multipart_upload(Bucket=self.name, Key=key, UploadId=upload_id)
                raise

    def _put_parts(
        self,
        key: str,
        upload_id: str,
        path: Path,
        size: int,
        on_progress: OnProgress | None,
        stop: Stop | None,
    ) -> list[dict[str, Any]]:
        part_bytes = max(PART_BYTES, math.ceil(size / MAX_PARTS))
        count = math.ceil(size / part_bytes)
        started, done = time.monotonic(), 0

        def put(index: int) -> dict[str, Any]:
            if stop is not None and stop.is_set():
                raise Cancelled("the upload was stopped")
            with path.open("rb") as file:
                file.seek(index * part_bytes)
                body = file.read(part_bytes)
            reply = self._control.upload_part(
                Bucket=self.name, Key=key, UploadId=upload_id, PartNumber=index + 1, Body=body
            )
            return {"PartNumber": index + 1, "ETag": reply["ETag"]}

        with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
            waiting: set[Future[dict[str, Any]]] = {pool.submit(put, index) for index in range(count)}
            parts = []
            while waiting:
                ended, waiting = wait(waiting, timeout=1, return_when=FIRST_EXCEPTION)
                for future in ended:
                    if future.exception() is not None:
                        pool.shutdown(cancel_futures=True)
                    parts.append(future.result())
                    done += 1
                if on_progress is not None:
                    sent = min(size, done * part_bytes)
                    speed = sent / max(time.monotonic() - started, 1e-3)
                    on_progress(Progress(sent / size, speed, (size - sent) / speed if speed else None))
        return sorted(parts, key=lambda part: part["PartNumber"])

    def _complete(self, key: str, upload_id: str, parts: list[dict[str, Any]], size: int) -> None:
        try:
            self._control.complete_multipart_upload(
                Bucket=self.name, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
            )
        except (ClientError, BotoCoreError):
            found = self.stat(key)  # the reply may be lost while the work was done: look, then decide
            if found is None or found.size_bytes != size:
                raise

    def stream(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield an object's bytes in one request, however the endpoint answers a range.

        ``rclone serve s3`` answers 200 with a right ``Content-Range``, which obstore refuses;
        what counts is that the bytes are those that were asked for.
        """
        if length == 0:
            return
        wanted = {} if start == 0 and length is None else {"Range": f"bytes={start}-"}
        if length is not None:
            wanted = {"Range": f"bytes={start}-{start + length - 1}"}
        with _translated(self.name):
            try:
                reply = self._control.get_object(Bucket=self.name, Key=key, **wanted)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != httpx.codes.NOT_FOUND:
                    raise
                raise ObjectMissing(f"{self.name}/{key} is not there", key=key) from error
            with contextlib.closing(reply["Body"]) as body:
                if wanted and not str(reply.get("ContentRange", "")).startswith(f"bytes {start}-"):
                    raise StoreRefused(f"the object store does not answer ranges of {self.name}/{key}", key=key)
                yield from body.iter_chunks(STREAM_BYTES)

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """Return a range's bytes."""
        content = b"".join(self.stream(key, start, length))
        if len(content) != length:
            raise ObjectDamaged(f"{self.name}/{key} has fewer bytes than it should", key=key)
        return content

    def presign_get(self, key: str, seconds: int, *, content_type: str) -> str | None:
        """Return a URL signed with SigV4 that serves the object as ``content_type``."""
        url: str = self._signer.generate_presigned_url(
            "get_object",
            Params={"Bucket": self.name, "Key": key, "ResponseContentType": content_type},
            ExpiresIn=seconds,
        )
        return url

    def profile(self) -> EndpointProfile:
        """Find out what the endpoint really does, with one small object that is removed again."""
        key = f"probe/{uuid.uuid4()}"
        self.put_bytes(key, b"0123456789", content_type="application/octet-stream")
        try:
            url = self.presign_get(key, 60, content_type="video/mp4")
            with httpx.Client(timeout=10) as client:
                reply = client.get(url or "", headers={"Range": "bytes=2-4", "Origin": "https://player.example"})
            return EndpointProfile(
                ranges=reply.status_code == httpx.codes.PARTIAL_CONTENT
                and reply.content == b"234"
                and reply.headers.get("content-range") == "bytes 2-4/10",
                cors=reply.headers.get("access-control-allow-origin") in {"*", "https://player.example"},
                conditional_writes=self._refuses_overwrite(key),
                content_types=reply.headers.get("content-type") == "video/mp4",
            )
        except httpx.HTTPError as error:
            raise StoreUnavailable(f"the object store does not answer: {error}") from error
        finally:
            self.delete([key])

    def _refuses_overwrite(self, key: str) -> bool:
        try:
            self._control.put_object(Bucket=self.name, Key=key, Body=b"x", IfNoneMatch="*")
        except ClientError as error:
            status: int = error.response["ResponseMetadata"]["HTTPStatusCode"]
            return status == httpx.codes.PRECONDITION_FAILED
        return False


class Presigner:
    """Signs addresses of objects in any bucket of an endpoint; for any thread.

    Without keys in its endpoint it takes those that AWS' own tools would take here (a profile, a role).
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._lock = threading.Lock()

    @cached_property
    def _client(self) -> Any:
        return _client(self._endpoint, self._endpoint.url, tries=2, seconds=ASK_SECONDS)

    def get(self, bucket: str, key: str, seconds: int) -> str:
        """Return a URL that reads an object for so long; raises ``StoreRefused`` where there are no keys."""
        with _translated(bucket), self._lock:  # boto3 makes clients in one thread at a time
            url: str = self._client.generate_presigned_url(
                "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=seconds
            )
            return url

    def headers(self, bucket: str, key: str) -> Mapping[str, str]:
        """Return the headers of an object with its checksums (S3 User Guide, "Checking object integrity").

        Nothing where they can't be had, such as by who may not, or within a few seconds, because nothing can stop
        this: whoever asks for the object itself is told why.
        """
        try:
            with _translated(bucket):
                with self._lock:
                    client = self._client
                found = client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        except HeadraceError as error:
            cause = error.__cause__
            status = cause.response["ResponseMetadata"]["HTTPStatusCode"] if isinstance(cause, ClientError) else 0
            expected = status in {httpx.codes.FORBIDDEN, httpx.codes.NOT_FOUND}
            (log.info if expected else log.warning)("s3.no_checksums", bucket=bucket, why=error.message)
            return {}
        headers: Mapping[str, str] = found["ResponseMetadata"]["HTTPHeaders"]
        return headers


def _region(endpoint: Endpoint) -> str:
    return endpoint.region or boto3.Session().region_name or DEFAULT_REGION


def _client(endpoint: Endpoint, url: str, *, tries: int = TRIES, seconds: float = 120) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=url or None,
        region_name=_region(endpoint),
        aws_access_key_id=endpoint.access_key_id or None,
        aws_secret_access_key=endpoint.secret_access_key or None,
        aws_session_token=endpoint.session_token or None,
        config=Config(
            signature_version="s3v4",
            retries={"total_max_attempts": tries, "mode": "standard"},
            connect_timeout=min(10, seconds),
            read_timeout=seconds,
            # Other S3s know no CRC trailers; AWS gets them (FIELD.md, Publish).
            request_checksum_calculation="when_required" if endpoint.url else "when_supported",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if endpoint.url else "auto"},
        ),
    )


@contextlib.contextmanager
def _translated(bucket: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        said = error.response.get("Error", {}).get("Message") or str(error)
        if status in {httpx.codes.FORBIDDEN, httpx.codes.UNAUTHORIZED, httpx.codes.BAD_REQUEST}:
            raise StoreRefused(f"the object store refuses access to {bucket}: {said}") from error
        raise StoreUnavailable(f"the object store failed at {bucket}: {said}") from error
    except (NoCredentialsError, PartialCredentialsError, ProfileNotFound) as error:
        raise StoreRefused(
            "there are no keys for the object store",
            hint="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.",
        ) from error
    except (BotoCoreError, BrokenBody) as error:
        raise StoreUnavailable(f"the object store does not answer: {error}") from error
