"""Local folders that orders may read from: which files they hold, and one of them opened.

The operator names the folders (``HEADRACE_SOURCE_FOLDERS``). What always holds:

1. A file is read only if it lies in such a folder after every link on its way is followed, and
   that is asked of the file that was opened, so a link that is turned meanwhile changes nothing.
2. Only ordinary files are read: no devices, no pipes.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from headrace.errors import InvalidSource, SourceForbidden, SourceNotFound
from headrace.model import Source
from headrace.source import file_url, is_plain, parse

SETTLED_SECONDS = 10.0
"""A file in a watched folder that was written to more recently may still be growing."""

UNFINISHED = (".part", ".partial", ".tmp", ".crdownload", ".journal")
"""How names of files end that somebody is still writing."""

HINT = "The operator lists such folders in HEADRACE_SOURCE_FOLDERS."


@contextmanager
def opened(path: Path, roots: Sequence[Path]) -> Iterator[BinaryIO]:
    """Open an ordinary file inside one of the roots; raises ``SourceNotFound`` or ``SourceForbidden``."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SourceNotFound(f"there is no file {path.name}") from error
    except OSError as error:
        raise SourceForbidden(f"{path.name} can't be read: {error.strerror}") from error
    try:
        if not _inside(Path(os.path.realpath(f"/proc/self/fd/{descriptor}")), roots):
            raise SourceForbidden(f"{path.name} is in no folder that is open to orders", hint=HINT)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SourceForbidden(f"{path.name} is no ordinary file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def files(folder: Path, roots: Sequence[Path], *, most: int, settled_seconds: float = 0.0) -> list[Path]:
    """Return the files below a folder, sorted, without hidden and unfinished ones and without links.

    Only those that nobody has written to for ``settled_seconds``. Raises ``InvalidSource`` where
    the folder isn't open to orders, can't be read, or has more than ``most`` files.
    """
    real = Path(os.path.realpath(folder))
    if not _inside(real, roots):
        raise InvalidSource(f"the folder {folder} is not open to orders", hint=HINT)
    if not real.is_dir():
        raise InvalidSource(f"there is no folder {folder}", hint="Is it mounted where the gateway and the workers run?")
    found: list[Path] = []
    newest = time.time() - settled_seconds
    for inner, folders, names in os.walk(real, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(inner) / name
            if _wanted(path, newest):
                found.append(path)
        if len(found) > most:
            raise InvalidSource(f"the folder {folder} has more than {most} files", hint="Order its parts.")
    return sorted(found)


def sources(path: Path, roots: Sequence[Path], *, most: int) -> list[Source]:
    """Return a file, or the files below a folder, as sources; raises ``InvalidSource``.

    A file that isn't there is no error here: the workers may have it where the gateway has not.
    """
    if not _inside(Path(os.path.realpath(path)), roots):
        raise InvalidSource(f"{path} is in no folder that is open to orders", hint=HINT)
    if path.is_dir():
        found = files(path, roots, most=most)
        odd = next((file.name for file in found if not is_plain(str(file))), None)
        if odd is not None:
            raise InvalidSource(f"the name {odd!r} can't be that of a source", hint="Rename it to printable UTF-8.")
        return [parse(file_url(str(file))) for file in found]
    return [parse(file_url(str(path)))]


def _wanted(path: Path, newest: float) -> bool:
    if path.name.startswith(".") or path.name.lower().endswith(UNFINISHED):
        return False
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False  # gone since it was listed
    return stat.S_ISREG(found.st_mode) and found.st_size > 0 and found.st_mtime <= newest


def _refuse(error: OSError) -> None:
    raise InvalidSource(f"a folder can't be read: {error.strerror}") from error


def _inside(real: Path, roots: Sequence[Path]) -> bool:
    return any(real.is_relative_to(os.path.realpath(root)) for root in roots)
