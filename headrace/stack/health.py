"""How a part is asked whether it answers. A check never raises and never waits long.

Standard library only: a check runs 20 times a second while the stack starts.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

HOST = "127.0.0.1"
ANSWER_SECONDS = 1.0
"""How long one question may take; the next look asks again."""


class Check(Protocol):
    """A question to a part."""

    def answers(self, since: float) -> bool:
        """Return whether the part that was started at ``since`` (Unix time) is ready for work."""


@dataclass(frozen=True, slots=True)
class HttpCheck:
    """The part answers ``GET path`` with 200."""

    port: int
    path: str

    def answers(self, since: float) -> bool:  # noqa: ARG002 - the protocol's
        """Return whether it does."""
        return request(self.port, "GET", self.path)[0] == http.HTTPStatus.OK


@dataclass(frozen=True, slots=True)
class S3Check:
    """The endpoint speaks HTTP; a request without a signature is refused (rclone: with 400)."""

    port: int

    def answers(self, since: float) -> bool:  # noqa: ARG002 - the protocol's
        """Return whether it does."""
        return request(self.port, "GET", "/")[0] != 0


@dataclass(frozen=True, slots=True, repr=False)
class WorkerCheck:
    """A worker of this name has sent a heartbeat to the Prefect API since it was started."""

    port: int
    pool: str
    worker: str
    auth: str
    """``user:password`` of the Prefect API."""

    def answers(self, since: float) -> bool:
        """Return whether it has."""
        path = f"/api/work_pools/{self.pool}/workers/filter"
        status, body = request(self.port, "POST", path, auth=self.auth, body={})
        if status != http.HTTPStatus.OK or not isinstance(body, list):
            return False
        beats = [worker["last_heartbeat_time"] for worker in body if worker["name"] == self.worker]
        return any(datetime.fromisoformat(beat) >= datetime.fromtimestamp(since, UTC) for beat in beats)


def request(
    port: int,
    method: str,
    path: str,
    *,
    auth: str = "",
    body: object = None,
    timeout_seconds: float = ANSWER_SECONDS,
    host: str = HOST,
) -> tuple[int, object]:
    """Ask a server; return its status and JSON (or ``None``), or status 0 where it does not answer.

    ``http.client`` and not ``urllib``: it knows no proxies, which must not see loopback traffic.
    """
    headers = {"Content-Type": "application/json"}
    if auth:
        headers["Authorization"] = "Basic " + base64.b64encode(auth.encode()).decode("ascii")
    connection = http.client.HTTPConnection(host, port, timeout=timeout_seconds)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException):
        return 0, None
    finally:
        connection.close()
    try:
        return response.status, json.loads(content)
    except ValueError:
        return response.status, None


def is_free(port: int) -> bool:
    """Return whether a server can listen on this port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
