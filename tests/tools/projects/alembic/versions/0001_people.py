"""People and places."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

#: Each with the one before it that it refers to.
TABLES = (
    ("country", None),
    ("city", "country"),
    ("customer", "city"),
    ("address", "customer"),
    ("phone", "customer"),
    ("session", "customer"),
)


def upgrade() -> None:
    for name, other in TABLES:
        columns = [sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text)]
        if other is not None:
            columns.append(sa.Column(f"{other}_id", sa.Integer, sa.ForeignKey(f"{other}.id")))
        op.create_table(name, *columns)
        op.create_index(f"{name}_by_name", name, ["name"])


def downgrade() -> None:
    for name, _ in reversed(TABLES):
        op.drop_index(f"{name}_by_name", table_name=name)
        op.drop_table(name)
