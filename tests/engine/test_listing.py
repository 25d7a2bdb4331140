"""Input lists: right as a whole, and nothing in them leads out of the folder."""

from __future__ import annotations

import contextlib
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.download.listing import Entry, parse
from headrace.download.proof import promise
from headrace.errors import InvalidRequest

CANARY = "c4nary-in-the-mine"
SHA256 = "ab" * 32


def test_a_list_of_urls():
    """Comments and empty lines mean nothing; Windows' line ends and a byte-order mark neither."""
    text = "\ufeff# films\r\nhttp://h/a\r\n\r\n  # more\r\nhttp://h/b \thttp://mirror/b\t\r\n"
    assert parse(text) == (Entry(("http://h/a",)), Entry(("http://h/b", "http://mirror/b")))


def test_options_belong_to_the_line_above():
    """Each of them, also in aria2's way for checksums; of those that come once the last counts."""
    (first, second) = parse(
        f"http://h/a\n out=x\n out=film.mkv\n\tdir = a//b/./c \n checksum=sha-256={SHA256}\n"
        f" md5={'cd' * 16}\n header=X-One: 1\n header=x-two: 2=3\n credential=archive\n connections=4\nhttp://h/b"
    )
    assert first == Entry(
        ("http://h/a",),
        name="film.mkv",
        folder="a/b/c",
        promises=(promise("sha256", SHA256, "order"), promise("md5", "cd" * 16, "order")),
        headers=(("X-One", "1"), ("X-Two", "2=3")),
        credential="archive",
        connections=4,
    )
    assert second == Entry(("http://h/b",))


def test_what_lists_for_aria2_have_most_often():
    """Its two numbers of connections hold both; its names for two headers are those headers."""
    text = (
        "http://h/a\n split=100\n max-connection-per-server=4\n user-agent=0\n user-agent=Films/1\n referer=http://h/\n"
    )
    (entry,) = parse(text)
    assert entry.connections == 4
    assert entry.headers == (("User-Agent", "Films/1"), ("Referer", "http://h/"))


@pytest.mark.parametrize(
    "option",
    [
        *("out=a/b", "out=..", "out=.", "out=a\\b", "out=", "dir=/etc", "dir=../x", "dir=a/../../b", "dir=~/x"),
        *("dir=\\x", "dir=a\\..\\..\\b", f"checksum={CANARY}", f"checksum=sha-256={CANARY}", f"sha256={CANARY}"),
        *(
            f"header={CANARY}",
            "header=Host: x",
            f"header=X: {CANARY}\x00",
            "connections=0",
            "connections=65",
            "split=0",
            "referer=*",
            "split=x",
            "connections=00089999",
            "connections=0001" + "9" * 5000,
        ),
        *("connections=²", f"connections={CANARY}", f"nonsense={CANARY}", f"{CANARY}=", CANARY),
        f"Authorization: Bearer {CANARY}=",
    ],
)
def test_what_is_no_option(option):
    """The line is named, and nothing of it quoted; the options that there are stand below."""
    with pytest.raises(InvalidRequest, match="line 2: ") as caught:
        parse(f"http://h/a\n {option}\n")
    assert CANARY not in caught.value.message + caught.value.hint
    assert "checksum" in caught.value.hint


def test_an_option_before_the_first_url():
    """It belongs to nothing."""
    with pytest.raises(InvalidRequest, match="line 1"):
        parse(" out=x\nhttp://h/a\n")


def test_the_first_ten_bad_lines_are_named():
    """More would scroll away."""
    with pytest.raises(InvalidRequest) as caught:
        parse("http://h/a\n" + " nonsense=1\n" * 15)
    assert [f"line {number}: " in caught.value.message for number in range(1, 14)] == [False] + [True] * 10 + [
        False
    ] * 2
    assert "and 5 more" in caught.value.message


@given(st.text(max_size=30), st.sampled_from(["out", "dir"]))
def test_no_name_leads_out_of_the_folder(value, option):
    """Whatever is taken is a way down."""
    with contextlib.suppress(InvalidRequest):
        (entry,) = parse(f"http://h/a\n {option}={value}\n")[:1]
        way = PurePosixPath(entry.folder) / (entry.name or "x")
        assert not way.is_absolute()
        assert ".." not in way.parts
        assert "\\" not in str(way)
