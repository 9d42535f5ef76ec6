"""What a loss reaches, asked of the catalog on a connection of pghold's own: partitions and children, what CASCADE takes, children by foreign key,
and what triggers and rules may change.

Oids everywhere; names are only for people and for pg_dump. In doubt more is reached than would be: a copy may be too large, never too small.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

Connection = AsyncConnection[TupleRow]
#: classid, objid, objsubid, as in pg_depend.
Address = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Table:
    """A relation as the catalog has it.

    Attributes:
        kind: pg_class.relkind.
        name: qualified and quoted.
        rows: the catalog's estimate; -1 when it was never analysed.
        bytes: with indexes and TOAST.
        row_security: policies apply to somebody.
        readable: by the role of this connection.
    """

    oid: int
    kind: str
    name: str
    schema: str = ""
    rows: int = -1
    bytes: int = 0
    row_security: bool = False
    readable: bool = True
    is_partition: bool = False


def quoted(name: str) -> str:
    """As an identifier, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


_PART: Final = re.compile(r'"((?:[^"]|"")*)"|([^."]+)')


def parts_of(name: str) -> list[str]:
    """The parts of a name as policy.facts.Relation writes it."""
    return [m[1].replace('""', '"') if m[1] is not None else m[2] for m in _PART.finditer(name)]


#: pg_total_relation_size() waits for who has locked the table; of those the catalog's pages must do.
_TABLES: Final[LiteralString] = """
WITH locked(oid) AS MATERIALIZED (SELECT relation FROM pg_locks WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock')
SELECT c.oid::int8, c.relkind::text, n.nspname, c.relname, c.reltuples::int8,
    CASE WHEN c.relkind NOT IN ('r', 'm') THEN 0 WHEN c.oid IN (SELECT oid FROM locked) THEN c.relpages * 16384::int8
        ELSE pg_total_relation_size(c.oid) END, c.relrowsecurity,
    has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'), c.relispartition
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
"""


async def all_tables(connection: Connection) -> dict[int, Table]:
    """Every relation of users in the database, by oid. Raises psycopg.Error."""
    cursor = await connection.execute(_TABLES)
    return {
        row[0]: Table(row[0], row[1], f"{quoted(row[2])}.{quoted(row[3])}", row[2], row[4], row[5] or 0, row[6], row[7], row[8])
        for row in await cursor.fetchall()
    }


async def _oids(connection: Connection, query: LiteralString, oids: Iterable[int]) -> set[int]:
    cursor = await connection.execute(query, (list(oids),))
    return {row[0] for row in await cursor.fetchall()}


async def with_children(connection: Connection, oids: Iterable[int]) -> set[int]:
    """These, their partitions, and what inherits from them."""
    return await _oids(
        connection,
        "WITH RECURSIVE t(oid) AS (SELECT unnest(%s::oid[]) UNION SELECT h.inhrelid FROM t JOIN pg_inherits h ON h.inhparent = t.oid)"
        " SELECT oid::int8 FROM t",
        oids,
    )


async def truncated(connection: Connection, oids: Iterable[int]) -> set[int]:
    """What TRUNCATE … CASCADE empties: these, and all with a foreign key to any of them."""
    return await _oids(
        connection,
        "WITH RECURSIVE t(oid) AS (SELECT unnest(%s::oid[]) UNION SELECT x.oid FROM t CROSS JOIN LATERAL ("
        " SELECT h.inhrelid FROM pg_inherits h WHERE h.inhparent = t.oid"
        " UNION ALL SELECT k.conrelid FROM pg_constraint k WHERE k.contype = 'f' AND k.confrelid = t.oid) x(oid))"
        " SELECT oid::int8 FROM t",
        oids,
    )


async def referencing(connection: Connection, oids: Iterable[int]) -> set[int]:
    """Tables whose rows change with rows of these: by foreign keys that do more than refuse, and so on from there. Without these themselves."""
    start = set(oids)
    found = await _oids(
        connection,
        "WITH RECURSIVE t(oid) AS (SELECT unnest(%s::oid[]) UNION SELECT x.oid FROM t CROSS JOIN LATERAL ("
        " SELECT h.inhrelid FROM pg_inherits h WHERE h.inhparent = t.oid"
        " UNION ALL SELECT k.conrelid FROM pg_constraint k WHERE k.contype = 'f' AND k.confrelid = t.oid"
        " AND (k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd'))) x(oid))"
        " SELECT oid::int8 FROM t",
        start,
    )
    return found - await with_children(connection, start)


