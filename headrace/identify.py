"""What a file is: its names (digests) and what ffprobe sees in it.

1. The file is hostile: it is opened by ``tools.guard()`` only, under kernel limits.
2. ``parse_probe`` is pure: the same text gives the same answer on every machine.
3. A file is *not media* where no allowed container is recognised or nothing in it plays;
   it is *undecodable* where the container is recognised but says too little to decode it.
4. A cover picture (``attached_pic``) is not video.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

from headrace import process, tools
from headrace.errors import HeadraceError, NotMedia, Undecodable
from headrace.model import AudioStream, MediaInfo, MediaKind, SubtitleStream, VideoStream
from headrace.process import Limits, Stop

PROBE_TIMEOUT_SECONDS = 120.0
"""ffprobe reads the first few seconds of streams; more than this is a stuck disk or a trap."""

PROBE_LIMITS = Limits(memory_bytes=4 * 1024**3, cpu_seconds=120, file_bytes=0)
"""Several times what an 8K HEVC film takes; ffprobe writes no file at all."""

MIN_PROBE_SCORE = 25
"""ffmpeg's AVPROBE_SCORE_RETRY: below it ffmpeg itself calls the container a guess."""

STANDARD_RATES = (
    *(Fraction(24000, 1001), Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30)),
    *(Fraction(50), Fraction(60000, 1001), Fraction(60)),
)
RATE_TOLERANCE = 0.002
"""A rate within 0.2 % of a standard one is that one, written with rounded timestamps."""
MAX_SANE_RATE = 240
"""No camera film in this field is above; r_frame_rate 57600 or 1000 is a time base, not a rate."""
VFR_SPREAD = 1.5
"""A film is VFR where its middle gap is this much shorter than its average one."""
MIN_RATE = Fraction(5)
"""Slide shows get at least this, so that the picture changes within 0.2 s of its time."""

MIN_GAP_SECONDS = 1e-4
"""Packets nearer than this are two halves of one frame."""

RATE_PACKETS = 20_000
"""How many packets are read to learn a rate or duration that the container does not say sanely."""

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    *((4, kind, "MP4") for kind in (b"ftyp", b"moov", b"mdat", b"moof")),
    (0, b"\x1aE\xdf\xa3", "Matroska"),
    (8, b"AVI ", "AVI"),
    (8, b"WAVE", "WAVE"),
    (0, b"OggS", "Ogg"),
    (0, b"fLaC", "FLAC"),
    (0, b"FLV\x01", "FLV"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "ASF"),
)
"""(offset, bytes, container): enough to tell a broken film from what never was one."""

_MEDIA_TYPES = {
    "matroska": "x-matroska",
    "mpegts": "mp2t",
    "mpeg": "mpeg",
    "avi": "x-msvideo",
    "flv": "x-flv",
    "asf": "x-ms-asf",
    "ogg": "ogg",
    "wav": "wav",
    "flac": "flac",
    "mp3": "mpeg",
    "aac": "aac",
    "mxf": "mxf",
}
MATROSKA_WEBVTT = "S_TEXT/WEBVTT"
"""Matroska's own WebVTT (https://www.matroska.org/technical/subtitles.html), unknown to ffmpeg 9."""
_TEXT_SUBTITLES = frozenset(
    {
        MATROSKA_WEBVTT,
        "subrip",
        "srt",
        "webvtt",
        "ass",
        "ssa",
        "mov_text",
        "text",
        "ttml",
        "microdvd",
        "sami",
        "subviewer",
        "eia_608",
    }
)


