"""A client of the gateway: what the CLI's order commands and the dashboard speak through.

It knows the gateway's address and token, turns problem documents back into the engine's
errors, and nothing else; what the calls mean stands in the gateway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from headrace.errors import HeadraceError, NotAllowed, StackError, from_json
from headrace.settings import Settings

READ_SECONDS = 30.0
UPLOAD_SECONDS = 600.0
"""After the last byte of an upload the gateway still stores it."""

PIECE_BYTES = 1024 * 1024


class Gateway:
    """The gateway, as one owner sees it."""

    def __init__(self, url: str, token: str) -> None:
        if not token:
            raise NotAllowed(
                "no token is known for the gateway",
                hint="Start the stack with `headrace up`, or set HEADRACE_URL and HEADRACE_TOKEN.",
            )
        self.url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(READ_SECONDS, connect=5.0),
            trust_env=False,
        )

    @classmethod
    def of(cls, settings: Settings) -> Gateway:
        """Return a client of the gateway that the settings name."""
        return cls(settings.url, settings.token.get_secret_value())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(self, method: str, path: str, **request: Any) -> Any:
        """Return the JSON that the gateway answers; raises the error that its problem document names.

        Raises ``StackError`` where nothing answers at all.
        """
        try:
            reply = self._http.request(method, path, **request)
        except httpx.TransportError as error:
            raise StackError(
                f"the gateway at {self.url} does not answer",
                hint="Is the stack running? `headrace status` shows it, `headrace up` starts it.",
            ) from error
        return _body(reply)

    def get(self, path: str, **query: Any) -> Any:
        """GET with the query's values that are not ``None``."""
        return self.call("GET", path, params={name: value for name, value in query.items() if value is not None})

    def post(self, path: str, body: Any = None) -> Any:
        """POST a JSON body."""
        return self.call("POST", path, json=body)

    def place(
        self,
        sources: list[dict[str, Any]],
        recipe: Any,
        *,
        key: str | None = None,
        collection: str = "",
        bytes_per_second: int | None = None,
    ) -> dict[str, Any]:
        """Place an order; asking again with the same key after a lost reply makes no second one."""
        body = {"sources": sources, "recipe": recipe, "key": key or f"auto-{uuid4()}", "collection": collection}
        body |= {} if bytes_per_second is None else {"bytes_per_second": bytes_per_second}
        order: dict[str, Any] = self.post("/v1/orders", body)
        return order

    def upload(self, path: Path, on_bytes: Callable[[int], None] | None = None) -> dict[str, Any]:
        """Stream a file to the gateway; ``on_bytes`` gets the size of each piece that was sent."""

        def pieces() -> Iterator[bytes]:
            with path.open("rb") as file:
                while piece := file.read(PIECE_BYTES):
                    yield piece
                    if on_bytes is not None:
                        on_bytes(len(piece))

        uploaded: dict[str, Any] = self.call(
            "POST",
            "/v1/uploads",
            params={"name": path.name},
            content=pieces(),
            headers={"Content-Length": str(path.stat().st_size)},
            timeout=httpx.Timeout(UPLOAD_SECONDS, connect=5.0),
        )
        return uploaded


def _body(reply: httpx.Response) -> Any:
    if reply.is_success:
        return reply.json() if reply.content else None
    if reply.headers.get("content-type", "").startswith("application/problem+json"):
        problem = reply.json()
        raise from_json({"code": problem["code"], "message": problem["title"], "hint": problem["hint"]})
    raise HeadraceError(f"the gateway answers {reply.status_code} {reply.reason_phrase}", status=reply.status_code)
