"""The only reader of the environment: every setting, its default and its unit.

A setting comes from the environment (``HEADRACE_…``), else from the file
``settings.env`` (mode 0600) in the home, which ``headrace up`` writes, else from the
default here. So the same code runs in the embedded stack (the file), under compose and
on a cluster (the environment).
"""

from __future__ import annotations

import os
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from headrace.errors import InvalidRequest
from headrace.hosts import rules
from headrace.hosts.rules import HostRules

SETTINGS_FILE = "settings.env"
"""In the home; ``KEY=value`` lines, mode 0600, because it holds the generated secrets."""

Network = IPv4Network | IPv6Network


def default_home() -> Path:
    """Return ``HEADRACE_HOME``, or the platform's folder for user data."""
    return Path(os.environ.get("HEADRACE_HOME") or platformdirs.user_data_path("headrace")).expanduser().absolute()


class Settings(BaseSettings):
    """What an operator can set; each field is ``HEADRACE_`` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="HEADRACE_", extra="ignore", env_file_encoding="utf-8")

    home: Path = Field(default_factory=default_home)
    """Where the embedded stack lives, and scratch space by default."""

    url: str = "http://127.0.0.1:8700"
    """The gateway, as the CLI, the dashboard and players reach it."""
    token: SecretStr = SecretStr("")
    """The bearer token of the gateway's API; without one the gateway does not start."""
    signing_key: SecretStr = SecretStr("")
    """The key that signs watch links; any long random text."""
    dashboard_url: str = ""
    """Where the dashboard is, for links; empty where there is none."""
    prefect_ui_url: str = ""
    """Where people reach the Prefect UI, for links; empty where there is none."""

    database_url: SecretStr = SecretStr("")
    """SQLAlchemy URL of Headrace's database, such as ``postgresql+psycopg2://user:pw@host/headrace``."""

    s3_endpoint_url: str = ""
    """The S3 endpoint; empty means AWS."""
    s3_region: str = "us-east-1"
    s3_access_key_id: SecretStr = SecretStr("")
    s3_secret_access_key: SecretStr = SecretStr("")
    s3_vault_bucket: str = "headrace-vault"
    """Masters; never readable by players."""
    s3_streams_bucket: str = "headrace-streams"
    """Publications."""
    s3_incoming_bucket: str = "headrace-incoming"
    """Uploads on their way in."""
    s3_public_url: str = ""
    """The endpoint as players reach it; empty means the gateway serves the media itself."""

    credentials: Path | None = None
    """The named credentials, a TOML file of mode 0600; by default ``credentials.toml`` in the home."""

    scratch: Path | None = None
    """Bounded working space of a worker; by default ``scratch/`` in the home."""
    max_source_bytes: int = Field(default=200 * 1024**3, ge=1)
    """The largest source that an order may bring (200 GiB)."""
    max_upload_bytes: int = Field(default=50 * 1024**3, ge=1)
    """The largest upload through the gateway (50 GiB)."""
    allowed_networks: str = ""
    """Networks beside the public internet that orders may read from, as CIDR with commas between."""
    source_buckets: str = ""
    """Buckets of the endpoint that orders and feeds may read from, with commas between."""
    source_folders: str = ""
    """Local folders that orders and feeds may read from (``file:///…``), as absolute paths with commas between."""
    download_rate: int | None = Field(default=None, ge=1024)
    """Bytes a second that the downloads of all workers together may bring; without it there is no limit."""
    download_jobs: int = Field(default=4, ge=1, le=64)
    """How many items of a bundle download at once."""
    host_connections: int = Field(default=rules.CONNECTIONS, ge=1, le=rules.MAX_CONNECTIONS)
    """Connections that one host gets from all workers together."""
    host_limits: str = ""
    """Hosts that get another number, or so many requests a second: ``archive.org=4, *.example.org=2@1/s``."""
    encoder_threads: int = Field(default=0, ge=0, le=256)
    """Threads of an encode that decode and scale (x264 has one for each rendition). 0: the machine's cores."""
    watch_hours: int = Field(default=24, ge=1, le=24 * 30)
    """How long a watch link is good for."""

    @field_validator("allowed_networks")
    @classmethod
    def _networks_parse(cls, value: str) -> str:
        for part in filter(None, (part.strip() for part in value.split(","))):
            ip_network(part)
        return value

    @field_validator("source_folders")
    @classmethod
    def _folders_are_absolute(cls, value: str) -> str:
        for part in filter(None, (part.strip() for part in value.split(","))):
            if not Path(part).is_absolute():
                raise ValueError(f"{part} is no absolute path")
        return value

    @field_validator("host_limits")
    @classmethod
    def _host_limits_parse(cls, value: str) -> str:
        rules.parse(value)
        return value

    @property
    def host_rules(self) -> HostRules:
        """``host_connections`` and ``host_limits``, parsed."""
        return rules.parse(self.host_limits, self.host_connections)

    @property
    def networks(self) -> tuple[Network, ...]:
        """``allowed_networks``, parsed."""
        return tuple(ip_network(part.strip()) for part in self.allowed_networks.split(",") if part.strip())

    @property
    def buckets(self) -> frozenset[str]:
        """``source_buckets``, split."""
        return frozenset(part.strip() for part in self.source_buckets.split(",") if part.strip())

    @property
    def folders(self) -> tuple[Path, ...]:
        """``source_folders``, split."""
        return tuple(Path(part.strip()) for part in self.source_folders.split(",") if part.strip())

    @property
    def credentials_file(self) -> Path:
        """Where the named credentials are, if there are any."""
        return self.credentials or self.home / "credentials.toml"

    @property
    def scratch_folder(self) -> Path:
        """Where a worker may write; made when first used."""
        return self.scratch or self.home / "scratch"

    @property
    def threads(self) -> int:
        """``encoder_threads``, with 0 replaced by the cores of this machine."""
        return self.encoder_threads or os.cpu_count() or 1


def load(home: Path | None = None, **overrides: Any) -> Settings:
    """Read the settings for a home; raises ``InvalidRequest`` naming the setting that is wrong."""
    where = (home or default_home()).expanduser().absolute()
    try:
        return Settings(_env_file=where / SETTINGS_FILE, home=where, **overrides)
    except ValidationError as error:
        first = error.errors()[0]
        name = "HEADRACE_" + "_".join(str(part) for part in first["loc"]).upper()
        raise InvalidRequest(f"the setting {name} is wrong: {first['msg']}") from error


@lru_cache(maxsize=1)
def current() -> Settings:
    """Return this process's settings, read once (workers, gateway and dashboard)."""
    return load()
