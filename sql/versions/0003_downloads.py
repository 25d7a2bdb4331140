"""downloads: terms and proofs of items, local files, bandwidth."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('orders', sa.Column('bytes_per_second', sa.BigInteger(), nullable=True))
    op.create_check_constraint('orders_rate_positive', 'orders', 'bytes_per_second > 0')
    op.add_column('items', sa.Column('terms', postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    for table in ('items', 'entries'):
        op.add_column(table, sa.Column('proofs', postgresql.JSONB(astext_type=sa.Text()),
                                       server_default=sa.text("'[]'::jsonb"), nullable=False))
    op.drop_constraint('items_source_kind', 'items', type_='check')
    op.create_check_constraint('items_source_kind', 'items', "source_kind IN ('url', 'upload', 'asset', 's3', 'file')")
    op.create_table('transfers',
    sa.Column('holder', sa.Uuid(), nullable=False),
    sa.Column('order_id', sa.Uuid(), nullable=False),
    sa.Column('until', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['order_id'], ['orders.id'], ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('holder', 'order_id')
    )
    op.create_index('transfers_of_order', 'transfers', ['order_id'], unique=False)


def downgrade() -> None:
    op.drop_index('transfers_of_order', table_name='transfers')
    op.drop_table('transfers')
    op.execute("DELETE FROM items WHERE source_kind = 'file'")
    op.drop_constraint('items_source_kind', 'items', type_='check')
    op.create_check_constraint('items_source_kind', 'items', "source_kind IN ('url', 'upload', 'asset', 's3')")
    for table in ('entries', 'items'):
        op.drop_column(table, 'proofs')
    op.drop_column('items', 'terms')
    op.drop_constraint('orders_rate_positive', 'orders', type_='check')
    op.drop_column('orders', 'bytes_per_second')
