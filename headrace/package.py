"""Package encoded tracks: CMAF in one file per rendition, an HLS set and a DASH manifest that share them.

Shaka Packager writes the media, the key frames' positions and the MPD; the playlists are then
written here from what the files' own indexes say, so every number in them was measured.

1. One MP4 per rendition; segments are byte ranges (HLS) or its ``sidx`` (DASH on-demand profile).
2. BANDWIDTH is the measured peak over the combinations that a player can choose, as RFC 8216
   defines it, and AVERAGE-BANDWIDTH their average (Apple's HLS Authoring Specification, FIELD.md).
3. File names are ours, ``[a-z0-9.-]``; outside text (titles) stands in quoted attributes only.
4. The same tracks give the same bytes: no dates, no versions.
"""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from headrace import hls, process, tools
from headrace.errors import DiskFull, ToolFailed, ToolInterrupted
from headrace.language import shortest
from headrace.model import Encoded, EncodedTrack, PackagedSet, Rendition
from headrace.process import Limits, Stop
from headrace.recipe import Recipe

MASTER = "master.m3u8"
MANIFEST = "manifest.mpd"

TIMEOUT_SECONDS = 3600.0
"""Packaging copies bytes: 10 hours of six rungs take minutes."""
LIMITS = Limits(memory_bytes=8 * 1024**3, file_bytes=64 * 1024**3)

MAX_HEAD_BYTES = 4 * 1024 * 1024
"""ftyp, moov and sidx: a day of 6 s segments has an index of 0.2 MB."""

START_BANDWIDTH = 2_500_000
"""The first variant is the best one below this: players begin with the first, and a home line carries it."""

DURATION_SLACK_SECONDS = Fraction(1, 10)
"""Between an encoded track and its packaged file: priming and one frame."""

_TIMESTAMP_MAP = "X-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000"
"""The media's first tick is 0, so is the subtitles' clock (RFC 8216, 3.5)."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A packaged track with what its file's index says."""

    track: EncodedTrack
    file: str
    size_bytes: int
    codec: str
    index: hls.Index
    iframes: hls.MediaPlaylist | None

    @property
    def spans(self) -> list[tuple[Fraction, int]]:
        """(seconds, size in bytes) of each segment."""
        return [(seconds, size) for seconds, _, size in self.index.segments]


def package(encoded: Encoded, recipe: Recipe, folder: Path, *, stop: Stop | None = None) -> PackagedSet:
    """Write a folder that plays from encoded tracks; ``folder`` exists and is this set's alone.

    Raises ``ToolFailed``, ``DiskFull``, ``ToolInterrupted`` and ``ToolStalled`` (the last two
    can be retried) and ``Cancelled``.
    """
    tracks = [track for track in encoded.tracks if track.kind in {"video", "audio"}]
    texts = [track for track in encoded.tracks if track.kind == "text"]
    with tempfile.TemporaryDirectory(prefix=".packaging-", dir=folder) as scratch:
        _run_packager(tracks, recipe, Path(scratch), stop)
        manifest = (Path(scratch) / MANIFEST).read_text(encoding="utf-8")
        measured = [_measure(track, folder, Path(scratch), manifest) for track in tracks]
    target = target_seconds([seconds for m in measured for seconds, _ in m.spans])
    lists = {f"{m.track.name}.m3u8": hls.render_media(media_playlist(m, target)) for m in measured}
    lists |= {f"{m.track.name}-iframes.m3u8": hls.render_media(m.iframes) for m in measured if m.iframes is not None}
    for text in texts:
        (folder / f"{text.name}.vtt").write_text(stamp_webvtt(text.path.read_text("utf-8")), encoding="utf-8")
        lists[f"{text.name}.m3u8"] = hls.render_media(text_playlist(text.name, encoded.duration_seconds))
    for name, body in lists.items():
        (folder / name).write_text(body, encoding="utf-8")
    pictures = _copy_pictures(encoded, folder)
    (folder / MANIFEST).write_text(finish_mpd(manifest, measured, texts, target), encoding="utf-8")
    (folder / MASTER).write_text(hls.render_multivariant(multivariant(measured, texts, target)), encoding="utf-8")
    files = [m.file for m in measured] + [f"{text.name}.vtt" for text in texts] + pictures
    return PackagedSet(
        folder=folder,
        renditions=(*(_rendition(m) for m in measured), *(_text_rendition(text, folder) for text in texts)),
        hls=MASTER,
        dash=MANIFEST,
        files=(*files, *lists, MANIFEST, MASTER),
        duration_seconds=float(max(m.index.seconds for m in measured)),
        poster=encoded.poster.name if encoded.poster else None,
        storyboard=encoded.storyboard[1].name if encoded.storyboard else None,
        warnings=encoded.warnings,
    )


