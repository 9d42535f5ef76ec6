"""What is foreseen of a held statement is what then happens, on real servers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.servers import Pghold, PostgresServer, wait_for

QUOTED = '"T ""é\n; DROP --"'

TABLES = f"""
CREATE SCHEMA shop; CREATE SCHEMA "Od d";
CREATE TABLE shop.customer (id int PRIMARY KEY, name text, born date);
CREATE TABLE shop.orders (id serial PRIMARY KEY, customer int REFERENCES shop.customer ON DELETE CASCADE, total numeric, note text, done boolean);
CREATE TABLE shop.line (id int PRIMARY KEY, "order" int REFERENCES shop.orders ON DELETE CASCADE, article text);
CREATE TABLE shop.invoice (id int PRIMARY KEY, "order" int CONSTRAINT "in voice" REFERENCES shop.orders ON DELETE SET NULL);
CREATE TABLE shop.audit (id int PRIMARY KEY, line int REFERENCES shop.line);
INSERT INTO shop.customer SELECT g, 'name ' || g, '2000-01-01' FROM generate_series(1, 100) g;
INSERT INTO shop.orders (customer, total, note, done) SELECT g, g * 1.5, repeat('é', g), g % 2 = 0 FROM generate_series(1, 100) g;
INSERT INTO shop.line SELECT g, (g + 1) / 2, 'a' || g FROM generate_series(1, 200) g;
INSERT INTO shop.invoice SELECT g, g FROM generate_series(1, 50) g;
CREATE VIEW shop.open AS SELECT id, total FROM shop.orders WHERE NOT done;
CREATE VIEW shop.open_total AS SELECT sum(total) AS total FROM shop.open;
CREATE MATERIALIZED VIEW shop.summary AS SELECT customer, count(*) FROM shop.orders GROUP BY 1;
CREATE FUNCTION shop.touched() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN coalesce(NEW, OLD); END';
CREATE TRIGGER "on change" AFTER DELETE OR UPDATE ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.touched();
CREATE FUNCTION shop.latest() RETURNS bigint LANGUAGE sql STABLE BEGIN ATOMIC SELECT max(id) FROM shop.orders; END;
CREATE TABLE shop.part (id int, at int) PARTITION BY RANGE (at);
CREATE TABLE shop.part_1 PARTITION OF shop.part FOR VALUES FROM (0) TO (10);
CREATE TABLE shop.part_2 PARTITION OF shop.part FOR VALUES FROM (10) TO (20);
INSERT INTO shop.part SELECT g, g FROM generate_series(0, 19) g;
CREATE TYPE shop.mood AS ENUM ('good', 'bad');
CREATE TABLE shop.person (id int, mood shop.mood, other shop.mood DEFAULT 'good');
CREATE TABLE "Od d".{QUOTED} (id int, "va""l" text);
INSERT INTO "Od d".{QUOTED} SELECT g, 'x' FROM generate_series(1, 7) g;
CREATE TABLE shop.guarded (id int, note text, done boolean, born date, total numeric, ratio float8, mark uuid, raw bytea);
INSERT INTO shop.guarded SELECT g, 'n''' || g % 10, g % 2 = 0, date '2000-01-01' + g - 1, g * 1.5, g / 100.0, lpad(to_hex(g), 32, '0')::uuid, '\\x5c7800'
    FROM generate_series(1, 100) g;
