"""Cookies that the user has brought along, and which of them a request carries. Pure, no I/O.

``parse`` reads Netscape's format, which browsers' extensions, curl and wget write. What always holds:

1. A cookie goes where RFC 6265 (section 5.4, April 2011) sends it: by domain, path and ``Secure``,
   and not once it has expired. One for a host alone is not sent to hosts below it.
2. What servers set is never stored: a download has the cookies that it began with.
3. No error quotes a line, because each holds a secret.

Not ``http.cookiejar.MozillaCookieJar``: it drops session cookies written with an expiry of 0,
sends a host's own cookies to hosts below it unless told otherwise, and quotes a bad line's value.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

from headrace.errors import InvalidRequest

FIELDS = 7
"""Of a line: domain, whether hosts below it get it too, path, secure, expiry, name, value."""

HTTP_ONLY = "#HttpOnly_"
"""Before the domain of a cookie that scripts must not read; curl and browsers write it so."""

_VALUE = re.compile(r"(?:[\x21-\x3a\x3c-\x7e](?:[\x20-\x3a\x3c-\x7e]*[\x21-\x3a\x3c-\x7e])?)?")
"""Visible characters and spaces between them, without the semicolon that ends a cookie. More than
RFC 6265, section 4.1.1, as browsers do."""


@dataclass(frozen=True, slots=True)
class Cookie:
    """One cookie."""

    domain: str
    """In lower case, without a leading dot."""
    below: bool
    """Whether hosts below the domain get it too."""
    path: str
    secure: bool
    """Whether it goes over https only."""
    expires: float | None
    """Seconds since 1970; ``None`` for one that lasts as long as its session."""
    name: str
    value: str = field(repr=False)

    def goes_to(self, scheme: str, host: str, path: str, now: float) -> bool:
        """Return whether a request for ``path`` at ``host`` carries it."""
        if self.expires is not None and self.expires <= now:
            return False
        if self.secure and scheme != "https":
            return False
        return self._matches_host(host) and self._matches_path(path)

    def _matches_host(self, host: str) -> bool:
        return host == self.domain or (self.below and host.endswith("." + self.domain) and not _is_address(host))

    def _matches_path(self, path: str) -> bool:
        """RFC 6265, section 5.1.4."""
        inside = path.startswith(self.path) and (self.path.endswith("/") or path[len(self.path) :][:1] == "/")
        return path == self.path or inside


class Cookies:
    """Some cookies, found by host."""

    def __init__(self, cookies: Iterable[Cookie]) -> None:
        """Of several with the same domain, path and name the last one counts."""
        self._by_domain: defaultdict[str, list[Cookie]] = defaultdict(list)
        for cookie in {(one.domain, one.path, one.name): one for one in cookies}.values():
            self._by_domain[cookie.domain].append(cookie)

    def header(self, url: str, now: float) -> str | None:
        """Return the ``Cookie`` header of a request at the time ``now``, or ``None`` where none goes there."""
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
        found = [one for one in self._near(host) if one.goes_to(parts.scheme, host, parts.path or "/", now)]
        found.sort(key=lambda one: -len(one.path))  # RFC 6265, section 5.4: longer paths first
        return "; ".join(f"{one.name}={one.value}" for one in found) or None

    def _near(self, host: str) -> Iterator[Cookie]:
        while host:
            yield from self._by_domain.get(host, ())
            host = host.partition(".")[2]


def parse(text: str) -> Cookies:
    """Return the cookies of a file in Netscape's format; raises ``InvalidRequest`` naming the bad line's number."""
    cookies = []
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.removeprefix(HTTP_ONLY)
        if not bare.strip() or bare.startswith("#"):
            continue
        cookie = _cookie(bare.split("\t"))
        if cookie is None:
            raise InvalidRequest(
                f"line {number} of the cookies is none",
                hint="The format is Netscape's: seven fields with tabs between, as browsers' extensions export it.",
            )
        cookies.append(cookie)
    return Cookies(cookies)


def _cookie(fields: list[str]) -> Cookie | None:
    if len(fields) != FIELDS:
        return None
    domain, below, path, secure, expires, name, value = fields
    bare = domain.removeprefix(".").rstrip(".").lower()
    flags = {below.upper(), secure.upper()} <= {"TRUE", "FALSE"}
    time = re.fullmatch(r"(\d{0,15})(\.\d*)?", expires)
    written = _VALUE.fullmatch(name) and _VALUE.fullmatch(value)
    if not bare or not flags or not path.startswith("/") or time is None or not name or not written:
        return None
    ends = float(time[1] or 0)  # an expiry of 0, or none, is that of a session
    return Cookie(bare, below.upper() == "TRUE", path, secure.upper() == "TRUE", ends or None, name, value)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