_DEPENDANTS: Final[LiteralString] = """
WITH RECURSIVE start(classid, objid, objsubid) AS (
    SELECT * FROM unnest(%(classes)s::oid[], %(objects)s::oid[], %(subs)s::int4[])
), reached(classid, objid, objsubid) AS (
    SELECT * FROM start
    UNION
    SELECT x.* FROM reached r CROSS JOIN LATERAL (
        SELECT d.classid, d.objid, d.objsubid FROM pg_depend d
        WHERE d.refclassid = r.classid AND d.refobjid = r.objid AND (r.objsubid = 0 OR d.refobjsubid IN (0, r.objsubid))
        AND (d.deptype IN ('a', 'i', 'P', 'S', 'e') OR (%(cascade)s AND d.deptype IN ('n', 'x')))
        UNION ALL
        SELECT d.refclassid, d.refobjid, d.refobjsubid FROM pg_depend d
        WHERE d.classid = r.classid AND d.objid = r.objid AND d.deptype = 'i' AND d.classid IN ('pg_rewrite'::regclass, 'pg_type'::regclass)
    ) x
)
SELECT DISTINCT objid::int8 FROM reached WHERE classid = 'pg_class'::regclass
"""


async def dependants(connection: Connection, start: Iterable[Address], *, cascade: bool) -> set[int]:
    """Relations that go, or lose a column, with these objects, by pg_depend (catalog-pg-depend.html); with `cascade` what CASCADE takes."""
    addresses = list(start)
    if not addresses:
        return set()
    cursor = await connection.execute(
        _DEPENDANTS,
        {
            "classes": [a[0] for a in addresses],
            "objects": [a[1] for a in addresses],
            "subs": [a[2] for a in addresses],
            "cascade": cascade,
        },
    )
    return {row[0] for row in await cursor.fetchall()}


async def catalog_oid(connection: Connection, catalog: str) -> int:
    row = await (await connection.execute("SELECT %s::regclass::oid::int8", (f"pg_catalog.{catalog}",))).fetchone()
    assert row is not None
    return int(row[0])


async def relation_addresses(connection: Connection, oids: Iterable[int]) -> list[Address]:
    pg_class = await catalog_oid(connection, "pg_class")
    return [(pg_class, oid, 0) for oid in oids]


async def in_schemas(connection: Connection, names: Iterable[str]) -> tuple[list[Address], list[str]]:
    """The schemas of these names, and what is in them; and the names that there are."""
    cursor = await connection.execute("SELECT oid::int8, nspname FROM pg_namespace WHERE nspname = ANY(%s)", (list(names),))
    rows = await cursor.fetchall()
    pg_namespace = await catalog_oid(connection, "pg_namespace")
    return [(pg_namespace, row[0], 0) for row in rows], [row[1] for row in rows]


#: Where objects of a kind are, and which column has their name.
_CATALOGS: Final[dict[str, tuple[str, str]]] = {
    **dict.fromkeys(["TYPE", "DOMAIN"], ("pg_type", "typname")),
    **dict.fromkeys(["FUNCTION", "PROCEDURE", "ROUTINE", "AGGREGATE"], ("pg_proc", "proname")),
    **dict.fromkeys(["VIEW", "MATERIALIZED VIEW", "INDEX", "SEQUENCE", "FOREIGN TABLE"], ("pg_class", "relname")),
    "EXTENSION": ("pg_extension", "extname"),
    "OPERATOR": ("pg_operator", "oprname"),
    "OPERATOR CLASS": ("pg_opclass", "opcname"),
    "OPERATOR FAMILY": ("pg_opfamily", "opfname"),
    "COLLATION": ("pg_collation", "collname"),
    "CONVERSION": ("pg_conversion", "conname"),
    "LANGUAGE": ("pg_language", "lanname"),
    "ACCESS METHOD": ("pg_am", "amname"),
    "SERVER": ("pg_foreign_server", "srvname"),
    "FOREIGN DATA WRAPPER": ("pg_foreign_data_wrapper", "fdwname"),
    "TEXT SEARCH CONFIGURATION": ("pg_ts_config", "cfgname"),
    "TEXT SEARCH DICTIONARY": ("pg_ts_dict", "dictname"),
    "TEXT SEARCH PARSER": ("pg_ts_parser", "prsname"),
    "TEXT SEARCH TEMPLATE": ("pg_ts_template", "tmplname"),
    "STATISTICS": ("pg_statistic_ext", "stxname"),
    "PUBLICATION": ("pg_publication", "pubname"),
    "EVENT TRIGGER": ("pg_event_trigger", "evtname"),
}


