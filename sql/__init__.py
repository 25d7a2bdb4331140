"""Alembic's environment and the migrations; ``headrace.catalogue.migrate`` runs them."""
