"""What is kept of schemas. All are immutable; times are aware UTC datetimes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class SchemaObject:
    """As pg_dump names it: its kind (TABLE, CONSTRAINT, ACL …), schema (empty: none), name and owner; its DDL."""

    kind: str
    schema: str
    name: str
    owner: str
    ddl: str

    @property
    def shown(self) -> str:
        return f"{self.kind.lower()} {self.schema + '.' if self.schema else ''}{self.name}"


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """One version.

    Attributes:
        number: from 1 on, of its database.
        digest: SHA-256 of its normal form, hex.
        by: who changed it, one entry for each script: role, application and hold, for people.
        statements: the scripts, cut.
        drift: nothing that passed through pghold explains the change.
        accepted_by: the operator who said that drift was on purpose.
        summary: what changed against the version before, a line each.
    """

    number: int
    digest: str
    at: datetime
    by: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()
    hold_ids: tuple[int, ...] = ()
    drift: bool = False
    summary: tuple[str, ...] = ()
    objects: int = 0
    accepted_by: str = ""
