"""A retry grant is used by the hold that it was given for."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.drop_column("grants", "used_by")
