"""Checksum files: what a publisher says of its files, read from beside them or from where the user says."""

from __future__ import annotations

from pathlib import Path

from headrace.download import proof
from headrace.download.proof import Promise
from headrace.download.transfer import Downloader
from headrace.errors import InvalidRequest, SourceError
from headrace.source import redact

BESIDE = "auto"
"""Look for one beside each file."""


class Sums:
    """The checksum files that were asked for; each is read once."""

    def __init__(self, downloader: Downloader, where: str) -> None:
        """``where`` is the URL or the path of a checksum file, or ``auto``."""
        self._downloader = downloader
        self._where = where
        self._read: dict[str, str | SourceError] = {}

    def of(self, url: str, name: str) -> tuple[Promise, ...]:
        """Return what the file at ``url``, called ``name``, must be.

        Raises ``InvalidRequest`` where no checksum file speaks of it: who asks for a proof gets
        one or an error.
        """
        if self._where != BESIDE:
            found = proof.parse_sums(self._text(self._where, must_be_there=True) or "", name)
            if not found:
                raise InvalidRequest(f"{redact(self._where)} says nothing of {name}", hint="Is it the right list?")
            return found
        for beside, _ in proof.sidecar_urls(url):
            text = self._text(beside, must_be_there=False)
            if text is not None and (found := proof.parse_sums(text, name)):
                return found
        raise InvalidRequest(
            f"there is no checksum file beside {redact(url)}",
            hint="Name it with --sums URL, or give the checksum with --sha256.",
        )

    def _text(self, where: str, *, must_be_there: bool) -> str | None:
        if where not in self._read:
            try:
                self._read[where] = self._load(where)
            except SourceError as error:
                self._read[where] = error
        found = self._read[where]
        if isinstance(found, str):
            return found
        if must_be_there:
            raise found
        return None

    def _load(self, where: str) -> str:
        if where.startswith(("http://", "https://")):
            content = self._downloader.read(where, proof.MAX_SUMS_BYTES)
        else:
            try:
                with Path(where).open("rb") as file:
                    content = file.read(proof.MAX_SUMS_BYTES)
            except OSError as error:
                raise InvalidRequest(f"{where} can't be read: {error.strerror}") from error
        return content.decode("utf-8", "replace")
