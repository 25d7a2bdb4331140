"""Named credentials: what the operator has put into a file, so that no secret stands in an order, a URL or a log.

The file is TOML (toml.io, version 1.0), of mode 0600, a section for each credential::

    [archive]
    hosts = ["archive.example.org", "*.example.net"]   # required: where it may be used
    user = "ada"                                       # Basic; or bearer = "TOKEN"
    password = "…"
    headers = { "X-Api-Key" = "…" }
    cookies = "cookies.txt"                            # Netscape's format
    proxy = "http://USER:PASSWORD@proxy:3128"
    certificate = "me.pem"                             # of the client
    key = "me.key"
    ca = "authority.pem"                               # trusted instead of the system's authorities
    plain_http = false                                 # true lets it go over http as well

1. A credential is for the hosts that it names. Asking for it with another URL is an error, and
   a redirect to another origin gets no more than any stranger (``download.access``).
2. Paths are relative to the file. It is read anew each time, so a change counts at once.
3. Unknown keys are refused, and no error quotes a value.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from headrace.download import access as accesses
from headrace.download import cookies, proxies
from headrace.download.access import Access
from headrace.download.proxies import Proxies
from headrace.errors import InvalidRequest

Made = TypeVar("Made")

FILE = "credentials.toml"
"""In the home, unless ``HEADRACE_CREDENTIALS`` names another."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_HOST = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?|[0-9a-f:.]*:[0-9a-f:.]*")
"""A name, a name after ``*.``, or an IPv6 address."""

_KINDS: Mapping[str, type] = {
    "hosts": list,
    "headers": dict,
    "plain_http": bool,
    **dict.fromkeys(("user", "password", "bearer", "cookies", "proxy", "certificate", "key", "ca"), str),
}


@dataclass(frozen=True, slots=True)
class Credential:
    """One section."""

    name: str
    shown: Access
    """All but the cookies."""
    cookies: Path | None

    def access(self, url: str) -> Access:
        """Return what a download of ``url`` may show.

        Raises ``InvalidRequest`` where the credential isn't for that host, or for a line that others can read.
        """
        host = urlsplit(url).hostname or ""
        if not accesses.names_host(self.shown.hosts, host):
            raise InvalidRequest(
                f"the credential {self.name!r} is not for {host}", hint="The hosts that it is for are in its section."
            )
        if not self.shown.plain_http and not accesses.is_private_line(url):
            raise InvalidRequest(
                f"the credential {self.name!r} is not for plain http, which others can read",
                hint="Use https, or say plain_http = true in its section.",
            )
        return self.shown if self.cookies is None else replace(self.shown, cookies=read_cookies(self.cookies))


def find(path: Path, name: str) -> Credential:
    """Return a credential of a file; raises ``InvalidRequest`` where there is none of that name."""
    known = load(path)
    if name not in known:
        raise InvalidRequest(
            f"there is no credential {name[:64]!r}",
            hint=f"Known are {', '.join(known)}." if known else f"They stand in {path.name}, which has none.",
        )
    return known[name]


def load(path: Path) -> dict[str, Credential]:
    """Return what a file has, nothing where it isn't there; raises ``InvalidRequest`` where others may read it."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            _check_mode(path, os.fstat(file.fileno()).st_mode)
            content = file.read()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InvalidRequest(f"{path.name} can't be read: {error.strerror}") from error
    try:
        return parse(content.decode(), path.parent)
    except UnicodeDecodeError:
        raise InvalidRequest(f"{path.name} is not in UTF-8") from None


def _check_mode(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise InvalidRequest(f"{path.name} is no regular file")
    if mode & 0o077:
        raise InvalidRequest(f"others may read {path.name}, which holds secrets", hint=f"chmod 600 {path}")


def parse(text: str, folder: Path) -> dict[str, Credential]:
    """Return the credentials of a text, whose paths are relative to ``folder``. Pure.

    Raises ``InvalidRequest`` with the section's name, or the line's number where it is no TOML.
    """
    try:
        body = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"at line \d+", str(error))
        # Not the whole reason: it may quote what stands there.
        raise InvalidRequest(f"the credentials are no TOML{' ' + where[0] if where else ''}") from None
    return {name: _credential(name, section, folder) for name, section in body.items()}


def _credential(name: str, section: Any, folder: Path) -> Credential:
    if not _NAME.fullmatch(name) or not isinstance(section, dict):
        raise InvalidRequest(
            f"{name[:64]!r} is no section of credentials", hint="A section is [name], of letters, digits, - and _."
        )
    try:
        _check_kinds(section)
        return Credential(name, _access(section, folder), _path(section, "cookies", folder))
    except InvalidRequest as error:
        raise InvalidRequest(f"the credential [{name}]: {error.message}", hint=error.hint) from None


def _check_kinds(section: Mapping[str, Any]) -> None:
    for key, value in section.items():
        if key not in _KINDS:
            raise InvalidRequest(f"{key[:64]!r} is not known", hint=f"Known are {', '.join(_KINDS)}.")
        if type(value) is not _KINDS[key]:
            raise InvalidRequest(f"{key} is not written right", hint="headrace/credentials.py shows each.")
    for key, needed in (("password", "user"), ("user", "password"), ("key", "certificate")):
        if key in section and needed not in section:
            raise InvalidRequest(f"it has {key} and lacks {needed}")


def _access(section: Mapping[str, Any], folder: Path) -> Access:
    headers = section.get("headers", {})
    if not all(isinstance(value, str) for value in headers.values()):
        raise InvalidRequest("a header's value is no text")
    found = Access(
        headers=tuple(accesses.header(f"{name}: {value}") for name, value in headers.items()),
        bearer=_given(section, "bearer", accesses.token),
        hosts=_hosts(section.get("hosts", [])),
        plain_http=section.get("plain_http", False),
        proxies=_given(section, "proxy", _proxy) or proxies.NO_PROXIES,
        certificate=_path(section, "certificate", folder),
        key=_path(section, "key", folder),
        ca=_path(section, "ca", folder),
    )
    if sum((found.bearer is not None, "user" in section, found.has_header("Authorization"))) > 1:
        raise InvalidRequest("it logs in twice", hint="Give a user, a bearer token or a header Authorization.")
    if "user" not in section:
        return found
    user, password = accesses.login(section["user"], section["password"])
    return replace(found, user=user, password=password)


def _hosts(hosts: list[Any]) -> tuple[str, ...]:
    if not hosts or not all(isinstance(host, str) and _HOST.fullmatch(host.lower()) for host in hosts):
        raise InvalidRequest(
            "hosts does not name where it may be used", hint='Such as hosts = ["archive.example.org", "*.example.net"].'
        )
    return tuple(host.lower() for host in hosts)


def _proxy(text: str) -> Proxies:
    """Return a credential's proxy: for its own hosts only, whatever redirects and mirrors lead to."""
    return replace(proxies.always(text), named_hosts_only=True)


def _given(section: Mapping[str, Any], key: str, made: Callable[[str], Made]) -> Made | None:
    return made(section[key]) if key in section else None


def _path(section: Mapping[str, Any], key: str, folder: Path) -> Path | None:
    return folder / Path(section[key]).expanduser() if section.get(key) else None


def read_cookies(path: Path) -> cookies.Cookies:
    """Return the cookies of a file in Netscape's format; raises ``InvalidRequest``."""
    try:
        return cookies.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidRequest(f"{path.name} can't be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise InvalidRequest(f"{path.name} is not in UTF-8") from None