def probe(path: Path, *, stop: Stop | None = None) -> MediaInfo:
    """Return what a file holds, as far as playing it goes.

    Raises ``NotMedia`` (no known container, or nothing to play), ``Undecodable`` (a known
    container that can't be used), ``ToolStalled`` (retry can help) and ``Cancelled``.
    """
    size_bytes = path.stat().st_size
    if size_bytes == 0:
        raise NotMedia("the file is empty")
    argv = [str(tools.ffprobe()), "-v", "error", *tools.guard_argv(), "-of", "json"]
    # -show_data: a stream's private data names the one subtitle codec that ffmpeg doesn't know.
    argv += ["-show_format", "-show_streams", "-show_data", tools.address(path)]
    finished = process.run(argv, limits=PROBE_LIMITS, stop=stop, timeout_seconds=PROBE_TIMEOUT_SECONDS)
    if finished.returncode != 0:
        with path.open("rb") as file:
            raise _unreadable(file.read(64), finished.stderr)
    times: Sequence[tuple[float, float]] = ()
    wanted = _needs_times(finished.stdout)
    if wanted is not None:
        times = _packet_times(path, wanted, stop)
    return parse_probe(finished.stdout, size_bytes, times)


def parse_probe(text: str, size_bytes: int, times: Sequence[tuple[float, float]] = ()) -> MediaInfo:
    """Turn ffprobe's JSON into a ``MediaInfo``; pure.

    ``times`` are (start, duration) in seconds of packets of the main stream, where the
    container's own rate or duration is missing or absurd. Raises as ``probe`` does.
    """
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise NotMedia("ffprobe found nothing it could describe") from error
    form, streams = found.get("format", {}), found.get("streams", [])
    if int(form.get("probe_score", 0)) < MIN_PROBE_SCORE:
        raise NotMedia("no known container was recognised")
    _refuse_undescribed(streams)
    video = tuple(_video(s, times) for s in streams if _is_video(s))
    audio = tuple(_audio(s) for s in streams if s.get("codec_type") == "audio" and _known(s))
    subtitles = tuple(_subtitle(s) for s in streams if s.get("codec_type") == "subtitle")
    if not video and not audio:
        raise NotMedia("nothing in the file can be played: it holds no picture stream and no sound")
    kind = MediaKind.VIDEO if video else MediaKind.AUDIO
    container = str(form.get("format_name", ""))
    return MediaInfo(
        container=container,
        media_type=_media_type(container, kind, video, audio),
        kind=kind,
        duration_seconds=_positive(form.get("duration")) or _span(times),
        bit_rate=_whole(form.get("bit_rate")),
        size_bytes=size_bytes,
        video=video,
        audio=audio,
        subtitles=subtitles,
    )


