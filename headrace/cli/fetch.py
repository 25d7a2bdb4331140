"""``fetch``: download files, resumable and checked. Needs no stack."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headrace.cli import EXIT_FAILED, EXIT_SOME_FAILED
from headrace.cli.rate import RATE
from headrace.cli.sections import SectionedCommand, section

if TYPE_CHECKING:
    from headrace.download.guard import Network
    from headrace.download.listing import Entry
    from headrace.download.proof import Promise

FILES_AT_ONCE = 8
"""Short files are limited by the server's answers, long ones have connections of their own."""

HOST_CONNECTIONS = 32
"""Two long files' worth; many short ones at once need one each."""

MAX_LIST_BYTES = 256 * 1024 * 1024
"""Of an input list: a million files with some options."""

_there = click.Path(path_type=Path, dir_okay=False, exists=True)
_readable = click.Path(path_type=Path, dir_okay=False, exists=True, allow_dash=True)

_files = section("What to download, and where to")
_proof = section("What it must be")
_access = section("Getting in")
_manner = section("How")


@dataclass(frozen=True, slots=True)
class Options:
    """The command's options, as click gives them."""

    urls: tuple[str, ...]
    mirror: tuple[str, ...]
    output: Path | None
    directory: Path | None
    from_file: Path | None
    metalink: tuple[Path, ...]
    endpoint_url: str | None
    sha256: str | None
    blake3: str | None
    md5: str | None
    sums: str | None
    header: tuple[str, ...]
    user: str | None
    password_file: Path | None
    bearer_file: Path | None
    netrc: bool
    netrc_file: Path | None
    cookies: Path | None
    credential: str | None
    proxy: str | None
    certificate: Path | None
    key: Path | None
    ca: Path | None
    connections: int
    jobs: int
    host_connections: int | None
    limit_rate: int | None
    keep_existing: bool
    fsync: bool
    as_json: bool

    @property
    def promises(self) -> tuple[Promise, ...]:
        """What the one file must be; raises ``InvalidRequest``."""
        from headrace.download.proof import promise

        hexes = {"sha256": self.sha256, "blake3": self.blake3, "md5": self.md5}
        return tuple(promise(algorithm, text, "order") for algorithm, text in hexes.items() if text)

    def check(self, entries: tuple[Entry, ...]) -> None:
        """Raise ``click.UsageError`` where options contradict each other, or the files that are wanted."""
        one = len(self.urls) == 1 and len(entries) == 1
        if not entries:
            raise click.UsageError("name at least one URL, or give --from-file")
        if not one and (self.output or self.mirror or self.sha256 or self.blake3 or self.md5):
            raise click.UsageError(
                "-o, --mirror and checksums go with exactly one URL; use -d, and a list, for several"
            )
        if self.output and self.directory:
            raise click.UsageError("give -o or -d, not both")
        if self.key and not self.certificate:
            raise click.UsageError("--key belongs to a --certificate")
        own = (self.user, self.bearer_file, self.cookies, self.certificate, self.ca)
        if self.credential and any(one is not None for one in own):
            raise click.UsageError("--credential brings its own login, cookies and certificates")
        if [str(path) for path in (self.from_file, self.bearer_file, self.password_file)].count("-") > 1:
            raise click.UsageError("stdin can be one file only")


