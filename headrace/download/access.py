"""What a download may show to get in: headers, a login, cookies, a proxy, certificates. Pure, no I/O.

``Access`` says what of it goes to which hop:

1. Headers, login and client certificate go to the first origin (scheme, host and port) only,
   whatever the redirects; cookies where they belong (``cookies``).
2. Where ``hosts`` are named, cookies and the authorities go to no other host; where
   ``plain_http`` is off, nothing that is secret goes over http, except to this machine itself.
3. What a connection is made with is its ``Route``; connections of different routes never mix.
4. No secret is part of a ``repr``, and none that was refused is quoted.
"""

from __future__ import annotations

import base64
import re
import time
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from headrace.download.cookies import Cookies
from headrace.download.proxies import NO_PROXIES, Proxies
from headrace.errors import InvalidRequest

OWNED = frozenset(
    {"Accept-Encoding", "Connection", "Content-Length", "Expect", "Host", "If-Range", "Keep-Alive"}
    | {"Proxy-Authorization", "Proxy-Connection", "Range", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}
)
"""Headers that the engine writes itself; others in their place would make wrong files."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110, section 5.1: a token."""

_VALUE = re.compile(r"[\x21-\x7e]+(?:[ \t]+[\x21-\x7e]+)*")
"""RFC 9110, section 5.5, in ASCII: no line can be ended, and so none begun."""

_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str | None, int | None]


@dataclass(frozen=True, slots=True)
class Route:
    """What connections are made with."""

    proxy: str | None = field(default=None, repr=False)
    """An http(s) URL, with user info where the proxy wants it."""
    certificate: Path | None = None
    """PEM; the client's own, with its key unless ``key`` has that."""
    key: Path | None = None
    ca: Path | None = None
    """PEM; the authorities to trust instead of the system's."""


DIRECT = Route()


@dataclass(frozen=True, slots=True)
class Access:
    """What one download may show, and to whom."""

    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """As ``header`` returns them; the same name twice is sent as one field."""
    user: str | None = None
    """For Basic (RFC 7617)."""
    password: str = field(default="", repr=False)
    bearer: str | None = field(default=None, repr=False)
    """A token (RFC 6750)."""
    cookies: Cookies | None = field(default=None, repr=False)
    hosts: tuple[str, ...] = ()
    """Patterns as ``names_host`` reads them; empty for any."""
    plain_http: bool = True
    proxies: Proxies = NO_PROXIES
    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None

    @property
    def has_login(self) -> bool:
        """Whether it says already who asks."""
        return self.user is not None or self.bearer is not None or self.has_header("Authorization")

    def has_header(self, name: str) -> bool:
        """Return whether a header, named in its usual capitals, is among its own."""
        return any(own == name for own, _ in self.headers)

    def headers_to(self, url: str, first: str) -> dict[str, str]:
        """Return the headers for a hop of a download that began at ``first``."""
        if not self.plain_http and not is_private_line(url):
            return {}
        sent = self._first_headers() if same_origin(url, first) else {}
        if self.cookies is not None and self._concerns(url) and (found := self.cookies.header(url, time.time())):
            sent["Cookie"] = f"{sent['Cookie']}; {found}" if "Cookie" in sent else found
        return sent

    def _first_headers(self) -> dict[str, str]:
        sent: dict[str, str] = {}
        if self.user is not None:
            sent["Authorization"] = basic(self.user, self.password)
        if self.bearer is not None:
            sent["Authorization"] = f"Bearer {self.bearer}"
        own: dict[str, str] = {}
        for name, value in self.headers:
            between = "; " if name == "Cookie" else ", "
            own[name] = f"{own[name]}{between}{value}" if name in own else value
        return sent | own

    def route_to(self, url: str, first: str) -> Route:
        """Return what a connection for a hop of a download that began at ``first`` is made with."""
        proxy = self.proxies.of(url) if self._concerns(url) or not self.proxies.named_hosts_only else None
        ca = self.ca if self._concerns(url) else None
        if self.certificate is None or not same_origin(url, first):
            return Route(proxy, ca=ca)
        return Route(proxy, self.certificate, self.key, ca)

    def _concerns(self, url: str) -> bool:
        return not self.hosts or names_host(self.hosts, urlsplit(url).hostname or "")

    def as_user(self, user: str, password: str) -> Access:
        """Return the same with this login (as ``login`` returns it) instead of any other."""
        headers = tuple(pair for pair in self.headers if pair[0] != "Authorization")
        return replace(self, headers=headers, user=user, password=password, bearer=None)

    def with_headers(self, headers: tuple[tuple[str, str], ...]) -> Access:
        """Return the same with more headers; of those that it has already these count."""
        if not headers:
            return self
        names = {name for name, _ in headers}
        return replace(self, headers=(*(pair for pair in self.headers if pair[0] not in names), *headers))

    def elsewhere(self) -> Access:
        """Return what of it a download of the same file from another origin, such as a mirror, may show."""
        return replace(self, headers=(), user=None, password="", bearer=None, certificate=None, key=None)


