"""A forward proxy: tunnels (CONNECT) and requests in absolute form, with or without a login, also over TLS."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HOP_BY_HOP = {"proxy-authorization", "proxy-connection", "connection"}


class Proxy(ThreadingHTTPServer):
    """Remembers what it was asked for."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, login: str | None, names: Mapping[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.login = login
        self.names = names
        self.asked: list[str] = []
        """Such as ``CONNECT host:443``, ``GET http://host/x``."""
        self.headers: list[dict[str, str]] = []
        self.connections = 0
        self.pause = 0.0
        """Seconds after each 64 KiB of a forwarded answer."""
        self.status = 0
        """What it answers to everything, unless 0."""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def connect(self, host: str, port: int) -> socket.socket:
        return socket.create_connection((self.names.get(host, host), port), timeout=10)

    def process_request(self, *args: object) -> None:
        self.connections += 1
        super().process_request(*args)  # type: ignore[arg-type]


@contextmanager
def proxying(
    login: str | None = None, *, tls: ssl.SSLContext | None = None, names: Mapping[str, str] | None = None
) -> Iterator[Proxy]:
    """Run a proxy for the block. ``login`` is ``USER:PASSWORD``; ``names`` are known to the proxy alone."""
    proxy = Proxy(login, names or {})
    if tls is not None:
        proxy.socket = tls.wrap_socket(proxy.socket, server_side=True)
    threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def log_message(self, *_: object) -> None:
        pass

    def _begin(self) -> bool:
        """Take note of a request; answer it already where the login is wrong."""
        self.server.asked.append(f"{self.command} {self.path}")
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        wanted = self.server.login and "Basic " + base64.b64encode(self.server.login.encode()).decode()
        status = 407 if wanted and self.headers.get("Proxy-Authorization") != wanted else self.server.status
        if status:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
        return not status

    def do_CONNECT(self) -> None:
        if not self._begin():
            return
        host, _, port = self.path.rpartition(":")
        with self.server.connect(host, int(port)) as other:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_pump, args=(other, self.connection), daemon=True)
            back.start()
            _pump(self.connection, other)
            back.join(5)
        self.close_connection = True

    def do_GET(self) -> None:
        if not self._begin():
            return
        parts = urlsplit(self.path)
        with self.server.connect(parts.hostname or "", parts.port or 80) as other:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            kept = [f"{name}: {value}" for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP]
            other.sendall("\r\n".join([f"GET {target} HTTP/1.1", *kept, "Connection: close", "", ""]).encode())
            answer = other.makefile("rb")
            head = [answer.readline()]
            while head[-1] not in {b"\r\n", b""}:
                head.append(answer.readline())
            self.wfile.write(b"".join(line for line in head if not line.lower().startswith(b"connection:")))
            with suppress(OSError):
                while piece := answer.read1(65536):
                    self.wfile.write(piece)
                    time.sleep(self.server.pause)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
