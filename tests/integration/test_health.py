"""The checks against real servers: what vanishes, what lags, what hangs."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.browsing import Client
from tests.servers import Pghold, PostgresServer, debian_bindir, embedded_bindir, wait_for

HOSTILE = 'a "quoted" \n täble; DROP TABLE x -- ' + "x" * 20


def health(proxy: Pghold) -> dict[str, Any]:
    return dict(proxy.http.get("/api/v1/health").json())


def check(proxy: Pghold, name: str) -> dict[str, Any]:
    told = health(proxy)
    found = [c for c in [*told["checks"], *told["access"]] if c["id"] == name]
    assert len(found) == 1, (name, told)
    return dict(found[0])


def wait_for_check(proxy: Pghold, name: str, state: str, timeout_s: float = 15) -> dict[str, Any]:
    wait_for(lambda: health(proxy)["checked_at"] and check(proxy, name)["state"] == state, timeout_s)
    return check(proxy, name)


def rounds(proxy: Pghold, count: int = 2) -> None:
    """Wait until so many more were made."""
    for _ in range(count):
        before = health(proxy)["checked_at"]
        wait_for(lambda before=before: health(proxy)["checked_at"] != before, 30)


def ident(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[PostgresServer]:
    made = PostgresServer(folder / "health", embedded_bindir())
    yield made
    made.stop()


def begin(server: PostgresServer, **environment: str) -> Pghold:
    made = Pghold(
        f"postgresql://127.0.0.1:{server.port}/postgres",
        environment={
            "PGHOLD_HEALTH_INTERVAL_S": "0.5",
            "PGHOLD_SCHEMA_HISTORY": "false",
            "PGHOLD_CONTROL": f"postgresql://postgres@127.0.0.1:{server.port}/postgres",
            **environment,
        },
    )
    wait_for(lambda: health(made)["checked_at"] is not None, 15)
    return made


@pytest.fixture(scope="module")
def proxy(server: PostgresServer) -> Iterator[Pghold]:
    made = begin(server)
    yield made
    assert made.stop() == 0


def test_all_is_looked_at_and_told_everywhere(proxy: Pghold) -> None:
    told = health(proxy)
    states = {c["id"]: c["state"] for c in told["checks"]}
    assert {"server", "replication", "databases", "tables", "critical-tables", "clock", "bypass", "audit", "backups", "disk"} <= set(states)
    assert {states[i] for i in ("server", "replication", "databases", "tables", "critical-tables", "clock", "bypass", "audit")} == {"ok"}
    ready = proxy.http.get("/readyz").json()
    assert ready["ready"]
    assert {c["id"] for c in ready["checks"]} == set(states)
    assert all(set(c) == {"id", "state", "since"} for c in ready["checks"]), "no names for those who show no token"
    for name in ("pghold_server_connect_seconds", "pghold_server_clock_offset_seconds", "pghold_bypass_sessions", "pghold_server_tables"):
        assert f"\n{name}" in proxy.http.get("/metrics").text
    with psycopg.connect(host="127.0.0.1", port=proxy.port, user="operator", password=proxy.token, dbname="pghold", autocommit=True) as c:
        rows = c.execute("SHOW HEALTH").fetchall()
    assert {r[0] for r in rows} >= set(states)


@pytest.mark.parametrize("name", ["plain_one", HOSTILE])
def test_a_table_that_vanishes_past_the_proxy_is_an_alarm_until_accepted(proxy: Pghold, server: PostgresServer, name: str) -> None:
    server.sql(f"CREATE TABLE {ident(name)} ()")
    rounds(proxy)
    server.sql(f"DROP TABLE {ident(name)}")
    assert name in wait_for_check(proxy, "tables", "fail")["text"]
    entry = next(e for e in reversed(proxy.audit()) if e["event"] == "health")
    assert (entry["detail"]["check"], entry["detail"]["state"], entry["outcome"]) == ("tables", "fail", "fail")
    assert proxy.http.get("/readyz").status_code == 200, "a missing table is no reason to take the proxy away"
    # It is not forgotten by a restart.
    assert proxy.stop() == 0
    proxy.start()
    wait_for_check(proxy, "tables", "fail")
    assert proxy.http.post("/api/v1/health/accept").json() == {"accepted": 1}
    wait_for_check(proxy, "tables", "ok")


def test_a_table_dropped_while_the_proxy_was_away_is_missed(proxy: Pghold, server: PostgresServer) -> None:
    server.sql("CREATE TABLE while_away ()")
    rounds(proxy)
    assert proxy.stop() == 0
    server.sql("DROP TABLE while_away")
    proxy.start()
    assert "public.while_away" in wait_for_check(proxy, "tables", "fail")["text"]
    server.sql("CREATE TABLE while_away ()")
    wait_for_check(proxy, "tables", "ok")
    server.sql("DROP TABLE while_away")
    wait_for_check(proxy, "tables", "fail")
    proxy.http.post("/api/v1/health/accept")


def test_what_was_approved_renamed_or_allowed_is_no_alarm(proxy: Pghold, server: PostgresServer) -> None:
    server.sql('CREATE SCHEMA IF NOT EXISTS "gone soon"; CREATE TABLE "gone soon".a (); CREATE TABLE "gone soon".b ()')
    server.sql("CREATE TABLE parted (id int) PARTITION BY LIST (id); CREATE TABLE part1 PARTITION OF parted FOR VALUES IN (1)")
    server.sql("CREATE TABLE named_before ()")
    rounds(proxy)
    for script in ('DROP SCHEMA "gone soon" CASCADE', "DROP TABLE parted"):
        client = Client(proxy, script)
        proxy.approve(proxy.wait_for_hold()["id"])
        client.join(10)
        assert client.error is None
    server.sql("ALTER TABLE named_before RENAME TO named_after")
    with proxy.connect() as connection:
        connection.execute("CREATE TABLE made_and_dropped ()")
        rounds(proxy)
        with connection.transaction():
            connection.execute("CREATE TABLE other ()")
    rounds(proxy)
    assert check(proxy, "tables")["state"] == "ok", check(proxy, "tables")


def test_a_code_block_excuses_what_vanishes_at_once_and_nothing_later(proxy: Pghold, server: PostgresServer) -> None:
    server.sql("CREATE TABLE excused (); CREATE TABLE later ()")
    rounds(proxy)
    client = Client(proxy, "DO $$ BEGIN EXECUTE 'DROP TABLE excused'; END $$")
    proxy.approve(proxy.wait_for_hold()["id"])
    client.join(10)
    rounds(proxy)
    assert check(proxy, "tables")["state"] == "ok"
    time.sleep(4.5)  # twice the interval, and what is waited for after DDL
    server.sql("DROP TABLE later")
    assert "public.later" in wait_for_check(proxy, "tables", "fail")["text"]
    proxy.http.post("/api/v1/health/accept")
    wait_for_check(proxy, "tables", "ok")


def test_an_approval_does_not_excuse_a_later_drop_of_the_same_name(proxy: Pghold, server: PostgresServer) -> None:
    server.sql("CREATE TABLE twice ()")
    rounds(proxy)
    client = Client(proxy, "DROP TABLE twice")
    proxy.approve(proxy.wait_for_hold()["id"])
    client.join(10)
    server.sql("CREATE TABLE twice ()")
    rounds(proxy)
    assert check(proxy, "tables")["state"] == "ok"
    server.sql("DROP TABLE twice")
    assert "public.twice" in wait_for_check(proxy, "tables", "fail")["text"]
    proxy.http.post("/api/v1/health/accept")


def test_a_table_made_anew_and_a_database_gone_are_alarms(proxy: Pghold, server: PostgresServer) -> None:
    server.sql("CREATE TABLE remade ()")
    server.sql('CREATE DATABASE "other ""db"""')
    rounds(proxy)
    server.sql("DROP TABLE remade; CREATE TABLE remade ()")
    server.sql('DROP DATABASE "other ""db"""')
    assert "public.remade (made anew)" in wait_for_check(proxy, "tables", "fail")["text"]
    assert 'other "db"' in wait_for_check(proxy, "databases", "fail")["text"]
    assert proxy.http.post("/api/v1/health/accept").json() == {"accepted": 2}
    wait_for_check(proxy, "databases", "ok")


