"""Soft drop: the statement that moves tables into the trash in the place of a DROP TABLE, and what is needed to bring them back.

The tables go, with their indexes, constraints, triggers, policies, owned sequences, owners, grants and comments, into a schema of their own
(pghold_trash_<hold>), so that every name stays as it is, whatever its length, and every old name is free again. Views that CASCADE
would drop go with them. Foreign keys between them and tables that stay are dropped, since they would go on to act, and are kept as definitions.

It is one DO block that the session itself runs, in its own transaction and as its own role. It names what it moves by oid, so that it is ASCII
whatever the names, and it fails when an object was renamed, or more depends on it, than when it was made. Whatever cannot be moved and
brought back exactly (partitions, inheritance, extensions, publications, column defaults, functions or types that depend on it) is no soft drop: PostgreSQL
does what it always does, and the usual copy is taken before.

TRUNCATE is none either: a table cannot be emptied in no time and keep both its identity and its rows, and with another identity, what refers to
it (views, foreign keys, functions, publications) would refer to the old one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from psycopg import AsyncConnection
from psycopg.rows import TupleRow, dict_row

from policy.parse import GrammarError, TooDeepError, parse, tree
from proxy.backups.model import CopyOrder

#: The schema of a drop is this and the hold's number.
PREFIX: Final = "pghold_trash_"

#: All that DROP … CASCADE would drop, for the array of tables that is put in the place of %s. Two ways: down pg_depend, and from the internal part
#: of an object to the object (catalog-pg-depend.html).
_GONE: Final = """WITH RECURSIVE gone(classid, objid) AS (
    SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, t FROM pg_catalog.unnest(%s::pg_catalog.oid[]) AS t
    UNION
    SELECT x.classid, x.objid FROM gone g CROSS JOIN LATERAL (
        SELECT d.classid, d.objid FROM pg_catalog.pg_depend d WHERE d.refclassid = g.classid AND d.refobjid = g.objid
        UNION ALL
        SELECT d.refclassid, d.refobjid FROM pg_catalog.pg_depend d
        WHERE d.classid = g.classid AND d.objid = g.objid AND d.deptype IN ('i', 'P', 'S')
    ) x
)"""
_DIGEST: Final = (
    "SELECT pg_catalog.hashtextextended(pg_catalog.string_agg(w.line, ',' ORDER BY w.line COLLATE \"C\"), 0) FROM ("
    + _GONE
    + " SELECT pg_catalog.concat(g.classid, ':', g.objid) AS line FROM gone g"
    " UNION ALL SELECT pg_catalog.concat('at ', c.oid, ' ', n.nspname, '.', c.relname)"
    " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY (%s::pg_catalog.oid[])) w"
)

_RELATIONS: Final = (
    _GONE
    + """ SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind, c.relpersistence::text AS persistence,
    c.relispartition AS is_partition, pg_catalog.pg_has_role(%s::name, c.relowner, 'USAGE') AS is_own, pg_catalog.pg_get_userbyid(c.relowner) AS owner,
    EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = c.oid OR h.inhparent = c.oid) AS inherits,
    EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
        AND d.deptype IN ('e', 'x')) AS extension,
    pg_catalog.pg_total_relation_size(c.oid) AS bytes, c.reltuples::int8 AS rows,
    COALESCE(
        (SELECT i.indrelid FROM pg_catalog.pg_index i WHERE i.indexrelid = c.oid),
        (SELECT t.oid FROM pg_catalog.pg_class t WHERE c.relkind = 't' AND t.reltoastrelid = c.oid),
        (SELECT d.refobjid FROM pg_catalog.pg_depend d WHERE c.relkind = 'S' AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
            AND d.objid = c.oid AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i') LIMIT 1),
        0)::int8 AS of
    FROM (SELECT DISTINCT objid FROM gone WHERE classid = 'pg_catalog.pg_class'::pg_catalog.regclass) g
    JOIN pg_catalog.pg_class c ON c.oid = g.objid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace ORDER BY c.oid"""
)

#: What else would be dropped, with the relation that it is a part of; 0 where it is of none.
_OTHERS: Final = (
    _GONE
    + """ SELECT g.classid::pg_catalog.regclass::text AS class, g.objid::int8 AS oid, g.classid = 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass AS is_statistics,
    COALESCE(t.typrelid, e.typrelid, k.conrelid, a.adrelid, r.ev_class, w.tgrelid, p.polrelid, s.stxrelid, 0)::int8 AS of,
    COALESCE(w.tgconstraint, 0)::int8 AS trigger_of
    FROM gone g
    LEFT JOIN pg_catalog.pg_type t ON g.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND t.oid = g.objid AND t.typrelid <> 0
    LEFT JOIN pg_catalog.pg_type e ON g.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND e.typarray = g.objid AND e.typrelid <> 0
    LEFT JOIN pg_catalog.pg_constraint k ON g.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND k.oid = g.objid
    LEFT JOIN pg_catalog.pg_attrdef a ON g.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND a.oid = g.objid
    LEFT JOIN pg_catalog.pg_rewrite r ON g.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND r.oid = g.objid
    LEFT JOIN pg_catalog.pg_trigger w ON g.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass AND w.oid = g.objid
    LEFT JOIN pg_catalog.pg_policy p ON g.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND p.oid = g.objid
    LEFT JOIN pg_catalog.pg_statistic_ext s ON g.classid = 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass AND s.oid = g.objid
    WHERE g.classid <> 'pg_catalog.pg_class'::pg_catalog.regclass"""
)

_STATISTICS: Final = """SELECT s.oid::int8 AS oid, n.nspname AS schema, s.stxname AS name, pg_catalog.pg_has_role(%s::name, s.stxowner, 'USAGE') AS is_own
    FROM pg_catalog.pg_statistic_ext s JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace WHERE s.oid = ANY (%s::pg_catalog.oid[]) ORDER BY s.oid"""

_EVENT_TRIGGERS: Final = "SELECT FROM pg_catalog.pg_event_trigger WHERE evtenabled <> 'D' AND evtevent NOT IN ('login', 'table_rewrite')"

_KEYS: Final = """SELECT k.oid::int8 AS oid, n.nspname AS schema, c.relname AS table, k.conname AS name, pg_catalog.pg_get_constraintdef(k.oid) AS definition,
    pg_catalog.obj_description(k.oid, 'pg_constraint') AS comment, k.conrelid = ANY (%(moved)s::pg_catalog.oid[]) AS moves,
    pg_catalog.pg_has_role(%(role)s::name, c.relowner, 'USAGE') AS is_own,
    EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgconstraint = k.oid AND t.tgenabled <> 'O') AS is_switched
    FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE k.contype = 'f' AND k.conparentid = 0
    AND (k.conrelid = ANY (%(moved)s::pg_catalog.oid[])) <> (k.confrelid = ANY (%(moved)s::pg_catalog.oid[])) ORDER BY k.oid"""


#: Of dict_row.
Row = dict[str, Any]  # any: what the catalog's columns hold


class NotSoftError(Exception):
    """It cannot be a soft drop; why."""


@dataclass(frozen=True, slots=True)
class Moved:
    """Something that is moved by name.

    Attributes:
        kind: "TABLE", "VIEW", "MATERIALIZED VIEW" or "STATISTICS".
        schema: where it was.
    """

    kind: str
    oid: int
    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class Key:
    """A foreign key that is dropped, and made again.

    Attributes:
        schema, table: that it is on, where that is when it is made again.
        moves: that table is moved as well.
        definition: of pg_get_constraintdef, names qualified.
    """

    oid: int
    schema: str
    table: str
    name: str
    definition: str
    comment: str | None
    moves: bool


@dataclass(frozen=True, slots=True)
class Move:
    """A whole soft drop.

    Attributes:
        trash: the schema that they go to.
        owners: roles that need that schema while they go, not quoted.
        digest: over all that would be dropped, and where it is.
        rows: the catalog's estimate; -1 where a table was never analysed.
    """

    trash: str
    things: tuple[Moved, ...]
    keys: tuple[Key, ...]
    owners: tuple[str, ...]
    digest: int
    rows: int
    bytes: int

    @property
    def tables(self) -> tuple[Moved, ...]:
        return tuple(t for t in self.things if t.kind == "TABLE")

    @property
    def notes(self) -> tuple[str, ...]:
        """What happens beside the tables' move, for people."""
        told = [f"{t.kind.lower()} {qualified(t.schema, t.name)} goes with it" for t in self.things if t.kind.endswith("VIEW")]
        return (*told, *(f"foreign key {k.name} of {qualified(k.schema, k.table)} is dropped until it comes back" for k in self.keys))


