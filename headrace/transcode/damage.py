"""How much of a film that decodes with errors is shown wrong.

A decoder conceals what it can't decode and goes on, so neither its exit status nor the
number of frames tells. What tells: a packet that can't be decoded, and every packet after
it until the next key frame, because those build on the lost one. This costs a second
decode, so it is asked only after the encode has met errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace import process, tools
from headrace.errors import ToolStalled
from headrace.process import Limits, Stop

MAX_DAMAGED_SHARE = 0.25
"""Above this a film is *undecodable*, below it is *degraded*: it plays, with a warning.

A stream is worth publishing while a viewer can follow it. One damaged GOP in a film of
ordinary structure (a key frame at least every 10 s) is a few seconds of a film; a quarter of
all frames shown wrong is a broken film. ``decord_corrupted.mp4`` has one key frame in 5 s and
loses frame 30 of 50: all 20 from there on (40 %) show torn pictures, which one sees.
"""

SAME_FRAME_SECONDS = 0.0015
"""Two tools write the same time with rounding; frames are at least 4 ms apart."""

ERRORS = re.compile(r"\[dec:|concealing|corrupt|error while decoding|invalid nal", re.IGNORECASE)
"""What ffmpeg's decoders say on stderr about data that they can't use."""

SLOWNESS = 4.0
"""One decoding thread is at worst so much slower than the film lasts, or it is stuck."""
MIN_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Damage:
    """Of ``frames`` packets in a film, ``lost`` can't be decoded and ``wrong`` (with those) are not shown right."""

    frames: int
    lost: int
    wrong: int

    @property
    def share(self) -> float:
        """The share of frames that are not shown right, 0 to 1."""
        return self.wrong / self.frames if self.frames else 0.0


def mentions_errors(stderr: str) -> bool:
    """Whether ffmpeg's stderr speaks of data that could not be decoded; pure."""
    return any(ERRORS.search(line) for line in stderr.splitlines())


def count_damage(packets: Sequence[tuple[float, bool]], decoded: Iterable[float]) -> Damage:
    """Count the frames that are lost or follow a lost one up to the next key frame; pure.

    ``packets`` are (time in seconds, key frame) in display order, ``decoded`` the times of the
    frames that a strict decoder gave.
    """
    times = sorted(decoded)
    at = lost = wrong = 0
    broken = False
    for time, key in sorted(packets):
        while at < len(times) and times[at] < time - SAME_FRAME_SECONDS:
            at += 1
        missing = at >= len(times) or abs(times[at] - time) > SAME_FRAME_SECONDS
        broken = missing or (broken and not key)
        lost += missing
        wrong += broken
    return Damage(len(packets), lost, wrong)


def measure_damage(
    source: Path, stream: int, duration_seconds: float | None, *, limits: Limits, stop: Stop | None
) -> Damage | None:
    """Decode a picture stream strictly and say what of it is shown right; ``None`` where that can't be told."""
    timeout = max(MIN_TIMEOUT_SECONDS, SLOWNESS * (duration_seconds or 0.0))
    packets: list[tuple[float, bool]] = []
    decoded: list[float] = []
    base = [0.0]

    def take_packet(line: str) -> bool:
        time, _, flags = line.partition(",")
        if _is_time(time):
            packets.append((float(time), flags.startswith("K")))
        return True

    def take_frame(line: str) -> bool:
        if line.startswith("#tb 0:"):
            above, _, below = line.removeprefix("#tb 0:").strip().partition("/")
            base[0] = int(above) / int(below)
        elif not line.startswith("#"):
            decoded.append(int(line.split(",")[2]) * base[0])
        return True

    try:
        for argv, take in ((_packets_argv(source, stream), take_packet), (_strict_argv(source, stream), take_frame)):
            process.run(argv, limits=limits, stop=stop, timeout_seconds=timeout, on_line=take)
    except ToolStalled:
        return None
    return count_damage(packets, decoded) if packets else None


def _is_time(text: str) -> bool:
    return text.lstrip("-").replace(".", "", 1).isdigit()


def _packets_argv(source: Path, stream: int) -> list[str]:
    argv = [str(tools.ffprobe()), "-v", "quiet", *tools.guard_argv(), "-select_streams", str(stream)]
    return [*argv, "-show_entries", "packet=pts_time,flags", "-of", "csv=p=0", tools.address(source)]


def _strict_argv(source: Path, stream: int) -> list[str]:
    return [
        *(str(tools.ffmpeg()), "-nostdin", "-v", "quiet", *tools.guard_argv()),
        *("-threads", "1"),  # with several, ffmpeg 9.0.2 spins for ever on explode
        *("-err_detect", "explode"),  # a frame that can't be decoded whole is not given at all
        "-copyts",  # the packets' own times, to match them
        *("-i", tools.address(source), "-map", f"0:{stream}"),
        *("-fps_mode", "passthrough", "-enc_time_base", "demux", "-f", "framecrc", "pipe:1"),
    ]
