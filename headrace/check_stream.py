"""Check a published stream, in a folder or behind a URL, against what players and Apple ask for.

The checker trusts no playlist: sizes, durations and byte ranges come from the media files'
own indexes. A *finding* is an ``error`` where a player may fail or the specification says
*must*, and a ``warning`` where it says *should*. Rules: RFC 8216, draft-pantos-hls-rfc8216bis-18,
Apple's HLS Authoring Specification as FIELD.md quotes it, ISO/IEC 23009-1:2022.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urljoin, urlsplit

from headrace import hls
from headrace.errors import NotFound, SourceNotFound, SourceUnavailable

MAX_TEXT_BYTES = 16 * 1024 * 1024
MAX_HEAD_BYTES = 4 * 1024 * 1024
"""The head of a media file with its index, read in one request."""
TIMEOUT_SECONDS = 30.0

BANDWIDTH_TOLERANCE = Fraction(1, 10)
"""Apple: BANDWIDTH is the measured peak, within 10 %."""
SEGMENT_SECONDS_TOLERANCE = Fraction(1, 2)
"""Apple: segments within half a second of each other, but for the last."""
MAX_TARGET_SECONDS = 10
MAX_FRAME_RATE = 60
"""Apple: no more than 60 fps."""
AUDIO_FRAME_SECONDS = Fraction(2048, 44_100)
"""Two AAC frames: one for the priming, one for the rounding up to a whole frame."""
DEFAULT_FRAME_SECONDS = Fraction(1, 24)
MIN_VERSION = 3
"""Fractional EXTINF needs 3 (RFC 8216, section 7); 7 is the last that VOD needs."""
MAX_VERSION = 12
_RESOLUTION = re.compile(r"\d+x\d+\Z")
_CODEC = re.compile(r"(avc1|avc3)\.[0-9a-fA-F]{6}|(hvc1|hev1|av01|vp09|mp4a|ac-3|ec-3|Opus|opus|fLaC|wvtt|stpp)[.\w]*")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: how bad, in which file, which rule, and what was seen."""

    severity: str
    """``error`` or ``warning``."""
    where: str
    rule: str
    message: str


class Place(Protocol):
    """Where a stream is read from."""

    def read(self, name: str, size_bytes: int) -> bytes:
        """Return the first ``size_bytes`` of a file; raises ``SourceNotFound``."""

    def size(self, name: str) -> int:
        """Return a file's size in bytes; raises ``SourceNotFound``."""


class Folder:
    """A packaged folder; nothing outside of it is read."""

    def __init__(self, folder: Path) -> None:
        """Read from ``folder``."""
        self._folder = folder.resolve()

    def read(self, name: str, size_bytes: int) -> bytes:
        """Return the first ``size_bytes`` of a file."""
        with self._path(name).open("rb") as file:
            return file.read(size_bytes)

    def size(self, name: str) -> int:
        """Return a file's size in bytes."""
        return self._path(name).stat().st_size

    def _path(self, name: str) -> Path:
        path = (self._folder / unquote(urlsplit(name).path)).resolve()
        if not path.is_relative_to(self._folder) or not path.is_file():
            raise SourceNotFound(f"there is no {name} in the folder")
        return path


class Web:
    """A stream behind HTTP; names are URLs, relative ones from the manifest's."""

    def __init__(self, base: str) -> None:
        """Resolve names against ``base``."""
        import httpx

        self._base = base
        self._client = httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=True)
        self._failed = httpx.HTTPError

    def read(self, name: str, size_bytes: int) -> bytes:
        """Return the first ``size_bytes`` of a file."""
        return self._get(name, size_bytes)[0]

    def size(self, name: str) -> int:
        """Return a file's size in bytes, from ``Content-Range`` or ``Content-Length``."""
        return self._get(name, 1)[1]

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def _get(self, name: str, size_bytes: int) -> tuple[bytes, int]:
        url, asked = urljoin(self._base, name), {"Range": f"bytes=0-{size_bytes - 1}", "Accept-Encoding": "identity"}
        try:
            with self._client.stream("GET", url, headers=asked) as response:
                if response.is_error:
                    raise SourceNotFound(f"{name} answers {response.status_code}")
                body = bytearray()
                for block in response.iter_bytes():
                    body += block
                    if len(body) >= size_bytes:
                        break
                whole = response.headers.get("Content-Range", "").rpartition("/")[2]
                size = whole if whole.isdigit() else response.headers.get("Content-Length", len(body))
                return bytes(body[:size_bytes]), int(size)
        except self._failed as error:
            raise SourceUnavailable(f"{name} can't be read: {error}") from error


