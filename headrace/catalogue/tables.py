"""The tables, as SQLModel classes, with the constraints that carry the invariants.

1. One asset per BLAKE3: it is the primary key.
2. One publication per asset and recipe that is not retired (partial unique index).
3. States are checked values; what a state demands is checked too (a published item has an asset).
4. One order per owner and idempotency key.
5. Times are the database's (``now()``), so workers' clocks don't matter.

Rows never leave ``headrace.catalogue``: ``table=True`` models don't validate, and a row
that outlives its transaction lies. The functions beside this file return frozen values.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from headrace.model import ItemState, PublicationState, SourceKind

HEX64 = "~ '^[0-9a-f]{64}$'"
"""A SHA-256 or BLAKE3-256 in lower-case hex."""


def _one_of(column: str, values: list[str]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


def _created() -> Any:
    return Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=False, server_default=func.now()))


def _time(*, nullable: bool = True) -> Any:
    return Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=nullable))


def _json(*, nullable: bool = True, default: str | None = None) -> Any:
    return Field(
        default=None,
        sa_column=Column(JSONB, nullable=nullable, server_default=text(default) if default else None),
    )


class RecipeRow(SQLModel, table=True):
    """A recipe by its identity; the name is the label it was first ordered under."""

    __tablename__ = "recipes"
    __table_args__ = (CheckConstraint(f"id {HEX64}", name="recipes_id_is_blake3"),)
    id: str = Field(primary_key=True)
    name: str
    body: dict[str, Any] = _json(nullable=False)
    created_at: datetime = _created()


class OrderRow(SQLModel, table=True):
    """A request: sources + recipe + owner + idempotency key."""

    __tablename__ = "orders"
    __table_args__ = (
        UniqueConstraint("owner", "idempotency_key", name="orders_one_per_key"),
        CheckConstraint("bytes_per_second > 0", name="orders_rate_positive"),
        Index("orders_newest", text("created_at DESC")),
    )
    id: UUID = Field(default_factory=uuid4, primary_key=True)
    owner: str
    recipe_id: str = Field(foreign_key="recipes.id")
    idempotency_key: str | None = None
    body_digest: str
    collection: str = Field(sa_column=Column(Text, nullable=False, server_default=""))
    attempt: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))
    created_at: datetime = _created()
    submitted_at: datetime | None = _time()
    run_id: UUID | None = None
    """The run that was last started for it: a hint, never the truth."""
    cancelled_at: datetime | None = _time()
    bytes_per_second: int | None = Field(default=None, sa_column=Column(BigInteger, nullable=True))
    """What its downloads may bring together."""


class BundleRow(SQLModel, table=True):
    """The items that one run downloads and stores; ``attempt`` counts its runs."""

    __tablename__ = "bundles"
    __table_args__ = (
        UniqueConstraint("order_id", "ordinal", name="bundles_ordinal_once"),
        CheckConstraint("attempt >= 0", name="bundles_attempt_not_negative"),
    )
    id: UUID = Field(default_factory=uuid4, primary_key=True)
    order_id: UUID = Field(sa_column=Column(ForeignKey("orders.id", ondelete="CASCADE"), nullable=False))
    ordinal: int
    attempt: int = Field(default=0)
    submitted_at: datetime | None = _time()
    run_id: UUID | None = None
    created_at: datetime = _created()


class AssetRow(SQLModel, table=True):
    """Unique content, named by its BLAKE3-256."""

    __tablename__ = "assets"
    __table_args__ = (
        CheckConstraint(f"id {HEX64}", name="assets_id_is_blake3"),
        CheckConstraint(f"sha256 {HEX64}", name="assets_sha256_is_hex"),
        CheckConstraint("size_bytes > 0", name="assets_not_empty"),
        CheckConstraint("kind IN ('video', 'audio', 'other')", name="assets_kind"),
        Index("assets_sha256", "sha256"),
        Index("assets_newest", text("created_at DESC")),
    )
    id: str = Field(primary_key=True)
    sha256: str
    size_bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    media_type: str
    kind: str
    duration_seconds: float | None = None
    probe: dict[str, Any] | None = _json()
    problem: dict[str, Any] | None = _json()
    """Why nothing can be played from it (the error object), or null."""
    created_at: datetime = _created()


class ItemRow(SQLModel, table=True):
    """One source of an order; this row is the truth about it."""

    __tablename__ = "items"
    __table_args__ = (
        UniqueConstraint("order_id", "ordinal", name="items_ordinal_once"),
        CheckConstraint(_one_of("state", [state.value for state in ItemState]), name="items_state"),
        CheckConstraint(_one_of("source_kind", [kind.value for kind in SourceKind]), name="items_source_kind"),
        CheckConstraint("attempts >= 0", name="items_attempts_not_negative"),
        CheckConstraint(
            "state NOT IN ('transcoding', 'publishing', 'published', 'stored') OR asset_id IS NOT NULL",
            name="items_with_streams_have_an_asset",
        ),
        CheckConstraint("(state = 'failed') = (error IS NOT NULL)", name="items_failed_say_why"),
        CheckConstraint("fraction IS NULL OR fraction BETWEEN 0 AND 1", name="items_fraction"),
        Index("items_of_order", "order_id", "ordinal"),
        Index("items_of_bundle", "bundle_id"),
        Index("items_by_state", "state", text("updated_at DESC")),
        Index("items_newest", text("created_at DESC")),
        Index("items_of_asset", "asset_id"),
        Index("items_of_publication", "publication_id"),
        Index("items_unplanned", "order_id", postgresql_where=text("state = 'queued' AND bundle_id IS NULL")),
        Index(
            "items_at_work",
            "updated_at",
            postgresql_where=text("state NOT IN ('published', 'stored', 'failed', 'cancelled')"),
        ),
    )
    id: UUID = Field(default_factory=uuid4, primary_key=True)
    order_id: UUID = Field(sa_column=Column(ForeignKey("orders.id", ondelete="CASCADE"), nullable=False))
    ordinal: int
    bundle_id: UUID | None = Field(
        default=None, sa_column=Column(ForeignKey("bundles.id", ondelete="SET NULL"), nullable=True)
    )
    source_kind: str
    source: str
    """What people may see."""
    locator: str
    """What the download uses; may hold a signed query."""
    name: str
    expected_sha256: str | None = None
    terms: dict[str, Any] | None = _json()
    """Mirrors, digests, pieces, credential (``headrace.terms``), or null."""
    proofs: list[str] = _json(nullable=False, default="'[]'::jsonb")
    """Which checks its bytes have passed, such as ``sha256:order``."""
    state: str = Field(sa_column=Column(Text, nullable=False, server_default="queued"))
    attempts: int = Field(default=0)
    not_before: datetime | None = _time()
    fraction: float | None = None
    speed: float | None = None
    eta_seconds: float | None = None
    asset_id: str | None = Field(default=None, foreign_key="assets.id")
    publication_id: UUID | None = Field(
        default=None, sa_column=Column(ForeignKey("publications.id", ondelete="SET NULL"), nullable=True)
    )
    duplicate: bool = Field(default=False)
    warnings: list[str] = _json(nullable=False, default="'[]'::jsonb")
    error: dict[str, Any] | None = _json()
    created_at: datetime = _created()
    started_at: datetime | None = _time()
    updated_at: datetime = _created()


class EntryRow(SQLModel, table=True):
    """An owner's named reference to an asset; one not-deleted entry per owner, path and asset."""

    __tablename__ = "entries"
    __table_args__ = (
        Index(
            "entries_live_once",
            "owner",
            "collection",
            "path",
            "asset_id",
            unique=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
        Index("entries_of_asset", "asset_id", postgresql_where=text("deleted_at IS NULL")),
        Index("entries_newest", "owner", text("created_at DESC"), postgresql_where=text("deleted_at IS NULL")),
    )
    id: UUID = Field(default_factory=uuid4, primary_key=True)
    owner: str
    asset_id: str = Field(foreign_key="assets.id")
    title: str
    path: str
    collection: str = Field(sa_column=Column(Text, nullable=False, server_default=""))
    tags: list[str] = _json(nullable=False, default="'[]'::jsonb")
    proofs: list[str] = _json(nullable=False, default="'[]'::jsonb")
    """Which checks the bytes had passed when this owner's item brought them."""
    item_id: UUID | None = Field(
        default=None, sa_column=Column(ForeignKey("items.id", ondelete="SET NULL"), nullable=True)
    )
    created_at: datetime = _created()
    deleted_at: datetime | None = _time()


class MasterRow(SQLModel, table=True):
    """Where the vault keeps an asset's original bytes; a row means durable and verified."""

    __tablename__ = "masters"
    __table_args__ = (
        CheckConstraint("kind IN ('raw', 'zstd')", name="masters_kind"),
        CheckConstraint("stored_bytes > 0", name="masters_not_empty"),
        UniqueConstraint("object_key", name="masters_key_once"),
    )
    asset_id: str = Field(foreign_key="assets.id", primary_key=True)
    kind: str
    reason: str
    stored_bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    object_key: str
    stored_at: datetime = _created()


class PublicationRow(SQLModel, table=True):
    """A published set of (asset, recipe) under one immutable prefix."""

    __tablename__ = "publications"
    __table_args__ = (
        CheckConstraint(_one_of("state", [state.value for state in PublicationState]), name="publications_state"),
        CheckConstraint("state <> 'live' OR (prefix IS NOT NULL AND hls IS NOT NULL)", name="publications_live_whole"),
        CheckConstraint("(state = 'failed') = (error IS NOT NULL)", name="publications_failed_say_why"),
        Index(
            "publications_one_live",
            "asset_id",
            "recipe_id",
            unique=True,
            postgresql_where=text("state <> 'retired'"),
        ),
        Index("publications_at_work", "updated_at", postgresql_where=text("state IN ('pending', 'working')")),
    )
    id: UUID = Field(default_factory=uuid4, primary_key=True)
    asset_id: str = Field(foreign_key="assets.id")
    recipe_id: str = Field(foreign_key="recipes.id")
    state: str = Field(sa_column=Column(Text, nullable=False, server_default="pending"))
    attempt: int = Field(default=0)
    prefix: str | None = None
    hls: str | None = None
    dash: str | None = None
    poster: str | None = None
    storyboard: str | None = None
    files: list[dict[str, Any]] = _json(nullable=False, default="'[]'::jsonb")
    """Name, size and type of every file; what the gateway may serve."""
    duration_seconds: float | None = None
    size_bytes: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    warnings: list[str] = _json(nullable=False, default="'[]'::jsonb")
    error: dict[str, Any] | None = _json()
    fraction: float | None = None
    speed: float | None = None
    eta_seconds: float | None = None
    submitted_at: datetime | None = _time()
    run_id: UUID | None = None
    not_before: datetime | None = _time()
    created_at: datetime = _created()
    updated_at: datetime = _created()
    published_at: datetime | None = _time()


class RenditionRow(SQLModel, table=True):
    """One encoded stream of a publication."""

    __tablename__ = "renditions"
    __table_args__ = (
        UniqueConstraint("publication_id", "name", name="renditions_name_once"),
        CheckConstraint("kind IN ('video', 'audio', 'text')", name="renditions_kind"),
    )
    id: UUID = Field(default_factory=uuid4, primary_key=True)
    publication_id: UUID = Field(sa_column=Column(ForeignKey("publications.id", ondelete="CASCADE"), nullable=False))
    name: str
    kind: str
    file: str
    codec: str
    bitrate: int
    size_bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    width: int | None = None
    height: int | None = None
    frame_rate: float | None = None
    language: str | None = None
    channels: int | None = None


class FeedRow(SQLModel, table=True):
    """A watched feed: a podcast or RSS feed, an HTML index, or an S3 prefix."""

    __tablename__ = "feeds"
    __table_args__ = (
        CheckConstraint("every_seconds >= 60", name="feeds_not_too_often"),
        Index("feeds_once", "owner", "url", unique=True, postgresql_where=text("removed_at IS NULL")),
        Index("feeds_due", "next_check_at", postgresql_where=text("removed_at IS NULL")),
    )
    id: UUID = Field(default_factory=uuid4, primary_key=True)
    owner: str
    url: str
    recipe_id: str = Field(foreign_key="recipes.id")
    every_seconds: int
    etag: str | None = None
    last_modified: str | None = None
    last_checked_at: datetime | None = _time()
    next_check_at: datetime = Field(
        default=None, sa_column=Column(DateTime(timezone=True), nullable=False, server_default=func.now())
    )
    error: dict[str, Any] | None = _json()
    created_at: datetime = _created()
    removed_at: datetime | None = _time()


class FeedEntryRow(SQLModel, table=True):
    """What a feed has shown already, so that only new entries are ordered."""

    __tablename__ = "feed_entries"
    feed_id: UUID = Field(sa_column=Column(ForeignKey("feeds.id", ondelete="CASCADE"), primary_key=True))
    guid: str = Field(primary_key=True)
    url: str
    title: str
    order_id: UUID | None = Field(
        default=None, sa_column=Column(ForeignKey("orders.id", ondelete="SET NULL"), nullable=True)
    )
    seen_at: datetime = _created()


class UploadRow(SQLModel, table=True):
    """Bytes that came through the gateway and wait to be ordered."""

    __tablename__ = "uploads"
    __table_args__ = (
        CheckConstraint("size_bytes > 0", name="uploads_not_empty"),
        Index("uploads_oldest", "created_at"),
    )
    id: UUID = Field(default_factory=uuid4, primary_key=True)
    owner: str
    name: str
    size_bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    sha256: str
    object_key: str
    created_at: datetime = _created()


class EventRow(SQLModel, table=True):
    """What happened, in order; written in the transaction that made it happen."""

    __tablename__ = "events"
    __table_args__ = (
        Index("events_of_item", "item_id", "id"),
        Index("events_of_order", "order_id", "id"),
        Index("events_of_asset", "asset_id", "id"),
    )
    id: int | None = Field(default=None, sa_column=Column(BigInteger, primary_key=True, autoincrement=True))
    at: datetime = _created()
    kind: str
    owner: str | None = None
    order_id: UUID | None = None
    item_id: UUID | None = None
    asset_id: str | None = None
    publication_id: UUID | None = None
    body: dict[str, Any] = _json(nullable=False, default="'{}'::jsonb")


class LeaseRow(SQLModel, table=True):
    """The right to work on something until a time on the database's clock."""

    __tablename__ = "leases"
    __table_args__ = (CheckConstraint("token > 0", name="leases_token_positive"),)
    name: str = Field(primary_key=True)
    """Such as ``bundle:<id>`` or ``publication:<id>``."""
    holder: str
    token: int = Field(sa_column=Column(BigInteger, nullable=False))
    """The fencing token: grows with every change of hands, and every commit checks it."""
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class TransferRow(SQLModel, table=True):
    """A process that downloads for an order, until a time on the database's clock: who shares bandwidth."""

    __tablename__ = "transfers"
    __table_args__ = (Index("transfers_of_order", "order_id"),)
    holder: UUID = Field(primary_key=True)
    order_id: UUID = Field(sa_column=Column(ForeignKey("orders.id", ondelete="CASCADE"), primary_key=True))
    until: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class HostRow(SQLModel, table=True):
    """How a host that sources are read from is (``headrace.hosts.state``); its lock is held to decide about it."""

    __tablename__ = "hosts"
    __table_args__ = (CheckConstraint("failures >= 0", name="hosts_failures_not_negative"),)
    host: str = Field(primary_key=True)
    """Lower case, with its port."""
    failures: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))
    failed_of: str = Field(default="", sa_column=Column(Text, nullable=False, server_default=""))
    """A digest of the address, never the address."""
    cool_until: datetime | None = _time()
    open_until: datetime | None = _time()
    open_seconds: float = Field(default=0.0, sa_column=Column(Float, nullable=False, server_default="0"))
    probe_until: datetime | None = _time()
    next_request_at: datetime | None = _time()
    why: str = Field(default="", sa_column=Column(Text, nullable=False, server_default=""))
    used_at: datetime = _created()


class HostPlaceRow(SQLModel, table=True):
    """A connection to a host, or a turn in the queue for one, until a time on the database's clock."""

    __tablename__ = "host_places"
    __table_args__ = (Index("host_places_of_host", "host"), Index("host_places_of_holder", "holder"))
    id: str = Field(primary_key=True)
    host: str
    holder: str
    """The process: its machine, number, and a UUID."""
    waiting_since: datetime | None = _time()
    """Null: the connection is there."""
    expires_at: datetime = _time(nullable=False)
