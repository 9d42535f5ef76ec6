"""All tools that are known, one file each."""

from __future__ import annotations

from typing import Final

from policy.tools.alembic import Alembic
from policy.tools.django import Django
from policy.tools.knex import Knex
from policy.tools.pg_restore import PgRestore
from policy.tools.prisma import Prisma
from policy.tools.sequelize import Sequelize
from policy.tools.sqlalchemy import Sqlalchemy
from policy.tools.tool import Act, Evidence, Reach, Tool
from policy.tools.typeorm import TypeORM

__all__ = ["ALL_TOOLS", "Act", "Evidence", "Reach", "Tool", "marks_of", "recognise"]

#: The first that recognises an act counts: those that are surer of themselves come first.
ALL_TOOLS: Final[tuple[Tool, ...]] = (
    Alembic(),
    Django(),
    PgRestore(),
    Sqlalchemy(),
    Knex(),
    Prisma(),
    Sequelize(),
    TypeORM(),
)

_MARKS: Final = tuple(dict.fromkeys(mark for tool in ALL_TOOLS for mark in tool.marks))


def marks_of(text: str) -> tuple[str, ...]:
    """Which marks of tools are in it."""
    return tuple([mark for mark in _MARKS if mark in text])


def recognise(evidence: Evidence) -> Act | None:
    """What a tool has begun with a script that is to be held."""
    for tool in ALL_TOOLS:
        try:
            act = tool.recognise(evidence)
        except Exception:  # Safety: what cannot be told is no act, and held as any other (test_tools).
            continue
        if act is not None:
            return act
    return None
