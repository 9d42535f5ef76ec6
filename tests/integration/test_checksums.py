"""The checksum of a table says what it holds and nothing else: not how, where, in which order or for whom it is written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from proxy.backups.checksums import NoRowsError, large_objects_checksum, table_checksum
from tests.servers import PostgresServer, debian_bindir

Connection = psycopg.AsyncConnection[Any]

COLUMNS = """
id integer, t text, v varchar(9), c char(5), n numeric, f float8, r real, m money, b bytea, ts timestamptz, d date, i interval, a text[],
aa integer[], j json, jb jsonb, u uuid, ip inet, k regclass, p regproc, o oid, e mood, s span, g text GENERATED ALWAYS AS (upper(t)) STORED
"""
VALUES = """
(1, 'x', 'y', 'z', 1.10, '-0', 1e-30, '1.50', '\\x00ff', '2026-03-29 01:30:00+00', '2000-02-29', '1 year 2 days 3.5s', '{a,NULL,"NULL"}', '{{1,2}}',
 '{"a" : 1}', '{"a": 1}', '00000000-0000-0000-0000-000000000001', '10.0.0.1/8', 'other', 'mood_of', 7, 'sad', '[1,5)'),
(2, NULL, '', NULL, 'NaN', 'NaN', 'Infinity', NULL, '', 'infinity', '-infinity', '-1 mon', '{}', '[2:3]={1,2}', 'null', 'null', NULL, NULL, NULL, NULL,
 4294967295, NULL, 'empty'),
(3, E'tab\\t"\\\\', 'ü€', 'é', 0.1, 0.1, 0.1, '-1', '\\x5c', '0044-03-15 12:00:00+00 BC', NULL, '0', NULL, NULL, '[]', '[]', NULL, '::1', 'pg_class',
 NULL, 0, 'it''s', '(,3)')