def quoted(name: str) -> str:
    """An identifier as PostgreSQL reads it."""
    return '"' + name.replace('"', '""') + '"'


def qualified(schema: str, name: str) -> str:
    return f"{quoted(schema)}.{quoted(name)}"


def is_drop_table(script: str) -> tuple[bool, bool] | None:
    """Whether a script is one DROP TABLE and nothing else: (CASCADE, IF EXISTS); None when it is something else."""
    try:
        statements = tree(parse(script.encode()))
    except (GrammarError, TooDeepError, ValueError):
        return None
    if len(statements) != 1:
        return None
    fields = cast("dict[str, Any]", statements[0].get("stmt") or {}).get("DropStmt")  # any: libpg_query's JSON
    if not isinstance(fields, dict) or fields.get("removeType") != "OBJECT_TABLE":
        return None
    return fields.get("behavior") == "DROP_CASCADE", bool(fields.get("missing_ok"))


async def plan_move(connection: AsyncConnection[TupleRow], order: CopyOrder, trash: str) -> Move:
    """How the tables of this DROP TABLE can be moved; the connection has an empty search_path. Raises NotSoftError, psycopg.Error."""
    drop = is_drop_table(order.script)
    if drop is None:
        raise NotSoftError("it is not one DROP TABLE alone")
    cascade = drop[0]
    sight, role = order.sight, order.requester.role
    if sight is None or sight.unbound or sight.missing or not sight.objects:
        raise NotSoftError("the session has not said which tables it means")
    targets = sorted({o.oid for o in sight.objects})
    if await _rows(connection, _EVENT_TRIGGERS):
        raise NotSoftError("event triggers would not see it")
    relations = await _rows(connection, _RELATIONS, (targets, role))
    others = await _rows(connection, _OTHERS, (targets,))
    tables = [r for r in relations if r["oid"] in targets]
    views = [r for r in relations if r["kind"] in ("v", "m")]
    if len(tables) != len(targets):
        raise NotSoftError("a table is not there, or not yet for others")
    moved = {r["oid"] for r in (*tables, *views)}
    for relation in relations:
        _check_relation(relation, relation["oid"] in targets, moved)
    keys = await _rows(connection, _KEYS, {"moved": sorted(moved), "role": role})
    _check_others(others, moved, {k["oid"] for k in keys})
    for key in keys:
        if not key["is_own"] or key["is_switched"]:
            raise NotSoftError(f"foreign key {key['name']} is on a table of another role, or its triggers are switched")
    if not cascade and (views or any(not k["moves"] for k in keys)):
        raise NotSoftError("something depends on it: PostgreSQL refuses it without CASCADE")
    statistics = await _rows(connection, _STATISTICS, (role, [o["oid"] for o in others if o["is_statistics"]]))
    if not all(s["is_own"] for s in statistics):
        raise NotSoftError("statistics of another role belong to it")
    kinds = {"r": "TABLE", "v": "VIEW", "m": "MATERIALIZED VIEW"}
    things = [Moved(kinds[r["kind"]], r["oid"], r["schema"], r["name"]) for r in (*tables, *views)]
    things += [Moved("STATISTICS", s["oid"], s["schema"], s["name"]) for s in statistics]
    for names in ([r["name"] for r in relations if r["kind"] != "t"], [s["name"] for s in statistics]):
        if len(set(names)) != len(names):
            raise NotSoftError("two of them have the same name in different schemas")
    digest = (await _rows(connection, f"SELECT ({_DIGEST}) AS digest", (targets, sorted(moved))))[0]["digest"]
    rows = [int(t["rows"]) for t in tables]
    return Move(
        trash=trash,
        things=tuple(things),
        keys=tuple(Key(k["oid"], k["schema"], k["table"], k["name"], k["definition"], k["comment"], k["moves"]) for k in keys),
        owners=tuple(sorted({role, *(r["owner"] for r in (*tables, *views))})),
        digest=int(digest),
        rows=-1 if min(rows) < 0 else sum(rows),
        bytes=sum(int(t["bytes"]) for t in tables),
    )


