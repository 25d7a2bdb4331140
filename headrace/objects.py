"""Objects of an S3 as sources: what the engine asks for, and what S3 promises of them."""

from __future__ import annotations

from headrace.download.proof import Promise, from_headers
from headrace.stores.s3 import Presigner

SIGNED_SECONDS = 7 * 24 * 3600
"""The longest that SigV4 allows (Amazon S3 User Guide, "Sharing objects with presigned URLs"): a slow file
is asked for piece by piece, and the signature stays in this process."""


def named(address: str) -> tuple[str, str]:
    """Return the bucket and the key of ``s3://BUCKET/KEY``."""
    bucket, _, key = address.removeprefix("s3://").partition("/")
    return bucket, key


def signed(presigner: Presigner, address: str) -> str:
    """Return a URL that reads an object, signed now; raises ``StoreRefused`` where there are no keys."""
    return presigner.get(*named(address), SIGNED_SECONDS)


def promised(presigner: Presigner, address: str) -> tuple[Promise, ...]:
    """Return the digests that S3 has of a whole object; raises ``StoreRefused`` where there are no keys."""
    return from_headers(presigner.headers(*named(address)), whole=True)
