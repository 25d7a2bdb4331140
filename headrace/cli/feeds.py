"""Feeds: ``watch add``, ``watch list``, ``watch remove``; all through the gateway."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from headrace.cli.output import gateway_options, json_option, print_json, print_table

if TYPE_CHECKING:
    from headrace.client import Gateway

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@click.group()
def watch() -> None:
    """Watch feeds and take in what is new."""


def _seconds(_context: click.Context, _parameter: click.Parameter, value: str) -> int:
    found = re.fullmatch(r"(\d{1,6})([smhd])", value)
    if found is None:
        raise click.BadParameter("give a number with s, m, h or d, such as 15m")
    return int(found[1]) * UNITS[found[2]]


@watch.command()
@click.argument("feed", metavar="FEED")
@click.option("--every", default="15m", show_default=True, callback=_seconds, help="How often to look; 1m at least.")
@click.option("--recipe", default="web", show_default=True, help="web, archive, audio or a recipe's YAML file.")
@json_option
@gateway_options
def add(feed: str, every: int, recipe: str, as_json: bool, gateway: Gateway) -> None:
    """Watch an RSS or podcast feed, an HTML index, or s3://BUCKET/PREFIX/."""
    from headrace import recipe as recipes

    wanted = recipes.load(recipe)
    body = wanted if isinstance(wanted, str) else wanted.model_dump(mode="json")
    made = gateway.post("/v1/feeds", {"url": feed, "every_seconds": every, "recipe": body})
    if as_json:
        print_json([made])
    else:
        click.echo(made["feed_id"])


@watch.command("list")
@json_option
@gateway_options
def list_feeds(as_json: bool, gateway: Gateway) -> None:
    """List the feeds that are watched."""
    found = gateway.get("/v1/feeds")
    if as_json:
        print_json(found)
        return
    rows = [
        (
            feed["feed_id"],
            feed["url"],
            f"{feed['every_seconds'] // 60} min",
            feed["recipe"],
            feed["entries"],
            feed["error"]["message"] if feed["error"] else "",
        )
        for feed in found
    ]
    print_table(("Feed", "Address", "Every", "Recipe", "Seen", "Error"), rows, empty="No feed is watched.")


@watch.command()
@click.argument("feed_id", metavar="FEED_ID")
@gateway_options
def remove(feed_id: str, gateway: Gateway) -> None:
    """Stop watching a feed (by its id, or its address); what it brought stays."""
    known = next((feed["feed_id"] for feed in gateway.get("/v1/feeds") if feed["url"] == feed_id), feed_id)
    gateway.call("DELETE", f"/v1/feeds/{known}")
    click.echo("removed")
