"""The home's folders and files: private, written atomically, and checked before they are used.

Every ``OSError`` of the stack's own writing is translated here, once: a full disk becomes
``DiskFull``, a folder that isn't ours to write ``StackError``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path

from headrace.errors import DiskFull, StackError

MINIMUM_FREE_BYTES = 256 * 1024 * 1024
"""Below this ``up`` does not start: a new cluster takes 40 MiB, root's copy of the binaries
30 MiB, and Postgres must be able to write its WAL (64 MiB before it recycles)."""

PRIVATE_FOLDER = 0o700
PRIVATE_FILE = 0o600
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Translate what goes wrong while something below ``path`` is written."""
    try:
        yield
    except OSError as error:
        raise translate(error, path) from error


def translate(error: OSError, path: Path) -> StackError | DiskFull:
    """Return the error that names ``path``, what is wrong with it and what to do."""
    if error.errno in _FULL:
        return DiskFull(f"the disk of {path} is full")
    reason = error.strerror or str(error)
    return StackError(
        f"{error.filename or path} can't be written: {reason}",
        hint="Make it writable for this user, or choose another home with --home.",
    )


def prepare_home(home: Path) -> None:
    """Make the home, or check that the one that exists is a folder of ours that we can write."""
    existed = home.exists()
    with writing(home):
        home.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        owner = home.stat().st_uid
        if owner != os.geteuid():
            raise StackError(
                f"the home {home} belongs to {_name_of(owner)}, not to {_name_of(os.geteuid())}",
                hint="Run as its owner, or choose another home with --home.",
            )
        if not os.access(home, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(home))
        # A folder that people keep other things in keeps its mode; ours inside are 0700 anyway.
        if not existed or not any(home.iterdir()) or (home / "stack.lock").exists():
            home.chmod(PRIVATE_FOLDER)


def private_folder(path: Path) -> Path:
    """Make a folder that only this user can enter, and return it."""
    with writing(path):
        path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        path.chmod(PRIVATE_FOLDER)
    return path


def empty_private_folder(path: Path) -> None:
    """Make a private folder anew, without what it held."""
    with writing(path):
        if path.exists():
            shutil.rmtree(path)
    private_folder(path)


def write_private(path: Path, text: str, *, durable: bool = True) -> None:
    """Replace a file as a whole: readers see the old text or the new; if ``durable``, also after a power cut."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path):
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def check_free_space(*folders: Path) -> None:
    """Raise ``DiskFull`` where less than ``MINIMUM_FREE_BYTES`` are free."""
    for folder in folders:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        if free < MINIMUM_FREE_BYTES:
            raise DiskFull(
                f"the disk of {folder} has {free // 2**20} MiB left, and the stack needs {MINIMUM_FREE_BYTES // 2**20}"
            )


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
