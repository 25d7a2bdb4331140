"""Brings a database to the schema of this version, with Alembic (``sql/``).

Several processes may do so at once: an advisory lock lets one work and the others wait.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from headrace.catalogue.database import Database

MIGRATION_LOCK = 0x68656164
"""An arbitrary key for ``pg_advisory_xact_lock``: "head" in ASCII."""


def _config(connection: Connection | None = None) -> Config:
    spec = find_spec("sql")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the package 'sql' with the migrations is not installed")
    config = Config()
    config.set_main_option("script_location", str(Path(spec.origin).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def upgrade(database_url: str, revision: str = "head") -> None:
    """Apply every migration up to ``revision``; does nothing where the database is there already.

    Raises ``CatalogueUnavailable`` (a retry can help) where Postgres does not answer.
    """
    database = Database(database_url)
    try:
        with database.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            if MigrationContext.configure(connection).get_current_revision() != revision:
                command.upgrade(_config(connection), revision)
    finally:
        database.close()


def downgrade(database_url: str, revision: str) -> None:
    """Take migrations back down to ``revision`` (``base`` for none); what they added is lost."""
    database = Database(database_url)
    try:
        with database.begin() as connection:
            command.downgrade(_config(connection), revision)
    finally:
        database.close()


def head() -> str:
    """Return the newest revision that this version of the code knows."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise LookupError("sql/versions holds no migration")
    return revision
