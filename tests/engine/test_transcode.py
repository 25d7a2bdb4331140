"""Encodes with the real ffmpeg: alignment, colour, sync, damage, and what an exit status means."""

from __future__ import annotations

import json
import threading
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import Cancelled, DiskFull, HeadraceError, NotMedia, ToolFailed, ToolInterrupted, Undecodable
from headrace.identify import probe
from headrace.model import Encoded, Progress
from headrace.process import Finished
from headrace.recipe import Recipe, VideoSettings, named
from headrace.transcode import encode
from headrace.transcode.damage import count_damage
from headrace.transcode.encode import ProgressReader, failure
from headrace.transcode.pictures import plan_storyboard, storyboard_cues
from headrace.transcode.subtitles import parse_packets, render_webvtt, timestamp
from tests.engine import films

FAST = Recipe(name="fast", video=VideoSettings(heights=(120, 180), preset="ultrafast"))


def encoded(source: Path, work: Path, recipe: Recipe = FAST, **more: object) -> Encoded:
    """Probe and encode a film into ``work``."""
    work.mkdir(exist_ok=True)
    return encode(source, probe(source), recipe, work, threads=2, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", ["30000/1001", "25/2", "60000/1001"])
def test_key_frames_stand_at_the_same_frame_numbers_in_every_rung(tmp_path: Path, rate: str) -> None:
    """IDR frames come each GOP, by frame index, in all rungs, and nowhere else."""
    made = encoded(films.film(tmp_path / "a.mp4", seconds=5, rate=rate, audio=False), tmp_path / "work")
    gop = FAST.gop_frames(Fraction(rate))
    for track in made.tracks:
        found = films.packets(track.path)
        assert [n for n, (_, key) in enumerate(found) if key] == list(range(0, len(found), gop))
        assert found[0][0] == 0
        assert found[-1][0] == pytest.approx((len(found) - 1) / Fraction(rate), abs=1e-5)


def test_the_same_master_gives_the_same_bytes_in_a_dirty_folder(tmp_path: Path) -> None:
    """Encoding again over the first try's files changes not one byte."""
    source = films.film(tmp_path / "a.mp4", seconds=2)
    first = {p.name: p.read_bytes() for t in encoded(source, tmp_path / "work").tracks for p in [t.path]}
    again = encoded(source, tmp_path / "work")
    assert {t.path.name: t.path.read_bytes() for t in again.tracks} == first


def test_sound_that_starts_late_stays_in_place(tmp_path: Path) -> None:
    """A sound with an offset of half a second begins with that much silence."""
    films.film(tmp_path / "a.mp4", seconds=2)
    late = ["-i", tmp_path / "a.mp4", "-itsoffset", "0.5", "-i", tmp_path / "a.mp4"]
    films.run(*late, "-map", "0:v", "-map", "1:a", "-c", "copy", tmp_path / "b.mp4")
    made = encoded(tmp_path / "b.mp4", tmp_path / "work")
    log = films.run(
        *("-i", made.tracks[-1].path, "-af", "silencedetect=n=-50dB:d=0.1,ametadata=print:file=-", "-f", "null", "-")
    )
    ends = [float(line.split("=")[1]) for line in log.splitlines() if "silence_end" in line]
    assert ends[0] == pytest.approx(0.5, abs=0.05)


def test_turned_and_anamorphic_pictures_stand_upright_and_square(tmp_path: Path) -> None:
    """The rung of a turned film is portrait, and what was left is on top."""
    source = "color=red:size=160x180:rate=25:duration=1[l];color=blue:size=160x180:rate=25:duration=1[r];[l][r]hstack"
    films.run("-f", "lavfi", "-i", source, "-c:v", "libx264", "-pix_fmt", "yuv420p", tmp_path / "a.mp4")
    films.run("-display_rotation", "-90", "-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / "b.mp4")
    made = encoded(tmp_path / "b.mp4", tmp_path / "work")
    assert (made.tracks[0].width, made.tracks[0].height) == (180, 320)
    top, bottom = (films.mean_colour(made.tracks[0].path, f"crop=180:100:0:{y}") for y in (0, 220))
    assert top[0] > 200 > top[2]
    assert bottom[2] > 200 > bottom[0]
    assert made.poster is not None
    assert films.mean_colour(made.poster, "crop=iw:100:0:0")[0] > 200


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m"])
def test_colours_survive_the_change_of_matrix(tmp_path: Path, matrix: str) -> None:
    """Green stays the same green whether the source is BT.601 or BT.709."""
    wanted = f"scale=out_color_matrix={matrix},format=yuv420p,setparams=colorspace={matrix}"
    picture = ["-f", "lavfi", "-i", "color=0x20C040:size=320x180:duration=0.4"]
    films.run(*picture, "-vf", wanted, "-c:v", "libx264", tmp_path / "a.mp4")
    made = encoded(tmp_path / "a.mp4", tmp_path / "work")
    found = films.mean_colour(made.tracks[0].path, "scale=in_color_matrix=bt709")
    assert found == pytest.approx((0x20, 0xC0, 0x40), abs=6)


def test_interlaced_and_444_become_progressive_420(tmp_path: Path) -> None:
    """Fields are woven into whole frames at the film's rate, and chroma is 4:2:0 of 8 bit."""
    films.film(tmp_path / "a.mkv", audio=False, more="-flags +ildct+ilme -x264opts tff=1 -field_order tt")
    films.film(tmp_path / "b.mkv", audio=False, more="-pix_fmt yuv444p10le")
    for name in ("a.mkv", "b.mkv"):
        made = encoded(tmp_path / name, tmp_path / "work")
        video = probe(made.tracks[0].path).video[0]
        assert (video.pixel_format, video.bit_depth, video.is_interlaced) == ("yuv420p", 8, False)
        assert (video.color_space, video.color_transfer, video.color_primaries) == ("bt709", "bt709", "bt709")
        assert video.frame_rate == 25


def test_every_sound_is_kept_with_its_language(tmp_path: Path) -> None:
    """Two 5.1 tracks become two stereo renditions with their languages."""
    five = ["-f", "lavfi", "-i", "sine=duration=1,aformat=channel_layouts=5.1"]
    tags = ["-metadata:s:a:0", "language=deu", "-metadata:s:a:1", "language=fra"]
    films.run(*five, "-map", "0", "-map", "0", "-c:a", "aac", *tags, tmp_path / "a.mp4")
    made = encoded(tmp_path / "a.mp4", tmp_path / "work")
    assert [(t.name, t.language, t.channels) for t in made.tracks] == [("audio-1", "deu", 2), ("audio-2", "fra", 2)]
    assert made.poster is not None
    assert probe(made.tracks[0].path).audio[0].channels == 2


def test_the_audio_recipe_drops_the_picture(tmp_path: Path) -> None:
    """Of a film only the sound is made, and a silent film has nothing to make."""
    made = encoded(films.film(tmp_path / "a.mp4"), tmp_path / "work", named("audio"))
    assert [track.kind for track in made.tracks] == ["audio"]
    with pytest.raises(NotMedia, match="no sound"):
        encoded(films.film(tmp_path / "b.mp4", audio=False), tmp_path / "work", named("audio"))


def test_a_truncated_film_plays_with_a_warning(tmp_path: Path) -> None:
    """Half a film with its index in front is degraded, and says how much is there."""
    whole = films.film(tmp_path / "a.mp4", seconds=8, more="-movflags +faststart -g 25").read_bytes()
    (tmp_path / "b.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    made = encoded(tmp_path / "b.mp4", tmp_path / "work")
    assert any("of 8.0 s of the picture" in warning for warning in made.warnings)


def test_a_film_of_noise_is_undecodable(tmp_path: Path) -> None:
    """An index without any picture behind it ends undecodable, not with an empty stream."""
    whole = bytearray(films.film(tmp_path / "a.mp4", audio=False, more="-movflags +faststart").read_bytes())
    start = whole.index(b"mdat") + 4
    whole[start:] = b"\xff" * (len(whole) - start)
    (tmp_path / "b.mp4").write_bytes(whole)
    with pytest.raises((Undecodable, NotMedia)):
        encoded(tmp_path / "b.mp4", tmp_path / "work")


def test_the_corrupted_shared_film_is_undecodable(tmp_path: Path) -> None:
    """Forty percent of its frames are shown torn; the message has the numbers."""
    with pytest.raises(Undecodable, match="20 of 50 frames"):
        encoded(films.shared("decord_corrupted.mp4"), tmp_path / "work")


def test_damage_reaches_to_the_next_key_frame() -> None:
    """A lost packet spoils what builds on it, and a key frame ends that."""
    packets = [(n / 10, n % 10 == 0) for n in range(30)]
    lost = count_damage(packets, [time for time, _ in packets if time != 1.5])
    assert (lost.frames, lost.lost, lost.wrong) == (30, 1, 5)
    assert count_damage(packets, [time for time, _ in packets]).share == 0


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.data())
def test_damage_is_never_less_than_what_is_lost(keys: list[bool], data: st.DataObject) -> None:
    """The wrong frames include the lost ones, and are never more than all."""
    kept = data.draw(st.sets(st.integers(0, len(keys) - 1)))
    found = count_damage([(n / 25, key) for n, key in enumerate(keys)], [n / 25 for n in kept])
    assert found.lost == len(keys) - len(kept)
    assert found.lost <= found.wrong <= found.frames


def test_a_cancelled_encode_ends_at_once(tmp_path: Path) -> None:
    """A stop ends ffmpeg within a second or two."""
    source = films.film(tmp_path / "a.mp4", seconds=20, size="1280x720")
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        encoded(source, tmp_path / "work", named("web"), stop=stop)
    assert time.monotonic() - started < 5


def test_progress_counts_microseconds_and_notices_a_frozen_time() -> None:
    """``out_time_us`` moves the fraction; the same or no time is no progress."""
    seen: list[Progress] = []
    reader = ProgressReader(10.0, seen.append)
    assert not reader.take("out_time_us=N/A")
    assert reader.take("out_time_us=2500000")
    assert not reader.take("out_time_us=2500000")
    assert not reader.take("speed=2.5x")
    reader.take("progress=continue")
    assert seen[-1] == Progress(0.25, 2.5, 3.0)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (183, Undecodable),
        (234, Undecodable),
        (69, Undecodable),
        (187, ToolFailed),
        (8, ToolFailed),
        (228, DiskFull),
        (244, ToolInterrupted),
        (251, ToolInterrupted),
        (-9, ToolInterrupted),
        (-25, ToolFailed),
    ],
)
def test_exit_statuses_say_whether_a_retry_helps(code: int, kind: type[HeadraceError]) -> None:
    """Bad data is for good, a full disk is its own, memory, I/O and signals can be retried."""
    error = failure(Finished(("ffmpeg",), code, "", "[x @ 0x1] Error opening input\nConversion failed!", 1.0))
    assert type(error) is kind
    assert error.retryable == (kind is ToolInterrupted)