CREATE PUBLICATION "every thing" FOR ALL TABLES;
CREATE TABLE shop.protocol (id int, at timestamptz DEFAULT now());
CREATE FUNCTION shop.writes(i int) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN INSERT INTO shop.protocol VALUES (i); RETURN true; END';
CREATE FUNCTION shop.lies(i int) RETURNS boolean STABLE LANGUAGE plpgsql AS 'BEGIN RETURN shop.writes(i); END';
CREATE VIEW shop.risky AS SELECT * FROM shop.customer WHERE shop.writes(id);
CREATE FUNCTION shop.sum(shop.customer) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN INSERT INTO shop.protocol VALUES (1); RETURN true; END';
CREATE OPERATOR shop.=== (FUNCTION = shop.writes, RIGHTARG = int);
ANALYZE;
"""


def make(server: PostgresServer) -> None:
    server.sql("DROP DATABASE IF EXISTS shop WITH (FORCE)")
    server.sql("CREATE DATABASE shop")
    with server.connect("shop") as link:
        link.execute(TABLES)


@pytest.fixture(scope="module")
def on18(postgres18: PostgresServer, folder: Path) -> Iterator[Pghold]:
    make(postgres18)
    policy = folder / "impact.toml"
    policy.write_text('[policy]\nprotected = ["shop.guarded"]\n')
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", "--policy", str(policy))
    yield proxy
    assert proxy.stop() == 0


@contextmanager
def held(
    proxy: Pghold, statement: str, values: Any = None, *, before: tuple[str, ...] = (), binary: bool = False
) -> Iterator[dict[str, Any]]:
    """The hold of this statement once its consequences are known; afterwards it is denied."""
    link = proxy.connect("shop")
    link.autocommit = not before
    for text in before:
        link.execute(text.encode())
    problem: list[BaseException] = []

    def send() -> None:
        try:
            link.execute(statement.encode(), values, binary=binary)
        except psycopg.Error as error:
            problem.append(error)

    thread = threading.Thread(target=send)
    looked_into = proxy.metric("pghold_impact_found_total")
    thread.start()
    try:
        hold = proxy.wait_for_hold()
        wait_for(lambda: proxy.metric("pghold_impact_found_total") > looked_into, 20)
        yield proxy.hold(hold["id"])
    finally:
        for one in proxy.holds():
            proxy.deny(one["id"])
        thread.join(20)
        link.close()
    assert problem


def foreseen(hold: dict[str, Any]) -> dict[str, Any]:
    return dict(hold["impact"]["consequences"])


def fates(hold: dict[str, Any]) -> dict[str, str]:
    return {r["name"]: r["fate"] for r in foreseen(hold)["reached"]}


# --- an oracle: the statement itself, in a transaction that is rolled back ----------------------------------------------

_THERE = """
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND n.nspname IN ('shop', 'Od d')
UNION ALL SELECT (pg_identify_object('pg_proc'::regclass, p.oid, 0)).identity FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'shop'
UNION ALL SELECT (pg_identify_object('pg_type'::regclass, t.oid, 0)).identity FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE n.nspname = 'shop' AND t.typtype = 'e'
"""
_PARTS = """
SELECT format('%I.%I', n.nspname, c.relname) || ' loses column ' || quote_ident(a.attname) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND n.nspname = 'shop' AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL SELECT format('%s loses constraint %I', conrelid::regclass, conname) FROM pg_constraint WHERE contype = 'f'
"""


def names(link: psycopg.Connection[Any], query: str) -> set[str]:
    return {row[0] for row in link.execute(query.encode()).fetchall()}


def gone(server: PostgresServer, statement: str) -> tuple[set[str], set[str]]:
    """Objects that vanish, and parts of tables that stay."""
    with server.connect("shop") as link, link.transaction(force_rollback=True):
        link.execute("SET search_path = ''")
        there, parts = names(link, _THERE), names(link, _PARTS)
        link.execute(statement.encode())
        there -= names(link, _THERE)
        parts -= names(link, _PARTS)
    return there, {p for p in parts if p.partition(" loses ")[0] not in there}


DROPS = [
    "DROP TABLE shop.orders CASCADE",
    "DROP TABLE shop.customer, shop.line CASCADE",
    "DROP TABLE shop.audit",
    "DROP TABLE shop.part",
    "DROP TABLE shop.part_1",
    "DROP VIEW shop.open CASCADE",
    "DROP SCHEMA shop CASCADE",
    "DROP TYPE shop.mood CASCADE",
    "DROP FUNCTION shop.writes(int) CASCADE",
    "DROP SEQUENCE shop.orders_id_seq CASCADE",
    "ALTER TABLE shop.orders DROP COLUMN total CASCADE",
    "ALTER TABLE shop.customer DROP COLUMN id CASCADE",
    "ALTER TABLE shop.part DROP COLUMN id",
    f'DROP TABLE "Od d".{QUOTED}',
]


def agrees(proxy: Pghold, server: PostgresServer, statement: str) -> None:
    vanished, lost = gone(server, statement)
    with held(proxy, statement) as hold:
        told = foreseen(hold)
    assert told["problem"] == ""
    own = {f"{r['name']} {r['fate']}" for r in told["reached"] if r["fate"].startswith("loses c")}
    shown = {"sequence", "table", "partitioned table", "view", "materialized view", "function", "type"}
    dropped = {r["name"] for r in told["reached"] if r["fate"] == "dropped" and r["kind"] in shown}
    assert dropped == vanished
    assert {p for p in own if " constraint " not in p} == {p for p in lost if " constraint " not in p}
    # A constraint may go with its column, which says enough.
    assert {p for p in own if "fkey" in p or "in voice" in p} <= lost


@pytest.mark.parametrize("statement", DROPS)
def test_what_is_reached_is_what_vanishes(on18: Pghold, postgres18: PostgresServer, statement: str) -> None:
    agrees(on18, postgres18, statement)


CHANGES = [
    "DELETE FROM shop.orders WHERE id <= 10",
    "DELETE FROM shop.customer WHERE id IN (SELECT customer FROM shop.orders WHERE total > 100)",
    "DELETE FROM shop.customer AS c USING shop.orders o WHERE o.customer = c.id AND o.done",
    "TRUNCATE shop.orders CASCADE",
    "TRUNCATE shop.part",
]


@pytest.mark.parametrize("statement", CHANGES)
def test_rows_foreseen_are_those_that_go(on18: Pghold, postgres18: PostgresServer, statement: str) -> None:
    counted = "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    counted += " WHERE c.relkind IN ('r', 'p') AND n.nspname IN ('shop', 'Od d')"
    with postgres18.connect("shop") as link, link.transaction(force_rollback=True):
        tables = names(link, counted)

        def rows() -> dict[str, int]:
            return {t: link.execute(f"SELECT count(*) FROM {t}".encode()).fetchone()[0] for t in tables}  # type: ignore[index]

        link.execute("ALTER TABLE shop.audit DISABLE TRIGGER ALL")
        before = rows()
        link.execute(statement.encode())
        after = rows()
    lost = {t: before[t] - after[t] for t in tables if before[t] != after[t]}
    with held(on18, f"{statement}; SELECT 1; DELETE FROM shop.person") as hold:
        told = {r["name"]: r["rows"] for r in foreseen(hold)["reached"] if r["fate"] in ("emptied", "rows deleted") and r["rows"]}
    parts = {"shop.part", "shop.part_1", "shop.part_2"}
    assert {t: n for t, n in told.items() if t not in parts} == {t: n for t, n in lost.items() if t not in parts}
    assert all(r["exact"] for r in foreseen(hold)["reached"] if r["rows"])


# --- rows that match --------------------------------------------------------------------------------------------------


def test_rows_that_match_are_counted_and_shown(on18: Pghold) -> None:
    with held(on18, "DELETE FROM shop.orders WHERE true OR id > 0") as hold:
        (found,) = foreseen(hold)["matching"]
    assert (found["rows"], found["exact"], found["share"]) == (100, True, 1.0)
    assert found["columns"] == ["id", "customer", "total", "note", "done"]
    assert len(found["sample"]) == 10
    assert found["sample"][0] == ["1", "1", "1.5", "é", "false"]


def test_long_values_are_cut(on18: Pghold) -> None:
    with held(on18, "UPDATE shop.person SET id = 1; UPDATE shop.orders SET note = NULL WHERE id > 95") as hold:
        found = foreseen(hold)["matching"][1]
    assert (found["rows"], found["share"]) == (5, 0.05)
    assert found["sample"][0][3] == "é" * 80 + "…"


RISKY = [
    ("DELETE FROM shop.customer WHERE shop.writes(id) OR true", "writes"),
    ("DELETE FROM shop.customer USING shop.risky WHERE true", "writes"),
    ("DELETE FROM shop.customer c WHERE c.sum OR true", "sum"),
    ("DELETE FROM shop.customer WHERE (OPERATOR(shop.===) id) OR true", "==="),
    ("DELETE FROM shop.customer WHERE nextval('shop.orders_id_seq') > 0 OR true", "nextval"),
    ("DELETE FROM shop.customer WHERE pg_advisory_lock(1) IS NULL OR true", "pg_advisory_lock"),
]


@pytest.mark.parametrize(("statement", "name"), RISKY)
def test_what_may_change_something_is_never_run(on18: Pghold, postgres18: PostgresServer, statement: str, name: str) -> None:
    before = postgres18.sql("SELECT last_value FROM shop.orders_id_seq", "shop")
    with held(on18, statement) as hold:
        (found,) = foreseen(hold)["matching"]
    assert name in found["problem"]
    assert found["rows"] is None
    assert found["sample"] == []
    assert postgres18.sql("SELECT count(*) FROM shop.protocol", "shop") == [(0,)]
    assert postgres18.sql("SELECT last_value FROM shop.orders_id_seq", "shop") == before


def test_a_function_that_lies_about_itself_writes_nothing(on18: Pghold, postgres18: PostgresServer) -> None:
    with held(on18, "DELETE FROM shop.person; DELETE FROM shop.customer WHERE shop.lies(id)") as hold:
        _, found = foreseen(hold)["matching"]
    assert "read-only" in found["problem"]
    assert postgres18.sql("SELECT count(*) FROM shop.protocol", "shop") == [(0,)]


PARAMETERS = [
    ("id >= %s", (95,), 6),
    ("id >= %s", (-50_000,), 100),
    ("note = %s OR note = %s", ("n'1", "n'2"), 20),
    ("done = %s AND id < %s", (True, 11), 5),
    ("born < %s", (date(2000, 1, 11),), 10),
    ("total <= %s", (Decimal("4.5"),), 3),
    ("ratio > %s", (0.5,), 50),
    ("mark = %s", (UUID(int=7),), 1),
    ("raw = %s", (b"\\x\x00",), 100),
    ("note = %s", (None,), 0),
    ("note = %s::text || %s", ("n'", "1"), 10),
]


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(("condition", "values", "rows"), PARAMETERS)
def test_parameters_count(on18: Pghold, condition: str, values: tuple[object, ...], rows: int, binary: bool) -> None:
    with held(on18, f"DELETE FROM shop.guarded WHERE {condition}", values, binary=binary) as hold:
        (found,) = foreseen(hold)["matching"]
    assert (found["problem"], found["rows"], found["exact"]) == ("", rows, True)


def test_a_parameter_that_is_not_known_is_said(on18: Pghold) -> None:
    with held(on18, "DELETE FROM shop.guarded WHERE note = %s", ("x" * 5000,)) as hold:
        assert "too long" in foreseen(hold)["matching"][0]["problem"]


def test_a_statement_that_cannot_be_previewed_says_why(on18: Pghold) -> None:
    with held(on18, "WITH d AS (DELETE FROM shop.line RETURNING 1) DELETE FROM shop.audit") as hold:
        told = foreseen(hold)
    assert "WITH" in told["matching"][0]["problem"]
    assert fates(hold)["shop.audit"] == fates(hold)["shop.line"] == "rows deleted"


# --- what else is so --------------------------------------------------------------------------------------------------


def test_triggers_publications_locks_and_shares_are_told(on18: Pghold) -> None:
    with held(on18, "DELETE FROM shop.orders") as hold:
        told = foreseen(hold)
    assert told["triggers"] == ['"on change" on shop.orders']
    assert told["publications"] == ['"every thing"']
    assert told["locks"] == ["ROW EXCLUSIVE on shop.orders"]
    assert told["of_relations"] == 12
    assert any("shop.audit" in note for note in told["notes"])
    with held(on18, "ALTER TABLE shop.orders ALTER COLUMN id TYPE bigint; DROP TABLE shop.audit") as hold:
        told = foreseen(hold)
    assert told["rewrites"] == ["shop.orders"]
    assert "ACCESS EXCLUSIVE on shop.orders" in told["locks"]


def test_without_cascade_it_says_that_the_server_refuses(on18: Pghold) -> None:
    for statement in ("DROP TABLE shop.orders", "TRUNCATE shop.orders", "DROP SCHEMA shop"):
        with held(on18, statement) as hold:
            assert any("refuses" in note for note in foreseen(hold)["notes"])


def test_names_mean_what_they_mean_to_the_session(on18: Pghold, postgres18: PostgresServer) -> None:
    postgres18.sql("CREATE TABLE IF NOT EXISTS public.orders (id int)", "shop")
    try:
        with held(
            on18, "DELETE FROM person; DELETE FROM orders WHERE id IN (SELECT id FROM line)", before=("SET search_path = shop, public",)
        ) as hold:
            told = foreseen(hold)
        assert told["matching"][1]["relation"] == "shop.orders"
        assert told["matching"][1]["rows"] == 100
        with held(on18, "DELETE FROM orders") as hold:
            assert foreseen(hold)["matching"][0]["relation"] == "public.orders"
    finally:
        postgres18.sql("DROP TABLE public.orders", "shop")


def test_what_only_the_session_sees_is_said(on18: Pghold) -> None:
    with held(on18, "DROP TABLE shop.fresh", before=("CREATE TABLE shop.fresh (id int)",)) as hold:
        assert any("open transaction, which nobody else can see" in n for n in foreseen(hold)["notes"])
    with held(on18, "DELETE FROM shop.orders", before=("DELETE FROM shop.audit WHERE id = 1",)) as hold:
        assert any("open transaction is not seen" in n for n in foreseen(hold)["notes"])
        assert foreseen(hold)["matching"][0]["rows"] == 100


def test_a_table_that_the_session_has_locked_holds_nothing_up(on18: Pghold) -> None:
    with held(on18, "DROP TABLE shop.orders CASCADE", before=("LOCK TABLE shop.orders",)) as hold:
        told = foreseen(hold)
    reached = {r["name"]: r for r in told["reached"]}
    assert reached["shop.orders"]["rows"] == 100
    assert not reached["shop.orders"]["exact"]
    assert reached["shop.open"]["fate"] == "dropped"


def test_a_database_that_is_dropped(on18: Pghold) -> None:
    with (
        psycopg.connect(host="127.0.0.1", port=on18.port, user="postgres", dbname="postgres", autocommit=True) as link,
        ThreadPoolExecutor(1) as pool,
    ):
        looked_into = on18.metric("pghold_impact_found_total")
        running = pool.submit(link.execute, "DROP DATABASE shop")
        hold = on18.wait_for_hold()
        wait_for(lambda: on18.metric("pghold_impact_found_total") > looked_into, 20)
        told = foreseen(on18.hold(hold["id"]))
        on18.deny(hold["id"])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            running.result(20)
    reached = {r["name"]: r for r in told["reached"]}
    assert reached['"shop"']["bytes"] > 1_000_000
    assert reached["shop.orders"]["fate"] == "dropped"
    assert reached[f'"Od d".{QUOTED}']["rows"] == 7
    assert told["of_relations"] == 12


def test_row_security_that_hides_rows_is_said(on18: Pghold, postgres18: PostgresServer) -> None:
    for text in ("DROP ROLE IF EXISTS plain", "CREATE ROLE plain LOGIN"):
        postgres18.sql(text)
    for text in (
        "CREATE TABLE shop.own (id int)", "ALTER TABLE shop.own ENABLE ROW LEVEL SECURITY",
        "GRANT USAGE ON SCHEMA shop TO plain", "GRANT SELECT, DELETE ON shop.own TO plain",
    ):  # fmt: skip
        postgres18.sql(text, "shop")
    try:
        looked_into = on18.metric("pghold_impact_found_total")
        with on18.connect("shop", user="plain") as link, ThreadPoolExecutor(1) as pool:
            running = pool.submit(link.execute, "DELETE FROM shop.own")
            hold = on18.wait_for_hold()
            wait_for(lambda: on18.metric("pghold_impact_found_total") > looked_into, 20)
            told = foreseen(on18.hold(hold["id"]))
            on18.deny(hold["id"])
            with pytest.raises(psycopg.Error):
                running.result(20)
        assert "row-level security" in told["matching"][0]["problem"]
    finally:
        postgres18.sql("DROP TABLE shop.own; REVOKE ALL ON SCHEMA shop FROM plain", "shop")
        postgres18.sql("DROP ROLE plain")


def test_many_holds_open_few_connections(on18: Pghold, postgres18: PostgresServer) -> None:
    links = [on18.connect("shop") for _ in range(60)]
    looked_into = on18.metric("pghold_impact_found_total")
    most = 0

    def done() -> bool:
        nonlocal most
        ((now,),) = postgres18.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pghold'")
        most = max(most, int(now))
        return on18.metric("pghold_impact_found_total") >= looked_into + len(links)

    with ThreadPoolExecutor(len(links)) as pool:
        running = [pool.submit(link.execute, "DROP TABLE shop.customer CASCADE") for link in links]
        wait_for(done, 40)
        for hold in on18.holds():
            on18.deny(hold["id"])
        for one in running:
            with pytest.raises(psycopg.Error):
                one.result(20)
    for link in links:
        link.close()
    assert 0 < most <= 4
