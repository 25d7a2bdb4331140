"""The bytes of a reply, read straight from the socket into the caller's buffer.

httpx speaks the protocol: it connects, does TLS and redirects, sends the headers and reads
the reply's. Its way of handing out bytes (64 KiB at a time through h11, copied four times)
costs more than a fast network does. So the first piece of a body of known length comes from
httpx, which empties h11's buffer, and the rest is received from the connection's own socket
(ADR 7).

httpx doesn't see the end of such a body, and so can't use the connection again. ``Wire`` can:
it sends the next request over the same socket, and h11, which httpx uses too, reads the head.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import h11
import httpcore
import httpx

from headrace.download.guard import SLICE_SECONDS, current_stop
from headrace.errors import Cancelled, SourceRefused, SourceTimeout, SourceTruncated
from headrace.process import Stop

HEAD_BYTES = 64 * 1024
"""What one read of a reply's head asks for; h11 refuses longer heads."""

READ_SECONDS = 30.0
"""No byte for so long ends the attempt."""

ANSWER_SECONDS = 60.0
"""The head of an answer, or a small body, takes no longer."""

UNWRITABLE = "the request can't be written: one of its headers has a character that HTTP forbids"

WITHOUT_BODY = frozenset({204, 304})
"""Their ``Content-Length`` is that of a body that doesn't come (RFC 9110, section 6.4.1)."""


class Reply:
    """The head of an answer, and its body; from httpx or from a ``Wire``."""

    __slots__ = ("body", "headers", "reason", "status", "url")

    def __init__(self, status: int, reason: str, headers: Mapping[str, str], url: str, body: Body) -> None:
        """``headers`` have their names in lower case, and several fields of a name joined by commas."""
        self.status = status
        self.reason = reason
        self.headers = headers
        self.url = url
        self.body = body


class Body:
    """One reply's body; ``read_into`` until it returns 0."""

    def __init__(
        self,
        length: int | None,
        *,
        response: httpx.Response | None = None,
        wire: Wire | None = None,
        first: bytes = b"",
    ) -> None:
        """The bytes come from an open, unread ``response``, or from a ``wire`` behind ``first``."""
        self._response = response
        self._wire = wire
        self._piece = memoryview(first)[: len(first) if length is None else length]
        self._left = None if length is None else length - len(self._piece)
        if wire is not None and len(first) > len(self._piece):
            wire.reusable = False  # the server sends more than it announced: what comes next is anything
        # No chunk size: httpx would hold back, and lose, the last bytes of a body that breaks off.
        self._pieces: Iterator[bytes] = response.iter_raw() if response is not None else iter(())

    def read_into(self, buffer: memoryview, stop: Stop | None = None) -> int:
        """Fill at most ``buffer`` with the next bytes; return how many, 0 at the end.

        Raises ``SourceTruncated``, ``SourceTimeout`` (a retry can help), or ``Cancelled``.
        """
        if not self._piece and self._wire is None:
            self._next_piece()
        if self._piece:
            taken = min(len(self._piece), len(buffer))
            buffer[:taken] = self._piece[:taken]
            self._piece = self._piece[taken:]
            return taken
        return self._receive(buffer, stop) if self._wire is not None and self._left else 0

    def beginning(self) -> bytes:
        """Return the first piece of an unread body, as far as it is there; may raise httpx's errors."""
        if not self._piece and self._wire is None:
            self._next_piece()
        return bytes(self._piece)

    def read(self, max_bytes: int) -> bytes | None:
        """Return all that is left, or ``None`` where that is more than ``max_bytes``."""
        content = bytearray()
        room = memoryview(bytearray(HEAD_BYTES))
        until = time.monotonic() + ANSWER_SECONDS
        while count := self.read_into(room):
            content += room[:count]
            if len(content) > max_bytes:
                return None
            if time.monotonic() > until:
                raise SourceTimeout(f"the answer took more than {ANSWER_SECONDS:.0f} s")
        return bytes(content)

    def wire(self) -> Wire | None:
        """Return the connection, if it is ours, the body is over, and it may be asked again."""
        over = self._wire is not None and self._left == 0 and not self._piece and self._wire.reusable
        return self._wire if over else None

    def _next_piece(self) -> None:
        """Get a piece from httpx; once h11's buffer is empty the connection is ours."""
        self._piece = memoryview(next(self._pieces, b""))
        if self._left is not None and self._piece:
            assert self._response is not None  # noqa: S101 - else there is a wire
            self._left -= len(self._piece)
            self._wire = Wire(self._response, self._pieces)

    def _receive(self, buffer: memoryview, stop: Stop | None) -> int:
        assert self._left is not None  # noqa: S101 - only a known length has a wire
        assert self._wire is not None  # noqa: S101
        count = self._wire.receive(buffer[: self._left], stop)
        if count == 0:
            raise SourceTruncated(f"the connection ended {self._left} bytes too early")
        self._left -= count
        return count


