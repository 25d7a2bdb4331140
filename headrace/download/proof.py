"""Proof: which digests a whole file was promised to have, and whether it has them. Pure, no I/O.

A ``Promise`` is one digest and who gave it. They come from the user's order, from the fields
of an HTTP answer (``from_headers``), from a checksum file beside the source (``parse_sums``)
and from a Metalink; ``chosen`` says which are worth computing, ``new`` computes, ``check``
compares. What always holds:

1. A value is lower-case hex of its algorithm's length. What a server sends that is no digest
   at all says nothing, so it can't fail a good download; what a user or a file that the user
   chose says wrongly is refused, so that no check is dropped in silence.
2. Only promises about the whole file become a ``Promise``: never one of a part, of parts'
   digests, or of an encoded form.
3. A promise that was chosen is never skipped: ``check`` holds each of them or raises.

Fields: RFC 9530 (February 2024) ``Repr-Digest`` and ``Content-Digest``, RFC 3230 (January 2002)
``Digest``, RFC 1864 (October 1995) ``Content-MD5``, and those of Amazon S3 and Google Cloud
Storage. Checksum files: GNU coreutils' manual, "cksum output modes", and BSD's ``md5(1)``.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from blake3 import blake3

from headrace.errors import ChecksumMismatch, InvalidRequest

ALGORITHMS = {
    "sha512": 128,
    "sha384": 96,
    "sha256": 64,
    "blake3": 64,
    "sha1": 40,
    "md5": 32,
    "crc64nvme": 16,
    "crc32c": 8,
    "crc32": 8,
}
"""Name to hexadecimal digits; the strongest first. From ``sha1`` on they find accidents, not attackers."""

MAX_SUMS_BYTES = 1024 * 1024
"""Of a checksum file; one line has about 100 bytes, and the largest published lists some 10,000 files."""

ASKED = ("order", "sidecar", "metalink")
"""Origins that the user chose, the most direct first; every other is what the server says of itself."""

_TITLES = {
    "sha512": "SHA-512",
    "sha384": "SHA-384",
    "sha256": "SHA-256",
    "blake3": "BLAKE3",
    "sha1": "SHA-1",
    "md5": "MD5",
    "crc64nvme": "CRC-64/NVME",
    "crc32c": "CRC-32C",
    "crc32": "CRC-32",
}
_CRCS = {"crc64nvme": "CRC64-NVME", "crc32c": "CRC32-ISCSI", "crc32": "CRC32-ISO-HDLC"}
"""As G. Cook's catalogue of parametrised CRC algorithms calls them."""

_SAID = {
    "order": "as ordered",
    "sidecar": "as the checksum file says",
    "metalink": "as the Metalink says",
    "upload": "as it was when it arrived",
    "repr-digest": "as the server's Repr-Digest says",
    "digest": "as the server's Digest says",
    "content-digest": "as the server's Content-Digest says",
    "content-md5": "as the server's Content-MD5 says",
}
_HEX = re.compile(r"[0-9A-Fa-f]+")

Bytes = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Promise:
    """A digest that the whole file must have."""

    algorithm: str
    """One of ``ALGORITHMS``."""
    value: str
    """Lower-case hex."""
    origin: str
    """One of ``ASKED``, ``upload``, or the lower-case name of the field that said so."""

    @property
    def label(self) -> str:
        """How it is recorded once it holds, as ``sha256:order``."""
        return f"{self.algorithm}:{self.origin}"


class Hasher(Protocol):
    """A digest in the making: hashlib's, BLAKE3's, and the CRCs in their form."""

    def update(self, data: Bytes, /) -> object:
        """Take the next bytes."""

    def hexdigest(self) -> str:
        """Return the digest of all bytes so far in lower-case hex."""


class _Crc:
    __slots__ = ("_digits", "_model", "_value")

    def __init__(self, algorithm: str) -> None:
        import anycrc  # rarely wanted, so it costs nothing before

        self._model = anycrc.Model(_CRCS[algorithm])
        self._digits = ALGORITHMS[algorithm]
        self._value: int | None = None

    def update(self, data: Bytes, /) -> None:
        self._value = self._model.calc(data, self._value)

    def hexdigest(self) -> str:
        value = self._model.calc(b"") if self._value is None else self._value
        return f"{value:0{self._digits}x}"


def new(algorithm: str) -> Hasher:
    """Return a fresh digest of one of ``ALGORITHMS``; raises ``ValueError`` for another name."""
    if algorithm not in ALGORITHMS:
        raise ValueError(f"{algorithm} is none of {', '.join(ALGORITHMS)}")
    if algorithm == "blake3":
        return blake3()
    if algorithm in _CRCS:
        return _Crc(algorithm)
    return hashlib.new(algorithm, usedforsecurity=False)


