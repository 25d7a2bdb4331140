"""Which proxy a URL is asked for through. Pure, no I/O.

Only ``http://`` and ``https://`` proxies are known: https goes through them in a tunnel
(``CONNECT``, RFC 9110, section 9.3.6), http in absolute form (RFC 9112, section 3.2.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from urllib.parse import unquote, urlsplit

from headrace.errors import InvalidRequest

PORTS = {"http": 1080, "https": 443}
"""Of a proxy that says none, as in curl (curl.se/docs/manpage.html, ``--proxy``)."""


@dataclass(frozen=True, slots=True)
class Proxies:
    """A proxy for each scheme, and what goes without."""

    http: str | None = field(default=None, repr=False)
    https: str | None = field(default=None, repr=False)
    without: tuple[str, ...] = ()
    """Hosts, domains (hosts below them too), networks; ``*`` is everything."""
    named_hosts_only: bool = False
    """Whether they are for the hosts that an ``Access`` names, and no others."""

    def of(self, url: str) -> str | None:
        """Return the proxy for a URL, or ``None`` for a connection of one's own."""
        parts = urlsplit(url)
        proxy = self.https if parts.scheme == "https" else self.http
        return None if proxy is None or self._goes_without(parts.hostname or "") else proxy

    def _goes_without(self, host: str) -> bool:
        host = host.rstrip(".")
        return any(one == "*" or _covers(one, host) for one in self.without)


NO_PROXIES = Proxies()


def always(proxy: str) -> Proxies:
    """Return what sends everything through one proxy; raises ``InvalidRequest`` where it is none. "" is none at all."""
    if not proxy:
        return NO_PROXIES
    found = checked(proxy)
    return Proxies(found, found)


def from_environment(environment: Mapping[str, str]) -> Proxies:
    """Return what the environment says, as curl reads it (everything.curl.dev, "Proxy environment variables").

    ``http_proxy`` counts in lower case only: to a CGI program ``HTTP_PROXY`` is a header of its
    caller's. Raises ``InvalidRequest``.
    """

    def value(*names: str) -> str | None:
        return next((environment[name] for name in names if environment.get(name)), None)

    everything = value("all_proxy", "ALL_PROXY")
    http, https = value("http_proxy") or everything, value("https_proxy", "HTTPS_PROXY") or everything
    without = (value("no_proxy", "NO_PROXY") or "").replace(",", " ").split()
    return Proxies(
        checked(http) if http else None,
        checked(https) if https else None,
        tuple(one.lower().removeprefix("*").removeprefix(".").rstrip(".") or "*" for one in without),
    )


def checked(proxy: str) -> str:
    """Return a proxy's URL with its scheme and port; raises ``InvalidRequest``, quoting nothing of it."""
    whole = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parts = urlsplit(whole)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidRequest("the proxy is no URL: its host or port can't be read") from None
    if parts.scheme not in PORTS:
        raise InvalidRequest(
            f"a proxy that speaks {parts.scheme} is not known", hint="Give an http:// or https:// URL."
        )
    if not host or not whole.isprintable() or " " in whole or parts.path.strip("/") or parts.query:
        raise InvalidRequest("the proxy is no URL of a host and a port", hint="Such as http://proxy.example.org:3128.")
    info = parts.netloc.rpartition("@")[0]
    place = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{info}{'@' if info else ''}{place}:{port or PORTS[parts.scheme]}"


def split(proxy: str) -> tuple[str, tuple[str, str] | None]:
    """Return a ``checked`` proxy's address without user info, and its user and password where it has them."""
    parts = urlsplit(proxy)
    info, _, place = parts.netloc.rpartition("@")
    user, _, password = info.partition(":")
    return f"{parts.scheme}://{place}", (unquote(user), unquote(password)) if info else None


def _covers(one: str, host: str) -> bool:
    try:
        return ip_address(host) in ip_network(one.strip("[]"), strict=False)
    except ValueError:
        return host == one or host.endswith("." + one)
