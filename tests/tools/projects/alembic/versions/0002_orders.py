"""Orders, with a type of their own, and rows of every table."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

state = sa.Enum("new", "paid", "sent", name="order_state")

TABLES = (
    ("brand", None),
    ("product", "brand"),
    ("orders", "customer"),
    ("order_line", "orders"),
    ("payment", "orders"),
    ("review", "product"),
)


def upgrade() -> None:
    for name, other in TABLES:
        columns = [sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text)]
        if other is not None:
            columns.append(sa.Column(f"{other}_id", sa.Integer, sa.ForeignKey(f"{other}.id", name=f"{name}_{other}")))
        if name == "orders":
            columns.append(sa.Column("state", state, nullable=False, server_default="new"))
        op.create_table(name, *columns)
    for name in (
        "country",
        "city",
        "customer",
        "address",
        "phone",
        "session",
        "brand",
        "product",
        "orders",
        "order_line",
        "payment",
        "review",
    ):
        op.execute(f"INSERT INTO {name} SELECT g, 'row ' || g FROM generate_series(1, 4) g")


def downgrade() -> None:
    for name, other in reversed(TABLES):
        if other is not None:
            op.drop_constraint(f"{name}_{other}", name)
        op.drop_table(name)
    state.drop(op.get_bind())
