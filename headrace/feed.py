"""Feeds: what a watched address offers now. Reading is one function, parsing is pure.

Three kinds are known: RSS 2.0 and podcasts (enclosures), Atom (RFC 4287, ``rel=enclosure``),
and an HTML index whose links end like media files. An S3 prefix is listed by its store, a local
folder by ``headrace.local``.
Requests are conditional (RFC 9110, section 13): a feed that has not changed costs one 304.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urljoin, urlsplit
from xml.etree.ElementTree import Element, ParseError

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from headrace import local
from headrace.catalogue.feeds import FeedEntry
from headrace.download.guard import Guard
from headrace.download.session import Session, check_status
from headrace.errors import SourceRefused
from headrace.hosts import Hosts
from headrace.log import Log
from headrace.source import file_url, is_plain
from headrace.stores import ObjectStore

log = Log(__name__)

MAX_FEED_BYTES = 16 * 1024 * 1024
"""The largest podcasts' feeds have a few MiB."""

MAX_FOLDER_FILES = 100_000
"""In a local folder that is watched, of whatever kind."""

MAX_ENTRIES = 5000
"""Of one look; the rest comes with the next."""

ATOM = "{http://www.w3.org/2005/Atom}"
MEDIA_RSS = "{http://search.yahoo.com/mrss/}"

MEDIA_SUFFIXES = frozenset(
    {".3gp", ".aac", ".ac3", ".aif", ".aiff", ".avi", ".flac", ".flv", ".m2ts", ".m4a", ".m4v", ".mka", ".mkv", ".mov"}
    | {".mp3", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".oga", ".ogg", ".ogv", ".opus", ".ts", ".wav", ".webm"}
    | {".wma", ".wmv"}
)
"""Names in an index or a bucket that are taken for media; what they are is found out later."""

NOT_MODIFIED = 304


@dataclass(frozen=True, slots=True)
class Reading:
    """What a look at a feed found."""

    entries: tuple[FeedEntry, ...]
    etag: str | None
    last_modified: str | None
    changed: bool
    """False after a 304: there is nothing new, and the entries are empty."""


def read(
    url: str, guard: Guard, hosts: Hosts | None = None, *, etag: str | None = None, last_modified: str | None = None
) -> Reading:
    """Look at a feed over HTTP; raises a ``SourceError`` (its ``retryable`` says whether later helps)."""
    session = Session(guard, hosts)
    headers = {name: value for name, value in (("If-None-Match", etag), ("If-Modified-Since", last_modified)) if value}
    try:
        reply, body = session.read(url, headers, MAX_FEED_BYTES)
    finally:
        session.close()
    if reply.status == NOT_MODIFIED:
        return Reading((), etag, last_modified, changed=False)
    check_status(reply)
    entries = parse(body, reply.url, reply.headers.get("content-type", ""))
    return Reading(tuple(entries), reply.headers.get("etag"), reply.headers.get("last-modified"), changed=True)


def parse(body: bytes, base: str, content_type: str = "") -> list[FeedEntry]:
    """Return a document's entries, the oldest first where the feed has the newest first. Pure.

    Raises ``SourceRefused`` where it is neither RSS, Atom nor HTML.
    """
    if "html" in content_type.lower() or body.lstrip()[:64].lower().startswith((b"<!doctype html", b"<html")):
        return parse_index(body.decode("utf-8", "replace"), base)
    try:
        root = ElementTree.fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:  # LookupError: an unknown encoding
        raise SourceRefused(
            f"the feed can't be read: {error or type(error).__name__}",
            hint="A feed is RSS, Atom, or an HTML page with links to media files.",
        ) from error
    if root.tag == f"{ATOM}feed":
        return _unique(_atom_entries(root, base))
    if root.tag in {"rss", "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}RDF"}:
        return _unique(_rss_entries(root, base))
    raise SourceRefused("the document is neither RSS, Atom nor HTML", hint="Watch the feed's own address.")


