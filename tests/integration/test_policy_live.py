"""The policy file on a running proxy: conditions, warnings, reasons on record, read-only identities, reload."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.servers import Pghold, PostgresServer, wait_for

POLICY = """
[policy]
protected = ["ledger"]

[[policy.rules]]
rules = "truncate"
action = "warn"

[[policy.rules]]
rules = "drop-table"
action = "allow"
relations = "scratch_*"
reason = "scratch tables are nobody's"

[[policy.rules]]
rules = "drop-table"
action = "deny"
roles = "apprentice"

[[policy.rules]]
rules = "drop-table"
action = "deny"
applications = "cron"

[[policy.read_only]]
roles = "reader"
"""


@pytest.fixture
def ruled(postgres18: PostgresServer, tmp_path: Path) -> Iterator[tuple[Pghold, Path]]:
    for role in ("apprentice", "reader"):
        postgres18.sql(f"DO $$ BEGIN CREATE ROLE {role} SUPERUSER LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    for table in ("scratch_1", "ledger", "account"):
        postgres18.sql(f"DROP TABLE IF EXISTS {table}")
        postgres18.sql(f"CREATE TABLE {table} (id int)")
    file = tmp_path / "pghold.toml"
    file.write_text(POLICY)
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", "--policy", str(file), "--hold-timeout", "0.2")
    yield proxy, file
    assert proxy.stop() == 0


def link(proxy: Pghold, user: str, **options: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(host="127.0.0.1", port=proxy.port, user=user, dbname="postgres", autocommit=True, **options)


def test_policy_on_a_running_proxy(ruled: tuple[Pghold, Path], postgres18: PostgresServer) -> None:
    proxy, _ = ruled
    notices: list[str] = []
    with proxy.connect() as ana:
        ana.add_notice_handler(lambda n: notices.append(f"{n.severity} {n.message_primary}"))
        ana.execute("TRUNCATE account")
        assert notices == ["WARNING pghold: TRUNCATE of account"]
        ana.execute("DROP TABLE scratch_1")
        assert len(notices) == 1, "what is allowed is not warned of"
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="in time"):
            ana.execute("INSERT INTO ledger VALUES (1)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="in time"):
            ana.execute("DROP TABLE account")
        ana.execute("SET application_name = 'cron'")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="not allowed"):
            ana.execute("DROP TABLE account")
    with link(proxy, "apprentice") as apprentice, pytest.raises(psycopg.errors.InsufficientPrivilege, match="not allowed"):
        apprentice.execute("DROP TABLE account")
    events = {(r["event"], r.get("reason")) for r in proxy.audit()}
    assert ("allowed by policy", "scratch tables are nobody's") in events
    assert any(event == "warned" for event, _ in events)
    assert postgres18.sql("SELECT to_regclass('scratch_1'), to_regclass('account')::text") == [(None, "account")]


def test_read_only_identity_cannot_write_by_a_function_either(ruled: tuple[Pghold, Path], postgres18: PostgresServer) -> None:
    proxy, _ = ruled
    postgres18.sql("CREATE OR REPLACE FUNCTION hidden() RETURNS void LANGUAGE sql AS 'INSERT INTO account VALUES (9)'")
    with link(proxy, "reader") as reader:
        assert reader.execute("SHOW default_transaction_read_only").fetchone() == ("on",)
        assert reader.execute("SELECT count(*) FROM account").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("INSERT INTO account VALUES (1)")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            reader.execute("SELECT hidden()")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("SET default_transaction_read_only = off")
    with pytest.raises(psycopg.OperationalError):
        link(proxy, "reader", options="-c default_transaction_read_only=off")


def test_reload_is_atomic_and_keeps_the_old_policy_on_error(ruled: tuple[Pghold, Path]) -> None:
    proxy, file = ruled

    def drops() -> str:
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as error:
            session.execute("DROP TABLE account")
        return str(error.value)

    with proxy.connect() as session:
        assert "in time" in drops()
        file.write_text('[[policy.rules]]\nrules = "drop-table"\naction = "deny"\n')
        os.kill(proxy.process.pid, signal.SIGHUP)
        wait_for(lambda: any(r["event"] == "reloaded" for r in proxy.audit()), 10)
        assert "not allowed" in drops(), "a session that was there before has the new policy too"
        file.write_text('[[policy.rules]]\nrules = "drop-tabel"\naction = "allow"\nreason = "x"\n')
        os.kill(proxy.process.pid, signal.SIGHUP)
        wait_for(lambda: "did you mean drop-table" in proxy.log.read_text(), 10)
        assert "not allowed" in drops()
