"""HTTP with a guard: requests whose every hop is checked, and errors in our own words."""

from __future__ import annotations

import contextlib
import math
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
from headrace.download import access as accesses
from headrace.download import proxies, tls
from headrace.download.access import DIRECT, OPEN, Access, Origin, Route
from headrace.download.body import ANSWER_SECONDS, READ_SECONDS, UNWRITABLE, Body, Reply, Wire, length_of
from headrace.download.guard import Guard, GuardedTransport, ProxiedTransport, is_public, within
from headrace.download.turns import COUNTED, Turns
from headrace.errors import (
    HeadraceError,
    InvalidRequest,
    RedirectRefused,
    SourceChanged,
    SourceError,
    SourceForbidden,
    SourceNotFound,
    SourceRefused,
    SourceTimeout,
    SourceTooLarge,
    SourceTruncated,
    SourceUnavailable,
)
from headrace.hosts import Hosts, LocalHosts, host_key
from headrace.log import Log
from headrace.source import redact, shown

log = Log(__name__)

MAX_REDIRECTS = 5
"""FIELD.md, Security."""

CONNECT_SECONDS = 10.0

REDIRECTS = frozenset({301, 302, 303, 307, 308})

MAX_RETRY_AFTER_SECONDS = 24 * 3600.0
"""A server that asks for longer has said enough."""

MAX_IDLE = 64
"""Connections that are kept for another request."""

_Key = tuple[Origin, bool, Route]
"""Whom a connection is to, whether a private address was allowed for it, and what it was made with."""

ERROR_SECONDS = 1.0
"""How long the text of an error is waited for, where it hasn't come with the head."""

_S3_CODE = re.compile(rb"<Code>([A-Za-z]{1,60})</Code>")

_TARGET = re.compile(r"/[A-Za-z0-9._~:/?@!$&'()*+,;=%-]*")
"""A request's target that is sent as it stands (RFC 3986, section 3.3 and 3.4)."""


CHECKED_SECONDS = 60.0
"""How long a host's address isn't looked up again for a proxy: where only that resolves names, each look-up may take
seconds to fail."""

MAX_CONNECTIONS = 1024
"""Of one session to all hosts together; what one host gets is decided elsewhere."""