def _rss_entries(root: Element, base: str) -> Iterable[FeedEntry]:
    for item in reversed(list(root.iter("item"))):
        title = (item.findtext("title") or "").strip()
        guid = (item.findtext("guid") or "").strip()
        enclosures = [*item.iter("enclosure"), *item.iter(f"{MEDIA_RSS}content")]
        for number, enclosure in enumerate(enclosures):
            url = _http(enclosure.get("url"), base)
            if url is None:
                continue
            length = enclosure.get("length") or enclosure.get("fileSize") or ""
            name = guid if guid and number == 0 else url
            yield FeedEntry(name, url, title or _last(url), int(length) if length.isdecimal() else None)


def _atom_entries(root: Element, base: str) -> Iterable[FeedEntry]:
    for entry in reversed(root.findall(f"{ATOM}entry")):
        title = (entry.findtext(f"{ATOM}title") or "").strip()
        guid = (entry.findtext(f"{ATOM}id") or "").strip()
        links = [link for link in entry.findall(f"{ATOM}link") if link.get("rel") == "enclosure"]
        for number, link in enumerate(links):
            url = _http(link.get("href"), base)
            if url is not None:
                yield FeedEntry(guid if guid and number == 0 else url, url, title or _last(url))


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


def parse_index(text: str, base: str) -> list[FeedEntry]:
    """Return the links of an HTML page that end like media files, in the page's order. Pure."""
    links = _Links()
    links.feed(text)
    urls = [url for href in links.found if (url := _http(href, base)) is not None and is_media_name(url)]
    return _unique(FeedEntry(url, url, _last(url)) for url in urls)


def list_prefix(bucket: ObjectStore, name: str, prefix: str) -> list[FeedEntry]:
    """Return the media files under a prefix of a bucket; a changed object is a new entry.

    Those whose keys can't be a source's are left out, with a word in the log.
    """
    found = sorted(bucket.list(prefix), key=lambda one: one.key)
    found = [one for one in found if is_media_name(one.key) and one.size_bytes > 0]
    for one in found:
        if not is_plain(one.key):
            log.warning("feed.odd_name", name=repr(one.key))
    return [
        FeedEntry(
            f"{one.key}#{one.etag or (one.size_bytes, one.modified)}",
            f"s3://{name}/{one.key}",
            _last(one.key),
            one.size_bytes,
        )
        for one in found
        if is_plain(one.key)
    ][:MAX_ENTRIES]


def list_folder(folder: Path, roots: Sequence[Path]) -> list[FeedEntry]:
    """Return the media files below a local folder that nobody is writing; a changed file is a new entry.

    Those whose names can't be a source's are left out, with a word in the log.

    Raises ``InvalidSource`` where the folder isn't open to orders or can't be read.
    """
    entries = []
    for path in local.files(folder, roots, most=MAX_FOLDER_FILES, settled_seconds=local.SETTLED_SECONDS):
        if not is_plain(str(path)):
            log.warning("feed.odd_name", name=repr(path.name))
            continue
        if not is_media_name(quote(path.name)):
            continue
        try:
            found = path.stat()
        except FileNotFoundError:
            continue  # gone since it was listed
        guid = f"{path}#{found.st_size}#{found.st_mtime_ns}"
        entries.append(FeedEntry(guid, file_url(str(path)), path.name, found.st_size))
    return entries[:MAX_ENTRIES]


def is_media_name(name: str) -> bool:
    """Return whether a URL's or key's last part ends like a media file."""
    return PurePosixPath(urlsplit(name).path).suffix.lower() in MEDIA_SUFFIXES


def _http(href: str | None, base: str) -> str | None:
    if not href:
        return None
    try:
        url = urljoin(base, href.strip())
        return url if urlsplit(url).scheme in {"http", "https"} and urlsplit(url).hostname else None
    except ValueError:
        return None


def _last(url: str) -> str:
    return unquote(urlsplit(url).path.rstrip("/").rsplit("/", 1)[-1]) or url


def _unique(entries: Iterable[FeedEntry]) -> list[FeedEntry]:
    first: dict[str, FeedEntry] = {}
    for entry in entries:
        first.setdefault(entry.guid, entry)
    return list(first.values())[:MAX_ENTRIES]