def check(target: str | Path) -> list[Finding]:
    """Check a packaged folder, or the URL of a multivariant playlist or of a folder that ends in ``/``.

    Returns findings, errors first; empty means that nothing is wrong. Raises ``NotFound``
    where there is no stream at all and ``SourceUnavailable`` (retry can help).
    """
    text = str(target)
    if text.startswith(("http://", "https://")):
        base = text if urlsplit(text).path.endswith((".m3u8", ".mpd")) else text.rstrip("/") + "/master.m3u8"
        web = Web(base)
        try:
            return check_place(web, base, urljoin(base, "manifest.mpd"))
        finally:
            web.close()
    folder = Path(target)
    if not folder.is_dir():
        raise NotFound(f"{folder} is not a folder")
    return check_place(Folder(folder), "master.m3u8", "manifest.mpd")


def check_place(place: Place, master: str, manifest: str) -> list[Finding]:
    """Check the HLS set and the DASH manifest of a place by their names."""
    try:
        text = place.read(master, MAX_TEXT_BYTES).decode("utf-8", "replace")
    except SourceNotFound as error:
        raise NotFound(f"there is no stream: {error.message}") from error
    if urlsplit(master).path.endswith(".mpd"):
        return list(check_dash(place, master))
    found = [*check_hls(place, master, text), *check_dash(place, manifest)]
    return sorted(found, key=lambda finding: finding.severity)


@dataclass(frozen=True, slots=True)
class _Read:
    """A media playlist and what its media file says."""

    uri: str
    playlist: hls.MediaPlaylist
    spans: list[tuple[Fraction, int]]
    """(seconds, size in bytes) of each segment, as measured where the file has an index."""
    media_seconds: Fraction | None

    @property
    def peak(self) -> int:
        return hls.peak_bitrate(self.spans, self.playlist.target_seconds)

    @property
    def average(self) -> int:
        return hls.average_bitrate(self.spans)


def check_hls(place: Place, master: str, text: str) -> Iterator[Finding]:
    """Check a multivariant playlist and everything that it names."""
    try:
        entries = hls.parse_multivariant(text)
    except hls.NotAPlaylist as error:
        yield Finding("error", master, "playlist", str(error))
        return
    name = urlsplit(master).path.rpartition("/")[2]
    variants = [entry for entry in entries if entry.tag == "STREAM-INF"]
    if not variants:
        yield Finding("error", name, "variants", "there is no EXT-X-STREAM-INF")
    if not any(entry.tag == "INDEPENDENT-SEGMENTS" for entry in entries):
        yield Finding("error", name, "independent-segments", "EXT-X-INDEPENDENT-SEGMENTS is missing")
    read: dict[str, _Read] = {}
    for entry in entries:
        if entry.uri is None or entry.uri in read:
            continue
        given, findings = _read_playlist(place, entry)
        yield from findings
        if given is not None:
            read[entry.uri] = given
            yield from _check_playlist(entry, given)
    for entry in entries:
        if entry.tag in {"STREAM-INF", "I-FRAME-STREAM-INF"} and entry.uri in read:
            yield from _check_variant(entry, read, _sounds(entry, entries, read))
        if entry.tag == "MEDIA" and not entry.attributes.get("LANGUAGE"):
            yield Finding("warning", entry.uri or name, "language", "EXT-X-MEDIA has no LANGUAGE")
    yield from _check_together(variants, entries, read)


