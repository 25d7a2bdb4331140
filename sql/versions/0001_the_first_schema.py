"""the first schema."""

import sqlalchemy as sa
import sqlmodel
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0001'
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE SEQUENCE lease_tokens")
    op.create_table('assets',
    sa.Column('id', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('sha256', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('size_bytes', sa.BigInteger(), nullable=False),
    sa.Column('media_type', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('kind', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('duration_seconds', sa.Float(), nullable=True),
    sa.Column('probe', postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    sa.Column('problem', postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("id ~ '^[0-9a-f]{64}$'", name='assets_id_is_blake3'),
    sa.CheckConstraint("kind IN ('video', 'audio', 'other')", name='assets_kind'),
    sa.CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name='assets_sha256_is_hex'),
    sa.CheckConstraint('size_bytes > 0', name='assets_not_empty'),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_index('assets_newest', 'assets', [sa.literal_column('created_at DESC')], unique=False)
    op.create_index('assets_sha256', 'assets', ['sha256'], unique=False)
    op.create_table('events',
    sa.Column('id', sa.BigInteger(), autoincrement=True, nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('kind', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('owner', sqlmodel.sql.sqltypes.AutoString(), nullable=True),
    sa.Column('order_id', sa.Uuid(), nullable=True),
    sa.Column('item_id', sa.Uuid(), nullable=True),
    sa.Column('asset_id', sqlmodel.sql.sqltypes.AutoString(), nullable=True),
    sa.Column('publication_id', sa.Uuid(), nullable=True),
    sa.Column('body', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_index('events_of_asset', 'events', ['asset_id', 'id'], unique=False)
    op.create_index('events_of_item', 'events', ['item_id', 'id'], unique=False)
    op.create_index('events_of_order', 'events', ['order_id', 'id'], unique=False)
    op.create_table('leases',
    sa.Column('name', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('holder', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('token', sa.BigInteger(), nullable=False),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=False),
    sa.CheckConstraint('token > 0', name='leases_token_positive'),
    sa.PrimaryKeyConstraint('name')
    )
    op.create_table('recipes',
    sa.Column('id', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('name', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('body', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("id ~ '^[0-9a-f]{64}$'", name='recipes_id_is_blake3'),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_table('uploads',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('owner', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('name', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('size_bytes', sa.BigInteger(), nullable=False),
    sa.Column('sha256', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('object_key', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint('size_bytes > 0', name='uploads_not_empty'),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_index('uploads_oldest', 'uploads', ['created_at'], unique=False)
    op.create_table('feeds',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('owner', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('url', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('recipe_id', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('every_seconds', sa.Integer(), nullable=False),
    sa.Column('etag', sqlmodel.sql.sqltypes.AutoString(), nullable=True),
    sa.Column('last_modified', sqlmodel.sql.sqltypes.AutoString(), nullable=True),
    sa.Column('last_checked_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('next_check_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('error', postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('removed_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint('every_seconds >= 60', name='feeds_not_too_often'),
    sa.ForeignKeyConstraint(['recipe_id'], ['recipes.id'], ),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_index('feeds_due', 'feeds', ['next_check_at'], unique=False, postgresql_where=sa.text('removed_at IS NULL'))
    op.create_index('feeds_once', 'feeds', ['owner', 'url'], unique=True, postgresql_where=sa.text('removed_at IS NULL'))
    op.create_table('masters',
    sa.Column('asset_id', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('kind', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('reason', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('stored_bytes', sa.BigInteger(), nullable=False),
    sa.Column('object_key', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('stored_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("kind IN ('raw', 'zstd')", name='masters_kind'),
    sa.CheckConstraint('stored_bytes > 0', name='masters_not_empty'),
    sa.ForeignKeyConstraint(['asset_id'], ['assets.id'], ),
    sa.PrimaryKeyConstraint('asset_id'),
    sa.UniqueConstraint('object_key', name='masters_key_once')
    )
    op.create_table('orders',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('owner', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('recipe_id', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('idempotency_key', sqlmodel.sql.sqltypes.AutoString(), nullable=True),
    sa.Column('body_digest', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('collection', sa.Text(), server_default='', nullable=False),
    sa.Column('attempt', sa.Integer(), server_default='0', nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('submitted_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('run_id', sa.Uuid(), nullable=True),
    sa.Column('cancelled_at', sa.DateTime(timezone=True), nullable=True),
    sa.ForeignKeyConstraint(['recipe_id'], ['recipes.id'], ),
    sa.PrimaryKeyConstraint('id'),
    sa.UniqueConstraint('owner', 'idempotency_key', name='orders_one_per_key')
    )
    op.create_index('orders_newest', 'orders', [sa.literal_column('created_at DESC')], unique=False)
    op.create_table('publications',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('asset_id', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('recipe_id', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('state', sa.Text(), server_default='pending', nullable=False),
    sa.Column('attempt', sa.Integer(), nullable=False),
    sa.Column('prefix', sqlmodel.sql.sqltypes.AutoString(), nullable=True),
    sa.Column('hls', sqlmodel.sql.sqltypes.AutoString(), nullable=True),
    sa.Column('dash', sqlmodel.sql.sqltypes.AutoString(), nullable=True),
    sa.Column('poster', sqlmodel.sql.sqltypes.AutoString(), nullable=True),
    sa.Column('storyboard', sqlmodel.sql.sqltypes.AutoString(), nullable=True),
    sa.Column('files', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False),
    sa.Column('duration_seconds', sa.Float(), nullable=True),
    sa.Column('size_bytes', sa.BigInteger(), server_default='0', nullable=False),
    sa.Column('warnings', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False),
    sa.Column('error', postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    sa.Column('fraction', sa.Float(), nullable=True),
    sa.Column('speed', sa.Float(), nullable=True),
    sa.Column('eta_seconds', sa.Float(), nullable=True),
    sa.Column('submitted_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('run_id', sa.Uuid(), nullable=True),
    sa.Column('not_before', sa.DateTime(timezone=True), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('published_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("(state = 'failed') = (error IS NOT NULL)", name='publications_failed_say_why'),
    sa.CheckConstraint("state <> 'live' OR (prefix IS NOT NULL AND hls IS NOT NULL)", name='publications_live_whole'),
    sa.CheckConstraint("state IN ('pending', 'working', 'live', 'failed', 'retired')", name='publications_state'),
    sa.ForeignKeyConstraint(['asset_id'], ['assets.id'], ),
    sa.ForeignKeyConstraint(['recipe_id'], ['recipes.id'], ),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_index('publications_at_work', 'publications', ['updated_at'], unique=False, postgresql_where=sa.text("state IN ('pending', 'working')"))
    op.create_index('publications_one_live', 'publications', ['asset_id', 'recipe_id'], unique=True, postgresql_where=sa.text("state <> 'retired'"))
    op.create_table('bundles',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('order_id', sa.Uuid(), nullable=False),
    sa.Column('ordinal', sa.Integer(), nullable=False),
    sa.Column('attempt', sa.Integer(), nullable=False),
    sa.Column('submitted_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('run_id', sa.Uuid(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint('attempt >= 0', name='bundles_attempt_not_negative'),
    sa.ForeignKeyConstraint(['order_id'], ['orders.id'], ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id'),
    sa.UniqueConstraint('order_id', 'ordinal', name='bundles_ordinal_once')
    )
    op.create_table('feed_entries',
    sa.Column('feed_id', sa.Uuid(), nullable=False),
    sa.Column('guid', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('url', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('title', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('order_id', sa.Uuid(), nullable=True),
    sa.Column('seen_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.ForeignKeyConstraint(['feed_id'], ['feeds.id'], ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['order_id'], ['orders.id'], ondelete='SET NULL'),
    sa.PrimaryKeyConstraint('feed_id', 'guid')
    )
    op.create_table('renditions',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('publication_id', sa.Uuid(), nullable=False),
    sa.Column('name', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('kind', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('file', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('codec', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('bitrate', sa.Integer(), nullable=False),
    sa.Column('size_bytes', sa.BigInteger(), nullable=False),
    sa.Column('width', sa.Integer(), nullable=True),
    sa.Column('height', sa.Integer(), nullable=True),
    sa.Column('frame_rate', sa.Float(), nullable=True),
    sa.Column('language', sqlmodel.sql.sqltypes.AutoString(), nullable=True),
    sa.Column('channels', sa.Integer(), nullable=True),
    sa.CheckConstraint("kind IN ('video', 'audio', 'text')", name='renditions_kind'),
    sa.ForeignKeyConstraint(['publication_id'], ['publications.id'], ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id'),
    sa.UniqueConstraint('publication_id', 'name', name='renditions_name_once')
    )
    op.create_table('items',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('order_id', sa.Uuid(), nullable=False),
    sa.Column('ordinal', sa.Integer(), nullable=False),
    sa.Column('bundle_id', sa.Uuid(), nullable=True),
    sa.Column('source_kind', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('source', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('locator', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('name', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('expected_sha256', sqlmodel.sql.sqltypes.AutoString(), nullable=True),
    sa.Column('state', sa.Text(), server_default='queued', nullable=False),
    sa.Column('attempts', sa.Integer(), nullable=False),
    sa.Column('not_before', sa.DateTime(timezone=True), nullable=True),
    sa.Column('fraction', sa.Float(), nullable=True),
    sa.Column('speed', sa.Float(), nullable=True),
    sa.Column('eta_seconds', sa.Float(), nullable=True),
    sa.Column('asset_id', sqlmodel.sql.sqltypes.AutoString(), nullable=True),
    sa.Column('publication_id', sa.Uuid(), nullable=True),
    sa.Column('duplicate', sa.Boolean(), nullable=False),
    sa.Column('warnings', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False),
    sa.Column('error', postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("(state = 'failed') = (error IS NOT NULL)", name='items_failed_say_why'),
    sa.CheckConstraint("source_kind IN ('url', 'upload', 'asset', 's3')", name='items_source_kind'),
    sa.CheckConstraint("state IN ('queued', 'downloading', 'storing', 'transcoding', 'publishing', 'published', 'stored', 'failed', 'cancelled')", name='items_state'),
    sa.CheckConstraint("state NOT IN ('transcoding', 'publishing', 'published', 'stored') OR asset_id IS NOT NULL", name='items_with_streams_have_an_asset'),
    sa.CheckConstraint('attempts >= 0', name='items_attempts_not_negative'),
    sa.CheckConstraint('fraction IS NULL OR fraction BETWEEN 0 AND 1', name='items_fraction'),
    sa.ForeignKeyConstraint(['asset_id'], ['assets.id'], ),
    sa.ForeignKeyConstraint(['bundle_id'], ['bundles.id'], ondelete='SET NULL'),
    sa.ForeignKeyConstraint(['order_id'], ['orders.id'], ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['publication_id'], ['publications.id'], ondelete='SET NULL'),
    sa.PrimaryKeyConstraint('id'),
    sa.UniqueConstraint('order_id', 'ordinal', name='items_ordinal_once')
    )
    op.create_index('items_at_work', 'items', ['updated_at'], unique=False, postgresql_where=sa.text("state NOT IN ('published', 'stored', 'failed', 'cancelled')"))
    op.create_index('items_by_state', 'items', ['state', sa.literal_column('updated_at DESC')], unique=False)
    op.create_index('items_newest', 'items', [sa.literal_column('created_at DESC')], unique=False)
    op.create_index('items_of_asset', 'items', ['asset_id'], unique=False)
    op.create_index('items_of_bundle', 'items', ['bundle_id'], unique=False)
    op.create_index('items_of_order', 'items', ['order_id', 'ordinal'], unique=False)
    op.create_index('items_of_publication', 'items', ['publication_id'], unique=False)
    op.create_index('items_unplanned', 'items', ['order_id'], unique=False, postgresql_where=sa.text("state = 'queued' AND bundle_id IS NULL"))
    op.create_table('entries',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('owner', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('asset_id', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('title', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('path', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('collection', sa.Text(), server_default='', nullable=False),
    sa.Column('tags', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False),
    sa.Column('item_id', sa.Uuid(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('deleted_at', sa.DateTime(timezone=True), nullable=True),
    sa.ForeignKeyConstraint(['asset_id'], ['assets.id'], ),
    sa.ForeignKeyConstraint(['item_id'], ['items.id'], ondelete='SET NULL'),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_index('entries_live_once', 'entries', ['owner', 'collection', 'path', 'asset_id'], unique=True, postgresql_where=sa.text('deleted_at IS NULL'))
    op.create_index('entries_newest', 'entries', ['owner', sa.literal_column('created_at DESC')], unique=False, postgresql_where=sa.text('deleted_at IS NULL'))
    op.create_index('entries_of_asset', 'entries', ['asset_id'], unique=False, postgresql_where=sa.text('deleted_at IS NULL'))


def downgrade() -> None:
    op.drop_index('entries_of_asset', table_name='entries', postgresql_where=sa.text('deleted_at IS NULL'))
    op.drop_index('entries_newest', table_name='entries', postgresql_where=sa.text('deleted_at IS NULL'))
    op.drop_index('entries_live_once', table_name='entries', postgresql_where=sa.text('deleted_at IS NULL'))
    op.drop_table('entries')
    op.drop_index('items_unplanned', table_name='items', postgresql_where=sa.text("state = 'queued' AND bundle_id IS NULL"))
    op.drop_index('items_of_publication', table_name='items')
    op.drop_index('items_of_order', table_name='items')
    op.drop_index('items_of_bundle', table_name='items')
    op.drop_index('items_of_asset', table_name='items')
    op.drop_index('items_newest', table_name='items')
    op.drop_index('items_by_state', table_name='items')
    op.drop_index('items_at_work', table_name='items', postgresql_where=sa.text("state NOT IN ('published', 'stored', 'failed', 'cancelled')"))
    op.drop_table('items')
    op.drop_table('renditions')
    op.drop_table('feed_entries')
    op.drop_table('bundles')
    op.drop_index('publications_one_live', table_name='publications', postgresql_where=sa.text("state <> 'retired'"))
    op.drop_index('publications_at_work', table_name='publications', postgresql_where=sa.text("state IN ('pending', 'working')"))
    op.drop_table('publications')
    op.drop_index('orders_newest', table_name='orders')
    op.drop_table('orders')
    op.drop_table('masters')
    op.drop_index('feeds_once', table_name='feeds', postgresql_where=sa.text('removed_at IS NULL'))
    op.drop_index('feeds_due', table_name='feeds', postgresql_where=sa.text('removed_at IS NULL'))
    op.drop_table('feeds')
    op.drop_index('uploads_oldest', table_name='uploads')
    op.drop_table('uploads')
    op.drop_table('recipes')
    op.drop_table('leases')
    op.drop_index('events_of_order', table_name='events')
    op.drop_index('events_of_item', table_name='events')
    op.drop_index('events_of_asset', table_name='events')
    op.drop_table('events')
    op.drop_index('assets_sha256', table_name='assets')
    op.drop_index('assets_newest', table_name='assets')
    op.drop_table('assets')
    op.execute("DROP SEQUENCE lease_tokens")