HEADERS = {"User-Agent": f"headrace/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}


class Session:
    """Connections to sources, with redirects followed by us because each hop is a decision.

    Several threads may use one session. Connections are used again as long as their replies
    are read to the end, for requests of the same route.
    """

    def __init__(self, guard: Guard, hosts: Hosts | None = None) -> None:
        """``hosts`` is the book that says who may be asked when; by default one of this session's own."""
        hosts = hosts or LocalHosts()
        self._guard = guard
        self._most_idle = 0 if hosts.shared else None
        self._lock = threading.Lock()
        self._idle: dict[_Key, list[tuple[Wire, float]]] = {}
        self._idle_seconds = hosts.idle_seconds
        self._clients: dict[tuple[Route, bool, tls.Stamp | None], httpx.Client] = {}
        self._checked: dict[tuple[str | None, bool], tuple[bool, float]] = {}
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
        for client in self._clients.values():
            client.close()

    @contextlib.contextmanager
    def get(
        self, url: str, headers: Mapping[str, str], *, access: Access = OPEN, typed: bool = True
    ) -> Iterator[Reply]:
        """Open a GET after its redirects; the body is not read yet, and any status is returned.

        ``access`` decides for each hop what it is shown; ``typed`` says that the URL is the user's own
        (``Guard.typed_may_be_private``). Raises a ``SourceError``, or
        ``InvalidRequest`` where a certificate can't be used.
        """
        with _translated(url), contextlib.ExitStack() as stack:
            try:
                reply = self._follow(stack, url, dict(headers), access, typed=typed)
            except (httpx.InvalidURL, ValueError) as error:
                raise SourceRefused(f"{redact(url)} can't be asked for: {error}") from error
            yield reply

    def _follow(
        self, stack: contextlib.ExitStack, first: str, headers: dict[str, str], access: Access, *, typed: bool
    ) -> Reply:
        may_be_private = typed and self._guard.typed_may_be_private
        url = first
        for _ in range(MAX_REDIRECTS + 1):
            sent = headers if access is OPEN else access.headers_to(url, first) | headers
            route = DIRECT if access is OPEN else access.route_to(url, first)
            hop = stack.enter_context(contextlib.ExitStack())
            reply, public = self._send(hop, url, sent, route, may_be_private=may_be_private)
            target = reply.headers.get("location")
            if reply.status not in REDIRECTS or target is None:
                return reply
            hop.close()
            may_be_private = may_be_private and not public
            url = _next_hop(url, target)
        raise RedirectRefused(f"{redact(first)} redirects more than {MAX_REDIRECTS} times")

    def _send(
        self, hop: contextlib.ExitStack, url: str, headers: dict[str, str], route: Route, *, may_be_private: bool
    ) -> tuple[Reply, bool]:
        """Send a GET over a connection that is free, else a new one; also return whether its peer is public."""
        key = (accesses.origin(url), may_be_private, route)
        host, target = _host(key), _target(url, route)
        kept = partial(self._take, key) if target is not None else _none
        while True:
            wire, own = self._turns.take(host, kept)
            with contextlib.ExitStack() as ours:
                ours.callback(own.close)
                reply: Reply | None
                try:
                    if wire is None or target is None:
                        reply, public = self._open(own, url, headers, route, may_be_private=may_be_private)
                    else:
                        reply = self._ask(wire, url, target, headers | _for_proxy(url, route))
                        public = wire.public
                except SourceTruncated:
                    continue  # the server has closed it meanwhile: nothing was done, another one is asked
                except COUNTED as error:
                    ours_to_blame = isinstance(error, httpx.LocalProtocolError)
                    if route.proxy is None and not ours_to_blame:  # with a proxy nobody knows which of the two it was
                        self._turns.broke(host, url, error)
                    raise
                if reply is None:
                    kept = _none
                    continue
                self._turns.answered(host, url, reply.status, _retry_after(reply))
                ours.pop_all()
                hop.callback(self._end, key, own, reply.body, public=public)
                return reply, public

    def _open(
        self, own: contextlib.ExitStack, url: str, headers: dict[str, str], route: Route, *, may_be_private: bool
    ) -> tuple[Reply, bool]:
        """Ask over a new connection, which ``own`` will close; also return whether its peer is public."""
        proxied = None if route.proxy is None else self._check(accesses.origin(url), may_be_private=may_be_private)
        with within(ANSWER_SECONDS):
            response = own.enter_context(
                self._client(route, url, may_be_private=may_be_private).stream("GET", url, headers=headers)
            )
        fields = dict(response.headers)
        body = Body(length_of(response.status_code, fields), response=response)
        public = is_public(response.extensions["network_stream"].address) if proxied is None else proxied
        return Reply(response.status_code, response.reason_phrase, fields, url, body), public

    def _check(self, origin: Origin, *, may_be_private: bool) -> bool:
        """Return whether a host behind a proxy is public (``Guard.check``), as it was found out lately."""
        _, host, port = origin
        public, since = self._checked.get((host, may_be_private), (False, -math.inf))
        if time.monotonic() - since > CHECKED_SECONDS:
            public = self._guard.check(host, port, may_be_private=may_be_private)
            self._checked[host, may_be_private] = public, time.monotonic()
        return public

    def _client(self, route: Route, url: str, *, may_be_private: bool) -> httpx.Client:
        """Return what makes connections of a kind; made when it is first needed."""
        strict = not (may_be_private and self._guard.typed_may_be_private)
        # A certificate that was renewed in its place is read anew.
        stamp = tls.stamp(route) if url.startswith("https:") else None
        with self._lock:
            found = self._clients.get((route, strict, stamp))
            if found is None:
                try:
                    trust = None if stamp is None else tls.context(route)  # reading all authorities takes 20 ms
                except InvalidRequest as error:
                    older = [
                        one
                        for (known, whose, earlier), one in self._clients.items()
                        if (known, whose) == (route, strict) and stamp and earlier and stamp.is_renewal_of(earlier)
                    ]
                    if not older:
                        raise
                    log.warning("download.certificate_being_renewed", why=error.message)
                    return older[-1]  # the key comes after the certificate
                found = _client(self._guard, route, trust, self._most_idle, may_be_private=not strict)
                self._clients[route, strict, stamp] = found
            return found

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

    def _end(self, key: _Key, own: contextlib.ExitStack, body: Body, *, public: bool) -> None:
        """Keep the connection of a body that was read to its end, and close it else."""
        wire, host = body.wire(), _host(key)
        if wire is None or self._turns.is_wanted_elsewhere(host):
            own.close()
            return
        wire.own, wire.public = own, public
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

    def read(self, url: str, headers: Mapping[str, str], max_bytes: int, access: Access = OPEN) -> tuple[Reply, bytes]:
        """Return the answer to a GET (any status) with its body, which must be small."""
        with self.get(url, headers, access=access) as reply:
            content = reply.body.read(max_bytes)
            if content is None:
                raise SourceTooLarge(f"{redact(url)} has more than {max_bytes} bytes", hint="Is it the right address?")
            return reply, content


def _client(
    guard: Guard, route: Route, trust: ssl.SSLContext | None, most_idle: int | None, *, may_be_private: bool
) -> httpx.Client:
    """``trust`` is for https; httpx may keep ``most_idle`` connections (``None``: any number) that have no length."""
    limits = httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=most_idle)
    transport: httpx.HTTPTransport
    if route.proxy is None:
        transport = GuardedTransport(guard, may_be_private=may_be_private, limits=limits, trust=trust)
    else:
        address, login = proxies.split(route.proxy)
        transport = ProxiedTransport(address, login, limits=limits, trust=trust, proxy_trust=tls.proxy_context(route))
    return httpx.Client(
        transport=transport,
        trust_env=False,
        # Cookies of one download are no business of the next one, which may be another owner's.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
        headers=HEADERS,
    )


