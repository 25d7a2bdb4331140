"""Metalink: mirrors and promises as the publisher wrote them, or a clear refusal."""

from __future__ import annotations

import contextlib
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.download import metalink
from headrace.download.metalink import LOWEST_PRIORITY, MetalinkFile, Mirror, parse
from headrace.download.proof import Promise
from headrace.errors import InvalidRequest
from headrace.model import Pieces
from headrace.source import safe_name

SHA256, SHA1, MD5 = "a1" * 32, "b2" * 20, "c3" * 16

FULL = f"""<?xml version="1.0" encoding="UTF-8"?>
<metalink xmlns="urn:ietf:params:xml:ns:metalink" xmlns:x="http://example.com/x">
  <published>2009-05-15T12:23:23Z</published>
  <file name="example.ext">
    <size>14471447</size>
    <identity>Example</identity>
    <language>en</language>
    <hash type="sha-1">{SHA1}</hash>
    <hash type="sha-256">{SHA256}</hash>
    <hash type="md4">{MD5}</hash>
    <pieces length="4194304" type="md5">{f"<hash>{MD5}</hash>" * 4}</pieces>
    <pieces length="8388608" type="sha-1"><hash>{SHA1}</hash><hash>{SHA1}</hash></pieces>
    <pieces length="1" type="md4"><hash>x</hash></pieces>
    <url location="fr">http://fr.example.com/example.ext</url>
    <url location="DE" priority="1">ftp://ftp.example.com/example.ext</url>
    <url priority="2">https://two.example.com/example.ext</url>
    <url location="de" priority="1"> https://de.example.com/example.ext </url>
    <x:url>http://example.com/foreign</x:url>
    <metaurl mediatype="torrent" priority="2">http://example.com/example.ext.torrent</metaurl>
  </file>
  <file name="two.ext"><url>http://example.com/two</url></file>
</metalink>""".encode()


def document(inner: str) -> bytes:
    """A Metalink 4 with these files."""
    return f'<metalink xmlns="urn:ietf:params:xml:ns:metalink">{inner}</metalink>'.encode()


def one_file(inner: str = "", name: str = "f", url: str = "<url>http://h/f</url>") -> bytes:
    """A Metalink 4 with one file that has a URL."""
    return document(f"<file name={quoteattr(name)}>{inner}{url}</file>")


def refusal(body: bytes) -> InvalidRequest:
    """The error that a document is refused with."""
    with pytest.raises(InvalidRequest) as caught:
        parse(body)
    assert caught.value.hint
    assert len(caught.value.message) < 300
    assert caught.value.message.isprintable()
    return caught.value


def test_a_publishers_metalink_is_read() -> None:
    """RFC 5854's own example, filled up: all that can be used, and foreign markup passed over."""
    first, second = parse(FULL)
    assert first == MetalinkFile(
        name="example.ext",
        size_bytes=14471447,
        mirrors=(
            Mirror("https://de.example.com/example.ext", 1, "de"),
            Mirror("https://two.example.com/example.ext", 2, None),
            Mirror("http://fr.example.com/example.ext", LOWEST_PRIORITY, "fr"),
        ),
        promises=(Promise("sha1", SHA1, "metalink"), Promise("sha256", SHA256, "metalink")),
        pieces=Pieces("sha1", 8388608, (SHA1, SHA1)),
    )
    assert second == MetalinkFile("two.ext", None, (Mirror("http://example.com/two"),), (), None)


names = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cn"]), min_size=1, max_size=30).filter(
    lambda name: bool(name.strip())
)
hashes = st.dictionaries(
    st.sampled_from([("sha-512", 128), ("sha-384", 96), ("sha-256", 64), ("blake3", 64), ("sha-1", 40), ("md5", 32)]),
    st.sampled_from("0123456789abcdefABCDEF"),
)