def _sounds(variant: hls.Entry, entries: Sequence[hls.Entry], read: dict[str, _Read]) -> list[_Read]:
    group = variant.attributes.get("AUDIO")
    wanted = [e.uri for e in entries if e.tag == "MEDIA" and group and e.attributes.get("GROUP-ID") == group]
    return [read[uri] for uri in wanted if uri in read and uri != variant.uri]


def _read_playlist(place: Place, entry: hls.Entry) -> tuple[_Read | None, list[Finding]]:
    uri = entry.uri or ""
    try:
        playlist = hls.parse_media(place.read(uri, MAX_TEXT_BYTES).decode("utf-8", "replace"))
    except (SourceNotFound, hls.NotAPlaylist) as error:
        return None, [Finding("error", uri, "resolves", str(error))]
    return _measure(place, uri, playlist)


def _measure(place: Place, uri: str, playlist: hls.MediaPlaylist) -> tuple[_Read, list[Finding]]:
    """Compare a playlist with its media file: does each URI resolve, do the ranges agree with the index."""
    findings: list[Finding] = []
    spans, sizes = [], {}
    for segment in (*([playlist.init] if playlist.init else []), *playlist.segments):
        address = urljoin(uri, segment.uri)
        if address not in sizes:
            try:
                sizes[address] = place.size(address)
            except SourceNotFound as error:
                findings.append(Finding("error", uri, "resolves", str(error)))
                sizes[address] = -1
        if 0 <= sizes[address] < (segment.offset or 0) + (segment.size_bytes or 0):
            findings.append(Finding("error", uri, "byte-range", f"a range ends beyond {segment.uri}"))
        if segment is not playlist.init:
            spans.append((segment.seconds, segment.size_bytes or max(0, sizes[address])))
    media_seconds = None
    if playlist.init is not None and len(sizes) == 1 and not playlist.iframes_only and not findings:
        address = next(iter(sizes))
        try:
            index = hls.read_index(place.read(address, MAX_HEAD_BYTES))
        except hls.NotAPlaylist as error:
            return _Read(uri, playlist, spans, None), [Finding("warning", uri, "index", str(error))]
        media_seconds = index.seconds
        spans = [(seconds, size) for seconds, _, size in index.segments]
        findings += _check_index(uri, playlist, index)
    return _Read(uri, playlist, spans, media_seconds), findings


def _check_index(uri: str, playlist: hls.MediaPlaylist, index: hls.Index) -> Iterator[Finding]:
    if [(s.offset, s.size_bytes) for s in playlist.segments] != [(at, size) for _, at, size in index.segments]:
        yield Finding("error", uri, "byte-range", "the byte ranges are not the segments of the file's index")
    elif any(abs(s.seconds - i[0]) > Fraction(2, 1000) for s, i in zip(playlist.segments, index.segments, strict=True)):
        yield Finding("error", uri, "segment-duration", "an EXTINF differs from the file's index")
    if not index.all_start_with_sap:
        yield Finding("error", uri, "independent-segments", "a segment does not begin with a key frame")


