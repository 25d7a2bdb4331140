"""Films that ffmpeg makes for tests, and the shared real ones."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from headrace import tools

ROOT = Path(__file__).resolve().parent.parent.parent
MEDIA = Path(os.environ.get("HEADRACE_TEST_MEDIA") or ROOT / ".." / "shared" / "media").resolve()


def shared(name: str) -> Path:
    """Return a real film, or skip the test where the folder is absent."""
    path = MEDIA / name
    if not path.is_file():
        pytest.skip(f"{path} is absent (HEADRACE_TEST_MEDIA)")
    return path


def run(*words: str | Path) -> str:
    """Run ffmpeg to its end and return its stdout."""
    argv = [str(tools.ffmpeg()), "-nostdin", "-v", "error", "-y", *(str(word) for word in words)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def film(
    path: Path, *, seconds: float = 1, size: str = "320x180", rate: str = "25", audio: bool = True, more: str = ""
) -> Path:
    """Make an H.264 and AAC test film; ``more`` are output options."""
    sound = ["-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=48000:duration={seconds}"] if audio else []
    picture = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}:duration={seconds}"]
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    run(*picture, *sound, *codecs, *more.split(), path)
    return path


def packets(path: Path, stream: str = "v:0") -> list[tuple[float, bool]]:
    """Return (time in seconds, key frame) of a stream's packets, in display order."""
    argv = [str(tools.ffprobe()), "-v", "error", "-select_streams", stream, "-of", "csv=p=0"]
    argv += ["-show_entries", "packet=pts_time,flags", str(path)]
    lines = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    return sorted((float(line.split(",")[0]), "K" in line.split(",")[1]) for line in lines)


def mean_colour(path: Path, filters: str = "null") -> tuple[int, int, int]:
    """Return the mean red, green and blue of the first picture of a file after ``filters``."""
    argv = [str(tools.ffmpeg()), "-nostdin", "-v", "error", "-i", str(path), "-vf", f"{filters},scale=1:1:flags=area"]
    argv += ["-frames:v", "1", "-pix_fmt", "rgb24", "-f", "rawvideo", "pipe:1"]
    red, green, blue = subprocess.run(argv, capture_output=True, timeout=60, check=True).stdout[:3]
    return red, green, blue
