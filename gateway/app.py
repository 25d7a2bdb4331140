"""The application: routes, the thread pool's bound, and errors as problem documents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from gateway import feeds, hosts, library, orders, playback, system, uploads
from headrace import __version__, wiring
from headrace.errors import (
    CatalogueUnavailable,
    Conflict,
    DiskFull,
    HeadraceError,
    Limited,
    NotAllowed,
    NotFound,
    OrchestratorUnavailable,
    RequestError,
    SourceError,
    StackError,
    StoreUnavailable,
)

THREADS = 16
"""Blocking calls at once; the pool of connections to Postgres is as large (``catalogue.database``)."""

PROBLEM = "application/problem+json"
STATUS: tuple[tuple[type[HeadraceError], int], ...] = (
    (NotFound, 404),
    (NotAllowed, 401),
    (Conflict, 409),
    (Limited, 429),
    (RequestError, 422),
    (SourceError, 422),
    (DiskFull, 507),
    (CatalogueUnavailable, 503),
    (OrchestratorUnavailable, 503),
    (StoreUnavailable, 503),
)
RETRY_AFTER_SECONDS = 5


def create_app() -> FastAPI:
    """Return the gateway; uvicorn calls this (``--factory``)."""
    settings = wiring.house().settings
    if not settings.token.get_secret_value() or not settings.signing_key.get_secret_value():
        raise StackError(
            "the gateway needs a token and a signing key",
            hint="`headrace up` makes them; elsewhere set HEADRACE_TOKEN and HEADRACE_SIGNING_KEY.",
        )
    app = FastAPI(
        title="Headrace",
        version=__version__,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
    )
    app.add_exception_handler(HeadraceError, _on_headrace_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    for part in (orders, uploads, library, feeds, hosts, system, playback):
        app.include_router(part.router)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")
    return app


@asynccontextmanager
async def _lifespan(_app: FastAPI) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    yield
    wiring.house().close()


def problem(status: int, title: str, *, code: str, hint: str = "", retryable: bool = False) -> JSONResponse:
    """Return a problem document (RFC 9457)."""
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if retryable else {}
    if status == 401:  # noqa: PLR2004 - Unauthorized
        headers["WWW-Authenticate"] = "Bearer"
    body = {"type": f"urn:headrace:{code}", "title": title, "status": status, "code": code, "hint": hint}
    return JSONResponse({**body, "retryable": retryable}, status, headers, media_type=PROBLEM)


def _on_headrace_error(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HeadraceError):
        raise error
    status = next((status for kind, status in STATUS if isinstance(error, kind)), 500)
    return problem(status, error.message, code=error.code, hint=error.hint, retryable=error.retryable)


def _on_invalid(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
    return problem(422, f"{where}: {first['msg']}", code="invalid_request", hint="See /v1/openapi.json.")


def _on_http_error(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    code = {404: "not_found", 405: "invalid_request"}.get(error.status_code, "error")
    return problem(error.status_code, str(error.detail), code=code)
