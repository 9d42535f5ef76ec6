"""What a table holds, as two values that can be compared between servers: the number of rows, and a checksum of their content.

Each row is written as text by the server, its columns in the order of their names, and hashed with hashtextextended; the sum over all
rows does not depend on their order, and a row that is there twice counts twice. The text of a row quotes its columns, so that they
cannot run together, and NULL is not ''. What changes how values are written is set for the transaction: the same content gives the same
checksum on PostgreSQL 15 to 18. PostgreSQL keeps the hash the same in all versions, since hash partitions rest on it; it differs between
machines of different byte order. It finds accidents; it is no signature.

Dropped columns do not count, and neither do virtual generated columns, which are not stored; stored ones do. Values that name an object
(regclass and the like) are compared by that name. A row whose text is longer than 1 GB cannot be read, neither here nor by pg_dump.
"""

from __future__ import annotations

from typing import Final, LiteralString

from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow

#: Before each checksum; another way to compute it gets another number.
ALGORITHM: Final = "1"

#: How values are written. `local`: until the transaction ends.
_SETTINGS: Final[LiteralString] = """
SELECT pg_catalog.set_config(name, value, true) FROM (VALUES
    ('search_path', ''), ('DateStyle', 'ISO, YMD'), ('IntervalStyle', 'postgres'), ('TimeZone', 'UTC'), ('extra_float_digits', '1'),
    ('bytea_output', 'hex'), ('lc_monetary', 'C'), ('quote_all_identifiers', 'off'), ('row_security', 'off')
) AS setting(name, value)
"""

_RELATION: Final[LiteralString] = """
SELECT c.oid, n.nspname, c.relname, c.relkind::pg_catalog.text FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE c.oid OPERATOR(pg_catalog.=) %s::pg_catalog.oid
"""
#: By name; an error when there is none. (A cast would take no oid.)
_BY_NAME: Final[LiteralString] = "SELECT %s::pg_catalog.text::pg_catalog.regclass::pg_catalog.oid"

_COLUMNS: Final[LiteralString] = """
SELECT attname FROM pg_catalog.pg_attribute
WHERE attrelid OPERATOR(pg_catalog.=) %s::pg_catalog.oid AND attnum OPERATOR(pg_catalog.>) 0 AND NOT attisdropped
AND attgenerated OPERATOR(pg_catalog.<>) 'v' ORDER BY attname COLLATE "C"
"""

#: Kinds that have rows of their own: tables, sequences, materialized views, TOAST tables.
_WITH_ROWS: Final = frozenset("rSmt")

#: Pages of large objects, each made whole with zeros, and none that has zeros only: an object with holes is restored without them.
_PAGES: Final[LiteralString] = """
WITH page AS (
    SELECT loid, pageno, pg_catalog.rpad(pg_catalog.encode(data, 'hex'), {digits}, '0') AS content, pg_catalog.length(data) AS bytes
    FROM pg_catalog.pg_largeobject
), whole AS (
    SELECT loid, pg_catalog.max(pageno::pg_catalog.int8 OPERATOR(pg_catalog.*) {page} OPERATOR(pg_catalog.+) bytes) AS bytes
    FROM page GROUP BY loid
), part AS (
    SELECT pg_catalog.format('%s:%s:%s', loid, pageno, content) AS text FROM page
    WHERE content OPERATOR(pg_catalog.<>) pg_catalog.repeat('0', {digits})
    UNION ALL
    SELECT pg_catalog.format('%s=%s', m.oid, coalesce(whole.bytes, 0)) FROM pg_catalog.pg_largeobject_metadata m
    LEFT JOIN whole ON whole.loid OPERATOR(pg_catalog.=) m.oid
)
SELECT (SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata),
       (SELECT pg_catalog.sum(pg_catalog.hashtextextended(text COLLATE "C", 0)) FROM part)
"""


class NoRowsError(Exception):
    """It is of a kind that has no rows of its own, such as a view."""


async def table_checksum(connection: AsyncConnection[TupleRow], relation: str | int) -> tuple[int, str]:
    """Exact rows and checksum of a relation's own rows; partitions and children have their own.

    Asked in the connection's transaction when there is one, and so in its snapshot.

    Args:
        relation: its oid, or its qualified and quoted name.

    Raises:
        psycopg.Error: it is not there, may not be read, or row security would hide rows.
        NoRowsError: it is a view or the like.
    """
    async with connection.transaction():
        await connection.execute(_SETTINGS)
        if isinstance(relation, str):
            by_name = await (await connection.execute(_BY_NAME, (relation,))).fetchone()
            assert by_name is not None
            relation = int(by_name[0])
        found = await (await connection.execute(_RELATION, (relation,))).fetchone()
        if found is None:
            raise NoRowsError(f"there is no relation {relation}")
        oid, schema, name, kind = found
        if kind == "p":
            return 0, ""
        if kind not in _WITH_ROWS:
            raise NoRowsError(f"{schema}.{name} has no rows of its own")
        columns = [row[0] for row in await (await connection.execute(_COLUMNS, (oid,))).fetchall()]
        if kind == "S":
            columns = ["is_called", "last_value"]  # log_cnt is how far it has written ahead
        query = sql.SQL(
            "SELECT pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtextextended(ROW({})::pg_catalog.text COLLATE pg_catalog.{}, 0)) FROM ONLY {} AS t"
        ).format(
            sql.SQL(", ").join(sql.SQL("{}.{}").format(sql.Identifier("t"), sql.Identifier(c)) for c in columns),
            sql.Identifier("C"),
            sql.Identifier(schema, name),
        )
        counted = await (await connection.execute(query)).fetchone()
        assert counted is not None
        return int(counted[0]), _shown(counted[1])


async def large_objects_checksum(connection: AsyncConnection[TupleRow]) -> tuple[int, str]:
    """How many large objects the database has, and a checksum of their oids, lengths and content.

    Raises:
        psycopg.Error: pg_largeobject may not be read; that takes a superuser, or pg_read_all_data.
    """
    async with connection.transaction():
        await connection.execute(_SETTINGS)
        size = await (await connection.execute("SELECT pg_catalog.current_setting('block_size')::pg_catalog.int4")).fetchone()
        assert size is not None
        page = size[0] // 4  # LOBLKSIZE of large_object.h
        query = sql.SQL(_PAGES).format(page=sql.Literal(page), digits=sql.Literal(page * 2))
        counted = await (await connection.execute(query)).fetchone()
        assert counted is not None
        return int(counted[0]), _shown(counted[1])


def _shown(total: object) -> str:
    """The sum as hexadecimal, of its last 128 bits."""
    return f"{ALGORITHM}:{int(str(total or 0)) % 2**128:032x}"
