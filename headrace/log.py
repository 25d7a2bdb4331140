"""Loggers that import structlog when something is said: most commands end without a word.

``import structlog`` brings rich and asyncio and takes 70 ms; a download of a small file takes 5.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

_least = logging.NOTSET
_to_stderr = False


class Log:
    """A logger of one module; what is said is an event's name and its facts."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def debug(self, event: str, **facts: Any) -> None:
        """Say what only somebody who looks for a fault wants to know."""
        self._say(logging.DEBUG, event, facts)

    def info(self, event: str, **facts: Any) -> None:
        """Say what happens."""
        self._say(logging.INFO, event, facts)

    def warning(self, event: str, **facts: Any) -> None:
        """Say what somebody may have to look at."""
        self._say(logging.WARNING, event, facts)

    def exception(self, event: str, **facts: Any) -> None:
        """Say what went wrong that nobody expected, with the exception that is being handled."""
        self._say(logging.ERROR, event, {**facts, "exc_info": True})

    def _say(self, level: int, event: str, facts: dict[str, Any]) -> None:
        if level < _least:
            return
        import structlog

        if _to_stderr and not structlog.is_configured():
            structlog.configure(
                wrapper_class=structlog.make_filtering_bound_logger(_least),
                # Today's stderr each time: while something is drawn on the terminal it is another
                # one, which writes above that.
                logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
            )
        structlog.get_logger(self._name).log(level, event, **facts)


def to_stderr(level: str) -> None:
    """Let a command's log go to stderr, from a level on (such as ``warning``); unknown ones mean that."""
    global _least, _to_stderr  # noqa: PLW0603 - a process has one log
    _least = logging.getLevelNamesMapping().get(level.upper(), logging.WARNING)
    _to_stderr = True
