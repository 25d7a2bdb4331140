"""HLS playlists and the index of a fragmented MP4: read, measured and written. Pure.

RFC 8216 (and draft-pantos-hls-rfc8216bis-18) for the playlists, ISO/IEC 14496-12:2022
8.16.3 for ``sidx``. Both the packager, which writes playlists from what it measures, and the
checker, which trusts nobody's, need them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

VERSION = 6
"""EXT-X-MAP in a playlist that is not I-frames-only needs 6, byte ranges 4 (RFC 8216, section 7)."""

BOX_HEADER_BYTES = 8
_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^",]*)')


class NotAPlaylist(ValueError):  # noqa: N818 - named after what is wrong, as in errors.py
    """The text is not a playlist, or the bytes hold no index; the message says where."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One media segment, or one I frame: seconds, its file, and its bytes there."""

    seconds: Fraction
    uri: str
    offset: int | None = None
    """``None`` where the segment is the whole file."""
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class MediaPlaylist:
    """One rendition's playlist."""

    version: int
    target_seconds: int
    segments: tuple[Segment, ...]
    kind: str | None = "VOD"
    init: Segment | None = None
    """EXT-X-MAP: what a player loads before the first segment (its seconds are 0)."""
    iframes_only: bool = False
    independent: bool = False
    ended: bool = True

    @property
    def seconds(self) -> Fraction:
        """The sum of all EXTINF."""
        return sum((segment.seconds for segment in self.segments), Fraction(0))


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a multivariant playlist: its tag (``STREAM-INF``, ``MEDIA``, …), attributes and URI."""

    tag: str
    attributes: dict[str, str]
    uri: str | None


@dataclass(frozen=True, slots=True)
class Index:
    """What ``sidx`` says of a file with all its segments."""

    init_bytes: int
    """How many bytes come before the index: ftyp and moov."""
    segments: tuple[tuple[Fraction, int, int], ...]
    """(seconds, offset, size in bytes) of each."""
    all_start_with_sap: bool
    timescale: int

    @property
    def seconds(self) -> Fraction:
        """How long the segments last together."""
        return sum((segment[0] for segment in self.segments), Fraction(0))


def peak_bitrate(segments: Sequence[tuple[Fraction, int]], target_seconds: int) -> int:
    """Return the peak segment bit rate in bits a second (RFC 8216, 4.1).

    It is the largest bit rate of any contiguous set of segments, as (seconds, size in bytes),
    whose duration is between 0.5 and 1.5 target durations; of all of them where they are
    shorter together.
    """
    rates: list[Fraction] = []
    for first in range(len(segments)):
        seconds, size = Fraction(0), 0
        for length, size_bytes in segments[first:]:
            seconds, size = seconds + length, size + size_bytes
            if seconds > Fraction(3, 2) * target_seconds:
                break
            if seconds >= Fraction(1, 2) * target_seconds:
                rates.append(size * 8 / seconds)
    if not rates:
        return average_bitrate(segments)
    return -int(-max(rates) // 1)


def average_bitrate(segments: Sequence[tuple[Fraction, int]]) -> int:
    """Return the bits a second over all segments, rounded up; 0 where there are none."""
    seconds = sum((length for length, _ in segments), Fraction(0))
    return -int(-(sum(size for _, size in segments) * 8 / seconds) // 1) if seconds else 0


def read_index(head: bytes) -> Index:
    """Read the ``sidx`` of a file that begins with ``head``; raises ``NotAPlaylist`` where there is none."""
    at = 0
    while at + BOX_HEADER_BYTES <= len(head):
        size, kind = struct.unpack_from(">I4s", head, at)
        if kind == b"sidx":
            if at + size > len(head):
                raise NotAPlaylist(f"the index ends beyond the {len(head)} bytes that were read")
            return _read_sidx(head[at : at + size], at)
        if size < BOX_HEADER_BYTES:  # 0 and 1 mean sizes that no head of ours has
            break
        at += size
    raise NotAPlaylist("there is no index (sidx) at the head of the file")


def _read_sidx(box: bytes, at: int) -> Index:
    version = box[8]
    timescale = struct.unpack_from(">I", box, 16)[0]
    earliest, first_offset = struct.unpack_from(">QQ" if version else ">II", box, 20)
    del earliest
    cursor = 20 + (16 if version else 8)
    count = struct.unpack_from(">HH", box, cursor)[1]
    offset = at + len(box) + first_offset
    segments, saps = [], True
    for number in range(count):
        size, length, sap = struct.unpack_from(">III", box, cursor + 4 + 12 * number)
        segments.append((Fraction(length, timescale), offset, size & 0x7FFFFFFF))
        saps &= bool(sap >> 31)
        offset += size & 0x7FFFFFFF
    return Index(at, tuple(segments), saps, timescale)


def parse_media(text: str) -> MediaPlaylist:
    """Read a media playlist; raises ``NotAPlaylist``."""
    tags: dict[str, str] = {}
    segments: list[Segment] = []
    init: Segment | None = None
    seconds: Fraction | None = None
    span: tuple[int, int] | None = None
    following = 0
    for line in _lines(text):
        tag, _, value = line.partition(":")
        if tag == "#EXTINF":
            seconds = Fraction(value.split(",")[0])
        elif tag == "#EXT-X-BYTERANGE":
            span = _byte_range(value, following)
        elif tag == "#EXT-X-MAP":
            given = attributes(value)
            at = _byte_range(given["BYTERANGE"], 0) if "BYTERANGE" in given else (None, None)
            init = Segment(Fraction(0), given.get("URI", ""), *at)
        elif line.startswith("#"):
            tags[tag] = value
        elif seconds is not None:
            segments.append(Segment(seconds, line, *(span or (None, None))))
            following = sum(span) if span else 0
            seconds = span = None
    try:
        version, target = int(tags.get("#EXT-X-VERSION", "1")), int(tags["#EXT-X-TARGETDURATION"])
    except (KeyError, ValueError) as error:
        raise NotAPlaylist("the playlist has no EXT-X-TARGETDURATION") from error
    return MediaPlaylist(
        version,
        target,
        tuple(segments),
        tags.get("#EXT-X-PLAYLIST-TYPE"),
        init,
        iframes_only="#EXT-X-I-FRAMES-ONLY" in tags,
        independent="#EXT-X-INDEPENDENT-SEGMENTS" in tags,
        ended="#EXT-X-ENDLIST" in tags,
    )


def parse_multivariant(text: str) -> tuple[Entry, ...]:
    """Read a multivariant playlist: STREAM-INF, I-FRAME-STREAM-INF, MEDIA and bare tags; raises ``NotAPlaylist``."""
    entries: list[Entry] = []
    waiting: dict[str, str] | None = None
    for line in _lines(text):
        tag, _, value = line.partition(":")
        if tag == "#EXT-X-STREAM-INF":
            waiting = attributes(value)
        elif tag in {"#EXT-X-MEDIA", "#EXT-X-I-FRAME-STREAM-INF"}:
            given = attributes(value)
            entries.append(Entry(tag.removeprefix("#EXT-X-"), given, given.get("URI")))
        elif tag.startswith("#EXT-X-"):
            entries.append(Entry(tag.removeprefix("#EXT-X-"), {"": value}, None))
        elif not line.startswith("#") and waiting is not None:
            entries.append(Entry("STREAM-INF", waiting, line))
            waiting = None
    return tuple(entries)


def attributes(text: str) -> dict[str, str]:
    """Read an attribute list; quotes are taken off (RFC 8216, 4.2)."""
    return {name: value.strip('"') for name, value in _ATTRIBUTE.findall(text)}


def render_media(playlist: MediaPlaylist) -> str:
    """Write a media playlist; parsing it gives the same, to a microsecond."""
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{playlist.version}", f"#EXT-X-TARGETDURATION:{playlist.target_seconds}"]
    lines += [f"#EXT-X-PLAYLIST-TYPE:{playlist.kind}"] if playlist.kind else []
    lines += ["#EXT-X-INDEPENDENT-SEGMENTS"] if playlist.independent else []
    lines += ["#EXT-X-I-FRAMES-ONLY"] if playlist.iframes_only else []
    if playlist.init is not None:
        span = f',BYTERANGE="{playlist.init.size_bytes}@{playlist.init.offset}"' if playlist.init.size_bytes else ""
        lines.append(f'#EXT-X-MAP:URI="{playlist.init.uri}"{span}')
    for segment in playlist.segments:
        lines.append(f"#EXTINF:{float(segment.seconds):.6f},")
        if segment.size_bytes is not None:
            lines.append(f"#EXT-X-BYTERANGE:{segment.size_bytes}@{segment.offset}")
        lines.append(segment.uri)
    return "\n".join([*lines, *(["#EXT-X-ENDLIST"] if playlist.ended else []), ""])


def render_multivariant(entries: Iterable[Entry]) -> str:
    """Write a multivariant playlist of STREAM-INF, I-FRAME-STREAM-INF and MEDIA entries.

    Values that RFC 8216 wants quoted are quoted; a quote or a line end in one becomes a space.
    """
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{VERSION}", "#EXT-X-INDEPENDENT-SEGMENTS"]
    for entry in entries:
        given = dict(entry.attributes)
        if entry.tag != "STREAM-INF" and entry.uri:
            given["URI"] = entry.uri
        words = ",".join(f"{name}={_quoted(name, value)}" for name, value in given.items())
        lines.append(f"#EXT-X-{entry.tag}:{words}")
        if entry.tag == "STREAM-INF" and entry.uri:
            lines.append(entry.uri)
    return "\n".join([*lines, ""])


_QUOTED = frozenset({"CODECS", "AUDIO", "SUBTITLES", "URI", "GROUP-ID", "LANGUAGE", "NAME", "CHANNELS"})


def _quoted(name: str, value: str) -> str:
    return '"' + re.sub(r'["\r\n\x00-\x1f]', " ", value) + '"' if name in _QUOTED else value


def _lines(text: str) -> list[str]:
    lines = [line.strip() for line in text.lstrip("\ufeff").splitlines() if line.strip()]
    if not lines or lines[0] != "#EXTM3U":
        raise NotAPlaylist("the text does not begin with #EXTM3U")
    return lines[1:]


def _byte_range(text: str, following: int) -> tuple[int, int]:
    """(offset, size) of ``SIZE[@OFFSET]``; without an offset it follows the range before."""
    size, _, offset = text.partition("@")
    try:
        return (int(offset) if offset else following), int(size)
    except ValueError as error:
        raise NotAPlaylist(f"{text!r} is not a byte range") from error
