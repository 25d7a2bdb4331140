"""What a file is: digests, and what ffprobe's answer means."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import zipfile
from fractions import Fraction
from pathlib import Path

import blake3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.digests import digest_file
from headrace.errors import Cancelled, NotMedia, Undecodable
from headrace.identify import parse_probe, probe, sane_frame_rate
from headrace.model import MediaKind
from tests.engine import films


def test_both_digests_come_from_one_pass(tmp_path: Path) -> None:
    """The digests are those of the libraries, and the size is the file's."""
    body = bytes(range(256)) * 40_000
    (tmp_path / "file").write_bytes(body)
    found = digest_file(tmp_path / "file")
    assert (found.blake3, found.sha256) == (blake3.blake3(body).hexdigest(), hashlib.sha256(body).hexdigest())
    assert found.size_bytes == len(body)


def test_hashing_stops_when_it_is_told(tmp_path: Path) -> None:
    """A set stop ends the hashing with ``Cancelled``."""
    (tmp_path / "file").write_bytes(b"x")
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        digest_file(tmp_path / "file", stop)


def test_a_film_is_described(tmp_path: Path) -> None:
    """Geometry, rate, codecs and duration are those the film was made with."""
    media = probe(films.film(tmp_path / "a.mp4", rate="30000/1001", more="-metadata:s:a:0 language=deu"))
    assert (media.kind, media.media_type) == (MediaKind.VIDEO, "video/mp4")
    assert media.video[0].display_size == (320, 180)
    assert media.video[0].frame_rate == Fraction(30000, 1001)
    assert (media.audio[0].codec, media.audio[0].language) == ("aac", "deu")
    assert media.duration_seconds == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("body", [b"", b"just text\n" * 400, b"%PDF-1.7\n" + bytes(4000), bytes(range(256)) * 64])
def test_what_is_not_media_is_refused(tmp_path: Path, body: bytes) -> None:
    """Empty files, text, PDF and noise are not media, whatever their name."""
    (tmp_path / "film.mp4").write_bytes(body)
    with pytest.raises(NotMedia):
        probe(tmp_path / "film.mp4")


def test_a_zip_and_a_picture_are_not_media(tmp_path: Path) -> None:
    """An archive and a still picture have nothing to play."""
    with zipfile.ZipFile(tmp_path / "a.mp4", "w") as archive:
        archive.writestr("inside.txt", "x" * 5000)
    films.run("-f", "lavfi", "-i", "testsrc2=size=64x64", "-frames:v", "1", tmp_path / "b.jpg")
    films.run("-f", "lavfi", "-i", "testsrc2=size=64x64", "-frames:v", "1", tmp_path / "b.png")
    for name in ("a.mp4", "b.jpg", "b.png"):
        with pytest.raises(NotMedia):
            probe(tmp_path / name)


@pytest.mark.parametrize("kind", ["concat", "hls"])
def test_a_playlist_named_mp4_opens_no_other_file(tmp_path: Path, kind: str) -> None:
    """A playlist in disguise is refused, and what it points at is never read."""
    secret = films.film(tmp_path / "secret.ts", more="-f mpegts")
    secret_pipe = tmp_path / "pipe.ts"
    os.mkfifo(secret_pipe)  # a reader of it would hang until the test's time is up
    body = {
        "concat": f"ffconcat version 1.0\nfile '{secret_pipe}'\nfile '{secret}'\n",
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n{secret_pipe}\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n",
    }[kind]
    (tmp_path / "film.mp4").write_text(body)
    with pytest.raises(NotMedia):
        probe(tmp_path / "film.mp4")


def test_a_cover_picture_is_not_video(tmp_path: Path) -> None:
    """A song with a cover is audio."""
    films.run("-f", "lavfi", "-i", "testsrc2=size=64x64", "-frames:v", "1", tmp_path / "cover.jpg")
    sound = ["-f", "lavfi", "-i", "sine=duration=1"]
    films.run(*sound, "-i", tmp_path / "cover.jpg", "-map", "0", "-map", "1", "-c:v", "copy", tmp_path / "song.mp3")
    media = probe(tmp_path / "song.mp3")
    assert (media.kind, media.video, len(media.audio)) == (MediaKind.AUDIO, (), 1)


