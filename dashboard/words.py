"""Words and numbers for people; outside text is made harmless here. Pure.

Titles, sources and errors come from outside. Streamlit reads most of what it is given as
Markdown, so such text goes through ``plain()`` or ``st.text``, and never into HTML.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime, tzinfo
from typing import Any

from headrace.cli.output import duration, size
from headrace.cli.progress import FINAL, done

__all__ = [
    "FINAL",
    "LOST",
    "ago",
    "clock",
    "counted",
    "done",
    "duration",
    "every",
    "plain",
    "progress_words",
    "reason",
    "size",
]

LOST = frozenset({"failed", "cancelled"})
COLOURS = {"published": "green", "stored": "green", "failed": "red", "cancelled": "gray", "queued": "gray"}
"""State → the badge's colour; every other state is at work, and blue."""

MOST = 160
"""Characters of an outside text in a label; more would push away what stands beside it."""

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_JOINER = "\u2060"
"""WORD JOINER, invisible: Streamlit replaces ``:name:``, ``www.`` and addresses after Markdown's own
escapes are gone, so these need to be broken in the text itself."""
_KEPT_FORMATS = "\u200c\u200d"
"""Joiners inside words and emoji; the other format characters turn text around or hide it."""


def plain(text: object, most: int = MOST) -> str:
    """Return outside text as Markdown that shows exactly this text, on one line, at most ``most`` characters.

    Every ASCII punctuation is escaped (CommonMark 0.31, section 2.4); control and bidirectional
    characters are left out. ``None`` is the empty text.
    """
    kept = "".join(_harmless(character) for character in ("" if text is None else str(text)))
    line = " ".join(kept.split())
    if len(line) > most:
        line = line[: most - 1].rstrip() + "…"
    line = re.sub(r":(?=\S)", ":" + _JOINER, line)
    line = re.sub(r"(?i)\bwww(?=\.)", lambda found: found[0] + _JOINER, line).replace("@", _JOINER + "@")
    return _PUNCTUATION.sub(r"\\\1", line)


def _harmless(character: str) -> str:
    category = unicodedata.category(character)
    if category in {"Cc", "Zl", "Zp"}:
        return " "
    return "" if category in {"Cf", "Cs"} and character not in _KEPT_FORMATS else character


def reason(error: dict[str, Any]) -> str:
    """Return an error's message and what to do next, as harmless Markdown."""
    message, hint = str(error["message"]), str(error.get("hint") or "")
    return plain(message[:1].upper() + message[1:], 400) + (f" — {plain(hint, 400)}" if hint else "")


def progress_words(item: dict[str, Any]) -> str:
    """Return how far an item is: ``Transcoding · 45 % · 1.3 × real time · 0:20 left``."""
    state = item["state"]
    if state == "transcoding" and item["percent"] is None:
        return "Waiting for an encoder"
    words = [state.capitalize(), f"{100 * done(item):.0f} %"]
    if item["speed"]:
        real_time = state == "transcoding"
        words.append(f"{item['speed']:.1f} × real time" if real_time else f"{item['speed'] / 1e6:.1f} MB/s")
    if item["eta_seconds"] is not None:
        words.append(f"{duration(item['eta_seconds'])} left")
    return " · ".join(words)


def ago(at: str | None, now: datetime | None = None) -> str:
    """Return how long ago (or in how long) an ISO time is, roughly; ``never`` where there is none."""
    if at is None:
        return "never"
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(at)).total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if abs(seconds) >= length:
            count = f"{abs(seconds) / length:.0f} {unit}"
            return f"{count} ago" if seconds > 0 else f"in {count}"
    return "just now" if seconds >= 0 else f"in {-seconds:.0f} s"


def clock(at: str, zone: tzinfo | None = None) -> str:
    """Return an ISO time as date and time in a zone, by default UTC."""
    return datetime.fromisoformat(at).astimezone(zone or UTC).strftime("%Y-%m-%d %H:%M:%S")


def counted(number: int, noun: str, several: str = "") -> str:
    """Return a number with its noun: ``1 item``, ``2 items``."""
    return f"{number:,} {noun if number == 1 else several or noun + 's'}"


def every(seconds: int) -> str:
    """Return an interval for people: ``15 min``."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