@settings(deadline=None)  # a busy machine's pauses are no finding
@given(names, st.none() | st.integers(0, 1 << 50), hashes, st.lists(st.integers(1, LOWEST_PRIORITY), min_size=1))
def test_a_metalink_comes_back_as_it_was_written(
    name: str, size: int | None, types: dict[tuple[str, int], str], priorities: list[int]
) -> None:
    """Size, digests and the order of the mirrors survive; the name becomes a harmless label."""
    inner = "" if size is None else f"<size>{size}</size>"
    inner += "".join(f'<hash type="{kind}">{digit * digits}</hash>' for (kind, digits), digit in types.items())
    inner += "".join(f'<url priority="{one}">http://h/{place}</url>' for place, one in enumerate(priorities))
    (found,) = parse(one_file(inner, name, url=""))
    assert found.name == safe_name(name)
    assert found.size_bytes == size
    assert {(one.algorithm, one.value) for one in found.promises} == {
        (kind.replace("-", ""), (digit * digits).lower()) for (kind, digits), digit in types.items()
    }
    assert [one.priority for one in found.mirrors] == sorted(priorities)
    assert {one.url for one in found.mirrors} == {f"http://h/{place}" for place in range(len(priorities))}


@settings(deadline=None)  # a busy machine's pauses are no finding
@given(st.integers(0, 40), st.integers(1, 12))
def test_pieces_that_make_up_the_size_are_taken_and_others_refused(size: int, length: int) -> None:
    """RFC 5854, section 4.1.3.2: all of the same length but the last, which is the rest."""
    needed = -(-size // length)
    for count in (needed - 1, needed, needed + 1):
        pieces = (
            f'<size>{size}</size><pieces length="{length}" type="md5">{f"<hash>{MD5}</hash>" * max(count, 0)}</pieces>'
        )
        if count == needed and count > 0:
            assert parse(one_file(pieces))[0].pieces == Pieces("md5", length, (MD5,) * count)
        else:
            assert "pieces" in refusal(one_file(pieces)).message


def test_pieces_without_a_size_are_kept() -> None:
    """Whether they fit is known once the server has said the size."""
    body = one_file(f'<pieces length="5" type="SHA-1"><hash>{SHA1.upper()}</hash></pieces>')
    assert parse(body)[0].pieces == Pieces("sha1", 5, (SHA1,))


@pytest.mark.parametrize(
    ("written", "label"),
    [
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("debian-amd64/sarge/Contents.gz", "Contents.gz"),
        (".bashrc", "bashrc"),
        ("a&#10;b&#x202E;c", "a b c"),
        ("..", "untitled"),
        ("x" * 1000, "x" * 200),
    ],
)
def test_a_hostile_name_becomes_a_label(written: str, label: str) -> None:
    """It has no folder, no line break, no dots in front, and an end."""
    assert parse(document(f'<file name="{written}"><url>http://h/f</url></file>'))[0].name == label


@pytest.mark.parametrize(
    ("priority", "expected"),
    [
        ("1", 1),
        (" 7 ", 7),
        ("999999", LOWEST_PRIORITY),
        ("0", LOWEST_PRIORITY),
        ("-1", LOWEST_PRIORITY),
        ("1000000", LOWEST_PRIORITY),
        ("x", LOWEST_PRIORITY),
        ("٣", LOWEST_PRIORITY),
        ("", LOWEST_PRIORITY),
        ("9" * 5000, LOWEST_PRIORITY),
    ],
)
def test_an_odd_priority_is_the_lowest(priority: str, expected: int) -> None:
    """The mirror is still good; it is only not preferred."""
    assert parse(one_file(url=f'<url priority="{priority}">http://h/f</url>'))[0].mirrors[0].priority == expected


@pytest.mark.parametrize("location", ["", "d", "deu", "d1", "../", "ßß"])
def test_a_location_that_is_no_country_is_dropped(location: str) -> None:
    """RFC 5854, section 4.2.16.2: two letters."""
    assert parse(one_file(url=f'<url location="{location}">http://h/f</url>'))[0].mirrors == (Mirror("http://h/f"),)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "f",
        "/f",
        "ftp://h/f",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "s3://bucket/key",
        "asset:" + "a" * 64,
        "http://",
        "http://[::1",
        "http://h:99999/f",
        "http://h/a b",
        "http://h/a&#10;b",
        "http://h/" + "a" * 9000,
        "<b>http://h/f</b>",
    ],
)
def test_a_url_that_cannot_be_used_is_dropped(url: str) -> None:
    """Other schemes, no host, broken or endless: the other mirrors count, and none is not enough."""
    good = "<url>https://good/f</url>"
    assert parse(one_file(url=f"<url>{url}</url>{good}"))[0].mirrors == (Mirror("https://good/f"),)
    assert "no usable URL" in refusal(one_file(url=f"<url>{url}</url>")).message