def _check_relation(relation: Row, is_target: bool, moved: set[int]) -> None:
    name = qualified(relation["schema"], relation["name"])
    kind = relation["kind"]
    if kind in ("i", "t", "S") and relation["of"] in moved and not relation["extension"]:
        return
    if kind == "i" and relation["schema"] == "pg_toast":
        return  # the index of a TOAST table
    if relation["oid"] not in moved or kind not in ("r", "v", "m"):
        raise NotSoftError(f"{name} depends on it")
    if is_target and (kind != "r" or relation["persistence"] == "t" or relation["is_partition"] or relation["inherits"]):
        raise NotSoftError(f"{name} is no ordinary table: partitions, children and temporary tables are not moved")
    if relation["extension"]:
        raise NotSoftError(f"{name} belongs to an extension")
    if not relation["is_own"]:
        raise NotSoftError(f"{name} is not owned by the role that drops it")
    if relation["schema"].startswith((PREFIX, "pg_")) or relation["schema"] == "information_schema":
        raise NotSoftError(f"{name} is in a schema that nothing is moved from")


def _check_others(others: list[Row], moved: set[int], keys: set[int]) -> None:
    for other in others:
        if other["of"] not in moved and other["oid"] not in keys and other["trigger_of"] not in keys:
            raise NotSoftError(f"a {other['class'].removeprefix('pg_catalog.').removeprefix('pg_')} depends on it")


