"""hosts: connections and pauses that all workers share."""

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('hosts',
    sa.Column('host', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('failures', sa.Integer(), server_default='0', nullable=False),
    sa.Column('failed_of', sa.Text(), server_default='', nullable=False),
    sa.Column('cool_until', sa.DateTime(timezone=True), nullable=True),
    sa.Column('open_until', sa.DateTime(timezone=True), nullable=True),
    sa.Column('open_seconds', sa.Float(), server_default='0', nullable=False),
    sa.Column('probe_until', sa.DateTime(timezone=True), nullable=True),
    sa.Column('next_request_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('why', sa.Text(), server_default='', nullable=False),
    sa.Column('used_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint('failures >= 0', name='hosts_failures_not_negative'),
    sa.PrimaryKeyConstraint('host')
    )
    op.create_table('host_places',
    sa.Column('id', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('host', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('holder', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('waiting_since', sa.DateTime(timezone=True), nullable=True),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_index('host_places_of_holder', 'host_places', ['holder'], unique=False)
    op.create_index('host_places_of_host', 'host_places', ['host'], unique=False)


def downgrade() -> None:
    op.drop_index('host_places_of_host', table_name='host_places')
    op.drop_index('host_places_of_holder', table_name='host_places')
    op.drop_table('host_places')
    op.drop_table('hosts')
