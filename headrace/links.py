"""Signed links: who holds one may watch, until it expires. Pure.

A token is ``EXPIRY.MAC``: seconds since 1970 and the first 128 bits of an HMAC-SHA256
(RFC 2104) over what it is for and the expiry, base64url without padding. 128 bits can't
be guessed, and the link stays short enough to be passed on by hand.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

from headrace.errors import NotAllowed

MAC_BYTES = 16


def sign(key: str, subject: str, seconds: float, *, now: float | None = None) -> str:
    """Return a token for ``subject`` (such as ``watch:owner:asset``) that is good for ``seconds``."""
    expiry = int((time.time() if now is None else now) + seconds)
    return f"{expiry}.{_mac(key, subject, expiry)}"


def check(key: str, subject: str, token: str, *, now: float | None = None) -> int:
    """Return when a token expires (seconds since 1970); raises ``NotAllowed`` for a wrong or expired one."""
    expiry_text, _, mac = token.partition(".")
    if not expiry_text.isascii() or not expiry_text.isdigit() or len(expiry_text) > 12:  # noqa: PLR2004 - year 33658
        raise NotAllowed("the link is not whole", hint="Ask for a new link: `headrace play ASSET`.")
    expiry = int(expiry_text)
    if not hmac.compare_digest(mac.encode(), _mac(key, subject, expiry).encode()):
        raise NotAllowed("the link is not valid", hint="Ask for a new link: `headrace play ASSET`.")
    if expiry < (time.time() if now is None else now):
        raise NotAllowed("the link has expired", hint="Ask for a new link: `headrace play ASSET`.")
    return expiry


def watch_subject(owner: str, asset_id: str) -> str:
    """Return what a watch link is signed for."""
    return f"watch:{owner}:{asset_id}"


def media_subject(publication_id: str) -> str:
    """Return what the links to a publication's files are signed for."""
    return f"media:{publication_id}"


def watch_url(base: str, key: str, owner: str, asset_id: str, hours: float) -> str:
    """Return the address of the page that plays an asset, good for ``hours``."""
    token = sign(key, watch_subject(owner, asset_id), hours * 3600)
    return f"{base.rstrip('/')}/watch/{asset_id}?t={token}"


def _mac(key: str, subject: str, expiry: int) -> str:
    if not key:
        raise NotAllowed("no signing key is configured", hint="Set HEADRACE_SIGNING_KEY.")
    digest = hmac.new(key.encode(), f"{subject}:{expiry}".encode(), hashlib.sha256).digest()[:MAC_BYTES]
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