def promise(algorithm: str, text: str, origin: str) -> Promise:
    """Return the promise that a user's or a file's words make, checked.

    The name may have dashes and capitals (``SHA-256``), the hex capitals and spaces around it.
    Raises ``InvalidRequest`` for an unknown name and for hex that isn't, or isn't of its length.
    """
    name, value = algorithm.strip().lower().replace("-", ""), text.strip().lower()
    digits = ALGORITHMS.get(name)
    if digits is None:
        raise InvalidRequest(
            f"{algorithm[:40]!r} is no checksum that can be computed here", hint=f"Known are {', '.join(ALGORITHMS)}."
        )
    if _HEX.fullmatch(value) and len(value) == digits:
        return Promise(name, value, origin)
    title = _TITLES[name]
    hint = f"A {title} has {digits} hexadecimal digits (0-9, a-f); copy it again from where it is published."
    if not _HEX.fullmatch(value):
        raise InvalidRequest(f"{value[:40]!r} is no {title}: it is not hexadecimal", hint=hint)
    alike = [_TITLES[other] for other, length in ALGORITHMS.items() if length == len(value)]
    if alike:
        hint = f"It is as long as a {' or a '.join(alike)}; say which it is, or copy the {title} again."
    raise InvalidRequest(f"a {title} has {digits} hexadecimal digits, and this one has {len(value)}", hint=hint)


def strongest(promises: Iterable[Promise]) -> Promise | None:
    """Return the promise with the strongest algorithm (the first of equals), or ``None`` where there is none."""
    return min(promises, key=lambda one: list(ALGORITHMS).index(one.algorithm), default=None)


def chosen(promises: Iterable[Promise]) -> tuple[Promise, ...]:
    """Return the promises to hold a file to: all that the user asked for, and the server's own strongest.

    The same digest counts once, by its most direct origin. Where two contradict each other
    (one algorithm, two values) both stay, also when both are the server's: one is a lie or a
    mistake, and ``check`` says so.
    """
    promises = tuple(promises)
    kept = sorted((one for one in promises if one.origin in ASKED), key=lambda one: ASKED.index(one.origin))
    offered = [one for one in promises if one.origin not in ASKED]
    best = strongest(offered)
    kept += [one for one in offered if best is not None and one.algorithm == best.algorithm]
    first: dict[tuple[str, str], Promise] = {}
    for one in kept:
        first.setdefault((one.algorithm, one.value), one)
    return tuple(first.values())


def check(promises: Iterable[Promise], digests: Mapping[str, str]) -> tuple[str, ...]:
    """Return the labels of the promises, all of which hold for ``digests`` (algorithm to lower-case hex).

    Raises ``ChecksumMismatch`` for the first that doesn't; a retry of the same source rarely
    helps. A digest that is missing is the caller's mistake and a ``KeyError``.
    """
    labels = []
    for one in promises:
        found = digests[one.algorithm]
        if found != one.value:
            said = _SAID.get(one.origin, f"as the server's {one.origin} says")
            raise ChecksumMismatch(
                f"the {_TITLES[one.algorithm]} is {found}, not {one.value} {said}",
                algorithm=one.algorithm,
                found=found,
                promised=one.value,
                origin=one.origin,
            )
        labels.append(one.label)
    return tuple(labels)


# --- what an HTTP answer promises ---

_DIGEST_FIELDS = {"sha-512": "sha512", "sha-256": "sha256", "sha": "sha1", "md5": "md5", "crc32c": "crc32c"}
"""IANA, Hash Algorithms for HTTP Digest Fields (RFC 9530, section 7.2); the others can't be computed here."""

_INSTANCE_DIGESTS = {"sha-512": "sha512", "sha-256": "sha256", "md5": "md5"}
"""IANA, HTTP Digest Algorithm Values: the names of RFC 3230's ``Digest`` (RFC 5843 added the SHA-2 ones)."""

_SF_STRING = re.compile(r'"(?:[^"\\]|\\.)*"?')
"""A quoted string, where commas separate nothing; an unclosed one runs to the end, in one step."""

_SF_BYTES = re.compile(r":([A-Za-z0-9+/=]*):(?:;.*)?")
"""A byte sequence and its parameters, which no digest has (RFC 9651, sections 3.1.2 and 3.3.5)."""


