"""The ffmpeg command of an encode: decoded once, all rungs and all sounds. Pure.

``ffmpeg-python`` compiles the filter graph and the argv; nothing is run here. Each option
has its reason beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ffmpeg

from headrace import tools
from headrace.model import AudioStream, MediaInfo, VideoStream
from headrace.recipe import Recipe
from headrace.transcode.ladder import Rung

SAMPLE_RATES = (48_000, 44_100)
"""AAC rates that every player takes; anything that is not 44.1 kHz becomes 48."""

ENCODER_THREADS = 1
"""x264's threads for each rung; the rungs themselves run side by side, so a ladder fills the cores.

With more, x264 under VBV is not repeatable: it decides on a row by how far the other frames'
threads have come. Measured on 25 encodes of a 2 s film: 2 threads gave 7 different files of
the same rung, 1 thread one.
"""

FINE_TIMESCALE = 10_000
"""Ticks a second from which one tick lost in each segment stays below a GOP for days."""

HD_SHORT_SIDE = 720
"""From here on an untagged film is taken for BT.709, below for BT.601, as players do."""

SDR_WHITE_NITS = 203
"""HDR reference white (ITU-R BT.2408-7, 2023), which becomes the white of the SDR picture."""

_MATRICES = {
    "bt709": "bt709",
    "smpte170m": "smpte170m",
    "bt470bg": "bt470bg",
    "smpte240m": "smpte240m",
    "fcc": "fcc",
    "bt2020nc": "bt2020",
    "bt2020c": "bt2020",
}
"""ffprobe's color_space → swscale's name."""


@dataclass(frozen=True, slots=True)
class Sound:
    """One sound stream and the name of its rendition."""

    name: str
    stream: AudioStream
    pad_seconds: float
    """Silence added where the container says that the picture lasts longer."""

    @property
    def sample_rate(self) -> int:
        """The output's rate in Hz."""
        return self.stream.sample_rate if self.stream.sample_rate in SAMPLE_RATES else SAMPLE_RATES[0]


def encode_argv(
    source: Path,
    media: MediaInfo,
    recipe: Recipe,
    rungs: tuple[Rung, ...],
    sounds: tuple[Sound, ...],
    *,
    threads: int,
    hold_seconds: float = 0.0,
) -> list[str]:
    """Return the whole argv; outputs are ``NAME.mp4`` in the current folder.

    ``threads`` are the decoder's and the filters', which don't change the bytes. ``rungs`` are largest first.
    The last frame stays for ``hold_seconds``.
    """
    given = ffmpeg.input(tools.address(source), **tools.guard(), threads=threads)
    outputs: list[Any] = []
    if rungs and recipe.video is not None:
        pictures = _pictures(given[str(media.video[0].index)], media.video[0], rungs, hold_seconds)
        outputs += [_video_output(p, r, recipe) for p, r in zip(pictures, rungs, strict=True)]
    outputs += [_audio_output(given[str(sound.stream.index)], sound, recipe) for sound in sounds]
    return [str(tools.ffmpeg()), *_global_options(threads), *ffmpeg.get_args(ffmpeg.merge_outputs(*outputs))]


def _global_options(threads: int) -> list[str]:
    return [
        "-nostdin",  # a worker has no terminal; ffmpeg would read commands from it
        "-hide_banner",
        *("-v", "repeat+error"),  # every decode error is evidence, so repeated ones are not folded
        "-y",  # the folder is ours and may hold the half of an earlier try
        "-nostats",  # progress goes to the pipe below instead of stderr
        *("-progress", "pipe:1"),
        *("-stats_period", "0.5"),
        *("-filter_complex_threads", str(threads)),  # as many as the plan says, not as the machine has
    ]


def _pictures(picture: Any, video: VideoStream, rungs: tuple[Rung, ...], hold_seconds: float) -> list[Any]:
    """Build the cascade: the source becomes the largest rung, each rung the next one."""
    if video.is_interlaced:
        picture = picture.filter("bwdif", mode="send_frame", parity="auto", deint="all")
    # start_time=0: a picture that starts late begins with its first frame, so that frame 0 is
    # at time 0 and every forced IDR lands on the same grid in each rung.
    picture = picture.filter("fps", fps=_rational(rungs[0]), start_time=0)
    if hold_seconds > 0:
        picture = picture.filter("tpad", stop_mode="clone", stop_duration=f"{hold_seconds:.6f}")
    picture = _to_sdr(picture, rungs[0]) if video.is_hdr else _to_bt709(picture, video, rungs[0])
    # Square pixels: the display size already holds the sample aspect ratio.
    picture = picture.filter("setsar", 1).filter(
        "setparams", range="tv", color_primaries="bt709", color_trc="bt709", colorspace="bt709"
    )
    pictures = []
    for rung in rungs[1:]:
        both = picture.split()
        pictures.append(both[0])
        # area-like bicubic from the rung above: 6 % cheaper than each from the source (FIELD.md).
        picture = both[1].filter("scale", rung.width, rung.height, flags="bicubic").filter("setsar", 1)
    return [*pictures, picture]


