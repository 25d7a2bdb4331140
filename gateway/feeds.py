"""Feeds: watch, list, remove."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from gateway import shapes
from gateway.auth import Here, Owner
from headrace import local, objects
from headrace import recipe as recipes
from headrace.catalogue import feeds
from headrace.errors import InvalidRequest
from headrace.feed import MAX_FOLDER_FILES
from headrace.model import SourceKind
from headrace.source import parse_ordered

router = APIRouter(prefix="/v1")

SHORTEST_SECONDS = 60
LONGEST_SECONDS = 30 * 24 * 3600


class FeedBody(BaseModel):
    """What ``POST /v1/feeds`` takes."""

    model_config = ConfigDict(extra="forbid")
    url: str = Field(max_length=8192)
    every_seconds: Annotated[int, Field(ge=SHORTEST_SECONDS, le=LONGEST_SECONDS)] = 900
    recipe: str | dict[str, Any] = "web"


@router.post("/feeds", status_code=201)
def watch(body: FeedBody, owner: Owner, here: Here) -> dict[str, Any]:
    """Watch a feed: RSS, Atom or a podcast, an HTML index, ``s3://BUCKET/PREFIX/`` or ``file:///FOLDER/``."""
    recipe = recipes.parse(body.recipe)
    url = body.url.strip()
    if url.startswith("s3://"):
        here.check_bucket(objects.named(url)[0])
    elif (source := parse_ordered(url)).kind is SourceKind.FILE:
        local.files(Path(source.locator), here.settings.folders, most=MAX_FOLDER_FILES)
    elif source.kind is not SourceKind.URL:
        raise InvalidRequest("a feed is an http(s) URL, s3://BUCKET/PREFIX/ or file:///FOLDER/")
    with here.database.begin() as tx:
        return shapes.feed(feeds.add(tx, owner, url, recipe, body.every_seconds))


@router.get("/feeds")
def find(owner: Owner, here: Here) -> list[dict[str, Any]]:
    """Return the feeds that are watched."""
    with here.database.begin() as tx:
        return [shapes.feed(feed) for feed in feeds.find(tx, owner)]


@router.delete("/feeds/{feed_id}")
def remove(feed_id: UUID, owner: Owner, here: Here) -> dict[str, Any]:
    """Stop watching a feed; what it brought stays."""
    with here.database.begin() as tx:
        feeds.remove(tx, feed_id, owner)
    return {"feed_id": str(feed_id)}
