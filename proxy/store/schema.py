"""The tables. Times are ISO 8601 texts in UTC, so that they sort and read the same in every database."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, MetaData, Table, Text

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
    Column("impact", Text),
    Column("backup", Text),
    Index("holds_state", "state", "id"),
    sqlite_autoincrement=True,  # ids never repeat
)

operators = Table(
    "operators",
    metadata,
    Column("name", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("token_sha256", Text, nullable=False, unique=True),
    Column("scram_verifier", Text, nullable=False),
    Column("created_at", Text, nullable=False),
)