def _host(key: _Key) -> str:
    return host_key(key[0][1], key[0][2])


def _none() -> None:
    return None


def _target(url: str, route: Route) -> str | None:
    """Return what a request for a URL asks for, or ``None`` where only httpx knows.

    It quotes, takes dots out of paths, and makes credentials of user info.
    """
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not _TARGET.fullmatch(target) or "/." in target or "@" in parts.netloc:
        return None
    if not _is_forwarded(url, route):
        return target
    return f"http://{parts.netloc}{target}" if parts.netloc.isascii() else None


def _is_forwarded(url: str, route: Route) -> bool:
    """Return whether the proxy itself reads the request: it does so for http, and hands on what is TLS."""
    return route.proxy is not None and urlsplit(url).scheme == "http"


def _for_proxy(url: str, route: Route) -> dict[str, str]:
    """Return the headers that httpx would add for the proxy."""
    if route.proxy is None or not _is_forwarded(url, route):
        return {}
    _, login = proxies.split(route.proxy)
    return {"Proxy-Authorization": accesses.basic(*login)} if login else {}


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
    said = f"the server answers {status} {shown(reply.reason)}".strip() + _code(reply)
    if status in {404, 410}:
        raise SourceNotFound(said, status=status)
    if status in {401, 403, 407}:
        raise SourceForbidden(said, status=status)
    if status in {408, 425, 429} or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise SourceUnavailable(said, status=status, retry_after_seconds=_retry_after(reply))
    if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise SourceChanged("the source became shorter while it was downloaded", status=status)
    raise SourceRefused(said, status=status)


def _code(reply: Reply) -> str:
    """Return the code of an S3's error, in brackets (Amazon S3 API reference, "Error responses"); else nothing."""
    if not reply.headers.get("content-type", "").startswith(("application/xml", "text/xml")):
        return ""
    with contextlib.suppress(SourceError, httpx.HTTPError, httpx.StreamError), within(ERROR_SECONDS):
        found = _S3_CODE.search(reply.body.beginning())
        return f" ({found[1].decode('ascii')})" if found is not None else ""
    return ""  # what went wrong is known without it


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
        address = redact(url)
    except ValueError as error:
        raise SourceRefused("that is no URL") from error
    try:
        yield
    except HeadraceError:
        raise
    except httpx.ProxyError as error:
        raise _from_proxy(str(error)) from error
    except httpx.TimeoutException as error:
        raise SourceTimeout(f"{address} sent nothing for too long") from error
    except httpx.LocalProtocolError:
        raise SourceRefused(UNWRITABLE) from None  # its text quotes the header
    except httpx.RemoteProtocolError as error:
        raise SourceTruncated(f"{address} broke off: {error}") from error
    except httpx.TransportError as error:
        raise _from_tls(address, str(error)) or SourceUnavailable(f"{address} can't be read: {error}") from error


def _from_tls(shown: str, said: str) -> HeadraceError | None:
    """Return the error that OpenSSL's words about certificates mean: another try changes nothing."""
    if "CERTIFICATE_VERIFY_FAILED" in said:
        reason = said.partition("CERTIFICATE_VERIFY_FAILED] ")[2].partition(" (_ssl.c")[0]
        return SourceRefused(
            f"{shown} can't be trusted: {reason}", hint="If it is right, name the authority that has signed it (--ca)."
        )
    if "ALERT_CERTIFICATE_REQUIRED" in said:
        return SourceForbidden(f"{shown} wants a certificate of the client's", hint="Name one, and its key.")
    return None


def _from_proxy(said: str) -> HeadraceError:
    """Return the error that a proxy's refusal of a tunnel means; httpcore hands on its status line."""
    status = said.partition(" ")[0]
    if status == "407":
        return SourceForbidden(
            "the proxy wants a login (407)", hint="Give it as http://USER:PASSWORD@HOST:PORT in the environment."
        )
    if status.startswith("4"):
        return SourceForbidden(f"the proxy refuses the connection: {said}", hint="Its operator knows what it allows.")
    return SourceUnavailable(f"the proxy can't make the connection: {said}")
