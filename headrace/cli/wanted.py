"""What ``fetch`` was asked for becomes jobs: where each file goes, what it must be, how it is reached."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from headrace import source as sources
from headrace.cli.logins import Logins
from headrace.download import Access, Bandwidth, Downloader, Signed, Wish
from headrace.download.access import same_origin
from headrace.download.batch import Job, unique_name
from headrace.download.listing import Entry
from headrace.download.proof import Promise
from headrace.download.sums import Sums
from headrace.errors import HeadraceError, InvalidSource
from headrace.model import Source, SourceKind

if TYPE_CHECKING:
    from headrace.cli.fetch import Options
    from headrace.stores.s3 import Presigner


class Plan:
    """Where each file goes, what it must be, and how it is reached."""

    def __init__(self, options: Options, logins: Logins, downloader: Downloader, processes: int) -> None:
        """``processes`` share the limits. Raises ``InvalidRequest`` for checksums that are none."""
        self._options = options
        self._logins = logins
        self._promises = options.promises
        self._sums = Sums(downloader, options.sums) if options.sums else None
        self._limits = (Bandwidth(options.limit_rate / processes),) if options.limit_rate else ()
        self._taken: dict[str, set[str]] = {}

    def jobs(self, entries: tuple[Entry, ...]) -> list[Job]:
        """Return what is to be done for each; what can't be done at all is a job that fails."""
        return [self._job(entry) for entry in entries]

    def _job(self, entry: Entry) -> Job:
        path = self._options.output or self._options.directory or Path()
        try:
            source, mirrors = _source(entry), _mirrors(entry)
        except HeadraceError as error:
            return Job(sources.shown(entry.urls[0]), path, _failing(error))
        if self._options.output is None:
            taken = self._taken.setdefault(entry.folder, set())
            path = path / entry.folder / unique_name(entry.name or source.name, taken)
        return Job(
            source.shown, path, lambda: self._wish(source, mirrors, entry), keep_existing=self._options.keep_existing
        )

    def _wish(self, source: Source, mirrors: tuple[str, ...], entry: Entry) -> Wish:
        signed = None
        if source.kind is SourceKind.S3:
            from headrace import objects

            address, (url, access) = source.locator, self._object(source.locator)
            signed = Signed(source.shown, objects.known(self._presigner, address))
        else:
            address, access = self._logins.of(source.locator, entry)
            url = address
        return Wish(
            url,
            (*self._promises, *entry.promises, *self._listed(address, source.name, access)),
            access=access,
            mirrors=mirrors,
            size_bytes=entry.size_bytes,
            pieces=entry.pieces,
            limits=self._limits,
            connections=entry.connections or self._options.connections,
            durable=self._options.fsync,
            typed=entry.typed,
            signed=signed,
        )

    def _listed(self, address: str, name: str, access: Access) -> tuple[Promise, ...]:
        """Return what a checksum file says of a file that ``access`` is for."""
        if self._sums is None:
            return ()

        def reach(where: str) -> tuple[str, Access]:
            if where.startswith("s3://"):
                return self._object(where)
            return (where, access) if same_origin(where, address) else self._logins.elsewhere(where)

        return self._sums.of(address, name, reach)

    def _object(self, address: str) -> tuple[str, Access]:
        """Return a URL for an object, signed now, and what is shown there."""
        from headrace import objects

        return objects.signed(self._presigner, address), self._logins.common.elsewhere()

    @cached_property
    def _presigner(self) -> Presigner:
        from headrace.stores.s3 import Presigner, endpoint_of

        return Presigner(endpoint_of(os.environ, self._options.endpoint_url))


def _source(entry: Entry) -> Source:
    """Return the source that an entry's first URL names; raises ``InvalidSource``."""
    source = sources.parse(entry.urls[0])
    if source.kind not in {SourceKind.URL, SourceKind.S3}:
        raise InvalidSource(f"{source.shown} is not a URL", hint="Give an http(s) URL, or s3://BUCKET/KEY.")
    return source


def _mirrors(entry: Entry) -> tuple[str, ...]:
    """Return an entry's other URLs; raises ``InvalidSource``."""
    found = [sources.parse_url(mirror) for mirror in entry.urls[1:]]
    for mirror in found:
        if sources.has_user_info(mirror.locator):
            raise InvalidSource(
                f"the mirror {mirror.shown} has a login, which mirrors can't have", hint="Leave it out."
            )
    return tuple(mirror.locator for mirror in found)


def _failing(error: HeadraceError) -> Callable[[], Wish]:
    def wish() -> Wish:
        raise error

    return wish