def from_headers(headers: Mapping[str, str], *, whole: bool, ranged: bool = False) -> tuple[Promise, ...]:
    """Return what an HTTP answer promises of the whole file, several promises in no special order.

    ``whole`` says that the answer's body is all of the file, unencoded, and ``ranged`` that it is
    a 206 nevertheless. ``headers`` may have names in any case, and several fields of a name joined
    by commas. Malformed and unknown promises, and those of a wrong length, are ignored.

    * ``Repr-Digest`` and the ``Digest`` it replaces are of the whole representation, also on a
      206 (RFC 9530, section 3 and appendix B.3, February 2024; RFC 3230, section 4.3.2).
    * ``Content-Digest`` and ``Content-MD5`` are of this message's content (RFC 9530, section 2;
      RFC 1864), so they count where ``whole`` only.
    * ``x-amz-checksum-*`` likewise: to a range that fits one part, S3 answers with that part's
      checksum (S3 User Guide, Checking object integrity, "Part-level checksums"), and to
      ``bytes=0-`` of a composite object it left out the telling ``-N`` (boto/botocore#3346,
      January 2025). So on a 206 they count only where ``x-amz-checksum-type`` says that they are the
      object's. Composite ones, checksums of the parts' checksums, never count.
    * ``x-goog-hash`` is of the object as it is stored, also on a 206; an object stored encoded
      may be decoded on its way (Cloud Storage, Transcoding of gzip-compressed files).
    """
    fields = {name.lower(): value for name, value in headers.items()}
    found = [*_from_dictionary(fields, "repr-digest"), *_from_digest(fields), *_from_google(fields)]
    if whole:
        found += [*_from_dictionary(fields, "content-digest"), *_from_amazon(fields, ranged=ranged)]
        found += [_decoded("md5", fields.get("content-md5", ""), "content-md5")]
    return tuple(dict.fromkeys(one for one in found if one is not None))


def _from_dictionary(fields: Mapping[str, str], name: str) -> Iterator[Promise | None]:
    """RFC 9651, section 4.2.2 (September 2024): of members with the same key, the last one counts."""
    pairs = (one.strip(" \t").partition("=") for one in _SF_STRING.sub('""', fields.get(name, "")).split(","))
    members = {key: value for key, _, value in pairs}
    for key, algorithm in _DIGEST_FIELDS.items():
        got = _SF_BYTES.fullmatch(members.get(key, ""))
        if got is not None:
            yield _decoded(algorithm, got[1], name)


def _from_digest(fields: Mapping[str, str]) -> Iterator[Promise | None]:
    """RFC 3230, section 4.1.1: the names have no case."""
    for name, text in _pairs(fields.get("digest", "")):
        if name in _INSTANCE_DIGESTS:
            yield _decoded(_INSTANCE_DIGESTS[name], text, "digest")


def _from_google(fields: Mapping[str, str]) -> Iterator[Promise | None]:
    stored = fields.get("x-goog-stored-content-encoding", "").strip().lower()
    if stored in {"", "identity"}:
        for name, text in _pairs(fields.get("x-goog-hash", "")):
            if name in {"md5", "crc32c"}:  # a composite object has no MD5
                yield _decoded(name, text, "x-goog-hash")


def _from_amazon(fields: Mapping[str, str], *, ranged: bool) -> Iterator[Promise | None]:
    said = fields.get("x-amz-checksum-type", "").strip().upper()
    if said == "FULL_OBJECT" or (not said and not ranged):
        for algorithm in ALGORITHMS:
            name = f"x-amz-checksum-{algorithm}"
            yield _decoded(algorithm, fields.get(name, ""), name)  # a composite's "-N" is no base64


def _pairs(field: str) -> Iterable[tuple[str, str]]:
    """Split ``a=x,B=y``; of the same name twice, the last one counts, as in a dictionary."""
    pairs = (one.partition("=") for one in field.split(","))
    return {name.strip().lower(): text.strip() for name, _, text in pairs}.items()


def _decoded(algorithm: str, text: str, origin: str) -> Promise | None:
    """RFC 9651, section 4.2.7: missing padding is forgiven; so is too much, as in RFC 9530's own examples."""
    bare = text.strip().rstrip("=")
    try:
        raw = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except ValueError:
        return None
    return Promise(algorithm, raw.hex(), origin) if 2 * len(raw) == ALGORITHMS[algorithm] else None


# --- what a checksum file promises ---

_BY_DIGITS = {128: "sha512", 96: "sha384", 64: "sha256", 40: "sha1", 32: "md5"}
"""What a line without a tag means. BLAKE3 has 64 digits too, but its files say so or are rare."""

_GNU = re.compile(r"(\\?)([0-9A-Fa-f]{32,128})(?: [ *]?|\t\*?)(.+)")
"""``HEX  name`` and ``HEX *name``; one space is ``md5 -r``, a tab is written by hand."""

