"""A rate as people type it: bytes a second, with k, M or G (powers of 1024, as curl and aria2 count)."""

from __future__ import annotations

import re

import click

_RATE = re.compile(r"(\d{1,12}(?:\.\d{1,3})?)([kKmMgG]?)(?:i?[bB](?:/s)?)?")
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
LEAST = 1024
"""Below that nothing moves: a server's own time limits end the transfer."""


class _Rate(click.ParamType[int]):
    name = "rate"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = _RATE.fullmatch(str(value).strip())
        rate = int(float(found[1]) * _UNITS[found[2].lower()]) if found else 0
        if rate < LEAST:
            self.fail(f"{value!r} is no rate of at least {LEAST} bytes a second; write 500k or 2.5M", param, ctx)
        return rate


RATE = _Rate()