def packager_argv(tracks: Sequence[EncodedTrack], recipe: Recipe, *, languages: bool = True) -> list[str]:
    """Return Shaka Packager's argv for inputs ``in-NAME.mp4`` beside the outputs; pure.

    Without ``languages`` the tracks stay unmarked: the packager refuses ``und`` and two-letter
    codes that don't exist.
    """
    rate = next((track.frame_rate for track in tracks if track.frame_rate), None)
    segment = recipe.segment_length(rate) if rate else Fraction(recipe.segment_seconds)
    gop = recipe.gop_frames(rate) / rate if rate else segment
    argv = [str(tools.packager())]
    for track in tracks:
        words = [f"in=in-{track.name}.mp4", f"stream={track.kind}", f"output={track.name}.mp4"]
        words.append(f"playlist_name={track.name}.m3u8")
        if languages and shortest(track.language) != "und":
            words.append(f"lang={shortest(track.language)}")
        if track.kind == "video":
            words.append(f"iframe_playlist_name={track.name}-iframes.m3u8")
        argv.append(",".join(words))
    return [
        *argv,
        # Whole GOPs of this rate, rounded down to a microsecond: a segment then begins at its key
        # frame, and 6.006 s never slips against a grid of 6 s.
        f"--segment_duration={math.floor(segment * 10**6) / 10**6:.6f}",
        # A fragment for each GOP, so that the I-frame playlist lists every key frame, not one in three.
        f"--fragment_duration={math.floor(gop * 10**6) / 10**6:.6f}",
        f"--hls_master_playlist_output={MASTER}",
        "--hls_playlist_type=VOD",
        f"--mpd_output={MANIFEST}",
        "--temp_dir=.",  # its whole-file buffer, beside the output instead of in /tmp
        "--single_threaded",  # else the race of the tracks numbers the MPD's adaptation sets; as fast
        "--use_fake_clock_for_muxer",  # creation times of 0: the same bytes each time
        "--test_packager_version=headrace",  # the same bytes from a rebuilt packager of the same code
        "--quiet",
    ]


def target_seconds(lengths: Sequence[Fraction]) -> int:
    """Return EXT-X-TARGETDURATION for audio and video alike: the longest segment, rounded (RFC 8216, 4.3.3.1)."""
    return max(1, *(math.floor(length + Fraction(1, 2)) for length in lengths))


def media_playlist(measured: Measured, target: int) -> hls.MediaPlaylist:
    """Return a rendition's playlist from its file's index; pure."""
    return hls.MediaPlaylist(
        hls.VERSION,
        target,
        tuple(hls.Segment(seconds, measured.file, at, size) for seconds, at, size in measured.index.segments),
        init=hls.Segment(Fraction(0), measured.file, 0, measured.index.init_bytes),
        independent=True,
    )


def text_playlist(name: str, duration_seconds: float) -> hls.MediaPlaylist:
    """Return the playlist of a subtitle: its one file, as long as the film; pure."""
    seconds = max(Fraction(duration_seconds).limit_denominator(10**6), Fraction(1, 1000))
    return hls.MediaPlaylist(
        hls.VERSION, target_seconds([seconds]), (hls.Segment(seconds, f"{name}.vtt"),), independent=True
    )


def stamp_webvtt(text: str) -> str:
    """Return WebVTT with the clock mapping that HLS players want in its header; pure."""
    first, _, rest = text.lstrip("\ufeff").partition("\n")
    return f"{first.rstrip()}\n{_TIMESTAMP_MAP}\n{rest}"


