"""What a TLS connection trusts and shows: contexts from the files that a route names."""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.download.access import Route
from headrace.errors import InvalidRequest


class _Strict(ssl.SSLContext):
    """A context to which a connection that ends without a close_notify has broken off (RFC 8446, section 6.1).

    Else whoever can close a connection could cut a body that has no length, and it would count as whole.
    """

    def wrap_socket(self, sock: socket.socket, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """As the default's, without its leniency."""
        return super().wrap_socket(sock, *args, **(kwargs | {"suppress_ragged_eofs": False}))


RENEWAL_SECONDS = 60.0
"""Within so long after a certificate its key is there too."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Tells one state of a route's files from another."""

    own: tuple[tuple[int, int] | None, ...]
    """Of the client's certificate and its key."""
    trusted: tuple[int, int] | None

    def is_renewal_of(self, earlier: Stamp) -> bool:
        """Return whether only the client's certificate or its key have changed, and just now."""
        changed = max((state[1] for state in self.own if state is not None), default=0)
        return self.trusted == earlier.trusted and time.time() - changed / 1e9 < RENEWAL_SECONDS


def stamp(route: Route) -> Stamp:
    """Return what changes when a file of the route is replaced or written anew."""
    return Stamp((_state(route.certificate), _state(route.key)), _state(route.ca))


def _state(path: Path | None) -> tuple[int, int] | None:
    try:
        found = path.stat() if path is not None else None
    except OSError:
        return None  # who makes the context says so
    return (found.st_ino, found.st_mtime_ns) if found is not None else None


def context(route: Route) -> ssl.SSLContext:
    """Return the context for sources; raises ``InvalidRequest`` where a file of the route can't be used."""
    made = _trusting(route.ca)
    if route.certificate is not None:
        try:
            # With a password, because OpenSSL would ask for that of an encrypted key on the terminal.
            made.load_cert_chain(route.certificate, route.key, password="")
        except (OSError, ValueError) as error:
            raise _unusable("certificate", route.certificate, error) from error
    return made


def proxy_context(route: Route) -> ssl.SSLContext | None:
    """Return the context for a TLS connection to the proxy itself, which sees no certificate of the client's."""
    if route.proxy is None or not route.proxy.startswith("https://"):
        return None
    return _trusting(route.ca)


def _trusting(ca: Path | None) -> ssl.SSLContext:
    """Return a context that trusts these authorities only, or the system's."""
    made = _Strict(ssl.PROTOCOL_TLS_CLIENT)
    if ca is not None:
        made.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN  # who names an intermediate trusts it
    try:
        if ca is not None:
            made.load_verify_locations(ca)
        else:
            made.load_default_certs()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise _unusable("authorities", ca or Path(), error) from error
    return made


def _unusable(what: str, path: Path, error: Exception) -> InvalidRequest:
    reason = "is not there" if isinstance(error, FileNotFoundError) else "can't be used"
    return InvalidRequest(
        f"the {what} in {path.name} {reason}, or the key that belongs to it",
        hint="A PEM file is wanted; of a certificate the key too, without a password.",
    )
