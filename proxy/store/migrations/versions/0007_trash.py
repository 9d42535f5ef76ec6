"""What was moved to the trash, and how it comes back."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "trash",
        sa.Column("backup_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("hold_id", sa.Integer, nullable=False),
        sa.Column("database", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("move", sa.Text, nullable=False),
        sa.Column("purge_at", sa.Text, nullable=False),
    )
    op.create_index("trash_state", "trash", ["state"])
