"""What an approved statement destroys comes back: the rows of filtered statements, in every way that a driver sends them; and tables that went into the trash."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from tests.integration.test_protection_matrix import BROKEN, LONG, ODD
from tests.matrix import Zoo
from tests.servers import PostgresServer, debian_bindir

#: What zoo.animal has, without what keeps rows from being copied one by one: triggers, rules, row security, money.
KINDS = """
CREATE TABLE zoo.kinds (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text COLLATE "C" UNIQUE, loud text GENERATED ALWAYS AS (upper(name)) STORED,
    mood zoo.mood, legs zoo.positive, contact zoo.email DEFAULT 'zoo@example.com', home zoo.address, homes zoo.address[], tags text[], matrix integer[][],
    plan json, facts jsonb, picture bytea, weight double precision, height real, price numeric(20, 5), born date, fed timestamptz,
    every interval, awake zoo.span, ip inet, flags bit varying(12), key uuid, words tsvector, code character(6), kind "char"
);
INSERT INTO zoo.kinds (name, mood, legs, home, homes, tags, matrix, plan, facts, picture, weight, height, price, born, fed, every, awake, ip, flags, key, words, code, kind)
    SELECT name, mood, legs, home, homes, tags, matrix, plan, facts, picture, weight, height, price, born, fed, every, awake, ip, flags, key, words, code, kind
    FROM zoo.animal ORDER BY id;
"""

Work = Callable[[psycopg.Connection[Any]], Any]


@pytest.fixture(scope="module", params=["18", "15"])
def zoo(request: pytest.FixtureRequest, folder: Path) -> Iterator[Zoo]:
    if request.param == "18":
        server = request.getfixturevalue("postgres18")
    else:
        server = PostgresServer(folder / "pg15-matrix-rows", debian_bindir())
    made = Zoo(server, folder / f"matrix-rows-{request.param}", more=KINDS, PGHOLD_SOFT_DROP="true")
    yield made
    made.stop()
    if request.param == "15":
        server.stop()


def text(statement: str, *values: object) -> Work:
    """As a simple Query without values, and with values of psycopg's in the extended protocol."""
    return lambda c: c.execute(statement, values or None)  # type: ignore[call-overload]


def prepared(statement: str, *values: object) -> Work:
    return lambda c: c.execute(statement, values, prepare=True)  # type: ignore[call-overload]


def block(*statements: str) -> Work:
    def work(connection: psycopg.Connection[Any]) -> None:
        with connection.transaction():
            for statement in statements:
                connection.execute(statement)  # type: ignore[call-overload]

    return work


BOTH: list[tuple[Work, tuple[str, ...]]] = [
    (text("DELETE FROM zoo.kinds WHERE id > 3"), ("rows",)),
    (text("UPDATE zoo.kinds SET picture = NULL, tags = '{}', facts = NULL, home = NULL, weight = 1 WHERE id > %s", "10"), ("rows",)),
    (text("DELETE FROM zoo.log WHERE level = 1 AND message > 'line 3'"), ("rows",)),
    (
        text("MERGE INTO zoo.kinds k USING zoo.animal a ON a.name = k.name WHEN MATCHED AND a.id < 50 THEN UPDATE SET every = '1 day'"),
        ("rows",),
    ),
]
ONE: list[tuple[Work, tuple[str, ...]]] = [
    (prepared("DELETE FROM zoo.kinds WHERE name = %s", "animal 7"), ("rows",)),
    (block("UPDATE zoo.kinds SET name = name || '!' WHERE mood = 'calm'", "DELETE FROM zoo.meal WHERE no = 2"), ("rows", "rows")),
    (text("UPDATE zoo.kinds k SET price = 0, code = 'x' FROM zoo.animal a WHERE a.name = k.name AND a.id < 60"), ("rows",)),
    (text("DELETE FROM zoo.kinds k USING zoo.animal a WHERE a.name = k.name AND a.mood = 'sad'"), ("rows",)),
    (text("UPDATE zoo.big SET body = 'short', raw = '' WHERE id > 2"), ("rows",)),
    (text("DELETE FROM zoo.big WHERE id = ANY(%s)", "{1,6}"), ("rows",)),
    (text("UPDATE zoo.log SET message = 'other' WHERE at > '2025-12-01'"), ("rows",)),
    (text("DELETE FROM zoo.log_hash WHERE id %% 3 = %s", "0"), ("rows",)),
    (text("DELETE FROM zoo.visit WHERE follows IS NOT NULL"), ("rows",)),
    (text(f'UPDATE {ODD} SET "späce é" = \'\', "col ""q""" = NULL WHERE "a.b" = \';\''), ("rows",)),
    (text(f'DELETE FROM {ODD} WHERE "select" = 1'), ("rows",)),
    (text(f"DELETE FROM {BROKEN} WHERE id = 1"), ("rows",)),
    (text(f"DELETE FROM {LONG} WHERE \"*\" = '*'"), ("rows",)),
    (text("WITH old AS (SELECT id FROM zoo.kinds WHERE mood = 'happy') DELETE FROM zoo.kinds WHERE id IN (SELECT id FROM old)"), ("rows",)),
    (text("MERGE INTO zoo.kinds k USING zoo.animal a ON a.name = k.name WHEN MATCHED AND a.mood = 'calm' THEN DELETE"), ("rows",)),
    # Where rows cannot be told one by one, the tables are copied as a whole.
    (text("DELETE FROM zoo.animal WHERE id < 50"), ("dump",)),
    (text("UPDATE zoo.animal SET mood = 'sad' WHERE id < %s", "50"), ("dump",)),
    (text("DELETE FROM zoo.base WHERE id = 3"), ("dump",)),
    (
        text(
            "INSERT INTO zoo.kinds (name, contact) VALUES ('animal 3', 'a@b') ON CONFLICT (name) DO UPDATE SET contact = EXCLUDED.contact, legs = 2"
        ),
        ("dump",),
    ),
    (text("WITH gone AS (DELETE FROM zoo.meal WHERE no = 1 RETURNING *) DELETE FROM zoo.big WHERE id IN (SELECT no FROM gone)"), ("dump",)),
]