def _check_playlist(entry: hls.Entry, given: _Read) -> Iterator[Finding]:
    uri, playlist = given.uri, given.playlist
    if playlist.kind != "VOD":
        yield Finding("error", uri, "playlist-type", f"EXT-X-PLAYLIST-TYPE is {playlist.kind}, not VOD")
    if not playlist.ended:
        yield Finding("error", uri, "endlist", "EXT-X-ENDLIST is missing")
    ranges = 4 if any(segment.size_bytes for segment in playlist.segments) else MIN_VERSION
    needed = 6 if playlist.init and not playlist.iframes_only else ranges
    if not needed <= playlist.version <= MAX_VERSION:
        yield Finding("error", uri, "version", f"EXT-X-VERSION is {playlist.version}; its tags need {needed}")
    if not playlist.segments:
        yield Finding("error", uri, "segments", "there is no segment")
        return
    longest = max(segment.seconds for segment in playlist.segments)
    if round(longest) > playlist.target_seconds:
        yield Finding("error", uri, "target-duration", f"a segment lasts {float(longest):.3f} s")
    if entry.attributes.get("TYPE") == "SUBTITLES" or playlist.iframes_only:
        return
    if playlist.init is None and playlist.segments[0].uri.partition("?")[0].endswith((".mp4", ".m4s", ".m4a", ".m4v")):
        yield Finding("error", uri, "map", "EXT-X-MAP is missing")
    if playlist.target_seconds > MAX_TARGET_SECONDS:
        yield Finding("warning", uri, "target-duration", f"{playlist.target_seconds} s; Apple asks for 6")
    usual = [segment.seconds for segment in playlist.segments[:-1]]
    if usual and max(usual) - min(usual) > SEGMENT_SECONDS_TOLERANCE:
        yield Finding("error", uri, "segment-duration", f"from {float(min(usual)):.3f} to {float(max(usual)):.3f} s")
    frame = _frame_seconds(entry)
    if given.media_seconds is not None and abs(playlist.seconds - given.media_seconds) > frame:
        off = float(playlist.seconds - given.media_seconds)
        yield Finding("error", uri, "extinf-sum", f"EXTINF sums to {off:+.3f} s of the media's duration")


def _check_variant(entry: hls.Entry, read: dict[str, _Read], sounds: Sequence[_Read]) -> Iterator[Finding]:
    given, uri = entry.attributes, entry.uri or ""
    own = read[uri]
    declared = int(given.get("BANDWIDTH", "0") or 0)
    peak = own.peak + max((sound.peak for sound in sounds), default=0)
    average = own.average + max((sound.average for sound in sounds), default=0)
    if "video" not in _kinds(given):  # sounds of one group are heard one at a time
        peak, average = max([own.peak, *(s.peak for s in sounds)]), max([own.average, *(s.average for s in sounds)])
    if declared < peak:
        yield Finding("error", uri, "bandwidth", f"BANDWIDTH {declared} is below the measured peak {peak}")
    elif declared > peak * (1 + BANDWIDTH_TOLERANCE):
        yield Finding("error", uri, "bandwidth", f"BANDWIDTH {declared} is over 10 % above the measured peak {peak}")
    told = int(given.get("AVERAGE-BANDWIDTH", "0") or 0)
    if not told:
        yield Finding("error", uri, "average-bandwidth", "AVERAGE-BANDWIDTH is missing")
    elif abs(told - average) > average * BANDWIDTH_TOLERANCE:
        yield Finding("error", uri, "average-bandwidth", f"{told} is not within 10 % of the measured {average}")
    codecs = [codec for codec in given.get("CODECS", "").split(",") if codec]
    if not codecs or not all(_CODEC.fullmatch(codec) for codec in codecs):
        yield Finding("error", uri, "codecs", f"CODECS is {given.get('CODECS', 'missing')!r}")
    if "video" in _kinds(given):
        if not _RESOLUTION.match(given.get("RESOLUTION", "")):
            yield Finding("error", uri, "resolution", "RESOLUTION is missing")
        if entry.tag == "STREAM-INF" and not 0 < float(given.get("FRAME-RATE", "0") or 0) <= MAX_FRAME_RATE:
            yield Finding("error", uri, "frame-rate", f"FRAME-RATE is {given.get('FRAME-RATE', 'missing')}")


def _kinds(given: dict[str, str]) -> set[str]:
    video = re.search(r"avc|hvc|hev|av01|vp09", given.get("CODECS", "")) or "RESOLUTION" in given
    return {"video"} if video else {"audio"}


