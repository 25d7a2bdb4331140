"""The ladder: properties that hold for every film, and examples."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model import VideoStream
from headrace.recipe import Recipe, named
from headrace.transcode.ladder import MAX_LONG_SIDE, MIN_SIDE, h264_level, plan_ladder


def video(
    width: int = 1920,
    height: int = 1080,
    *,
    rate: Fraction | None = Fraction(25),
    sar: Fraction = Fraction(1),
    rotation: int = 0,
    bit_rate: int | None = None,
) -> VideoStream:
    """A picture stream with the given geometry."""
    return VideoStream(
        0, "h264", width, height, sar, rotation, rate, "yuv420p", 8, None, None, None, None, None, None, bit_rate
    )


any_video = st.builds(
    video,
    st.integers(2, 8192),
    st.integers(2, 8192),
    rate=st.none() | st.fractions(5, 240, max_denominator=1001),
    sar=st.sampled_from([Fraction(1), Fraction(2), Fraction(8, 9), Fraction(64, 45), Fraction(1, 2)]),
    rotation=st.sampled_from([0, 90, 180, 270]),
    bit_rate=st.none() | st.integers(1000, 400_000_000),
)


@given(any_video)
def test_every_ladder_can_be_encoded(stream: VideoStream) -> None:
    """Rungs are even, not above the source, unique, sorted, aligned, and within level 5.2 and 60 fps."""
    rungs = plan_ladder(stream, named("web"))
    width, height = stream.display_size
    assert rungs
    assert len({rung.name for rung in rungs}) == len(rungs)
    assert [r.width * r.height for r in rungs] == sorted((r.width * r.height for r in rungs), reverse=True)
    for rung in rungs:
        assert rung.width % 2 == rung.height % 2 == 0
        assert rung.width <= max(width, MIN_SIDE)
        assert rung.height <= max(height, MIN_SIDE)
        assert max(rung.width, rung.height) <= MAX_LONG_SIDE
        assert 0 < rung.frame_rate <= 60
        assert (rung.frame_rate, rung.gop_frames) == (rungs[0].frame_rate, rungs[0].gop_frames)
        assert float(rung.level) <= 5.2
        assert rung.peak_rate > 0


@given(any_video)
def test_the_shape_is_kept(stream: VideoStream) -> None:
    """Where no side is at its floor, a rung has the display aspect, to the pixel that evenness costs."""
    width, height = stream.display_size
    for rung in plan_ladder(stream, named("web")):
        if min(rung.width, rung.height) > MIN_SIDE:
            assert abs(rung.width * height - rung.height * width) <= 2 * (width + height)


@pytest.mark.parametrize(
    ("stream", "names", "largest"),
    [
        (video(161, 121), ["120p"], (160, 120)),
        (video(720, 1080), ["720p", "540p", "360p", "240p"], (720, 1080)),
        (video(3026, 1386), ["1080p", "720p", "540p", "360p", "240p"], (2358, 1080)),
        (video(640, 360, sar=Fraction(2)), ["360p", "240p"], (1280, 360)),
        (video(640, 480, rotation=90), ["480p", "360p", "240p"], (480, 640)),
        (video(768, 432), ["432p", "360p", "240p"], (768, 432)),
        (video(7680, 4320), ["1080p", "720p", "540p", "360p", "240p"], (1920, 1080)),
        (video(1920, 1088), ["1080p", "720p", "540p", "360p", "240p"], (1906, 1080)),
    ],
)
def test_examples(stream: VideoStream, names: list[str], largest: tuple[int, int]) -> None:
    """Odd, portrait, panoramic, anamorphic and turned films get the rungs that one expects."""
    rungs = plan_ladder(stream, named("web"))
    assert [rung.name for rung in rungs] == names
    assert (rungs[0].width, rungs[0].height) == largest


@pytest.mark.parametrize(
    ("rate", "made", "gop"),
    [
        (Fraction(30000, 1001), Fraction(30000, 1001), 60),
        (Fraction(60000, 1001), Fraction(60000, 1001), 120),
        (Fraction(120), Fraction(60), 120),
        (Fraction(100), Fraction(50), 100),
        (Fraction(25, 2), Fraction(25, 2), 25),
        (None, Fraction(25), 50),
    ],
)
def test_rates_stay_exact_and_within_60(rate: Fraction | None, made: Fraction, gop: int) -> None:
    """Exact rationals are kept, high rates are divided by whole numbers, a GOP is two seconds of frames."""
    rung = plan_ladder(video(rate=rate), named("web"))[0]
    assert (rung.frame_rate, rung.gop_frames) == (made, gop)


def test_a_poor_source_caps_the_peak() -> None:
    """A film of 400 kbit/s gets no rung that spends 7 Mbit/s on its artefacts."""
    rich, poor = plan_ladder(video(), named("web"))[0], plan_ladder(video(bit_rate=400_000), named("web"))[0]
    assert rich.peak_rate > 5_000_000
    assert poor.peak_rate == 600_000


def test_levels_follow_the_standard() -> None:
    """Known sizes get the levels of H.264's table A-1."""
    assert h264_level(1280, 720, Fraction(30), 4_000_000) == "3.1"
    assert h264_level(1920, 1080, Fraction(30), 7_000_000) == "4.0"
    assert h264_level(1920, 1080, Fraction(60), 9_000_000) == "4.2"


def test_a_recipe_without_video_has_no_ladder() -> None:
    """Asking it for rungs is a mistake of the caller."""
    with pytest.raises(ValueError, match="no video"):
        plan_ladder(video(), named("audio"))


def test_segments_are_whole_gops() -> None:
    """Six seconds of 29.97 are three GOPs of 60 frames, 6.006 s."""
    assert Recipe().segment_length(Fraction(30000, 1001)) == Fraction(6006, 1000)
