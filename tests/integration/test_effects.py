"""The effect oracle: what is judged harmless is run on a live server by a superuser, and nothing may be missing afterwards.

Profile strict: no object of the catalog and no row may go, but for rows that a filtered DELETE or MERGE names. Profile guard lets some
definitions go that a migration may drop (constraints, defaults), so there it is the rows and the relations that count.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import pq

from policy import Context, Engine, Profile, Verdict
from policy.facts import Facts
from policy.rules import ALL_RULES
from tests.policy.test_corpus import CORPUS, own_cases
from tests.servers import PostgresServer, embedded_bindir

#: Every so many statements of the large corpus; PGHOLD_ORACLE=1 runs them all (make oracle).
STEP = int(os.environ.get("PGHOLD_ORACLE", "12"))

FIXTURE = """
CREATE TABLE person (id int PRIMARY KEY, name text NOT NULL, email text);
CREATE TABLE account (id int PRIMARY KEY, owner int REFERENCES person, email text, name text, balance int DEFAULT 0);
CREATE TABLE t (id int PRIMARY KEY, a int, b int, name text, x int);
CREATE TABLE users (id int PRIMARY KEY, name text, email text, active bool DEFAULT true);
CREATE TABLE old (id int, balance int);
CREATE TABLE log (id int, note text);
CREATE TABLE event (id int, at date) PARTITION BY RANGE (id);
CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM (0) TO (100);
CREATE INDEX account_name ON account (name);
CREATE VIEW totals AS SELECT sum(balance) FROM account;
CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TRIGGER nothing BEFORE UPDATE ON account FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
CREATE SEQUENCE account_id_seq;
CREATE TYPE mood AS ENUM ('ok', 'sad');
INSERT INTO person SELECT g, 'p' || g FROM generate_series(1, 20) g;
INSERT INTO account SELECT g, g, 'e' || g, 'n' || g, g FROM generate_series(1, 20) g;
INSERT INTO t SELECT g, g, g, 'n' || g, g FROM generate_series(1, 20) g;
INSERT INTO users SELECT g, 'n' || g, 'e' || g FROM generate_series(1, 20) g;
INSERT INTO old SELECT g, g FROM generate_series(1, 3) g;
INSERT INTO log SELECT g, 'x' FROM generate_series(1, 20) g;
INSERT INTO event SELECT g FROM generate_series(1, 20) g;
SELECT lo_create(4711);
-- Rows that an honest filter leaves alone: negative, huge, empty.
INSERT INTO person VALUES (-1, ''), (1000000000, 'zz');
INSERT INTO account (id) VALUES (-1), (1000000000);
INSERT INTO t (id) VALUES (-1), (1000000000);
INSERT INTO users (id) VALUES (-1), (1000000000);
INSERT INTO old VALUES (-1), (1000000000);
INSERT INTO log VALUES (-1), (1000000000);
"""
TABLES = ("person", "account", "t", "users", "old", "log", "event")

RELATIONS = "SELECT 'relation', oid::text FROM pg_class WHERE relpersistence <> 't' AND relnamespace <> 'pg_toast'::regnamespace"
#: Temporary relations go when their session has ended, which may be a moment later.
LASTING = "(SELECT oid FROM pg_class WHERE relpersistence <> 't')"
CATALOG = f"""
{RELATIONS} AND relkind <> 'i'
UNION ALL SELECT 'column', attrelid || '.' || attnum FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
    WHERE NOT attisdropped AND c.relpersistence <> 't' AND c.relkind IN ('r', 'p', 'v', 'm')
UNION ALL SELECT 'constraint', c.oid::text FROM pg_constraint c LEFT JOIN pg_class r ON r.oid = conrelid
    WHERE r.relpersistence IS DISTINCT FROM 't' AND contype <> 'n'
UNION ALL SELECT 'function', oid::text FROM pg_proc WHERE pronamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_temp')
UNION ALL SELECT 'trigger', oid::text FROM pg_trigger WHERE tgrelid IN {LASTING}
UNION ALL SELECT 'type', oid::text FROM pg_type WHERE typnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_(temp|toast)')
UNION ALL SELECT 'schema', oid::text FROM pg_namespace WHERE nspname !~ '^pg_(temp|toast)' UNION ALL SELECT 'role', oid::text FROM pg_authid
UNION ALL SELECT 'policy', oid::text FROM pg_policy UNION ALL SELECT 'large object', oid::text FROM pg_largeobject_metadata
UNION ALL SELECT 'database', oid::text FROM pg_database UNION ALL SELECT 'extension', oid::text FROM pg_extension
UNION ALL SELECT 'publication', oid::text FROM pg_publication UNION ALL SELECT 'enabled trigger', oid::text FROM pg_trigger
    WHERE tgenabled <> 'D' AND tgrelid IN {LASTING}
