"""Undo and soft drop through the proxy as a process: HTTP, psql, the command line, and a proxy that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.browsing import Browser, Client
from tests.servers import Pghold, PostgresServer, wait_for


@pytest.fixture(scope="module")
def proxy(postgres18: PostgresServer, folder: Path) -> Iterator[Pghold]:
    policy = folder / "undo.toml"
    policy.write_text('[[policy.rules]]\nrules = "null-test-where"\naction = "hold"\n')
    url = f"postgresql://postgres@127.0.0.1:{postgres18.port}/postgres"
    made = Pghold(url, "--policy", str(policy), backups=True, environment={"PGHOLD_SOFT_DROP": "true"})
    yield made
    made.stop()


def settled(proxy: Pghold, hold_id: int, *states: str) -> dict[str, Any]:
    """As Pghold.wait_for_state; a copy that is proven first takes its time on a busy machine."""
    wait_for(lambda: proxy.hold(hold_id)["state"] in states, 45)
    return proxy.hold(hold_id)


def pghold(proxy: Pghold, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PGHOLD_CONSOLE": proxy.console, "PGHOLD_TOKEN": proxy.token}
    return subprocess.run([sys.executable, "-m", "proxy", *arguments], env=environment, capture_output=True, text=True, timeout=60)


def dropped(proxy: Pghold, server: PostgresServer, name: str) -> int:
    """Drop a table through the proxy, softly; return the hold's id."""
    server.sql(f"DROP TABLE IF EXISTS {name}; CREATE TABLE {name} AS SELECT g AS id FROM generate_series(1, 5) g")
    client = Client(proxy, f"DROP TABLE {name}")
    hold = int(proxy.wait_for_hold()["id"])
    assert proxy.approve(hold).status_code == 200
    assert settled(proxy, hold, "done", "failed", "denied")["state"] == "done", proxy.log.read_text()[-3000:]
    del client
    assert server.sql(f"SELECT to_regclass('{name}')") == [(None,)]
    wait_for(lambda: [i["state"] for i in proxy.http.get("/api/v1/trash").json() if i["hold_id"] == hold] == ["kept"], 10)
    return hold


def test_from_the_drop_to_the_table_back_by_http(proxy: Pghold, postgres18: PostgresServer) -> None:
    hold = dropped(proxy, postgres18, "back_by_http")
    report = proxy.http.get(f"/api/v1/holds/{hold}/undo").json()
    assert report["conflicts"] == []
    assert report["kind"] == "trash"
    undo = proxy.http.post(f"/api/v1/holds/{hold}/undo", json={"reason": "oops"}).json()
    assert undo["rule_ids"] == ["undo"]
    assert undo["client_addr"].startswith("127.0.0.1:")
    assert postgres18.sql("SELECT to_regclass('back_by_http')") == [(None,)]
    # Who asked may approve.
    assert proxy.approve(undo["id"]).status_code == 200
    assert settled(proxy, undo["id"], "done", "failed")["state"] == "done"
    assert postgres18.sql("SELECT count(*) FROM back_by_http") == [(5,)]
    assert proxy.http.post(f"/api/v1/holds/{hold}/undo", json={"reason": "again"}).status_code == 409


def test_by_psql_and_the_command_line(proxy: Pghold, postgres18: PostgresServer) -> None:
    hold = dropped(proxy, postgres18, "back_by_psql")
    with psycopg.connect(
        host="127.0.0.1", port=proxy.port, user="operator", password=proxy.token, dbname="pghold", autocommit=True
    ) as console:
        [row] = console.execute("SHOW TRASH").fetchall()
        assert row[1] == str(hold)
        [(undo, state, _)] = console.execute(f"UNDO {hold} 'oops'").fetchall()  # type: ignore[call-overload]
        assert state == "pending"
        with pytest.raises(psycopg.errors.lookup("22023")):
            console.execute(f"UNDO {hold} 'oops' CONFLICTS 'pray'")  # type: ignore[call-overload]
    proxy.deny(int(undo))

    told = pghold(proxy, "undo", str(hold), "--dry-run")
    assert told.returncode == 0, told.stderr
    assert "back_by_psql" in told.stdout or "moves 1 table back" in told.stdout
    listed = pghold(proxy, "trash", "list", "--json")
    item = json.loads(listed.stdout.splitlines()[0])
    assert item["tables"] == ["public.back_by_psql"]
    assert "back_by_psql" in pghold(proxy, "trash", "list").stdout

    environment = {**os.environ, "PGHOLD_CONSOLE": proxy.console, "PGHOLD_TOKEN": proxy.token}
    waiting = subprocess.Popen(
        [sys.executable, "-m", "proxy", "undo", str(hold), "--reason", "oops", "--wait"], env=environment, stdout=subprocess.PIPE, text=True
    )
    proxy.approve(proxy.wait_for_hold()["id"])
    out, _ = waiting.communicate(timeout=30)
    assert waiting.returncode == 0
    assert "is done: 1 table moved back" in out
    assert postgres18.sql("SELECT count(*) FROM back_by_psql") == [(5,)]
    assert pghold(proxy, "undo", str(hold)).returncode == 4
    assert pghold(proxy, "undo", "99999").returncode == 1