def multivariant(measured: Sequence[Measured], texts: Sequence[EncodedTrack], target: int) -> list[hls.Entry]:
    """Return the multivariant playlist: sounds, subtitles, variants, I-frame variants; pure."""
    videos = [m for m in measured if m.track.kind == "video"]
    sounds = [m for m in measured if m.track.kind == "audio"]
    groups = {"AUDIO": "audio"} if sounds and (videos or len(sounds) > 1) else {}
    groups |= {"SUBTITLES": "text"} if texts else {}
    entries = _media_entries(sounds if groups.get("AUDIO") else [], texts)
    beside = sounds if videos else sounds[1:]
    variants = [_variant(m, beside, groups, target, alone=not videos) for m in videos or sounds[:1]]
    first = next((v for v in variants if int(v.attributes["BANDWIDTH"]) <= START_BANDWIDTH), variants[-1])
    entries += [first, *(variant for variant in variants if variant is not first)]
    entries += [_iframe_variant(m) for m in videos if m.iframes is not None]
    return entries


def _media_entries(sounds: Sequence[Measured], texts: Sequence[EncodedTrack]) -> list[hls.Entry]:
    default = next((m for m in sounds if m.track.default), sounds[0] if sounds else None)
    names: set[str] = set()
    entries = []
    for m in sounds:
        given = {"TYPE": "AUDIO", "GROUP-ID": "audio", "LANGUAGE": shortest(m.track.language)}
        given["NAME"] = _label(m.track, shortest(m.track.language), names)
        given |= {"DEFAULT": "YES" if m is default else "NO", "AUTOSELECT": "YES"}
        entries.append(hls.Entry("MEDIA", given | {"CHANNELS": str(m.track.channels or 2)}, f"{m.track.name}.m3u8"))
    names.clear()
    for text in texts:
        given = {"TYPE": "SUBTITLES", "GROUP-ID": "text", "LANGUAGE": shortest(text.language)}
        given["NAME"] = _label(text, shortest(text.language), names)
        entries.append(
            hls.Entry("MEDIA", given | {"DEFAULT": "NO", "AUTOSELECT": "YES", "FORCED": "NO"}, f"{text.name}.m3u8")
        )
    return entries


def _label(track: EncodedTrack, language: str, taken: set[str]) -> str:
    """A NAME that is unique in its group: the track's title, else its language, else its name."""
    number = track.name.replace("-", " ").capitalize()
    wanted = (track.title or "").strip()[:80] or (language if language != "und" else number)
    label = wanted if wanted not in taken else f"{wanted} ({number})"
    taken.add(label)
    return label


def _variant(m: Measured, sounds: Sequence[Measured], groups: dict[str, str], target: int, *, alone: bool) -> hls.Entry:
    peak = max((hls.peak_bitrate(sound.spans, target) for sound in sounds), default=0)
    average = max((hls.average_bitrate(sound.spans) for sound in sounds), default=0)
    own = hls.peak_bitrate(m.spans, target), hls.average_bitrate(m.spans)
    # A sound by itself is one of its group's: the listener hears the largest of them, not two.
    both = (max(own[0], peak), max(own[1], average)) if alone else (own[0] + peak, own[1] + average)
    codecs = list(dict.fromkeys([m.codec, *(sound.codec for sound in sounds)]))
    given = {"BANDWIDTH": str(both[0]), "AVERAGE-BANDWIDTH": str(both[1]), "CODECS": ",".join(codecs)}
    if m.track.frame_rate is not None:
        given |= {"RESOLUTION": f"{m.track.width}x{m.track.height}", "FRAME-RATE": f"{float(m.track.frame_rate):.3f}"}
        given["VIDEO-RANGE"] = "SDR"
    return hls.Entry("STREAM-INF", given | groups | {"CLOSED-CAPTIONS": "NONE"}, f"{m.track.name}.m3u8")


