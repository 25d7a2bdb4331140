"""What ``fetch`` shows to get in: its options, a URL's own user info, netrc and credentials become an ``Access``.

Where several speak of the same URL, the closest to it wins: its own user info, then its line of
the input list, then the command's options, then netrc.
"""

from __future__ import annotations

import netrc
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from headrace import credentials
from headrace.cli.files import text_of
from headrace.credentials import Credential
from headrace.download import access as accesses
from headrace.download import proxies, tls
from headrace.download.access import Access
from headrace.download.listing import Entry
from headrace.errors import InvalidRequest

if TYPE_CHECKING:
    from headrace.cli.fetch import Options

PASSWORD = "HEADRACE_PASSWORD"  # noqa: S105 - the variable's name
MAX_SECRET_BYTES = 64 * 1024
"""Of a file with a password or a token; the longest tokens have some kilobytes."""


@dataclass(frozen=True, slots=True)
class Logins:
    """What each URL of a command gets."""

    common: Access
    """By the command's options."""
    credential: str | None = None
    """For every URL, instead of the options' login."""
    named: Mapping[str, Credential] = field(default_factory=dict)
    """The operator's credentials that are asked for."""
    netrc: netrc.netrc | None = None
    own_proxy: bool = False
    """Whether the options name a proxy, which wins over a credential's."""

    def of(self, url: str, entry: Entry) -> tuple[str, Access]:
        """Return a URL of an entry without its user info, and what is shown for it; raises ``InvalidRequest``."""
        bare, info = accesses.without_user_info(url)
        shown = self._named(entry.credential or self.credential, bare) or self.common
        return bare, self._with_login(bare, shown.with_headers(entry.headers), info)

    def elsewhere(self, url: str) -> tuple[str, Access]:
        """Return the same for a URL of another origin than that of a file, which the options' login isn't for."""
        bare, info = accesses.without_user_info(url)
        return bare, self._with_login(bare, self.common.elsewhere(), info)

    def _with_login(self, url: str, shown: Access, info: tuple[str, str] | None) -> Access:
        if info is not None:
            return shown.as_user(*info)
        if not shown.has_login and self.netrc is not None:
            return _by_netrc(self.netrc, url, shown)
        return shown

    def _named(self, name: str | None, url: str) -> Access | None:
        if name is None:
            return None
        own = tuple(pair for pair in self.common.headers if pair[0] != "Authorization")
        shown = self.named[name].access(url).with_headers(own)
        brings_proxy = shown.proxies != proxies.NO_PROXIES and not self.own_proxy
        return shown if brings_proxy else replace(shown, proxies=self.common.proxies)


def of(options: Options, entries: tuple[Entry, ...]) -> Logins:
    """Return what a command's options say, with the credentials that they or the list name.

    Asks for a password on the terminal where that is needed. Raises ``InvalidRequest``, or
    ``click.UsageError`` where options contradict each other.
    """
    common = _common(options, os.environ)
    if common.certificate or common.ca:
        tls.context(accesses.Route(None, common.certificate, common.key, common.ca))  # tells a wrong file at once
    path = options.netrc_file or (Path.home() / ".netrc" if options.netrc else None)
    names = {name for name in (options.credential, *(entry.credential for entry in entries)) if name is not None}
    logins = None if path is None else read_netrc(path)
    return Logins(common, options.credential, _named(names), logins, own_proxy=options.proxy is not None)


def _named(names: set[str]) -> dict[str, Credential]:
    if not names:
        return {}
    from headrace import settings

    file = settings.load().credentials_file
    return {name: credentials.find(file, name) for name in names}


def _common(options: Options, environment: Mapping[str, str]) -> Access:
    shown = Access(
        headers=tuple(accesses.header(text) for text in options.header),
        bearer=accesses.token(text_of(options.bearer_file, MAX_SECRET_BYTES))
        if options.bearer_file is not None
        else None,
        cookies=credentials.read_cookies(options.cookies) if options.cookies else None,
        proxies=proxies.from_environment(environment) if options.proxy is None else proxies.always(options.proxy),
        certificate=options.certificate,
        key=options.key,
        ca=options.ca,
    )
    logins = (options.user is not None, shown.bearer is not None, shown.has_header("Authorization"))
    if sum(logins) > 1:
        raise click.UsageError("give one of --user, --bearer-file and --header 'Authorization: …'")
    if options.user is None:
        return accesses.OPEN if shown == accesses.OPEN else shown  # the same object: then nobody looks into it
    user, _ = accesses.login(options.user, "")
    return shown.as_user(user, _password(options.password_file, user, environment))


def _password(path: Path | None, user: str, environment: Mapping[str, str]) -> str:
    if path is not None:
        password = text_of(path, MAX_SECRET_BYTES).removesuffix("\n").removesuffix("\r")
    elif PASSWORD in environment:
        password = environment[PASSWORD]
    elif sys.stdin.isatty():
        password = click.prompt(f"Password of {user}", hide_input=True, err=True, default="", show_default=False)
    else:
        raise click.UsageError(f"--user wants a password: --password-file, {PASSWORD}, or a terminal to ask on")
    return accesses.login(user, password)[1]


def read_netrc(path: Path) -> netrc.netrc:
    """Return the logins of a netrc file; raises ``InvalidRequest`` with the line that is wrong."""
    try:
        return netrc.netrc(str(path))
    except OSError as error:
        raise InvalidRequest(f"{path.name} can't be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise InvalidRequest(f"{path.name} is not in UTF-8") from None
    except netrc.NetrcParseError as error:
        # Not the reason: it quotes what it stumbled over.
        raise InvalidRequest(f"{path.name} is wrong at line {error.lineno}") from None


def _by_netrc(found: netrc.netrc, url: str, shown: Access) -> Access:
    known = found.authenticators(urlsplit(url).hostname or "")
    if known is None or not known[0]:
        return shown
    return shown.as_user(*accesses.login(known[0], known[2] or ""))