OPEN = Access()
"""For what anybody may read."""


def origin(url: str) -> Origin:
    """Return scheme, host and port, which credentials are bound to (RFC 6454, section 4)."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def same_origin(one: str, other: str) -> bool:
    """Return whether two URLs have the same origin."""
    return one == other or origin(one) == origin(other)


def is_private_line(url: str) -> bool:
    """Return whether nobody on the way can read along: https, or this machine itself."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        return parts.scheme == "https" or ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def names_host(patterns: tuple[str, ...], host: str) -> bool:
    """Return whether a host is named: by itself, or by ``*.`` and a domain that it is below."""
    host = host.lower().rstrip(".")
    return any(
        host.endswith(pattern[1:]) and host != pattern[2:] if pattern.startswith("*.") else host == pattern
        for pattern in patterns
    )


def basic(user: str, password: str) -> str:
    """Return the value of ``Authorization`` for a login, in UTF-8 (RFC 7617, section 2.1)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def header(text: str) -> tuple[str, str]:
    """Return the name, in its usual capitals, and the value of ``Name: value``.

    Raises ``InvalidRequest`` for what is none, and for those in ``OWNED``; it quotes the name at most.
    """
    name, colon, value = text.partition(":")
    value = value.strip(" \t")
    if not colon or not _NAME.fullmatch(name):
        raise InvalidRequest("that is no header", hint="Write it as 'Name: value'.")
    usual = "-".join(part.capitalize() for part in name.split("-"))
    if usual in OWNED:
        raise InvalidRequest(f"the header {usual} is the download's own", hint="Leave it out.")
    if not _VALUE.fullmatch(value):
        raise InvalidRequest(f"the value of the header {usual} is empty, or has more than printable ASCII")
    return usual, value


def login(user: str, password: str) -> tuple[str, str]:
    """Return a login that Basic can say; raises ``InvalidRequest`` (RFC 7617, section 2)."""
    if not user or ":" in user:
        raise InvalidRequest("the user's name is empty or has a colon, which Basic can't say")
    if not (user + password).isprintable():
        raise InvalidRequest("the user's name or the password has a control character")
    return user, password


def token(text: str) -> str:
    """Return a bearer token without the space around it; raises ``InvalidRequest`` where it is none."""
    found = text.strip()
    if not re.fullmatch(r"[\x21-\x7e]+", found):
        raise InvalidRequest("the bearer token is empty, or is not one line of printable ASCII")
    return found


def without_user_info(url: str) -> tuple[str, tuple[str, str] | None]:
    """Take user and password out of a URL that ``source.parse`` took; ``None`` where there are none.

    Raises ``InvalidRequest``.
    """
    parts = urlsplit(url)
    info, at, place = parts.netloc.rpartition("@")
    if not at:
        return url, None
    bare = urlunsplit(parts._replace(netloc=place))
    user, _, password = info.partition(":")
    return bare, login(unquote(user), unquote(password)) if info else None
