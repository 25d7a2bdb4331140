"""Addresses of an object's that were signed by ourselves: what is known of the object, and what errors call it.

A signed URL is another one for each try; its path says which object it is, and its query nothing.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from headrace.download.journal import Validator
from headrace.download.proof import Promise
from headrace.errors import SourceError
from headrace.source import redact


@dataclass(frozen=True, slots=True)
class Known:
    """What the store has said of one version of the object, apart from the download."""

    validator: Validator
    promises: tuple[Promise, ...]


@dataclass(frozen=True, slots=True)
class Signed:
    """What a download's URL stands for."""

    shown: str
    """As people know it, such as ``s3://BUCKET/KEY``."""
    known: Known | None = None

    def promises(self, validator: Validator | None = None) -> tuple[Promise, ...]:
        """Return what the store promises of the object, or of the version that it sends now.

        Another one than it has spoken of may have come meanwhile, and of that it has promised nothing.
        """
        if self.known is None or (validator is not None and not self.known.validator.agrees(validator)):
            return ()
        return self.known.promises


_REFUSED = "The keys may not read it, or are no longer valid; what is archived must be restored first."
_HINTS = {401: _REFUSED, 403: _REFUSED, 404: "It may have been moved or removed."}
"""By status, instead of those for addresses that somebody has typed."""


@contextlib.contextmanager
def speaking_of(signed: Signed | None, url: str) -> Iterator[None]:
    """Let errors in the block name the object instead of the address, which is nobody's business."""
    try:
        yield
    except SourceError as error:
        if signed is None:
            raise
        raise _renamed(error, signed.shown, url) from error


def _renamed(error: SourceError, shown: str, url: str) -> SourceError:
    parts = urlsplit(url)
    names = [parts.netloc, *([parts.hostname] if parts.hostname and "." in parts.hostname else [])]  # not just "s3"
    hosts = "|".join(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])" for name in names)
    told = error.message.split(redact(url))
    text = shown.join(re.sub(hosts, "the object store", one, flags=re.IGNORECASE) for one in told)
    hint = _HINTS.get(error.evidence.get("status", 0), error.hint)
    return type(error)(text if shown in text else f"{shown}: {text}", hint=hint, **error.evidence)
