"""Files that are there already: kept if nothing speaks against them."""

from __future__ import annotations

import hashlib
import threading

import pytest

from headrace.download import Signed, Wish
from headrace.download.existing import existing
from headrace.download.journal import Validator
from headrace.download.proof import promise
from headrace.download.signed import Known
from headrace.errors import Cancelled
from headrace.model import Pieces

CONTENT = b"some bytes " * 1000
RIGHT = promise("sha256", hashlib.sha256(CONTENT).hexdigest(), "order")
WRONG = promise("sha256", hashlib.sha256(b"x").hexdigest(), "order")
NEVER = threading.Event()
SIGNED = Signed("s3://films/film", Known(Validator('"v"', None), (RIGHT,)))
SIGNED_WRONG = Signed("s3://films/film", Known(Validator('"v"', None), (WRONG,)))


def pieces(length: int, content: bytes = CONTENT) -> Pieces:
    cut = [content[at : at + length] for at in range(0, len(content), length)]
    return Pieces("sha256", length, tuple(hashlib.sha256(one).hexdigest() for one in cut))


@pytest.fixture
def film(tmp_path):
    (tmp_path / "film").write_bytes(CONTENT)
    return tmp_path / "film"


@pytest.mark.parametrize(
    "promised",
    [
        {},
        {"signed": SIGNED},
        {"size_bytes": len(CONTENT)},
        {"promises": (RIGHT,)},
        {"pieces": pieces(1000)},
        {"pieces": pieces(11000)},
    ],
)
def test_what_is_right_is_kept(film, promised):
    """By its name alone, or by what it must be."""
    found = existing(Wish("http://h/film", **promised), film, NEVER)
    assert found is not None
    assert (found.path, found.size_bytes, found.kept) == (film, len(CONTENT), True)
    assert bool(found.proofs) == bool({"promises", "pieces", "signed"} & set(promised))


@pytest.mark.parametrize(
    "promised",
    [
        {"size_bytes": len(CONTENT) + 1},
        {"promises": (RIGHT, WRONG)},
        {"signed": SIGNED_WRONG},
        {"pieces": pieces(1000, CONTENT[:-1] + b"x")},
        {"pieces": pieces(1000, CONTENT[:5000])},
    ],
)
def test_what_is_wrong_is_not(film, promised):
    """Then it is downloaded."""
    assert existing(Wish("http://h/film", **promised), film, NEVER) is None


def test_what_is_not_there_is_not_kept(tmp_path):
    """Nor is a folder of that name."""
    (tmp_path / "folder").mkdir()
    assert existing(Wish("http://h/film"), tmp_path / "film", NEVER) is None
    assert existing(Wish("http://h/film"), tmp_path / "folder", NEVER) is None


def test_a_check_can_be_stopped(film):
    """Hashing a large file takes its time."""
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        existing(Wish("http://h/film", (RIGHT,)), film, stop)
