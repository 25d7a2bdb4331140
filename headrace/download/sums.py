"""Checksum files: what a publisher says of its files, read from beside them or from where the user says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from headrace.download import proof
from headrace.download.access import Access
from headrace.download.proof import Promise
from headrace.download.transfer import Downloader
from headrace.errors import InvalidRequest, SourceError
from headrace.source import redact

BESIDE = "auto"
"""Look for one beside each file."""


Reach = Callable[[str], tuple[str, Access]]
"""Turns an address that a user may name into a URL that can be asked, and what may be shown there."""


class Sums:
    """The checksum files that were asked for; each is read once, by whoever needs it first."""

    def __init__(self, downloader: Downloader, where: str) -> None:
        """``where`` is the address or the path of a checksum file, or ``auto``."""
        self._downloader = downloader
        self._where = where
        self._lock = threading.Lock()
        self._read: dict[str, Future[str]] = {}

    def of(self, address: str, name: str, reach: Reach) -> tuple[Promise, ...]:
        """Return what the file at ``address``, called ``name``, must be.

        Raises ``InvalidRequest`` where no checksum file speaks of it: who asks for a proof gets
        one or an error. Raises a ``SourceError`` where one can't be read now (a retry can help).
        """
        if self._where != BESIDE:
            found = proof.parse_sums(self._text(self._where, reach), name)
            if not found:
                raise InvalidRequest(f"{redact(self._where)} says nothing of {name}", hint="Is it the right list?")
            return found
        for beside, _ in proof.sidecar_urls(address):
            try:
                text = self._text(beside, reach)
            except SourceError as error:
                if error.retryable:
                    raise
                continue  # it isn't there, or not for us; another one may be
            if found := proof.parse_sums(text, name):
                return found
        raise InvalidRequest(
            f"there is no checksum file beside {redact(address)}",
            hint="Name it with --sums URL, or give the checksum with --sha256.",
        )

    def _text(self, where: str, reach: Reach) -> str:
        with self._lock:
            known = self._read.get(where)
            reading = known or self._read.setdefault(where, Future())
        if known is None:
            try:
                reading.set_result(self._load(where, reach))
            except BaseException as error:
                if not isinstance(error, SourceError) or error.retryable:
                    del self._read[where]  # who asks later tries again
                reading.set_exception(error)
                raise
        return reading.result()

    def _load(self, where: str, reach: Reach) -> str:
        if where.startswith(("http://", "https://", "s3://")):
            url, access = reach(where)
            content = self._downloader.read(url, proof.MAX_SUMS_BYTES, access)
        else:
            try:
                with Path(where).open("rb") as file:
                    content = file.read(proof.MAX_SUMS_BYTES + 1)
            except OSError as error:
                raise InvalidRequest(f"{where} can't be read: {error.strerror}") from error
            if len(content) > proof.MAX_SUMS_BYTES:
                raise InvalidRequest(f"{where} has more than {proof.MAX_SUMS_BYTES} bytes: that is no checksum file")
        return content.decode("utf-8", "replace")
