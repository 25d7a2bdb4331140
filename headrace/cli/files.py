"""Text that a command is given in a file, or on stdin."""

from __future__ import annotations

import sys
from pathlib import Path

from headrace.errors import InvalidRequest


def text_of(path: Path, max_bytes: int) -> str:
    """Return a file's text, or that of stdin for ``-``; raises ``InvalidRequest`` where it can't be read."""
    try:
        if str(path) == "-":
            content = sys.stdin.buffer.read(max_bytes + 1)
        else:
            with path.open("rb") as file:
                content = file.read(max_bytes + 1)
        text = content.decode()
    except OSError as error:
        raise InvalidRequest(f"{path.name} can't be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise InvalidRequest(f"{path.name} is not in UTF-8") from None
    if len(content) > max_bytes:
        raise InvalidRequest(f"{path.name} has more than {max_bytes} bytes")
    return text
