"""What an approved statement destroys comes back: each kind of statement, on tables of every kind, from a driver to the undo. Definitions and whole tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.matrix import Zoo
from tests.servers import PostgresServer, debian_bindir

ODD = '"odd ""schema""; name"."table ""with"" \'all\', $1; --"'
BROKEN = '"odd ""schema""; name"."line\nbreak"'
LONG = 'zoo."sixty_three_bytes_long_name_of_a_table_that_goes_up_to_the_limit"'


@pytest.fixture(scope="module", params=["18", "15"])
def zoo(request: pytest.FixtureRequest, folder: Path) -> Iterator[Zoo]:
    if request.param == "18":
        server = request.getfixturevalue("postgres18")
    else:
        server = PostgresServer(folder / "pg15-matrix", debian_bindir())
    made = Zoo(server, folder / f"matrix-{request.param}")
    yield made
    made.stop()
    if request.param == "15":
        server.stop()


#: On both versions.
BOTH = [
    "DROP TABLE zoo.animal CASCADE",
    "DROP TABLE zoo.log CASCADE",
    f"DROP TABLE {ODD}, {BROKEN}, {LONG}",
    "DROP SCHEMA zoo CASCADE",
    "ALTER TABLE zoo.animal DROP COLUMN mood CASCADE",
    "ALTER TABLE zoo.log ALTER COLUMN message TYPE varchar(100)",
    "TRUNCATE zoo.animal CASCADE",
    "DELETE FROM zoo.animal",
    "MERGE INTO zoo.keeper k USING (VALUES (2, 'bob II'), (3, 'cleo')) AS n (id, name) ON k.id = n.id"
    " WHEN MATCHED THEN UPDATE SET name = n.name WHEN NOT MATCHED THEN INSERT VALUES (n.id, NULL, n.name)",
]

#: On the newest version only.
ONE = [
    "DROP TABLE public.plain",
    "DROP TABLE zoo.base CASCADE",
    "DROP TABLE zoo.big, zoo.empty, zoo.nothing, zoo.twice, zoo.unlogged",
    'DROP SCHEMA "odd ""schema""; name" CASCADE',
    "ALTER TABLE zoo.base DROP COLUMN label",
    f'ALTER TABLE {ODD} DROP COLUMN "späce é"',
    "ALTER TABLE zoo.visit ALTER COLUMN id TYPE bigint, ALTER COLUMN at TYPE date",
    "TRUNCATE zoo.animal, zoo.visit, public.plain RESTART IDENTITY CASCADE",
    "TRUNCATE zoo.log CASCADE",
    "UPDATE zoo.animal SET mood = 'sad', picture = NULL, cost = cost * 2",
    "UPDATE zoo.visit SET at = now(), animal = NULL",
    "DELETE FROM zoo.base",
    "UPDATE zoo.animal a SET name = m.what FROM zoo.meal m WHERE m.animal = a.id AND m.no = 1",
    "DELETE FROM zoo.animal a USING zoo.visit v WHERE v.animal = a.id AND a.id < 60",
    "INSERT INTO zoo.keeper (id, name) SELECT id, name || '!' FROM zoo.keeper WHERE id = 2 UNION ALL VALUES (9, 'zoe')"
    " ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name",
    "DO $$ BEGIN DELETE FROM zoo.meal; UPDATE zoo.twice SET a = 'z'; END $$",
]


def drivers_way(statement: str, zoo: Zoo, database: str) -> None:
    zoo.assert_comes_back(database, lambda c: c.execute(statement), "dump")


@pytest.mark.parametrize("statement", BOTH)
def test_on_both_versions(zoo: Zoo, statement: str) -> None:
    drivers_way(statement, zoo, zoo.database("cell"))


@pytest.mark.parametrize("statement", ONE)
@pytest.mark.parametrize("zoo", ["18"], indirect=True)
def test_on_the_newest(zoo: Zoo, statement: str) -> None:
    drivers_way(statement, zoo, zoo.database('cell "of" ü; x'))


def test_a_database(zoo: Zoo) -> None:
    name = zoo.database("cell\n'gone' \"now\"")
    quoted = '"' + name.replace('"', '""') + '"'
    sent, [hold] = zoo.run("postgres", lambda c: c.execute(f"DROP DATABASE {quoted}"))
    assert sent.error is None
    assert hold["state"] == "done"
    assert zoo.server.sql("SELECT count(*) FROM pg_database WHERE datname LIKE 'cell%gone%'") == [(0,)]
    [backup] = [b for b in zoo.proxy.http.get("/api/v1/backups").json() if b["hold_id"] == hold["id"]]
    assert backup["proof"] == "equal"
    asked = zoo.proxy.http.post(f"/api/v1/backups/{backup['id']}/restore", json={"into": name, "reason": "a test"})
    restored = zoo.errand(asked)
    assert restored["state"] == "done", restored["outcome"]
    zoo.assert_as_before(name)


@pytest.mark.parametrize("zoo", ["18"], indirect=True)
def test_several_in_one_transaction(zoo: Zoo) -> None:
    """Each has its own copy, and they are taken back in the other order."""

    def work(connection: psycopg.Connection[Any]) -> None:
        with connection.transaction():
            connection.execute("DELETE FROM zoo.meal")
            connection.execute("TRUNCATE public.plain")
            connection.execute("DROP TABLE zoo.visit")

    zoo.assert_comes_back(zoo.database("cell_of_many"), work, "dump", "dump", "dump")
