"""Uploads: bytes are streamed to disk, hashed on the way, and kept in the incoming bucket."""

from __future__ import annotations

import errno
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool

from gateway.auth import Here, Owner
from headrace.catalogue import uploads
from headrace.catalogue.uploads import Upload
from headrace.errors import ChecksumMismatch, DiskFull, InvalidRequest, SourceTooLarge
from headrace.source import safe_name
from headrace.wiring import House

router = APIRouter(prefix="/v1")


@router.post("/uploads", status_code=202)
async def receive(
    request: Request,
    owner: Owner,
    here: Here,
    name: Annotated[str, Query(max_length=1000)] = "upload",
    sha256: Annotated[str | None, Query(pattern=r"^[0-9a-fA-F]{64}$")] = None,
) -> dict[str, Any]:
    """Take the request's body as a file; order it with the source ``upload:ID``."""
    folder = here.scratch.root / "uploads"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = Path(tempfile.mkdtemp(dir=folder)) / "body"
    try:
        size, digest = await _to_disk(request, path, here.settings.max_upload_bytes)
        if sha256 is not None and digest != sha256.lower():
            raise ChecksumMismatch(f"the SHA-256 of what arrived is {digest}, not {sha256.lower()}")
        return await run_in_threadpool(_keep, here, owner, safe_name(name), path, size, digest)
    finally:
        await run_in_threadpool(shutil.rmtree, path.parent, ignore_errors=True)


async def _to_disk(request: Request, path: Path, most: int) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    announced = request.headers.get("content-length")
    if announced is not None and announced.isdigit() and int(announced) > most:
        raise SourceTooLarge(f"the upload has {announced} bytes; {most} is the most")
    try:
        with path.open("xb") as file:
            async for piece in request.stream():
                size += len(piece)
                if size > most:
                    raise SourceTooLarge(f"the upload has more than {most} bytes")
                await run_in_threadpool(file.write, piece)
                digest.update(piece)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFull("no space is left for this upload") from error
        raise
    if size == 0:
        raise InvalidRequest("the upload has no bytes", hint="Send the file as the body of the request.")
    return size, digest.hexdigest()


def _keep(here: House, owner: str, name: str, path: Path, size: int, digest: str) -> dict[str, Any]:
    upload_id = uuid4()
    upload = Upload(upload_id, owner, name, size, digest, f"uploads/{upload_id}")
    here.incoming.put_file(upload.object_key, path, content_type="application/octet-stream")
    with here.database.begin() as tx:
        uploads.add(tx, upload)
    return {
        "upload_id": str(upload_id),
        "source": f"upload:{upload_id}",
        "name": name,
        "size_bytes": size,
        "sha256": digest,
    }
