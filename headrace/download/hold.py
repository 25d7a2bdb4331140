"""The right to a destination: its part file, open and locked, as long as one download is at it.

1. One attempt at a time, in all processes: whoever comes second is told so.
2. The lock is on the file that has the part's name. One that was renamed or removed between
   opening and locking is let go of, and the one that has the name now is taken.
3. Nothing of a destination is read, truncated, renamed or removed without it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from headrace.download import journal as journals
from headrace.download.journal import Journal
from headrace.errors import DiskFailed, DiskFull, Limited

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What the system says where a disk, or somebody's part of it, is full."""


class Hold:
    """A destination that is ours until ``close``."""

    def __init__(self, destination: Path) -> None:
        """Take it; raises ``Limited`` (a retry can help) where another download is at it, ``DiskFailed``."""
        self.destination = destination
        self.journaled = True
        """Whether there may be a journal."""
        self._part = journals.part_path(destination)
        self._journal = journals.journal_path(destination)
        self._done = False
        with translated(destination):
            try:
                self.descriptor = self._locked()
            except FileNotFoundError:
                destination.parent.mkdir(parents=True, exist_ok=True)
                self.descriptor = self._locked()
            self._fresh = os.fstat(self.descriptor).st_size == 0

    def _locked(self) -> int:
        while True:
            descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._has_the_name(descriptor):
                    return descriptor
            except BlockingIOError as error:
                os.close(descriptor)
                raise Limited(
                    f"another download is writing {self.destination.name}",
                    hint="Wait for it, or give another name.",
                ) from error
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _has_the_name(self, descriptor: int) -> bool:
        try:
            there = self._part.stat(follow_symlinks=False)
        except FileNotFoundError:
            return False
        mine = os.fstat(descriptor)
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)

    def journal(self) -> Journal | None:
        """Return what an earlier attempt left, or ``None`` where that is nothing or no journal of ours."""
        if self._fresh:
            return None  # many short files come through here: each look at the disk counts
        with translated(self.destination):
            return journals.load(self.destination)

    def clear(self) -> None:
        """Forget what an earlier attempt left."""
        with translated(self.destination):
            self._journal.unlink(missing_ok=True)
            if not self._fresh:
                os.ftruncate(self.descriptor, 0)
            self.journaled = self._fresh = False

    def give_name(self, *, durable: bool) -> None:
        """Give the file its final name; if ``durable``, the disk has it when this returns."""
        with translated(self.destination):
            if not self._has_the_name(self.descriptor):
                raise DiskFailed(f"somebody has taken {self._part.name} away while it was written")
            if durable:
                os.fdatasync(self.descriptor)
            self._part.replace(self.destination)
            self._done = True
            if self.journaled:
                self._journal.unlink(missing_ok=True)
            if durable:
                journals.sync_folder(self.destination.parent)

    def close(self) -> None:
        """Let go. A part file without a journal is of no use to anybody and goes."""
        try:
            with translated(self.destination):
                if not self._done and not self._journal.exists() and self._has_the_name(self.descriptor):
                    self._part.unlink(missing_ok=True)
        finally:
            os.close(self.descriptor)


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn errors of the file system into ours: ``DiskFull``, ``DiskFailed``."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskFull("no space is left for this source", path=str(path)) from error
        raise DiskFailed(f"{path.name} can't be written: {error.strerror}") from error
