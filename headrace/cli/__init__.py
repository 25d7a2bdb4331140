"""The command line, a contract (DESIGN.md): one file per group of commands, loaded lazily.

1. ``--help`` of any command answers within 300 ms: a command's file is imported when it
   is named, and heavy packages inside the command.
2. Data goes to stdout, progress and errors to stderr; ``--json`` prints JSON Lines.
3. An error is one line that says what happened and what to do next; the exit status is
   0 ok, 1 failed, 2 usage, 3 some items failed, 4 not found, 5 not allowed, 6 conflict,
   7 limited, 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import click

from headrace import log
from headrace.errors import Conflict, HeadraceError, Limited, NotAllowed, NotFound, RequestError

COMMANDS = {
    "up": ("stack", "Start the whole system on this machine."),
    "down": ("stack", "Stop it."),
    "status": ("stack", "Show the parts of the running system."),
    "logs": ("stack", "Show what the parts have logged."),
    "demo": ("demo", "Start everything and ingest a film that ffmpeg makes."),
    "ingest": ("orders", "Order sources: URLs, files, asset:ID."),
    "items": ("orders", "List items and where they are."),
    "cancel": ("orders", "Cancel an order."),
    "retry": ("orders", "Try the failed items of an order again."),
    "assets": ("library", "List the library."),
    "show": ("library", "Show one asset."),
    "play": ("library", "Print a link that plays an asset."),
    "delete": ("library", "Remove an asset from the library, or take that back."),
    "unpublish": ("library", "Take an asset's streams offline; its master stays."),
    "watch": ("feeds", "Watch feeds and take in what is new."),
    "get": ("operator", "Write an asset's original bytes to a file, verified."),
    "verify": ("operator", "Check the archive against the catalogue."),
    "space": ("operator", "Show what the archive holds and saves."),
    "fetch": ("fetch", "Download files, resumable and checked."),
    "transcode": ("stages", "Make streams of a file, without the stack."),
    "check-stream": ("stages", "Check a published stream."),
    "publish": ("publish", "Upload a folder of streams, manifests last."),
}
"""Command → (file in this package, what it is for)."""

EXIT_FAILED = 1
EXIT_SOME_FAILED = 3
EXIT_INTERRUPTED = 130
_EXITS: tuple[tuple[type[HeadraceError], int], ...] = (
    (NotFound, 4),
    (NotAllowed, 5),
    (Conflict, 6),
    (Limited, 7),
    (RequestError, 2),
)


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are run; the list needs no import."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"headrace.cli.{COMMANDS[cmd_name][0]}")
        command = getattr(module, cmd_name.replace("-", "_"))
        if not isinstance(command, click.Command):
            raise TypeError(f"{cmd_name} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="headrace", prog_name="headrace")
def cli() -> None:
    """Media from anywhere becomes a deduplicated master archive on S3 and streams that play."""


home_option = click.option(
    "--home",
    type=click.Path(path_type=Path),
    envvar="HEADRACE_HOME",
    help="Where the embedded stack lives.  [env: HEADRACE_HOME]",
)


def exit_status(error: HeadraceError) -> int:
    """Return the exit status that the contract gives an error."""
    return next((status for kind, status in _EXITS if isinstance(error, kind)), EXIT_FAILED)


def main() -> None:
    """Run the command line; every ``HeadraceError`` becomes one clear line and its exit status."""
    log.to_stderr(os.environ.get("HEADRACE_LOG", "warning"))
    try:
        outcome = cli.main(standalone_mode=False)
    except HeadraceError as error:
        click.echo(f"headrace: {error.message}", err=True)
        if error.hint:
            click.echo(f"  {error.hint}", err=True)
        sys.exit(exit_status(error))
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("headrace: interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILED)
    sys.exit(outcome if isinstance(outcome, int) else 0)
