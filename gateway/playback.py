"""Playback: the watch page, and a publication's files.

Where the endpoint's profile allows (right ranges, CORS, content types) and players can
reach it, the playlists that are served here name signed S3 URLs, so the media's bytes
never pass the gateway. Elsewhere (``rclone serve s3`` answers ranges with 200) the
gateway serves the media itself, with 206, strong ETags and the right types.
"""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from gateway import byte_ranges, shapes
from gateway.auth import OWNER, Here
from headrace import links
from headrace.catalogue import assets, publications
from headrace.catalogue.publications import Publication
from headrace.errors import HeadraceError, NotAllowed, NotFound, StoreError
from headrace.log import Log
from headrace.model import PublicationState
from headrace.publish import MANIFESTS, PRIVATE, cache_control, content_type
from headrace.wiring import House

log = Log(__name__)
router = APIRouter()

PAGE = Path(__file__).parent / "static" / "watch.html"
REMEMBER_SECONDS = 30
"""How long a publication is served from memory: one film is hundreds of ranged reads."""


@router.get("/watch/{asset_id}", response_class=HTMLResponse)
def watch(asset_id: str, here: Here, t: str = "") -> HTMLResponse:
    """Return the page that plays an asset; ``t`` is the signed token of the link."""
    try:
        links.check(here.settings.signing_key.get_secret_value(), links.watch_subject(OWNER, asset_id), t)
        with here.database.begin() as tx:
            asset = assets.get(tx, OWNER, asset_id)
            known = publications.of_assets(tx, [asset.id]).get(asset.id, [])
        live = shapes.to_play(known)
        played = shapes.playback(asset.id, live, OWNER, here.settings)
        if live is None or played is None:
            raise NotFound("there is nothing to play", hint="It may have been taken offline, or is still in the works.")
    except HeadraceError as error:
        status = 403 if isinstance(error, NotAllowed) else 404 if isinstance(error, NotFound) else 503
        return _page("Not available", {"problem": error.message, "hint": error.hint}, status, here)
    facts = {
        "title": asset.title,
        "kind": asset.kind,
        "warnings": list(live.warnings),
        # Relative, so that the page also plays behind another name or port than the settings say.
        **{name: played[name] and urlsplit(played[name]).path for name in ("hls", "dash", "poster", "storyboard")},
    }
    return _page(asset.title, facts, 200, here)


def _page(title: str, facts: dict[str, Any], status: int, here: House) -> HTMLResponse:
    # "<" can't end the script element that the facts stand in.
    body = PAGE.read_text(encoding="utf-8").replace("{{title}}", html.escape(title))
    body = body.replace("{{facts}}", json.dumps(facts).replace("<", "\\u003c"))
    elsewhere = f" {here.settings.s3_public_url}" if here.settings.s3_public_url else ""
    policy = (
        f"default-src 'none'; script-src 'self'; style-src 'self'; worker-src blob:; img-src 'self' data:{elsewhere}; "
        f"media-src 'self' blob:{elsewhere}; connect-src 'self'{elsewhere}; base-uri 'none'; form-action 'none'"
    )
    headers = {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-store",
    }
    return HTMLResponse(body, status, headers)


@router.api_route("/media/{publication_id}/{token}/{name}", methods=["GET", "HEAD"])
def media(publication_id: UUID, token: str, name: str, here: Here, request: Request) -> Response:
    """Return a file of a publication; the address is signed, so it needs no bearer token."""
    key = here.settings.signing_key.get_secret_value()
    expiry = links.check(key, links.media_subject(str(publication_id)), token)
    publication = _live(publication_id, int(time.monotonic() // REMEMBER_SECONDS))
    size = next((file.size_bytes for file in publication.files if file.name == name), None)
    if size is None or name in PRIVATE:
        raise NotFound(f"the publication has no file {name!r}")
    object_key = (publication.prefix or "") + name
    headers = {"Content-Type": content_type(name), "Cache-Control": cache_control(name)} | _CORS
    if Path(name).suffix in MANIFESTS and players_may_fetch(here):
        seconds = max(1, int(expiry - time.time()))
        text = here.streams.read_range(object_key, 0, size).decode()
        return Response(sign_children(text, name, _signer(here, publication, seconds)), headers=headers)

    def pieces(start: int, length: int) -> Iterator[bytes]:
        return here.streams.stream(object_key, start, length)

    etag = f'"{publication.prefix}{name}"'.replace("/", "-")
    return byte_ranges.respond(request, size=size, etag=etag, read=pieces, headers=headers)


_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Content-Length, Content-Range, ETag",
}
"""Who has the signed address may play it on any page: nothing else vouches for the request."""


@router.options("/media/{path:path}")
def preflight(path: str) -> Response:  # noqa: ARG001 - the same answer for every file
    """Let players on other pages send ranges."""
    return Response(
        status_code=204,
        headers={**_CORS, "Access-Control-Allow-Methods": "GET, HEAD", "Access-Control-Allow-Headers": "Range"},
    )


@lru_cache(maxsize=256)
def _live(publication_id: UUID, _window: int) -> Publication:
    from headrace.wiring import house

    with house().database.begin() as tx:
        publication = publications.get(tx, publication_id)
    if publication.state is not PublicationState.LIVE:
        raise NotFound("the streams were taken offline")
    return publication


@lru_cache(maxsize=1)
def _profile(_bucket: object) -> bool:
    from headrace.wiring import house

    found = house().streams.profile()
    log.info("endpoint.profile", profile=str(found))
    return found.players_may_fetch


def players_may_fetch(here: House) -> bool:
    """Return whether players are sent to S3: they can reach it, and it answers as they need."""
    if not here.settings.s3_public_url:
        return False
    try:
        return _profile(here.streams)
    except StoreError as error:
        log.warning("endpoint.unprobed", why=error.message)
        return False


def _signer(here: House, publication: Publication, seconds: int) -> Callable[[str], str]:
    names = {file.name for file in publication.files}

    def sign(name: str) -> str:
        if name not in names or Path(name).suffix in MANIFESTS:
            return name  # manifests are signed as they are served, by us
        key = (publication.prefix or "") + name
        return here.streams.presign_get(key, seconds, content_type=content_type(name)) or name

    return sign


def sign_children(text: str, name: str, sign: Callable[[str], str]) -> str:
    """Return a playlist or MPD with each file that it names replaced by ``sign(file)``. Pure.

    HLS names files in lines of their own and in ``URI="…"`` (RFC 8216, section 4); an
    on-demand MPD in ``BaseURL`` elements (ISO/IEC 23009-1, 5.6).
    """
    if name.endswith(".mpd"):
        return re.sub(
            r"(<BaseURL>)([^<]*)(</BaseURL>)",
            lambda found: found[1] + html.escape(sign(html.unescape(found[2])), quote=False) + found[3],
            text,
        )
    lines = []
    for line in text.split("\n"):
        if line and not line.startswith("#"):
            lines.append(sign(line))
        else:
            lines.append(re.sub(r'URI="([^"]*)"', lambda found: f'URI="{sign(found[1])}"', line))
    return "\n".join(lines)
