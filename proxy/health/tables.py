"""The tables that were there when last looked, against those that are there now.

Tables are followed by their oid, so a rename or a move is no drop; and by their name, so a restored database is none either. What vanished is
explained by what passed through pghold meanwhile: approved holds, and DDL that nobody had to decide on. What nothing explains is an alarm,
which stays until the table is back or somebody accepts that it is gone. Pure: no connection, no clock, no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from proxy.health.names import split_name

#: Commands that take exactly what they name (and what depends on it).
_PRECISE: Final = frozenset({"DROP TABLE", "DROP MATERIALIZED VIEW", "DROP SCHEMA", "DROP DATABASE"})
#: Commands that drop no table.
_HARMLESS: Final = frozenset(
    {"DELETE", "UPDATE", "INSERT", "MERGE", "TRUNCATE", "COPY", "DROP INDEX", "DROP VIEW", "DROP FUNCTION", "DROP TRIGGER",
     "DROP SEQUENCE", "DROP ROLE", "DROP POLICY", "DROP RULE", "COMMENT", "GRANT", "REVOKE", "GRANT ROLE", "REVOKE ROLE"}
)  # fmt: skip
#: So many are told by name.
SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class KnownTable:
    """oid and those of what it is a partition or child of; its names as they are, without quotes."""

    oid: int
    schema: str
    name: str
    parents: tuple[int, ...] = ()

    @property
    def shown(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Announced:
    """A script that ran through pghold and may have dropped tables.

    Attributes:
        statements: (command, relations as written) of each.
        oids: of what an approved hold was about, as the session saw it.
        fresh: it ran a moment ago, or is not committed yet: what it does not say (DO, CALL, DROP OWNED …) may be what happened just now.
        text: who and what, for people.
    """

    database: str
    statements: tuple[tuple[str, tuple[str, ...]], ...]
    oids: frozenset[int] = frozenset()
    text: str = ""
    fresh: bool = True


@dataclass(frozen=True, slots=True)
class Difference:
    """Between two looks.

    Attributes:
        unexplained: gone, and nobody said so.
        explained: gone, with what explains it.
        remade: another table of the same name, which nobody said either.
        renamed: (before, now).
    """

    unexplained: tuple[KnownTable, ...] = ()
    explained: tuple[tuple[KnownTable, Announced], ...] = ()
    remade: tuple[KnownTable, ...] = ()
    renamed: tuple[tuple[KnownTable, KnownTable], ...] = ()


@dataclass(slots=True)
class _Names:
    tables: set[tuple[str, str]] = field(default_factory=set)
    schemas: set[str] = field(default_factory=set)
    anything: bool = False


def compare(before: Iterable[KnownTable], now: Iterable[KnownTable], announced: Iterable[Announced]) -> Difference:
    """`announced`: of this database, since the look before."""
    present = {t.oid: t for t in now}
    names = {(t.schema, t.name): t for t in present.values()}
    gone: list[KnownTable] = []
    remade: list[KnownTable] = []
    renamed = []
    for table in before:
        same = present.get(table.oid)
        if same is not None:
            if (same.schema, same.name) != (table.schema, table.name):
                renamed.append((table, same))
        elif (table.schema, table.name) in names:
            remade.append(table)
        else:
            gone.append(table)
    told = list(announced)
    taken = _explained([*gone, *remade], told)
    return Difference(
        unexplained=tuple(t for t in gone if t.oid not in taken),
        explained=tuple((t, taken[t.oid]) for t in gone if t.oid in taken),
        remade=tuple(t for t in remade if t.oid not in taken),
        renamed=tuple(renamed),
    )


def _explained(gone: list[KnownTable], announced: list[Announced]) -> Mapping[int, Announced]:
    found: dict[int, Announced] = {}
    for script in announced:
        names = _names(script)
        for table in gone:
            exact = (table.schema, table.name) in names.tables or ("", table.name) in names.tables
            if table.oid in script.oids or table.schema in names.schemas or exact or names.anything:
                found.setdefault(table.oid, script)
    # Partitions and children go with their parents.
    grown = True
    while grown:
        grown = False
        for table in gone:
            parent = next((p for p in table.parents if p in found), None)
            if table.oid not in found and parent is not None:
                found[table.oid] = found[parent]
                grown = True
    return found


def _names(script: Announced) -> _Names:
    names = _Names()
    for kind, relations in script.statements:
        if kind in _HARMLESS:
            continue
        if kind not in _PRECISE and (kind.startswith("DROP") or not kind.startswith(("CREATE", "ALTER"))):
            # DO, CALL, DROP OWNED, DROP EXTENSION …: it may have dropped anything, and somebody approved that, or the policy does.
            names.anything = script.fresh
            continue
        for relation in relations:
            try:
                parts = split_name(relation)
            except ValueError:
                continue
            if kind == "DROP SCHEMA":
                names.schemas.add(parts[-1])
            elif kind == "DROP DATABASE":
                continue
            elif kind.startswith("DROP"):
                names.tables.add((parts[-2] if len(parts) > 1 else "", parts[-1]))
    return names


def drops_database(script: Announced, database: str) -> bool:
    """Whether it says that this database goes, or is called something else (the report of ALTER DATABASE names nothing)."""
    return any(
        kind == "ALTER DATABASE" or (kind == "DROP DATABASE" and database in {split_name(r)[-1] for r in relations})
        for kind, relations in script.statements
    )


def listed(tables: Iterable[KnownTable]) -> str:
    """Their names, the first of them."""
    names = sorted(t.shown for t in tables)
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