def _iframe_variant(m: Measured) -> hls.Entry:
    assert m.iframes is not None  # noqa: S101 - the caller asked
    spans = [(segment.seconds, segment.size_bytes or 0) for segment in m.iframes.segments]
    peak = hls.peak_bitrate(spans, m.iframes.target_seconds)
    given = {"BANDWIDTH": str(peak), "AVERAGE-BANDWIDTH": str(hls.average_bitrate(spans)), "CODECS": m.codec}
    given |= {"RESOLUTION": f"{m.track.width}x{m.track.height}", "VIDEO-RANGE": "SDR"}
    return hls.Entry("I-FRAME-STREAM-INF", given, f"{m.track.name}-iframes.m3u8")


def finish_mpd(text: str, measured: Sequence[Measured], texts: Sequence[EncodedTrack], target: int) -> str:
    """Return Shaka Packager's MPD without its version, with measured peaks and the subtitles; pure.

    ``@bandwidth`` must hold a client's buffer (ISO/IEC 23009-1, 5.3.5.2); the packager's value is
    the average, which a peak segment exceeds.
    """
    text = _one_set_a_sound(re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL), measured)
    longest = max(m.index.seconds for m in measured)
    # The packager takes the picture's duration, which cuts a sound that is longer.
    text = re.sub(r'(mediaPresentationDuration=")[^"]*', rf"\g<1>PT{float(longest):.3f}S", text)
    text = re.sub(r'(frameRate=")(\d+)/(\d+)', lambda f: f[1] + str(Fraction(int(f[2]), int(f[3]))), text)
    for m in measured:
        pattern = rf'(bandwidth=")\d+("(?:(?!</Representation>).)*?<BaseURL>{re.escape(m.file)}</BaseURL>)'
        text = re.sub(pattern, rf"\g<1>{hls.peak_bitrate(m.spans, target)}\g<2>", text, count=1, flags=re.DOTALL)
    sets = "".join(
        f'    <AdaptationSet id="{100 + number}" contentType="text" lang={quoteattr(shortest(track.language))}>\n'
        '      <Role schemeIdUri="urn:mpeg:dash:role:2011" value="subtitle"/>\n'
        f'      <Representation id="{track.name}" bandwidth="1000" mimeType="text/vtt">\n'
        f"        <BaseURL>{track.name}.vtt</BaseURL>\n      </Representation>\n    </AdaptationSet>\n"
        for number, track in enumerate(texts)
    )
    return text.replace("  </Period>", f"{sets}  </Period>", 1)


def _one_set_a_sound(text: str, measured: Sequence[Measured]) -> str:
    """Give each sound an adaptation set of its own.

    The packager puts sounds of the same language into one, as if they were bit rates of the
    same sound, and a player then switches between them.
    """
    languages = {m.file: shortest(m.track.language) for m in measured if m.track.kind == "audio"}
    numbers = iter(range(10, 10 + len(languages)))

    def split(found: re.Match[str]) -> str:
        sets = []
        for representation in re.findall(r" *<Representation.*?</Representation>\n", found[1], re.DOTALL):
            file = re.search(r"<BaseURL>(.*?)</BaseURL>", representation)
            language = quoteattr(languages.get(file[1] if file else "", "und"))
            sets.append(
                f'    <AdaptationSet id="{next(numbers)}" contentType="audio" lang={language} '
                f'subsegmentStartsWithSAP="1" subsegmentAlignment="true">\n{representation}    </AdaptationSet>\n'
            )
        return "".join(sets)

    pattern = r' *<AdaptationSet [^>]*contentType="audio"[^>]*>\n(.*?) *</AdaptationSet>\n'
    return re.sub(pattern, split, text, flags=re.DOTALL)


def _run_packager(tracks: Sequence[EncodedTrack], recipe: Recipe, scratch: Path, stop: Stop | None) -> None:
    for track in tracks:
        # A descriptor is split at commas and equals signs, so the inputs get names of our own.
        (scratch / f"in-{track.name}.mp4").symlink_to(track.path.absolute())
    argv = packager_argv(tracks, recipe)
    finished = process.run(argv, cwd=scratch, limits=LIMITS, stop=stop, timeout_seconds=TIMEOUT_SECONDS)
    if finished.returncode == 1 and "invalid language" in finished.stderr:
        argv = packager_argv(tracks, recipe, languages=False)
        finished = process.run(argv, cwd=scratch, limits=LIMITS, stop=stop, timeout_seconds=TIMEOUT_SECONDS)
    if finished.returncode == 0:
        return
    last = finished.stderr.strip().splitlines()[-1:] or ["no reason given"]
    evidence: dict[str, Any] = {"argv": argv, "stderr": finished.stderr, "returncode": finished.returncode}
    if "No space left" in finished.stderr:
        raise DiskFull("no space is left for the packaged streams", **evidence)
    if finished.returncode < 0:
        raise ToolInterrupted(f"the packager was ended by signal {-finished.returncode}", **evidence)
    raise ToolFailed(f"the packager ended with {finished.returncode}: {last[0]}", **evidence)


