"""The connection to Postgres: one pool for a process, one transaction for a change.

Foreign errors are translated here and nowhere else: what a lost or refused connection
raises becomes ``CatalogueUnavailable``. Constraint violations pass as they are to the
catalogue's functions, which know what each one means.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from headrace.errors import CatalogueUnavailable, StackError

CONNECT_SECONDS = 10
"""A server that does not answer for so long is down as far as a caller is concerned."""

POOL_SIZE = 8
"""Connections a process keeps; the gateway's thread pool is bounded to about as many."""

Tx = Connection
"""One transaction; every function of the catalogue takes it first."""


class Database:
    """A pool of connections to one database."""

    def __init__(self, url: str) -> None:
        if not url:
            raise StackError(
                "no database is configured",
                hint="Start the stack with `headrace up`, or set HEADRACE_DATABASE_URL.",
            )
        self._engine = create_engine(
            url,
            pool_size=POOL_SIZE,
            max_overflow=POOL_SIZE,
            pool_pre_ping=True,
            connect_args={"connect_timeout": CONNECT_SECONDS, "application_name": "headrace"},
        )

    @contextmanager
    def begin(self) -> Iterator[Tx]:
        """Open a transaction: committed at the end, rolled back on any exception.

        Raises ``CatalogueUnavailable`` (a retry can help) where Postgres does not answer.
        When the commit's reply is lost the outcome is unknown: look before doing it again.
        """
        try:
            with self._engine.begin() as connection:
                yield connection
        except (OperationalError, PoolTimeout) as error:
            raise CatalogueUnavailable("Postgres does not answer", cause=_first_line(error)) from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise CatalogueUnavailable("the connection to Postgres broke", cause=_first_line(error)) from error
            raise

    def close(self) -> None:
        """Close every connection; the object can't be used afterwards."""
        self._engine.dispose()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