"""


@pytest.fixture(scope="module")
def servers(postgres18: PostgresServer, folder: Path) -> Iterator[tuple[PostgresServer, PostgresServer]]:
    debian = PostgresServer(folder / "pg15-checksums", debian_bindir())
    yield postgres18, debian
    debian.stop()


async def connect(server: PostgresServer, database: str = "checksums", **options: Any) -> Connection:
    return await psycopg.AsyncConnection.connect(
        host="127.0.0.1", port=server.port, user="postgres", dbname=database, autocommit=True, **options
    )


@pytest.fixture
async def both(servers: tuple[PostgresServer, PostgresServer]) -> AsyncIterator[list[Connection]]:
    found = []
    for server in servers:
        server.sql("DROP DATABASE IF EXISTS checksums WITH (FORCE)")
        server.sql("CREATE DATABASE checksums TEMPLATE template0 ENCODING UTF8")
        connection = await connect(server)
        await connection.execute(
            "CREATE TYPE mood AS ENUM ('sad', 'it''s'); CREATE TYPE span AS RANGE (subtype = integer); CREATE TABLE other (id integer); CREATE FUNCTION mood_of() RETURNS text LANGUAGE sql AS 'SELECT 1::text'"
        )
        found.append(connection)
    yield found
    for connection in found:
        await connection.close()


async def fill(connection: Connection, name: str = "t", order: str = "id", columns: str = COLUMNS) -> None:
    await connection.execute(f"CREATE TABLE {name} ({columns})".encode())
    listed = "id, t, v, c, n, f, r, m, b, ts, d, i, a, aa, j, jb, u, ip, k, p, o, e, s"
    await connection.execute(f"CREATE TEMP TABLE given (LIKE {name}); INSERT INTO given ({listed}) VALUES {VALUES}".encode())
    await connection.execute(f"INSERT INTO {name} ({listed}) SELECT {listed} FROM given ORDER BY {order}; DROP TABLE given".encode())


async def test_it_is_the_same_on_all_versions_and_with_all_settings(
    both: list[Connection], servers: tuple[PostgresServer, PostgresServer]
) -> None:
    new, old = both
    await fill(new)
    await new.execute("CREATE TABLE spacer (id integer); CREATE TYPE unused AS ENUM ('oids differ')")
    # In another order, with other column places, a dropped column, and other oids.
    await fill(old, order="id DESC", columns="gone integer, " + COLUMNS)
    await old.execute("ALTER TABLE t DROP COLUMN gone; ALTER TABLE t DROP COLUMN d; ALTER TABLE t ADD COLUMN d date")
    await old.execute(["UPDATE t SET d = CASE id WHEN 1 THEN date '2000-02-29' WHEN 2 THEN '-infinity' END", " VACUUM FULL t"][0].encode())
    rows, checksum = await table_checksum(new, "public.t")
    assert rows == 3
    assert await table_checksum(old, "public.t") == (rows, checksum)
    odd = (
        "-c DateStyle=SQL,DMY -c IntervalStyle=iso_8601 -c TimeZone=Asia/Kathmandu -c extra_float_digits=-5 -c bytea_output=escape "
        "-c search_path=pg_catalog,public -c quote_all_identifiers=on -c client_encoding=LATIN1 -c max_parallel_workers_per_gather=0"
    )
    async with await connect(servers[0], options=odd) as other:
        assert await table_checksum(other, "public.t") == (rows, checksum)
        assert (await (await other.execute("SHOW DateStyle")).fetchone()) == ("SQL, DMY",)
    oid = (await (await new.execute("SELECT 't'::regclass::oid")).fetchone() or (0,))[0]
    assert await table_checksum(new, oid) == (rows, checksum)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE t SET t = '' WHERE id = 2", "UPDATE t SET v = NULL WHERE id = 2", "UPDATE t SET f = 0 WHERE id = 1",
        "UPDATE t SET n = 1.1 WHERE id = 1", "UPDATE t SET a = '{a,NULL,NULL}' WHERE id = 1", "UPDATE t SET j = '{\"a\":1}' WHERE id = 1",
        "UPDATE t SET aa = '{1,2}' WHERE id = 2", "UPDATE t SET ts = ts + interval '1 microsecond' WHERE id = 1", "UPDATE t SET k = 't' WHERE id = 1",
        "UPDATE t SET t = v, v = t WHERE id = 1", "DELETE FROM t WHERE id = 1", "INSERT INTO t (id) VALUES (NULL)",
        "ALTER TABLE t DROP COLUMN u", "ALTER TABLE t ADD COLUMN more integer", "UPDATE t SET id = 5 - id WHERE id IN (2, 3)",
    ],
)  # fmt: skip
async def test_every_change_shows(both: list[Connection], change: str) -> None:
    await fill(both[0])
    before = await table_checksum(both[0], "public.t")
    await both[0].execute(change.encode())
    assert await table_checksum(both[0], "public.t") != before


async def test_a_row_that_is_there_twice_counts_twice(both: list[Connection]) -> None:
    found = []
    for values in ("('a')", "('a'), ('a')", "('a'), ('a'), ('a')", "('b'), ('b')", "('a'), ('b')"):
        await both[0].execute(f"DROP TABLE IF EXISTS d; CREATE TABLE d (v text); INSERT INTO d VALUES {values}".encode())
        found.append((await table_checksum(both[0], "public.d"))[1])
    assert len(set(found)) == len(found)


async def test_rows_of_children_are_theirs(both: list[Connection]) -> None:
    await both[0].execute(
        "CREATE TABLE p (id integer); CREATE TABLE c () INHERITS (p); INSERT INTO p VALUES (1); INSERT INTO c VALUES (2), (3);"
        "CREATE TABLE parts (id integer) PARTITION BY LIST (id); CREATE TABLE part PARTITION OF parts DEFAULT; INSERT INTO parts VALUES (1)"
    )
    assert [(await table_checksum(both[0], f"public.{n}"))[0] for n in ("p", "c", "parts", "part")] == [1, 2, 0, 1]


async def test_what_cannot_be_read_is_an_error(both: list[Connection], servers: tuple[PostgresServer, PostgresServer]) -> None:
    await both[0].execute(
        "CREATE VIEW w AS SELECT 1; CREATE TABLE secret (id integer); INSERT INTO secret VALUES (1); DROP ROLE IF EXISTS checker; CREATE ROLE checker LOGIN;"
        "CREATE TABLE hidden (id integer); INSERT INTO hidden VALUES (1); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; GRANT SELECT ON hidden TO checker"
    )
    with pytest.raises(NoRowsError):
        await table_checksum(both[0], "public.w")
    for missing in ("public.nope", "nope.nope"):
        with pytest.raises(psycopg.Error):
            await table_checksum(both[0], missing)
    with pytest.raises(NoRowsError):
        await table_checksum(both[0], 4_000_000_000)
    async with await psycopg.AsyncConnection.connect(
        host="127.0.0.1", port=servers[0].port, user="checker", dbname="checksums", autocommit=True
    ) as checker:
        for name in ("public.secret", "public.hidden"):
            # Row security is an error, not fewer rows.
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await table_checksum(checker, name)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await large_objects_checksum(checker)
    await both[0].execute("DROP OWNED BY checker; DROP ROLE checker")


async def test_large_objects(both: list[Connection]) -> None:
    empty = await large_objects_checksum(both[0])
    assert empty[0] == 0
    await both[0].execute("SELECT lo_from_bytea(4242, decode(repeat('cafe', 5000), 'hex')), lo_from_bytea(4243, '')")
    full = await large_objects_checksum(both[0])
    assert full[0] == 2
    assert full != empty
    # A hole and zeros are the same to whoever reads it.
    await both[0].execute("SELECT lo_from_bytea(4244, ''); SELECT lo_put(4244, 100000, 'x')")
    await both[1].execute(
        "SELECT lo_from_bytea(4242, decode(repeat('cafe', 5000), 'hex')), lo_from_bytea(4243, ''),"
        "lo_from_bytea(4244, decode(repeat('00', 100000), 'hex') || 'x'::bytea)"
    )
    assert await large_objects_checksum(both[0]) == await large_objects_checksum(both[1])
    await both[1].execute("SELECT lo_put(4242, 9000, 'y')")
    assert await large_objects_checksum(both[0]) != await large_objects_checksum(both[1])


async def test_it_is_about_the_snapshot_of_the_transaction(both: list[Connection], servers: tuple[PostgresServer, PostgresServer]) -> None:
    await both[0].execute("CREATE TABLE snap AS SELECT g AS id FROM generate_series(1, 5) g")
    await both[0].execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    before = await table_checksum(both[0], "public.snap")
    async with await connect(servers[0]) as other:
        await other.execute("DELETE FROM snap")
    assert await table_checksum(both[0], "public.snap") == before
    await both[0].execute("COMMIT")
    assert (await table_checksum(both[0], "public.snap"))[0] == 0