def test_critical_tables_must_be_there_and_not_empty(server: PostgresServer) -> None:
    server.sql(f"CREATE TABLE IF NOT EXISTS {ident(HOSTILE)} AS SELECT 1 AS id")
    server.sql("CREATE DATABASE second")
    named = ["public." + ident(HOSTILE), 'second."public"."money.box"']
    proxy = begin(server, PGHOLD_CRITICAL_TABLES=json.dumps(named))
    try:
        assert "second.public.money.box is not there" in wait_for_check(proxy, "critical-tables", "fail")["text"]
        server.sql('CREATE TABLE "money.box" (id int)', "second")
        wait_for(lambda: "money.box is empty" in check(proxy, "critical-tables")["text"], 10)
        server.sql('INSERT INTO "money.box" VALUES (1)', "second")
        wait_for_check(proxy, "critical-tables", "ok")
        with server.connect() as connection, connection.transaction():
            connection.execute(f"LOCK TABLE {ident(HOSTILE)} IN ACCESS EXCLUSIVE MODE")  # type: ignore[call-overload]
            assert "lock timeout" in wait_for_check(proxy, "critical-tables", "unknown")["text"]
        wait_for_check(proxy, "critical-tables", "ok")
    finally:
        assert proxy.stop() == 0
        server.sql("DROP DATABASE second WITH (FORCE)")
        server.sql(f"DROP TABLE {ident(HOSTILE)}")


