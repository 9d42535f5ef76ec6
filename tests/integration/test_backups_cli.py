"""Copies as operators meet them: the command line, HTTP, psql, pages, notifications; on a real proxy over a real server."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.browsing import Browser, Client
from tests.servers import Pghold, PostgresServer, wait_for
from tests.sinks import HttpSink

PHRASE = "YES I UNDERSTAND THE RISKS"
DATABASE = "ke\"ep <b>ing'"


@pytest.fixture(scope="module")
def sink() -> Iterator[HttpSink]:
    made = HttpSink()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def proxy(postgres18: PostgresServer, folder: Path, sink: HttpSink) -> Iterator[Pghold]:
    quoted = '"' + DATABASE.replace('"', '""') + '"'
    postgres18.sql(f"DROP DATABASE IF EXISTS {quoted} WITH (FORCE)")
    postgres18.sql(f"CREATE DATABASE {quoted}")
    postgres18.sql("DROP DATABASE IF EXISTS kept WITH (FORCE)")
    postgres18.sql("CREATE DATABASE kept")
    postgres18.sql("CREATE TABLE a AS SELECT g AS id FROM generate_series(1, 500) g; CREATE TABLE b AS SELECT 1 AS one", DATABASE)
    postgres18.sql("CREATE TABLE a AS SELECT g AS id FROM generate_series(1, 500) g; CREATE TABLE b AS SELECT 1 AS one", "kept")
    policy = folder / "keeping.toml"
    policy.write_text(
        f'[[notifications]]\nname = "ops"\nwebhook = "{sink.url}"\nsecret = "0123456789abcdef0123456789abcdef"\ndigest_s = 0\n'
    )
    made = Pghold(
        f"postgresql://postgres@127.0.0.1:{postgres18.port}/kept", "--policy", str(policy), backups=True,
        environment={"PGHOLD_BACKUP_MIN_FREE_BYTES": "0", "PGHOLD_BACKUP_SCHEDULE": "0 0 1 1 *"},
    )  # fmt: skip
    yield made
    Browser.close_all()
    assert made.stop() == 0


def cli(proxy: Pghold, *arguments: str, token: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PGHOLD_CONSOLE": proxy.console, "PGHOLD_TOKEN": token or proxy.token, "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "proxy", *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_before_there_is_any_the_list_says_what_will_be(proxy: Pghold) -> None:
    said = cli(proxy, "backups")
    assert said.returncode == 0, said.stderr
    assert "There are no copies yet" in said.stdout
    assert lines(cli(proxy, "backups", "--json")) == []
    assert cli(proxy, "backups", "show", "1").returncode == 1
    assert "Nothing is past its limits." in cli(proxy, "backups", "prune").stdout


@pytest.mark.parametrize("database", ["kept", DATABASE])
def test_one_is_taken_now_and_proven_whatever_the_name(proxy: Pghold, database: str) -> None:
    (taken,) = lines(cli(proxy, "backups", "take", database, "--json"))
    assert (taken["database"], taken["kind"], taken["state"], taken["proof"]) == (database, "full", "done", "equal")
    assert taken["what"].startswith("2 tables, 501 rows, ")
    shown = json.loads(cli(proxy, "backups", "show", str(taken["id"]), "--json").stdout)
    assert {t["name"]: t["rows"] for t in shown["tables"]} == {'"public"."a"': 500, '"public"."b"': 1}
    assert shown["manifest"]["database"] == database
    assert {f["name"] for f in shown["manifest"]["files"]} == {"archive.dump", "globals.sql"}
    card = cli(proxy, "backups", "show", str(taken["id"])).stdout
    assert "restored, 2 tables, 501 rows, equal" in card
    assert "globals.sql" in card
    listed = [b["id"] for b in lines(cli(proxy, "backups", "list", "--database", database, "--json"))]
    assert listed == [taken["id"]]
    assert "No copy fits." in cli(proxy, "backups", "--database", "another").stdout
    told = [e for e in proxy.audit() if e["event"] == "backup taken" and e["detail"]["backup"] == taken["id"]]
    assert [e["operator"] for e in told] == ["operator"]


def test_one_that_fails_says_why_and_is_an_alarm(proxy: Pghold, sink: HttpSink) -> None:
    failed = cli(proxy, "backups", "take", "not there")
    assert failed.returncode == 1
    assert 'database "not there" does not exist' in failed.stdout
    wait_for(lambda: any(m["event"] == "backup.failed" for m in bodies(sink)), 10)
    ready = proxy.http.get("/readyz")
    assert ready.status_code == 200, "what is wrong with copies is no reason to send no clients"
    assert any("not there" in w for w in ready.json()["warnings"])
    assert "not there" in cli(proxy, "backups").stdout
    assert proxy.metric("pghold_full_copies_total") >= 1


def bodies(sink: HttpSink) -> list[dict[str, Any]]:
    return [r.json for r in list(sink.received)]


def destroy(proxy: Pghold, postgres18: PostgresServer, statement: str, **answer: Any) -> dict[str, Any]:
    """Approved, and run."""
    client = Client(proxy, statement, dbname="kept")
    wait_for(lambda: bool(proxy.holds()), 10)
    hold = proxy.holds()[0]
    approved = proxy.http.post(f"/api/v1/holds/{hold['id']}/approve", json={"phrase": PHRASE, "reason": "tested", **answer})
    assert approved.status_code == 200, approved.text
    client.join(30)
    assert client.error is None, client.error
    return proxy.wait_for_state(hold["id"], "done")


def test_a_hold_tells_of_its_copy_wherever_it_is_shown(proxy: Pghold, postgres18: PostgresServer, sink: HttpSink) -> None:
    postgres18.sql('CREATE TABLE IF NOT EXISTS "Doomed" AS SELECT g AS id FROM generate_series(1, 41) g', "kept")
    client = Client(proxy, 'DROP TABLE "Doomed"', dbname="kept")
    wait_for(lambda: bool(proxy.holds()), 10)
    waiting = proxy.holds()[0]["id"]
    # Before the decision: whether there will be one.
    assert proxy.hold(waiting)["backup_outlook"]["state"] == "copy"
    assert "made before it runs" in cli(proxy, "show", str(waiting)).stdout
    browser = Browser(proxy)
    assert "Backup: made before it runs" in browser.http.get(f"/holds/{waiting}").text
    proxy.http.post(f"/api/v1/holds/{waiting}/approve", json={"phrase": PHRASE, "reason": "tested", "object_name": "Doomed"})
    client.join(30)
    hold = proxy.wait_for_state(waiting, "done")
    copy = hold["backup"]
    assert copy["state"] == "done"
    assert "41 rows" in copy["text"]
    assert "equal" in copy["text"]
    text = cli(proxy, "show", str(waiting)).stdout
    assert copy["text"] in text
    assert f"pghold restore {waiting}" in text
    assert re.search(rf"(?m)^{waiting} .*\b{copy['backup_id']}\b", cli(proxy, "holds", "--all").stdout)
    page = browser.http.get(f"/holds/{waiting}").text
    assert f'href="/backups/{copy["backup_id"]}"' in page
    assert f"pghold restore {waiting}" in page
    with console(proxy) as connection:
        fields = dict(connection.execute(f"SHOW HOLD {waiting}").fetchall())  # type: ignore[call-overload]
        assert fields["backup"] == copy["text"]
    wait_for(lambda: any(m["event"] == "hold.protected" for m in bodies(sink)), 10)
    (told,) = [m for m in bodies(sink) if m["event"] == "hold.protected"]
    assert "41 rows" in json.dumps(told)
    listed = lines(cli(proxy, "backups", "--hold", str(waiting), "--json"))
    assert [b["id"] for b in listed] == [copy["backup_id"]]
    assert "outlook" not in json.dumps(proxy.hold(waiting)["backup_outlook"])


def test_what_was_approved_without_a_backup_says_so_loudly(proxy: Pghold, postgres18: PostgresServer, sink: HttpSink) -> None:
    postgres18.sql("CREATE TABLE IF NOT EXISTS unloved ()", "kept")
    client = Client(proxy, "DROP TABLE unloved", dbname="kept")
    wait_for(lambda: bool(proxy.holds()), 10)
    hold = proxy.holds()[0]["id"]
    done = cli(proxy, "approve", str(hold), "--phrase", PHRASE, "--reason", "empty", "--object", "unloved", "--without-backup")
    assert done.returncode == 0, done.stderr
    client.join(10)
    proxy.wait_for_state(hold, "done")
    assert "approved WITHOUT A BACKUP by operator" in cli(proxy, "show", str(hold)).stdout
    assert "WITHOUT" in cli(proxy, "holds", "--all").stdout
    assert "WITHOUT A BACKUP" in Browser(proxy).http.get(f"/holds/{hold}").text
    wait_for(lambda: any("WITHOUT A BACKUP" in json.dumps(m) for m in bodies(sink)), 10)
    assert "what is lost then is lost" in " ".join(cli(proxy, "approve", "--help").stdout.split())


def console(proxy: Pghold) -> psycopg.Connection[Any]:
    return psycopg.connect(host="127.0.0.1", port=proxy.port, user="operator", password=proxy.token, dbname="pghold", autocommit=True)


def test_psql_lists_and_shows_them(proxy: Pghold) -> None:
    with console(proxy) as connection:
        cursor = connection.execute("SHOW BACKUPS")
        names = [c.name for c in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        assert rows == sorted(rows, key=lambda r: int(r["id"]))
        taken = next(r for r in rows if r["kind"] == "full" and r["state"] == "done")
        fields = dict(connection.execute(f"SHOW BACKUP {taken['id']}").fetchall())  # type: ignore[call-overload]
        assert fields["table 1"] == '"public"."a": 500 rows'
        with pytest.raises(psycopg.errors.UndefinedObject, match="backup 999999 does not exist"):
            connection.execute("SHOW BACKUP 999999")


def test_only_an_admin_takes_and_prunes(proxy: Pghold) -> None:
    found = re.search(r'id="secret">([^<]+)<', Browser(proxy).post("/people/add", name="keeper-approver", role="approver").text)
    assert found is not None
    for command in (("take", "kept"), ("prune",)):
        refused = cli(proxy, "backups", *command, token=found[1])
        assert refused.returncode == 4
        assert "it takes an admin" in refused.stderr
    assert cli(proxy, "backups", token=found[1]).returncode == 0


def test_the_pages_escape_what_comes_from_a_database(proxy: Pghold) -> None:
    browser = Browser(proxy)
    text = browser.http.get("/backups").text
    assert "<b>ing" not in text
    assert "&lt;b&gt;ing" in text
    full = next(b for b in proxy.http.get("/api/v1/backups").json() if b["database"] == DATABASE)
    page = browser.http.get(f"/backups/{full['id']}").text
    assert "<b>ing" not in page
    assert "archive.dump" in page
    assert browser.http.get("/backups/999999").status_code == 404
    assert browser.http.get("/backups?kind=nonsense&state=nonsense").status_code == 200


def test_a_page_takes_one_and_proves_one_again(proxy: Pghold) -> None:
    browser = Browser(proxy)
    before = proxy.http.get("/api/v1/backups").json()[0]["id"]
    assert browser.post("/backups/take", database="kept").status_code == 303
    wait_for(lambda: (b := proxy.http.get("/api/v1/backups").json()[0])["id"] > before and b["proof"] == "equal", 30)
    taken = proxy.http.get("/api/v1/backups").json()[0]
    wait_for(lambda: browser.post(f"/backups/{taken['id']}/verify").status_code == 303, 10)
    again = lambda: proxy.http.get(f"/api/v1/backups/{taken['id']}").json()  # noqa: E731
    wait_for(lambda: again()["proof"] == "equal" and again()["proved_at"] != taken["proved_at"], 30)


def test_files_that_somebody_removed_are_found_after_a_restart_and_prune_removes_what_is_old(
    proxy: Pghold, postgres18: PostgresServer, sink: HttpSink
) -> None:
    copies = [
        b for b in proxy.http.get("/api/v1/backups", params={"state": "done"}).json() if b["kind"] == "full" and b["database"] == "kept"
    ]
    newest, oldest = copies[0], copies[-1]
    assert newest["id"] != oldest["id"]
    kept = proxy.folder / "data" / "backups"
    dump = next(b for b in proxy.http.get("/api/v1/backups", params={"state": "done"}).json() if b["kind"] == "dump")
    for file in (kept / dump["folder"]).iterdir():
        file.unlink()
    (kept / dump["folder"]).rmdir()
    assert proxy.stop() == 0
    database = next((proxy.folder / "data").glob("*.sqlite"))
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE backups SET created_at = '2020-01-01T00:00:00+00:00' WHERE id = ?", (oldest["id"],))
    connection.close()
    proxy.start()
    wait_for(lambda: any(m["event"] == "backup.missing" for m in bodies(sink)), 20)
    assert proxy.http.get(f"/api/v1/backups/{dump['id']}").json()["proof"] == "failed"
    # The first look has removed what was too old already: on record before its files went.
    wait_for(lambda: proxy.http.get(f"/api/v1/backups/{oldest['id']}").json()["state"] == "removed", 20)
    assert not (kept / oldest["folder"]).exists()
    (entry,) = [e for e in proxy.audit() if e["event"] == "backup removed"]
    assert (entry["detail"]["backup"], entry["reason"]) == (oldest["id"], "older than 30 days")
    assert (kept / newest["folder"]).exists()


def test_switched_off_is_loud_everywhere(postgres18: PostgresServer) -> None:
    off = Pghold(f"postgresql://postgres@127.0.0.1:{postgres18.port}/kept")
    try:
        assert "NO COPIES are made" in cli(off, "holds").stderr
        assert cli(off, "holds", "--json").stderr == ""
        text = Browser(off).http.get("/holds").text
        assert "No copies are made" in text
        assert any("switched off" in w for w in off.http.get("/readyz").json()["warnings"])
        client = Client(off, "DROP TABLE b", dbname="kept")
        wait_for(lambda: bool(off.holds()), 10)
        hold = off.holds()[0]["id"]
        assert off.hold(hold)["backup_outlook"]["state"] == "off"
        off.deny(hold)
        client.join(10)
    finally:
        off.stop()


def test_where_pghold_may_not_log_in_the_operator_knows_before_he_decides(postgres_tls: PostgresServer) -> None:
    proxy = Pghold(f"postgresql://nobody:wrong@127.0.0.1:{postgres_tls.port}/postgres?sslmode=require", backups=True)
    try:
        client = Client(proxy, "DROP SCHEMA nowhere", user="scram", password="secret")
        wait_for(lambda: bool(proxy.holds()), 10)
        hold = proxy.hold(proxy.holds()[0]["id"])
        assert hold["backup_outlook"]["state"] == "denied"
        assert "the statement would not run" in hold["backup_outlook"]["text"]
        assert "wrong" not in json.dumps(hold)
        proxy.deny(hold["id"])
        client.join(10)
    finally:
        proxy.stop()
