"""``fetch``: download files, resumable and checked. Needs no stack."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from headrace.cli import EXIT_FAILED, EXIT_SOME_FAILED
from headrace.cli.output import json_option, print_json


@click.command()
@click.argument("urls", nargs=-1, metavar="URL...")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The file to write.")
@click.option("-d", "--directory", type=click.Path(path_type=Path, file_okay=False), help="The folder to write into.")
@click.option("--from-file", type=click.File("r", encoding="utf-8"), help="More URLs, one a line; - is stdin.")
@click.option("--sha256", default=None, metavar="HEX", help="What the one file must be.")
@json_option
def fetch(
    urls: tuple[str, ...],
    output: Path | None,
    directory: Path | None,
    from_file: Any,
    sha256: str | None,
    as_json: bool,
) -> int:
    """Download each URL to a file; run again after an interruption, it goes on where it was.

    Exit status: 0 all there, 1 none, 3 some.
    """
    lines = [line.strip() for line in from_file] if from_file else []
    wanted = [*urls, *(line for line in lines if line and not line.startswith("#"))]
    if not wanted:
        raise click.UsageError("name at least one URL, or give --from-file")
    if len(wanted) > 1 and (output or sha256):
        raise click.UsageError("-o and --sha256 go with exactly one URL; use -d for several")
    if output and directory:
        raise click.UsageError("give -o or -d, not both")
    failed = sum(not _one(url, output, directory or Path(), sha256, as_json=as_json) for url in wanted)
    if not failed:
        return 0
    return EXIT_FAILED if failed == len(wanted) else EXIT_SOME_FAILED


def _one(url: str, output: Path | None, directory: Path, sha256: str | None, *, as_json: bool) -> bool:
    from headrace.download import Guard, Wish
    from headrace.download import fetch as download
    from headrace.errors import HeadraceError, InvalidSource
    from headrace.model import SourceKind
    from headrace.source import parse

    try:
        source = parse(url)
        if source.kind is not SourceKind.URL:
            raise InvalidSource(f"{source.shown} is not a URL")
        path = output or directory / source.name
        with _progress(path.name, quiet=as_json) as report:
            done = download(
                Wish(source.locator, sha256), path, guard=Guard(typed_may_be_private=True), on_progress=report
            )
    except HeadraceError as error:
        if as_json:
            print_json([{"url": url, "error": error.to_json()}])
        else:
            click.echo(f"headrace: {error.message}\n  {error.hint}".rstrip(), err=True)
        return False
    if as_json:
        row = {"url": source.shown, "path": str(path), "error": None, "resumed_bytes": done.resumed_bytes}
        digests = {name: getattr(done.digests, name) for name in ("size_bytes", "blake3", "sha256")}
        print_json([{**row, **digests, "proofs": list(done.proofs)}])
    else:
        click.echo(str(path))
    return True


@contextmanager
def _progress(name: str, *, quiet: bool) -> Iterator[Callable[[Any], None] | None]:
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} % {task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(escape(name), total=None, speed="")

        def report(progress: Any) -> None:
            total = None if progress.fraction is None else 1.0
            speed = f"{(progress.speed or 0) / 1e6:.1f} MB/s"
            bar.update(task, total=total, completed=progress.fraction or 0, speed=speed)

        yield report