UNION ALL SELECT 'row security', oid::text FROM pg_class WHERE relrowsecurity AND relpersistence <> 't' UNION ALL SELECT 'slot', slot_name FROM pg_replication_slots
"""


@pytest.fixture(scope="module")
def throwaway(folder: Path) -> Iterator[PostgresServer]:
    server = PostgresServer(folder / "oracle", embedded_bindir(), "max_prepared_transactions=5", "wal_level=logical")
    yield server
    server.stop()


def scripts() -> Iterator[str]:
    for rule in ALL_RULES:
        yield from (e.script for e in (*rule.passes, *rule.triggers))
    yield from (script for script, _ in own_cases())
    for name in ("adversarial", "orm", "squawk", "tools", "regress"):
        file = CORPUS / f"{name}.jsonl"
        if file.exists():
            lines = file.read_text().splitlines()
            yield from (json.loads(line)["sql"] for line in (lines if name == "adversarial" else lines[::STEP]))


class Oracle:
    def __init__(self, server: PostgresServer, database: str) -> None:
        self._server = server
        self._database = database
        server.sql(f"CREATE DATABASE {database}")
        self._link = server.connect(database)
        self._link.execute(FIXTURE)
        self._link.execute("SET statement_timeout = '20s'")

    def close(self) -> None:
        self._link.close()

    def objects(self, query: str) -> set[tuple[str, str]]:
        return set(self._link.execute(query).fetchall())

    def rows(self, tables: set[str]) -> dict[str, int]:
        found = {}
        for table in tables:
            try:
                row = self._link.execute(f"SELECT count(*) FROM {table}").fetchone()
            except psycopg.Error:
                continue
            found[table] = row[0] if row is not None else 0
        return found

    def run(self, script: str) -> None:
        """As a client would, in one Query message; its errors are its own business."""
        try:
            link = self._server.connect(self._database)
        except psycopg.Error:
            return
        with link:
            link.execute("SET statement_timeout = '1s'; SET lock_timeout = '200ms'; SET log_min_messages = panic")
            result = link.pgconn.exec_(script.encode("utf-8", "replace"))
            if result.status == pq.ExecStatus.COPY_IN:
                link.pgconn.put_copy_end(b"no")
            link.pgconn.finish()


def may_lose_rows(facts: Facts | None) -> set[str]:
    if facts is None:
        return set()
    if facts.executed or any(act.kind in ("DO", "CALL") for act in facts.acts):
        return set(TABLES)  # a filtered DELETE in text within text; none may be emptied all the same
    return {c.table.name for c in facts.changes if c.verb == "DELETE"} | {m.table.name for m in facts.merges}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("profile", list(Profile))
def test_nothing_is_missing_after_what_is_judged_harmless(throwaway: PostgresServer, profile: Profile) -> None:
    oracle = Oracle(throwaway, f"oracle_{profile}")
    engine = Engine(profile=profile)
    query = CATALOG if profile is Profile.STRICT else RELATIONS + " AND relkind IN ('r', 'p', 'm')"
    before = oracle.objects(query)
    ran = 0
    wrong = []
    for script in scripts():
        if "\0" in script or engine.judge(script.encode("utf-8", "surrogatepass"), Context()).verdict >= Verdict.HOLD:
            continue
        facts = engine.facts(script.encode("utf-8", "surrogatepass"), Context())
        if facts is not None and any(c.only_null_tests for c in facts.changes):
            continue  # the documented gap of profile guard: nobody knows here that the column is never NULL
        if facts is not None and any(act.kind.startswith(("RENAME", "SET SCHEMA")) for act in facts.acts):
            continue  # nothing is lost, but not found any more
        kinds = {s.kind for s in facts.statements} if facts is not None else set()
        if kinds and kinds <= {"SELECT", "SHOW", "SET"} and "(" not in script:
            continue  # nothing in it could
        tables = set(TABLES) | ({str(w) for s in facts.statements for w in s.writes} if facts is not None else set())
        rows = oracle.rows(tables)
        oracle.run(script)
        ran += 1
        after = oracle.objects(query)
        left = oracle.rows(set(rows))
        lost = sorted(before - after)
        named = may_lose_rows(facts)
        fewer = {t for t in rows if left.get(t, 0) < rows[t] and t.rpartition(".")[2].strip('"') not in named}
        emptied = {t for t in TABLES if not left.get(t)}
        if lost or fewer or emptied:
            wrong.append((script[:200], lost[:5], sorted(fewer), sorted(emptied)))
            break  # the fixture is spoilt
        before = after
    oracle.close()
    assert wrong == []
    assert ran > 60
