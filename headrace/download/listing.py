"""An input list: many files, each with options of its own, as aria2 writes it. Pure, no I/O.

A line that begins at the margin has the URLs of one file, with tabs between: the first and its
mirrors. Lines behind it that begin with a space or a tab are its options, ``name=value``; of
those that may come once the last one counts. ``#`` begins a comment, empty lines mean nothing.
(aria2's manual, "Input File", has the form, and some of the options; the others are ours.)

1. A list is right or refused as a whole: ``parse`` names its bad lines by their numbers.
2. No error quotes a value, because it may be a secret.
3. ``out`` is a name and ``dir`` a way down; neither leaves the folder that the files go into.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from headrace.download import access
from headrace.download.proof import ALGORITHMS, Promise, promise
from headrace.errors import InvalidRequest
from headrace.model import Pieces
from headrace.source import safe_name

MOST_CONNECTIONS = 64
"""As many as the command's own option takes."""

_NUMBER = re.compile(r"[0-9]{1,4}")

MOST_SHOWN = 10
"""Bad lines that an error names."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a list."""

    urls: tuple[str, ...]
    """As they were written: the first, and its mirrors."""
    name: str | None = None
    """What the file is to be called; one part, harmless."""
    folder: str = ""
    """Below the folder that everything goes into, with slashes between."""
    promises: tuple[Promise, ...] = ()
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    credential: str | None = None
    connections: int | None = None
    size_bytes: int | None = None
    """As a Metalink says."""
    pieces: Pieces | None = None
    """Likewise."""
    typed: bool = True
    """Whether the user wrote the URLs, and not a publisher."""


def parse(text: str) -> tuple[Entry, ...]:
    """Return a list's files in its order; raises ``InvalidRequest`` that names up to ten bad lines."""
    entries: list[Entry] = []
    wrong: list[str] = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        try:
            if line[0].isspace():
                entries[-1:] = [_with(entries[-1:], words)]
            else:
                entries.append(Entry(tuple(url.strip() for url in words.split("\t") if url.strip())))
        except InvalidRequest as error:
            wrong.append(f"line {number}: {error.message}")
    if wrong:
        raise _refusal(wrong)
    return tuple(entries)


def _refusal(wrong: list[str]) -> InvalidRequest:
    shown = wrong[:MOST_SHOWN]
    more = [f"and {len(wrong) - len(shown)} more"] if len(wrong) > len(shown) else []
    return InvalidRequest(
        "\n  ".join(["the list is wrong, so nothing is begun", *shown, *more]),
        hint=f"Known options are {', '.join(_OPTIONS)}.",
    )


def _with(last: list[Entry], words: str) -> Entry:
    """Return the entry before an option's line with what that says."""
    if not last:
        raise InvalidRequest("an option stands before the first URL")
    name, equals, value = words.partition("=")
    name, value = name.strip(), value.strip()
    if not equals:
        raise InvalidRequest("an indented line is an option, name=value; a URL begins at the margin")
    if name not in _OPTIONS:  # not quoted: what stands before a "=" may be the end of a token
        raise InvalidRequest("an option that is not known")
    if not value:
        raise InvalidRequest(f"{name} has no value")
    return _OPTIONS[name](last[0], value)


def _out(entry: Entry, value: str) -> Entry:
    if "/" in value or "\\" in value or value in {".", ".."}:
        raise InvalidRequest("out is a name; the folder goes into dir")
    return replace(entry, name=safe_name(value))


def _dir(entry: Entry, value: str) -> Entry:
    parts = value.replace("\\", "/").split("/")
    if value.startswith(("/", "\\", "~")) or ".." in parts:
        raise InvalidRequest("dir must lead below the folder that the files go into")
    return replace(entry, folder="/".join(safe_name(part) for part in parts if part not in {"", "."}))


def _checksum(entry: Entry, value: str) -> Entry:
    algorithm, equals, digits = value.partition("=")
    if not equals:
        raise InvalidRequest("a checksum is written as sha-256=HEX")
    return _promised(entry, algorithm, digits)


def _promised(entry: Entry, algorithm: str, digits: str) -> Entry:
    try:
        promised = promise(algorithm, digits, "order")
    except InvalidRequest:
        raise InvalidRequest("a checksum that is not known, or not hexadecimal of the right length") from None
    return replace(entry, promises=(*entry.promises, promised))


def _header(entry: Entry, value: str) -> Entry:
    return replace(entry, headers=(*entry.headers, access.header(value)))


def _credential(entry: Entry, value: str) -> Entry:
    return replace(entry, credential=value)


def _connections(entry: Entry, value: str) -> Entry:
    if not _NUMBER.fullmatch(value) or not 1 <= int(value) <= MOST_CONNECTIONS:
        raise InvalidRequest(f"connections are a number from 1 to {MOST_CONNECTIONS}")
    return replace(entry, connections=int(value))


def _fewest(entry: Entry, value: str) -> Entry:
    """aria2 has a number for a file and one for its server: the smaller holds. It may be larger than ours."""
    if not _NUMBER.fullmatch(value) or not int(value):
        raise InvalidRequest("split and max-connection-per-server are numbers from 1 on")
    return replace(entry, connections=min(entry.connections or MOST_CONNECTIONS, int(value)))


def _own_header(name: str) -> Callable[[Entry, str], Entry]:
    def with_it(entry: Entry, value: str) -> Entry:
        if value == "*":  # aria2: the URL itself
            raise InvalidRequest(f"{name.lower()} is written out")
        others = tuple(pair for pair in entry.headers if pair[0] != name)
        return _header(replace(entry, headers=others), f"{name}: {value}")

    return with_it


def _digest(algorithm: str) -> Callable[[Entry, str], Entry]:
    return lambda entry, digits: _promised(entry, algorithm, digits)


_OPTIONS: dict[str, Callable[[Entry, str], Entry]] = {
    "out": _out,
    "dir": _dir,
    "checksum": _checksum,
    **{algorithm: _digest(algorithm) for algorithm in ALGORITHMS},
    "header": _header,
    "credential": _credential,
    "connections": _connections,
    "split": _fewest,
    "max-connection-per-server": _fewest,
    "user-agent": _own_header("User-Agent"),
    "referer": _own_header("Referer"),
}
