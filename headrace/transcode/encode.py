"""Run an encode: one ffmpeg in its own folder, watched, and judged by what it left behind.

1. Exit status 0 proves nothing (FIELD.md, Driving ffmpeg): the outputs are measured and
   compared with what the container promises.
2. What plays but isn't whole is *degraded*: it gets a warning. What doesn't play is
   ``Undecodable``.
3. It may run again in the folder of an earlier try: every output is overwritten.
"""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headrace import process, tools
from headrace.errors import (
    DiskFull,
    HeadraceError,
    NotMedia,
    ToolFailed,
    ToolInterrupted,
    Undecodable,
)
from headrace.model import Encoded, EncodedTrack, MediaInfo, OnProgress, Progress
from headrace.process import Finished, Limits, Stop
from headrace.recipe import Recipe
from headrace.transcode import damage, pictures, subtitles
from headrace.transcode.argv import Sound, encode_argv, plan_sounds
from headrace.transcode.ladder import Rung, plan_ladder

STALL_SECONDS = 60.0
"""Without a later ``out_time`` for so long ffmpeg is stuck: the slowest 8K frame takes a second."""

BASE_MEMORY_BYTES = 4 * 1024**3
MEMORY_A_THREAD_BYTES = 256 * 1024**2
BYTES_A_PIXEL = 160
"""The address space of an encode: a base, what each thread takes (stack, arena, its frame), and
for each pixel of the source 100 frames of 1.5 bytes in queues. Measured (VmPeak): 8K HEVC to
the web recipe 2.1 GB on 2 threads and 4.6 GB on 16; 1080p on 2 threads 2.0 GB."""

MAX_OUTPUT_BYTES = 64 * 1024**3
"""One rung of 10 hours at 14 Mbit/s; larger is a loop in the source's timestamps."""

WHOLE_SHARE = 0.98
WHOLE_SLACK_SECONDS = 0.5
"""An encode is whole with this share of the promised duration, or within this of it:
containers round, and sound and picture end up to half a second apart."""

HOLD_SLACK_SECONDS = 0.25
"""A picture may end so long before the sound: players bridge a few frames, and no more."""

_MEASURE_TIMEOUT_SECONDS = 60.0