async def _rows(connection: AsyncConnection[TupleRow], query: str, values: Sequence[object] | dict[str, object] = ()) -> list[Row]:
    cursor = connection.cursor(row_factory=dict_row)
    return await (await cursor.execute(query.encode(), values or None)).fetchall()


_BLOCK: Final = """DO $pghold$
DECLARE
    path pg_catalog.text := pg_catalog.current_setting('search_path');
    thing pg_catalog.oid;
    key pg_catalog.record;
BEGIN
    PERFORM pg_catalog.set_config('search_path', '', true);
    FOREACH thing IN ARRAY '{targets}'::pg_catalog.oid[] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = thing) THEN
            RAISE EXCEPTION 'a table is not there any more' USING ERRCODE = 'undefined_table';
        END IF;
        EXECUTE pg_catalog.format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', thing::pg_catalog.regclass);
    END LOOP;
    IF ({digest}) IS DISTINCT FROM {expected} THEN
        RAISE EXCEPTION 'what depends on the tables has changed since they were looked at'
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Send the statement again.';
    END IF;
    FOR key IN SELECT k.conname, k.conrelid FROM pg_catalog.pg_constraint k WHERE k.oid = ANY ('{keys}'::pg_catalog.oid[]) LOOP
        EXECUTE pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I', key.conrelid::pg_catalog.regclass, key.conname);
    END LOOP;
{moves}
    PERFORM pg_catalog.set_config('search_path', path, true);
END
$pghold$"""

_MOVE: Final = """    FOREACH thing IN ARRAY '{oids}'::pg_catalog.oid[] LOOP
        EXECUTE pg_catalog.format('ALTER {kind} %s SET SCHEMA {trash}', thing::pg_catalog.regclass);
    END LOOP;"""
_MOVE_STATISTICS: Final = """    FOR key IN SELECT n.nspname, s.stxname FROM pg_catalog.pg_statistic_ext s
            JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace WHERE s.oid = ANY ('{oids}'::pg_catalog.oid[]) LOOP
        EXECUTE pg_catalog.format('ALTER STATISTICS %I.%I SET SCHEMA {trash}', key.nspname, key.stxname);
    END LOOP;"""


def substitute_sql(move: Move) -> str:
    """What the session runs in the place of its DROP TABLE. ASCII."""
    targets = _array(t.oid for t in move.tables)
    relations = _array(sorted(t.oid for t in move.things if t.kind != "STATISTICS"))
    digest = _DIGEST.replace("%s", f"'{targets}'", 1).replace("%s", f"'{relations}'", 1)
    moves = []
    # Statistics first: they are of a table that is still where its name says.
    for kind in ("STATISTICS", "TABLE", "VIEW", "MATERIALIZED VIEW"):
        if oids := [t.oid for t in move.things if t.kind == kind]:
            form = _MOVE_STATISTICS if kind == "STATISTICS" else _MOVE
            moves.append(form.format(oids=_array(oids), kind=kind, trash=move.trash))
    return _BLOCK.format(
        targets=targets,
        digest=digest,
        expected=f"({move.digest})::pg_catalog.int8",
        keys=_array(k.oid for k in move.keys),
        moves="\n".join(moves),
    )


def _array(oids: Iterable[int]) -> str:
    return "{" + ",".join(map(str, oids)) + "}"
