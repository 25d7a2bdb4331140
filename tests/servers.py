"""A web server that misbehaves on purpose: one behaviour for each path."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

BODY = bytes(hashlib.sha256(str(i).encode()).digest()[0] for i in range(64)) * 16384  # 1 MiB
OTHER = bytes(reversed(BODY))
ETAG = '"one"'


class Server(ThreadingHTTPServer):
    """Counts requests, and remembers their headers by path."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.seen: dict[str, list[dict[str, str]]] = {}
        self.feeds: dict[str, tuple[str, bytes, str]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving(folder: Path | None = None) -> Iterator[Server]:
    """Run a server for the block; with a folder, paths under /files/ are its files."""
    server = Server(folder)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.seen.setdefault(path, []).append({k.lower(): v for k, v in self.headers.items()})
        if path.startswith("/files/"):
            return self._file(path.removeprefix("/files/"))
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
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

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

    def _feed(self, content_type: str, body: bytes, etag: str) -> None:
        if self.headers.get("If-None-Match") == etag:
            return self._send(304, ETag=etag)
        return self._send(200, body, Content_Type=content_type, ETag=etag)

    def at_missing(self) -> None:
        self._send(404)

    def at_good(self) -> None:
        self._ranged(BODY)

    def at_forbidden(self) -> None:
        self._send(403)

    def at_empty(self) -> None:
        self._send(200)

    def at_busy(self) -> None:
        self._send(503, Retry_After="7")

    def at_odd_retry_after(self) -> None:
        self._send(503, Retry_After=unquote(urlsplit(self.path).query, "latin-1"))

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

    def at_breaks_once(self) -> None:
        """Half of the body, then nothing; the rest to who comes back for it."""
        if "Range" in self.headers:
            return self._ranged(BODY)
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.send_header("ETag", ETAG)
        self.end_headers()
        self.wfile.write(BODY[: len(BODY) // 2])
        return self._break()

    def at_breaks_then_changes(self) -> None:
        """Half of one file; who comes back finds another of the same size."""
        if len(self.server.seen["/breaks-then-changes"]) > 1:
            return self._ranged(OTHER, '"two"')
        return self.at_breaks_once()

    def at_breaks_without_validator(self) -> None:
        if len(self.server.seen["/breaks-without-validator"]) > 1:
            return self._send(200, BODY)
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY[:1000])
        return self._break()

    def at_wrong_range(self) -> None:
        """A 206 for another range than was asked for, the first time."""
        if "Range" in self.headers and len(self.server.seen["/wrong-range"]) == 2:
            return self._send(206, BODY[10:], Content_Range=f"bytes 10-{len(BODY) - 1}/{len(BODY)}", ETag=ETAG)
        return self._ranged(BODY) if len(self.server.seen["/wrong-range"]) > 2 else self.at_breaks_once()

    def at_ignores_ranges(self) -> None:
        """Always 200 and the whole, whatever was asked for."""
        if len(self.server.seen["/ignores-ranges"]) > 1:
            return self._send(200, BODY, ETag=ETAG)
        return self.at_breaks_once()

    def at_encoded(self) -> None:
        self._send(200, b"xx", Content_Encoding="gzip")

    def at_short(self) -> None:
        """Fewer bytes than announced, always."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY[:1000])
        self._break()

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