class Wire:
    """A connection that httpx has made, and that is read and written here from now on."""

    def __init__(self, response: httpx.Response, pieces: Iterator[bytes]) -> None:
        """Take the connection of an open response, whose head and first piece httpx has read."""
        self._pieces = pieces  # were it forgotten, httpcore would close the connection
        self._headers = {
            name: value for name, value in response.request.headers.items() if name in {"host", "connection"}
        }
        self._stream: Any = response.extensions["network_stream"]
        self.reusable = response.http_version == "HTTP/1.1" and _stays_open(response.headers)
        self.own = contextlib.ExitStack()
        """Closes the connection."""
        self.public = False
        """Whether the other end is on the public internet; who keeps the connection knows."""
        found, tls = self._stream.get_extra_info("socket"), self._stream.get_extra_info("ssl_object")
        # Through an https proxy TLS runs inside TLS (an SSLObject), and the socket has the outer one's bytes.
        self._socket: socket.socket | None = None if isinstance(tls, ssl.SSLObject) else found
        self._flags = 0
        if self._socket is not None and tls is None and sys.platform == "linux":
            # One call fills the buffer: the kernel waits for more, and gives what there is after a slice.
            self._socket.settimeout(None)
            slice_ = struct.pack("ll", *divmod(round(SLICE_SECONDS * 10**6), 10**6))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, slice_)
            self._flags = socket.MSG_WAITALL
        elif self._socket is not None:
            self._socket.settimeout(SLICE_SECONDS)

    def ask(self, target: str, headers: Mapping[str, str]) -> tuple[int, str, dict[str, str], bytes]:
        """Send a GET; return status, reason, headers (as ``Reply`` wants them) and what came behind the head.

        Raises ``SourceTruncated`` where the server has closed the connection, ``SourceTimeout``.
        """
        conversation = h11.Connection(h11.CLIENT)
        try:
            request = h11.Request(method="GET", target=target, headers=[*self._headers.items(), *headers.items()])
            sent = (conversation.send(request), conversation.send(h11.EndOfMessage()))
        except h11.LocalProtocolError:
            raise SourceRefused(UNWRITABLE) from None  # its text quotes the header
        self._send(b"".join(piece for piece in sent if piece))
        event = self._head(conversation)
        found: dict[str, str] = {}
        for raw_name, raw_value in event.headers:
            name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
            found[name] = f"{found[name]}, {value}" if name in found else value
        self.reusable = event.http_version == b"1.1" and _stays_open(found)
        return event.status_code, event.reason.decode("latin-1"), found, bytes(conversation.trailing_data[0])

    def _head(self, conversation: h11.Connection) -> h11.Response:
        room = memoryview(bytearray(HEAD_BYTES))
        stop, until = current_stop(), time.monotonic() + ANSWER_SECONDS
        while True:
            if time.monotonic() > until:
                raise SourceTimeout(f"the server's answer took more than {ANSWER_SECONDS:.0f} s to begin")
            try:
                event = conversation.next_event()
                if event is h11.NEED_DATA:
                    count = self.receive(room, stop, fill=False)
                    conversation.receive_data(bytes(room[:count]))
                elif isinstance(event, h11.Response):
                    return event
                elif not isinstance(event, h11.InformationalResponse):
                    raise SourceTruncated("the server has closed the connection")
            except h11.RemoteProtocolError as error:
                raise SourceTruncated(f"the server's answer can't be read: {error}") from error

    def receive(self, room: memoryview, stop: Stop | None, *, fill: bool = True) -> int:
        """Receive at most ``room``; 0 at the end of the connection.

        To ``fill`` it, where the system can, waits for a slice of time at most.
        """
        since = time.monotonic()
        while True:
            if stop is not None and stop.is_set():
                raise Cancelled("the download was stopped")
            try:
                if self._socket is not None:
                    return self._socket.recv_into(room, 0, self._flags if fill else 0)
                piece: bytes = self._stream.read(min(len(room), HEAD_BYTES), timeout=READ_SECONDS)
                room[: len(piece)] = piece
                return len(piece)
            except (TimeoutError, BlockingIOError, ssl.SSLWantReadError, httpcore.ReadTimeout) as error:
                if time.monotonic() - since > READ_SECONDS:
                    raise SourceTimeout(f"no byte came for {READ_SECONDS:.0f} s") from error
            except (OSError, httpcore.NetworkError) as error:
                raise SourceTruncated(f"the connection broke off: {error}") from error

    def _send(self, content: bytes) -> None:
        try:
            if self._socket is not None:
                self._socket.sendall(content)
            else:
                self._stream.write(content, timeout=READ_SECONDS)
        except (OSError, httpcore.NetworkError, httpcore.TimeoutException) as error:
            raise SourceTruncated("the server has closed the connection") from error

    def is_quiet(self) -> bool:
        """Return whether nothing has come that nobody asked for, its end included."""
        if self._socket is None:
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)


def length_of(status: int, headers: Mapping[str, str]) -> int | None:
    """Return the bytes of the body on the wire, or ``None`` where only httpx can tell its end."""
    if status in WITHOUT_BODY:
        return 0
    length = headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() and "transfer-encoding" not in headers else None


def _stays_open(headers: Mapping[str, str]) -> bool:
    return "close" not in headers.get("connection", "").lower()
