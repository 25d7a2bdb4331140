"""A web server that misbehaves on purpose: one behaviour for each path."""

from __future__ import annotations

import base64
import hashlib
import random
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

BODY = bytes(hashlib.sha256(str(i).encode()).digest()[0] for i in range(64)) * 15625  # 1 MB
OTHER = bytes(reversed(BODY))
ETAG = '"one"'

LARGE = random.Random(1).randbytes(24 * 2**20 + 12345)
"""A file of some blocks and a bit."""
LARGER = LARGE[::-1]
"""Another file of the same size."""
CANARY = "c4nary-0f-an-0rder"
"""A secret that must turn up nowhere."""

DATE = "Sat, 21 Nov 2026 11:00:00 GMT"
DAMAGED = LARGE[: 2**21 + 5] + bytes([LARGE[2**21 + 5] ^ 1]) + LARGE[2**21 + 6 :]
"""The large file with one bit wrong."""


class Server(ThreadingHTTPServer):
    """Counts requests, and remembers their headers by path."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.seen: dict[str, list[dict[str, str]]] = {}
        self.feeds: dict[str, tuple[str, bytes, str]] = {}
        self.sent: dict[str, int] = {}
        """Bytes of bodies by path, as far as the system took them."""
        self.open: dict[str, int] = {}
        """Bodies on their way, by path."""
        self.most: dict[str, int] = {}
        """The most bodies at once, by path."""
        self.state: dict[str, int] = {}
        """What a path's behaviour remembers."""
        self.redirects: dict[str, str] = {}
        """Where a path leads."""
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        """Status, headers (with _ for -) and body, by path: whatever a test wants to be answered."""
        self.certificates: list[bool] = []
        """With TLS, for each request: whether its client has shown a certificate."""
        self.lock = threading.Lock()
        self.ending = False
        self.connections: set[socket.socket] = set()
        self.most_connections = 0
        """At once."""
        self.connected = 0
        """Altogether."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Say what went wrong, unless it is that the other end has gone."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving(folder: Path | None = None, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Run a server for the block; with a folder, paths under /files/ are its files."""
    server = Server(folder)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield server
    finally:
        server.ending = True
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.seen.setdefault(path, []).append({k.lower(): v for k, v in self.headers.items()})
        if isinstance(self.connection, ssl.SSLSocket):
            self.server.certificates.append(self.connection.getpeercert(binary_form=True) is not None)
        if path in self.server.answers:
            status, fields, body = self.server.answers[path]
            return self._send(status, body, **fields)
        if path in self.server.redirects:
            return self._send(302, Location=self.server.redirects[path])
        if path.startswith("/files/"):
            return self._file(path.removeprefix("/files/"))
        if path.startswith("/large/"):
            return self._large(path)
        if path in self.server.feeds:
            return self._feed(*self.server.feeds[path])
        return getattr(self, "at_" + path.strip("/").replace("-", "_").replace(".", "_"), self.at_missing)()

    def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        fields.setdefault("Content-Length", str(len(body)))
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _break(self) -> None:
        self.close_connection = True
        with suppress(OSError):  # the other end may be gone already
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    def _ranged(self, body: bytes, etag: str | None = ETAG, **headers: str) -> None:
        fields = {"ETag": etag, **headers} if etag else headers
        wanted = self.headers.get("Range", "")
        pinned = self.headers.get("If-Range")
        if wanted.startswith("bytes=") and (pinned is None or pinned == etag):
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            if start >= len(body):
                return self._send(416, Content_Range=f"bytes */{len(body)}")
            return self._send(206, body[start:], Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}", **fields)
        return self._send(200, body, Accept_Ranges="bytes", **fields)

    def _file(self, name: str) -> None:
        path = (self.server.folder or Path("/nowhere")) / name
        if not path.is_file():
            return self._send(404)
        return self._ranged(path.read_bytes(), f'"{path.stat().st_mtime_ns}"')

    # /large/…: ranges of a large file, and everything that can be wrong with them

    def _large(self, path: str) -> None:
        with self.server.lock:
            self.server.open[path] = self.server.open.get(path, 0) + 1
            self.server.most[path] = max(self.server.open[path], self.server.most.get(path, 0))
        try:
            if path.startswith("/large/piece-of-"):
                self._part(LARGE[: 8 * 2**20 + 4321], pause=0.01)  # a path for each test, to count by
            else:
                getattr(self, "large_" + path.removeprefix("/large/").replace("-", "_"))(path)
        finally:
            with self.server.lock:
                self.server.open[path] -= 1

    def _span(self, body: bytes = LARGE) -> tuple[int, int] | None:
        wanted = self.headers.get("Range", "")
        if not wanted.startswith("bytes="):
            return None
        start, _, end = wanted.removeprefix("bytes=").partition("-")
        return int(start), min(int(end) + 1 if end else len(body), len(body))

    def _part(
        self, body: bytes = LARGE, *, most: int | None = None, pause: float = 0.0, etag: str | None = ETAG, **more: str
    ) -> None:
        """Answer a range rightly, but send ``most`` bytes of it only, and pause after each 64 KiB."""
        span = self._span(body)
        fields = {"ETag": etag, **more} if etag else more
        pinned = self.headers.get("If-Range")
        if span is None or pinned not in {None, etag, more.get("Last_Modified")}:
            self._head(200, len(body), **fields)
            return self._body(body, 0, len(body), most, pause)
        start, end = span
        self._head(206, end - start, Content_Range=f"bytes {start}-{end - 1}/{len(body)}", **fields)
        return self._body(body, start, end, most, pause)

    def _head(self, status: int, length: int, **fields: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def _body(self, body: bytes, start: int, end: int, most: int | None = None, pause: float = 0.0) -> None:
        stop = end if most is None else min(end, start + most)
        path = urlsplit(self.path).path
        try:
            for at in range(start, stop, 65536):
                piece = body[at : min(at + 65536, stop)]
                self.wfile.write(piece)
                with self.server.lock:
                    self.server.sent[path] = self.server.sent.get(path, 0) + len(piece)
                if pause:
                    time.sleep(pause)
        except OSError:
            self.close_connection = True
            return
        if stop < end:
            self._break()

    def _count(self, path: str) -> int:
        """Return how often a path was asked for, this time included."""
        with self.server.lock:
            self.server.state[path] = self.server.state.get(path, 0) + 1
            return self.server.state[path]

    def large_good(self, _: str) -> None:
        self._part()

    def large_steady(self, _: str) -> None:
        """About 6 MB/s for each connection."""
        self._part(pause=0.01)

    def large_missing(self, _: str) -> None:
        self._head(404, 0)

    def large_second(self, _: str) -> None:
        """The same file on another mirror: another ETag, and as fast as ``steady``."""
        self._part(pause=0.01, etag='"of the second mirror"')

    def large_crawling(self, _: str) -> None:
        """The same file at 64 KiB a second."""
        self._part(pause=1.0, etag='"of the slow mirror"')

    def large_other(self, _: str) -> None:
        """Another file of the same size."""
        self._part(LARGER, pause=0.01, etag='"of another file"')

    def large_damaged(self, _: str) -> None:
        """The file, with a byte wrong in its third mebibyte."""
        self._part(DAMAGED, pause=0.01, etag='"of the damaged mirror"')

    def large_longer(self, _: str) -> None:
        """A file that begins like it and is longer."""
        self._part(LARGE + b"more", etag='"of the longer file"')

    def large_broken_at_5_mib(self, _: str) -> None:
        """Nobody gets anything behind the fifth mebibyte."""
        span = self._span()
        if span is None or span[0] >= 5 * 2**20:
            return self._head(404, 0)
        return self._part(most=5 * 2**20 - span[0])

    def large_cut_and_chunked(self, _: str) -> None:
        """A 200 to a range, cut to it, without a length (rclone#6980)."""
        span = self._span()
        start, end = span if span is not None else (0, len(LARGE))
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for at in range(start, end, 65536):
            piece = LARGE[at : min(at + 65536, end)]
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def large_cut_and_told(self, _: str) -> None:
        """A 200 to a range, cut to it, that says so in a field that means nothing on a 200."""
        span = self._span()
        if span is None:
            return self._part()
        self._head(200, span[1] - span[0], Content_Range=f"bytes {span[0]}-{span[1] - 1}/{len(LARGE)}", ETag=ETAG)
        return self._body(LARGE, *span)

    def large_twin(self, _: str) -> None:
        """Another file of the same size, date and ETag, as servers make it of those two."""
        self._part(LARGER, pause=0.01, Last_Modified=DATE)

    def large_first_twin(self, _: str) -> None:
        self._part(pause=0.01, Last_Modified=DATE)

    def large_whole_blocks(self, _: str) -> None:
        """A file of exactly 8 MiB."""
        self._part(LARGE[: 8 * 2**20], pause=0.002)

    def large_dated(self, _: str) -> None:
        self._part(etag=None, Last_Modified="Sat, 21 Nov 2026 12:00:00 GMT")

    def large_weak(self, _: str) -> None:
        """A weak ETag is no validator of bytes; there is no other."""
        self._part(etag='W/"one"')

    def large_empty_tag(self, path: str) -> None:
        """An ETag that says nothing, and another file of the same size from the third request on."""
        self._part(LARGER if self._count(path) > 2 else LARGE, etag='""')

    def large_bare(self, _: str) -> None:
        """Ranges, and nothing that tells one version from another."""
        self._part(etag=None)

    def large_without_ranges(self, _: str) -> None:
        self._head(200, len(LARGE), ETag=ETAG)
        self._body(LARGE, 0, len(LARGE))

    def large_breaking(self, _: str) -> None:
        """Breaks off after 3 MB, whatever is asked for."""
        self._part(most=3_000_000)

    def large_broken(self, _: str) -> None:
        """Breaks off after a thousand bytes, always."""
        self._part(most=1000)

    def large_loris(self, _: str) -> None:
        """Ranges with all that they need, whose bytes come one by one."""
        span = self._span() or (0, len(LARGE))
        start, end = span
        self._head(206, end - start, Content_Range=f"bytes {start}-{end - 1}/{len(LARGE)}", ETag=ETAG)
        with suppress(OSError):
            while not self.server.ending:
                self.wfile.write(LARGE[start : start + 1])
                start += 1
                time.sleep(0.05)

    def large_changing(self, path: str) -> None:
        """Another file of the same size from the third request on."""
        if self._count(path) > 2:
            return self._part(LARGER, etag='"two"')
        return self._part(pause=0.002)

    def large_changing_silently(self, path: str) -> None:
        """Another file, and nothing that says so."""
        return self._part(LARGER if self._count(path) > 2 else LARGE, etag=None)

    def large_if_range_unknown(self, _: str) -> None:
        """Answers 200 to any If-Range, though nothing has changed, as some CDNs do."""
        if "If-Range" in self.headers:
            return self.large_without_ranges("")
        return self._part()

    def large_whole_cut_to_the_range(self, path: str) -> None:
        """After the first range: a 200 with the beginning of the file, as long as what was asked for."""
        span = self._span()
        if self._count(path) == 1 or span is None:
            return self._part()
        self._head(200, span[1] - span[0], ETag=ETAG)
        return self._body(LARGE, 0, span[1] - span[0])

    def large_shifted(self, path: str) -> None:
        """A 206 for other bytes than were asked for, the second time."""
        span = self._span()
        if self._count(path) != 2 or span is None:
            return self._part()
        start, end = span[0] + 10, span[1]
        self._head(206, end - start, Content_Range=f"bytes {start}-{end - 1}/{len(LARGE)}", ETag=ETAG)
        return self._body(LARGE, start, end)

    def large_short_answers(self, _: str) -> None:
        """At most 2 MiB of a range, rightly announced: a server may (RFC 9110, 15.3.7)."""
        start, end = self._span() or (0, len(LARGE))
        end = min(end, start + 2**21)
        self._head(206, end - start, Content_Range=f"bytes {start}-{end - 1}/{len(LARGE)}", ETag=ETAG)
        self._body(LARGE, start, end)

    def large_chunked(self, _: str) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(LARGE), 1_000_000):
            piece = LARGE[start : start + 1_000_000]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def large_silent_later(self, path: str) -> None:
        """A version in the first answer only; then another file, whatever ``If-Range`` says."""
        if self._count(path) == 1:
            return self._part()
        start, end = self._span() or (0, len(LARGER))
        if "Range" not in self.headers:
            self._head(200, len(LARGER))
        else:
            self._head(206, end - start, Content_Range=f"bytes {start}-{end - 1}/{len(LARGER)}")
        return self._body(LARGER, start, end)

    def large_sometimes_whole(self, path: str) -> None:
        """Every fifth answer is a 200 of the same version, whatever was asked for."""
        if self._count(path) % 5:
            return self._part()
        self._head(200, len(LARGE), ETag=ETAG)
        return self._body(LARGE, 0, len(LARGE))

    def large_bare_and_slow(self, _: str) -> None:
        self._head(200, len(LARGE))
        self._body(LARGE, 0, len(LARGE), pause=0.01)

    def large_two_allowed(self, path: str) -> None:
        """Forbids a third connection."""
        if self.server.open[path] > 2:
            return self._send(403)
        return self._part(pause=0.01)

    def large_two_at_most(self, path: str) -> None:
        """Refuses a third connection."""
        if self.server.open[path] > 2:
            return self._send(503)
        return self._part(pause=0.01)

    def large_stalling(self, path: str) -> None:
        """The second connection sends a little, and then nothing for a minute."""
        if self._count(path) != 2:
            return self._part(pause=0.002)
        start, end = self._span() or (0, len(LARGE))
        self._head(206, end - start, Content_Range=f"bytes {start}-{end - 1}/{len(LARGE)}", ETag=ETAG)
        self._body(LARGE, start, min(end, start + 100_000))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not self.server.ending:
            time.sleep(0.1)
        return None

    def large_far_and_one_slow(self, path: str) -> None:
        """Answers come late, and the second connection brings 160 KB a second, piece by piece."""
        number = self._count(path)
        time.sleep(0.3)
        if number != 2:
            return self._part(pause=0.004)
        start, end = self._span() or (0, len(LARGE))
        self._head(206, end - start, Content_Range=f"bytes {start}-{end - 1}/{len(LARGE)}", ETag=ETAG)
        self.close_connection = True
        with suppress(OSError):
            for at in range(start, end, 16384):
                self.wfile.write(LARGE[at : min(end, at + 16384)])
                time.sleep(0.1)
        return None

    def large_expiring(self, path: str) -> None:
        """Forbidden after 8 MiB, unless the address is a fresh one."""
        if "fresh" not in self.path and self.server.sent.get(path, 0) > 2**23:
            return self._send(403)
        return self._part(pause=0.002)

    def large_promising(self, _: str) -> None:
        """Says in each answer what the whole must be (RFC 9530)."""
        digest = base64.b64encode(hashlib.sha256(LARGE).digest()).decode()
        self._part(Repr_Digest=f"sha-256=:{digest}:")

    def large_promising_wrongly(self, _: str) -> None:
        digest = base64.b64encode(hashlib.sha256(LARGER).digest()).decode()
        self._part(Repr_Digest=f"sha-256=:{digest}:")

    def large_encoded_later(self, path: str) -> None:
        """The first range plain, the others encoded."""
        if self._count(path) == 1:
            return self._part()
        return self._part(Content_Encoding="gzip")

    def large_lying_about_its_size(self, _: str) -> None:
        """Announces 1 MiB more than there is."""
        span = self._span()
        size = len(LARGE) + 2**20
        if span is None:
            self._head(200, size, ETag=ETAG)
            self._body(LARGE, 0, len(LARGE))
            return self._break()
        start, end = span[0], min(span[1], size)
        self._head(206, end - start, Content_Range=f"bytes {start}-{end - 1}/{size}", ETag=ETAG)
        self._body(LARGE, start, min(end, len(LARGE)))
        return self._break() if end > len(LARGE) else None

    def _feed(self, content_type: str, body: bytes, etag: str) -> None:
        if self.headers.get("If-None-Match") == etag:
            return self._send(304, ETag=etag)
        return self._send(200, body, Content_Type=content_type, ETag=etag)

    def at_missing(self) -> None:
        self._send(404)

    def at_for_ada(self) -> None:
        """Only to who logs in as ada, with the password love."""
        wanted = "Basic " + base64.b64encode(b"ada:love").decode()
        if self.headers.get("Authorization") != wanted:
            return self._send(401, WWW_Authenticate='Basic realm="films"')
        return self._ranged(BODY)

    def at_for_the_canary(self) -> None:
        """Only to who shows the token ``CANARY``."""
        if self.headers.get("Authorization") != f"Bearer {CANARY}":
            return self._send(401, WWW_Authenticate="Bearer")
        return self._ranged(BODY)

    def at_good(self) -> None:
        self._ranged(BODY)

    def at_forbidden(self) -> None:
        self._send(403)

    def at_empty(self) -> None:
        self._send(200)

    def at_busy(self) -> None:
        self._send(503, Retry_After="7")

    def at_cookie(self) -> None:
        self._ranged(BODY, Set_Cookie="session=of-somebody; Path=/")

    def at_surplus(self) -> None:
        """More than was announced: an answer to a question that nobody has asked yet."""
        wrong = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"
        self._head(200, 5)
        self.wfile.write(b"right" + wrong)

    def at_odd_retry_after(self) -> None:
        self._send(503, Retry_After=unquote(urlsplit(self.path).query, "latin-1"))

    def at_dripping_head(self) -> None:
        """A head that never ends, a byte now and then."""
        with suppress(OSError):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
            while not self.server.ending:
                self.wfile.write(b"x")
                time.sleep(0.05)
        self.close_connection = True

    def at_busy_once(self) -> None:
        if len(self.server.seen["/busy-once"]) == 1:
            return self._send(503, Retry_After="1")
        return self._ranged(BODY)

    def at_teapot(self) -> None:
        self._send(418)

    def at_unknown_length(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(BODY), 100_000):
            piece = BODY[start : start + 100_000]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def at_chunked_broken(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"%x\r\n%b\r\n" % (1000, BODY[:1000]))
        self._break()

    def at_until_closed(self) -> None:
        """A body without a length: it ends with the connection, in TLS with a close_notify."""
        self._until_closed(BODY)
        if isinstance(self.connection, ssl.SSLSocket):
            with suppress(OSError):  # the other end may not answer
                self.connection = self.connection.unwrap()

    def at_cut_short(self) -> None:
        """Half of such a body, cut off where it was TCP only that ended."""
        self._until_closed(BODY[: len(BODY) // 2])
        self._break()

    def _until_closed(self, body: bytes) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _half(self, *, ranged: bool, etag: str | None = ETAG, length: int = len(BODY) // 2) -> None:
        """Announce the whole body, and break off."""
        fields = {"ETag": etag} if etag else {}
        if ranged:
            fields["Content_Range"] = f"bytes 0-{len(BODY) - 1}/{len(BODY)}"
        self._head(206 if ranged else 200, len(BODY), **fields)
        self._body(BODY, 0, len(BODY), length)

    def at_breaks_once(self) -> None:
        """Half of the body, then nothing; the rest to who comes back for it."""
        return self._half(ranged=True) if len(self.server.seen["/breaks-once"]) == 1 else self._ranged(BODY)

    def at_breaks_then_changes(self) -> None:
        """Half of one file; who comes back finds another of the same size."""
        if len(self.server.seen["/breaks-then-changes"]) > 1:
            return self._ranged(OTHER, '"two"')
        return self._half(ranged=True)

    def at_breaks_without_validator(self) -> None:
        if len(self.server.seen["/breaks-without-validator"]) > 1:
            return self._send(200, BODY)
        return self._half(ranged=False, etag=None, length=1000)

    def at_breaks_bare(self) -> None:
        """A range of nobody knows which version, half of it; then another file of the same size."""
        if len(self.server.seen["/breaks-bare"]) > 1:
            return self._ranged(OTHER, None)
        return self._half(ranged=True, etag=None)

    def at_wrong_range(self) -> None:
        """A 206 for another range than was asked for, the second time."""
        count = len(self.server.seen["/wrong-range"])
        if count == 2:
            return self._send(206, BODY[10:], Content_Range=f"bytes 10-{len(BODY) - 1}/{len(BODY)}", ETag=ETAG)
        return self._half(ranged=True) if count == 1 else self._ranged(BODY)

    def at_ignores_ranges(self) -> None:
        """Always 200 and the whole, whatever was asked for; it breaks off the first time."""
        if len(self.server.seen["/ignores-ranges"]) > 1:
            return self._send(200, BODY, ETag=ETAG)
        return self._half(ranged=False)

    def at_encoded(self) -> None:
        self._send(200, b"xx", Content_Encoding="gzip")

    def at_short(self) -> None:
        """Fewer bytes than announced, always."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY[:1000])
        self._break()

    def _refused(self, **fields: str) -> None:
        """The head of an S3's error, and the beginning of its text."""
        self.send_response(403)
        for name, value in {"Content-Type": "application/xml", **fields}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def at_refused(self) -> None:
        text = b"<Error><Code>InvalidObjectState</Code><Message>restore it</Message></Error>"
        self._refused(Content_Length=str(len(text)))
        self.wfile.write(text)

    def at_refused_and_cut(self) -> None:
        """A chunk that ends too early."""
        self._refused(Transfer_Encoding="chunked")
        self.wfile.write(b"ff\r\n<Error>")
        self._break()

    def at_refused_and_silent(self) -> None:
        """Announces a text that doesn't come."""
        self._refused(Content_Length="4000")
        while not self.server.ending and _is_open(self.connection):
            time.sleep(0.05)

    def at_slow(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        try:
            for _ in range(600):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.1)
        except OSError:
            return

    def at_named(self) -> None:
        self._send(200, BODY, Content_Disposition='attachment; filename="../../../etc/passwd"')

    def at_redirect(self) -> None:
        self._send(302, Location="/good")

    def at_loop(self) -> None:
        self._send(302, Location="/loop")

    def at_to_file(self) -> None:
        self._send(302, Location="file:///etc/passwd")

    def at_to_metadata(self) -> None:
        self._send(302, Location="http://169.254.169.254/latest/meta-data/")

    def at_text(self) -> None:
        self._send(200, b"hello, this is a text\n" * 200, Content_Type="video/mp4")

    # Connections, and hosts that are down

    def setup(self) -> None:
        """Count the connection; one that the other end has closed counts no more, though its thread may not know."""
        super().setup()
        with self.server.lock:
            self.server.connections = {one for one in self.server.connections if _is_open(one)} | {self.connection}
            self.server.most_connections = max(self.server.most_connections, len(self.server.connections))
            self.server.connected += 1

    def finish(self) -> None:
        with self.server.lock:
            self.server.connections.discard(self.connection)
        super().finish()

    def at_down(self) -> None:
        """An error for as long as a test says which."""
        if status := self.server.state.get("down"):
            return self._send(status)
        return self._ranged(BODY)

    def at_slow_to_answer(self) -> None:
        """Half a second."""
        time.sleep(0.5)
        self._ranged(BODY)

    def at_pausing(self) -> None:
        """Wants a pause of as many seconds as a test says, once."""
        seconds = self.server.state.pop("pause", 0)
        return self._send(429, Retry_After=str(seconds)) if seconds else self._ranged(BODY)


def _is_open(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
