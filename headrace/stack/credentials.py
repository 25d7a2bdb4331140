"""The secrets of a stack, generated once, and ``settings.env``, which carries them.

1. Secrets stay the same for the life of the home; only addresses follow the ports.
2. The file is replaced atomically, mode 0600. Lines that an operator added stay.
3. Postgres' own password can't be made anew where a cluster exists already, so its
   absence is an error that says so; every other missing line is generated again.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from headrace.errors import StackError
from headrace.stack import folders
from headrace.stack.layout import DEFAULT_PORT_BASE, LAST_PORT, PORTS_NEEDED, Layout, Ports

SECRET_BYTES = 24
"""192 bits, out of reach for guessing; URL-safe text of 32 characters."""
_SAFE_SECRET = re.compile(r"[A-Za-z0-9_-]+")
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)")


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """Every secret of a stack; never shown by ``repr``. Each is URL-safe text."""

    token: str
    """The bearer token of the gateway."""
    signing_key: str
    postgres_password: str
    """Of the superuser ``headrace_admin``."""
    database_password: str
    """Of the role ``headrace``."""
    prefect_database_password: str
    """Of the role ``prefect``."""
    prefect_password: str
    """Of the user ``headrace`` at the Prefect API."""
    s3_access_key_id: str
    s3_secret_access_key: str


_KEYS = {
    "token": "HEADRACE_TOKEN",
    "signing_key": "HEADRACE_SIGNING_KEY",
    "postgres_password": "HEADRACE_POSTGRES_PASSWORD",
    "database_password": "HEADRACE_DATABASE_PASSWORD",
    "prefect_database_password": "HEADRACE_PREFECT_DATABASE_PASSWORD",
    "prefect_password": "HEADRACE_PREFECT_PASSWORD",
    "s3_access_key_id": "HEADRACE_S3_ACCESS_KEY_ID",
    "s3_secret_access_key": "HEADRACE_S3_SECRET_ACCESS_KEY",
}
PORT_BASE_KEY = "HEADRACE_PORT_BASE"
POSTGRES_PASSWORD_KEY = _KEYS["postgres_password"]

STACK_ONLY_KEYS = frozenset(
    {POSTGRES_PASSWORD_KEY, "HEADRACE_DATABASE_PASSWORD", "HEADRACE_PREFECT_DATABASE_PASSWORD"}
    | {"HEADRACE_PREFECT_PASSWORD", PORT_BASE_KEY}
)
"""What only the supervisor needs; parts don't get them."""


def new() -> Credentials:
    """Generate all secrets."""
    return Credentials(**{field.name: secrets.token_urlsafe(SECRET_BYTES) for field in fields(Credentials)})


def parse(text: str) -> dict[str, str]:
    """Return the settings in a ``settings.env``; comments and empty lines are skipped, quotes taken off."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match and not line.lstrip().startswith("#"):
            value = match[2].strip()
            found[match[1]] = value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value
    return found


def read(layout: Layout) -> dict[str, str]:
    """Return what ``settings.env`` holds, or nothing where it does not exist."""
    try:
        return parse(layout.settings.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise StackError(
            f"{layout.settings} can't be read: {error}",
            hint="Restore it from a backup, or move it away together with the database to start empty.",
        ) from error


def complete(found: Mapping[str, str], *, cluster: Path | None, settings: Path) -> Credentials:
    """Return the secrets in ``found``, with new ones for what is missing.

    ``cluster`` is the database's folder if it exists already; then its password must be known.
    """
    fresh = new()
    values: dict[str, str] = {}
    for name, key in _KEYS.items():
        value = found.get(key, "")
        if not value and key == POSTGRES_PASSWORD_KEY and cluster is not None:
            what = "does not have" if found else "is missing, and with it"
            raise StackError(
                f"{settings} {what} {key}, the password of the database in {cluster}",
                hint=f"Restore {settings.name} from a backup, or remove {cluster} and the objects to start empty.",
            )
        if value and not _SAFE_SECRET.fullmatch(value):
            raise StackError(
                f"{key} in {settings} has characters other than letters, digits, - and _",
                hint="Restore the line from a backup.",
            )
        values[name] = value or getattr(fresh, name)
    return Credentials(**values)


def port_base(asked: int | None, found: Mapping[str, str]) -> int:
    """Return the base that was asked for, else the home's last one, else the default."""
    remembered = found.get(PORT_BASE_KEY, "")
    base = asked if asked is not None else int(remembered) if remembered.isdigit() else DEFAULT_PORT_BASE
    if not 1 <= base <= LAST_PORT - PORTS_NEEDED + 1:
        raise StackError(
            f"ports from {base} on are out of range", hint=f"Give --port-base 1 to {LAST_PORT - PORTS_NEEDED + 1}."
        )
    return base


def settings_for(credentials: Credentials, ports: Ports) -> dict[str, str]:
    """Return every line that the stack itself keeps in ``settings.env``."""
    host = "127.0.0.1"
    gateway, prefect = f"http://{host}:{ports.gateway}", f"http://{host}:{ports.prefect}"
    database = f"{host}:{ports.postgres}"
    return {
        **{key: getattr(credentials, name) for name, key in _KEYS.items()},
        PORT_BASE_KEY: str(ports.base),
        "HEADRACE_URL": gateway,
        "HEADRACE_DASHBOARD_URL": f"http://{host}:{ports.dashboard}",
        "HEADRACE_PREFECT_UI_URL": prefect,
        "HEADRACE_DATABASE_URL": f"postgresql+psycopg2://headrace:{credentials.database_password}@{database}/headrace",
        "HEADRACE_S3_ENDPOINT_URL": f"http://{host}:{ports.s3}",
        "PREFECT_API_URL": f"{prefect}/api",
        "PREFECT_API_AUTH_STRING": f"headrace:{credentials.prefect_password}",
    }


def save(layout: Layout, found: Mapping[str, str], ours: Mapping[str, str]) -> None:
    """Write ``settings.env``: our lines, then those that an operator had added."""
    lines = ["# Written by `headrace up`. Lines of your own are kept; these are replaced:"]
    lines += [f"{key}={value}" for key, value in ours.items()]
    lines += ["# Yours:"]
    lines += [f"{key}={value}" for key, value in found.items() if key not in ours]
    folders.write_private(layout.settings, "\n".join(lines) + "\n")
