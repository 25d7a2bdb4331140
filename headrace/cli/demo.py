"""``demo``: from nothing to a playing film, with the real parts."""

from __future__ import annotations

import functools
import http.server
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from headrace.cli import home_option

FILM = "demo-film.mp4"
SECONDS = 30
LOOPBACK = "127.0.0.1/32"


@click.command()
@click.option("--port-base", type=click.IntRange(1, 65531), default=None, help="First of the stack's five ports.")
@home_option
def demo(port_base: int | None, home: Path | None) -> int:
    """Start the stack, ingest a film that ffmpeg makes, and print a link that plays.

    The stack stays in the background. Again, it finds the film known and takes seconds.
    """
    from headrace import settings
    from headrace.cli.orders import follow, summary
    from headrace.client import Gateway

    where = (home or settings.default_home()).absolute()
    _start(where, port_base)
    film = _film(where / "demo")
    found = settings.load(where)
    gateway = Gateway.of(found)
    with _served(film.parent) as base:
        order = gateway.place([{"source": f"{base}/{FILM}", "sha256": None}], "web")
        order = follow(gateway, order)
    item = order["item_list"][0]
    if item["playback"] is None:
        click.echo(summary(item), err=True)
        return 1
    known = ", known already" if item["duplicate"] else ""
    click.echo(f"Film       {item['size_bytes'] / 1e6:.1f} MB{known}")
    click.echo(f"Watch      {item['playback']['watch']}")
    click.echo(f"Dashboard  {found.dashboard_url}")
    click.echo(f"Prefect    {found.prefect_ui_url}   (the password is PREFECT_API_AUTH_STRING in {where}/settings.env)")
    stop = "make down" if where.name == ".headrace" else f"headrace down --home {where}"
    click.echo(f"Stop       {stop}")
    return 0


def _start(home: Path, port_base: int | None) -> None:
    from headrace.cli.stack import bring_up
    from headrace.stack.control import Options

    # The demo's own server is on this machine; orders may read from it because this start says so.
    allowed = [part for part in os.environ.get("HEADRACE_ALLOWED_NETWORKS", "").split(",") if part.strip()]
    os.environ["HEADRACE_ALLOWED_NETWORKS"] = ",".join([*allowed, LOOPBACK])
    bring_up(Options(home, port_base))


def _film(folder: Path) -> Path:
    """Make the film, unless it is there: 30 s of 720p with a moving picture and sound, always the same bytes."""
    from headrace import process, tools
    from headrace.errors import ToolFailed

    film = folder / FILM
    if film.is_file():
        return film
    click.echo(f"Making a film of {SECONDS} s with ffmpeg", err=True)
    folder.mkdir(parents=True, exist_ok=True)
    fresh = film.with_suffix(".new.mp4")
    picture = f"testsrc2=size=1280x720:rate=30:duration={SECONDS}"
    sound = f"sine=frequency=330:beep_factor=4:sample_rate=48000:duration={SECONDS}"
    inputs = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound]
    codecs = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    # The same bytes each time and everywhere, so that a second demo finds the film known.
    same = ["-threads", "1", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a", "+bitexact"]
    quiet = ["-nostdin", "-hide_banner", "-loglevel", "error", "-y"]
    argv: list[str | Path] = [tools.ffmpeg(), *quiet, *inputs, *codecs, *same, "-movflags", "+faststart", fresh]
    done = process.run(argv, timeout_seconds=300)
    if done.returncode != 0:
        raise ToolFailed("ffmpeg could not make the demo's film", stderr=done.stderr)
    fresh.replace(film)
    return film


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing: the progress bars are on the terminal."""


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """Serve a folder on a free port of this machine; yields its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
