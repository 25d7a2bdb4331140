"""What a TLS connection trusts and shows: contexts from the files that a route names."""

from __future__ import annotations

import ssl
from pathlib import Path

from headrace.download.access import Route
from headrace.errors import InvalidRequest


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
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise _unusable("authorities", ca or Path(), error) from error


def _unusable(what: str, path: Path, error: Exception) -> InvalidRequest:
    reason = "is not there" if isinstance(error, FileNotFoundError) else "can't be used"
    return InvalidRequest(
        f"the {what} in {path.name} {reason}, or the key that belongs to it",
        hint="A PEM file is wanted; of a certificate the key too, without a password.",
    )
