"""Copies of what statements destroy, and what is foreseen of a statement."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "backups",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("kind", "state", "database")),
        sa.Column("folder", sa.Text, nullable=False, server_default=""),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("hold_id", sa.Integer),
        sa.Column("finished_at", sa.Text),
        sa.Column("tables", sa.Text, nullable=False, server_default="[]"),
        sa.Column("bytes", sa.Integer, nullable=False, server_default="0"),
        sa.Column("error", sa.Text, nullable=False, server_default=""),
        sa.Column("proof", sa.Text, nullable=False, server_default="none"),
        sa.Column("proof_text", sa.Text, nullable=False, server_default=""),
        sa.Column("proved_at", sa.Text),
        sa.Column("manifest_sha256", sa.Text, nullable=False, server_default=""),
        sa.Column("targets", sa.Text, nullable=False, server_default="[]"),
        sqlite_autoincrement=True,
    )
    op.create_index("backups_hold", "backups", ["hold_id"])
    op.create_index("backups_state", "backups", ["state", "id"])
    op.add_column("holds", sa.Column("consequences", sa.Text))