def test_a_film_without_its_index_is_undecodable(tmp_path: Path) -> None:
    """An MP4 that lost its end, where the moov stood, is recognised and named broken."""
    whole = films.film(tmp_path / "a.mp4").read_bytes()
    (tmp_path / "b.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Undecodable, match="moov"):
        probe(tmp_path / "b.mp4")


def test_a_track_without_its_description_is_undecodable() -> None:
    """A sound track with neither codec nor tag was damaged; one with an unknown tag only is unknown."""
    stream = {"index": 1, "codec_type": "audio", "codec_tag": "0x0000"}
    film = {"index": 0, "codec_type": "video", "codec_name": "h264", "width": 2, "height": 2}
    answer = {"format": {"probe_score": 100, "format_name": "mov,mp4"}, "streams": [film, stream]}
    with pytest.raises(Undecodable, match="track 1"):
        parse_probe(json.dumps(answer), 1)
    stream["codec_tag"] = "0x1234"
    assert parse_probe(json.dumps(answer), 1).audio == ()


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_rotation_is_clockwise(tmp_path: Path, turn: int) -> None:
    """The display matrix becomes the degrees that a player turns the picture clockwise."""
    films.film(tmp_path / "a.mp4", audio=False)
    films.run("-display_rotation", str(-turn), "-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / "b.mp4")
    video = probe(tmp_path / "b.mp4").video[0]
    assert video.rotation == turn
    assert video.display_size == ((180, 320) if turn != 180 else (320, 180))


def test_absurd_rates_become_sane() -> None:
    """A time base is no rate: even gaps give the mean, uneven ones a standard rate."""
    millisecond = [round(n / 30, 3) for n in range(60)]
    assert sane_frame_rate(Fraction(1000), Fraction(60), millisecond) == 30
    recording = [0.0, 1.1, *(1.2 + n * 0.0334 for n in range(40)), 5.0, 8.0]
    assert sane_frame_rate(Fraction(7), Fraction(57600), recording) == Fraction(30000, 1001)
    assert sane_frame_rate(None, None) is None


@given(st.fractions(min_value=Fraction(1, 10), max_value=240, max_denominator=1001))
def test_a_sane_rate_is_kept_within_its_tolerance(rate: Fraction) -> None:
    """A constant rate stays itself, or becomes the standard one within 0.2 %; it is at least 5."""
    found = sane_frame_rate(rate, rate)
    assert found is not None
    assert found >= 5
    assert rate < 5 or abs(found - rate) <= rate * Fraction(21, 10_000)


@pytest.mark.parametrize(
    ("name", "said"),
    [("st_broken.mp4", "moov"), ("sample_missing_stsd.mp4", "description")],
)
def test_shared_broken_films_say_why(name: str, said: str) -> None:
    """The broken films of the shared folder end undecodable with their reason."""
    with pytest.raises(Undecodable, match=said):
        probe(films.shared(name))


@pytest.mark.parametrize(
    ("name", "size", "rate"),
    [
        ("mb_sar_2x1.mp4", (1280, 360), Fraction(30)),
        ("sideways.mov", (480, 640), Fraction(24)),
        ("decord_video_90.mov", (320, 568), Fraction(30)),
        ("mb_cursed-vfr.mp4", (3026, 1386), Fraction(30000, 1001)),
        ("sample_with_srt.mkv", (1080, 720), Fraction(30)),
        ("hdr10-av1.mp4", (720, 1280), Fraction(30000, 1001)),
        ("mp_no_duration.webm", (1280, 720), Fraction(15000, 1001)),
    ],
)
def test_shared_films_are_read_as_a_viewer_sees_them(name: str, size: tuple[int, int], rate: Fraction) -> None:
    """Aspect, rotation and rate of the awkward films are right, and each has a duration."""
    media = probe(films.shared(name))
    assert media.video[0].display_size == size
    assert media.video[0].frame_rate == rate
    assert media.duration_seconds
