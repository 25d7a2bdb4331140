"""Which rungs a film gets: geometry, rate, GOP, level and peak. Pure.

1. Geometry is what a viewer sees (sample aspect ratio first, then rotation); rungs are
   named by its short side, so portrait 720x1080 is a 720p.
2. Nothing is scaled up, and every size is even (4:2:0 chroma).
3. Every rung has the same rate and GOP; each stays within High@5.2 and 60 fps (Apple's
   HLS Authoring Specification, FIELD.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from headrace.model import VideoStream
from headrace.recipe import Recipe, VideoSettings

FALLBACK_RATE = Fraction(25)
"""For a film whose container and packets say nothing about its rate (raw streams)."""

MAX_LONG_SIDE = 4096
"""Level 5.2 allows 8688 pixels a side, but hardware decoders of that level stop at 4096."""

MIN_SIDE = 16
"""One macroblock: x264 and most hardware decoders accept nothing smaller."""

OWN_RUNG_STEP = 1.1
"""A source between two rungs gets one of its own if it is this much larger than the rung below."""

PEAKS = (
    # pixels a second, peak bits a second. Our own choice, of the order of Apple's example ladder
    # for H.264; a little above its averages, since this is the VBV's peak and CRF stays below.
    (160 * 90 * 30, 120_000),
    (416 * 234 * 30, 400_000),
    (640 * 360 * 30, 900_000),
    (960 * 540 * 30, 2_200_000),
    (1280 * 720 * 30, 4_000_000),
    (1920 * 1080 * 30, 7_000_000),
    (1920 * 1080 * 60, 9_500_000),
    (3840 * 2160 * 30, 20_000_000),
    (3840 * 2160 * 60, 28_000_000),
)

SOURCE_HEADROOM = {"h264": 1.5, "mpeg4": 1.2, "mpeg2video": 1.0, "mjpeg": 0.7, "prores": 0.5}
"""How far above the source's own rate a rung of the same size may peak: a short peak over the
average, and what H.264 needs more or less than the source's codec."""
SOURCE_HEADROOM_DEFAULT = 3.0
"""For VP9, HEVC, AV1 and the unknown: they need about half of H.264's bits for the same picture."""
MIN_PEAK = 80_000
"""Below this x264's VBV can't hold even one intra frame of the smallest rung."""

_LEVELS = (
    # ITU-T H.264 (08/2024), table A-1: level, macroblocks a second, macroblocks a frame,
    # kbit/s (High profile takes 1.25 of the table's value).
    ("1.0", 1_485, 99, 64),
    ("1.1", 3_000, 396, 192),
    ("1.2", 6_000, 396, 384),
    ("1.3", 11_880, 396, 768),
    ("2.0", 11_880, 396, 2_000),
    ("2.1", 19_800, 792, 4_000),
    ("2.2", 20_250, 1_620, 4_000),
    ("3.0", 40_500, 1_620, 10_000),
    ("3.1", 108_000, 3_600, 14_000),
    ("3.2", 216_000, 5_120, 20_000),
    ("4.0", 245_760, 8_192, 20_000),
    ("4.2", 522_240, 8_704, 50_000),
    ("5.0", 589_824, 22_080, 135_000),
    ("5.1", 983_040, 36_864, 240_000),
    ("5.2", 2_073_600, 36_864, 240_000),
)


@dataclass(frozen=True, slots=True)
class Rung:
    """One encode of the picture; sizes in pixels, rates in bits a second."""

    name: str
    """The short side and ``p``; unique in its ladder."""
    width: int
    height: int
    frame_rate: Fraction
    gop_frames: int
    """An IDR frame at each multiple of this frame number, and nowhere else."""
    peak_rate: int
    """x264's ``maxrate``; ``bufsize`` is one second of it."""
    level: str
    """H.264 level, such as ``4.0``."""


