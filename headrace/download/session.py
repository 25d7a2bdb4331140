"""HTTP with a guard: requests whose every hop is checked, and errors in our own words."""

from __future__ import annotations

import contextlib
import re
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.parse import urljoin, urlsplit

import httpx

from headrace import __version__
from headrace.download.body import ANSWER_SECONDS, READ_SECONDS, Body, Reply, Wire, length_of
from headrace.download.guard import Address, Guard, GuardedTransport, is_public, within
from headrace.download.turns import COUNTED, Turns
from headrace.errors import (
    HeadraceError,
    RedirectRefused,
    SourceChanged,
    SourceForbidden,
    SourceNotFound,
    SourceRefused,
    SourceTimeout,
    SourceTooLarge,
    SourceTruncated,
    SourceUnavailable,
)
from headrace.hosts import Hosts, LocalHosts, host_key
from headrace.source import redact

MAX_REDIRECTS = 5
"""FIELD.md, Security."""

CONNECT_SECONDS = 10.0

REDIRECTS = frozenset({301, 302, 303, 307, 308})

MAX_RETRY_AFTER_SECONDS = 24 * 3600.0
"""A server that asks for longer has said enough."""

MAX_IDLE = 64
"""Connections that are kept for another request."""

_Key = tuple[str, str | None, int | None, bool]
"""Whom a connection is to, and whether a private address was allowed for it."""

_TARGET = re.compile(r"/[A-Za-z0-9._~:/?@!$&'()*+,;=%-]*")
"""A request's target that is sent as it stands (RFC 3986, section 3.3 and 3.4)."""


MAX_CONNECTIONS = 1024
"""Of one session to all hosts together; what one host gets is decided elsewhere."""

