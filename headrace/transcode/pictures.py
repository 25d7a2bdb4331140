"""Poster, and the storyboard (a sprite and its WebVTT) that players show while one seeks.

Both are made from the encoded rungs, key frames only: those are upright, square-pixelled and
SDR already, and a second decode of the master would cost as much as the encode. An audio
set gets a picture of its sound as poster.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from headrace import process, tools
from headrace.model import EncodedTrack
from headrace.process import Limits, Stop
from headrace.transcode.subtitles import render_webvtt

POSTER_WIDTH = 1280
POSTER_AT = 0.1
"""The share of the film before which no poster is taken: there are black frames and logos."""
POSTER_CANDIDATES = 12
"""Key frames among which ffmpeg's ``thumbnail`` takes the one nearest to their average."""

MAX_TILES = 100
"""A sprite of 10 x 10 tiles of 160 pixels is about 0.3 MB, and one request."""
COLUMNS = 10
TILE_SIDE = 160
JPEG_QUALITY = 4
"""ffmpeg's ``-q:v``: 2 is best; 4 shows no artefacts at these sizes."""

TIMEOUT_SECONDS = 600.0
_LIMITS = Limits(memory_bytes=4 * 1024**3, file_bytes=64 * 1024 * 1024)


@dataclass(frozen=True, slots=True)
class Storyboard:
    """The grid of a sprite; sizes in pixels."""

    every: int
    """A tile for each n-th key frame."""
    tiles: int
    columns: int
    rows: int
    tile_width: int
    tile_height: int
    interval_seconds: float


def plan_storyboard(width: int, height: int, duration_seconds: float, gop_seconds: Fraction) -> Storyboard:
    """Choose a grid of at most ``MAX_TILES`` tiles for a film; pure. Tiles fit ``TILE_SIDE`` squared."""
    key_frames = max(1, math.ceil(duration_seconds / float(gop_seconds) - 1e-6))
    every = math.ceil(key_frames / MAX_TILES)
    tiles = math.ceil(key_frames / every)
    columns = min(COLUMNS, tiles)
    scale = min(1.0, TILE_SIDE / max(width, height))
    return Storyboard(
        every=every,
        tiles=tiles,
        columns=columns,
        rows=math.ceil(tiles / columns),
        tile_width=max(2, round(width * scale / 2) * 2),
        tile_height=max(2, round(height * scale / 2) * 2),
        interval_seconds=float(gop_seconds) * every,
    )


def storyboard_cues(board: Storyboard, duration_seconds: float, image: str) -> str:
    """Return the WebVTT that points into the sprite (``IMAGE#xywh=``, W3C Media Fragments); pure."""
    cues = []
    for number in range(board.tiles):
        start = number * board.interval_seconds
        end = duration_seconds if number == board.tiles - 1 else start + board.interval_seconds
        x, y = number % board.columns * board.tile_width, number // board.columns * board.tile_height
        cues.append((start, end, f"{image}#xywh={x},{y},{board.tile_width},{board.tile_height}"))
    return render_webvtt(cues)


def make_storyboard(
    track: EncodedTrack, duration_seconds: float, gop_seconds: Fraction, work: Path, *, stop: Stop | None
) -> tuple[Path, ...]:
    """Write the sprite and its WebVTT from an encoded rung; return both, or nothing where it can't be made."""
    if not track.width or not track.height:
        return ()
    board = plan_storyboard(track.width, track.height, duration_seconds, gop_seconds)
    sprite, cues = work / "storyboard.jpg", work / "storyboard.vtt"
    chain = (
        f"select=not(mod(n\\,{board.every})),scale={board.tile_width}:{board.tile_height}:flags=bicubic,"
        f"tile={board.columns}x{board.rows}"
    )
    if not _picture(track.path, [], ["-vf", chain], sprite, stop):
        return ()
    cues.write_text(storyboard_cues(board, duration_seconds, sprite.name), encoding="utf-8")
    return sprite, cues


def make_poster(track: EncodedTrack, duration_seconds: float, work: Path, *, stop: Stop | None) -> Path | None:
    """Write a representative picture of an encoded rung, or the waveform of a sound; ``None`` where it can't be."""
    poster = work / "poster.jpg"
    if track.kind == "audio":
        chain = "aformat=channel_layouts=mono,showwavespic=s=1280x360:colors=0x5b9bd5:scale=sqrt,format=yuvj420p"
        made = _picture(track.path, None, ["-filter_complex", chain], poster, stop)
    else:
        chain = f"thumbnail=n={POSTER_CANDIDATES},scale='min({POSTER_WIDTH},iw)':-2:flags=bicubic"
        # noaccurate_seek: from the key frame before, or a film of one key frame has none left.
        seek = ["-noaccurate_seek", "-ss", f"{duration_seconds * POSTER_AT:.3f}"]
        made = _picture(track.path, seek, ["-vf", chain], poster, stop)
    return poster if made else None


def _picture(source: Path, before: list[str] | None, filters: list[str], target: Path, stop: Stop | None) -> bool:
    """Write one JPEG; ``before`` are input options for key frames of a picture, ``None`` for a sound."""
    target.unlink(missing_ok=True)
    argv: list[Any] = [tools.ffmpeg(), "-nostdin", "-v", "error", "-y", *tools.guard_argv()]
    if before is not None:
        argv += ["-skip_frame", "nokey", *before]  # decodes one frame in each GOP
    # passthrough: the frame that thumbnail picks may lie before the seek point, where cfr would drop it.
    argv += ["-i", tools.address(source), *filters, "-fps_mode", "passthrough", "-frames:v", "1", "-update", "1"]
    argv += ["-q:v", JPEG_QUALITY, "-pix_fmt", "yuvj420p", "-strict", "unofficial"]
    argv += ["-map_metadata", "-1", "-flags:v", "+bitexact", "-fflags", "+bitexact", "-f", "image2", target]
    finished = process.run(argv, limits=_LIMITS, stop=stop, timeout_seconds=TIMEOUT_SECONDS)
    return finished.returncode == 0 and target.is_file()
