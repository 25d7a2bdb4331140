"""Packaging with the real Shaka Packager, and the playlists that are written from measurements."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import hls, language
from headrace.check_stream import check
from headrace.errors import Undecodable
from headrace.identify import probe
from headrace.model import PackagedSet
from headrace.package import package, stamp_webvtt
from headrace.recipe import Recipe, VideoSettings, named
from headrace.transcode import encode
from tests.engine import films

FAST = Recipe(name="fast", video=VideoSettings(heights=(120, 180), preset="ultrafast"))


def packaged(source: Path, work: Path, recipe: Recipe = FAST) -> PackagedSet:
    """Encode and package a film into ``work/out``."""
    out = work / "out"
    out.mkdir(parents=True)
    return package(encode(source, probe(source), recipe, work, threads=2), recipe, out)


@pytest.fixture(scope="module")
def long_film(tmp_path_factory: pytest.TempPathFactory) -> PackagedSet:
    """A film of 21 s of 29.97 fps with sound, packaged."""
    folder = tmp_path_factory.mktemp("long")
    return packaged(films.film(folder / "a.mp4", seconds=21, rate="30000/1001"), folder / "work")


def test_a_set_has_one_file_a_rendition_and_passes_the_check(long_film: PackagedSet) -> None:
    """Media first, manifests last, only our own names, and no finding at all."""
    assert check(long_film.folder) == []
    assert (long_film.hls, long_film.dash) == ("master.m3u8", "manifest.mpd")
    assert long_film.files[-2:] == ("manifest.mpd", "master.m3u8")
    assert sorted(long_film.files) == sorted(path.name for path in long_film.folder.iterdir())
    assert all(re.fullmatch(r"[a-z0-9.-]+", name) for name in long_film.files)
    assert [name for name in long_film.files if name.endswith(".mp4")] == ["180p.mp4", "120p.mp4", "audio-1.mp4"]


def test_segments_are_six_seconds_of_whole_gops(long_film: PackagedSet) -> None:
    """At 29.97 fps each segment but the last is 6.006 s, each I frame 2.002 s from the next."""
    video = hls.parse_media((long_film.folder / "180p.m3u8").read_text())
    assert [s.seconds for s in video.segments[:-1]] == [Fraction("6.006")] * 3
    iframes = hls.parse_media((long_film.folder / "180p-iframes.m3u8").read_text())
    assert [s.seconds for s in iframes.segments[:-1]] == [Fraction("2.002")] * (len(iframes.segments) - 1)
    assert len(iframes.segments) == 11


def test_sound_and_picture_start_together(long_film: PackagedSet) -> None:
    """After priming both streams begin at zero."""
    assert films.packets(long_film.folder / "180p.mp4")[0][0] == 0
    assert films.packets(long_film.folder / "audio-1.mp4", "a:0")[0][0] == pytest.approx(-0.0213, abs=0.001)


def test_renditions_are_measured(long_film: PackagedSet) -> None:
    """Sizes, rates and codecs are those of the files."""
    first, *_, sound = long_film.renditions
    assert (first.name, first.width, first.height, first.kind) == ("180p", 320, 180, "video")
    assert first.codec.startswith("avc1.")
    assert (sound.codec, sound.channels) == ("mp4a.40.2", 2)
    assert first.size_bytes == (long_film.folder / first.file).stat().st_size
    assert long_film.duration_seconds == pytest.approx(21, abs=0.1)


def test_packaging_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    """No date and no version is in any file, nor the order in which the packager's tracks ran."""
    source = films.film(tmp_path / "a.mp4", seconds=2)
    tracks = encode(source, probe(source), FAST, tmp_path, threads=2)
    contents = set()
    for number in range(12):
        out = tmp_path / f"out-{number}"
        out.mkdir()
        made = package(tracks, FAST, out)
        contents.add(tuple((out / name).read_bytes() for name in sorted(made.files)))
    assert len(contents) == 1


def test_encoding_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    """What one worker made and another makes again is the same publication."""
    source = films.film(tmp_path / "a.mp4", seconds=2)
    one, two = packaged(source, tmp_path / "1"), packaged(source, tmp_path / "2")
    for name in one.files:
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes(), name


def test_several_sounds_are_told_apart(tmp_path: Path) -> None:
    """Each has its language in HLS, and its own adaptation set in DASH even with none."""
    source = tmp_path / "a.mp4"
    tags = ["-metadata:s:a:0", "language=eng", "-metadata:s:a:0", "handler_name=x"]
    sound = ["-f", "lavfi", "-i", "sine=duration=1"]
    films.run(*sound, "-map", "0", "-map", "0", "-map", "0", "-c:a", "aac", *tags, source)
    made = packaged(source, tmp_path / "work")
    master = (made.folder / made.hls).read_text()
    media = [entry.attributes for entry in hls.parse_multivariant(master) if entry.tag == "MEDIA"]
    assert [m["LANGUAGE"] for m in media] == ["en", "und", "und"]
    assert len({m["NAME"] for m in media}) == 3
    assert [m["DEFAULT"] for m in media].count("YES") == 1
    assert (made.folder / made.dash).read_text().count("<AdaptationSet ") == 3
    assert check(made.folder) == []


