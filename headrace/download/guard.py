"""The address guard: which addresses a download may connect to.

1. A name is resolved once, every address it has is checked, and the connection goes to a
   checked address. Nothing resolves the name a second time (DNS rebinding).
2. IPv4 addresses inside IPv6 ones (mapped, 6to4, Teredo, NAT64, compatible) are unwrapped
   and checked too; ``ipaddress.is_global`` alone lets ``64:ff9b::a9fe:a9fe`` pass.
3. Every redirect is a new connection and is checked again; one from a public address to
   one that is not is refused even where the first may be private.

Its connections also notice a ``stop`` while they wait for an answer (``stoppable``).
"""

from __future__ import annotations

import math
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

import httpcore
import httpx

from headrace.errors import AddressForbidden, Cancelled, SourceUnavailable, SourceUnresolvable
from headrace.process import Stop

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
"""RFC 6052 and RFC 8215: the last 32 bits are an IPv4 address."""

TRANSLATED = IPv6Network("::ffff:0:0:0/96")
"""RFC 2765, section 2.1 (SIIT): the last 32 bits are an IPv4 address."""

COMPATIBLE = IPv6Network("::/96")
"""RFC 4291, section 2.5.5.1 (deprecated): the last 32 bits are an IPv4 address."""

MAX_ADDRESSES = 4
"""Of one name: a hostile one may have hundreds, each of which takes its time to refuse."""

SLICE_SECONDS = 0.5
"""How long one wait for bytes lasts at most, and so how soon a stop is noticed."""

_STOP: ContextVar[Stop | None] = ContextVar("stop", default=None)
_UNTIL: ContextVar[float] = ContextVar("until", default=math.inf)


@contextmanager
def stoppable(stop: Stop | None) -> Iterator[None]:
    """Let ``stop`` end this thread's waits for answers in the block: they raise ``Cancelled``."""
    token = _STOP.set(stop)
    try:
        yield
    finally:
        _STOP.reset(token)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Let this thread's waits in the block end after so long altogether, as timeouts."""
    token = _UNTIL.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _UNTIL.reset(token)


def current_stop() -> Stop | None:
    """Return the ``stop`` of this thread's block, if it is in one."""
    return _STOP.get()


@dataclass(frozen=True, slots=True)
class Guard:
    """Which addresses are allowed beside the public ones."""

    networks: tuple[Network, ...] = ()
    """What the operator allows for every hop."""
    typed_may_be_private: bool = False
    """``headrace fetch``: a URL that its user typed may be private or loopback."""

    def allows(self, address: Address, *, may_be_private: bool) -> bool:
        """Return whether a connection to the address may be made."""
        if any(address in network for network in self.networks if network.version == address.version):
            return True
        return may_be_private or is_public(address)

    def check(self, host: str | None, port: int | None, *, may_be_private: bool) -> bool:
        """Check a host that a proxy will connect to; return whether it is public as far as can be seen.

        The proxy resolves the name again, and perhaps to something else: that is its operator's
        business. A name that has no address here is left to it altogether. Raises ``AddressForbidden``.
        """
        try:
            addresses = resolve(host or "", port or 0)
        except (SourceUnresolvable, SourceUnavailable):
            return True
        for address in addresses:
            if not self.allows(address, may_be_private=may_be_private):
                raise AddressForbidden(f"{host} has the address {address}, which is not allowed", address=str(address))
        return all(is_public(address) for address in addresses)


def is_public(address: Address) -> bool:
    """Return whether an address, and every IPv4 address inside it, is on the public internet."""
    return all(_is_ordinary(one) for one in _all_inside(address))


def _is_ordinary(address: Address) -> bool:
    site_local = isinstance(address, IPv6Address) and address.is_site_local  # fec0::/10, deprecated by RFC 3879
    return address.is_global and not (address.is_multicast or address.is_unspecified or site_local)


def _all_inside(address: Address) -> Iterable[Address]:
    yield address
    if isinstance(address, IPv4Address):
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if any(address in network for network in (*NAT64, TRANSLATED, COMPATIBLE)):
        yield IPv4Address(int(address) & 0xFFFFFFFF)