def plan_ladder(video: VideoStream, recipe: Recipe) -> tuple[Rung, ...]:
    """Return the rungs of a film, the largest first; never empty, none above the source.

    Raises ``ValueError`` where the recipe has no video: ask it first.
    """
    if recipe.video is None:
        raise ValueError("the recipe makes no video")
    rate = plan_frame_rate(video, recipe.video)
    sizes = sorted({_size(video, short) for short in _short_sides(min(video.display_size), recipe.video)}, reverse=True)
    rungs: dict[str, Rung] = {}
    for width, height in sizes:
        name = f"{min(width, height)}p"
        peak = peak_rate(video, width, height, rate)
        rungs.setdefault(
            name,
            Rung(name, width, height, rate, recipe.gop_frames(rate), peak, h264_level(width, height, rate, peak)),
        )
    return tuple(rungs.values())


def plan_frame_rate(video: VideoStream, settings: VideoSettings) -> Fraction:
    """Return the constant rate of all rungs: the source's, divided by whole numbers to fit.

    59.94 and 29.97 stay exact rationals; 120 becomes 60, 100 becomes 50.
    """
    rate = video.frame_rate or FALLBACK_RATE
    return rate / math.ceil(rate / settings.max_frame_rate)


def peak_rate(video: VideoStream, width: int, height: int, rate: Fraction) -> int:
    """Return the VBV's peak in bits a second: from ``PEAKS`` by pixels a second, capped by the source."""
    peak = _interpolated(float(width * height * rate))
    if video.bit_rate:
        source_width, source_height = video.display_size
        share = min(1.0, width * height / (source_width * source_height)) ** 0.75
        # Half the area needs about 0.6 of the bits: small pictures have more detail a pixel.
        peak = min(peak, video.bit_rate * share * SOURCE_HEADROOM.get(video.codec, SOURCE_HEADROOM_DEFAULT))
    return max(MIN_PEAK, math.ceil(peak / 1000) * 1000)


def h264_level(width: int, height: int, rate: Fraction, peak: int) -> str:
    """Return the lowest level that holds such a stream (H.264, table A-1)."""
    macroblocks = math.ceil(width / 16) * math.ceil(height / 16)
    for level, a_second, a_frame, kilobits in _LEVELS:
        longest = math.sqrt(a_frame * 8) * 16  # A.3.1: neither side above sqrt(8 x MaxFS) macroblocks
        if (
            macroblocks <= a_frame
            and macroblocks * rate <= a_second
            and peak <= kilobits * 1250
            and max(width, height) <= longest
        ):
            return level
    return _LEVELS[-1][0]


def _short_sides(source: int, settings: VideoSettings) -> list[int]:
    """The short sides to encode: the recipe's up to the source, and the source's own where it pays."""
    below = [height for height in settings.heights if height <= source]
    largest = max(below, default=0)
    own = source < max(settings.heights) and source >= largest * OWN_RUNG_STEP
    return [*below, source] if own or not below else below


def _size(video: VideoStream, short: int) -> tuple[int, int]:
    """The even size whose short side is ``short``, in the shape of the display picture."""
    width, height = video.display_size
    scale = min(Fraction(short, min(width, height)), Fraction(MAX_LONG_SIDE, max(width, height)), Fraction(1))
    return _even(width * scale, width), _even(height * scale, height)


def _even(wanted: Fraction, source: int) -> int:
    """The nearest even number that is not above the source, and not below one macroblock."""
    nearest = round(wanted / 2) * 2
    limit = source - source % 2
    return max(min(nearest, limit), MIN_SIDE)


def _interpolated(pixels_a_second: float) -> float:
    """Straight between the rows of ``PEAKS`` on logarithmic axes, and along the end pieces beyond."""
    points = [(math.log(pixels), math.log(bits)) for pixels, bits in PEAKS]
    x = math.log(pixels_a_second)
    right = next((i for i, (at, _) in enumerate(points) if at >= x and i > 0), len(points) - 1)
    (x0, y0), (x1, y1) = points[right - 1], points[right]
    return math.exp(y0 + (y1 - y0) * (x - x0) / (x1 - x0))
