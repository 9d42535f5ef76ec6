"""What an act covers, and what it does not, on a real server: a client that sends what Sequelize sends."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.servers import PostgresServer, wait_for
from tests.tools.stage import Stage

#: How Sequelize sets up a connection.
SETUP = "SET client_min_messages TO warning;SET TIME ZONE INTERVAL '+00:00' HOUR TO MINUTE"


@pytest.fixture(scope="module")
def stage(postgres18: PostgresServer) -> Iterator[Stage]:
    made = Stage(postgres18, "shop_acts", backups=True)
    yield made
    made.close()


class Tool:
    """A session that drops tables one by one, as the tool does."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.link = stage.proxy.connect(stage.database)
        self.link.execute(SETUP)
        self._pool = ThreadPoolExecutor(1)

    def send(self, script: str) -> Future[Any]:
        return self._pool.submit(self.link.execute, script)

    def force(self, name: str) -> Future[Any]:
        return self.send(f'DROP TABLE IF EXISTS "{name}" CASCADE;')

    def held(self) -> dict[str, Any]:
        return self.stage.proxy.wait_for_hold()

    def close(self) -> None:
        self.link.close()
        self._pool.shutdown()


@pytest.fixture
def tool(stage: Stage) -> Iterator[Tool]:
    stage.rebuild()
    stage.server.sql(
        "CREATE TABLE a AS SELECT g AS id FROM generate_series(1, 3) g; CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE c (id int);"
        "INSERT INTO b SELECT g FROM generate_series(1, 4) g; CREATE SCHEMA other; CREATE TABLE other.line (b int REFERENCES b);"
        "INSERT INTO other.line VALUES (1); CREATE TABLE other.child () INHERITS (c); INSERT INTO other.child VALUES (7)",
        stage.database,
    )
    made = Tool(stage)
    yield made
    for hold in stage.proxy.holds():
        stage.proxy.deny(hold["id"])
    made.close()


def begun(tool: Tool) -> int:
    """The act is approved, and its first statement has run."""
    first = tool.force("a")
    hold = int(tool.held()["id"])
    assert tool.stage.proxy.approve(hold).status_code == 200
    first.result(60)
    return hold


def copies(stage: Stage, hold: int) -> list[dict[str, Any]]:
    """Newest first, each with its tables."""
    listed = [b["id"] for b in stage.proxy.http.get("/api/v1/backups").json() if b["hold_id"] == hold]
    return [stage.proxy.http.get(f"/api/v1/backups/{number}").json() for number in listed]


def test_children_in_other_schemas_go_with_their_parents_and_are_listed(tool: Tool) -> None:
    sent = tool.force("c")
    hold = tool.held()
    assert hold["act"]["title"] == "Sequelize force sync of 4 tables"
    assert set(hold["relations"]) == {"public.a", "public.b", "public.c", "other.child"}
    assert tool.stage.proxy.deny(hold["id"]).status_code == 200
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        sent.result(20)


def test_rows_that_others_write_before_their_table_is_dropped_are_copied(tool: Tool) -> None:
    hold = begun(tool)
    [whole] = copies(tool.stage, hold)
    tool.force("c").result(60)
    assert len(copies(tool.stage, hold)) == 1, "nobody wrote to it"
    tool.stage.server.sql("INSERT INTO b VALUES (99)", tool.stage.database)
    tool.force("b").result(60)
    [further] = [b for b in copies(tool.stage, hold) if b["id"] != whole["id"]]
    assert (further["state"], further["proof"]) == ("done", "equal")
    assert {t["name"]: t["rows"] for t in further["tables"]}['"public"."b"'] == 5
    assert not tool.stage.proxy.holds()


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_session_that_does_not_see_what_others_wrote_has_its_tables_copied_again(tool: Tool, level: str) -> None:
    tool.link.execute(f"SET default_transaction_isolation = '{level}'")
    hold = begun(tool)
    tool.force("b").result(60)
    assert len(copies(tool.stage, hold)) == 2


def test_table_with_row_security_is_copied_again(tool: Tool) -> None:
    server, database = tool.stage.server, tool.stage.database
    server.sql("DROP ROLE IF EXISTS keeper", database)
    server.sql(
        "CREATE ROLE keeper LOGIN; GRANT ALL ON SCHEMA public TO keeper; ALTER TABLE a OWNER TO keeper; ALTER TABLE b OWNER TO keeper",
        database,
    )
    server.sql(
        "ALTER TABLE b ENABLE ROW LEVEL SECURITY; ALTER TABLE b FORCE ROW LEVEL SECURITY; CREATE POLICY p ON b USING (id < 50)", database
    )
    try:
        tool.link.close()
        tool.link = tool.stage.proxy.connect(database, user="keeper")
        tool.link.execute(SETUP)
        hold = begun(tool)
        server.sql("INSERT INTO b VALUES (99)", database)
        tool.force("b").result(60)
        [further] = copies(tool.stage, hold)[:-1]
        assert {t["name"]: t["rows"] for t in further["tables"]}['"public"."b"'] == 5
    finally:
        tool.stage.rebuild()
        server.sql("DROP ROLE keeper")


@pytest.mark.parametrize("script", ["TRUNCATE b CASCADE", "DROP SCHEMA other CASCADE", "DROP TABLE other.line", "DELETE FROM b"])
def test_what_goes_beyond_it_is_held(tool: Tool, script: str) -> None:
    first = begun(tool)
    sent = tool.send(script)
    hold = tool.held()
    assert hold["id"] != first
    assert tool.stage.proxy.deny(hold["id"]).status_code == 200
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        sent.result(20)
    assert tool.stage.server.sql("SELECT count(*) FROM other.line", tool.stage.database) == [(1,)]


def test_second_sync_of_the_same_session_is_another_act(tool: Tool) -> None:
    first = begun(tool)
    for name in ("b", "c"):
        tool.force(name).result(60)
    tool.link.execute("CREATE TABLE IF NOT EXISTS a (id int)")
    tool.link.execute("INSERT INTO a VALUES (1)")
    again = tool.force("a")
    hold = tool.held()
    assert hold["id"] != first
    assert hold["act"]["title"] == "Sequelize force sync of 1 table"
    assert tool.stage.proxy.approve(hold["id"]).status_code == 200
    again.result(60)
    assert tool.stage.proxy.wait_for_state(first, "done")["outcome"] == "3 x DROP TABLE"


def test_proxy_that_is_killed_in_the_middle_leaves_what_was_not_reached(tool: Tool) -> None:
    hold = begun(tool)
    tool.stage.proxy.process.kill()
    tool.stage.proxy.process.wait()
    tool.stage.proxy.http.close()
    tool.stage.proxy.start()
    wait_for(lambda: tool.stage.proxy.hold(hold)["state"] == "abandoned", 20)
    tool.link.close()
    tool.link = tool.stage.proxy.connect(tool.stage.database)
    tool.link.execute(SETUP)
    tool.force("b")
    assert tool.held()["id"] != hold, "the approval went with its session"
    assert tool.stage.server.sql("SELECT count(*) FROM b", tool.stage.database) == [(4,)]
