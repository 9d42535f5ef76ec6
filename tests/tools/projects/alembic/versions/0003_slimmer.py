"""What nobody uses any more goes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_table("review")
    op.drop_table("phone")
    op.drop_column("product", "name")
    op.alter_column("payment", "name", type_=sa.String(40))


def downgrade() -> None:
    op.alter_column("payment", "name", type_=sa.Text)
    op.add_column("product", sa.Column("name", sa.Text))
    for name, other in (("phone", "customer"), ("review", "product")):
        op.create_table(
            name,
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("name", sa.Text),
            sa.Column(f"{other}_id", sa.Integer, sa.ForeignKey(f"{other}.id", name=f"{name}_{other}")),
        )
    op.create_index("phone_by_name", "phone", ["name"])
