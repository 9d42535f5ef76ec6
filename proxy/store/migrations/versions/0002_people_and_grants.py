"""People with passwords, second factors and several tokens; approvals by more than one; grants; web sessions."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("holds", sa.Column("script_sha256", sa.Text, nullable=False, server_default=""))
    op.execute("UPDATE holds SET script_sha256 = coalesce(json_extract(request, '$.script_sha256'), '')")
    op.create_index("holds_script", "holds", ["script_sha256", "id"])
    op.create_table(
        "approvals",
        sa.Column("hold_id", sa.Integer, nullable=False),
        sa.Column("operator", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.UniqueConstraint("hold_id", "operator", name="approvals_once"),
    )
    op.create_table(
        "grants",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("kind", "operator", "reason", "created_at", "expires_at")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("role", "database", "certificate", "script_sha256", "rule_ids", "epoch")),
        sa.Column("hold_id", sa.Integer, nullable=False),
        sa.Column("session_id", sa.Integer, nullable=False),
        sa.Column("used_by", sa.Integer),
        sa.Column("ended_at", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_index("grants_script", "grants", ["script_sha256", "ended_at"])
    op.create_index("grants_hold", "grants", ["hold_id"])
    op.create_table(
        "tokens",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("operator", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("token_sha256", sa.Text, nullable=False, unique=True),
        sa.Column("scram_verifier", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Text),
        sa.Column("last_used_at", sa.Text),
        sa.UniqueConstraint("operator", "name", name="tokens_name"),
        sqlite_autoincrement=True,
    )
    op.execute(
        "INSERT INTO tokens (operator, name, token_sha256, scram_verifier, created_at) "
        "SELECT name, 'first', token_sha256, scram_verifier, created_at FROM operators"
    )
    op.rename_table("operators", "operators_0001")
    op.create_table(
        "operators",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        *(sa.Column(name, sa.Text) for name in ("disabled_at", "password_hash", "scram_verifier", "totp_secret", "locked_until")),
        *(sa.Column(name, sa.Text, nullable=False, server_default="[]") for name in ("databases", "database_roles")),
        sa.Column("max_severity", sa.Text, nullable=False, server_default=""),
        *(sa.Column(name, sa.Integer, nullable=False, server_default="0") for name in ("totp_last_step", "may_skip_backup", "failures")),
    )
    op.execute("INSERT INTO operators (name, role, source, created_at) SELECT name, role, 'local', created_at FROM operators_0001")
    op.drop_table("operators_0001")
    op.create_table(
        "web_sessions",
        sa.Column("id_sha256", sa.Text, primary_key=True),
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("operator", "csrf", "created_at", "expires_at", "seen_at", "address", "source")
        ),
    )
    op.create_index("web_sessions_operator", "web_sessions", ["operator"])