# ffmpeg ends with AVERROR & 0xFF (FIELD.md, Driving ffmpeg).
_BAD_INPUT = {
    183: "its data is invalid",
    234: "it asks for something impossible",
    69: "too much of it can't be decoded",  # not an AVERROR: ffmpeg's own -max_error_rate of 2/3
}
_NO_SPACE = 228
_INTERRUPTED = {244: "memory ran out", 251: "reading or writing failed"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What one encode will make, decided before anything runs."""

    argv: tuple[str, ...]
    rungs: tuple[Rung, ...]
    sounds: tuple[Sound, ...]


def plan_encode(source: Path, media: MediaInfo, recipe: Recipe, *, threads: int, hold_seconds: float = 0.0) -> Plan:
    """Decide rungs, sounds and the argv; pure. Raises ``NotMedia`` where the recipe finds nothing to make."""
    rungs = plan_ladder(media.video[0], recipe) if media.video and recipe.video is not None else ()
    sounds = plan_sounds(media if rungs else replace(media, video=()))
    if not rungs and not sounds:
        raise NotMedia("there is no sound in it, and the recipe makes no picture")
    argv = encode_argv(source, media, recipe, rungs, sounds, threads=threads, hold_seconds=hold_seconds)
    return Plan(tuple(argv), rungs, sounds)


def plan_hold(plan: Plan, lengths: dict[str, float]) -> float:
    """Return how long the last frame must stay so that the picture ends with the sound; pure.

    A player whose buffer of pictures ends early waits there for ever (hls.js does).
    """
    pictures = [lengths[rung.name] for rung in plan.rungs]
    sounds = [lengths[sound.name] for sound in plan.sounds if sound.name in lengths]
    missing = max(sounds, default=0.0) - min(pictures, default=0.0)
    return missing if pictures and missing > HOLD_SLACK_SECONDS else 0.0


def encode(
    source: Path,
    media: MediaInfo,
    recipe: Recipe,
    work: Path,
    *,
    threads: int,
    on_progress: OnProgress = lambda _: None,
    stop: Stop | None = None,
) -> Encoded:
    """Encode a master into ``work``, a folder of this encode alone; ``threads`` ≥ 1 decode and scale.

    Raises ``Undecodable``, ``NotMedia`` and ``ToolFailed`` (for good), ``DiskFull``,
    ``ToolInterrupted`` and ``ToolStalled`` (retry can help), and ``Cancelled``.
    """
    plan = plan_encode(source, media, recipe, threads=threads)
    limits = _limits(media, threads)

    def run(chosen: Plan) -> Finished:
        done = process.run(
            chosen.argv,
            cwd=work,
            limits=limits,
            stop=stop,
            stall_seconds=STALL_SECONDS,
            on_line=ProgressReader(media.duration_seconds, on_progress).take,
        )
        if done.returncode != 0:
            raise failure(done)
        return done

    finished = run(plan)
    tracks, lengths, warnings = _collect(plan, work, stop)
    warnings += _judge(source, media, plan, lengths, finished, limits, stop)
    hold_seconds = plan_hold(plan, lengths)
    if hold_seconds > 0:  # known only now: few containers say how long each of their streams is
        run(plan_encode(source, media, recipe, threads=threads, hold_seconds=hold_seconds))
        tracks, lengths, _ = _collect(plan, work, stop)
    texts, remarks = subtitles.extract(source, media, work, stop=stop)
    duration = max(lengths.values())
    warnings += [*remarks, *_left_out(media, plan)]
    encoded = Encoded((*tracks, *texts), duration, warnings=tuple(warnings))
    return _with_pictures(encoded, recipe, work, stop)


class ProgressReader:
    """Reads ``-progress`` lines; says whether the encode moved, and tells the receiver how far it is."""

    def __init__(self, duration_seconds: float | None, on_progress: OnProgress) -> None:
        """Measure against ``duration_seconds``, or report no fraction where that is unknown."""
        self._duration = duration_seconds
        self._on_progress = on_progress
        self._out_seconds = -1.0
        self._speed: float | None = None

    def take(self, line: str) -> bool:
        """Take one ``key=value`` line; return whether ``out_time`` is later than ever before."""
        key, _, value = line.partition("=")
        if key == "speed":
            self._speed = _number(value.strip().removesuffix("x"))
        if key == "progress":
            self._report()
        if key != "out_time_us":  # out_time_ms holds microseconds too, so its name is avoided
            return False
        microseconds = _number(value)  # N/A until the first frame is out
        if microseconds is None or microseconds / 1e6 <= self._out_seconds:
            return False
        self._out_seconds = microseconds / 1e6
        return True

    def _report(self) -> None:
        if not self._duration or self._out_seconds < 0:
            self._on_progress(Progress(None, self._speed))
            return
        left = max(0.0, self._duration - self._out_seconds)
        eta = left / self._speed if self._speed else None
        self._on_progress(Progress(min(1.0, self._out_seconds / self._duration), self._speed, eta))


def failure(finished: Finished) -> HeadraceError:
    """Say what a failed ffmpeg's exit status means, and whether a retry can help; pure."""
    code = finished.returncode
    last = _reason(finished.stderr)
    evidence: dict[str, Any] = {"argv": list(finished.argv), "stderr": finished.stderr, "returncode": code}
    if "No space left on device" in finished.stderr or code == _NO_SPACE:
        return DiskFull("no space is left for the encode", **evidence)
    if code == -signal.SIGXFSZ:
        return ToolFailed(f"the encode grew beyond {MAX_OUTPUT_BYTES >> 30} GiB and was stopped", **evidence)
    if code < 0 or code in _INTERRUPTED:
        return ToolInterrupted(f"ffmpeg was interrupted: {_INTERRUPTED.get(code, f'signal {-code}')}", **evidence)
    if code in _BAD_INPUT:
        return Undecodable(f"ffmpeg can't decode this file, {_BAD_INPUT[code]}: {last}", **evidence)
    return ToolFailed(f"ffmpeg ended with {code}: {last}", **evidence)


def _reason(stderr: str) -> str:
    """The line that says why: the first that speaks of an error, rather than what followed from it."""
    lines = [line.split("] ")[-1] for line in stderr.splitlines() if line.strip()]
    speaks = (line for line in lines if "rror" in line or "nvalid" in line)
    return next(speaks, lines[-1] if lines else "no reason given")


def _limits(media: MediaInfo, threads: int) -> Limits:
    pixels = max((stream.width * stream.height for stream in media.video), default=0)
    return Limits(
        memory_bytes=BASE_MEMORY_BYTES + MEMORY_A_THREAD_BYTES * threads + BYTES_A_PIXEL * pixels,
        file_bytes=MAX_OUTPUT_BYTES,
    )


def _collect(plan: Plan, work: Path, stop: Stop | None) -> tuple[list[EncodedTrack], dict[str, float], list[str]]:
    """Measure what ffmpeg left; a sound without any output is left out with a warning."""
    tracks: list[EncodedTrack] = []
    lengths: dict[str, float] = {}
    warnings: list[str] = []
    for rung in plan.rungs:
        path = work / f"{rung.name}.mp4"
        lengths[rung.name] = _duration(path, stop)
        if lengths[rung.name] <= 0:
            raise Undecodable("not one frame of the picture can be decoded")
        track = EncodedTrack(rung.name, "video", path, width=rung.width, height=rung.height)
        tracks.append(replace(track, frame_rate=rung.frame_rate))
    for sound in plan.sounds:
        path, stream = work / f"{sound.name}.mp4", sound.stream
        length = _duration(path, stop)
        if length <= 0:
            warnings.append(f"sound track {stream.index} ({stream.codec}) could not be decoded and was left out")
            continue
        lengths[sound.name] = length
        tracks.append(
            EncodedTrack(sound.name, "audio", path, stream.language, stream.title, stream.default, channels=2)
        )
    if not tracks:
        raise Undecodable("nothing in the file can be decoded")
    return tracks, lengths, warnings


def _duration(path: Path, stop: Stop | None) -> float:
    """The seconds of an output, 0 where it holds nothing."""
    argv = [str(tools.ffprobe()), "-v", "quiet", "-of", "json", "-show_entries", "format=duration", str(path)]
    finished = process.run(argv, stop=stop, timeout_seconds=_MEASURE_TIMEOUT_SECONDS)
    if finished.returncode != 0:
        return 0.0
    return _number(json.loads(finished.stdout).get("format", {}).get("duration")) or 0.0


def _judge(
    source: Path,
    media: MediaInfo,
    plan: Plan,
    lengths: dict[str, float],
    finished: Finished,
    limits: Limits,
    stop: Stop | None,
) -> list[str]:
    """Compare with what was promised; return warnings, or raise ``Undecodable``."""
    warnings = missing_warnings(media, plan, lengths)
    if not damage.mentions_errors(finished.stderr):
        return warnings
    if not plan.rungs:
        return [*warnings, f"parts of the sound are damaged ({_reason(finished.stderr)})"]
    video = media.video[0]
    found = damage.measure_damage(source, video.index, media.duration_seconds, limits=limits, stop=stop)
    if found is None:
        return [*warnings, f"parts of the film are damaged ({_reason(finished.stderr)})"]
    if found.share > damage.MAX_DAMAGED_SHARE:
        raise Undecodable(
            f"the film is corrupted: {found.wrong} of {found.frames} frames ({found.share:.0%}) can't be shown right, "
            f"since {found.lost} of them can't be decoded and the others build on those",
            stderr=finished.stderr,
        )
    if found.wrong:
        return [*warnings, f"{found.wrong} of {found.frames} frames are damaged"]
    return [*warnings, f"parts of the film are damaged ({_reason(finished.stderr)})"]


def missing_warnings(media: MediaInfo, plan: Plan, lengths: dict[str, float]) -> list[str]:
    """Return a sentence where clearly less came out than the container promises; pure."""
    promised = {rung.name: media.video[0].duration_seconds for rung in plan.rungs[:1]}
    promised |= {sound.name: sound.stream.duration_seconds for sound in plan.sounds}
    found = []
    for name, seconds in promised.items():
        kind = "sound" if name.startswith("audio") else "picture"
        if seconds and name in lengths and _falls_short(lengths[name], seconds):
            found.append(f"only {lengths[name]:.1f} of {seconds:.1f} s of the {kind} could be decoded")
    longest = max(lengths.values())
    if not found and media.duration_seconds and _falls_short(longest, media.duration_seconds):
        found.append(f"only {longest:.1f} of {media.duration_seconds:.1f} s could be decoded")
    return list(dict.fromkeys(found))


def _falls_short(seconds: float, promised: float) -> bool:
    return seconds < promised * WHOLE_SHARE and promised - seconds > WHOLE_SLACK_SECONDS


def _left_out(media: MediaInfo, plan: Plan) -> list[str]:
    if plan.rungs and len(media.video) > 1:
        return [f"the file holds {len(media.video)} pictures; only the first was encoded"]
    return []


def _with_pictures(encoded: Encoded, recipe: Recipe, work: Path, stop: Stop | None) -> Encoded:
    videos = [track for track in encoded.tracks if track.kind == "video"]
    if not videos:
        sound = encoded.tracks[0]
        return replace(encoded, poster=pictures.make_poster(sound, encoded.duration_seconds, work, stop=stop))
    best = next((track for track in videos if (track.width or 0) <= pictures.POSTER_WIDTH), videos[-1])
    seconds = _duration(videos[0].path, stop)
    poster = pictures.make_poster(best, seconds, work, stop=stop)
    board: tuple[Path, ...] = ()
    rate = videos[-1].frame_rate
    if recipe.storyboard and rate:
        gop_seconds = recipe.gop_frames(rate) / rate
        board = pictures.make_storyboard(videos[-1], seconds, gop_seconds, work, stop=stop)
    return replace(encoded, poster=poster, storyboard=board)


def _number(value: object) -> float | None:
    try:
        return float(str(value))
    except ValueError:
        return None
