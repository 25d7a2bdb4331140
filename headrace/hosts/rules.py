"""How much hosts may be asked, as the operator says it. Pure.

``archive.org=4, *.example.org=2@1/s, 192.168.1.5:8080=8``: connections, and requests a second,
minute or hour. ``*.example.org`` are all hosts below it, each for itself, and not it. The most
exact rule holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

CONNECTIONS = 16
"""For a host without a rule; several times what a browser opens (6), and what aria2 allows one server."""

MAX_CONNECTIONS = 1024

_SECONDS = {"s": 1, "min": 60, "h": 3600}
_RULE = re.compile(
    r"(?P<host>(?:\*\.)?[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?P<port>:\d{1,5})?"
    r"=(?P<connections>\d{1,4})(?:@(?P<requests>\d{1,6}(?:\.\d{1,6})?)/(?P<unit>s|min|h))?"
)


@dataclass(frozen=True, slots=True)
class HostLimits:
    """What one host may be asked."""

    connections: int = CONNECTIONS
    """At once."""
    requests_per_second: float | None = None
    """``None``: as many as come."""


@dataclass(frozen=True, slots=True)
class HostRules:
    """The limits of all hosts."""

    default: HostLimits = field(default_factory=HostLimits)
    rules: tuple[tuple[str, HostLimits], ...] = ()
    """Pattern and limits, the most exact pattern first."""

    def of(self, host: str) -> HostLimits:
        """Return the limits of a host (``host_key``)."""
        name = host.rpartition(":")[0]
        for pattern, limits in self.rules:
            if pattern in {host, name} or (pattern.startswith("*.") and _below(pattern[1:], host, name)):
                return limits
        return self.default


def _below(suffix: str, host: str, name: str) -> bool:
    return host.endswith(suffix) or name.endswith(suffix)


def parse(text: str, connections: int = CONNECTIONS) -> HostRules:
    """Return the rules that a text with commas says; ``connections`` is for hosts without one.

    Raises ``ValueError``, which quotes the part that is wrong.
    """
    rules = dict(_rule(part.strip()) for part in text.split(",") if part.strip())
    exact_first = sorted(rules.items(), key=lambda rule: (rule[0].startswith("*."), ":" not in rule[0], -len(rule[0])))
    return HostRules(HostLimits(connections), tuple(exact_first))


def _rule(part: str) -> tuple[str, HostLimits]:
    found = _RULE.fullmatch(part.lower())
    if found is None:
        raise ValueError(
            f"{part!r} is neither HOST=CONNECTIONS nor HOST=CONNECTIONS@REQUESTS/s,"
            " such as archive.org=4 or *.example.org=2@1/s"
        )
    connections, requests = int(found["connections"]), found["requests"]
    if not 1 <= connections <= MAX_CONNECTIONS:
        raise ValueError(f"{part!r}: a host has from 1 to {MAX_CONNECTIONS} connections")
    if requests is not None and not float(requests):
        raise ValueError(f"{part!r}: a host that may not be asked at all is no limit; refuse its sources instead")
    rate = float(requests) / _SECONDS[found["unit"]] if requests is not None else None
    return found["host"] + (found["port"] or ""), HostLimits(connections, rate)
