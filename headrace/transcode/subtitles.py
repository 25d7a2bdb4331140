"""Text subtitles become WebVTT; bitmap ones are reported, because no player of HLS or DASH shows them.

One ffmpeg for each track, so that a broken subtitle costs its track and not the film.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headrace import process, tools
from headrace.model import EncodedTrack, MediaInfo, SubtitleStream
from headrace.process import Limits, Stop

TIMEOUT_SECONDS = 600.0
"""The whole file passes by once; at 100 MB/s this is 60 GB."""

MAX_WEBVTT_BYTES = 32 * 1024 * 1024
"""Subtitles of a film are 0.1 MB; a player that loads more than this at once stalls."""

_LIMITS = Limits(memory_bytes=4 * 1024**3, file_bytes=MAX_WEBVTT_BYTES)
_MATROSKA_WEBVTT = "S_TEXT/WEBVTT"


def extract(
    source: Path, media: MediaInfo, work: Path, *, stop: Stop | None
) -> tuple[tuple[EncodedTrack, ...], tuple[str, ...]]:
    """Write a WebVTT file for each text subtitle; return the tracks, and a warning for each that has none.

    Raises ``Cancelled`` and ``ToolStalled`` (retry can help).
    """
    tracks: list[EncodedTrack] = []
    warnings: list[str] = []
    for stream in media.subtitles:
        if not stream.text:
            warnings.append(f"subtitle track {stream.index} ({stream.codec}) is made of pictures and was left out")
            continue
        path = work / f"text-{len(tracks) + 1}.vtt"
        path.unlink(missing_ok=True)
        made = _from_matroska if stream.codec == _MATROSKA_WEBVTT else _through_ffmpeg
        if made(source, stream, path, stop):
            tracks.append(EncodedTrack(path.stem, "text", path, stream.language, stream.title))
        else:
            warnings.append(f"subtitle track {stream.index} ({stream.codec}) could not be read and was left out")
    return tuple(tracks), tuple(warnings)


def render_webvtt(cues: Sequence[tuple[float, float, str]]) -> str:
    """Return cues (start and end in seconds, text) as WebVTT (W3C, 2019-04-04); pure."""
    blocks = [f"{timestamp(start)} --> {timestamp(end)}\n{text}\n" for start, end, text in cues]
    return "\n".join(["WEBVTT\n", *blocks])


def timestamp(seconds: float) -> str:
    """Return a WebVTT timestamp with hours: 3723.5 → ``01:02:03.500``."""
    milliseconds = round(max(0.0, seconds) * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"


def parse_packets(text: str) -> list[tuple[float, float, str]]:
    """Turn ffprobe's packets with their data into cues; pure. Matroska keeps a cue's text in its block."""
    cues = []
    for packet in json.loads(text).get("packets", []):
        payload = _payload(packet.get("data", "")).decode("utf-8", "replace").strip()
        # A blank line would end the cue and an arrow start another one.
        lines = [html.escape(line, quote=False) if "-->" in line else line for line in payload.splitlines() if line]
        start = float(packet.get("pts_time", 0.0))
        if lines:
            cues.append((start, start + float(packet.get("duration_time", 2.0)), "\n".join(lines)))
    return cues


def _through_ffmpeg(source: Path, stream: SubtitleStream, path: Path, stop: Stop | None) -> bool:
    argv: list[Any] = [tools.ffmpeg(), "-nostdin", "-v", "error", "-y", *tools.guard_argv()]
    argv += [
        "-i",
        tools.address(source),
        "-map",
        f"0:{stream.index}",
        "-c:s",
        "webvtt",
        "-map_metadata",
        "-1",
        "-f",
        "webvtt",
        path,
    ]
    finished = process.run(argv, limits=_LIMITS, stop=stop, timeout_seconds=TIMEOUT_SECONDS)
    return finished.returncode == 0 and path.is_file() and path.stat().st_size > 0


def _from_matroska(source: Path, stream: SubtitleStream, path: Path, stop: Stop | None) -> bool:
    argv: list[Any] = [tools.ffprobe(), "-v", "quiet", *tools.guard_argv(), "-select_streams", str(stream.index)]
    argv += ["-show_packets", "-show_data", "-of", "json", tools.address(source)]
    finished = process.run(argv, limits=_LIMITS, stop=stop, timeout_seconds=TIMEOUT_SECONDS)
    if finished.returncode != 0:
        return False
    cues = parse_packets(finished.stdout)
    path.write_text(render_webvtt(cues), encoding="utf-8")
    return bool(cues)


def _payload(dump: str) -> bytes:
    """Read ffprobe's hex dump: ``offset: 5468 6973 …  text`` lines, 16 bytes each."""
    payload = bytearray()
    for line in dump.splitlines():
        _, colon, rest = line.partition(": ")
        if colon:
            payload += bytes.fromhex(rest[:40].replace(" ", ""))
    return bytes(payload)