def sane_frame_rate(average: Fraction | None, base: Fraction | None, starts: Sequence[float] = ()) -> Fraction | None:
    """Choose the constant rate that a film is encoded at, in frames a second; pure.

    ``average`` and ``base`` are ffprobe's avg_frame_rate and r_frame_rate; ``starts`` the
    packets' times, used where those two disagree or are absurd. Exact rationals such as
    30000/1001 are kept; ``None`` where nothing is known.
    """
    if average and average <= MAX_SANE_RATE and (not starts or _agree(average, base)):
        return max(_standard(average), MIN_RATE)
    gaps = sorted(b - a for a, b in pairwise(sorted(starts)) if b - a > MIN_GAP_SECONDS)
    if not gaps:
        return max(_standard(base), MIN_RATE) if base and base <= MAX_SANE_RATE else None
    mean, middle = sum(gaps) / len(gaps), gaps[len(gaps) // 2]
    # Even gaps (rounded to the container's milliseconds) give the rate by their mean; uneven
    # ones by the middle one, so that most frames of a screen recording keep their time.
    rate = Fraction(1 / (middle if mean > VFR_SPREAD * middle else mean)).limit_denominator(1001)
    if mean > VFR_SPREAD * middle:
        rate = next((r for r in STANDARD_RATES if r >= rate * Fraction(98, 100)), STANDARD_RATES[-1])
    return max(_standard(min(rate, Fraction(MAX_SANE_RATE))), MIN_RATE)


def _agree(average: Fraction | None, base: Fraction | None) -> bool:
    """Whether a container's two rates are one: VFR films have a base rate above their average."""
    if average is None or base is None or max(average, base) > MAX_SANE_RATE:
        return False
    return abs(base - average) <= base * Fraction(1, 100)


def _standard(rate: Fraction) -> Fraction:
    nearest = min(STANDARD_RATES, key=lambda standard: abs(standard - rate))
    return nearest if abs(nearest - rate) <= nearest * Fraction(RATE_TOLERANCE) else rate


def _unreadable(head: bytes, stderr: str) -> HeadraceError:
    reason = stderr.strip().splitlines()[-1] if stderr.strip() else "no reason given"
    said = next((line.split("] ", 1)[-1] for line in stderr.splitlines() if line.startswith("[")), reason)
    for offset, magic, name in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return Undecodable(f"the {name} container is broken: {said}", stderr=stderr)
    return NotMedia("no known container was recognised", stderr=stderr)


def _refuse_undescribed(streams: Sequence[dict[str, Any]]) -> None:
    """Refuse a file whose picture or sound track has lost its description.

    A codec that ffmpeg does not know still has its four-letter tag; a track without even
    that (an MP4 with no ``stsd``) was damaged, and a film silently without its sound is not
    what was asked for.
    """
    for stream in streams:
        undescribed = not _known(stream) and int(str(stream.get("codec_tag", "0")), 16) == 0
        if undescribed and stream.get("codec_type") in {"video", "audio"}:
            raise Undecodable(
                f"track {stream.get('index')} ({stream['codec_type']}) has no description of its codec",
                stream=stream.get("index"),
            )


def _known(stream: dict[str, Any]) -> bool:
    return stream.get("codec_name", "unknown") not in {"unknown", "none"}


def _is_video(stream: dict[str, Any]) -> bool:
    if stream.get("codec_type") != "video" or not _known(stream):
        return False
    disposition = stream.get("disposition", {})
    still = disposition.get("attached_pic") or disposition.get("still_image") or disposition.get("timed_thumbnails")
    return not still and bool(stream.get("width")) and bool(stream.get("height"))


def _video(stream: dict[str, Any], times: Sequence[tuple[float, float]]) -> VideoStream:
    pixel_format = str(stream.get("pix_fmt", ""))
    return VideoStream(
        index=int(stream["index"]),
        codec=str(stream["codec_name"]),
        width=int(stream["width"]),
        height=int(stream["height"]),
        sample_aspect_ratio=_ratio(stream.get("sample_aspect_ratio"), ":") or Fraction(1),
        rotation=_rotation(stream),
        frame_rate=sane_frame_rate(
            _ratio(stream.get("avg_frame_rate")), _ratio(stream.get("r_frame_rate")), [start for start, _ in times]
        ),
        pixel_format=pixel_format,
        bit_depth=_bit_depth(stream, pixel_format),
        color_transfer=_told(stream.get("color_transfer")),
        color_primaries=_told(stream.get("color_primaries")),
        color_space=_told(stream.get("color_space")),
        color_range=_told(stream.get("color_range")),
        field_order=_told(stream.get("field_order")),
        duration_seconds=_positive(stream.get("duration")),
        bit_rate=_whole(stream.get("bit_rate")),
    )


def _audio(stream: dict[str, Any]) -> AudioStream:
    return AudioStream(
        index=int(stream["index"]),
        codec=str(stream["codec_name"]),
        channels=int(stream.get("channels", 0)),
        sample_rate=int(stream.get("sample_rate", 0)),
        language=_language(stream),
        title=_tag(stream, "title"),
        default=bool(stream.get("disposition", {}).get("default")),
        duration_seconds=_positive(stream.get("duration")),
    )


def _subtitle(stream: dict[str, Any]) -> SubtitleStream:
    codec = str(stream.get("codec_name", "unknown"))
    if codec == "unknown" and "WEBVTT" in str(stream.get("extradata", "")):
        codec = MATROSKA_WEBVTT
    return SubtitleStream(
        int(stream["index"]), codec, codec in _TEXT_SUBTITLES, _language(stream), _tag(stream, "title")
    )


def _rotation(stream: dict[str, Any]) -> int:
    """Return the clockwise quarter turns in degrees; ffprobe counts counter-clockwise."""
    for side in stream.get("side_data_list", []):
        if "rotation" in side:
            return round(-float(side["rotation"]) / 90) * 90 % 360
    return 0


def _bit_depth(stream: dict[str, Any], pixel_format: str) -> int:
    told = _whole(stream.get("bits_per_raw_sample"))
    return told or next((bits for bits in (16, 14, 12, 10, 9) if f"p{bits}" in pixel_format), 8)


def _media_type(container: str, kind: MediaKind, video: Sequence[VideoStream], audio: Sequence[AudioStream]) -> str:
    main = container.split(",", maxsplit=1)[0]
    if main == "matroska" and "webm" in container:
        codecs = {stream.codec for stream in video} | {stream.codec for stream in audio}
        # ffmpeg has one demuxer for both; WebM allows these codecs only (webmproject.org, Container Guidelines).
        sub = "webm" if codecs <= {"vp8", "vp9", "av1", "vorbis", "opus"} else "x-matroska"
    elif main == "mov":
        sub = "mp4"
    else:
        sub = _MEDIA_TYPES.get(main, "octet-stream")
    return "application/octet-stream" if sub == "octet-stream" else f"{kind.value}/{sub}"


def _needs_times(text: str) -> str | None:
    """Return the stream (``v:0`` or ``a:0``) whose packets must be read, or ``None``."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return None
    video = next((s for s in found.get("streams", []) if _is_video(s)), None)
    if _positive(found.get("format", {}).get("duration")) is None:
        return str(video["index"]) if video else "a:0"
    if video is None:
        return None
    agree = _agree(_ratio(video.get("avg_frame_rate")), _ratio(video.get("r_frame_rate")))
    return None if agree else str(video["index"])


def _packet_times(path: Path, stream: str, stop: Stop | None) -> list[tuple[float, float]]:
    """Read the times of a stream's packets, without decoding: all of the file passes by once."""
    times: list[tuple[float, float]] = []
    last = (0.0, 0.0)

    def take(line: str) -> bool:
        nonlocal last
        start, _, length = line.partition(",")
        begin = _number(start)
        if begin is not None:
            last = max(last, (begin, _number(length.rstrip(",")) or 0.0))
            if len(times) < RATE_PACKETS:
                times.append((begin, _number(length.rstrip(",")) or 0.0))
        return True

    argv = [str(tools.ffprobe()), "-v", "error", *tools.guard_argv(), "-select_streams", stream]
    argv += ["-show_entries", "packet=pts_time,duration_time", "-of", "csv=p=0", tools.address(path)]
    process.run(argv, limits=PROBE_LIMITS, stop=stop, timeout_seconds=PROBE_TIMEOUT_SECONDS, on_line=take)
    return times if not times or last in times[-64:] else [*times, last]


def _span(times: Sequence[tuple[float, float]]) -> float | None:
    if not times:
        return None
    begin = min(start for start, _ in times)
    return max(start + length for start, length in times) - min(begin, 0.0) or None


def _number(value: object) -> float | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _positive(value: object) -> float | None:
    number = _number(value)
    return number if number is not None and number > 0 else None


def _whole(value: object) -> int | None:
    number = _positive(value)
    return int(number) if number is not None else None


def _ratio(value: object, by: str = "/") -> Fraction | None:
    above, _, below = str(value or "").partition(by)
    if not above.isdigit() or not below.isdigit() or int(below) == 0 or int(above) == 0:
        return None
    return Fraction(int(above), int(below))


def _told(value: object) -> str | None:
    return str(value) if value not in {None, "unknown", "unspecified", "N/A"} else None


def _tag(stream: dict[str, Any], name: str) -> str | None:
    tags = {str(key).lower(): value for key, value in stream.get("tags", {}).items()}
    return str(tags[name]) if tags.get(name) else None


def _language(stream: dict[str, Any]) -> str | None:
    language = _tag(stream, "language")
    return None if language in {None, "und"} else language