def test_a_mirror_that_is_named_twice_counts_once() -> None:
    """With its best priority: two connections to one server are not two mirrors."""
    urls = '<url>http://h/f</url><url priority="3">http://h/f#x</url><url priority="5">http://h/f</url>'
    assert parse(one_file(url=urls))[0].mirrors == (Mirror("http://h/f", 3),)


def test_a_digest_that_is_named_twice_counts_once_and_contradictions_stay() -> None:
    """Two values for one algorithm both stand, so that the check fails clearly."""
    twice = f'<hash type="md5">{MD5}</hash>' * 2
    assert parse(one_file(twice))[0].promises == (Promise("md5", MD5, "metalink"),)
    both = parse(one_file(f'{twice}<hash type="md5">{"0" * 32}</hash>'))[0].promises
    assert [one.value for one in both] == [MD5, "0" * 32]


def test_a_hash_without_a_known_type_is_passed_over() -> None:
    """No type, or one that can't be computed here: it says nothing, whatever its text."""
    inner = f'<hash>{SHA256}</hash><hash type="sha-224">x</hash><hash type="">{MD5}</hash>'
    assert parse(one_file(inner))[0].promises == ()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not well-formed XML (line 1"),
        (b"hello", "not well-formed"),
        (b"\x00\xff\xfe", "not well-formed"),
        (FULL[:-5], "not well-formed"),
        (b"<metalink>&nbsp;</metalink>", "not well-formed"),
        (b'<?xml version="1.0" encoding="foo"?><metalink/>', "encoding"),
        (b'<?xml version="1.0" encoding="hex"?><metalink/>', "encoding"),
        (b'<?xml version="1.0" encoding="utf-7"?><metalink/>', "encoding"),
        (b"<rss/>", "no Metalink 4"),
        (b"<metalink/>", "no Metalink 4"),
        (b'<metalink xmlns="http://www.metalinker.org/" version="3.0"><files/></metalink>', "version 3"),
        (document(""), "no file"),
        (document("<x><file name='f'><url>http://h/f</url></file></x>"), "no file"),
        (document("<file><url>http://h/f</url></file>"), "without a name"),
        (document("<file name=' '><url>http://h/f</url></file>"), "without a name"),
        (one_file(url=""), "no usable URL for 'f'"),
        (one_file(url='<metaurl mediatype="torrent">http://h/f.torrent</metaurl>'), "no usable URL"),
        (one_file('<hash type="sha-256">abc</hash>'), "SHA-256 has 64"),
        (one_file('<hash type="sha-256"></hash>'), "not hexadecimal"),
        (one_file(f'<hash type="sha-256">{SHA1}</hash>'), "this one has 40"),
        (one_file(f'<pieces length="5" type="sha-1"><hash>{MD5}</hash></pieces>'), "this one has 32"),
        (one_file('<pieces length="5" type="sha-1"></pieces>'), "0 pieces"),
        (one_file(f'<pieces type="sha-1"><hash>{SHA1}</hash></pieces>'), "no length"),
        (one_file(f'<pieces length="0" type="sha-1"><hash>{SHA1}</hash></pieces>'), "no length"),
        (one_file(f'<pieces length="-5" type="sha-1"><hash>{SHA1}</hash></pieces>'), "no length"),
        (one_file(f'<pieces length="{"9" * 5000}" type="sha-1"><hash>{SHA1}</hash></pieces>'), "no length"),
    ],
)
def test_what_is_no_usable_metalink_is_refused(body: bytes, says: str) -> None:
    """Each refusal names what is wrong, in one line, with a hint."""
    assert says in refusal(body).message


