"""Ranges of a representation, after RFC 9110, section 14. Pure but for the stream it wraps."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fastapi import Request, Response
from starlette.responses import StreamingResponse


@dataclass(frozen=True, slots=True)
class Span:
    """``length`` bytes from ``start``."""

    start: int
    length: int


class Unsatisfiable(ValueError):  # noqa: N818 - RFC 9110's word for it
    """The range lies outside the representation (416)."""


def parse(header: str | None, size: int) -> Span | None:
    """Return the one range that is asked for, or ``None`` for the whole.

    Anything that is not one byte range is answered with the whole, which RFC 9110 allows.
    Raises ``Unsatisfiable``.
    """
    found = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", (header or "").strip())
    if found is None or found[0] == "bytes=-":
        return None
    first, last = found[1], found[2]
    if not first:
        length = min(int(last), size)
        if length == 0:
            raise Unsatisfiable
        return Span(size - length, length)
    start = int(first)
    end = min(int(last), size - 1) if last else size - 1
    if start >= size:
        raise Unsatisfiable
    return Span(start, end - start + 1) if end >= start else None


def respond(
    request: Request,
    *,
    size: int,
    etag: str,
    read: Callable[[int, int], Iterator[bytes]],
    headers: dict[str, str],
) -> Response:
    """Answer a GET or HEAD with the whole, a part (206), 304 or 416."""
    headers = {**headers, "ETag": etag, "Accept-Ranges": "bytes", "X-Content-Type-Options": "nosniff"}
    if etag in {tag.strip() for tag in request.headers.get("if-none-match", "").split(",")}:
        return Response(status_code=304, headers=headers)
    wanted = request.headers.get("range")
    if request.headers.get("if-range", etag) != etag:
        wanted = None
    try:
        span = parse(wanted, size)
    except Unsatisfiable:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    status, start, length = 200, 0, size
    if span is not None:
        status, start, length = 206, span.start, span.length
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{size}"
    headers["Content-Length"] = str(length)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return StreamingResponse(read(start, length), status, headers)
