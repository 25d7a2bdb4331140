"""Single stages without the stack: ``transcode`` makes a folder that plays, ``check-stream`` checks one.

Data goes to stdout; progress to stderr, drawn only on a terminal.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headrace.errors import InvalidRequest, InvalidSource

if TYPE_CHECKING:
    from headrace.model import MediaInfo, OnProgress, PackagedSet, Progress
    from headrace.recipe import Recipe

EXIT_FAILED = 1
REPORT = "report.json"
REPORT_FORMAT = 1


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="The folder.")
@click.option("--recipe", "recipe_name", default="web", show_default=True, help="web, audio, or a recipe in YAML.")
@click.option("--threads", type=click.IntRange(1, 64), default=None, help="Threads that decode and scale.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
def transcode(file: Path, output: Path, recipe_name: str, threads: int | None, *, as_json: bool) -> int:
    """Make streams of FILE: HLS and DASH, posters, subtitles and a report."""
    recipe = _recipe(recipe_name)
    output.mkdir(parents=True, exist_ok=True)
    with _stop_on_signal() as stop, _progress(file.name) as on_progress:
        report = _make(file, output, recipe, threads or os.cpu_count() or 1, on_progress, stop)
    (output / REPORT).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if as_json:
        click.echo(json.dumps(report, ensure_ascii=False))
        return 0
    for rendition in report["renditions"]:
        size = f"{rendition['width']}x{rendition['height']}" if rendition["width"] else ""
        rate = f"{rendition['bitrate'] // 1000:>6} kbit/s"
        click.echo(f"{rendition['name']:<10} {size:<10} {rendition['codec']:<14} {rate}")
    click.echo(str(output / report["hls"]))
    for warning in report["warnings"]:
        click.echo(f"warning: {warning}", err=True)
    return 0


@click.command("check-stream")
@click.argument("target")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a finding, then a summary.")
def check_stream(target: str, *, as_json: bool) -> int:
    """Check the stream in a folder or behind an http(s) URL; exit 1 if anything is wrong."""
    from headrace.check_stream import check

    findings = check(target)
    errors = sum(finding.severity == "error" for finding in findings)
    for finding in findings:
        if as_json:
            click.echo(json.dumps(asdict(finding), ensure_ascii=False))
        else:
            click.echo(f"{finding.severity:<8} {finding.where}: {finding.rule}: {finding.message}")
    summary = {"target": target, "ok": errors == 0, "errors": errors, "warnings": len(findings) - errors}
    if as_json:
        click.echo(json.dumps(summary))
    else:
        click.echo(f"{'ok' if not errors else 'not ok'}: {errors} errors, {summary['warnings']} warnings")
    return EXIT_FAILED if errors else 0


def _recipe(name_or_path: str) -> Recipe:
    from headrace import recipe as recipes

    loaded = recipes.load(name_or_path)
    recipe = recipes.named(loaded) if isinstance(loaded, str) else loaded
    if not recipe.publish:
        raise InvalidRequest(f"the recipe {recipe.name} makes no streams; use web or audio")
    return recipe


def _make(file: Path, output: Path, recipe: Recipe, threads: int, on_progress: OnProgress, stop: Any) -> dict[str, Any]:
    """Probe, encode in a folder of our own beside the output, package, and describe it."""
    from headrace.identify import probe
    from headrace.package import package
    from headrace.transcode import encode

    try:
        media = probe(file, stop=stop)
    except OSError as error:
        raise InvalidSource(f"{file} can't be read: {error.strerror}") from error
    with tempfile.TemporaryDirectory(prefix=".encode-", dir=output) as work:
        encoded = encode(file, media, recipe, Path(work), threads=threads, on_progress=on_progress, stop=stop)
        packaged = package(encoded, recipe, output, stop=stop)
    return _report(file, media, recipe, packaged, threads)


def _report(file: Path, media: MediaInfo, recipe: Recipe, packaged: PackagedSet, threads: int) -> dict[str, Any]:
    from headrace import tools
    from headrace.transcode import plan_encode

    return {
        "format": REPORT_FORMAT,
        "source": {"name": file.name, "media_type": media.media_type, "size_bytes": media.size_bytes},
        "recipe": {"name": recipe.name, "identity": recipe.identity},
        "duration_seconds": packaged.duration_seconds,
        "source_duration_seconds": media.duration_seconds,
        "hls": packaged.hls,
        "dash": packaged.dash,
        "poster": packaged.poster,
        "storyboard": packaged.storyboard,
        "renditions": [asdict(rendition) for rendition in packaged.renditions],
        "files": list(packaged.files),
        "warnings": list(packaged.warnings),
        "tools": asdict(tools.versions()),
        "threads": threads,
        "argv": list(plan_encode(file, media, recipe, threads=threads).argv),
    }


@contextlib.contextmanager
def _stop_on_signal() -> Iterator[Any]:
    """Turn SIGTERM into a stop that ends ffmpeg and clears its folder; Ctrl-C raises by itself."""
    import signal
    import threading

    stop = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _progress(name: str) -> Iterator[OnProgress]:
    """Draw a bar on stderr where that is a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bar(*columns, TextColumn("{task.fields[speed]}"), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None, speed="")

        def show(progress: Progress) -> None:
            speed = f"{progress.speed:.1f}x" if progress.speed else ""
            total = 1.0 if progress.fraction is not None else None
            bar.update(task, total=total, completed=progress.fraction or 0.0, speed=speed)

        yield show
