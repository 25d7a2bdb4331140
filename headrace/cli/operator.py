"""For the operator, in-process on Postgres and S3: ``get``, ``verify``, ``space``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from headrace.cli import EXIT_FAILED, home_option
from headrace.cli.output import json_option, print_json, size

OWNER = "default"


@contextmanager
def _house(home: Path | None) -> Iterator[Any]:
    from headrace import settings, wiring

    house = wiring.build(settings.load(home))
    try:
        yield house
    finally:
        house.close()


@click.command()
@click.argument("asset", metavar="ASSET")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="PATH")
@home_option
def get(asset: str, output: Path, home: Path | None) -> None:
    """Write an asset's original bytes to a file, verified; it appears whole or not at all."""
    from headrace.catalogue import assets
    from headrace.errors import NotFound

    with _house(home) as house:
        with house.database.begin() as tx:
            found = assets.get(tx, OWNER, asset)
        if found.master is None:
            raise NotFound(f"the original of {found.title} is not in the archive yet")
        house.vault.restore(found.master, output)
    click.echo(f"{output}: {size(found.size_bytes)}, BLAKE3 verified", err=True)


@click.command()
@click.option("--read-data", is_flag=True, help="Read every master and compare its hash, not only its size.")
@json_option
@home_option
def verify(read_data: bool, as_json: bool, home: Path | None) -> int:
    """Check that the archive holds every master the catalogue names. Exit status 1 where it does not."""
    from headrace.catalogue import assets
    from headrace.errors import ObjectDamaged, ObjectMissing

    damaged: list[dict[str, Any]] = []
    with _house(home) as house:
        with house.database.begin() as tx:
            masters = assets.masters(tx)
        for master in masters:
            try:
                (house.vault.verify if read_data else house.vault.check)(master)
            except (ObjectMissing, ObjectDamaged) as error:
                damaged.append({"asset_id": master.blake3, **error.to_json()})
    if as_json:
        print_json([*damaged, {"masters": len(masters), "damaged": len(damaged), "read_data": read_data}])
    else:
        for one in damaged:
            click.echo(f"{one['asset_id'][:12]}  {one['message']}")
        click.echo(f"{len(masters)} master(s) checked, {len(damaged)} damaged or missing")
    return EXIT_FAILED if damaged else 0


@click.command()
@json_option
@home_option
def space(as_json: bool, home: Path | None) -> None:
    """Show what the archive holds, and what dedup and compression save."""
    from headrace.catalogue import assets

    with _house(home) as house, house.database.begin() as tx:
        found = asdict(assets.space(tx))
    if as_json:
        print_json([found])
        return
    for name, count in found.items():
        click.echo(f"{name.removesuffix('_bytes').replace('_', ' '):<24}{size(count):>12}")
