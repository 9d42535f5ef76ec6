"""What a script does to which objects, from the facts that policy has of it: the questions to ask the catalog. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from policy.facts import Facts, Relation
from proxy.look import parts_of as name_parts  # names in facts are written as a look reads them

#: Kinds of DROP whose objects are in pg_class.
_RELATIONS: Final = frozenset({"TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE", "INDEX", "FOREIGN TABLE"})
#: Those whose objects are found in other catalogs; CASCADE may take columns and tables with them.
_OTHERS: Final = {
    "SCHEMA": "schema",
    "DATABASE": "database",
    "TYPE": "type",
    "DOMAIN": "type",
    "FUNCTION": "function",
    "PROCEDURE": "function",
    "ROUTINE": "function",
    "AGGREGATE": "function",
    "EXTENSION": "extension",
}


@dataclass(frozen=True, slots=True)
class Target:
    """One object that a statement names.

    Attributes:
        statement: its index in the script.
        kind: "relation", "schema", "database", "type", "function" or "extension".
        schema, name: as the grammar folds them; schema is empty where none was written.
        written: the name as facts and looks write it.
        event: "DROP", "TRUNCATE", "DELETE", "UPDATE", "INSERT", "ALTER" or "DROP COLUMN".
        fate: of the object, for people.
        cascade: what depends on it goes as well.
        column: of "DROP COLUMN".
    """

    statement: int
    kind: str
    schema: str
    name: str
    written: str
    event: str
    fate: str
    cascade: bool = False
    column: str = ""


def targets(facts: Facts) -> list[Target]:
    """In the order in which the script names them, each once."""
    return list(dict.fromkeys(sorted(_targets(facts), key=lambda t: t.statement)))


def _targets(facts: Facts) -> Iterator[Target]:
    for drop in facts.drops:
        kind = "relation" if drop.kind in _RELATIONS else _OTHERS.get(drop.kind, "")
        for name in drop.names if kind else ():
            parts = list(name_parts(name))
            if 1 <= len(parts) <= 2:
                yield Target(drop.statement, kind, parts[0] if len(parts) == 2 else "", parts[-1], name, "DROP", "dropped", drop.cascade)
    for truncate in facts.truncates:
        for table in truncate.tables:
            yield _relation(truncate.statement, table, "TRUNCATE", "emptied", cascade=truncate.cascade)
    for change in facts.changes:
        yield _relation(change.statement, change.table, change.verb, "rows deleted" if change.verb == "DELETE" else "rows changed")
    for merge in facts.merges:
        if merge.deletes is not None:
            yield _relation(merge.statement, merge.table, "DELETE", "rows deleted")
        if merge.updates is not None or merge.deletes is None:
            yield _relation(merge.statement, merge.table, "UPDATE", "rows changed")
    for upsert in facts.upserts:
        yield _relation(upsert.statement, upsert.table, "UPDATE", "rows changed or added")
    for alter in facts.alters:
        if alter.action == "DropColumn":
            fate = f"loses column {Relation('', alter.name)}"
            yield _relation(alter.statement, alter.table, "DROP COLUMN", fate, cascade=alter.cascade, column=alter.name)
        else:
            yield _relation(alter.statement, alter.table, "ALTER", "rewritten" if _rewrites(facts, alter.table) else "altered")
    for table, statement in facts.rewrites:
        if not any(a.table == table for a in facts.alters):
            yield _relation(statement, table, "ALTER", "rewritten")


def _relation(statement: int, table: Relation, event: str, fate: str, *, cascade: bool = False, column: str = "") -> Target:
    return Target(statement, "relation", table.schema, table.name, str(table), event, fate, cascade, column)


def _rewrites(facts: Facts, table: Relation) -> bool:
    return any(t == table for t, _ in facts.rewrites)


def not_followed(facts: Facts) -> list[str]:
    """What the script drops that nobody looks behind, a sentence each."""
    kinds = {d.kind for d in facts.drops if d.cascade or d.kind == "OWNED"} - _RELATIONS - set(_OTHERS)
    return [f"what DROP {kind} takes with it was not looked up" for kind in sorted(kinds)]