def _to_bt709(picture: Any, video: VideoStream, rung: Rung) -> Any:
    """Scale, and bring matrix and range to BT.709 limited: what an untagged player assumes."""
    matrix = _MATRICES.get(video.color_space or "")
    if matrix is None:
        matrix = "bt709" if min(video.display_size) >= HD_SHORT_SIDE else "smpte170m"
    colour = {"out_color_matrix": "bt709", "out_range": "tv"}
    if video.pixel_format.startswith(("yuv", "nv", "p0")):  # RGB has no matrix to convert from
        colour["in_color_matrix"] = matrix
    scaled = picture.filter("scale", rung.width, rung.height, flags="bicubic+accurate_rnd", **colour)
    return scaled.filter("format", "yuv420p")  # 8-bit 4:2:0, the only form that every decoder of AVC takes


def _to_sdr(picture: Any, rung: Rung) -> Any:
    """Tone-map PQ or HLG in linear light, after scaling, so that it costs the rung's pixels only."""
    picture = picture.filter("scale", rung.width, rung.height, flags="bicubic+accurate_rnd")
    picture = picture.filter("zscale", transfer="linear", npl=SDR_WHITE_NITS).filter("format", "gbrpf32le")
    picture = picture.filter("zscale", primaries="bt709")  # gamut first: mapping in BT.2020 tints the highlights
    # mobius leaves everything below reference white as it was and only rolls off what is above.
    picture = picture.filter("tonemap", tonemap="mobius", desat=0)
    picture = picture.filter("zscale", transfer="bt709", matrix="bt709", range="limited")
    return picture.filter("format", "yuv420p")


def _video_output(picture: Any, rung: Rung, recipe: Recipe) -> Any:
    assert recipe.video is not None  # noqa: S101 - encode_argv asked
    timescale = rung.frame_rate.numerator * (1 if rung.frame_rate.numerator >= FINE_TIMESCALE else 1000)
    options: dict[str, str | int | float] = {
        "c:v": "libx264",
        "preset": recipe.video.preset,
        "crf": recipe.video.crf,  # constant quality …
        "maxrate": rung.peak_rate,  # … under a peak that BANDWIDTH can promise
        "bufsize": rung.peak_rate,  # one second: a 6 s segment then exceeds the peak by 1/6 at most
        "profile:v": "high",
        "level:v": rung.level,  # x264 would write a level from its own guess of the buffer
        "g": rung.gop_frames,
        "keyint_min": rung.gop_frames,
        "sc_threshold": 0,  # a cut must not move the IDR frames of one rung away from the others'
        # By frame number, never by time: 59.94 and 29.97 drift apart after 16 s (FIELD.md).
        "force_key_frames": f"expr:not(mod(n,{rung.gop_frames}))",
        "forced-idr": 1,  # a forced I frame alone is no place to start
        "x264-params": "open-gop=0:stitchable=1",  # closed GOPs; the same SPS and PPS for any chunk
        "threads": ENCODER_THREADS,
        "fps_mode": "passthrough",  # the fps filter has made the rate; nothing else may touch it
        "video_track_timescale": timescale,  # exact ticks a frame: no rounding in EXTINF
    }
    return ffmpeg.output(picture, f"{rung.name}.mp4", **options, **_clean(), **_file(":v"))


def _audio_output(audio: Any, sound: Sound, recipe: Recipe) -> Any:
    # async=1 fills holes and trims overlaps, first_pts=0 the offset at the start, so sound and
    # picture stay on one clock.
    audio = audio.filter("aresample", sound.sample_rate, **{"async": 1, "first_pts": 0})
    audio = audio.filter("aformat", sample_fmts="fltp", channel_layouts="stereo")
    if sound.pad_seconds > 0:
        audio = audio.filter("apad", pad_dur=f"{sound.pad_seconds:.6f}")
    options: dict[str, str | int] = {
        "c:a": "aac",  # ffmpeg's own: AAC-LC, the profile that everything plays
        "b:a": recipe.audio.bitrate,
        "ar": sound.sample_rate,
    }
    return ffmpeg.output(audio, f"{sound.name}.mp4", **options, **_clean(), **_file(":a"))


def _clean() -> dict[str, str | int]:
    """Options that keep outside text out of the outputs."""
    return {
        "map_metadata": -1,  # titles, GPS positions and comments are the catalogue's matter
        "map_chapters": -1,
    }


def _file(kind: str) -> dict[str, str]:
    """Options that make the file's bytes depend on its content alone."""
    return {
        "f": "mp4",
        f"flags{kind}": "+bitexact",  # no version of the encoder in the stream
        "fflags": "+bitexact",  # no date and no version of the muxer in the file
        "max_muxing_queue_size": "4096",  # a sound that starts late waits for a picture at 8K
    }


def _rational(rung: Rung) -> str:
    return f"{rung.frame_rate.numerator}/{rung.frame_rate.denominator}"


def plan_sounds(media: MediaInfo) -> tuple[Sound, ...]:
    """Name every sound stream ``audio-1`` and so on, in file order; pure.

    A sound that the container declares shorter than the picture is padded to its end, so that
    a player's buffers end together.
    """
    picture = max((video.duration_seconds or 0.0 for video in media.video[:1]), default=0.0)
    return tuple(
        Sound(f"audio-{number}", stream, max(0.0, picture - stream.duration_seconds) if stream.duration_seconds else 0)
        for number, stream in enumerate(_playable(media.audio), 1)
    )


def _playable(streams: Iterable[AudioStream]) -> list[AudioStream]:
    return [stream for stream in streams if stream.channels > 0 and stream.sample_rate > 0]
