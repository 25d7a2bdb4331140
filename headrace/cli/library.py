"""The library: ``assets``, ``show``, ``play``, ``delete``, ``unpublish``; all through the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from headrace.cli.output import duration, gateway_options, json_option, print_json, print_table, size

if TYPE_CHECKING:
    from headrace.client import Gateway


@click.command()
@click.option("--search", default=None, help="Only those with this in their title or path.")
@json_option
@gateway_options
def assets(search: str | None, as_json: bool, gateway: Gateway) -> None:
    """List the library, the newest first."""
    found = gateway.get("/v1/assets", search=search)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            asset["asset_id"][:12],
            asset["title"],
            asset["media_type"],
            duration(asset["duration_seconds"]),
            size(asset["size_bytes"]),
            "plays" if asset["playback"] else "kept",
        )
        for asset in found
    ]
    print_table(("Asset", "Title", "Type", "Length", "Size", ""), rows, empty="The library is empty.")


@click.command()
@click.argument("asset", metavar="ASSET")
@json_option
@gateway_options
def show(asset: str, as_json: bool, gateway: Gateway) -> None:
    """Show one asset: facts, renditions, where it plays."""
    found = gateway.get(f"/v1/assets/{asset}")
    if as_json:
        print_json([found])
        return
    for name, value in _facts(found):
        click.echo(f"{name:<12}{value}")


def _facts(found: dict[str, Any]) -> list[tuple[str, str]]:
    master = found["master"]
    facts = [
        ("Title", found["title"]),
        ("Asset", found["asset_id"]),
        ("SHA-256", found["sha256"]),
        ("Type", found["media_type"]),
        ("Size", size(found["size_bytes"])),
        ("Length", duration(found["duration_seconds"])),
        ("Master", f"{master['kind']}, {size(master['stored_bytes'])} ({master['reason']})" if master else "missing"),
    ]
    for one in found["renditions"]:
        picture = f"{one['width']}x{one['height']} {one['frame_rate']:.2f} fps" if one["width"] else ""
        facts.append(("Rendition", f"{one['name']}  {one['codec']}  {picture}  {one['bitrate'] // 1000} kbit/s"))
    facts += [("Warning", warning) for warning in found["warnings"]]
    if found["error"]:
        facts.append(("Problem", found["error"]["message"]))
    if found["playback"]:
        facts.append(("Watch", found["playback"]["watch"]))
    return facts


@click.command()
@click.argument("asset", metavar="ASSET")
@json_option
@gateway_options
def play(asset: str, as_json: bool, gateway: Gateway) -> None:
    """Print a link that plays an asset, good for 24 hours."""
    found = gateway.get(f"/v1/assets/{asset}/playback")
    if as_json:
        print_json([found])
    else:
        click.echo(found["watch"])


@click.command()
@click.argument("asset", metavar="ASSET")
@click.option("--undo", is_flag=True, help="Take the last deletion back.")
@gateway_options
def delete(asset: str, undo: bool, gateway: Gateway) -> None:
    """Remove an asset from the library; --undo takes that back."""
    if undo:
        done = gateway.post(f"/v1/assets/{asset}/restore")
        click.echo(f"{done['asset_id'][:12]} is back")
    else:
        done = gateway.call("DELETE", f"/v1/assets/{asset}")
        click.echo(f"{done['asset_id'][:12]} removed; `headrace delete --undo {done['asset_id'][:12]}` takes it back")


@click.command()
@click.argument("asset", metavar="ASSET")
@gateway_options
def unpublish(asset: str, gateway: Gateway) -> None:
    """Take an asset's streams offline; its master stays."""
    done = gateway.post(f"/v1/assets/{asset}/unpublish")
    click.echo(f"{done['publications']} publication(s) taken offline")
