"""Orders: ``ingest``, ``items``, ``cancel``, ``retry``; all through the gateway."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headrace.cli import EXIT_FAILED, EXIT_SOME_FAILED
from headrace.cli.output import gateway_options, json_option, print_json, print_table, size
from headrace.cli.rate import RATE
from headrace.errors import HeadraceError, InvalidRequest, StackError

if TYPE_CHECKING:
    from headrace.client import Gateway

POLL_SECONDS = 0.5
PATIENCE_SECONDS = 120.0
"""How long ``--wait`` goes on asking while the gateway, or Postgres behind it, is away: it may be restarting."""

MOST_MIRRORS = 32
"""Of a file in a Metalink, beside the first: the preferred ones; an order carries no more."""

FINAL = frozenset({"published", "stored", "failed", "cancelled"})
LOST = frozenset({"failed", "cancelled"})
REMOTE = ("http://", "https://", "s3://", "file://", "asset:", "upload:")


@click.command()
@click.argument("sources", nargs=-1, metavar="SOURCE...")
@click.option("--from-file", type=click.File("r", encoding="utf-8"), help="More sources, one a line; - is stdin.")
@click.option("--recipe", default="web", show_default=True, help="web, archive, audio or a recipe's YAML file.")
@click.option("--sha256", default=None, metavar="HEX", help="What the one source must be.")
@click.option("--mirror", "mirrors", multiple=True, metavar="URL", help="Another URL of the one source; repeatable.")
@click.option(
    "--metalink",
    "metalinks",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A Metalink (.meta4): all files it describes, with mirrors and digests.",
)
@click.option("--credential", default=None, metavar="NAME", help="What the operator's credentials file keeps for it.")
@click.option("--limit-rate", type=RATE, default=None, help="Bytes a second for the whole order: 500k, 2.5M.")
@click.option("--key", default=None, help="Idempotency key: the same key is the same order.")
@click.option("--collection", default="", help="The collection that the entries belong to.")
@click.option("--wait", is_flag=True, help="Wait until every item has ended, with progress.")
@json_option
@gateway_options
def ingest(
    sources: tuple[str, ...],
    from_file: Any,
    recipe: str,
    sha256: str | None,
    mirrors: tuple[str, ...],
    metalinks: tuple[Path, ...],
    credential: str | None,
    limit_rate: int | None,
    key: str | None,
    collection: str,
    wait: bool,
    as_json: bool,
    gateway: Gateway,
) -> int:
    """Order sources: URLs, local files (uploaded), s3://, file:// on the workers' machines, asset:ID, upload:ID.

    Exit status: 0 all done, 1 all failed, 3 some failed.
    """
    from headrace import recipe as recipes

    lines = [line.strip() for line in from_file] if from_file else []
    names = [*sources, *(line for line in lines if line and not line.startswith("#"))]
    if not names and not metalinks:
        raise click.UsageError("name at least one source, or give --from-file")
    if (sha256 is not None or mirrors) and (len(names) != 1 or metalinks):
        raise click.UsageError("--sha256 and --mirror go with exactly one source")
    wanted = recipes.load(recipe)
    body = wanted if isinstance(wanted, str) else wanted.model_dump(mode="json")
    bodies = [{"source": _remote(gateway, name), "sha256": sha256, "mirrors": mirrors} for name in names]
    bodies += [one for path in metalinks for one in _described(path)]
    if credential is not None:
        bodies = [{**one, "credential": credential} for one in bodies]
    order = gateway.place(bodies, body, key=key, collection=collection, bytes_per_second=limit_rate)
    if not wait:
        return _placed(order, as_json=as_json)
    order = follow(gateway, order, quiet=as_json)
    return _ended(order, as_json=as_json)


def _remote(gateway: Gateway, name: str) -> str:
    """Return a source that the gateway knows; a local file is uploaded first."""
    if name.startswith(REMOTE):
        return name
    path = Path(name).expanduser()
    if not path.is_file():
        raise InvalidRequest(
            f"{name!r} is neither a URL nor a file",
            hint="Give an http(s) URL, the path of a file, asset:ID or upload:ID.",
        )
    if path.stat().st_size == 0:
        raise InvalidRequest(f"{name} is empty", hint="There is nothing to take in.")
    if not sys.stderr.isatty():
        return str(gateway.upload(path)["source"])
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"Uploading {path.name}", total=path.stat().st_size)
        return str(gateway.upload(path, lambda count: bar.advance(task, count))["source"])


def _described(path: Path) -> list[dict[str, Any]]:
    """Return the sources that a Metalink describes."""
    from headrace.download import metalink

    return [
        {
            "source": one.mirrors[0].url,
            "mirrors": [mirror.url for mirror in one.mirrors[1 : MOST_MIRRORS + 1]],
            "digests": {promise.algorithm: promise.value for promise in one.promises},
            "size_bytes": one.size_bytes,
            "pieces": asdict(one.pieces) if one.pieces else None,
        }
        for one in metalink.read(path)
    ]


def _placed(order: dict[str, Any], *, as_json: bool) -> int:
    if as_json:
        print_json(order["item_list"])
    else:
        click.echo(order["order_id"])
        click.echo(
            f"{order['items']} item(s) queued; `headrace items --order {order['order_id']}` shows them.", err=True
        )
    return 0


def _ended(order: dict[str, Any], *, as_json: bool) -> int:
    found = order["item_list"]
    if as_json:
        print_json(found)
    else:
        for item in found:
            click.echo(summary(item))
    lost = sum(item["state"] in LOST for item in found)
    if not lost:
        return 0
    return EXIT_FAILED if lost == len(found) else EXIT_SOME_FAILED


def summary(item: dict[str, Any]) -> str:
    """Return one line that says how an item ended, and the link or the reason."""
    known = " (known already)" if item["duplicate"] else ""
    if item["error"]:
        return f"{item['state']}\t{item['source']}\t{item['error']['message']}. {item['error']['hint']}".rstrip()
    link = item["playback"]["watch"] if item["playback"] else item["asset_id"] or ""
    notes = "".join(f"\t{warning}" for warning in item["warnings"])
    return f"{item['state']}{known}\t{item['source']}\t{link}{notes}"


def follow(gateway: Gateway, order: dict[str, Any], *, quiet: bool = False) -> dict[str, Any]:
    """Ask until every item of an order has ended, showing progress on stderr; return the order."""
    from headrace.cli.progress import shown

    order_id = order["order_id"]
    with shown(quiet=quiet) as show:
        last_answer = time.monotonic()
        while True:
            show(order["item_list"])
            if all(item["state"] in FINAL for item in order["item_list"]):
                return order
            time.sleep(POLL_SECONDS)
            try:
                order = gateway.get(f"/v1/orders/{order_id}")
                last_answer = time.monotonic()
            except HeadraceError as error:
                away = isinstance(error, StackError) or error.retryable
                if not away or time.monotonic() - last_answer > PATIENCE_SECONDS:
                    raise


@click.command()
@click.option("--order", default=None, metavar="ID", help="The items of one order, in its order.")
@click.option("--state", default=None, help="Only those in this state.")
@json_option
@gateway_options
def items(order: str | None, state: str | None, as_json: bool, gateway: Gateway) -> None:
    """List items and where they are, the newest first."""
    found = gateway.get("/v1/items", order=order, state=state)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            item["state"],
            f"{item['percent']:.0f} %" if item["percent"] is not None else "",
            size(item["size_bytes"]),
            item["source"],
            item["error"]["message"] if item["error"] else "; ".join(item["warnings"]),
        )
        for item in found
    ]
    print_table(("State", "Done", "Size", "Source", "Note"), rows, empty="There are no items.")


@click.command()
@click.argument("order_id", metavar="ID")
@gateway_options
def cancel(order_id: str, gateway: Gateway) -> None:
    """Cancel an order; what works on it stops within seconds."""
    done = gateway.post(f"/v1/orders/{order_id}/cancel")
    click.echo(f"{done['cancelled']} item(s) cancelled")


@click.command()
@click.argument("order_id", metavar="ID")
@gateway_options
def retry(order_id: str, gateway: Gateway) -> None:
    """Try the failed and cancelled items of an order again."""
    done = gateway.post(f"/v1/orders/{order_id}/retry")
    click.echo(f"{done['queued']} item(s) queued again")
