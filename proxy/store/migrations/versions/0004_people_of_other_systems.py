"""People whom another system proves: their account there, and when it last did so."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("operators", sa.Column("subject", sa.Text))
    op.add_column("operators", sa.Column("proved_at", sa.Text))
