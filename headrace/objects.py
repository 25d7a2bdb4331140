"""Objects of an S3 as sources: what the engine asks for, and what S3 promises of them."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx

from headrace.download import offer, proof
from headrace.download.signed import Known
from headrace.errors import InvalidSource
from headrace.stores.s3 import Presigner

SIGNED_SECONDS = 7 * 24 * 3600
"""The longest that SigV4 allows (Amazon S3 User Guide, "Sharing objects with presigned URLs"): each try signs anew,
but a slow file is asked for piece by piece for days."""


def named(address: str) -> tuple[str, str]:
    """Return the bucket and the key of ``s3://BUCKET/KEY``."""
    bucket, _, key = address.removeprefix("s3://").partition("/")
    return bucket, key


def signed(presigner: Presigner, address: str) -> str:
    """Return a URL that reads an object, signed now.

    Raises ``StoreRefused`` where there are no keys, ``InvalidSource`` for a key that HTTP can't ask for as it is.
    """
    url = presigner.get(*named(address), SIGNED_SECONDS)
    parts = urlsplit(url)
    if httpx.URL(url).raw_path.decode("ascii") != f"{parts.path}?{parts.query}":
        raise InvalidSource(f"{address} can't be asked for: its key would become another one on the way")
    return url


def known(presigner: Presigner, address: str) -> Known | None:
    """Return what S3 says of an object and its digests; ``None`` where that can't be had."""
    headers = presigner.headers(*named(address))
    promises = proof.from_headers(headers, whole=True)
    return Known(offer.validator_of(headers), promises) if promises else None
