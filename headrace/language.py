"""Language tags: what a file says becomes what RFC 5646 (BCP 47, 2009) allows. Pure.

Containers hold ISO 639-2 (``eng``, ``ger`` or ``deu``); players match ISO 639-1 (``en``,
``de``), which RFC 5646 (2.2.1) demands where it exists.
"""

from __future__ import annotations

import re

_TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*\Z")

# fmt: off
_SHORT = {
    "ara": "ar", "bul": "bg", "cat": "ca", "ces": "cs", "cze": "cs", "cym": "cy", "wel": "cy", "dan": "da",
    "deu": "de", "ger": "de", "ell": "el", "gre": "el", "eng": "en", "spa": "es", "est": "et", "eus": "eu",
    "baq": "eu", "fas": "fa", "per": "fa", "fin": "fi", "fra": "fr", "fre": "fr", "gle": "ga", "glg": "gl",
    "heb": "he", "hin": "hi", "hrv": "hr", "hun": "hu", "hye": "hy", "arm": "hy", "ind": "id", "isl": "is",
    "ice": "is", "ita": "it", "jpn": "ja", "kat": "ka", "geo": "ka", "kor": "ko", "lat": "la", "lit": "lt",
    "lav": "lv", "mkd": "mk", "mac": "mk", "msa": "ms", "may": "ms", "nld": "nl", "dut": "nl", "nor": "no",
    "nob": "nb", "nno": "nn", "pol": "pl", "por": "pt", "ron": "ro", "rum": "ro", "rus": "ru", "slk": "sk",
    "slo": "sk", "slv": "sl", "sqi": "sq", "alb": "sq", "srp": "sr", "swe": "sv", "swa": "sw", "tam": "ta",
    "tel": "te", "tha": "th", "tur": "tr", "ukr": "uk", "urd": "ur", "vie": "vi", "zho": "zh", "chi": "zh",
}
# fmt: on
"""ISO 639-2, both forms, to 639-1."""


def shortest(language: str | None) -> str:
    """Return a tag such as ``en`` or ``pt-BR``, and ``und`` where a file says nothing or nonsense."""
    tag = (language or "").replace("_", "-")
    if not _TAG.match(tag):
        return "und"
    first, dash, rest = tag.partition("-")
    return _SHORT.get(first.lower(), first.lower()) + dash + rest
