"""The terms of a source: read strictly, kept and read again as they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import terms
from headrace.errors import HeadraceError
from headrace.model import Pieces, Terms

HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
SOME = st.builds(
    Terms,
    mirrors=st.lists(st.sampled_from(["http://a/x", "https://b/y?z=1"]), unique=True).map(tuple),
    digests=st.lists(HEX, max_size=1).map(lambda values: tuple(("sha256", value) for value in values)),
    size_bytes=st.none() | st.integers(1, 2**40),
    pieces=st.none()
    | st.builds(Pieces, st.just("sha256"), st.integers(1, 2**20), st.lists(HEX, min_size=1).map(tuple)),
    credential=st.none() | st.just("archive"),
)


@given(SOME)
def test_terms_come_back_as_they_were_kept(found):
    """``of_row`` is the inverse of ``to_json``."""
    assert terms.of_row(terms.to_json(found)) == found


def test_no_terms_take_no_room():
    """Orders without any are as they were."""
    assert terms.to_json(Terms()) is None
    assert terms.of_row(None) == Terms()


@pytest.mark.parametrize(
    "body",
    [
        {"mirrors": ["ftp://host/x"]},
        {"mirrors": ["http://h/x"] * 40},
        {"mirrors": ["file:///etc/passwd"]},
        {"mirrors": ["https://user:secret@host/x"]},
        {"digests": {"sha256": "x"}},
        {"digests": {"crc7": "00"}},
        {"pieces": {"algorithm": "sha256", "length_bytes": 0, "values": ["a" * 64]}},
        {"pieces": {"algorithm": "sha256", "length_bytes": 10, "values": []}},
        {"pieces": {"algorithm": "sha256", "length_bytes": 10, "values": ["a"]}},
        {"pieces": {"algorithm": "sha256", "length_bytes": 2**60 + 1, "values": ["a" * 64]}},
        {"pieces": {"algorithm": "sha256", "length_bytes": 10, "values": ["a" * 64]}, "size_bytes": 11},
    ],
)
def test_what_is_refused(body):
    """Each with an error of ours."""
    with pytest.raises(HeadraceError):
        terms.of_body(**body)


def test_hex_is_read_as_people_write_it():
    """Capitals and dashes in names."""
    assert terms.of_body(digests={"SHA-256": "A" * 64}).digests == (("sha256", "a" * 64),)