class GuardedTransport(httpx.HTTPTransport):
    """httpx's transport, connecting only where the guard allows.

    Connections that may be private and others never share a pool: one that was made for a
    typed address must not serve a redirect from a public one.
    """

    def __init__(
        self, guard: Guard, *, may_be_private: bool, limits: httpx.Limits, trust: ssl.SSLContext | None
    ) -> None:
        # Not httpx's own: it would read all certificates for a pool that is thrown away.
        self._pool = httpcore.ConnectionPool(
            ssl_context=trust,
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            network_backend=_GuardedBackend(guard, may_be_private=may_be_private),
        )


class ProxiedTransport(httpx.HTTPTransport):
    """httpx's transport through a proxy, whose own address is the choice of who named it.

    Where the proxy connects to is checked before, as far as that can be seen from here (``Guard.check``).
    """

    def __init__(
        self,
        proxy: str,
        login: tuple[str, str] | None,
        *,
        limits: httpx.Limits,
        trust: ssl.SSLContext | None,
        proxy_trust: ssl.SSLContext | None,
    ) -> None:
        self._pool = httpcore.HTTPProxy(
            proxy,
            proxy_auth=(login[0].encode(), login[1].encode()) if login else None,
            ssl_context=trust,
            proxy_ssl_context=proxy_trust,
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            network_backend=_ProxyBackend(Guard(), may_be_private=True),
        )


class _GuardedBackend(httpcore.SyncBackend):
    def __init__(self, guard: Guard, *, may_be_private: bool) -> None:
        super().__init__()
        self._guard = guard
        self._may_be_private = may_be_private

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = resolve(host, port)
        for address in addresses:
            if not self._guard.allows(address, may_be_private=self._may_be_private):
                raise AddressForbidden(f"{host} has the address {address}, which is not allowed", address=str(address))
        failure: Exception | None = None
        for address in addresses[:MAX_ADDRESSES]:
            if (stop := _STOP.get()) is not None and stop.is_set():
                raise Cancelled("the download was stopped")
            try:
                stream = super().connect_tcp(str(address), port, timeout, local_address, socket_options)
                return _Stream(stream, address)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise SourceUnavailable(f"{host} refuses connections on port {port}") from failure


class _ProxyBackend(_GuardedBackend):
    def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        try:
            return super().connect_tcp(host, port, *args, **kwargs)
        except (SourceUnresolvable, SourceUnavailable) as error:
            raise type(error)(f"the proxy can't be reached: {error.message}", hint="Check its address.") from error


class _Stream(httpcore.NetworkStream):
    """A connection whose reading looks at the thread's ``stop`` twice a second."""

    def __init__(self, inner: httpcore.NetworkStream, address: Address) -> None:
        self._inner = inner
        self.address = address
        """The one that was checked; a socket forgets its peer when that resets the connection."""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        since, stop, until = time.monotonic(), _STOP.get(), _UNTIL.get()
        while True:
            if stop is not None and stop.is_set():
                raise Cancelled("the download was stopped")
            if time.monotonic() > until:
                raise httpcore.ReadTimeout("the answer takes too long to begin")
            try:
                return self._inner.read(max_bytes, timeout=SLICE_SECONDS)
            except httpcore.ReadTimeout:
                if timeout is not None and time.monotonic() - since > timeout:
                    raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout), self.address)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def resolve(host: str, port: int) -> list[Address]:
    """Return a host's addresses; raises ``SourceUnresolvable``, or ``SourceUnavailable`` (retry) if DNS is down."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
            raise SourceUnavailable(
                f"the name {host} can't be resolved at the moment",
                hint="Check the spelling of the host's name and this machine's DNS; it will be tried again.",
            ) from error
        raise SourceUnresolvable(f"the host {host} does not exist") from error
    addresses = [ip_address(str(one[4][0]).partition("%")[0]) for one in found]
    return list(dict.fromkeys(addresses))
