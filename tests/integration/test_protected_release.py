"""Copies before statements through the proxy: approved, copied, proven, and only then run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.servers import Pghold, PostgresServer, wait_for


@pytest.fixture(scope="module")
def proxy(postgres18: PostgresServer, folder: Path) -> Iterator[Pghold]:
    postgres18.sql("DROP DATABASE IF EXISTS protected WITH (FORCE)")
    postgres18.sql("CREATE DATABASE protected")
    # The scratch server is another user's, who cannot come to pytest's folders.
    place = folder / "protected"
    place.mkdir()
    policy = place / "pghold.toml"
    policy.write_text('[policy]\nprotected = ["ledger"]\n')
    made = Pghold(
        f"postgresql://postgres@127.0.0.1:{postgres18.port}/protected",
        "--policy",
        str(policy),
        folder=place,
        backups=True,
        environment={"PGHOLD_BACKUP_MIN_FREE_BYTES": "0", "PGHOLD_BACKUP_SCHEDULE": ""},
    )
    yield made
    assert made.stop() == 0
    postgres18.sql("DROP DATABASE IF EXISTS protected WITH (FORCE)")


@pytest.fixture
def table(postgres18: PostgresServer) -> str:
    for name in ("account", "ledger"):
        postgres18.sql(f"DROP TABLE IF EXISTS {name}", "protected")
        postgres18.sql(f"CREATE TABLE {name} AS SELECT g AS id, 'n' || g AS name FROM generate_series(1, 1000) g", "protected")
    return "account"


class Statement:
    """Sent by a thread; what came of it."""

    def __init__(self, proxy: Pghold, sql: str, *values: object, first: str = "") -> None:
        self.error: psycopg.Error | None = None
        self.tag = ""
        self.notices: list[str] = []
        self._work = threading.Thread(target=self._run, args=(proxy, sql, values, first), daemon=True)
        self._work.start()

    def _run(self, proxy: Pghold, sql: str, values: tuple[object, ...], first: str) -> None:
        try:
            with proxy.connect("protected") as connection:
                connection.add_notice_handler(lambda d: self.notices.append(f"{d.message_primary} {d.message_detail or ''}"))
                if first:
                    connection.execute(first)  # type: ignore[arg-type]
                self.tag = connection.execute(sql, values or None).statusmessage or ""  # type: ignore[arg-type]
                if first:
                    connection.execute("COMMIT")
        except psycopg.Error as error:
            self.error = error

    def done(self) -> None:
        self._work.join(40)
        assert not self._work.is_alive()


def approved(proxy: Pghold, statement: Statement) -> dict[str, Any]:
    hold = proxy.wait_for_hold()
    assert proxy.approve(hold["id"]).status_code == 200
    statement.done()
    wait_for(lambda: proxy.hold(hold["id"])["state"] not in ("pending", "approved", "protecting", "released"), 20)
    return proxy.hold(hold["id"])


@pytest.mark.parametrize(
    ("sql", "values", "kind", "tag"),
    [
        ("DROP TABLE account", (), "dump", "DROP TABLE"),
        ("TRUNCATE account", (), "dump", "TRUNCATE TABLE"),
        ("DELETE FROM account", (), "dump", "DELETE 1000"),
        ("UPDATE account SET name = ''", (), "dump", "UPDATE 1000"),
        ("ALTER TABLE account DROP COLUMN name", (), "dump", "ALTER TABLE"),
        ("DELETE FROM ledger WHERE id > 0", (), "rows", "DELETE 1000"),
        ("UPDATE ledger SET name = 'x' WHERE id > %s", ("0",), "rows", "UPDATE 1000"),
        ("DO $$ BEGIN DELETE FROM account; END $$", (), "dump", "DO"),
    ],
)
def test_an_approved_statement_runs_after_its_proven_copy(
    proxy: Pghold, table: str, sql: str, values: tuple[object, ...], kind: str, tag: str
) -> None:
    statement = Statement(proxy, sql, *values)
    hold = approved(proxy, statement)
    assert statement.error is None
    assert statement.tag == tag
    assert hold["state"] == "done"
    copy = hold["backup"]
    assert copy["kind"] == kind
    assert copy["state"] == "done"
    assert "000 rows" in copy["text"]
    backup = proxy.http.get(f"/api/v1/backups/{copy['backup_id']}").json()
    assert backup["proof"] == "equal", backup
    assert any(e["event"] == "protected" and e["hold_id"] == hold["id"] for e in proxy.audit())


def test_in_a_transaction_of_the_clients(proxy: Pghold, table: str, postgres18: PostgresServer) -> None:
    statement = Statement(proxy, "DELETE FROM account", first="BEGIN")
    hold = approved(proxy, statement)
    assert statement.error is None
    assert hold["backup"]["state"] == "done"
    assert postgres18.sql("SELECT count(*) FROM account", "protected") == [(0,)]


def test_without_a_copy_it_does_not_run(proxy: Pghold, table: str, postgres18: PostgresServer) -> None:
    backups = proxy.folder / "data" / "backups"
    backups.mkdir(exist_ok=True, mode=0o700)
    away = backups.rename(backups.with_name("away"))
    backups.write_text("no folder")
    try:
        statement = Statement(proxy, "DROP TABLE account")
        hold = approved(proxy, statement)
    finally:
        backups.unlink()
        away.rename(backups)
    assert isinstance(statement.error, psycopg.errors.InsufficientPrivilege)
    assert hold["state"] == "denied"
    assert postgres18.sql("SELECT count(*) FROM account", "protected") == [(1000,)]
    assert any(e["event"] == "unprotected" and e["hold_id"] == hold["id"] for e in proxy.audit())


def test_a_table_made_in_the_same_transaction_needs_no_copy(proxy: Pghold, postgres18: PostgresServer) -> None:
    statement = Statement(proxy, "DROP TABLE fresh", first="BEGIN; CREATE TABLE fresh AS SELECT 1 AS i")
    hold = approved(proxy, statement)
    assert statement.error is None
    assert hold["backup"]["kind"] == "none"


def test_metrics_count_copies(proxy: Pghold, table: str) -> None:
    before = proxy.metric("pghold_copies_total")
    approved(proxy, Statement(proxy, "TRUNCATE account"))
    assert proxy.metric("pghold_copies_total") == before + 1
    assert proxy.metric("pghold_copies_before_danger") == 1


def test_switched_off_is_said_at_the_start(postgres18: PostgresServer, tmp_path: Path) -> None:
    made = Pghold(f"postgresql://postgres@127.0.0.1:{postgres18.port}/postgres", folder=tmp_path)
    try:
        assert "WARNING: copies are switched off" in made.log.read_text()
        assert made.metric("pghold_copies_before_danger") == 0
    finally:
        made.stop()


def test_a_database_is_dropped_after_its_copy(proxy: Pghold, postgres18: PostgresServer) -> None:
    postgres18.sql("DROP DATABASE IF EXISTS doomed")
    postgres18.sql("CREATE DATABASE doomed")
    postgres18.sql("CREATE TABLE t AS SELECT generate_series(1, 7) AS i", "doomed")
    with postgres18.connect("doomed"):
        refused = Statement(proxy, "DROP DATABASE doomed WITH (FORCE)")
        assert approved(proxy, refused)["state"] == "denied"
        assert refused.error is not None
        assert "other session is connected" in str(refused.error)
    statement = Statement(proxy, "DROP DATABASE doomed")
    hold = approved(proxy, statement)
    assert statement.error is None
    assert "7 rows" in hold["backup"]["text"]
    assert postgres18.sql("SELECT 1 FROM pg_database WHERE datname = 'doomed'") == []


def test_a_copy_that_is_not_proven_first_is_proven_afterwards(postgres18: PostgresServer, folder: Path) -> None:
    place = folder / "proven-later"
    place.mkdir()
    postgres18.sql("DROP DATABASE IF EXISTS later WITH (FORCE)")
    postgres18.sql("CREATE DATABASE later")
    postgres18.sql("CREATE TABLE t AS SELECT generate_series(1, 7) AS i", "later")
    made = Pghold(
        f"postgresql://postgres@127.0.0.1:{postgres18.port}/later",
        folder=place,
        backups=True,
        environment={"PGHOLD_BACKUP_MIN_FREE_BYTES": "0", "PGHOLD_BACKUP_SCHEDULE": "", "PGHOLD_BACKUP_PROVE_FIRST_BYTES": "0"},
    )
    try:
        problem: list[psycopg.Error] = []

        def drop() -> None:
            try:
                with made.connect("later") as connection:
                    connection.execute("DROP TABLE t")
            except psycopg.Error as error:
                problem.append(error)

        client = threading.Thread(target=drop, daemon=True)
        client.start()
        hold = made.wait_for_hold()
        made.approve(hold["id"])
        client.join(30)
        assert not problem
        wait_for(lambda: made.http.get("/api/v1/backups/1").json()["proof"] == "equal", 30)
    finally:
        assert made.stop() == 0
        postgres18.sql("DROP DATABASE later WITH (FORCE)")
