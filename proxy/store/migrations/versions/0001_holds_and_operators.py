"""Holds and operators."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "holds",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Text, nullable=False),
        sa.Column("ended_at", sa.Text),
        sa.Column("decision", sa.Text),
        sa.Column("outcome", sa.Text),
        sa.Column("impact", sa.Text),
        sa.Column("backup", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_index("holds_state", "holds", ["state", "id"])
    op.create_table(
        "operators",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("token_sha256", sa.Text, nullable=False, unique=True),
        sa.Column("scram_verifier", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
    )
