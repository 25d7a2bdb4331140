"""Looks at the feeds that are due, and orders what is new in them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from prefect import flow, task

from flows import submit
from headrace import feed as engine
from headrace.catalogue import feeds, orders
from headrace.catalogue.feeds import Feed
from headrace.catalogue.orders import Wanted
from headrace.catalogue.work import Work
from headrace.claim import Claim, claim
from headrace.errors import HeadraceError, InvalidSource
from headrace.feed import Reading
from headrace.log import Log
from headrace.source import parse_ordered
from headrace.wiring import House, house

log = Log(__name__)


@flow(name="watch-feed", flow_run_name="watch feeds")
def watch_feed() -> int:
    """Look at every feed whose time has come; return how many new sources were ordered."""
    here = house()
    with here.database.begin() as tx:
        due = feeds.due(tx)
    return sum(look(feed) for feed in due)


@task(name="look at a feed", task_run_name="look at {feed.url}")
def look(feed: Feed) -> int:
    """Look at one feed; what is wrong with it is written to its row, and the others go on."""
    here = house()
    with claim(here.database, f"feed:{feed.id}") as held:
        if held is None:
            return 0
        try:
            reading = read(here, feed)
        except HeadraceError as error:
            with here.database.begin() as tx:
                feeds.checked(tx, feed.id, error=error)
            return 0
        return take_in(here, held, feed, reading)


def read(here: House, feed: Feed) -> Reading:
    """Return what the feed offers now."""
    parts = urlsplit(feed.url)
    if parts.scheme == "s3":
        entries = engine.list_prefix(here.bucket(parts.netloc), parts.netloc, parts.path.lstrip("/"))
        return Reading(tuple(entries), None, None, changed=True)
    if parts.scheme == "file":
        entries = engine.list_folder(Path(parse_ordered(feed.url).locator), here.settings.folders)
        return Reading(tuple(entries), None, None, changed=True)
    return engine.read(feed.url, here.guard, here.hosts, etag=feed.etag, last_modified=feed.last_modified)


def take_in(here: House, held: Claim, feed: Feed, reading: Reading) -> int:
    """Order a feed's new entries in the transaction that remembers them; return how many."""
    held.check()
    order_id = None
    with here.database.begin() as tx:
        new = [entry for entry in feeds.unseen(tx, feed.id, reading.entries) if _wanted(entry.url) is not None]
        if new:
            wanted = [one for entry in new if (one := _wanted(entry.url)) is not None]
            order_id, _ = orders.create(tx, feed.owner, wanted, feed.recipe)
            feeds.mark_seen(tx, feed.id, new, order_id)
        feeds.checked(tx, feed.id, etag=reading.etag, last_modified=reading.last_modified)
    if order_id is not None:
        submit.start(here, Work.ORDER, order_id)
    return len(new)


def _wanted(url: str) -> Wanted | None:
    """Return a feed's entry as a source, or ``None`` where it names none: feeds are hostile too."""
    try:
        return Wanted(parse_ordered(url))
    except InvalidSource as error:
        log.warning("feed.entry_refused", why=error.message)
        return None