def test_a_hostile_title_and_language_stay_text(tmp_path: Path) -> None:
    """Quotes and line ends of a title can't write attributes; nonsense is no language."""
    source = films.film(tmp_path / "a.mkv", more="-metadata:s:a:0 language=x9,out=/etc")
    films.run(
        *("-i", source, "-c", "copy", "-map", "0", "-map", "0:a"),
        *("-metadata:s:a:0", 'title=a",URI="http://evil/\nx', tmp_path / "b.mkv"),
    )
    made = packaged(tmp_path / "b.mkv", tmp_path / "work")
    media = [e for e in hls.parse_multivariant((made.folder / made.hls).read_text()) if e.tag == "MEDIA"]
    assert [entry.uri for entry in media] == ["audio-1.m3u8", "audio-2.m3u8"]
    assert media[0].attributes["LANGUAGE"] == "und"
    assert check(made.folder) == []


def test_subtitles_are_in_both_manifests(tmp_path: Path) -> None:
    """A text track is a rendition, a playlist with its clock, and an adaptation set."""
    made = packaged(films.shared("sample_with_srt.mkv"), tmp_path / "work")
    assert [(r.kind, r.language, r.file) for r in made.renditions][-1] == ("text", "en", "text-1.vtt")
    assert (made.folder / "text-1.vtt").read_text().startswith("WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000\n")
    assert "text-1.vtt" in (made.folder / made.dash).read_text()
    assert check(made.folder) == []


def test_a_stamped_subtitle_keeps_its_cues() -> None:
    """The mapping goes into the header, the cues stay."""
    assert stamp_webvtt("\ufeffWEBVTT\r\n\nc") == "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000\n\nc"


@pytest.mark.parametrize(
    ("said", "meant"),
    [("eng", "en"), ("ger", "de"), ("deu", "de"), ("pt_BR", "pt-BR"), ("gsw", "gsw"), (None, "und"), ("x9,o=", "und")],
)
def test_languages_are_shortened(said: str | None, meant: str) -> None:
    """ISO 639-2 becomes RFC 5646, and nonsense ``und``."""
    assert language.shortest(said) == meant


lengths = st.lists(
    st.tuples(st.fractions(Fraction(1, 100), 7, max_denominator=1000), st.integers(0, 10**7)), min_size=1, max_size=12
)


@given(lengths)
def test_the_peak_is_at_least_the_average(spans: list[tuple[Fraction, int]]) -> None:
    """Where any stretch counts as a segment, the peak isn't below the average of a stretch of full length."""
    usual = [(Fraction(6), size) for _, size in spans]
    assert hls.peak_bitrate(usual, 6) == -int(-max(size * 8 / Fraction(6) for _, size in spans) // 1)
    assert hls.peak_bitrate(usual, 6) >= hls.average_bitrate(usual)


def test_a_tiny_last_segment_is_no_peak() -> None:
    """RFC 8216 measures stretches of half a target duration and more."""
    assert hls.peak_bitrate([(Fraction(6), 6000), (Fraction(1, 100), 4000)], 6) == 13312


@given(lengths)
def test_a_playlist_reads_back(spans: list[tuple[Fraction, int]]) -> None:
    """Writing and reading a playlist gives the same segments, to a microsecond."""
    segments, at = [], 900
    for seconds, size in spans:
        segments.append(hls.Segment(Fraction(round(seconds * 10**6), 10**6), "a.mp4", at, size))
        at += size
    init = hls.Segment(Fraction(0), "a.mp4", 0, 900)
    playlist = hls.MediaPlaylist(6, 7, tuple(segments), init=init, independent=True)
    assert hls.parse_media(hls.render_media(playlist)) == playlist


LIGHT = (
    *("bear-vp9-odd-dimensions.webm", "decord_video_90.mov", "mb_multiple-aac-tracks.mp4", "sample_ac3_aac.mp4"),
    *("sample_audio_only_15s.mp4", "tc_h265_10bits.mp4", "sample_with_vtt_subtitles.mkv", "mp_no_duration.webm"),
    *("sideways.mov", "sample_portrait.mp4", "hlg10-color-test.mp4", "mb_sar_2x1.mp4", "sk_scene_cuts.mp4"),
)
HEAVY = (
    *("8k24fps_300ms.mp4", "hdr10-av1.mp4", "intel_car.mp4", "mb_cursed-vfr.mp4", "mp_big_buck_bunny_0_30.webm"),
    *("mp_smpte-2997.mp4", "php_Audio.mp3", "sample_with_pgs_subtitles.mkv", "sample_with_srt.mkv"),
    "long_1080p_lowbitrate.mp4",
)


@pytest.mark.parametrize("name", [*LIGHT, *(pytest.param(name, marks=pytest.mark.long) for name in HEAVY)])
def test_every_good_shared_film_becomes_a_set_without_errors(tmp_path: Path, name: str) -> None:
    """Each real film and sound passes the check of its stream."""
    made = packaged(films.shared(name), tmp_path / "work", named("web"))
    assert [finding for finding in check(made.folder) if finding.severity == "error"] == []
    assert made.poster


@pytest.mark.parametrize("name", ["st_broken.mp4", "decord_corrupted.mp4", "sample_missing_stsd.mp4"])
def test_every_broken_shared_film_is_undecodable(tmp_path: Path, name: str) -> None:
    """Each ends with its reason, and leaves no stream."""
    with pytest.raises(Undecodable):
        packaged(films.shared(name), tmp_path / "work", named("web"))
    assert not list((tmp_path / "work" / "out").iterdir())
