"""What a reply offers: which bytes, of which version, of how long a file. Pure.

A reply is believed only as far as it fits the request (RFC 9110, sections 14 and 15.3.7):
a 206 for other bytes, a 200 to a ranged request and an encoded body are not what was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import httpx

from headrace.download import proof
from headrace.download.body import Reply, length_of
from headrace.download.journal import Validator
from headrace.download.proof import Promise
from headrace.errors import SourceChanged, SourceRefused
from headrace.source import safe_name

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_EMPTY_RANGE = re.compile(r"bytes \*/0")


@dataclass(frozen=True, slots=True)
class Offer:
    """One reply's body, in terms of the file."""

    ranged: bool
    """Whether the server answered with the range (206) or with the whole (200)."""
    start: int
    end: int | None
    """Where the body ends, excluded; ``None`` where only its end tells."""
    size_bytes: int | None
    """The whole file's."""
    validator: Validator
    promises: tuple[Promise, ...]
    name: str | None
    media_type: str | None


def of(reply: Reply, *, stored: bool = False) -> Offer:
    """Return what a 200 or 206 offers; raises ``SourceRefused`` where it is not what HTTP allows.

    ``stored`` says that an encoding is how the file lies there, as in S3, and not how it was sent.
    """
    if not stored and reply.headers.get("content-encoding", "identity").lower() not in {"identity", ""}:
        raise SourceRefused("the server insists on an encoded answer, whose bytes can't be told apart")
    ranged = reply.status == httpx.codes.PARTIAL_CONTENT
    media_type = reply.headers.get("content-type", "").partition(";")[0].strip() or None
    if ranged and (media_type or "").lower() == "multipart/byteranges":
        raise SourceRefused("the server answers a request for one range with several")
    start, end, size = _range_of(reply) if ranged else (0, _length_of(reply), _length_of(reply))
    return Offer(
        ranged=ranged,
        start=start,
        end=end,
        size_bytes=size,
        validator=validator_of(reply.headers),
        promises=proof.from_headers(reply.headers, whole=not ranged or (start, end) == (0, size), ranged=ranged),
        name=_name_of(reply),
        media_type=media_type,
    )


def is_empty(reply: Reply) -> bool:
    """Return whether a 416 says that the file has no bytes at all."""
    ranges = reply.headers.get("content-range", "").strip()
    return reply.status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and bool(_EMPTY_RANGE.fullmatch(ranges))


def fits(offer: Offer, start: int, size_bytes: int, pinned: Validator) -> None:
    """Check that a 206 continues a file that was begun; raises ``SourceChanged``.

    ``pinned`` is what the file's first reply said.
    """
    same = offer.start == start and offer.size_bytes in {size_bytes, None}
    if pinned.if_range is not None and not pinned.agrees(offer.validator):
        same = False  # also where a reply says nothing: a 206 must say what a 200 would (RFC 9110, 15.3.7)
    if not same:
        raise SourceChanged("the source became another file while it was downloaded")


def validator_of(headers: Mapping[str, str]) -> Validator:
    """Return the strong ETag and the date of a reply, whose ``headers`` have names in lower case.

    A date of the very second in which the reply was made is no validator: the file may change
    again within it (RFC 9110, section 8.8.2.2).
    """
    etag = headers.get("etag")
    if etag is not None and not (etag.startswith('"') and etag.endswith('"') and len(etag) > len('""')):
        etag = None  # an empty one, as rclone serve s3 sends, is the same for every file
    modified = headers.get("last-modified")
    return Validator(etag, modified if modified != headers.get("date") else None)


def _range_of(reply: Reply) -> tuple[int, int, int | None]:
    found = _CONTENT_RANGE.fullmatch(reply.headers.get("content-range", "").strip())
    if found is None:
        raise SourceRefused("the server answers with a part of the file and doesn't say which")
    start, end = int(found[1]), int(found[2]) + 1
    size = None if found[3] == "*" else int(found[3])
    length = _length_of(reply)
    if end <= start or (size is not None and end > size) or length not in {end - start, None}:
        raise SourceRefused(f"the server's answer contradicts itself: {found[0]}")
    return start, end, size


def _length_of(reply: Reply) -> int | None:
    return length_of(reply.status, reply.headers)


def _name_of(reply: Reply) -> str | None:
    """Return a label for the download: from ``Content-Disposition`` (RFC 6266), else from the URL."""
    disposition = reply.headers.get("content-disposition", "")
    if found := re.search(r"filename\*=(?:UTF-8|utf-8)''([^;\s]+)", disposition):
        return safe_name(unquote(found[1]))
    if found := re.search(r'filename="?([^";]+)"?', disposition):
        return safe_name(found[1])
    path = urlsplit(reply.url).path
    return safe_name(unquote(path)) if path.strip("/") else None
