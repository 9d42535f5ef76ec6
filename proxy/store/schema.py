"""The tables. Times are ISO 8601 texts in UTC, so that they sort and read the same in every database; lists are JSON texts."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, MetaData, Table, Text, UniqueConstraint

metadata = MetaData()

holds = Table(
    "holds",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("state", Text, nullable=False),
    Column("request", Text, nullable=False),  # HoldRequest as JSON
    Column("created_at", Text, nullable=False),
    Column("expires_at", Text, nullable=False),
    Column("ended_at", Text),
    Column("decision", Text),  # Decision as JSON
    Column("outcome", Text),
    Column("impact", Text),  # look.Sight as JSON
    Column("backup", Text),  # what copy was made of it, for people
    Column("consequences", Text),  # impact.Consequences as JSON
    Column("script_sha256", Text, nullable=False, server_default=""),
    Index("holds_state", "state", "id"),
    Index("holds_script", "script_sha256", "id"),
    sqlite_autoincrement=True,  # ids never repeat
)

approvals = Table(
    "approvals",
    metadata,
    Column("hold_id", Integer, nullable=False),
    Column("operator", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Text, nullable=False),
    UniqueConstraint("hold_id", "operator", name="approvals_once"),
)

grants = Table(
    "grants",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("kind", Text, nullable=False),
    Column("hold_id", Integer, nullable=False),
    Column("operator", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("expires_at", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("database", Text, nullable=False),
    Column("certificate", Text, nullable=False),
    Column("script_sha256", Text, nullable=False),
    Column("rule_ids", Text, nullable=False),
    Column("session_id", Integer, nullable=False),
    Column("epoch", Text, nullable=False),
    Column("ended_at", Text),
    Index("grants_script", "script_sha256", "ended_at"),
    Index("grants_hold", "hold_id"),
    sqlite_autoincrement=True,
)

operators = Table(
    "operators",
    metadata,
    Column("name", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("disabled_at", Text),
    Column("password_hash", Text),  # argon2id
    Column("scram_verifier", Text),  # of the password, for the psql console
    Column("totp_secret", Text),
    Column("totp_last_step", Integer, nullable=False, server_default="0"),  # a code is good once
    Column("databases", Text, nullable=False, server_default="[]"),
    Column("max_severity", Text, nullable=False, server_default=""),
    Column("database_roles", Text, nullable=False, server_default="[]"),
    Column("may_skip_backup", Integer, nullable=False, server_default="0"),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("locked_until", Text),  # for wrong codes; wrong passwords are counted elsewhere (attempts.py)
    Column("subject", Text),  # issuer and account, of people whom another system proves
    Column("proved_at", Text),  # when it last did so
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("operator", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("token_sha256", Text, nullable=False, unique=True),
    Column("scram_verifier", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("expires_at", Text),
    Column("last_used_at", Text),
    UniqueConstraint("operator", "name", name="tokens_name"),
    sqlite_autoincrement=True,
)

web_sessions = Table(
    "web_sessions",
    metadata,
    Column("id_sha256", Text, primary_key=True),
    Column("operator", Text, nullable=False),
    Column("csrf", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("expires_at", Text, nullable=False),
    Column("seen_at", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("source", Text, nullable=False),
    Index("web_sessions_operator", "operator"),
)

notifications = Table(
    "notifications",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # in the order in which they came to be
    Column("route", Text, nullable=False),
    Column("thread", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("delivery", Text, nullable=False),
    Column("message", Text, nullable=False),  # notify.Message as JSON
    Column("created_at", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("error", Text, nullable=False),
)

backups = Table(
    "backups",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("database", Text, nullable=False),
    Column("folder", Text, nullable=False, server_default=""),
    Column("created_at", Text, nullable=False),
    Column("hold_id", Integer),
    Column("finished_at", Text),
    Column("tables", Text, nullable=False, server_default="[]"),  # CopiedTables as JSON
    Column("bytes", Integer, nullable=False, server_default="0"),
    Column("error", Text, nullable=False, server_default=""),
    Column("proof", Text, nullable=False, server_default="none"),
    Column("proof_text", Text, nullable=False, server_default=""),
    Column("proved_at", Text),
    Column("manifest_sha256", Text, nullable=False, server_default=""),
    Column("targets", Text, nullable=False, server_default="[]"),
    Index("backups_hold", "hold_id"),
    Index("backups_state", "state", "id"),
    sqlite_autoincrement=True,
)

trash = Table(
    "trash",
    metadata,
    Column("backup_id", Integer, primary_key=True, autoincrement=False),
    Column("hold_id", Integer, nullable=False),
    Column("database", Text, nullable=False),
    Column("state", Text, nullable=False),  # of store.trash.TrashState
    Column("move", Text, nullable=False),  # softdrop.Move as JSON
    Column("purge_at", Text, nullable=False),
    Index("trash_state", "state"),
)