def test_a_purge_by_the_command_line_takes_the_name_of_what_is_lost(proxy: Pghold, postgres18: PostgresServer) -> None:
    hold = dropped(proxy, postgres18, "purged")
    [item] = [i for i in proxy.http.get("/api/v1/trash").json() if i["hold_id"] == hold]
    asked = pghold(proxy, "trash", "purge", str(item["id"]), "--reason", "space", "--json")
    assert asked.returncode == 0, asked.stderr
    purge = json.loads(asked.stdout)
    review = proxy.http.get(f"/api/v1/holds/{purge['id']}/review").json()
    assert review["names_to_type"] == [f'"{item["schema"]}"."purged"']
    proxy.approve(purge["id"])
    ended = settled(proxy, purge["id"], "done", "failed", "denied")
    assert ended["state"] == "done", ended["outcome"]
    assert postgres18.sql(f"SELECT count(*) FROM pg_namespace WHERE nspname = '{item['schema']}'") == [(0,)]


def test_a_proxy_that_is_killed_leaves_the_table_in_the_trash(proxy: Pghold, postgres18: PostgresServer) -> None:
    hold = dropped(proxy, postgres18, "killed")
    undo = proxy.http.post(f"/api/v1/holds/{hold}/undo", json={}).json()["id"]
    proxy.stop(signal.SIGKILL)
    proxy.start()
    assert proxy.hold(undo)["state"] == "abandoned"
    assert postgres18.sql("SELECT to_regclass('killed')") == [(None,)]
    again = proxy.http.post(f"/api/v1/holds/{hold}/undo", json={}).json()["id"]
    proxy.approve(again)
    assert settled(proxy, again, "done", "failed")["state"] == "done"
    assert postgres18.sql("SELECT count(*) FROM killed") == [(5,)]


def test_on_the_page_of_the_hold(proxy: Pghold, postgres18: PostgresServer) -> None:
    hold = dropped(proxy, postgres18, "back_by_page")
    browser = Browser(proxy)
    page = browser.get(f"/holds/{hold}").text
    assert f'action="/holds/{hold}/undo"' in page
    asked = browser.post(f"/holds/{hold}/undo", reason="oops", conflicts="abort")
    undo = int(asked.headers["location"].rpartition("/")[2])
    page = browser.get(f"/holds/{undo}").text
    assert "ALTER TABLE" in page
    assert "back_by_page" in page
    assert browser.get("/rules/undo").status_code == 200
    assert browser.get("/holds").status_code == 200
    # In the way: said on the page, and nothing is asked for.
    postgres18.sql("CREATE TABLE back_by_page (id int)")
    refused = browser.post(f"/holds/{hold}/undo", reason="oops", conflicts="abort")
    assert refused.status_code == 409
    assert "again" in refused.text
    postgres18.sql("DROP TABLE back_by_page")
    proxy.approve(undo)
    assert settled(proxy, undo, "done", "failed")["state"] == "done"
    assert f'action="/holds/{hold}/undo"' not in browser.get(f"/holds/{hold}").text


def changed(proxy: Pghold, script: str) -> int:
    """Run a script through the proxy, approved; return the hold's id."""
    client = Client(proxy, script)
    hold = int(proxy.wait_for_hold()["id"])
    assert proxy.approve(hold).status_code == 200
    ended = settled(proxy, hold, "done", "failed", "denied")
    assert ended["state"] == "done", (ended["outcome"], proxy.log.read_text()[-3000:])
    assert ended["backup"]["kind"] == "rows", ended["backup"]
    del client
    return hold


def undone(proxy: Pghold, hold: int, **more: str) -> dict[str, Any]:
    answer = proxy.http.post(f"/api/v1/holds/{hold}/undo", json={"reason": "oops", **more})
    assert answer.status_code == 200, answer.text
    undo = answer.json()["id"]
    assert proxy.approve(undo).status_code == 200
    ended = settled(proxy, undo, "done", "failed", "denied")
    assert ended["state"] == "done", ended["outcome"]
    return ended


@pytest.mark.parametrize(
    "script",
    [
        'DELETE FROM "it\'s mine" WHERE id IS NOT NULL',
        'UPDATE "it\'s mine" SET "späce é" = NULL, at = now() WHERE id IS NOT NULL',
    ],
    ids=["delete", "update"],
)
def test_rows_from_the_statement_to_the_undo_and_its_undo(proxy: Pghold, postgres18: PostgresServer, script: str) -> None:
    postgres18.sql(
        """DROP TABLE IF EXISTS "it's mine";
        CREATE TABLE "it's mine" (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "späce é" text, at timestamptz, twice int GENERATED ALWAYS AS (3) STORED);
        INSERT INTO "it's mine" ("späce é", at) SELECT E'a\\tb\\n\\\\' || g, '2026-01-01 12:00:00.123456+02' FROM generate_series(1, 20) g"""
    )
    rows = """SELECT md5(string_agg(t::text, '|' ORDER BY id)) FROM "it's mine" t"""
    before = postgres18.sql(rows)
    hold = changed(proxy, script)
    after = postgres18.sql(rows)
    assert after != before
    undo = undone(proxy, hold)
    assert postgres18.sql(rows) == before
    if script.startswith("UPDATE"):
        assert undo["outcome"] == "20 rows set back"
        assert undo["backup"]["state"] == "done"
        undone(proxy, undo["id"])
        assert postgres18.sql(rows) == after
