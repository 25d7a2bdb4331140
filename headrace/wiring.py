"""Settings become concrete stores and a catalogue; the only place that chooses them."""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass
from functools import lru_cache

from headrace import credentials
from headrace import settings as settings_module
from headrace.catalogue.bandwidth import SharedBandwidth
from headrace.catalogue.database import Database
from headrace.download import Access, Downloader, Guard, proxies
from headrace.download.proxies import Proxies
from headrace.errors import InvalidRequest, InvalidSource
from headrace.hosts import HostLimits, HostRules, Hosts, LocalHosts
from headrace.hosts.shared import SharedHosts
from headrace.log import Log
from headrace.scratch import Scratch
from headrace.settings import Settings
from headrace.stores.s3 import Endpoint, Presigner, S3Bucket
from headrace.vault import Vault

log = Log(__name__)

OBJECT_CONNECTIONS = 64
"""Of a process to the operator's S3, for downloads: four large objects' worth."""


@dataclass(frozen=True, slots=True)
class House:
    """Everything that stages are given: one for a process."""

    settings: Settings
    database: Database
    vault: Vault
    streams: S3Bucket
    incoming: S3Bucket
    guard: Guard
    hosts: Hosts
    downloader: Downloader
    """For what orders and feeds name: it leads to no address that the operator hasn't allowed."""
    object_downloader: Downloader
    """For signed addresses of the operator's own S3 and nothing else: that may be anywhere, also in a private network.
    Its hosts' book is the process's own, since it is no stranger's server, and is asked for much else beside."""
    object_access: Access
    """What those are asked for with: the environment's proxies."""
    presigner: Presigner
    bandwidth: SharedBandwidth
    scratch: Scratch

    def bucket(self, name: str) -> S3Bucket:
        """Return a bucket of the configured endpoint that sources may be read from.

        Raises ``InvalidSource`` for one that the operator has not listed.
        """
        self.check_bucket(name)
        return S3Bucket(endpoint(self.settings), name)

    def check_bucket(self, name: str) -> None:
        """Raise ``InvalidSource`` unless sources may be read from a bucket of that name."""
        if name not in self.settings.buckets:
            raise InvalidSource(
                f"the bucket {name!r} is not open to orders",
                hint="The operator lists such buckets in HEADRACE_SOURCE_BUCKETS.",
            )

    def access(self, name: str, url: str) -> Access:
        """Return what a download of ``url`` may show by the named credential ``name``.

        Raises ``InvalidRequest`` where there is none of that name, or it isn't for that URL.
        """
        return credentials.find(self.settings.credentials_file, name).access(url)

    def close(self) -> None:
        """Close what holds connections."""
        self.downloader.close()
        self.object_downloader.close()
        self.hosts.close()
        self.database.close()


def endpoint(settings: Settings) -> Endpoint:
    """Return the S3 endpoint that the settings name."""
    return Endpoint(
        url=settings.s3_endpoint_url,
        region=settings.s3_region,
        access_key_id=settings.s3_access_key_id.get_secret_value(),
        secret_access_key=settings.s3_secret_access_key.get_secret_value(),
        public_url=settings.s3_public_url,
    )


def build(settings: Settings) -> House:
    """Return a house for these settings; connects only when used."""
    where = endpoint(settings)
    guard = Guard(settings.networks)
    database = Database(settings.database_url.get_secret_value())
    hosts = SharedHosts(database, settings.host_rules)
    return House(
        settings=settings,
        database=database,
        vault=Vault(S3Bucket(where, settings.s3_vault_bucket)),
        streams=S3Bucket(where, settings.s3_streams_bucket),
        incoming=S3Bucket(where, settings.s3_incoming_bucket),
        guard=guard,
        hosts=hosts,
        downloader=Downloader(guard, hosts),
        object_downloader=Downloader(
            Guard(typed_may_be_private=True), LocalHosts(HostRules(HostLimits(OBJECT_CONNECTIONS)))
        ),
        object_access=Access(proxies=_proxies()),
        presigner=Presigner(where),
        bandwidth=SharedBandwidth(database, settings.download_rate),
        scratch=Scratch(settings.scratch_folder),
    )


def _proxies() -> Proxies:
    """Return those through which obstore reaches the same S3, so that its bytes take the same way.

    It takes ``HTTP_PROXY`` too (reqwest's documentation, "Proxies"). One that isn't known here, such as SOCKS, is
    left out.
    """
    found = {"http_proxy": os.environ.get("HTTP_PROXY", ""), **os.environ}
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        try:
            found[name] = proxies.checked(found[name]) if found.get(name) else ""
        except InvalidRequest as error:
            log.warning("s3.proxy_left_out", variable=name, why=error.message)
            found[name] = ""
    return proxies.from_environment(found)


@lru_cache(maxsize=1)
def house() -> House:
    """Return this process's house (workers and the gateway); it is closed when the process ends."""
    built = build(settings_module.current())
    atexit.register(built.close)
    return built
