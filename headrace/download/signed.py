"""Addresses of an object's that were signed by ourselves: what is known of the object, and what errors call it.

A signed URL is another one for each try; its path says which object it is, and its query nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from headrace.download.journal import Validator
from headrace.download.proof import Promise
from headrace.errors import SourceError, SourceForbidden, SourceNotFound
from headrace.source import redact


@dataclass(frozen=True, slots=True)
class Known:
    """What the store has said of one version of the object, apart from the download."""

    validator: Validator
    promises: tuple[Promise, ...]

    def of(self, validator: Validator) -> tuple[Promise, ...]:
        """Return the promises if they are of this version; another one may have come meanwhile."""
        return self.promises if self.validator.agrees(validator) else ()


@dataclass(frozen=True, slots=True)
class Signed:
    """What a download's URL stands for."""

    shown: str
    """As people know it, such as ``s3://BUCKET/KEY``."""
    known: Known | None = None

    def promises(self, validator: Validator) -> tuple[Promise, ...]:
        """Return what the store promises of a version; nothing where it has said nothing of it."""
        return self.known.of(validator) if self.known is not None else ()


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
    text, hint = error.message.replace(redact(url), shown), error.hint
    for place in (parts.netloc, parts.hostname or ""):
        text = text.replace(place, "the object store")
    if isinstance(error, SourceNotFound):
        text, hint = f"{shown} is not there", "It may have been moved or removed."
    elif isinstance(error, SourceForbidden):
        hint = "The keys may not read it, or are no longer valid; what is archived must be restored first."
    return type(error)(text if shown in text else f"{shown}: {text}", hint=hint, **error.evidence)