HEADERS = {"User-Agent": f"headrace/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}


class Session:
    """Connections to sources, with redirects followed by us because each hop is a decision.

    Several threads may use one session. Connections are used again as long as their replies
    are read to the end.
    """

    def __init__(self, guard: Guard, hosts: Hosts | None = None) -> None:
        """``hosts`` is the book that says who may be asked when; by default one of this session's own."""
        hosts = hosts or LocalHosts()
        tls = ssl.create_default_context()
        self._typed_may_be_private = guard.typed_may_be_private
        most_idle = 0 if hosts.shared else None
        self._strict = _client(guard, tls, most_idle, may_be_private=False)
        self._typed = (
            _client(guard, tls, most_idle, may_be_private=True) if guard.typed_may_be_private else self._strict
        )
        self._lock = threading.Lock()
        self._idle: dict[_Key, list[tuple[Wire, float]]] = {}
        self._idle_seconds = hosts.idle_seconds
        self._turns = Turns(hosts, self._shed)
        self._own = contextlib.ExitStack()
        self._own.callback(hosts.each_beat(self._tidy))

    def close(self) -> None:
        """Close the connections."""
        self._own.close()
        with self._lock:
            idle, self._idle = self._idle, {}
        for wire, _ in (pair for kept in idle.values() for pair in kept):
            wire.own.close()
        self._strict.close()
        self._typed.close()

    @contextlib.contextmanager
    def get(self, url: str, headers: Mapping[str, str], *, private: Mapping[str, str] | None = None) -> Iterator[Reply]:
        """Open a GET after its redirects; the body is not read yet, and any status is returned.

        ``private`` headers (credentials) go to the first origin only. Raises a ``SourceError``.
        """
        with _translated(url), contextlib.ExitStack() as stack:
            yield self._follow(stack, url, dict(headers), dict(private or {}))

    def _follow(
        self, stack: contextlib.ExitStack, first: str, headers: dict[str, str], private: dict[str, str]
    ) -> Reply:
        may_be_private = self._typed_may_be_private
        url = first
        for _ in range(MAX_REDIRECTS + 1):
            sent = headers | private if _origin(url) == _origin(first) else headers
            hop = stack.enter_context(contextlib.ExitStack())
            reply, public = self._send(hop, url, sent, may_be_private=may_be_private)
            target = reply.headers.get("location")
            if reply.status not in REDIRECTS or target is None:
                return reply
            hop.close()
            may_be_private = may_be_private and not public
            url = _next_hop(url, target)
        raise RedirectRefused(f"{redact(first)} redirects more than {MAX_REDIRECTS} times")

    def _send(
        self, hop: contextlib.ExitStack, url: str, headers: dict[str, str], *, may_be_private: bool
    ) -> tuple[Reply, bool]:
        """Send a GET over a connection that is free, else a new one; also return whether its peer is public."""
        key = (*_origin(url), may_be_private)
        host, target = _host(key), _target(url)
        kept = partial(self._take, key) if target is not None else _none
        while True:
            wire, own = self._turns.take(host, kept)
            with contextlib.ExitStack() as ours:
                ours.callback(own.close)
                reply: Reply | None
                try:
                    if wire is None or target is None:
                        reply, address = self._open(own, url, headers, may_be_private=may_be_private)
                    else:
                        reply, address = self._ask(wire, url, target, headers), wire.address
                except SourceTruncated:
                    continue  # the server has closed it meanwhile: nothing was done, another one is asked
                except COUNTED as error:
                    self._turns.broke(host, url, error)
                    raise
                if reply is None:
                    kept = _none
                    continue
                self._turns.answered(host, url, reply.status, _retry_after(reply))
                ours.pop_all()
                hop.callback(self._end, key, own, reply.body)
                return reply, is_public(address)

    def _open(
        self, own: contextlib.ExitStack, url: str, headers: dict[str, str], *, may_be_private: bool
    ) -> tuple[Reply, Address]:
        """Ask over a new connection, which ``own`` will close; also return its peer's address."""
        client = self._typed if may_be_private else self._strict
        with within(ANSWER_SECONDS):
            response = own.enter_context(client.stream("GET", url, headers=headers))
        fields = dict(response.headers)
        body = Body(length_of(response.status_code, fields), response=response)
        reply = Reply(response.status_code, response.reason_phrase, fields, url, body)
        return reply, response.extensions["network_stream"].address

    def _ask(self, wire: Wire, url: str, target: str, headers: dict[str, str]) -> Reply | None:
        """Ask over a kept connection; ``None`` where only httpx could read the answer's body."""
        status, reason, fields, first = wire.ask(target, HEADERS | headers)
        length = length_of(status, fields)
        if length is None and status < httpx.codes.MULTIPLE_CHOICES:
            return None
        if length is None:  # a page that says what is wrong: nobody reads it
            length, first, wire.reusable = 0, b"", False
        return Reply(status, reason, fields, url, Body(length, wire=wire, first=first))

    def _take(self, key: _Key) -> Wire | None:
        """Return a connection that is free and quiet: one with something to read was closed, or worse."""
        while True:
            with self._lock:
                kept = self._idle.get(key)
                if not kept:
                    self._idle.pop(key, None)
                    return None
                wire, since = kept.pop()
            if time.monotonic() - since < self._idle_seconds and wire.is_quiet():
                return wire
            wire.own.close()

    def _end(self, key: _Key, own: contextlib.ExitStack, body: Body) -> None:
        """Keep the connection of a body that was read to its end, and close it else."""
        wire, host = body.wire(), _host(key)
        if wire is None or self._turns.is_wanted_elsewhere(host):
            own.close()
            return
        wire.own = own
        now = time.monotonic()
        with self._lock:
            self._idle.setdefault(key, []).append((wire, now))
            aged = [pair for kept in self._idle.values() for pair in kept if now - pair[1] > self._idle_seconds]
            if not aged and sum(map(len, self._idle.values())) > MAX_IDLE:
                aged = [min((pair for kept in self._idle.values() for pair in kept), key=lambda pair: pair[1])]
            for name, kept in list(self._idle.items()):
                self._idle[name] = [pair for pair in kept if pair not in aged]
                if not self._idle[name]:
                    del self._idle[name]
        self._turns.freed(host)
        for old, _ in aged:
            old.own.close()

    def _tidy(self) -> None:
        """Close the connections that nobody has used for a while, or that others wait for."""
        now = time.monotonic()
        with self._lock:
            aged = [
                self._pull(key, pair)
                for key, kept in list(self._idle.items())
                for pair in list(kept)
                if now - pair[1] > self._idle_seconds or self._turns.is_wanted_elsewhere(_host(key))
            ]
        for wire in aged:
            wire.own.close()

    def _shed(self, host: str) -> bool:
        """Close a connection to a host that nobody uses; return whether there was one."""
        with self._lock:
            found = [(key, kept[0]) for key, kept in self._idle.items() if kept and _host(key) == host]
            wire = self._pull(*found[0]) if found else None
        if wire is not None:
            wire.own.close()
        return wire is not None

    def _pull(self, key: _Key, pair: tuple[Wire, float]) -> Wire:
        """Take a connection out of those that are kept; under the lock."""
        self._idle[key].remove(pair)
        if not self._idle[key]:
            del self._idle[key]
        return pair[0]

    def read(self, url: str, headers: Mapping[str, str], max_bytes: int) -> tuple[Reply, bytes]:
        """Return the answer to a GET (any status) with its body, which must be small."""
        with self.get(url, headers) as reply:
            content = reply.body.read(max_bytes)
            if content is None:
                raise SourceTooLarge(f"{redact(url)} has more than {max_bytes} bytes", hint="Is it the right address?")
            return reply, content


def _client(guard: Guard, tls: ssl.SSLContext, most_idle: int | None, *, may_be_private: bool) -> httpx.Client:
    """``most_idle`` connections httpx may keep by itself, after bodies without a length; ``None``: any number."""
    limits = httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=most_idle)
    return httpx.Client(
        transport=GuardedTransport(guard, may_be_private=may_be_private, limits=limits, tls=tls),
        trust_env=False,
        # Cookies of one download are no business of the next one, which may be another owner's.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
        headers=HEADERS,
    )


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def same_origin(one: str, other: str) -> bool:
    """Return whether two URLs have the same scheme, host and port, as credentials are bound to."""
    return _origin(one) == _origin(other)


