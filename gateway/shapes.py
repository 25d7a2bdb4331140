"""The JSON that the gateway gives: the shapes of DESIGN.md, made from the catalogue's values."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from headrace import links
from headrace.catalogue.assets import Asset
from headrace.catalogue.feeds import Feed
from headrace.catalogue.hosts import Host
from headrace.catalogue.items import Item
from headrace.catalogue.orders import Order
from headrace.catalogue.publications import Publication
from headrace.hosts import HostLimits
from headrace.model import ItemState, PublicationState
from headrace.settings import Settings


def item(one: Item, publication: Publication | None, settings: Settings) -> dict[str, Any]:
    """Return an item as ``ingest --wait --json`` prints it, with its progress."""
    played = playback(one.asset_id, publication, one.owner, settings) if one.state is ItemState.PUBLISHED else None
    fraction = 1.0 if one.state in {ItemState.PUBLISHED, ItemState.STORED} else one.progress.fraction
    return {
        "item_id": str(one.id),
        "order_id": str(one.order_id),
        "source": one.source.shown,
        "title": one.title,
        "state": one.state.value,
        "attempts": one.attempts,
        "asset_id": one.asset_id,
        "blake3": one.asset_id,
        "sha256": one.sha256,
        "size_bytes": one.size_bytes,
        "media_type": one.media_type,
        "duplicate": one.duplicate,
        "proofs": list(one.proofs),
        "warnings": list(one.warnings),
        "playback": played,
        "error": one.error,
        "percent": None if fraction is None else round(100 * fraction, 1),
        "speed": one.progress.speed,
        "eta_seconds": one.progress.eta_seconds,
        "not_before": one.not_before,
        "created_at": one.created_at,
        "updated_at": one.updated_at,
    }


def order(one: Order) -> dict[str, Any]:
    """Return an order with its items' counts."""
    return {
        "order_id": str(one.id),
        "recipe": one.recipe.name,
        "key": one.idempotency_key,
        "created_at": one.created_at,
        "cancelled_at": one.cancelled_at,
        "bytes_per_second": one.bytes_per_second,
        "items": sum(one.counts.values()),
        "counts": one.counts,
    }


def playback(
    asset_id: str | None, publication: Publication | None, owner: str, settings: Settings
) -> dict[str, Any] | None:
    """Return the signed links that play a publication, or ``None`` where there is nothing to play."""
    if asset_id is None or publication is None or publication.state is not PublicationState.LIVE:
        return None
    key = settings.signing_key.get_secret_value()
    folder = media_folder(publication, settings)

    def named(name: str | None) -> str | None:
        return folder + name if name else None

    return {
        "watch": links.watch_url(settings.url, key, owner, asset_id, settings.watch_hours),
        "hls": named(publication.hls),
        "dash": named(publication.dash),
        "poster": named(publication.poster),
        "storyboard": named(publication.storyboard),
        "recipe": publication.recipe.name,
        "duration_seconds": publication.duration_seconds,
        "expires_in_seconds": settings.watch_hours * 3600,
    }


def to_play(publications: list[Publication]) -> Publication | None:
    """Return the publication that plays when an asset is asked for: one with a picture before one without.

    Among equals the newest, which comes first.
    """
    live = [one for one in publications if one.state is PublicationState.LIVE]
    return next((one for one in live if any(r.kind == "video" for r in one.renditions)), next(iter(live), None))


def media_folder(publication: Publication, settings: Settings) -> str:
    """Return the signed address under which a publication's files are."""
    key = settings.signing_key.get_secret_value()
    token = links.sign(key, links.media_subject(str(publication.id)), settings.watch_hours * 3600)
    return f"{settings.url.rstrip('/')}/media/{publication.id}/{token}/"


def asset(one: Asset, publications: list[Publication], owner: str, settings: Settings) -> dict[str, Any]:
    """Return an asset as ``assets --json`` prints it."""
    live = to_play(publications)
    return {
        "asset_id": one.id,
        "blake3": one.id,
        "sha256": one.sha256,
        "title": one.title,
        "media_type": one.media_type,
        "kind": one.kind,
        "size_bytes": one.size_bytes,
        "duration_seconds": one.duration_seconds,
        "created_at": one.created_at,
        "entries": [{**asdict(entry), "id": str(entry.id)} for entry in one.entries],
        "deleted": all(entry.deleted_at is not None for entry in one.entries),
        "master": None
        if one.master is None
        else {"stored_bytes": one.master.stored_bytes, "kind": one.master.kind, "reason": one.master.reason},
        "renditions": [] if live is None else [_rendition(rendition) for rendition in live.renditions],
        "published_bytes": 0 if live is None else live.size_bytes,
        "playback": playback(one.id, live, owner, settings),
        "warnings": [] if live is None else list(live.warnings),
        "error": one.problem,
        "streams": one.probe,
    }


def _rendition(rendition: Any) -> dict[str, Any]:
    body = asdict(rendition)
    body.pop("file")
    return body


def feed(one: Feed) -> dict[str, Any]:
    """Return a feed that is watched."""
    return {
        "feed_id": str(one.id),
        "url": one.url,
        "recipe": one.recipe.name,
        "every_seconds": one.every_seconds,
        "last_checked_at": one.last_checked_at,
        "next_check_at": one.next_check_at,
        "entries": one.entries,
        "error": one.error,
    }


def host(one: Host, limits: HostLimits) -> dict[str, Any]:
    """Return how a host is, with what it may be asked."""
    return {
        "host": one.host,
        "state": one.phase.value,
        "connections": one.connections,
        "connections_limit": limits.connections,
        "requests_per_second_limit": limits.requests_per_second,
        "waiting": one.waiting,
        "failures": one.failures,
        "until": one.until,
        "reason": one.why,
        "used_at": one.used_at,
    }
