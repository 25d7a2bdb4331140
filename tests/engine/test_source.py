"""Sources: what a user typed becomes a source or a clear refusal; names from outside are harmless."""

from __future__ import annotations

import contextlib
from pathlib import PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import InvalidSource
from headrace.model import SourceKind
from headrace.source import parse, parse_ordered, redact, safe_name, title_of


@pytest.mark.parametrize(
    ("text", "kind", "locator", "name"),
    [
        ("http://host/a%20b.mp4#t=1", SourceKind.URL, "http://host/a%20b.mp4", "a b.mp4"),
        (" https://host/ ", SourceKind.URL, "https://host/", "host"),
        ("https://host/a/%2e%2e%2fetc%2fpasswd", SourceKind.URL, "https://host/a/%2e%2e%2fetc%2fpasswd", "passwd"),
        ("asset:ABCDEF12", SourceKind.ASSET, "abcdef12", "abcdef12"),
        ("file:///srv/my%20films/a.mp4", SourceKind.FILE, "/srv/my films/a.mp4", "a.mp4"),
        ("file://localhost/srv/a.mp4", SourceKind.FILE, "/srv/a.mp4", "a.mp4"),
        ("s3://bucket/a/film.mp4", SourceKind.S3, "s3://bucket/a/film.mp4", "film.mp4"),
        (
            "upload:6f1c1c34-5c3a-4c0e-9e5b-1f0b8f4b2a11",
            SourceKind.UPLOAD,
            "6f1c1c34-5c3a-4c0e-9e5b-1f0b8f4b2a11",
            "upload-6f1c1c34",
        ),
    ],
)
def test_what_is_understood(text, kind, locator, name):
    """URLs, uploads, assets and objects."""
    source = parse(text)
    assert (source.kind, source.locator, source.name) == (kind, locator, name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "film.mp4",
        "/etc/passwd",
        "file://elsewhere/film.mp4",
        "file:film.mp4",
        "file:///srv/../etc/passwd",
        "file:///srv/%2e%2e/etc/passwd",
        "file:///srv/a%00b",
        "ftp://host/x",
        "http://",
        "http:///x",
        "http://host:0/x",
        "http://host:99999/x",
        "http://ho st/x",
        "http://host/a\x00b",
        "http://host/a\u202eb",
        "http://[::1",
        "asset:xyz",
        "asset:",
        "upload:1",
        "s3://B/x",
        "s3://bucket",
        "s3://bucket/",
        "http://host/" + "a" * 9000,
    ],
)
def test_what_is_refused(text):
    """With a line that names the source, and what would be right."""
    with pytest.raises(InvalidSource) as caught:
        parse(text)
    assert caught.value.hint or caught.value.message
    assert "\n" not in caught.value.message


def test_secrets_are_not_shown():
    """User info and the values of the query are for the download only."""
    source = parse("https://user:secret@host/film.mp4?X-Amz-Signature=abc&empty")
    assert source.shown == "https://host/film.mp4?X-Amz-Signature=…&empty"
    assert "secret" in source.locator


def test_secrets_are_not_in_errors():
    """Not even those of a source that is refused."""
    with pytest.raises(InvalidSource) as caught:
        parse("ftp://user:secret@host/x?token=hidden")
    assert "secret" not in caught.value.message
    assert "hidden" not in caught.value.message


@given(st.text(max_size=400))
def test_a_safe_name_is_one_harmless_part(text):
    """Whatever comes in: one path part, printable, not hidden, not empty; again, it is the same."""
    name = safe_name(text)
    assert name
    assert len(name) <= 200
    assert PurePath(name).parts == (name,)
    assert not name.startswith(".")
    assert name.isprintable()
    assert safe_name(name) == name


@given(st.text(max_size=100))
def test_any_text_is_parsed_or_refused(text):
    """No text makes anything but a source or an ``InvalidSource``."""
    with contextlib.suppress(InvalidSource):
        assert parse(text).locator


def test_titles_read_well():
    """An extension and underscores are for machines."""
    assert title_of("my_holiday_film.mp4") == "my holiday film"
    assert title_of("v1.0 final") == "v1.0 final"
    assert title_of(".mp4") == ".mp4"


def test_redacting_keeps_the_path():
    """So that people recognise their source."""
    assert redact("http://h/p/q?a=1#f") == "http://h/p/q?a=…"


@pytest.mark.parametrize(
    "text", ["http://ada:hunter2@h/f", "https://ada@h/", "http://@h/", " http://:hunter2@[::1]/f "]
)
def test_an_order_holds_no_login(text):
    """It would be stored; the hint says what to do instead. What a user types for ``fetch`` may have one."""
    assert parse(text).kind is SourceKind.URL
    with pytest.raises(InvalidSource) as caught:
        parse_ordered(text)
    assert "hunter2" not in caught.value.message + caught.value.hint
    assert "credential" in caught.value.hint


def test_an_order_takes_everything_else():
    """As it is parsed."""
    for text in ("http://h/a@b?c=d@e", "asset:abcdef12", "s3://bucket/a@b"):
        assert parse_ordered(text) == parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://user:hunter2#x@host/f",
        "http://user:hunter2@ex\u2100mple.com/",
        "ftp://user:hun@ter2@host/hunter2?hunter2",
    ],
)
def test_an_error_quotes_no_password(text):
    """Also where the URL can't be read, and the reason would quote it."""
    with pytest.raises(InvalidSource) as caught:
        parse(text)
    assert "hunter2@" not in caught.value.message
    assert "ter2" not in caught.value.message.replace("/hunter2", "")


def test_a_long_name_keeps_its_extension():
    """Cut by bytes, since file systems count these."""
    name = safe_name("\u6620" * 300 + ".mp4")
    assert name.endswith(".mp4")
    assert len(name.encode()) <= 200
