"""HTTP with a guard: requests whose every hop is checked, and errors in our own words."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit

import httpx

from headrace import __version__
from headrace.download.guard import Guard, GuardedTransport
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
from headrace.source import redact

MAX_REDIRECTS = 5
"""FIELD.md, Security."""

MAX_RETRY_AFTER_SECONDS = 24 * 3600.0
"""A server that asks for longer has said enough."""

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
"""No byte for so long ends the attempt."""


class Session:
    """Connections to sources, with redirects followed by us because each hop is a decision."""

    def __init__(self, guard: Guard) -> None:
        self._transport = GuardedTransport(guard)
        self._typed_may_be_private = guard.typed_may_be_private
        self._client = httpx.Client(
            transport=self._transport,
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            headers={"User-Agent": f"headrace/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"},
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @contextlib.contextmanager
    def get(
        self, url: str, headers: Mapping[str, str], *, private: Mapping[str, str] | None = None
    ) -> Iterator[httpx.Response]:
        """Open a GET after its redirects; the body is not read yet, and any status is returned.

        ``private`` headers (credentials) go to the first origin only. Raises a ``SourceError``.
        """
        with _translated(url), contextlib.ExitStack() as stack:
            yield self._follow(stack, url, dict(headers), dict(private or {}))

    def _follow(
        self, stack: contextlib.ExitStack, first: str, headers: dict[str, str], private: dict[str, str]
    ) -> httpx.Response:
        backend = self._transport.backend
        backend.may_be_private = self._typed_may_be_private
        url = first
        for _ in range(MAX_REDIRECTS + 1):
            sent = headers | private if _origin(url) == _origin(first) else headers
            reply = stack.enter_context(self._client.stream("GET", url, headers=sent))
            target = reply.headers.get("location")
            if not reply.is_redirect or target is None:
                return reply
            stack.pop_all().close()
            backend.may_be_private &= backend.last_was_private
            url = _next_hop(url, target)
        raise RedirectRefused(f"{redact(first)} redirects more than {MAX_REDIRECTS} times")

    def read(self, url: str, headers: Mapping[str, str], max_bytes: int) -> tuple[httpx.Response, bytes]:
        """Return the answer to a GET (any status) with its body, which must be small."""
        with self.get(url, headers) as reply:
            body = b""
            for piece in reply.iter_bytes():
                body += piece
                if len(body) > max_bytes:
                    raise SourceTooLarge(f"{redact(url)} has more than {max_bytes} bytes", hint="Is it really a feed?")
            return reply, body


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


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


def check_status(reply: httpx.Response) -> None:
    """Raise the ``SourceError`` that an answer other than 200 or 206 means."""
    status = reply.status_code
    if status in {httpx.codes.OK, httpx.codes.PARTIAL_CONTENT}:
        return
    said = f"the server answers {status} {reply.reason_phrase}".strip()
    if status in {404, 410}:
        raise SourceNotFound(said, status=status)
    if status in {401, 403, 407}:
        raise SourceForbidden(said, status=status)
    if status in {408, 425, 429} or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise SourceUnavailable(said, status=status, retry_after_seconds=_retry_after(reply))
    if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise SourceChanged("the source became shorter while it was downloaded", status=status)
    raise SourceRefused(said, status=status)


def _retry_after(reply: httpx.Response) -> float | None:
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
    shown = redact(url)
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