def test_a_full_disk_is_known_by_its_words() -> None:
    """The words of a full disk count more than the status beside them."""
    error = failure(Finished(("ffmpeg",), 1, "", "av_interleaved_write_frame(): No space left on device", 1.0))
    assert isinstance(error, DiskFull)


@given(st.floats(0.04, 40_000), st.integers(16, 4096), st.integers(16, 4096))
def test_a_storyboard_is_bounded_and_covers_the_film(seconds: float, width: int, height: int) -> None:
    """At most 100 tiles that fit 160 pixels, in a grid that holds them all, to the end of the film."""
    board = plan_storyboard(width, height, seconds, Fraction(2))
    assert 1 <= board.tiles <= min(100, board.columns * board.rows)
    assert max(board.tile_width, board.tile_height) <= 160
    assert board.tiles * board.interval_seconds >= seconds - 1e-3
    assert storyboard_cues(board, seconds, "s.jpg").count("-->") == board.tiles


def test_webvtt_is_written_as_players_read_it() -> None:
    """Timestamps have hours; a cue's arrow can't start another cue."""
    assert timestamp(3723.5) == "01:02:03.500"
    assert render_webvtt([(0, 1.5, "hi")]) == "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nhi\n"
    dump = '{"packets": [{"pts_time": "1.0", "duration_time": "2.0", "data": '
    dump += json.dumps(f"\n00000000: {'6120 2d2d 3e20 62':<40} a --> b\n") + "}]}"
    assert parse_packets(dump) == [(1.0, 3.0, "a --&gt; b")]


