"""What a user typed becomes a ``Source``, or a clear refusal. Pure.

A source's *locator* may hold secrets (user info, a signed query); what is *shown* never
does. A name is a label for people: it is made harmless here, and never becomes a path.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit
from uuid import UUID

from headrace.errors import InvalidSource
from headrace.model import Source, SourceKind

MAX_LOCATOR = 8192
"""Characters; longer URLs are refused by most servers too (RFC 9110, section 4.1 asks for 8,000)."""

MAX_NAME_BYTES = 200
"""Of a label in UTF-8: file systems end at 255, and what is unfinished has a longer name."""

FILE_HINT = "It is an absolute path on the workers' machines, such as file:///srv/media/film.mp4."

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
"""Amazon S3 User Guide, bucket naming rules."""
_ASSET = re.compile(r"[0-9a-f]{6,64}")
_DEVICE = re.compile(r"CON|PRN|AUX|NUL|(COM|LPT)[0-9¹²³]", re.IGNORECASE)
"""Names that are devices on Windows, whatever follows their first dot ("Naming Files, Paths, and Namespaces")."""

_CONTROL = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def parse(text: str) -> Source:
    """Return the source that a text names: an http(s) URL, ``s3://``, ``file://``, ``upload:ID`` or ``asset:ID``.

    Raises ``InvalidSource``. ``file://`` names a file where the workers are, in a folder that the
    operator has opened to orders; a path on the caller's machine is uploaded first, by the CLI.
    """
    text = text.strip()
    if not text:
        raise InvalidSource("a source is empty")
    if len(text) > MAX_LOCATOR:
        raise InvalidSource(f"a source is longer than {MAX_LOCATOR} characters")
    scheme, _, rest = text.partition(":")
    if scheme == "asset":
        if not _ASSET.fullmatch(rest.lower()):
            raise InvalidSource(f"{_shown_text(text)} does not name an asset")
        return Source(SourceKind.ASSET, rest.lower(), f"asset:{rest.lower()}", rest.lower()[:12])
    if scheme == "upload":
        return _upload(text, rest)
    if scheme == "s3":
        return _s3(text)
    if scheme == "file":
        return _file(text)
    return _url(text)


def parse_ordered(text: str) -> Source:
    """Return the source that an order or a feed names: it is stored, so a URL with a login is refused.

    Raises ``InvalidSource``.
    """
    source = parse(text)
    if source.kind is SourceKind.URL and has_user_info(source.locator):
        raise InvalidSource(
            f"{source.shown} comes with a login, and what is ordered is stored",
            hint="Leave it out, and name a credential instead (HEADRACE_CREDENTIALS).",
        )
    return source


def parse_url(text: str) -> Source:
    """Return the source that a URL names; raises ``InvalidSource`` for anything else."""
    source = parse(text)
    if source.kind is not SourceKind.URL:
        raise InvalidSource(f"{source.shown} is not a URL", hint="Give an http(s) URL.")
    return source


def _s3(text: str) -> Source:
    bucket, _, key = text.removeprefix("s3://").partition("/")
    if not text.startswith("s3://") or not _BUCKET.fullmatch(bucket) or not key or not text.isprintable():
        raise InvalidSource(f"{_shown_text(text)} does not name an object: s3://BUCKET/KEY")
    if not is_plain(key):
        raise InvalidSource(
            f"{_shown_text(text)} has . or .. between its slashes, and would be another object over HTTP",
            hint="Copy it to another key.",
        )
    return Source(SourceKind.S3, text, text, safe_name(key))


def _file(text: str) -> Source:
    """RFC 8089 (February 2017): ``file:///path``, the host empty or localhost."""
    host, slash, rest = text.removeprefix("file://").partition("/")
    path = unquote(slash + rest)
    if not text.startswith("file://") or host not in {"", "localhost"} or not slash or not is_plain(path):
        raise InvalidSource(f"{_shown_text(text)} does not name a local file: file:///PATH", hint=FILE_HINT)
    path = "/" + posixpath.normpath(path).lstrip("/")
    return Source(SourceKind.FILE, path, file_url(path), safe_name(path))