@pytest.mark.parametrize("size", ["", "x", "-1", "1.5", "0x10", "1e9", "٣", "9" * 19, "9" * 5000, "<b>5</b>"])
def test_a_size_that_is_no_number_is_refused(size: str) -> None:
    """It would override what the server says, so it isn't guessed."""
    assert "size of 'f'" in refusal(one_file(f"<size>{size}</size>")).message


def test_two_sizes_are_refused() -> None:
    """RFC 5854, section 4.1.2: at most one."""
    assert "one number" in refusal(one_file("<size>5</size><size>6</size>")).message


@pytest.mark.parametrize(("first", "second"), [("f", "f"), ("amd64/f", "arm64/f"), ("f", "../f"), ("f", " f")])
def test_two_files_with_the_same_harmless_name_are_refused(first: str, second: str) -> None:
    """One would be written over the other."""
    body = "".join(f'<file name="{name}"><url>http://h/f</url></file>' for name in (first, second))
    assert "two files called 'f'" in refusal(document(body)).message


@pytest.mark.parametrize(
    "dtd",
    [
        '<!DOCTYPE metalink [<!ENTITY a "b">]>',
        '<!DOCTYPE metalink [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE metalink SYSTEM "http://127.0.0.1/x.dtd">',
        "<!DOCTYPE metalink [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;'>]>",
    ],
)
def test_a_dtd_is_never_read(dtd: str) -> None:
    """No entity is expanded and no file or address is opened."""
    assert "DTD" in refusal(dtd.encode() + one_file()).message


def test_utf_16_is_read() -> None:
    """XML processors must know it (XML 1.0, section 2.2)."""
    text = '<?xml version="1.0" encoding="UTF-16"?>' + one_file(name="ü").decode()
    assert parse(text.encode("utf-16"))[0].name == "ü"


def test_too_many_bytes_files_and_elements_are_refused_before_they_cost_anything() -> None:
    """Each limit is named, and a full document of tags is not even parsed."""
    padding = b" " * metalink.MAX_METALINK_BYTES
    assert "larger" in refusal(one_file() + padding).message
    assert "larger" in refusal(b"<a>" * (metalink.MAX_METALINK_BYTES // 3)).message
    assert "larger" in refusal(b"<a " + b" ".join(b"a%d=''" % one for one in range(metalink.MAX_MARKS)) + b"/>").message
    files = "".join(f'<file name="{one}"><url>http://h/{one}</url></file>' for one in range(metalink.MAX_FILES))
    assert len(parse(document(files))) == metalink.MAX_FILES
    assert "more than 10000 files" in refusal(document(files + "<file/>")).message


def test_deep_nesting_is_no_way_in() -> None:
    """Elements within elements, as many as the limit lets through, cost neither the stack nor the process."""
    assert "no Metalink 4" in refusal(b"<a>" * 400_000 + b"</a>" * 400_000).message


def test_many_pieces_are_read() -> None:
    """A film of 40 GiB in pieces of 256 KiB is below the limits."""
    count = 160_000
    body = one_file(f'<pieces length="262144" type="sha-256">{f"<hash>{SHA256}</hash>" * count}</pieces>')
    pieces = parse(body)[0].pieces
    assert pieces is not None
    assert len(pieces.values) == count


@settings(deadline=None)  # a busy machine's pauses are no finding
@given(st.binary(max_size=100) | st.text(max_size=100).map(lambda text: one_file(escape(text), text)))
def test_no_document_breaks_the_reading(body: bytes) -> None:
    """Whatever it holds, it is a Metalink or refused as ``InvalidRequest``."""
    with contextlib.suppress(InvalidRequest):
        assert parse(body)


@settings(deadline=None)  # a busy machine's pauses are no finding
@given(st.integers(0, len(FULL)), st.integers(0, len(FULL)), st.binary(max_size=8))
def test_no_damage_breaks_the_reading(start: int, length: int, patch: bytes) -> None:
    """A document with a hole, or with bytes of something else in it, too."""
    with contextlib.suppress(InvalidRequest):
        assert parse(FULL[:start] + patch + FULL[start + length :])
