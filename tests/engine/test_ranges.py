"""What is fetched by whom: sizes of blocks, shares and stripes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.download.ranges import MAX_BLOCKS, MIB, block_bytes, connections_at_start, missing, split_point, stripe

GIB = 1024 * MIB
sizes = st.integers(1, 2**44)


@pytest.mark.parametrize(
    ("missing_bytes", "most", "wait_seconds", "expected"),
    [
        (1, 16, 0.0, 1),
        (2 * GIB, 16, 0.001, 1),  # more come at once where that one isn't fast
        (2 * GIB, 16, 0.05, 8),  # far away several help for sure
        (2 * GIB, 3, 0.05, 3),
        (9 * MIB, 16, 0.05, 2),  # none for less than 4 MiB
    ],
)
def test_a_download_begins_with_so_many_connections(missing_bytes, most, wait_seconds, expected):
    """By what is missing, what is allowed, and how far away the server is."""
    assert connections_at_start(missing_bytes, most, wait_seconds) == expected


@pytest.mark.parametrize(
    ("left", "connections", "rate", "wait_seconds", "expected"),
    [
        (2 * GIB, 4, 0.0, 0.0, 8 * MIB),  # nobody knows anything yet
        (2 * GIB, 4, 800 * MIB, 0.0, 80 * MIB),  # a tenth of a second
        (64 * GIB, 4, 400 * MIB, 0.02, 256 * MIB),  # the wait is a 32nd of it, and there is an end to it
        (16 * MIB, 4, 800 * MIB, 0.0, 4 * MIB),  # others want something too
        (100, 4, 0.0, 0.0, MIB),
    ],
)
def test_a_stripe_is_worth_its_wait_and_leaves_something_to_others(left, connections, rate, wait_seconds, expected):
    """Whole blocks."""
    assert stripe(left, connections, MIB, rate, wait_seconds) == expected


@given(reserved=sizes, length=sizes, own=st.floats(0.001, 1e9), other=st.floats(0.001, 1e9))
def test_a_share_is_cut_at_a_block_behind_what_is_being_received(reserved, length, own, other):
    """Both parts have something, and a block has one worker."""
    end = reserved + length
    at = split_point(reserved, end, MIB, own_speed=own, other_speed=other)
    if at is not None:
        assert at % MIB == 0
        assert reserved <= at < end


def test_both_parts_of_a_share_end_together():
    """Who is three times as fast gets three quarters."""
    assert split_point(0, 100 * MIB, MIB, own_speed=1.0, other_speed=3.0) == 25 * MIB
    assert split_point(0, 2 * MIB - 1, MIB) is None


@given(size=st.integers(1, 2**50))
def test_a_journal_has_an_end(size):
    """However large the file is."""
    assert size <= block_bytes(size) * MAX_BLOCKS


@given(piece=st.integers(1, 2**32))
def test_a_piece_is_whole_blocks(piece):
    """So that a wrong one can be fetched again alone."""
    assert piece % block_bytes(2**40, piece) == 0


@given(spans=st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), max_size=20), size=st.integers(1, 1000))
def test_what_is_missing_is_what_nobody_has(spans, size):
    """Byte by byte."""
    done = sorted((min(a, b, size), min(max(a, b), size)) for a, b in spans)
    there = {byte for start, end in done for byte in range(start, end)}
    gaps = missing(size, done)
    found = {byte for start, end in gaps for byte in range(start, end)}
    assert found == set(range(size)) - there
