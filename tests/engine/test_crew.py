"""Who goes on with a share when two are at it: its bytes are written, and asked for, once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.download.access import OPEN
from headrace.download.crew import Crew
from headrace.download.hold import Hold
from headrace.download.journal import Header, Validator
from headrace.download.origins import Origin
from headrace.download.pace import Pace
from headrace.download.part import Part
from headrace.download.shares import Opened, Share
from headrace.errors import SourceUnavailable

MIB = 2**20
SIZE = 16 * MIB


def ask(start: int, end: int, avoid: object) -> Opened:
    raise SourceUnavailable("nobody is asked here")


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[Crew]:
    header = Header("http://h/film", "", Validator('"v"', None), SIZE, MIB)
    with contextlib.closing(Hold(tmp_path / "film")) as hold:
        part = Part(hold, header, ("blake3",), None, blame=lambda _: None)
        with contextlib.closing(part):
            yield Crew(part, ask, most=4, pace=Pace(0, None), stop=None, max_bytes=SIZE)


def stalled(crew: Crew) -> tuple[Share, Share, int]:
    """Return a share whose worker has bytes in hand, its rival, and where it was when the rival was called."""
    share = Share(0, SIZE)
    crew._at_work.add(share)
    share.position, share.flushed = MIB + 1000, MIB
    share.hedged = True
    return share, Share(share.flushed, share.end, settled=False), share.position


def test_a_rival_goes_on_behind_what_is_written(crew):
    """What the stalled worker had in hand, it never writes."""
    share, rival, seen = stalled(crew)
    assert crew.take_over(rival, share, seen)
    assert not crew.begin_write(share)
    assert rival.settled


def test_a_rival_writes_nothing_anew(crew):
    """The stalled one's connection breaks while the rival is asking, so it writes what it has, which may be hashed."""
    share, rival, seen = stalled(crew)
    assert crew.begin_write(share)
    crew.end_write(share)
    assert share.flushed == share.position == seen
    assert not crew.take_over(rival, share, seen)
    assert crew.take_over(Share(share.flushed, share.end, settled=False), share, seen)


def test_a_share_that_moves_is_taken_over_only_if_it_is_slow(crew):
    """A rival's answer takes its time; whoever was slow may have moved a little meanwhile."""
    share, rival, seen = stalled(crew)
    share.position += 10
    share.hedged_at = time.monotonic() - 3
    assert not crew.take_over(rival, share, seen)
    beside = Share(SIZE, SIZE)
    crew._at_work.add(beside)
    share.origin = beside.origin = Origin(None, "http://h/film", OPEN, typed=True, signed=False)
    crew._rates[share.origin] = 4e6
    share.position += 12 * MIB  # as fast as usual again, whatever it was before
    assert not crew.take_over(rival, share, seen)
    share.position -= 12 * MIB
    assert crew.take_over(rival, share, seen)


@pytest.mark.parametrize("way", ["put back", "given back"])
def test_what_was_taken_over_is_nobody_elses(crew, way):
    """A worker that wakes up after that, and finds no room, leaves nothing to the others."""
    share, rival, seen = stalled(crew)
    assert crew.take_over(rival, share, seen)
    crew._at_work.add(rival)
    rival.position += MIB
    if way == "put back":
        crew.put_back(share)
    else:
        assert crew.give_back(share)
    assert not crew._pending
    assert crew._at_work == {rival}