def _measure(track: EncodedTrack, folder: Path, scratch: Path, manifest: str) -> Measured:
    """Read a packaged file back; raises ``ToolFailed`` where it isn't what its playlists must promise."""
    path = (scratch / f"{track.name}.mp4").replace(folder / f"{track.name}.mp4")
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        try:
            index = hls.read_index(file.read(MAX_HEAD_BYTES))
        except hls.NotAPlaylist as error:
            raise ToolFailed(f"{path.name} can't be played: {error}") from error
    _, at, size = index.segments[-1]
    if at + size != size_bytes:
        raise ToolFailed(f"the index of {path.name} does not cover the file", size_bytes=size_bytes, indexed=at + size)
    iframes = None
    if track.kind == "video":
        found = hls.parse_media((scratch / f"{track.name}-iframes.m3u8").read_text("utf-8"))
        iframes = _iframe_playlist(found, path.name, index)
    return Measured(track, path.name, size_bytes, _codec(manifest, path.name), index, iframes)


def _codec(manifest: str, file: str) -> str:
    """The RFC 6381 codec that the packager's MPD gives a file."""
    for representation in re.findall(r"<Representation.*?</Representation>", manifest, re.DOTALL):
        if f"<BaseURL>{file}</BaseURL>" in representation and (found := re.search(r'codecs="([^"]+)"', representation)):
            return str(found[1])
    raise ToolFailed(f"the packager's manifest does not name the codec of {file}")


def _iframe_playlist(found: hls.MediaPlaylist, file: str, index: hls.Index) -> hls.MediaPlaylist:
    """The packager's key frames with exact durations: rounded milliseconds would drift (0.3 s an hour)."""
    starts = [segment.offset or 0 for segment in found.segments]
    exact: list[Fraction] = []
    for seconds, at, size in index.segments:
        inside = [s.seconds for s, offset in zip(found.segments, starts, strict=True) if at <= offset < at + size]
        exact += [seconds * length / sum(inside) for length in inside] if sum(inside) else inside
    # To the microsecond that EXTINF will show: the peak must hold for what a player reads.
    segments = tuple(
        hls.Segment(Fraction(round(seconds * 10**6), 10**6), file, s.offset, s.size_bytes)
        for seconds, s in zip(exact, found.segments, strict=True)
    )
    init = hls.Segment(Fraction(0), file, 0, index.init_bytes)
    target = target_seconds([segment.seconds for segment in segments])
    return hls.MediaPlaylist(hls.VERSION, target, segments, init=init, iframes_only=True)


def _copy_pictures(encoded: Encoded, folder: Path) -> list[str]:
    names = []
    for path in (encoded.poster, *encoded.storyboard):
        if path is not None:
            shutil.copyfile(path, folder / path.name)
            names.append(path.name)
    return names


def _rendition(m: Measured) -> Rendition:
    track = m.track
    return Rendition(
        name=track.name,
        kind=track.kind,
        file=m.file,
        codec=m.codec,
        bitrate=hls.average_bitrate(m.spans),
        size_bytes=m.size_bytes,
        width=track.width,
        height=track.height,
        frame_rate=float(track.frame_rate) if track.frame_rate else None,
        language=None if shortest(m.track.language) == "und" else shortest(m.track.language),
        channels=track.channels,
    )


def _text_rendition(track: EncodedTrack, folder: Path) -> Rendition:
    name = f"{track.name}.vtt"
    language = shortest(track.language)
    size_bytes = (folder / name).stat().st_size
    return Rendition(track.name, "text", name, "wvtt", 0, size_bytes, language=None if language == "und" else language)
