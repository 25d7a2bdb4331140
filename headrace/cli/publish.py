"""``publish``: a folder of streams onto any S3, manifests last, verified. Needs no stack."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

from headrace.cli.output import json_option, print_json, size


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("target", metavar="s3://BUCKET/PREFIX")
@click.option("--endpoint-url", default=None, envvar="AWS_ENDPOINT_URL", help="Another S3 than AWS.")
@json_option
def publish(folder: Path, target: str, endpoint_url: str | None, as_json: bool) -> None:
    """Upload a folder of streams: media first, manifests last, each verified. AWS_* as usual."""
    from headrace import publish as engine
    from headrace.errors import InvalidRequest
    from headrace.stores.s3 import S3Bucket, endpoint_of

    bucket, _, prefix = target.removeprefix("s3://").partition("/")
    if not target.startswith("s3://") or not bucket:
        raise click.UsageError("the target is s3://BUCKET/PREFIX")
    names = sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and not path.is_symlink()
    )
    if not names:
        raise InvalidRequest(f"{folder} holds no files")
    endpoint = endpoint_of(os.environ, endpoint_url)
    top = tuple(name for name in ("master.m3u8", "manifest.mpd") if name in names)
    started = time.monotonic()
    sizes = engine.publish(
        S3Bucket(endpoint, bucket), prefix.rstrip("/") + "/" if prefix else "", folder, names, top=top
    )
    seconds = time.monotonic() - started
    if as_json:
        print_json([{"files": len(sizes), "size_bytes": sum(sizes.values()), "seconds": round(seconds, 3)}])
    else:
        click.echo(f"{len(sizes)} file(s), {size(sum(sizes.values()))} in {seconds:.1f} s")
