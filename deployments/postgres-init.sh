#!/bin/sh
# Makes the roles and databases `headrace` and `prefect`; Postgres' image runs it once, on an empty volume.
# It can also be run by hand against a Postgres of your own, with PGHOST, PGPORT, PGPASSWORD and POSTGRES_USER set.
set -eu

# The passwords travel in the environment (psql's \getenv), never in an argv; :'name' quotes them.
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv headrace_password HEADRACE_ROLE_PASSWORD
\getenv prefect_password PREFECT_ROLE_PASSWORD
SET password_encryption = 'scram-sha-256';
CREATE ROLE headrace LOGIN PASSWORD :'headrace_password';
CREATE ROLE prefect LOGIN PASSWORD :'prefect_password';
CREATE DATABASE headrace OWNER headrace;
CREATE DATABASE prefect OWNER prefect;
-- Each role sees its own database only.
REVOKE ALL ON DATABASE headrace, prefect FROM PUBLIC;
SQL

# Prefect's migrations want it, and its role may not create it.
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname prefect \
	--command 'CREATE EXTENSION IF NOT EXISTS pg_trgm'