async def objects_named(connection: Connection, kind: str, names: Iterable[str]) -> list[Address] | None:
    """Objects of a kind by the last part of their names, in whatever schema; None when nobody here knows where to look."""
    place = _CATALOGS.get(kind)
    if place is None:
        return None
    catalog, column = place
    pg_catalog = await catalog_oid(connection, catalog)
    cursor = await connection.execute(
        # Both are from the table above.
        f"SELECT oid::int8 FROM pg_catalog.{catalog} WHERE {column} = ANY(%s)".encode(),
        ([parts_of(n)[-1] for n in names],),
    )
    return [(pg_catalog, row[0], 0) for row in await cursor.fetchall()]


async def relations_named(connection: Connection, name: str) -> list[int]:
    """Of this name; without a schema those of every schema, for only the session knows its search_path."""
    parts = parts_of(name)
    cursor = await connection.execute(
        "SELECT c.oid::int8 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relname = %s AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't' AND (%s = '' OR n.nspname = %s)"
        " AND (%s <> '' OR n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast'))",
        (parts[-1], *(["".join(parts[-2:-1])] * 3)),
    )
    return [row[0] for row in await cursor.fetchall()]


async def volatile_functions(connection: Connection, names: Iterable[str]) -> list[str]:
    """Which of these names may mean a function that changes something: a volatile one that is not PostgreSQL's own."""
    cursor = await connection.execute(
        "SELECT DISTINCT p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
        " WHERE p.proname = ANY(%s) AND p.provolatile = 'v' AND n.nspname <> 'pg_catalog' ORDER BY 1",
        ([parts_of(n)[-1] for n in names],),
    )
    return [row[0] for row in await cursor.fetchall()]


async def behind_views(connection: Connection, oids: Iterable[int]) -> set[int]:
    """The relations that views read, and so on; the views themselves included."""
    return await _oids(
        connection,
        "WITH RECURSIVE t(oid) AS (SELECT unnest(%s::oid[]) UNION SELECT d.refobjid FROM t JOIN pg_rewrite r ON r.ev_class = t.oid"
        " JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass)"
        " SELECT oid::int8 FROM t",
        oids,
    )


_CODE: Final[LiteralString] = """
SELECT t.tgfoid::int8, NULL FROM pg_trigger t WHERE t.tgrelid = ANY(%(oids)s) AND NOT t.tgisinternal AND t.tgenabled <> 'D'
UNION ALL
SELECT NULL, pg_get_ruledef(r.oid) FROM pg_rewrite r
WHERE r.ev_class = ANY(%(oids)s) AND r.ev_type <> '1' AND r.ev_enabled <> 'D'
"""
_SOURCES: Final[LiteralString] = """
SELECT p.oid::int8, p.proname, l.lanname,
    CASE WHEN p.prosqlbody IS NULL THEN p.prosrc ELSE pg_get_functiondef(p.oid) END
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname <> 'pg_catalog' AND p.prokind IN ('f', 'p')
"""
_WORD: Final = re.compile(r'"((?:[^"]|"")*)"|([^\W\d][\w$]*)')
#: Of languages whose text says what it changes, as far as it is not put together at run time.
_READABLE: Final = frozenset({"sql", "plpgsql"})


