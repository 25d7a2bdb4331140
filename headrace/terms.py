"""The terms of a source: its mirrors, digests, pieces and credential, as an order carries them. Pure.

``of_body`` reads what somebody sent, ``of_row`` what the catalogue kept; ``to_json`` is what it keeps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.download import ranges
from headrace.download.proof import ALGORITHMS, promise
from headrace.errors import InvalidRequest
from headrace.model import Pieces, SourceKind, Terms
from headrace.source import parse_ordered

MAX_MIRRORS = 32
MAX_PIECES = 100_000
"""400 GiB in pieces of 4 MiB; their digests take 6.4 MB of an order."""


def of_body(
    *,
    mirrors: Sequence[str] = (),
    digests: Mapping[str, str] | None = None,
    size_bytes: int | None = None,
    pieces: Mapping[str, Any] | None = None,
    credential: str | None = None,
) -> Terms:
    """Return the terms that an order's body names, checked; raises ``InvalidRequest`` or ``InvalidSource``."""
    if len(mirrors) > MAX_MIRRORS:
        raise InvalidRequest(f"{len(mirrors)} mirrors are too many; {MAX_MIRRORS} is the most")
    promised = [promise(algorithm, value, "order") for algorithm, value in (digests or {}).items()]
    known = None if pieces is None else _pieces(**pieces)
    if known is not None and size_bytes is not None and not known.make_up(size_bytes):
        raise InvalidRequest(f"{len(known.values)} pieces of {known.length_bytes} bytes do not make up {size_bytes}")
    return Terms(
        mirrors=tuple(_mirror(url) for url in mirrors),
        digests=tuple((one.algorithm, one.value) for one in promised),
        size_bytes=size_bytes,
        pieces=known,
        credential=credential,
    )


def _mirror(text: str) -> str:
    source = parse_ordered(text)
    if source.kind is not SourceKind.URL:
        raise InvalidRequest(f"the mirror {source.shown} is no http(s) URL")
    return source.locator


def _pieces(algorithm: str, length_bytes: int, values: Sequence[str]) -> Pieces:
    if not 0 < len(values) <= MAX_PIECES:
        raise InvalidRequest(f"pieces are 1 to {MAX_PIECES}, not {len(values)}")
    if length_bytes < 1 or ranges.block_bytes(None, length_bytes) > ranges.MAX_UNDIVIDED_PIECE:
        raise InvalidRequest(f"pieces of {length_bytes} bytes can't be checked", hint="A power of two is usual.")
    checked = [promise(algorithm, value, "order") for value in values]
    return Pieces(checked[0].algorithm, length_bytes, tuple(one.value for one in checked))


def to_json(terms: Terms) -> dict[str, Any] | None:
    """Return what the catalogue keeps, or ``None`` where there are no terms; ``of_row`` is its inverse."""
    if terms == Terms():
        return None
    return {
        "mirrors": list(terms.mirrors),
        "digests": dict(terms.digests),
        "size_bytes": terms.size_bytes,
        "pieces": None
        if terms.pieces is None
        else {
            "algorithm": terms.pieces.algorithm,
            "length_bytes": terms.pieces.length_bytes,
            "values": list(terms.pieces.values),
        },
        "credential": terms.credential,
    }


def of_row(body: Mapping[str, Any] | None) -> Terms:
    """Return the terms that were kept."""
    if body is None:
        return Terms()
    pieces = body["pieces"]
    return Terms(
        mirrors=tuple(body["mirrors"]),
        digests=tuple((name, body["digests"][name]) for name in ALGORITHMS if name in body["digests"]),
        size_bytes=body["size_bytes"],
        pieces=None if pieces is None else Pieces(pieces["algorithm"], pieces["length_bytes"], tuple(pieces["values"])),
        credential=body["credential"],
    )