_BSD = re.compile(r"(\\?)([A-Za-z][A-Za-z0-9-]*) ?\((.+)\) ?= ?([0-9A-Fa-f]+)")
"""``SHA256 (name) = HEX``; OpenSSL writes ``SHA2-256(name)= HEX``."""

_ESCAPED = re.compile(r"(?:[^\\]|\\[\\nr])*")
_ESCAPES = {"\\": "\\", "n": "\n", "r": "\r"}

_NO_SUMS = ("#", ";", "-----BEGIN PGP", "Hash: ")
"""How comments begin (``;`` in SFV's style), and what stands above a clear-signed text."""

_APPENDED = ((".sha256", "sha256"), (".sha256sum", "sha256"), (".sha512", "sha512"), (".md5", "md5"))
_BESIDE = (("SHA256SUMS", "sha256"), ("SHA512SUMS", "sha512"), ("MD5SUMS", "md5"), ("sha256sum.txt", "sha256"))


def sidecar_urls(url: str) -> tuple[tuple[str, str], ...]:
    """Return where checksums usually lie beside a file: (URL, algorithm, or ``""`` where none is implied).

    The likeliest first; without the file's query and fragment, which may sign one path only.
    Returns () where the URL names no file. ``url`` is one that ``source.parse`` took.
    """
    parts = urlsplit(url)
    folder, _, name = parts.path.rpartition("/")
    if not name:
        return ()
    paths = [(parts.path + suffix, algorithm) for suffix, algorithm in _APPENDED]
    paths += [(f"{folder}/{beside}", algorithm) for beside, algorithm in _BESIDE]
    return tuple((urlunsplit((parts.scheme, parts.netloc, path, "", "")), algorithm) for path, algorithm in paths)


def parse_sums(text: str, name: str) -> tuple[Promise, ...]:
    """Return what a checksum file promises of the file called ``name``; () where it says nothing of it.

    Read are GNU's lines, also with escapes (a line that begins with a backslash), BSD's and
    OpenSSL's, and a file with nothing but a digest. A line for exactly this name (``./`` in
    front aside) is preferred to one whose path ends with it; where several such paths promise
    different digests, nobody can tell which is meant, and the answer is (). Exact lines that
    contradict each other all count. Comments and the armour of a clear-signed file (RFC 9580,
    section 7, July 2024) are skipped; the signature is not verified. Only the whole lines of the
    first ``MAX_SUMS_BYTES`` characters are looked at.
    """
    lines = list(_sum_lines(text))
    listed = [one for one in map(_listed, lines) if one is not None]
    if len(lines) == len(listed) == 1 and listed[0][0].strip() in {"", "-"}:
        return (listed[0][1],)
    exact = [one for path, one in listed if path.removeprefix("./") == name]
    if exact or not name:
        return tuple(dict.fromkeys(exact))
    # a backslash separates too: Windows' tools write it, and GNU's escape one that doesn't
    near = dict.fromkeys(one for path, one in listed if path.endswith((f"/{name}", f"\\{name}")))
    return tuple(near) if len({one.algorithm for one in near}) == len(near) else ()


def _sum_lines(text: str) -> Iterator[str]:
    text = text.removeprefix("\ufeff")
    if len(text) > MAX_SUMS_BYTES:
        text = text[:MAX_SUMS_BYTES].rpartition("\n")[0]  # half a line could end in half a name
    text = text.partition("\n-----BEGIN PGP SIGNATURE-----")[0]
    for line in text.split("\n"):  # splitlines() would also split at what may stand in a name
        bare = line.removesuffix("\r").removeprefix("- ")  # dash-escaped in a clear-signed text
        if bare.strip() and not bare.startswith(_NO_SUMS):
            yield bare


def _listed(line: str) -> tuple[str, Promise] | None:
    """Return a line's file name (blank for a bare digest) and promise, or ``None`` where it is neither."""
    if (got := _GNU.fullmatch(line)) is not None:
        return _named(got[1], got[3], "", got[2])
    if _HEX.fullmatch(line.strip()):
        return _named("", "", "", line.strip())
    if (got := _BSD.fullmatch(line.rstrip())) is not None:
        return _named(got[1], got[3], got[2].lower().replace("sha2-", "sha"), got[4])
    return None


def _named(escaped: str, name: str, tag: str, value: str) -> tuple[str, Promise] | None:
    algorithm = tag.replace("-", "") or _BY_DIGITS.get(len(value), "")
    if ALGORITHMS.get(algorithm) != len(value):
        return None
    if escaped:
        if not _ESCAPED.fullmatch(name):
            return None
        name = re.sub(r"\\(.)", lambda got: _ESCAPES[got[1]], name)
    return name, Promise(algorithm, value.lower(), "sidecar")