def _host(key: _Key) -> str:
    return host_key(key[1], key[2])


def _none() -> None:
    return None


def _target(url: str) -> str | None:
    """Return what a request for a URL asks for, or ``None`` where only httpx knows.

    It quotes, takes dots out of paths, and makes credentials of user info.
    """
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return target if _TARGET.fullmatch(target) and "/." not in target and "@" not in parts.netloc else None


def _next_hop(url: str, target: str) -> str:
    following = urljoin(url, target)
    try:
        parts = urlsplit(following)
    except ValueError as error:
        raise RedirectRefused(f"{redact(url)} redirects to something that is no URL") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise RedirectRefused(f"{redact(url)} redirects to {parts.scheme or 'nothing'}, which is not http(s)")
    if urlsplit(url).scheme == "https" and parts.scheme == "http":
        raise RedirectRefused(f"{redact(url)} redirects from https to http")
    return following


def check_status(reply: Reply) -> None:
    """Raise the ``SourceError`` that an answer other than 200 or 206 means."""
    status = reply.status
    if status in {httpx.codes.OK, httpx.codes.PARTIAL_CONTENT}:
        return
    said = f"the server answers {status} {reply.reason}".strip()
    if status in {404, 410}:
        raise SourceNotFound(said, status=status)
    if status in {401, 403, 407}:
        raise SourceForbidden(said, status=status)
    if status in {408, 425, 429} or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise SourceUnavailable(said, status=status, retry_after_seconds=_retry_after(reply))
    if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise SourceChanged("the source became shorter while it was downloaded", status=status)
    raise SourceRefused(said, status=status)


def _retry_after(reply: Reply) -> float | None:
    """Return ``Retry-After`` in seconds (RFC 9110, section 10.2.3: a number or a date)."""
    value = reply.headers.get("retry-after", "").strip()
    try:
        number = value.isascii() and value.isdigit()
        seconds = float(value) if number else parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, seconds), MAX_RETRY_AFTER_SECONDS)


@contextlib.contextmanager
def _translated(url: str) -> Iterator[None]:
    try:
        shown = redact(url)
    except ValueError as error:
        raise SourceRefused("that is no URL") from error
    try:
        yield
    except HeadraceError:
        raise
    except httpx.TimeoutException as error:
        raise SourceTimeout(f"{shown} sent nothing for too long") from error
    except httpx.RemoteProtocolError as error:
        raise SourceTruncated(f"{shown} broke off: {error}") from error
    except httpx.TransportError as error:
        raise SourceUnavailable(f"{shown} can't be read: {error}") from error
    except (httpx.InvalidURL, ValueError) as error:
        raise SourceRefused(f"{shown} can't be asked for: {error}") from error
