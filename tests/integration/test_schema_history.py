"""Versions of schemas of real servers: who changed it, one version for a migration, and drift."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from proxy.config import Settings
from proxy.control import Control
from proxy.schema_history.dump import DumpError, dump
from proxy.upstream import Upstream
from tests.browsing import Browser, Client
from tests.integration.test_health import check, health, ident, wait_for_check
from tests.servers import Pghold, PostgresServer, debian_bindir, embedded_bindir, wait_for

HOSTILE = '../a "db" näme\'; DROP--'


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[PostgresServer]:
    made = PostgresServer(folder / "schemas", embedded_bindir())
    made.sql("CREATE TABLE account (id int PRIMARY KEY, name text)")
    made.sql(f"CREATE DATABASE {ident(HOSTILE)}")
    yield made
    made.stop()


def begin(server: PostgresServer, **environment: str) -> Pghold:
    made = Pghold(
        f"postgresql://127.0.0.1:{server.port}/postgres",
        environment={"PGHOLD_HEALTH_INTERVAL_S": "0.5", **environment},
    )
    wait_for(lambda: made.http.get("/api/v1/schema/log").status_code == 200, 20)
    return made


@pytest.fixture(scope="module")
def proxy(server: PostgresServer) -> Iterator[Pghold]:
    made = begin(server)
    yield made
    Browser.close_all()
    assert made.stop() == 0


def log(proxy: Pghold, database: str = "") -> list[dict[str, Any]]:
    answer = proxy.http.get("/api/v1/schema/log", params={"database": database})
    return list(answer.json()) if answer.status_code == 200 else []


def wait_for_version(proxy: Pghold, number: int, database: str = "", timeout_s: float = 20) -> dict[str, Any]:
    wait_for(lambda: (found := log(proxy, database)) and found[0]["version"] >= number, timeout_s)
    return log(proxy, database)[0]


def pghold(proxy: Pghold, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PGHOLD_CONSOLE": proxy.console,
        "PGHOLD_TOKEN": proxy.token,
        "PGHOLD_DATA_DIR": str(proxy.folder / "data"),
    }
    return subprocess.run(
        [sys.executable, "-m", "proxy", *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_migration_is_one_version_with_who_and_what(proxy: Pghold) -> None:
    before = log(proxy)[0]["version"]
    with proxy.connect(application_name="migrator") as connection, connection.transaction():
        connection.execute("CREATE TABLE card (id int, note text)")
        time.sleep(3)  # longer than what is waited for: nothing can be seen before the commit
        connection.execute("ALTER TABLE account ADD COLUMN born date")
    version = wait_for_version(proxy, before + 1)
    assert version["version"] == before + 1
    assert version["by"] == ["postgres (migrator)"]
    assert version["statements"] == ["CREATE TABLE card (id int, note text)", "ALTER TABLE account ADD COLUMN born date"]
    assert "~ table public.account (column born added)" in version["summary"]
    assert "+ table public.card" in version["summary"]
    assert not version["drift"]
    found = proxy.http.get("/api/v1/schema/diff").json()
    assert any(line.startswith("+") and "born date" in line for line in found["diff"])
    # Nothing of it is a secret of the run: the same schema has the same digest.
    assert "restrict" not in proxy.http.get("/api/v1/schema/show").json()["text"]


def test_an_approved_statement_is_named_by_its_hold(proxy: Pghold) -> None:
    before = log(proxy)[0]["version"]
    client = Client(proxy, "ALTER TABLE account DROP COLUMN name")
    hold_id = proxy.wait_for_hold()["id"]
    proxy.approve(hold_id)
    client.join(10)
    version = wait_for_version(proxy, before + 1)
    assert version["holds"] == [hold_id]
    assert version["summary"] == ["~ table public.account (column name dropped)"]


def test_other_databases_and_hostile_names_have_histories_of_their_own(proxy: Pghold) -> None:
    name = 'täble " \n-- Name: x; Type: TABLE; Schema: y; Owner: z\n' + "n" * 5
    with proxy.connect(HOSTILE) as connection:
        connection.execute(f"CREATE TABLE {ident(name)} (id int)")  # type: ignore[call-overload]
    wait_for_version(proxy, 1, HOSTILE)
    with proxy.connect(HOSTILE) as connection:
        connection.execute(f"ALTER TABLE {ident(name)} ADD COLUMN more int")  # type: ignore[call-overload]
    version = wait_for_version(proxy, 2, HOSTILE)
    assert any("column more added" in line for line in version["summary"]), version
    assert {p.parent for p in (proxy.folder / "data/schema").rglob("index.json")} == set((proxy.folder / "data/schema").glob("*/"))
    http = Browser(proxy)
    for path in ("/schema", "/schema/diff"):
        answer = http.http.get(path, params={"database": HOSTILE})
        assert answer.status_code == 200
        assert "column more added" in answer.text


def test_the_command_line_shows_log_diff_and_text(proxy: Pghold) -> None:
    assert log(proxy)[0]["version"] >= 2
    shown = pghold(proxy, "schema", "log")
    assert shown.returncode == 0, shown.stderr
    assert "version 1" in shown.stdout
    told = pghold(proxy, "schema", "diff")
    assert told.returncode == 1, "as diff, it says that there is a difference"
    assert "--- version" in told.stdout
    assert pghold(proxy, "schema", "diff", "1", "1").returncode == 0
    assert "CREATE TABLE public.account" in pghold(proxy, "schema", "show").stdout
    assert json.loads(pghold(proxy, "schema", "show", "1", "--json").stdout)["version"] == 1
    missing = pghold(proxy, "schema", "show", "99")
    assert missing.returncode != 0
    assert "there is no version 99" in missing.stderr


def test_drift_is_an_alarm_that_a_restart_does_not_forget(server: PostgresServer) -> None:
    proxy = begin(server)
    try:
        assert proxy.stop() == 0
        server.sql("CREATE INDEX behind_our_back ON account (id)")
        proxy.start()
        drift = wait_for_check(proxy, "schema-drift", "fail")
        assert "index public.behind_our_back" in drift["text"]
        assert log(proxy)[0]["drift"]
        assert proxy.stop() == 0
        proxy.start()
        wait_for_check(proxy, "schema-drift", "fail")
        assert pghold(proxy, "schema", "accept").returncode == 0
        wait_for_check(proxy, "schema-drift", "ok")
        assert log(proxy)[0]["accepted_by"] == "operator"
        # What passed just before the proxy stopped is no drift.
        with proxy.connect() as connection:
            connection.execute("CREATE TABLE just_before_the_end ()")
            pending = proxy.folder / "data/schema/pending.json"
            wait_for(lambda: pending.exists() and "just_before" in pending.read_text(), 10)
        proxy.stop(signal.SIGKILL)
        before = log_file(proxy)
        proxy.start()
        wait_for(lambda: len(log_file(proxy)) > len(before), 20)
        assert not log_file(proxy)[-1]["drift"]
        assert "postgres" in log_file(proxy)[-1]["by"][0]
    finally:
        proxy.stop()


def log_file(proxy: Pghold) -> list[dict[str, Any]]:
    return list(json.loads((proxy.folder / "data/schema/postgres/index.json").read_text()))


def test_what_cannot_be_read_is_unknown_and_passwords_are_not_kept(folder: Path) -> None:
    server = PostgresServer(folder / "schemas15", debian_bindir())
    server.sql("CREATE ROLE poor LOGIN; CREATE TABLE hidden (id int); REVOKE ALL ON hidden FROM PUBLIC")
    server.sql("CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'x')")
    server.sql("CREATE USER MAPPING FOR postgres SERVER far OPTIONS (user 'u', password 'hunter2')")
    proxy = begin(server)
    poor = Pghold(
        f"postgresql://127.0.0.1:{server.port}/postgres",
        environment={"PGHOLD_HEALTH_INTERVAL_S": "0.5", "PGHOLD_CONTROL": f"postgresql://poor@127.0.0.1:{server.port}/postgres"},
    )
    try:
        text = proxy.http.get("/api/v1/schema/show").json()["text"]
        assert "USER MAPPING FOR postgres SERVER far" in text
        assert "hunter2" not in text
        assert "hunter2" not in poor.log.read_text()
        assert "hidden" in wait_for_check(poor, "schema-drift", "unknown")["text"]
        assert proxy.stop() == 0
        server.stop()
        proxy.start()
        wait_for_check(proxy, "schema-drift", "unknown", 30)
        assert health(proxy)["state"] == "fail"
        assert check(proxy, "schema-drift")["state"] == "unknown"
    finally:
        proxy.stop()
        poor.stop()
        if server._process.poll() is None:
            server.stop()


def test_a_server_that_is_newer_than_pg_dump_is_said_plainly(server: PostgresServer) -> None:
    proxy = Pghold(
        f"postgresql://127.0.0.1:{server.port}/postgres",
        environment={"PGHOLD_HEALTH_INTERVAL_S": "0.5", "PGHOLD_PG_BIN": str(debian_bindir())},
    )
    try:
        assert "server version" in wait_for_check(proxy, "schema-drift", "unknown")["text"]
    finally:
        assert proxy.stop() == 0


def test_ddl_waits_for_no_dump(proxy: Pghold) -> None:
    """The client has its answer before anything is read, and a dump holds nobody up."""
    with proxy.connect() as connection:
        began = time.monotonic()
        for number in range(20):
            connection.execute(f"CREATE TABLE quick_{number} (id int)")  # type: ignore[call-overload]
        assert time.monotonic() - began < 5
        with pytest.raises(psycopg.errors.DuplicateTable):
            connection.execute("CREATE TABLE quick_1 (id int)")


async def test_dump_never_makes_a_session_the_victim_of_a_deadlock(postgres18: PostgresServer) -> None:
    """It has locked one table and wants another that a session has, which waits for the first: the dump gives up, not the session."""
    postgres18.sql("DROP DATABASE IF EXISTS yielding")
    postgres18.sql("CREATE DATABASE yielding")
    postgres18.sql("CREATE TABLE a (id int); CREATE TABLE b (id int); CREATE TABLE c (id int)", "yielding")
    control = Control(Upstream(host="127.0.0.1", port=postgres18.port, user="postgres", password=""), 5)

    async def waits_for(table: str) -> None:
        waiting = f"SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = '{table}'::regclass"
        while postgres18.sql(waiting, "yielding") == [(0,)]:
            await asyncio.sleep(0.01)

    session, other = [await psycopg.AsyncConnection.connect(control.conninfo("yielding")) for _ in range(2)]
    try:
        await other.execute("LOCK TABLE b IN ACCESS EXCLUSIVE MODE")
        await session.execute("LOCK TABLE c IN ACCESS EXCLUSIVE MODE")
        dumping = asyncio.ensure_future(dump(Settings(), control, "yielding"))
        await waits_for("b")  # it has a
        locking = asyncio.ensure_future(session.execute("LOCK TABLE a IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(DumpError, match="timeout"):
            # Before the time after which the session looks for a deadlock.
            async with asyncio.timeout(0.9):
                await dumping
        await other.rollback()
        await locking
    finally:
        await session.close()
        await other.close()