async def fired(connection: Connection, oids: Iterable[int], tables: dict[int, Table]) -> tuple[set[int], str]:
    """Tables that triggers and rules of these may change: those that the code of their functions names, and of functions named there.

    Returns them and, when the code may change anything, why.
    """
    cursor = await connection.execute(_CODE, {"oids": list(oids)})
    rows = await cursor.fetchall()
    if not rows:
        return set(), ""
    functions: dict[int, tuple[str, str, str]] = {}
    by_name: dict[str, list[int]] = {}
    for oid, name, language, source in await (await connection.execute(_SOURCES)).fetchall():
        functions[oid] = (name, language, source or "")
        by_name.setdefault(name, []).append(oid)
    named: dict[str, list[int]] = {}
    for table in tables.values():
        named.setdefault(parts_of(table.name)[-1], []).append(table.oid)
    found: set[int] = set()
    texts = [row[1] for row in rows if row[1]]
    queue = [row[0] for row in rows if row[0]]
    seen: set[int] = set()
    while queue or texts:
        if texts:
            text = texts.pop()
        else:
            oid = queue.pop()
            if oid in seen or oid not in functions:  # PostgreSQL's own triggers change nothing but the row
                continue
            seen.add(oid)
            name, language, text = functions[oid]
            if language not in _READABLE:
                return found, f"trigger function {name} is written in {language}"
            if re.search(r"\bexecute\b", text, re.I):
                return found, f"trigger function {name} runs text that is made at run time"
        for match in _WORD.finditer(text):
            words = {match[1].replace('""', '"')} if match[1] is not None else {match[2], match[2].lower()}
            for word in words:
                found.update(named.get(word, ()))
                queue.extend(by_name.get(word, ()))
    return found, ""


async def held_exclusively(connection: Connection, backend_pid: int) -> tuple[set[int], set[int]]:
    """Relations locked ACCESS EXCLUSIVE in this database: by that process; and by others, or about to be, for who comes later waits behind them."""
    cursor = await connection.execute(
        "SELECT l.relation::int8, l.pid FROM pg_locks l WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'"
        " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    own: set[int] = set()
    others: set[int] = set()
    for relation, pid in await cursor.fetchall():
        (own if pid == backend_pid and backend_pid else others).add(relation)
    return own, others


async def transaction_of(connection: Connection, backend_pid: int) -> str:
    """A name for the transaction that is open in that process; empty when there is none, or it may not be seen."""
    cursor = await connection.execute(
        "SELECT concat_ws('/', pid, backend_start, xact_start) FROM pg_stat_activity WHERE pid = %s AND xact_start IS NOT NULL",
        (backend_pid,),
    )
    row = await cursor.fetchone()
    return str(row[0]) if row is not None else ""


async def sequences_of(connection: Connection, oids: Iterable[int]) -> set[int]:
    """Sequences of the serial and identity columns of these."""
    return await _oids(
        connection,
        "SELECT d.objid::int8 FROM pg_depend d JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S'"
        " WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY(%s::oid[]) AND d.deptype IN ('a', 'i')",
        oids,
    )


async def views_of(connection: Connection, oids: Iterable[int]) -> set[int]:
    """Views that read these, directly or through others: whoever asks for their definition locks what they read."""
    return await _oids(
        connection,
        "WITH RECURSIVE t(oid) AS (SELECT unnest(%s::oid[]) UNION SELECT r.ev_class FROM t JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass"
        " AND d.refobjid = t.oid AND d.classid = 'pg_rewrite'::regclass JOIN pg_rewrite r ON r.oid = d.objid)"
        " SELECT t.oid::int8 FROM t JOIN pg_class c ON c.oid = t.oid WHERE c.relkind IN ('v', 'm')",
        oids,
    )


async def has_large_object_columns(connection: Connection, oids: Iterable[int]) -> bool:
    """Whether a table of these may refer to large objects: by a column of type oid, or of a domain over it such as lo."""
    cursor = await connection.execute(
        "SELECT EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = ANY(%s) AND a.attnum > 0"
        " AND NOT a.attisdropped AND ('oid'::regtype IN (a.atttypid, t.typbasetype, t.typelem) OR t.typname = 'lo'))",
        (list(oids),),
    )
    row = await cursor.fetchone()
    return bool(row and row[0])
