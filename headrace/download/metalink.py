"""Metalink 4: one document that names files, their mirrors, sizes and digests. ``parse`` is pure.

The format is RFC 5854 (June 2010), https://www.rfc-editor.org/rfc/rfc5854. What always holds:

1. No DTD is read and no entity is expanded.
2. A name is a label that ``safe_name`` made, unique in its document, and never a path; the
   RFC's ``folder/file`` (section 4.1.2.1) loses its folder.
3. Markup of other vocabularies, and what this version does not know, is passed over
   (section 5.3). What it knows and can't make sense of is refused rather than guessed:
   a size or digest that is dropped in silence is a check that the user believes in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from headrace import source
from headrace.download import ranges
from headrace.download.proof import ALGORITHMS, Promise, promise
from headrace.errors import InvalidRequest, InvalidSource
from headrace.model import Pieces, SourceKind

MAX_METALINK_BYTES = 16 * 1024 * 1024
"""As a feed's. A SHA-256 of a piece has 79 bytes with its tags and line end, so this is room for
212,000 pieces: 800 GiB in pieces of 4 MiB, more than publishers describe."""

MAX_FILES = 10_000
"""Of one document: each becomes an item of an order, and a directory's listing has fewer."""

MAX_MARKS = 1_000_000
"""Of ``<`` and ``=``: each element and attribute costs the parser 100 bytes and more, so that 16 MiB of
nothing but tags took 0.7 GiB of memory. 16 MiB of the shortest hashes, MD5, have 750,000 of them."""

LOWEST_PRIORITY = 999_999
"""RFC 5854, section 4.2.16.1: also that of a URL without one."""

HASH_TYPES = {
    "sha-512": "sha512",
    "sha-384": "sha384",
    "sha-256": "sha256",
    "blake3": "blake3",
    "sha-1": "sha1",
    "md5": "md5",
}
"""IANA, Hash Function Textual Names (RFC 5854, section 4.2.4.1), and BLAKE3, which has no entry yet."""

_NS = "{urn:ietf:params:xml:ns:metalink}"
_VERSION_3 = "{http://www.metalinker.org/}metalink"
_NUMBER = re.compile(r"[0-9]{1,18}")
"""Without sign, and below 2^63, which the catalogue's columns end at."""
_COUNTRY = re.compile(r"[A-Za-z]{2}")

_HINT = "Check that this is the publisher's Metalink file (.meta4), and that it came down whole."


@dataclass(frozen=True, slots=True)
class Mirror:
    """One place that has the file."""

    url: str
    """http or https; it may hold credentials."""
    priority: int = LOWEST_PRIORITY
    """1 is the best, and several mirrors may have the same."""
    location: str | None = None
    """The server's country, ISO 3166-1 alpha-2 in lower case."""


@dataclass(frozen=True, slots=True)
class MetalinkFile:
    """One file that a Metalink describes."""

    name: str
    """A harmless label; no path."""
    size_bytes: int | None
    """Of the whole file; it overrides what a server says (section 4.2.14)."""
    mirrors: tuple[Mirror, ...]
    """At least one, the best priority first, each URL once."""
    promises: tuple[Promise, ...]
    """Of the whole file, with the origin ``metalink``."""
    pieces: Pieces | None
    """With the strongest algorithm that the document has; their number fits where the size is known."""


def read(path: Path) -> tuple[MetalinkFile, ...]:
    """Return the files that a Metalink on this machine describes; raises ``InvalidRequest``."""
    try:
        with path.open("rb") as file:
            return parse(file.read(MAX_METALINK_BYTES + 1))
    except OSError as error:
        raise InvalidRequest(f"{path} can't be read: {error.strerror}") from error


def parse(body: bytes) -> tuple[MetalinkFile, ...]:
    """Return the files that a Metalink 4 document describes, in its order; at least one.

    White space around values is forgiven, though section 2 forbids it: generators write it.
    Raises ``InvalidRequest`` where the document is not well-formed, not Metalink 4, too large,
    or describes a file that can't be downloaded or checked as it says.
    """
    root = _root(body)
    files = [_file(element) for element in _children(root, "file")]
    if not files:
        raise InvalidRequest("the Metalink describes no file", hint=_HINT)
    seen: set[str] = set()
    for one in files:
        if one.name in seen:
            raise InvalidRequest(
                f"the Metalink has two files called {one.name!r}",
                hint="Names are told apart without their folders here; order the files by their own URLs.",
            )
        seen.add(one.name)
    return tuple(files)


