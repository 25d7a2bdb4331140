"""``fetch``: download files, resumable and checked. Needs no stack."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headrace.cli import EXIT_FAILED, EXIT_SOME_FAILED
from headrace.cli.output import json_option, print_json

if TYPE_CHECKING:
    from headrace.download.batch import Job, Outcome
    from headrace.download.proof import Promise
    from headrace.download.sums import Sums

FILES_AT_ONCE = 8
"""Short files are limited by the server's answers, long ones have connections of their own."""

HOST_CONNECTIONS = 32
"""Two long files' worth; many short ones at once need one each."""


@click.command()
@click.argument("urls", nargs=-1, metavar="URL...")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The file to write.")
@click.option("-d", "--directory", type=click.Path(path_type=Path, file_okay=False), help="The folder to write into.")
@click.option("--from-file", type=click.File("r", encoding="utf-8"), help="More URLs, one a line; - is stdin.")
@click.option("--connections", type=click.IntRange(1, 64), default=16, show_default=True, help="The most for a file.")
@click.option(
    "-j", "--jobs", type=click.IntRange(1, 256), default=FILES_AT_ONCE, show_default=True, help="Files at once."
)
@click.option(
    "--host-connections",
    type=click.IntRange(1, 1024),
    help=f"The most for a host, of all files together.  [default: {HOST_CONNECTIONS}, or what -j or --connections say]",
)
@click.option("--sha256", default=None, metavar="HEX", help="What the one file must be.")
@click.option("--blake3", default=None, metavar="HEX", help="What the one file must be.")
@click.option("--md5", default=None, metavar="HEX", help="What the one file must be; prefer --sha256.")
@click.option(
    "--sums", default=None, metavar="URL|PATH|auto", help="A checksum file that lists each file; auto: beside it."
)
@click.option("--fsync", is_flag=True, help="Wait until the disk has each file before it gets its name.")
@json_option
def fetch(
    urls: tuple[str, ...],
    output: Path | None,
    directory: Path | None,
    from_file: Any,
    connections: int,
    jobs: int,
    host_connections: int | None,
    fsync: bool,
    sums: str | None,
    as_json: bool,
    **hexes: str | None,
) -> int:
    """Download each URL to a file; run again after an interruption, it goes on where it was.

    Large files come over several connections, as many as make them faster. Exit status: 0 all
    there, 1 none, 3 some.
    """
    lines = [line.strip() for line in from_file] if from_file else []
    wanted = [*urls, *(line for line in lines if line and not line.startswith("#"))]
    if not wanted:
        raise click.UsageError("name at least one URL, or give --from-file")
    if len(wanted) > 1 and (output or any(hexes.values())):
        raise click.UsageError("-o and checksums go with exactly one URL; use -d for several")
    if output and directory:
        raise click.UsageError("give -o or -d, not both")

    from headrace.cli.fetching import shown
    from headrace.download import Downloader, Guard
    from headrace.download.batch import fetch_all
    from headrace.download.sums import Sums
    from headrace.hosts import HostLimits, HostRules, LocalHosts

    failed = 0
    limits = HostLimits(host_connections or max(HOST_CONNECTIONS, connections, jobs))
    downloader = Downloader(Guard(typed_may_be_private=True), LocalHosts(HostRules(limits)))
    try:
        plan = _Plan(output, directory or Path(), _promises(hexes), Sums(downloader, sums) if sums else None)
        listed = [plan.job(url, connections=connections, durable=fsync) for url in wanted]
        with shown(len(listed), quiet=as_json) as display:
            for outcome in fetch_all(downloader, listed, at_once=jobs, on_progress=display.progress):
                display.ended(outcome)
                failed += outcome.error is not None
                _say(outcome, as_json=as_json)
    finally:
        downloader.close()
    if not failed:
        return 0
    return EXIT_FAILED if failed == len(listed) else EXIT_SOME_FAILED


def _promises(hexes: dict[str, str | None]) -> tuple[Promise, ...]:
    from headrace.download.proof import promise

    return tuple(promise(algorithm, text, "order") for algorithm, text in hexes.items() if text)


class _Plan:
    """Where each file goes and what it must be."""

    def __init__(self, output: Path | None, directory: Path, promises: tuple[Promise, ...], sums: Sums | None) -> None:
        self._output = output
        self._directory = directory
        self._promises = promises
        self._sums = sums
        self._taken: set[str] = set()

    def job(self, url: str, *, connections: int, durable: bool) -> Job:
        """Return what is to be done for a URL; two whose names are the same get different files."""
        from headrace.download import Wish
        from headrace.download.batch import Job, unique_name
        from headrace.errors import HeadraceError
        from headrace.source import parse_url, shown

        path = self._output or self._directory
        try:
            source = parse_url(url)
            path = self._output or self._directory / unique_name(source.name, self._taken)
            promised = self._sums.of(source.locator, source.name) if self._sums else ()
        except HeadraceError as error:
            return Job(shown(url), None, path, error)
        wish = Wish(source.locator, (*self._promises, *promised), connections=connections, durable=durable)
        return Job(source.shown, wish, path)


def _say(outcome: Outcome, *, as_json: bool) -> None:
    job, done, error = outcome.job, outcome.done, outcome.error
    if as_json:
        row: dict[str, Any] = {"url": job.shown, "path": str(job.path), "error": error.to_json() if error else None}
        if done is not None:
            row |= {"resumed_bytes": done.resumed_bytes, "size_bytes": done.size_bytes, **done.sums}
            row |= {"proofs": list(done.proofs), "restarts": done.restarts}
        print_json([row])
    elif error is not None:
        click.echo(f"headrace: {job.shown}: {error.message}\n  {error.hint}".rstrip(), err=True)
    else:
        click.echo(str(job.path))
    sys.stdout.flush()
