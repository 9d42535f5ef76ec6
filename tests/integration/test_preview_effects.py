"""The SELECT finds exactly the rows that the statement changes: both are run on real servers, in transactions that are rolled back."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from policy.preview import previews
from tests.servers import PostgresServer

SCHEMA = """
DROP SCHEMA IF EXISTS pv CASCADE; DROP SCHEMA IF EXISTS "O'x ""é" CASCADE;
CREATE SCHEMA pv; CREATE SCHEMA "O'x ""é";
SET search_path = pv;
CREATE TABLE t (i int, a int, b text, where_ boolean);
INSERT INTO t SELECT g, g % 7, CASE WHEN g % 5 <> 0 THEN 'b' || g % 3 END, g % 2 = 0 FROM generate_series(1, 100) g;
CREATE TABLE u (i int, a int, "from" int);
INSERT INTO u SELECT g % 20, g, g % 4 FROM generate_series(1, 60) g;
CREATE TABLE "O'x ""é"."Tä ""quoted"" ; --" ("Cö'l" int, "select" text);
INSERT INTO "O'x ""é"."Tä ""quoted"" ; --" SELECT g, 'x' || g % 3 FROM generate_series(1, 30) g;
CREATE TABLE p (i int, a int) PARTITION BY RANGE (i);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (50);
CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (50) TO (200);
INSERT INTO p SELECT g, g % 7 FROM generate_series(1, 100) g;
CREATE TABLE parent (i int, a int);
CREATE TABLE child (extra text) INHERITS (parent);
INSERT INTO parent SELECT g, g % 3 FROM generate_series(1, 10) g;
INSERT INTO child SELECT g, g % 3, 'x' FROM generate_series(11, 30) g;
CREATE TABLE tree (id int, up int); INSERT INTO tree SELECT g, g / 2 FROM generate_series(1, 40) g;
CREATE VIEW seen AS SELECT * FROM t WHERE a < 3;
CREATE FUNCTION is_odd(i int) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT i % 2 = 1';
"""

STATEMENTS = [
    "DELETE FROM t",
    "DELETE FROM t WHERE a = 3",
    "DELETE FROM t WHERE b IS NULL RETURNING i",
    "DELETE FROM pv.t WHERE pv.t.a = 3 AND t.b = 'b1'",
    "DELETE FROM t AS x WHERE x.a IN (SELECT u.i FROM u WHERE u.a = x.i)",
    "DELETE FROM t WHERE EXISTS (SELECT FROM u WHERE u.i = t.i AND u.a > t.a)",
    "DELETE FROM t USING u WHERE t.i = u.i",
    "DELETE FROM t USING u, tree WHERE t.i = u.i AND tree.id = u.a",
    "DELETE FROM t USING u JOIN tree ON tree.id = u.a LEFT JOIN p USING (i) WHERE t.i = u.i AND p.a IS NOT NULL",
    "DELETE FROM t USING u",
    "DELETE FROM t USING (SELECT i, count(*) AS n FROM u GROUP BY i HAVING count(*) > 2) q WHERE q.i = t.i",
    "DELETE FROM t USING t AS t2 WHERE t.a = t2.a AND t.i < t2.i",
    "DELETE FROM t USING generate_series(1, 5) AS g(n), unnest(ARRAY[1, 2]) AS m WHERE t.i = g.n + m",
    "DELETE FROM ONLY parent WHERE a = 1",
    "DELETE FROM parent WHERE a = 1",
    "DELETE FROM parent * WHERE a = 1",
    "DELETE FROM ONLY (parent) WHERE parent.a = 1",
    "DELETE FROM p WHERE a = 2",
    "DELETE FROM p1 WHERE a = 2",
    "UPDATE p SET a = 0 WHERE i BETWEEN 40 AND 60",
    "UPDATE p SET i = i + 50 WHERE i < 20",
    "UPDATE child SET extra = 'y' WHERE i > 15",
    'DELETE FROM "O\'x ""é"."Tä ""quoted"" ; --" WHERE "Cö\'l" > 7 AND "select" = \'x1\'',
    'UPDATE "O\'x ""é"."Tä ""quoted"" ; --" AS "a b" SET "select" = \'é\' WHERE "a b"."Cö\'l" > 7',
    'DELETE FROM "O\'x ""é"."Tä ""quoted"" ; --" WHERE "O\'x ""é"."Tä ""quoted"" ; --"."Cö\'l" < 4',
    'UPDATE t SET a = u."from" FROM u WHERE u.i = t.i AND u."from" > 1',
    "UPDATE t SET a = 1, b = b IS DISTINCT FROM 'x' FROM u WHERE u.i = t.i",
    "UPDATE t SET a = CASE WHEN a > 1 THEN 2 ELSE (SELECT max(u.a) FROM u WHERE u.i = t.i) END WHERE i % 3 = 0",
    "UPDATE t SET (a, b) = (SELECT u.a, 'x' FROM u WHERE u.i = t.i LIMIT 1) WHERE t.a = 1",
    "UPDATE t AS set SET a = 1 WHERE set.a = 2",
    "UPDATE t x SET b = 'é' || U&'\\00e9' WHERE x.b = U&'b\\0031'",
    "UPDATE t SET a = 0 WHERE b LIKE 'b%' AND NOT (a = 1 OR a = 2) AND i NOT IN (1, 2, 3)",
    "UPDATE t SET a = 0 WHERE i = ANY (ARRAY(SELECT i FROM u))",
    "UPDATE t SET a = 0 WHERE (i, a) IN (SELECT i, a FROM p)",
    "UPDATE t SET a = 0 WHERE is_odd(i) AND pv.is_odd(t.a)",
    "UPDATE t SET a = 0 WHERE t = t AND t.ctid IS NOT NULL",
    "UPDATE t SET a = 0 WHERE $$where$$ <> 'x' /* WHERE false */ AND a = 1 -- AND false\n",
    "UPDATE seen SET b = 'x' WHERE i > 50",
    "DELETE FROM seen USING u WHERE seen.i = u.i",
    "WITH q AS (SELECT i FROM u WHERE a > 30) DELETE FROM t WHERE i IN (SELECT i FROM q)",
    "WITH RECURSIVE down AS (SELECT id FROM tree WHERE id = 3 UNION ALL SELECT c.id FROM tree c JOIN down d ON c.up = d.id) "
    "DELETE FROM tree USING down WHERE tree.id = down.id",
    "WITH RECURSIVE down AS (SELECT id FROM tree WHERE id = 3 UNION ALL SELECT c.id FROM tree c JOIN down d ON c.up = d.id) "
    "SEARCH DEPTH FIRST BY id SET ordered CYCLE id SET is_cycle USING path UPDATE tree SET up = 0 FROM down WHERE tree.id = down.id",
    "WITH q AS MATERIALIZED (SELECT i FROM u), r AS (SELECT i FROM q WHERE i > 5) UPDATE t SET a = 0 FROM r WHERE r.i = t.i",
    "MERGE INTO t USING (SELECT DISTINCT i FROM u) q ON t.i = q.i WHEN MATCHED THEN DELETE",
    "MERGE INTO t AS x USING (SELECT i, max(a) AS a FROM u GROUP BY i) q ON x.i = q.i WHEN MATCHED AND q.a > 50 THEN DELETE "
    "WHEN MATCHED AND q.a > 45 THEN DO NOTHING WHEN MATCHED AND x.a BETWEEN 1 AND 5 THEN UPDATE SET b = 'm'",
    "MERGE INTO p USING (SELECT DISTINCT i FROM u) q ON p.i = q.i AND CASE WHEN p.a > 2 THEN true ELSE false END WHEN MATCHED THEN UPDATE SET a = 9",
    "MERGE INTO t USING tree JOIN (SELECT DISTINCT i FROM u) q ON tree.id = q.i ON t.i = tree.id WHEN MATCHED THEN UPDATE SET a = CASE WHEN t.a = 1 "
    "THEN 5 END",
    "WITH q AS (SELECT DISTINCT i FROM u WHERE a > 10) MERGE INTO t USING q ON t.i = q.i WHEN MATCHED THEN DELETE WHEN NOT MATCHED AND false "
    "THEN INSERT (i) VALUES (q.i)",
]  # fmt: skip

#: What only 17 and later have.
NEWER = [
    "MERGE INTO t USING (SELECT DISTINCT i FROM u) q ON t.i = q.i WHEN NOT MATCHED BY SOURCE THEN DELETE",
    "MERGE INTO t USING (SELECT DISTINCT i FROM u) q ON t.i = q.i WHEN MATCHED AND t.a = 1 THEN DELETE WHEN NOT MATCHED BY SOURCE AND t.a > 3 "
    "THEN UPDATE SET b = 'x' WHEN NOT MATCHED BY SOURCE AND t.a > 2 THEN DO NOTHING WHEN NOT MATCHED BY SOURCE THEN DELETE RETURNING merge_action()",
]  # fmt: skip


def link(server: PostgresServer) -> psycopg.Connection[tuple[object, ...]]:
    server.sql(SCHEMA)
    connection = server.connect()
    connection.autocommit = False
    return connection


@pytest.fixture(scope="module")
def on18(postgres18: PostgresServer) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with link(postgres18) as connection:
        yield connection


@pytest.fixture(scope="module")
def on15(postgres_tls: PostgresServer) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with link(postgres_tls) as connection:
        yield connection


def check(connection: psycopg.Connection[tuple[object, ...]], statement: str, values: dict[int, str | None] | None = None) -> int:
    """Rows that it changes; asserts that the SELECT finds as many, by its own name and by the qualified one, and can lock them."""
    (preview,) = previews(statement)
    assert preview.problem == ""
    path = "SET LOCAL search_path = pv"

    def count(text: str) -> int:
        connection.execute(path)
        cursor = connection.execute(text.encode())
        found = cursor.rowcount
        connection.rollback()
        return found

    sent = statement
    for number, value in (values or {}).items():
        sent = sent.replace(f"${number}", "NULL" if value is None else "'" + value.replace("'", "''") + "'")
    changed = count(sent)
    qualified = f'pv."{preview.relation.name}"' if not preview.relation.schema else None
    assert count(preview.select("*", values=values)) == changed
    assert count(preview.select("1", relation=qualified, lock=True, values=values)) == changed
    return changed


@pytest.mark.parametrize("statement", STATEMENTS + NEWER)
def test_select_finds_what_the_statement_changes_on_18(on18: psycopg.Connection[tuple[object, ...]], statement: str) -> None:
    assert check(on18, statement) > 0


@pytest.mark.parametrize("statement", STATEMENTS)
def test_select_finds_what_the_statement_changes_on_15(on15: psycopg.Connection[tuple[object, ...]], statement: str) -> None:
    assert check(on15, statement) > 0


@pytest.mark.parametrize(
    ("statement", "values", "rows"),
    [
        ("DELETE FROM t WHERE i = $1", {1: "5"}, 1),
        ("DELETE FROM t WHERE b = $2 AND i < $1", {1: "20", 2: "b1"}, 6),
        ("DELETE FROM t WHERE b = $1", {1: "x' OR 'a' = 'a"}, 0),
        ("DELETE FROM t WHERE b = $1", {1: None}, 0),
        ("WITH q AS (SELECT $1::int AS n) DELETE FROM t USING q WHERE t.i = q.n", {1: "7"}, 1),
        ("UPDATE t SET a = $1 WHERE i = $2", {1: "9", 2: "4"}, 1),
    ],
)
def test_values_of_parameters_are_put_in(
    on18: psycopg.Connection[tuple[object, ...]], statement: str, values: dict[int, str | None], rows: int
) -> None:
    assert check(on18, statement, values) == rows