@click.command(cls=SectionedCommand)
@click.argument("urls", nargs=-1, metavar="URL...")
@_files("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The file to write.")
@_files("-d", "--directory", type=click.Path(path_type=Path, file_okay=False), help="The folder to write into.")
@_files("--from-file", type=_readable, help="A list of URLs, each with options below it; - is stdin.")
@_files("--metalink", multiple=True, type=_there, help="A .meta4 file: all it describes, with mirrors and pieces.")
@_files("--mirror", multiple=True, metavar="URL", help="Another address of the one file; repeatable.")
@_files("--endpoint-url", envvar="AWS_ENDPOINT_URL", help="Where s3:// is, if not AWS.  [env: AWS_ENDPOINT_URL]")
@_proof("--sha256", metavar="HEX", help="The one file's.")
@_proof("--blake3", metavar="HEX", help="The one file's.")
@_proof("--md5", metavar="HEX", help="The one file's; prefer --sha256.")
@_proof("--sums", metavar="URL|PATH|auto", help="A checksum file that lists each file; auto: beside it.")
@_access(
    "--user",
    metavar="NAME",
    help="Log in. The password is never an argument, which others on the machine see: "
    "it comes from --password-file, HEADRACE_PASSWORD, or is asked for.",
)
@_access("--password-file", type=_readable, help="- is stdin.")
@_access("--bearer-file", type=_readable, help="A file with a bearer token; - is stdin.")
@_access("--netrc", is_flag=True, help="Logins by host from ~/.netrc.")
@_access("--netrc-file", type=_there, help="Logins by host from another file.")
@_access("--header", multiple=True, metavar="'NAME: VALUE'", help="Sent to each URL's own origin only; repeatable.")
@_access("--cookies", type=_there, help="A file of cookies in Netscape's format.")
@_access("--credential", metavar="NAME", help="A section of the operator's credentials.toml.")
@_access(
    "--proxy",
    metavar="URL",
    help="http(s)://[USER:PASSWORD@]HOST:PORT; '' for none. Without it *_proxy count, as with curl.",
)
@_access("--certificate", type=_there, help="The client's certificate, PEM.")
@_access("--key", type=_there, help="Its key, if that isn't in the same file.")
@_access("--ca", type=_there, help="Authorities to trust instead of the system's, PEM.")
@_manner("--connections", type=click.IntRange(1, 64), default=16, show_default=True, help="The most for a file.")
@_manner("-j", "--jobs", type=click.IntRange(1, 256), default=FILES_AT_ONCE, show_default=True, help="Files at once.")
@_manner(
    "--host-connections",
    type=click.IntRange(1, 1024),
    help=f"The most for a host, of all files together.  [default: {HOST_CONNECTIONS}, or what -j or --connections say]",
)
@_manner("--limit-rate", type=RATE, help="Bytes a second for all files together, such as 500k or 2.5M.")
@_manner("--keep-existing", is_flag=True, help="Skip files that are there, if they are what they must be.")
@_manner("--fsync", is_flag=True, help="Wait until the disk has each file before it gets its name.")
@_manner("--json", "as_json", is_flag=True, help="Print events as JSON Lines.")
def fetch(**options: Any) -> int:
    """Download each URL to a file; run again after an interruption, it goes on where it was.

    URLs are http(s):// and s3://BUCKET/KEY (AWS_* as usual). Large files come over several
    connections, as many as make them faster. Exit status: 0 all there, 1 none, 3 some.
    """
    given = Options(**options)
    entries = _entries(given)
    given.check(entries)

    from headrace.cli import logins
    from headrace.cli.fetching import shown
    from headrace.cli.wanted import Plan
    from headrace.download import Downloader, Guard
    from headrace.download.batch import fetch_all
    from headrace.download.spread import Spread, processes_for
    from headrace.hosts import HostLimits, HostRules, LocalHosts

    failed = 0
    most = given.host_connections or max(HOST_CONNECTIONS, given.connections, given.jobs)
    processes = min(processes_for(len(entries), given.jobs), most)
    hosts = LocalHosts(HostRules(HostLimits(most // processes)))
    downloader = Downloader(Guard(_networks(entries), typed_may_be_private=True), hosts)
    with contextlib.closing(downloader), contextlib.ExitStack() as stack:
        jobs = Plan(given, logins.of(given, entries), downloader, processes).jobs(entries)
        spread = None
        if processes > 1:
            spread = stack.enter_context(Spread(downloader, jobs, at_once=given.jobs, processes=processes))
        display = stack.enter_context(shown(len(jobs), as_json=given.as_json))
        here = fetch_all(downloader, jobs, at_once=given.jobs, watcher=display)
        for outcome in spread.outcomes(display) if spread else here:
            display.ended(outcome)
            failed += outcome.error is not None
    if not failed:
        return 0
    return EXIT_FAILED if failed == len(jobs) else EXIT_SOME_FAILED


def _entries(options: Options) -> tuple[Entry, ...]:
    """Return the files that are wanted, from the arguments and from the list; raises ``InvalidRequest``."""
    from headrace.cli.files import text_of
    from headrace.download import listing

    typed = tuple(listing.Entry((url, *options.mirror)) for url in options.urls)
    listed = listing.parse(text_of(options.from_file, MAX_LIST_BYTES)) if options.from_file else ()
    return (*typed, *listed, *_described(options.metalink))


def _networks(entries: tuple[Entry, ...]) -> tuple[Network, ...]:
    """Return the private networks that URLs of publishers may lead to: those that the operator allows."""
    if all(entry.typed for entry in entries):
        return ()
    from headrace import settings

    return settings.load().networks


def _described(paths: tuple[Path, ...]) -> Iterator[Entry]:
    """Yield the files that Metalinks describe; raises ``InvalidRequest``."""
    if not paths:
        return
    from headrace.download import listing, metalink

    for path in paths:
        for one in metalink.read(path):
            urls = tuple(mirror.url for mirror in one.mirrors)
            yield listing.Entry(
                urls, name=one.name, promises=one.promises, size_bytes=one.size_bytes, pieces=one.pieces, typed=False
            )
