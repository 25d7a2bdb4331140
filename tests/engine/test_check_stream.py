"""The checker finds what is wrong, and the command line says so."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.check_stream import check
from headrace.errors import NotFound
from headrace.identify import probe
from headrace.package import package
from headrace.recipe import Recipe, VideoSettings
from headrace.transcode import encode
from tests.engine import films

RECIPE = Recipe(name="fast", video=VideoSettings(heights=(120, 180), preset="ultrafast"))


@pytest.fixture(scope="module")
def sound_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packaged film of 13 s that nothing is wrong with."""
    folder = tmp_path_factory.mktemp("set")
    source = films.film(folder / "a.mp4", seconds=13)
    (folder / "out").mkdir()
    package(encode(source, probe(source), RECIPE, folder, threads=2), RECIPE, folder / "out")
    return folder / "out"


@pytest.fixture
def folder(sound_set: Path, tmp_path: Path) -> Path:
    """A copy of the set to break."""
    return Path(shutil.copytree(sound_set, tmp_path / "set"))


def test_nothing_is_wrong_with_a_good_set(sound_set: Path) -> None:
    """A packaged film has no finding."""
    assert check(sound_set) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "rule"),
    [
        ("master.m3u8", "#EXT-X-INDEPENDENT-SEGMENTS\n", "", "independent-segments"),
        ("master.m3u8", "BANDWIDTH=", "BANDWIDTH=1", "bandwidth"),
        ("master.m3u8", ",RESOLUTION=320x180", "", "resolution"),
        ("master.m3u8", ",FRAME-RATE=25.000", "", "frame-rate"),
        ("master.m3u8", 'CODECS="', 'CODECS="x', "codecs"),
        ("master.m3u8", '"audio-1.m3u8"', '"audio-2.m3u8"', "resolves"),
        ("180p.m3u8", "#EXT-X-PLAYLIST-TYPE:VOD\n", "", "playlist-type"),
        ("180p.m3u8", "#EXT-X-ENDLIST", "", "endlist"),
        ("180p.m3u8", "#EXT-X-VERSION:6", "#EXT-X-VERSION:3", "version"),
        ("180p.m3u8", "180p.mp4\n#EXT-X-ENDLIST", "none.mp4\n#EXT-X-ENDLIST", "resolves"),
        ("180p.m3u8", "#EXTINF:6.000000", "#EXTINF:6.400000", "segment-duration"),
        ("180p.m3u8", "#EXT-X-TARGETDURATION:6", "#EXT-X-TARGETDURATION:4", "target-duration"),
        ("180p.m3u8", "#EXT-X-BYTERANGE:", "#EXT-X-BYTERANGE:9", "byte-range"),
        ("manifest.mpd", "180p.mp4", "none.mp4", "resolves"),
        ("manifest.mpd", 'indexRange="', 'indexRange="1', "index-range"),
        ("manifest.mpd", "</MPD>", "", "xml"),
    ],
)
def test_each_fault_is_found(folder: Path, file: str, old: str, new: str, rule: str) -> None:
    """A set with one fault gets an error by its rule."""
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    assert rule in {finding.rule for finding in check(folder) if finding.severity == "error"}


def test_understated_bandwidth_is_found(folder: Path) -> None:
    """A BANDWIDTH below the measured peak, as ffmpeg's own manifests have it, is an error."""
    master = folder / "master.m3u8"
    lines = [line.replace(":BANDWIDTH=", ":BANDWIDTH=1,X=") for line in master.read_text().splitlines()]
    master.write_text("\n".join(lines))
    assert any("below the measured peak" in finding.message for finding in check(folder))


def test_a_missing_or_cut_file_is_found(folder: Path) -> None:
    """A media file that is gone or too short fails both HLS and DASH."""
    (folder / "120p.mp4").unlink()
    body = (folder / "180p.mp4").read_bytes()
    (folder / "180p.mp4").write_bytes(body[: len(body) // 2])
    found = {(finding.where, finding.rule) for finding in check(folder)}
    assert {("120p.m3u8", "resolves"), ("180p.m3u8", "byte-range"), ("manifest.mpd", "resolves")} <= found


def test_a_manifest_can_not_read_outside_its_folder(folder: Path) -> None:
    """A URI with ``..`` does not resolve, even where the file exists."""
    shutil.copy(folder / "180p.m3u8", folder.parent / "outside.m3u8")
    text = (folder / "master.m3u8").read_text()
    (folder / "master.m3u8").write_text(text.replace("\n180p.m3u8", "\n../outside.m3u8"))
    assert any(finding.rule == "resolves" for finding in check(folder))


def test_where_there_is_no_stream_it_says_so(tmp_path: Path) -> None:
    """An empty folder, or none, is not found."""
    with pytest.raises(NotFound):
        check(tmp_path)
    with pytest.raises(NotFound):
        check(tmp_path / "nowhere")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def served(sound_set: Path) -> Iterator[str]:
    """The set behind HTTP."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(sound_set)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_stream_behind_http_is_checked(served: str) -> None:
    """By its playlist or its folder; a wrong address is not found."""
    assert check(f"{served}/master.m3u8") == []
    assert check(f"{served}/") == []
    with pytest.raises(NotFound):
        check(f"{served}/none/")


def cli(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    argv = [sys.executable, "-m", "headrace.cli", *(str(word) for word in words)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_transcode_writes_a_folder_that_check_stream_accepts(tmp_path: Path) -> None:
    """The command's files are those of the contract, and its report says how they were made."""
    films.film(tmp_path / "a.mp4")
    done = cli("transcode", tmp_path / "a.mp4", "-o", tmp_path / "out", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report == json.loads(done.stdout)
    assert {"master.m3u8", "manifest.mpd", "poster.jpg", "storyboard.jpg", "storyboard.vtt"} <= set(report["files"])
    assert set(report["tools"]) == {"ffmpeg", "ffprobe", "packager"}
    assert sorted([*report["files"], "report.json"]) == sorted(p.name for p in (tmp_path / "out").iterdir())
    checked = cli("check-stream", tmp_path / "out", "--json")
    assert (checked.returncode, json.loads(checked.stdout)["ok"]) == (0, True)
    (tmp_path / "out" / "180p.mp4").unlink()
    assert cli("check-stream", tmp_path / "out").returncode == 1


def test_transcode_fails_with_one_clear_line(tmp_path: Path) -> None:
    """Text is not media: exit 1; no file, or a recipe that makes nothing, is a usage error: exit 2."""
    (tmp_path / "a.txt").write_text("text\n" * 100)
    failed = cli("transcode", tmp_path / "a.txt", "-o", tmp_path / "out")
    assert failed.returncode == 1
    assert failed.stderr.startswith("headrace: ")
    assert cli("transcode", tmp_path / "none", "-o", tmp_path / "out").returncode == 2
    assert cli("transcode", tmp_path / "a.txt", "-o", tmp_path / "out", "--recipe", "archive").returncode == 2