def is_plain(path: str) -> bool:
    """Return whether a path can be a source: printable, all of it UTF-8, and with no dots for folders."""
    return path.isprintable() and not {"..", "."} & set(path.split("/"))


def file_url(path: str) -> str:
    """Return the URL of an absolute path; ``parse`` is its inverse."""
    return "file://" + quote(path)


def _upload(text: str, rest: str) -> Source:
    try:
        upload_id = UUID(rest)
    except ValueError:
        raise InvalidSource(f"{_shown_text(text)} does not name an upload") from None
    return Source(SourceKind.UPLOAD, str(upload_id), f"upload:{upload_id}", f"upload-{str(upload_id)[:8]}")


def _url(text: str) -> Source:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        # Not the reason as urlsplit gives it: that may quote a password.
        raise InvalidSource(f"{_shown_text(text)} is not a URL: its host or port can't be read") from None
    if parts.scheme not in {"http", "https"}:
        raise InvalidSource(f"{_shown_text(text)} is neither an http(s) URL, an upload nor an asset")
    if not host:
        raise InvalidSource(f"{_shown_text(text)} names no host")
    if any(unicodedata.category(c) in _CONTROL or c.isspace() for c in text):
        raise InvalidSource(f"{_shown_text(text)} holds a space or a control character")
    if port == 0:
        raise InvalidSource(f"{_shown_text(text)} names port 0")
    locator = urlunsplit(parts._replace(fragment=""))
    return Source(SourceKind.URL, locator, redact(locator), safe_name(unquote(parts.path.rsplit("/", 1)[-1]) or host))


def has_user_info(locator: str) -> bool:
    """Return whether a source's URL holds a login."""
    return "@" in urlsplit(locator).netloc


def redact(url: str) -> str:
    """Return a URL without user info and without the values of its query."""
    parts = urlsplit(url)
    netloc = parts.netloc.rpartition("@")[2]
    query = "&".join(quote(name) + ("=…" if value else "") for name, value in parse_qsl(parts.query, True))
    return urlunsplit((parts.scheme, netloc, parts.path, query, ""))


def safe_name(text: str) -> str:
    """Return an outside name as a harmless label: one line, no separators, not hidden, not empty, no device.

    >>> safe_name("../../etc/passwd")
    'passwd'
    """
    text = unicodedata.normalize("NFC", text).replace("\\", "/").rsplit("/", 1)[-1]
    text = "".join(" " if unicodedata.category(c) in _CONTROL else c for c in text)
    text = " ".join(text.split()).strip(". ")
    if _DEVICE.fullmatch(text.partition(".")[0].rstrip()):
        text = f"_{text}"
    return _cut(text) or "untitled"


def _cut(name: str) -> str:
    """Shorten a label, but not its extension."""
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    stem, dot, suffix = name.rpartition(".")
    if not dot or len(suffix.encode()) > 10:  # noqa: PLR2004 - longer ones are words, not extensions
        stem, suffix = name, ""
    kept = stem.encode()[: MAX_NAME_BYTES - len(dot + suffix)].decode("utf-8", "ignore").rstrip(". ")
    return f"{kept}{dot}{suffix}" if suffix else kept


def title_of(name: str) -> str:
    """Return a readable title for a file's name: without its extension, underscores as spaces."""
    stem, dot, suffix = name.rpartition(".")
    if not dot or not stem or len(suffix) > 5:  # noqa: PLR2004 - longer ones are words, not extensions
        stem = name
    return " ".join(stem.replace("_", " ").split()) or name


def shown(text: str) -> str:
    """Return what people and logs may see of a text that may be no source at all."""
    clean = "".join(c if c.isprintable() else "?" for c in text)
    if "://" in clean:
        clean = re.sub(r"//[^/\s]*@", "//", clean).partition("?")[0]
    return clean if len(clean) <= 120 else clean[:117] + "..."  # noqa: PLR2004 - fits two lines


def _shown_text(text: str) -> str:
    return repr(shown(text))
