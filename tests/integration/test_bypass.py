"""Sessions past the proxy, and what lets them in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.integration.test_health import begin, check, health, ident, rounds, wait_for_check
from tests.servers import Pghold, PostgresServer, embedded_bindir, wait_for
from tests.sinks import HttpSink

HBA = (
    "host all watcher 0.0.0.0/0 trust\nhost replication all 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 trust\n"
    "host all all 10.0.0.0/8 scram-sha-256\n"
)
ROLE = 'the "app" röle'


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[PostgresServer]:
    made = PostgresServer(folder / "bypass", embedded_bindir(), hba=HBA)
    made.sql(f"CREATE ROLE {ident(ROLE)} LOGIN; CREATE ROLE watcher LOGIN BYPASSRLS; CREATE ROLE boss LOGIN SUPERUSER")
    made.sql(f"CREATE ROLE files LOGIN; GRANT pg_write_server_files TO files; GRANT CREATE ON SCHEMA public TO {ident(ROLE)}")
    yield made
    made.stop()


@pytest.fixture
def proxy(server: PostgresServer, http: HttpSink, tmp_path: Path) -> Iterator[Pghold]:
    file = tmp_path / "pghold.toml"
    file.write_text(
        f'bypass_allowed_roles = ["watch*"]\n[[notifications]]\nname = "ops"\nwebhook = "{http.url}/"\nsecret = "0123456789abcdef"\n'
        'events = "health.*"\ndigest_s = 0\n'
    )
    made = begin(server, PGHOLD_POLICY=str(file))
    yield made
    assert made.stop() == 0


def direct(server: PostgresServer, **options: Any) -> psycopg.Connection[Any]:
    return psycopg.connect(host="127.0.0.1", port=server.port, dbname="postgres", autocommit=True, **options)


def test_who_is_past_the_proxy_is_told_once_and_who_may_or_came_through_is_not(
    proxy: Pghold, server: PostgresServer, http: HttpSink
) -> None:
    with (
        proxy.connect(user=ROLE, application_name="through"),
        direct(server, user="watcher"),
        # Whoever takes pghold's name is not pghold for that.
        direct(server, user=ROLE, application_name="pghold") as intruder,
    ):
        rounds(proxy, 3)
        assert health(proxy)["bypass"] == [], "those that began a moment ago may be logging in through the proxy"
        wait_for_check(proxy, "bypass", "fail", 20)
        found = health(proxy)["bypass"]
        assert [b["pid"] for b in found] == [intruder.info.backend_pid]
        assert (found[0]["role"], found[0]["client_addr"], found[0]["application_name"]) == (ROLE, "127.0.0.1", "pghold")
        assert proxy.metric("pghold_bypass_sessions") == 1
        rounds(proxy, 3)
        told = [r.json for r in http.received if r.json["event"] == "health.bypass"]
        assert len(told) == 1
        assert told[0]["sessions"][0]["role"] == ROLE
    wait_for_check(proxy, "bypass", "ok")
    assert any(e["event"] == "health" and e["detail"]["check"] == "bypass" and e["outcome"] == "ok" for e in proxy.audit())


def test_what_lets_people_past_is_listed_with_what_to_do(proxy: Pghold, server: PostgresServer) -> None:
    wait_for(lambda: health(proxy)["access"], 10)
    doors = check(proxy, "access-addresses")
    assert doors["state"] == "warn"
    assert "10.0.0.0" in doors["text"]
    assert "watcher" not in doors["text"]
    lines = [line for line in doors["fix"].splitlines() if not line.startswith("#")]
    assert lines == ["host all all 127.0.0.1/32 trust", "host all all all reject"]
    assert "boss" in check(proxy, "access-superusers")["text"]
    assert 'ALTER ROLE "boss" NOSUPERUSER;' in check(proxy, "access-superusers")["fix"]
    powers = check(proxy, "access-powers")
    assert "files (pg_write_server_files)" in powers["text"]
    assert 'ALTER ROLE "watcher" NOBYPASSRLS;' in powers["fix"]


def test_the_lines_that_are_advised_close_the_doors_and_leave_the_proxys_open(proxy: Pghold, server: PostgresServer) -> None:
    wait_for(lambda: health(proxy)["access"], 10)
    lines = check(proxy, "access-addresses")["fix"].splitlines()
    hba = server.folder / "data/pg_hba.conf"
    before = hba.read_text()
    number = int(lines[0].split("line ")[1].split(" ")[0])
    kept = before.splitlines()
    try:
        hba.write_text("\n".join([*kept[: number - 1], *lines, *kept[number - 1 :]]) + "\n")
        server.sql("SELECT pg_reload_conf()")
        wait_for(lambda: server.sql("SELECT count(*) FROM pg_hba_file_rules WHERE auth_method = 'reject'")[0][0] == 1, 10)
        assert server.sql("SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL") == [(0,)]
        with proxy.connect() as connection:
            connection.execute("SELECT 1")
        with direct(server, user="watcher") as connection:
            connection.execute("SELECT 1")
        assert proxy.stop() == 0
        proxy.start()
        wait_for(lambda: health(proxy)["access"], 10)
        assert check(proxy, "access-addresses")["state"] == "ok"
    finally:
        hba.write_text(before)
        server.sql("SELECT pg_reload_conf()")


def test_owners_that_come_through_are_told_how_to_give_their_tables_away(proxy: Pghold, server: PostgresServer) -> None:
    server.sql(f"CREATE TABLE theirs (); ALTER TABLE theirs OWNER TO {ident(ROLE)}")
    with proxy.connect(user=ROLE) as connection:
        owners = wait_for_check(proxy, "access-owners", "warn")
        server.sql("\n".join(line for line in owners["fix"].splitlines() if not line.startswith("#")))
        assert server.sql("SELECT tableowner FROM pg_tables WHERE tablename = 'theirs'") == [(f"{ROLE}_owner",)]
        connection.execute("SELECT FROM theirs")
        with direct(server, user=ROLE) as past, pytest.raises(psycopg.errors.InsufficientPrivilege):
            past.execute("DROP TABLE theirs")
