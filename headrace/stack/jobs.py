"""The jobs of a start, each a short process of its own: ``python -m headrace.stack.jobs NAME``.

``migrate``   brings Headrace's database to the schema of this version
``register``  ends the runs that died with the last stack, then as ``deploy``
``deploy``    makes work pools and deployments on the Prefect server (``registration``)
``buckets``   makes the three buckets on the S3 of the settings

The embedded stack runs the first two, docker-compose.yml all but ``register``.

They are processes, because what they import would weigh on the supervisor for its whole life.
"""

from __future__ import annotations

import sys

from headrace.errors import HeadraceError
from headrace.settings import load


def on_clean_start(database_url: str) -> None:
    """Give back the leases and connections of the last run of this machine; no process of the stack lives then.

    Runs after the migration and before any worker starts, so what was cut off is due at once.
    """
    from headrace.catalogue import hosts, leases
    from headrace.catalogue.database import Database
    from headrace.claim import machine_name

    database = Database(database_url)
    try:
        with database.begin() as tx:
            leases.release_machine(tx, machine_name())
            hosts.release_machine(tx, machine_name())
    finally:
        database.close()


def migrate() -> None:
    """Bring the database to this version's schema."""
    from headrace.catalogue.migrate import upgrade

    database_url = load().database_url.get_secret_value()
    upgrade(database_url)
    on_clean_start(database_url)


def register() -> None:
    """Make work pools and deployments known to the Prefect server of a stack that has just started."""
    from headrace.stack import registration

    registration.register()


def deploy() -> None:
    """Make work pools and deployments known to a Prefect server whose workers may be at work."""
    from headrace.stack import registration

    registration.deploy()


def buckets() -> None:
    """Make the buckets that don't exist yet."""
    from headrace import wiring
    from headrace.stores.s3 import S3Bucket

    found = load()
    for name in (found.s3_vault_bucket, found.s3_streams_bucket, found.s3_incoming_bucket):
        S3Bucket(wiring.endpoint(found), name).make()


def main(name: str) -> int:
    """Run one job; its error is the last line on stderr, which the supervisor shows."""
    try:
        {"migrate": migrate, "register": register, "deploy": deploy, "buckets": buckets}[name]()
    except HeadraceError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