def _root(body: bytes) -> Element:
    """Return the document's root, which is a Metalink's and of a size that is safe to work with."""
    if len(body) > MAX_METALINK_BYTES or body.count(b"<") + body.count(b"=") > MAX_MARKS:
        raise InvalidRequest(
            f"the Metalink is larger than {MAX_METALINK_BYTES} bytes or {MAX_MARKS} elements", hint=_HINT
        )
    try:
        root: Element = ElementTree.fromstring(body, forbid_dtd=True)
    except DefusedXmlException as error:
        raise InvalidRequest("the Metalink has a DTD, which is never read", hint=_HINT) from error
    except ParseError as error:
        line, column = error.position
        raise InvalidRequest(
            f"the Metalink is not well-formed XML (line {line}, column {column})", hint=_HINT
        ) from error
    except (LookupError, ValueError) as error:  # expat asks Python's codecs for encodings it does not know
        raise InvalidRequest("the Metalink is in an encoding that can't be read", hint="Save it as UTF-8.") from error
    if root.tag == _VERSION_3:
        raise InvalidRequest(
            "this is a Metalink of version 3, and version 4 is needed",
            hint="Most publishers offer both: look for a .meta4 file beside the .metalink one.",
        )
    if root.tag != f"{_NS}metalink":
        raise InvalidRequest("the document is XML, but no Metalink 4 (RFC 5854)", hint=_HINT)
    if len(_children(root, "file")) > MAX_FILES:
        raise InvalidRequest(f"the Metalink describes more than {MAX_FILES} files", hint="Split it into several.")
    return root


def _file(element: Element) -> MetalinkFile:
    if not element.get("name", "").strip():
        raise InvalidRequest("the Metalink has a file without a name", hint=_HINT)  # section 4.1.2.1: it must
    name = source.safe_name(element.get("name", ""))
    mirrors = _mirrors(_children(element, "url"))
    if not mirrors:
        raise InvalidRequest(
            f"the Metalink has no usable URL for {name!r}",
            hint="Only http and https mirrors can be used; torrents and ftp can't.",
        )
    size = _size(name, _children(element, "size"))
    return MetalinkFile(
        name=name,
        size_bytes=size,
        mirrors=mirrors,
        promises=tuple(dict.fromkeys(_promises(element))),
        pieces=_strongest_pieces(_pieces(name, size, one) for one in _children(element, "pieces")),
    )


def _mirrors(elements: Iterable[Element]) -> tuple[Mirror, ...]:
    found = [one for one in map(_mirror, elements) if one is not None]
    first: dict[str, Mirror] = {}
    for one in sorted(found, key=lambda one: one.priority):
        first.setdefault(one.url, one)
    return tuple(first.values())


def _mirror(element: Element) -> Mirror | None:
    """Return a mirror, or ``None`` for a URL that can't be used; an odd priority is the lowest."""
    try:
        named = source.parse(element.text or "")
    except InvalidSource:
        return None
    if named.kind is not SourceKind.URL:
        return None
    said = _number(element.get("priority"))
    priority = said if said is not None and 0 < said <= LOWEST_PRIORITY else LOWEST_PRIORITY
    country = (element.get("location") or "").strip()
    return Mirror(named.locator, priority, country.lower() if _COUNTRY.fullmatch(country) else None)


def _size(name: str, elements: list[Element]) -> int | None:
    """Section 4.1.2: at most one size; section 4.2.14: a non-negative number."""
    if not elements:
        return None
    size = _number(elements[0].text)
    if size is None or len(elements) > 1:
        raise InvalidRequest(f"the Metalink's size of {name!r} is not one number of bytes", hint=_HINT)
    return size


def _promises(element: Element) -> Iterator[Promise]:
    """Section 4.2.4: a hash with a type is of the whole file."""
    for one in _children(element, "hash"):
        algorithm = _algorithm(one)
        if algorithm is not None:
            yield promise(algorithm, one.text or "", "metalink")


def _pieces(name: str, size_bytes: int | None, element: Element) -> Pieces | None:
    """Section 4.1.3: the hashes have the type of the pieces; ``None`` for a type that isn't known."""
    algorithm = _algorithm(element)
    if algorithm is None:
        return None
    length = _number(element.get("length"))
    if not length:
        raise InvalidRequest(f"the Metalink's pieces of {name!r} have no length in bytes", hint=_HINT)
    values = tuple(promise(algorithm, one.text or "", "metalink").value for one in _children(element, "hash"))
    pieces = Pieces(algorithm, length, values)
    if not values or (size_bytes is not None and not pieces.make_up(size_bytes)):
        raise InvalidRequest(
            f"the Metalink has {len(values)} pieces of {length} bytes for {name!r}, which do not make up its size",
            hint=_HINT,
        )
    if ranges.block_bytes(None, length) > ranges.MAX_UNDIVIDED_PIECE:
        raise InvalidRequest(
            f"the Metalink's pieces of {name!r} have {length} bytes, which can't be divided into smaller blocks",
            hint=_HINT,
        )
    return pieces


def _strongest_pieces(found: Iterable[Pieces | None]) -> Pieces | None:
    known = [one for one in found if one is not None]
    return min(known, key=lambda one: list(ALGORITHMS).index(one.algorithm), default=None)


def _algorithm(element: Element) -> str | None:
    return HASH_TYPES.get((element.get("type") or "").strip().lower())


def _children(element: Element, name: str) -> list[Element]:
    return element.findall(f"{_NS}{name}")


def _number(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if _NUMBER.fullmatch(text) else None
