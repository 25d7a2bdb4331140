"""Alembic's environment: one connection, handed in by ``headrace.catalogue.migrate``."""

from alembic import context

from headrace.catalogue import tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=tables.SQLModel.metadata,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
