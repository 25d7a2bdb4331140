"""Progress and links, for the catalogue and for the Prefect UI."""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import UUID

from prefect.artifacts import create_link_artifact, create_progress_artifact, update_progress_artifact

from headrace.catalogue.database import Database, Tx
from headrace.errors import CatalogueUnavailable
from headrace.log import Log
from headrace.model import Progress

log = Log(__name__)

CATALOGUE_SECONDS = 1.0
ARTIFACT_SECONDS = 3.0
"""How often progress is written: a row is cheap, an artifact is a request to Prefect's server."""


class Reporter:
    """An ``OnProgress`` that throttles; losing a report never hurts the work."""

    def __init__(
        self, database: Database, write: Callable[[Tx, Progress], None], *, artifact: str | None = None
    ) -> None:
        """``write`` puts a report into the catalogue; ``artifact`` describes a bar in the Prefect UI."""
        self._database = database
        self._write = write
        self._next_row = self._next_artifact = 0.0
        self._artifact: UUID | None = None
        if artifact is not None:
            self._artifact = create_progress_artifact(0.0, description=artifact)  # type: ignore[assignment]

    def __call__(self, progress: Progress) -> None:
        """Take a report."""
        now = time.monotonic()
        if now >= self._next_row:
            self._next_row = now + CATALOGUE_SECONDS
            try:
                with self._database.begin() as tx:
                    self._write(tx, progress)
            except CatalogueUnavailable as error:
                log.info("progress.unwritten", why=error.message)
        if self._artifact is not None and progress.fraction is not None and now >= self._next_artifact:
            self._next_artifact = now + ARTIFACT_SECONDS
            update_progress_artifact(self._artifact, round(progress.fraction * 100, 1))

    def finish(self) -> None:
        """Fill the bar."""
        if self._artifact is not None:
            update_progress_artifact(self._artifact, 100.0)


def link(url: str, text: str, key: str) -> None:
    """Put a link into the Prefect UI; ``key`` groups the versions of it."""
    create_link_artifact(link=url, link_text=text, key=key)