@pytest.mark.parametrize(
    "name", ["sample_with_srt.mkv", "sample_with_vtt_subtitles.mkv", "sample_with_pgs_subtitles.mkv"]
)
def test_text_subtitles_become_webvtt_and_bitmaps_are_reported(tmp_path: Path, name: str) -> None:
    """SubRip and Matroska's WebVTT are kept; PGS is a warning."""
    made = encoded(films.shared(name), tmp_path / "work")
    texts = [track.path.read_text() for track in made.tracks if track.kind == "text"]
    if "pgs" in name:
        assert not texts
        assert "pictures" in made.warnings[0]
    else:
        assert "first subtitle" in texts[0]


@pytest.mark.parametrize("name", ["hlg10-color-test.mp4"])
def test_hdr_becomes_sdr_with_its_colours(tmp_path: Path, name: str) -> None:
    """The white of the colour chart is light grey to white, not blown out or grey; tags are BT.709."""
    made = encoded(films.shared(name), tmp_path / "work", Recipe(video=VideoSettings(heights=(540,))))
    white = films.mean_colour(made.tracks[0].path, "crop=iw*0.06:ih*0.1:iw*0.15:ih*0.8")
    red = films.mean_colour(made.tracks[0].path, "crop=iw*0.06:ih*0.1:iw*0.4:ih*0.5")
    assert min(white) > 190
    assert max(white) - min(white) < 25
    assert red[0] > 150 > red[1] + 50
    assert probe(made.tracks[0].path).video[0].color_transfer == "bt709"


@pytest.mark.long
def test_8k_hevc_fits_its_memory_limit(tmp_path: Path) -> None:
    """Eight frames of 7680x4320 become the whole ladder."""
    made = encoded(films.shared("8k24fps_300ms.mp4"), tmp_path / "work", named("web"))
    assert [track.name for track in made.tracks] == ["1080p", "720p", "540p", "360p", "240p", "audio-1"]


def test_a_picture_that_ends_early_stays_until_the_sound_ends(tmp_path: Path) -> None:
    """A player whose pictures end before the sound would wait for ever: the last frame is held."""
    films.run(
        *("-f", "lavfi", "-i", "testsrc2=size=160x90:rate=25:duration=0.2"),
        *("-f", "lavfi", "-i", "sine=frequency=440:duration=2"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", tmp_path / "early.mkv"),
    )
    (tmp_path / "work").mkdir()
    source = tmp_path / "early.mkv"
    encoded = encode(source, probe(source), Recipe(video=VideoSettings(heights=(90,))), tmp_path / "work", threads=1)
    lengths = {track.kind: films.packets(track.path, track.kind[0] + ":0")[-1][0] for track in encoded.tracks}
    assert abs(lengths["video"] - lengths["audio"]) < 0.1, lengths