def _check_together(
    variants: Sequence[hls.Entry], entries: Sequence[hls.Entry], read: dict[str, _Read]
) -> Iterator[Finding]:
    """Compare the renditions with each other: same length, same segments, same target, I frames for each."""
    videos = [read[v.uri] for v in variants if v.uri in read and "video" in _kinds(v.attributes)]
    frame = max((_frame_seconds(variant) for variant in variants), default=DEFAULT_FRAME_SECONDS)
    for other in videos[1:]:
        if abs(other.playlist.seconds - videos[0].playlist.seconds) > frame:
            yield Finding("error", other.uri, "same-duration", f"its duration differs from {videos[0].uri}'s")
        if [s.seconds for s in other.playlist.segments] != [s.seconds for s in videos[0].playlist.segments]:
            yield Finding("error", other.uri, "aligned", f"its segments are not aligned with {videos[0].uri}'s")
    played = [r for r in read.values() if not r.playlist.iframes_only and r.media_seconds is not None]
    if len({r.playlist.target_seconds for r in played}) > 1:
        yield Finding("error", "master.m3u8", "target-duration", "audio and video have different target durations")
    if videos and played:
        gap = max(r.playlist.seconds for r in played) - min(r.playlist.seconds for r in played)
        if gap > SEGMENT_SECONDS_TOLERANCE:
            yield Finding("warning", "master.m3u8", "same-duration", f"the renditions end {float(gap):.2f} s apart")
    if videos and not any(entry.tag == "I-FRAME-STREAM-INF" for entry in entries):
        yield Finding("error", "master.m3u8", "i-frames", "there is no I-frame playlist")


def _frame_seconds(entry: hls.Entry) -> Fraction:
    rate = entry.attributes.get("FRAME-RATE")
    if rate and float(rate) > 0:
        return 1 / Fraction(rate) + Fraction(1, 1000)
    return AUDIO_FRAME_SECONDS if entry.tag == "MEDIA" else DEFAULT_FRAME_SECONDS


def check_dash(place: Place, manifest: str) -> Iterator[Finding]:
    """Check that an MPD parses, that each of its files exists, and that its index ranges hold an index."""
    import defusedxml.ElementTree
    from defusedxml.common import DefusedXmlException

    name = urlsplit(manifest).path.rpartition("/")[2]
    try:
        root = defusedxml.ElementTree.fromstring(place.read(manifest, MAX_TEXT_BYTES))
    except SourceNotFound as error:
        yield Finding("error", name, "resolves", error.message)
        return
    except (SyntaxError, DefusedXmlException) as error:  # ElementTree's ParseError is a SyntaxError
        yield Finding("error", name, "xml", f"the manifest does not parse: {error}")
        return
    space = {"mpd": "urn:mpeg:dash:schema:mpd:2011"}
    representations = root.findall(".//mpd:Representation", space)
    if not representations or not root.get("mediaPresentationDuration"):
        yield Finding("error", name, "mpd", "there is no Representation or no duration")
    for representation in representations:
        file = (representation.findtext("mpd:BaseURL", "", space) or "").strip()
        if not file or not int(representation.get("bandwidth") or 0):
            yield Finding("error", name, "mpd", f"representation {representation.get('id')} lacks BaseURL or bandwidth")
            continue
        try:
            size = place.size(urljoin(manifest, file))
        except SourceNotFound as error:
            yield Finding("error", name, "resolves", error.message)
            continue
        base = representation.find("mpd:SegmentBase", space)
        if base is not None:
            yield from _check_index_range(place, name, urljoin(manifest, file), base.get("indexRange") or "", size)


def _check_index_range(place: Place, where: str, file: str, span: str, size_bytes: int) -> Iterator[Finding]:
    first, _, last = span.partition("-")
    if not first.isdigit() or not last.isdigit() or int(last) >= size_bytes:
        yield Finding("error", where, "index-range", f"indexRange {span!r} of {file} is not in the file")
        return
    if place.read(file, int(first) + 8)[-4:] != b"sidx":
        yield Finding("error", where, "index-range", f"indexRange {span} of {file} does not begin at its index")