@pytest.mark.parametrize("number", range(len(BOTH)))
def test_rows_on_both_versions(zoo: Zoo, number: int) -> None:
    work, kinds = BOTH[number]
    zoo.assert_comes_back(zoo.database("cell"), work, *kinds)


@pytest.mark.parametrize("number", range(len(ONE)))
@pytest.mark.parametrize("zoo", ["18"], indirect=True)
def test_rows_on_the_newest(zoo: Zoo, number: int) -> None:
    work, kinds = ONE[number]
    zoo.assert_comes_back(zoo.database("cell rows"), work, *kinds)


@pytest.mark.parametrize("zoo", ["18"], indirect=True)
def test_values_in_binary_form(zoo: Zoo) -> None:
    """Of asyncpg: what they mean is not known, so the table is copied."""

    def work(connection: psycopg.Connection[Any]) -> None:
        async def run() -> None:
            other = await asyncpg.connect(host="127.0.0.1", port=zoo.proxy.port, user="postgres", database="cell_binary")
            assert await other.execute("DELETE FROM zoo.kinds WHERE id > $1", 5) != "DELETE 0"
            await other.close()

        asyncio.run(run())

    zoo.assert_comes_back(zoo.database("cell_binary"), work, "dump")


@pytest.mark.parametrize("zoo", ["18"], indirect=True)
def test_what_a_savepoint_took_back_is_in_the_way_of_its_undo(zoo: Zoo) -> None:
    database = zoo.database("cell_savepoint")
    statements = ("SAVEPOINT s", "DELETE FROM zoo.kinds WHERE id < 9", "ROLLBACK TO s", "DELETE FROM zoo.kinds WHERE id = 20")
    sent, [first, second] = zoo.run(database, block(*statements))
    assert sent.error is None
    refused = zoo.proxy.http.post(f"/api/v1/holds/{first['id']}/undo", json={"reason": "a test"})
    assert refused.status_code == 409
    assert "8 rows are there again" in refused.json()["detail"]
    assert not zoo.is_as_before(database)
    assert zoo.undo(second["id"])["state"] == "done"
    zoo.assert_as_before(database)


@pytest.mark.parametrize("zoo", ["18"], indirect=True)
def test_rows_without_a_key_are_put_beside(zoo: Zoo) -> None:
    database = zoo.database("cell_no_key")
    sent, [hold] = zoo.run(database, text("UPDATE zoo.twice SET b = 'z' WHERE a = 'x'"))
    assert sent.error is None
    refused = zoo.proxy.http.post(f"/api/v1/holds/{hold['id']}/undo", json={"reason": "a test"})
    assert refused.status_code == 409
    assert "pghold restore" in refused.json()["detail"]
    beside = zoo.proxy.http.post(f"/api/v1/backups/{hold['backup']['backup_id']}/restore", json={"schema": 'be "side"', "reason": "a test"})
    done = zoo.errand(beside)
    assert done["state"] == "done", done["outcome"]
    assert zoo.server.sql('SELECT a, b FROM "be ""side""".twice', database) == [("x", "y"), ("x", "y")]


TRASH: list[tuple[str, str]] = [
    ("DROP TABLE public.plain", "trash"),
    ("DROP TABLE zoo.visit", "trash"),
    ("DROP TABLE zoo.big, zoo.empty, zoo.nothing, zoo.twice, zoo.unlogged", "trash"),
    (f"DROP TABLE {ODD}, {BROKEN}", "trash"),
    (f"DROP TABLE {LONG}", "trash"),
    ("DROP TABLE zoo.kinds", "trash"),
    # What cannot be moved is copied: publications, partitions, children.
    ("DROP TABLE zoo.animal CASCADE", "dump"),
    ("DROP TABLE zoo.log CASCADE", "dump"),
    ("DROP TABLE zoo.base CASCADE", "dump"),
    ("TRUNCATE zoo.visit", "dump"),
]


@pytest.mark.parametrize(("statement", "kind"), TRASH)
@pytest.mark.parametrize("zoo", ["18"], indirect=True)
def test_soft_drop(zoo: Zoo, statement: str, kind: str) -> None:
    zoo.assert_comes_back(zoo.database("cell_trash"), text(statement), kind)


@pytest.mark.parametrize("zoo", ["15"], indirect=True)
def test_soft_drop_on_the_older(zoo: Zoo) -> None:
    zoo.assert_comes_back(zoo.database("cell_trash"), text("DROP TABLE zoo.visit"), "trash")
