"""The journal of a download: which blocks are on disk, and of which version of the source.

``NAME.part`` holds the bytes and ``NAME.part.journal`` says which of them count. It is text,
appended to only: a header, then a line ``[BLOCK, BYTES, "HASH"]`` for each block that is
there, or for the beginning of one. HASH is the XXH3-128 of those bytes.

1. A line is written after the bytes that it speaks of, and both are synced in that order.
2. No line is believed because it stands there: whoever resumes reads the bytes and compares
   (``part``). So a line that a power cut left ahead of its data, a disk that forgot, or a
   file that was moved from another machine by halves costs blocks, never the truth.
3. A line that was cut is ignored.
4. Neither header nor line holds a secret: the address is kept without user info and values.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

FORMAT = 3
"""1 was a JSON file with one length, 2 did not tell URLs apart by their queries; neither is read any more."""

MAX_JOURNAL_BYTES = 64 * 1024 * 1024
"""262,144 blocks at 60 bytes, with room for the lines of unfinished blocks."""

MIXED_LINE = '"mixed"'
"""From here on several origins may have brought bytes."""

HASH_HEX = 32
"""128 bits as hex. XXH3 tells damage at a tenth of a cryptographic hash's cost; nobody attacks one's own disk."""


@dataclass(frozen=True, slots=True)
class Validator:
    """What pins a download to one version of its source; both may be missing."""

    etag: str | None
    """A strong ETag with its quotes; weak ones are no validators of bytes (RFC 9110, section 8.8.1)."""
    last_modified: str | None

    @property
    def if_range(self) -> str | None:
        """The value for ``If-Range`` (RFC 9110, section 13.1.5)."""
        return self.etag or self.last_modified

    def agrees(self, other: Validator) -> bool:
        """Return whether two replies speak of the same bytes: by the strong ETag, else by the date."""
        if self.etag is not None and other.etag is not None:
            return self.etag == other.etag
        return self.last_modified is not None and self.last_modified == other.last_modified


@dataclass(frozen=True, slots=True)
class Header:
    """Which version of which source a journal is about."""

    url: str
    """Without user info, and without the values of the query."""
    url_check: str
    """``check_of`` the whole URL: tells whether it is the same one, and nothing of its secrets."""
    validator: Validator
    size_bytes: int | None
    block_bytes: int
    mixed: bool = False
    """Whether several origins may have brought bytes: then only a digest tells whether they belong together."""


@dataclass(frozen=True, slots=True)
class Journal:
    """A journal as it was read: what it claims, by block."""

    header: Header
    claims: dict[int, tuple[int, str]]
    """Block → bytes from its start, and the hash of those."""


def check_of(url: str) -> str:
    """Return 32 bits of a URL's hash: enough to tell two apart, too few to find a secret by trying."""
    return blake2b(url.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


def part_path(destination: Path) -> Path:
    """Return where the bytes of an unfinished download are."""
    return destination.with_name(destination.name + ".part")


def journal_path(destination: Path) -> Path:
    """Return where the journal of an unfinished download is."""
    return destination.with_name(destination.name + ".part.journal")


def header_line(header: Header) -> str:
    """Return a journal's first line."""
    return json.dumps({"format": FORMAT, **asdict(header)}, separators=(",", ":")) + "\n"


def claim_line(block: int, length: int, digest: str) -> str:
    """Return the line that claims a block, or the first ``length`` bytes of it."""
    return f'[{block},{length},"{digest}"]\n'


def load(destination: Path) -> Journal | None:
    """Return what an earlier attempt left, or ``None`` where that is nothing or is no journal of ours."""
    try:
        path = journal_path(destination)
        if not part_path(destination).is_file() or path.stat().st_size > MAX_JOURNAL_BYTES:
            return None
        return parse(path.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return None


def parse(text: str) -> Journal | None:
    """Return the journal in a text, or ``None`` where it is none; a bad line is ignored. Pure."""
    first, _, rest = text.partition("\n")
    try:
        header = _header(json.loads(first))
    except (ValueError, TypeError, KeyError):
        return None
    claims: dict[int, tuple[int, str]] = {}
    for line in rest.split("\n")[:-1]:
        if line == MIXED_LINE:
            header = replace(header, mixed=True)
            continue
        try:
            block, length, digest = json.loads(line)
        except (ValueError, TypeError):
            continue
        if _believable(header, block, length, digest):
            claims[block] = (length, digest)
    return Journal(header, claims)


def _header(body: dict[str, Any]) -> Header:
    if body["format"] != FORMAT:
        raise ValueError("another format")
    size, block = body["size_bytes"], body["block_bytes"]
    if not (size is None or (type(size) is int and size > 0)) or type(block) is not int or block < 1:
        raise ValueError("not a size")
    validator = Validator(**body["validator"])
    if any(value is not None and not isinstance(value, str) for value in (validator.etag, validator.last_modified)):
        raise ValueError("not a validator")
    return Header(str(body["url"]), str(body["url_check"]), validator, size, block, body["mixed"] is True)


def _believable(header: Header, block: Any, length: Any, digest: Any) -> bool:
    if type(block) is not int or type(length) is not int or not isinstance(digest, str) or len(digest) != HASH_HEX:
        return False
    end = block * header.block_bytes + length
    inside = header.size_bytes is None or end <= header.size_bytes
    return block >= 0 and 0 < length <= header.block_bytes and inside


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