def test_without_rights_what_cannot_be_seen_is_unknown_never_ok(server: PostgresServer) -> None:
    server.sql("CREATE ROLE poor LOGIN; CREATE TABLE secret AS SELECT 1 AS id")
    control = f"postgresql://poor@127.0.0.1:{server.port}/postgres"
    proxy = begin(server, PGHOLD_CONTROL=control, PGHOLD_CRITICAL_TABLES='["public.secret"]')
    try:
        for name in ("replication", "bypass", "critical-tables", "access-addresses"):
            found = wait_for_check(proxy, name, "unknown")
            assert "GRANT" in found["fix"], found
        server.sql("GRANT pg_monitor TO poor")
        wait_for_check(proxy, "bypass", "ok")
        wait_for_check(proxy, "replication", "ok")
        assert "\npghold_bypass_sessions 0.0" in proxy.http.get("/metrics").text
    finally:
        assert proxy.stop() == 0
        server.sql("DROP TABLE secret; DROP ROLE poor")


def test_an_older_server_is_looked_at_in_the_same_way(folder: Path) -> None:
    server = PostgresServer(folder / "health15", debian_bindir())
    proxy = begin(server, PGHOLD_CRITICAL_TABLES='["public.kept"]')
    try:
        server.sql("CREATE TABLE kept AS SELECT 1 AS id; CREATE TABLE lost ()")
        wait_for_check(proxy, "critical-tables", "ok")
        for name in ("server", "replication", "databases", "clock", "bypass"):
            assert check(proxy, name)["state"] == "ok"
        assert "pg_hba.conf" in check(proxy, "access-addresses")["text"]
        server.sql("DROP TABLE lost")
        wait_for_check(proxy, "tables", "fail")
    finally:
        assert proxy.stop() == 0
        server.stop()


def test_a_server_that_hangs_or_is_gone_fails_the_check_and_hangs_nothing(folder: Path) -> None:
    server = PostgresServer(folder / "hangs", embedded_bindir())
    proxy = begin(server, PGHOLD_CONNECT_TIMEOUT_S="2")
    try:
        wait_for_check(proxy, "server", "ok")
        processes = [server._process.pid, *children(server._process.pid)]
        for pid in processes:
            os.kill(pid, signal.SIGSTOP)
        try:
            wait_for_check(proxy, "server", "fail", 30)
            assert check(proxy, "tables")["state"] == "unknown"
            began = time.monotonic()
            for _ in range(20):
                assert proxy.http.get("/api/v1/holds").status_code == 200
            assert time.monotonic() - began < 2
            time.sleep(5)
            assert connections_to(proxy.process.pid, server.port) <= 3, "checks pile up"
        finally:
            for pid in processes:
                os.kill(pid, signal.SIGCONT)
        wait_for_check(proxy, "server", "ok", 30)
        server.stop()
        wait_for_check(proxy, "server", "fail", 20)
        server.start()
        wait_for_check(proxy, "server", "ok", 20)
        assert check(proxy, "tables")["state"] == "ok"
    finally:
        assert proxy.stop() == 0
        server.stop()


def children(pid: int) -> list[int]:
    return [int(x) for x in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def connections_to(pid: int, port: int) -> int:
    """Established TCP connections of a process to that port."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(link)
        except OSError:
            continue
        inodes |= {target[8:-1]} if target.startswith("socket:[") else set()
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(1 for x in lines if x[9] in inodes and x[2].endswith(f":{port:04X}") and x[3] == "01")
