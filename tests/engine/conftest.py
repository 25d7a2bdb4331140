"""What the tests of the download engine share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import Server, serving


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr("headrace.download.worker.BACKOFF_SECONDS", 0.01)


@pytest.fixture
def server() -> Iterator[Server]:
    """A source of the test's own: what it has seen is what the test asked for."""
    with serving() as running:
        yield running
