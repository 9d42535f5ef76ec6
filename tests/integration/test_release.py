"""What an approval is about, and for how long: release binding, retry grants, clients that do not wait, session grants."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import psycopg
import pytest

from tests.browsing import Client
from tests.servers import Pghold, PostgresServer, wait_for

TEXT = "DROP TABLE drifting"


@pytest.fixture(scope="module")
def proxy(postgres18: PostgresServer) -> Iterator[Pghold]:
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres")
    yield proxy
    assert proxy.stop() == 0


@pytest.fixture
def drifting(postgres18: PostgresServer, proxy: Pghold) -> Iterator[PostgresServer]:
    """A table `drifting` with ten rows; what the test left open is ended."""
    postgres18.sql("DROP SCHEMA IF EXISTS nest CASCADE; DROP TABLE IF EXISTS drifting, drifting_old, other CASCADE")
    postgres18.sql("CREATE TABLE drifting (id int PRIMARY KEY, name text); INSERT INTO drifting SELECT g FROM generate_series(1, 10) g")
    postgres18.sql("ANALYZE drifting")
    yield postgres18
    for hold in proxy.holds():
        proxy.deny(hold["id"])
    for grant in proxy.http.get("/api/v1/grants").json():
        proxy.http.delete(f"/api/v1/grants/{grant['id']}")


def seen(proxy: Pghold, hold_id: int) -> dict[str, Any]:
    """The hold, once the server has said what it is about."""
    wait_for(lambda: proxy.hold(hold_id)["impact"] is not None, 10)
    return proxy.hold(hold_id)


def exists(server: PostgresServer, name: str = "drifting") -> bool:
    return server.sql(f"SELECT to_regclass('{name}') IS NOT NULL")[0][0] is True


def held_again(proxy: Pghold, hold_id: int) -> dict[str, Any]:
    proxy.wait_for_state(hold_id, "withdrawn")
    hold = proxy.wait_for_hold()
    assert hold["follows"] == hold_id
    return hold


# --- release binding ----------------------------------------------------------------------------------------------------


def test_hold_says_what_it_is_about(proxy: Pghold, drifting: PostgresServer) -> None:
    drifting.sql("CREATE VIEW watching AS SELECT id FROM drifting; CREATE TABLE other (drift int REFERENCES drifting)")
    client = Client(proxy, "DROP TABLE drifting, nowhere CASCADE")
    impact = seen(proxy, proxy.wait_for_hold()["id"])["impact"]
    [found] = impact["objects"]
    oid, node = drifting.sql("SELECT 'drifting'::regclass::oid, pg_relation_filenode('drifting')")[0]
    assert (found["name"], found["resolved"], found["kind"], found["rows"]) == ("drifting", "drifting", "table", 10)
    assert (found["oid"], found["relfilenode"]) == (oid, node)
    assert (found["views"], found["foreign_keys"], found["indexes"], found["owner"]) == (["watching"], ["other"], 1, "postgres")
    assert found["bytes"] > 0
    assert impact["missing"] == ["nowhere"]
    proxy.deny(proxy.wait_for_hold()["id"])
    client.join()


CHANGES = {
    "dropped": ("DROP TABLE drifting", "is not there any more"),
    "swapped": ("ALTER TABLE drifting RENAME TO drifting_old; CREATE TABLE drifting (id int)", "is another table now"),
    "truncated": ("TRUNCATE drifting", "was truncated or written anew"),
    "rewritten": ("ALTER TABLE drifting ALTER id TYPE bigint", "was truncated or written anew"),
    "given a column": ("ALTER TABLE drifting ADD COLUMN more text", "has other columns"),
    "given a child": ("CREATE TABLE other () INHERITS (drifting)", "consists of other relations"),
}


@pytest.mark.parametrize("how", list(CHANGES))
@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("in_transaction", [False, True], ids=["autocommit", "transaction"])
def test_what_changed_since_the_look_is_held_again(
    proxy: Pghold, drifting: PostgresServer, how: str, extended: bool, in_transaction: bool
) -> None:
    change, told = CHANGES[how]
    notices: list[str] = []
    problems: list[psycopg.Error] = []

    def run() -> None:
        with proxy.connect() as connection:
            connection.add_notice_handler(lambda d: notices.append(f"{d.message_primary} {d.message_detail}"))
            try:
                if in_transaction:
                    connection.execute("BEGIN")
                # A parameter list makes psycopg use the extended protocol.
                connection.execute(TEXT, prepare=extended)
            except psycopg.Error as error:
                problems.append(error)

    client = threading.Thread(target=run)
    client.start()
    first = seen(proxy, proxy.wait_for_hold()["id"])
    drifting.sql(change)
    assert proxy.approve(first["id"]).status_code == 200
    second = held_again(proxy, first["id"])
    assert any(told in sentence for sentence in second["difference"]), second["difference"]
    assert [r["event"] for r in proxy.audit() if r["hold_id"] == first["id"]] == ["held", "approved", "held again"]
    if how != "dropped":
        assert exists(drifting)
    # Whoever looks again and approves again has seen what is there now.
    assert proxy.approve(second["id"]).status_code == 200
    client.join(20)
    if not in_transaction:
        assert not exists(drifting) or how == "given a child"
    assert any("held again" in n and told in n for n in notices), notices
    assert bool(problems) == (how in ("dropped", "given a child"))


def test_unchanged_objects_are_released(proxy: Pghold, drifting: PostgresServer) -> None:
    client = Client(proxy, TEXT)
    hold = seen(proxy, proxy.wait_for_hold()["id"])
    drifting.sql("INSERT INTO drifting VALUES (11); ANALYZE drifting")  # rows are no part of what it is
    assert proxy.approve(hold["id"]).status_code == 200
    client.join()
    assert client.error is None
    assert not exists(drifting)
    assert proxy.wait_for_state(hold["id"], "done")["outcome"] == "DROP TABLE"


def test_new_table_in_a_schema_that_is_dropped_is_a_difference(proxy: Pghold, drifting: PostgresServer) -> None:
    drifting.sql("CREATE SCHEMA nest; CREATE TABLE nest.egg (id int)")
    client = Client(proxy, "DROP SCHEMA nest CASCADE")
    hold = seen(proxy, proxy.wait_for_hold()["id"])
    assert (hold["impact"]["objects"][0]["kind"], hold["impact"]["objects"][0]["relations"]) == ("schema", 1)
    drifting.sql("CREATE TABLE nest.second (id int)")
    proxy.approve(hold["id"])
    again = held_again(proxy, hold["id"])
    assert "consists of other relations now (2, before 1)" in again["difference"][0]
    proxy.approve(again["id"])
    client.join()
    assert drifting.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'nest'")[0][0] == 0


def test_only_the_session_itself_knows_its_names(proxy: Pghold, drifting: PostgresServer) -> None:
    """search_path, temporary tables and uncommitted objects mean what they mean to the session that asks."""
    drifting.sql("CREATE SCHEMA nest; CREATE TABLE nest.drifting (id int)")
    with proxy.connect() as connection:
        connection.execute("BEGIN; SET search_path = nest; CREATE TABLE nest.fresh (id int)")
        client = threading.Thread(target=lambda: connection.execute("DROP TABLE drifting, fresh"))
        client.start()
        hold = seen(proxy, proxy.wait_for_hold()["id"])
        assert [o["resolved"] for o in hold["impact"]["objects"]] == ["drifting", "fresh"]
        assert hold["impact"]["objects"][0]["oid"] == drifting.sql("SELECT 'nest.drifting'::regclass::oid")[0][0]
        assert any("fresh" in lock for lock in hold["impact"]["locks"])
        assert hold["in_transaction"]
        proxy.approve(hold["id"])
        client.join()
        connection.execute("ROLLBACK")
    assert exists(drifting)


def test_who_waits_behind_a_held_session_is_told(proxy: Pghold, drifting: PostgresServer) -> None:
    with proxy.connect() as connection, proxy.connect(application_name="patient") as other:
        connection.execute("BEGIN; LOCK TABLE drifting IN ACCESS EXCLUSIVE MODE")
        waiting = threading.Thread(target=lambda: other.execute("SELECT count(*) FROM drifting"))
        waiting.start()
        wait_for(lambda: drifting.sql("SELECT count(*) FROM pg_locks WHERE NOT granted")[0][0] == 1, 10)
        client = threading.Thread(target=lambda: connection.execute("DELETE FROM drifting"))
        client.start()
        hold = seen(proxy, proxy.wait_for_hold()["id"])
        assert [w["application_name"] for w in hold["impact"]["waiting"]] == ["patient"]
        assert "drifting AccessExclusiveLock" in hold["impact"]["locks"]
        proxy.approve(hold["id"])
        client.join()
        connection.execute("ROLLBACK")
        waiting.join()


def test_look_calls_nothing_of_the_users(proxy: Pghold, drifting: PostgresServer) -> None:
    """Functions and operators that shadow the catalog's are not called by the question."""
    drifting.sql(
        "CREATE SCHEMA nest; CREATE TABLE nest.called (what text);"
        "CREATE FUNCTION nest.lie(name, name) RETURNS bool LANGUAGE sql AS $$ INSERT INTO nest.called VALUES ('='); SELECT false $$;"
        "CREATE OPERATOR nest.= (LEFTARG = name, RIGHTARG = name, FUNCTION = nest.lie);"
        "CREATE FUNCTION nest.lie(oid, oid) RETURNS bool LANGUAGE sql AS $$ INSERT INTO nest.called VALUES ('='); SELECT false $$;"
        "CREATE OPERATOR nest.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = nest.lie);"
        "CREATE FUNCTION nest.current_schemas(bool) RETURNS name[] LANGUAGE sql AS $$ SELECT NULL::name[] $$;"
        "CREATE FUNCTION nest.concat(text, text) RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$;"
    )
    with proxy.connect() as connection:
        connection.execute("SET search_path = nest, public, pg_catalog")
        client = threading.Thread(target=lambda: connection.execute(TEXT))
        client.start()
        hold = seen(proxy, proxy.wait_for_hold()["id"])
        assert [o["resolved"] for o in hold["impact"]["objects"]] == ["drifting"]
        proxy.approve(hold["id"])
        client.join()
    assert drifting.sql("SELECT count(*) FROM nest.called")[0][0] == 0
    assert not exists(drifting)


def test_unnamed_statement_and_portal_outlive_the_look(proxy: Pghold, drifting: PostgresServer) -> None:
    """JDBC and others use the unnamed ones around a statement that is held."""
    with proxy.connect(prepare_threshold=None) as connection:
        connection.execute("SELECT %s::int", (1,))
        client = Client(proxy, "DELETE FROM drifting")
        proxy.approve(seen(proxy, proxy.wait_for_hold()["id"])["id"])
        client.join()
        assert connection.execute("SELECT %s::int", (2,)).fetchone() == (2,)


async def test_asyncpg_sees_the_same_as_before(proxy: Pghold, drifting: PostgresServer) -> None:
    import asyncio

    connection = await asyncpg.connect(host="127.0.0.1", port=proxy.port, user="postgres", database="postgres")
    try:
        async with connection.transaction():
            running = asyncio.ensure_future(connection.execute("DELETE FROM drifting WHERE $1::bool", True))
            hold = await asyncio.to_thread(proxy.wait_for_hold)
            await asyncio.to_thread(seen, proxy, hold["id"])
            await asyncio.to_thread(proxy.approve, hold["id"])
            assert await running == "DELETE 10"
        assert await connection.fetchval("SELECT count(*) FROM drifting") == 0
    finally:
        await connection.close()


def test_names_in_other_encodings_are_looked_up(proxy: Pghold, drifting: PostgresServer) -> None:
    drifting.sql('CREATE SCHEMA nest; CREATE TABLE nest."Größe ""x"""(id int)')
    with proxy.connect(client_encoding="latin1") as connection:
        client = threading.Thread(target=lambda: connection.execute('DROP TABLE nest."Größe ""x"""'))
        client.start()
        hold = seen(proxy, proxy.wait_for_hold()["id"])
        assert hold["impact"]["objects"][0]["resolved"] == 'nest."Größe ""x"""'
        proxy.approve(hold["id"])
        client.join()
    assert drifting.sql("SELECT count(*) FROM pg_class WHERE relname LIKE 'Gr%'")[0][0] == 0


def test_role_that_may_not_read_the_catalog_is_held_all_the_same(proxy: Pghold, drifting: PostgresServer) -> None:
    drifting.sql("DROP ROLE IF EXISTS blind; CREATE ROLE blind LOGIN SUPERUSER NOINHERIT")
    drifting.sql("ALTER ROLE blind NOSUPERUSER; ALTER TABLE drifting OWNER TO blind; REVOKE SELECT ON pg_catalog.pg_class FROM PUBLIC")
    try:
        with psycopg.connect(host="127.0.0.1", port=proxy.port, user="blind", dbname="postgres", autocommit=True) as connection:
            for looks in (True, False):  # having failed once, it is not asked again
                client = threading.Thread(target=lambda: connection.execute("DELETE FROM drifting"))
                client.start()
                hold = proxy.wait_for_hold()
                if looks:
                    assert "permission denied" in seen(proxy, hold["id"])["impact"]["unbound"]
                proxy.approve(hold["id"])
                client.join()
        assert drifting.sql("SELECT count(*) FROM drifting")[0][0] == 0
    finally:
        drifting.sql("GRANT SELECT ON pg_catalog.pg_class TO PUBLIC; ALTER TABLE drifting OWNER TO postgres; DROP ROLE blind")


# --- retry grants -------------------------------------------------------------------------------------------------------


def refused(connection: psycopg.Connection[Any], script: str, parameters: tuple[Any, ...] | None = None) -> None:
    with pytest.raises(psycopg.Error):
        connection.execute(script, parameters)  # type: ignore[call-overload]


def run(proxy: Pghold, script: str, parameters: tuple[Any, ...] | None = None, **options: Any) -> str:
    """Run it; return the error's message, or nothing."""
    try:
        with proxy.connect(**options) as connection:
            connection.execute(script, parameters)
    except psycopg.Error as error:
        return str(error)
    return ""


def test_hold_that_expired_can_still_be_approved_for_one_retry(postgres18: PostgresServer, table: str) -> None:
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", "--hold-timeout", "0.5")
    try:
        assert "no operator approved this statement in time" in run(proxy, "DELETE FROM account")
        [hold] = proxy.holds("all")
        assert hold["state"] == "expired"
        answer = proxy.approve(hold["id"])
        assert (answer.status_code, answer.json()["state"]) == (200, "approved")
        assert proxy.approve(hold["id"]).status_code == 409
        [grant] = proxy.http.get("/api/v1/grants").json()
        assert (grant["kind"], grant["hold_id"], grant["role"]) == ("retry", hold["id"], "postgres")
        # Others do not have it: another role, another text, another value.
        assert "in time" in run(proxy, "DELETE FROM account -- ")
        assert postgres18.sql("SELECT count(*) FROM account")[0][0] == 10
        proxy.stop()
        proxy.start()  # and it outlives a restart
        assert run(proxy, "DELETE FROM account") == ""
        assert postgres18.sql("SELECT count(*) FROM account")[0][0] == 0
        done = proxy.wait_for_state(hold["id"], "done")
        assert (done["outcome"], done["decision"]["operator"]) == ("DELETE 10", "operator")
        events = [r["event"] for r in proxy.audit() if r["hold_id"] == hold["id"]]
        assert events == ["held", "expired", "approved", "decision too late", "grant used", "outcome"]
        # Once.
        assert "in time" in run(proxy, "DELETE FROM account")
    finally:
        assert proxy.stop() == 0


def test_retry_of_a_client_that_left_runs_for_the_same_identity_and_values_only(proxy: Pghold, drifting: PostgresServer) -> None:
    drifting.sql("DROP ROLE IF EXISTS second; CREATE ROLE second LOGIN SUPERUSER")
    script = "DELETE FROM drifting WHERE %s"

    def ask_and_leave() -> int:
        connection = proxy.connect()
        client = threading.Thread(target=refused, args=(connection, script, (True,)))
        client.start()
        hold_id: int = proxy.wait_for_hold()["id"]
        seen(proxy, hold_id)
        with socket.socket(fileno=os.dup(connection.fileno())) as link:
            link.shutdown(socket.SHUT_RDWR)
        client.join()
        connection.close()
        proxy.wait_for_state(hold_id, "abandoned")
        return hold_id

    hold_id = ask_and_leave()
    assert proxy.approve(hold_id).status_code == 200
    refusing = {"options": "-c pghold.on_hold=reject"}
    assert "needs an operator's approval" in run(proxy, script, (False,), **refusing)
    with (
        psycopg.connect(host="127.0.0.1", port=proxy.port, user="second", dbname="postgres", autocommit=True, **refusing) as connection,
        pytest.raises(psycopg.Error, match="needs an operator's approval"),
    ):
        connection.execute(script, (True,))
    assert drifting.sql("SELECT count(*) FROM drifting")[0][0] == 10
    assert run(proxy, script, (True,), **refusing) == ""
    assert drifting.sql("SELECT count(*) FROM drifting")[0][0] == 0


def test_retry_is_about_the_objects_that_were_seen(proxy: Pghold, drifting: PostgresServer) -> None:
    refusing = {"options": "-c pghold.on_hold=reject"}
    assert "needs an operator's approval" in run(proxy, TEXT, **refusing)
    [hold] = proxy.holds()
    assert seen(proxy, hold["id"])["impact"]["objects"]
    assert proxy.approve(hold["id"]).status_code == 200
    drifting.sql(CHANGES["swapped"][0])
    assert "needs an operator's approval" in run(proxy, TEXT, **refusing)
    assert exists(drifting)
    again = held_again(proxy, hold["id"])
    assert "is another table now" in again["difference"][0]


def test_retry_of_execute_is_about_what_the_name_meant(proxy: Pghold, drifting: PostgresServer) -> None:
    """The text of EXECUTE says nothing; the same name can mean another statement in the next session."""
    drifting.sql("CREATE TABLE other (id int); INSERT INTO other VALUES (1)")

    def execute(body: str) -> None:
        with proxy.connect(options="-c pghold.on_hold=reject") as connection:
            connection.execute("SET pghold.on_hold = reject")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"PREPARE p AS {body}")
            for hold in proxy.holds():
                proxy.approve(hold["id"])
            connection.execute(f"PREPARE p AS {body}")
            connection.execute("EXECUTE p")

    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute("DELETE FROM drifting")
    [hold] = proxy.holds()
    assert hold["script"] == "EXECUTE p"
    proxy.approve(hold["id"])
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute("DELETE FROM other")
    assert drifting.sql("SELECT (SELECT count(*) FROM drifting), (SELECT count(*) FROM other)")[0] == (10, 1)
    execute("DELETE FROM drifting")
    assert drifting.sql("SELECT count(*) FROM drifting")[0][0] == 0


def test_grant_that_is_revoked_or_over_lets_nothing_run(postgres18: PostgresServer, table: str) -> None:
    environment = {"PGHOLD_RETRY_TIMEOUT_S": "3"}
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", environment=environment)
    refusing = {"options": "-c pghold.on_hold=reject"}
    try:
        run(proxy, "DELETE FROM account", **refusing)
        first = proxy.holds()[0]["id"]
        proxy.approve(first)
        [grant] = proxy.http.get("/api/v1/grants").json()
        assert proxy.http.delete(f"/api/v1/grants/{grant['id']}").status_code == 204
        assert proxy.http.delete(f"/api/v1/grants/{grant['id']}").status_code == 404
        assert proxy.hold(first)["state"] == "withdrawn"
        assert "needs an operator's approval" in run(proxy, "DELETE FROM account", **refusing)
        second = proxy.holds()[0]["id"]
        proxy.approve(second)
        assert "sent again in time" in proxy.wait_for_state(second, "expired")["outcome"]
        assert "needs an operator's approval" in run(proxy, "DELETE FROM account", **refusing)
        third = proxy.holds()[0]["id"]
        proxy.wait_for_state(third, "expired")
        assert postgres18.sql("SELECT count(*) FROM account")[0][0] == 10
        events = [r["event"] for r in proxy.audit()]
        assert events.count("grant revoked") == 1
    finally:
        assert proxy.stop() == 0


# --- clients that do not wait -------------------------------------------------------------------------------------------


def test_client_that_does_not_wait_is_told_the_holds_number_and_what_to_do(proxy: Pghold, drifting: PostgresServer) -> None:
    with proxy.connect(options="-c pghold.on_hold=reject") as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
            connection.execute(TEXT)
        [hold] = proxy.holds()
        diagnosis = caught.value.diag
        assert f"(hold {hold['id']})" in (diagnosis.message_primary or "")
        assert f"pghold approve {hold['id']}" in (diagnosis.message_hint or "")
        assert hold["waits"] is False
        # The same again is the same hold; the session goes on.
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=f"hold {hold['id']}"):
            connection.execute(TEXT)
        assert len(proxy.holds()) == 1
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert proxy.approve(hold["id"]).status_code == 200
        connection.execute(TEXT)
    assert not exists(drifting)


def test_to_ask_again_does_not_change_what_the_operator_looked_at(proxy: Pghold, drifting: PostgresServer) -> None:
    refusing = {"options": "-c pghold.on_hold=reject"}
    run(proxy, TEXT, **refusing)
    [hold] = proxy.holds()
    looked_at = seen(proxy, hold["id"])["impact"]["objects"][0]["oid"]
    drifting.sql(CHANGES["swapped"][0])
    assert f"hold {hold['id']}" in run(proxy, TEXT, **refusing)
    assert proxy.hold(hold["id"])["impact"]["objects"][0]["oid"] == looked_at
    proxy.approve(hold["id"])
    assert "needs an operator's approval" in run(proxy, TEXT, **refusing)
    assert exists(drifting)
    assert "is another table now" in held_again(proxy, hold["id"])["difference"][0]


def test_denied_hold_of_a_client_that_does_not_wait_is_on_record(proxy: Pghold, drifting: PostgresServer) -> None:
    run(proxy, TEXT, options="-c pghold.on_hold=reject")
    [hold] = proxy.holds()
    assert proxy.deny(hold["id"]).status_code == 200
    assert [r["event"] for r in proxy.audit() if r["hold_id"] == hold["id"]] == ["held", "denied"]
    assert proxy.approve(hold["id"]).status_code == 409


def test_hold_nobody_waits_for_outlives_a_kill_of_the_proxy(postgres18: PostgresServer, table: str) -> None:
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres")
    refusing = {"options": "-c pghold.on_hold=reject"}
    try:
        run(proxy, "DELETE FROM account", **refusing)
        [hold] = proxy.holds()
        proxy.stop(signal.SIGKILL)
        proxy.start()
        assert proxy.hold(hold["id"])["state"] == "pending"
        assert proxy.approve(hold["id"]).status_code == 200
        proxy.stop(signal.SIGKILL)
        proxy.start()
        assert run(proxy, "DELETE FROM account", **refusing) == ""
        assert postgres18.sql("SELECT count(*) FROM account")[0][0] == 0
    finally:
        assert proxy.stop() == 0


@pytest.mark.parametrize("value", ["perhaps", "", "wait; drop table x"])
def test_choice_that_is_none_is_refused_at_connect(proxy: Pghold, value: str) -> None:
    options = "-c pghold.on_hold=" + value.replace(" ", "\\ ")
    with pytest.raises(psycopg.OperationalError, match=r"pghold\.on_hold"):
        proxy.connect(options=options)


def test_policy_says_who_does_not_wait(postgres18: PostgresServer, table: str, tmp_path: Any) -> None:
    file = tmp_path / "pghold.toml"
    file.write_text('[[policy.on_hold]]\napplications = "ci-*"\naction = "reject"\n')
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", "--policy", str(file))
    try:
        assert "needs an operator's approval" in run(proxy, "DELETE FROM account", application_name="ci-7")
        # A client's own choice comes first.
        client = Client(proxy, "TRUNCATE account", application_name="ci-7", options="-c pghold.on_hold=wait")
        wait_for(lambda: len(proxy.holds()) == 2, 10)
        assert {h["waits"] for h in proxy.holds()} == {True, False}
        proxy.deny(max(h["id"] for h in proxy.holds()))
        client.join()
    finally:
        assert proxy.stop() == 0


# --- session grants -----------------------------------------------------------------------------------------------------


def approve_session(proxy: Pghold, hold_id: int, seconds: float) -> Any:
    body = {"phrase": "YES I UNDERSTAND THE RISKS", "reason": "the whole clean-up", "session_grant_s": seconds}
    return proxy.http.post(f"/api/v1/holds/{hold_id}/approve", json=body)


def test_session_grant_lets_the_same_rules_pass_in_that_session_only(proxy: Pghold, drifting: PostgresServer) -> None:
    drifting.sql("CREATE SCHEMA nest; CREATE TABLE nest.a (id int); CREATE TABLE nest.b (id int); CREATE TABLE nest.c (id int)")
    with proxy.connect() as connection, proxy.connect(options="-c pghold.on_hold=reject") as other:
        client = threading.Thread(target=lambda: connection.execute("DROP TABLE nest.a"))
        client.start()
        hold = proxy.wait_for_hold()
        assert approve_session(proxy, hold["id"], 99999).status_code == 422
        assert approve_session(proxy, hold["id"], 600).status_code == 200
        client.join()
        connection.execute("DROP TABLE nest.b")  # no wait
        second = proxy.holds("all")[0]
        assert (second["state"], second["outcome"]) == ("done", "DROP TABLE")
        assert f"grant of hold {hold['id']}" in second["decision"]["reason"]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            other.execute("DROP TABLE nest.c")
        proxy.deny(proxy.holds()[0]["id"])
        # Another rule is another question.
        client = threading.Thread(target=lambda: connection.execute("DROP SCHEMA nest CASCADE"))
        client.start()
        third = proxy.wait_for_hold()
        proxy.approve(third["id"])
        client.join()
        [grant] = proxy.http.get("/api/v1/grants").json()
        assert (grant["kind"], grant["session_id"]) == ("session", hold["session_id"])
        assert [r["event"] for r in proxy.audit() if r["hold_id"] == second["id"]] == ["grant used", "outcome"]
    wait_for(lambda: proxy.http.get("/api/v1/grants").json() == [], 10)  # it ends with its session


def test_revoked_session_grant_ends_at_once(proxy: Pghold, drifting: PostgresServer) -> None:
    with proxy.connect(options="-c pghold.on_hold=wait") as connection:
        client = threading.Thread(target=lambda: connection.execute("DELETE FROM drifting"))
        client.start()
        approve_session(proxy, proxy.wait_for_hold()["id"], 600)
        client.join()
        [grant] = proxy.http.get("/api/v1/grants").json()
        assert proxy.http.delete(f"/api/v1/grants/{grant['id']}").status_code == 204
        client = threading.Thread(target=refused, args=(connection, "DELETE FROM drifting"))
        client.start()
        proxy.deny(proxy.wait_for_hold()["id"])
        client.join()


def test_to_approve_without_a_backup_takes_a_permission_of_its_own(proxy: Pghold, drifting: PostgresServer) -> None:
    client = Client(proxy, TEXT)
    hold = proxy.wait_for_hold()
    body = {"phrase": "YES I UNDERSTAND THE RISKS", "reason": "x", "without_backup": True}
    added = subprocess.run(
        [sys.executable, "-m", "proxy", "operator", "add", "careful", "--role", "approver"],
        env={**os.environ, "PGHOLD_DATA_DIR": str(proxy.folder / "data")}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    headers = {"Authorization": f"Bearer {added.stdout.strip()}"}
    answer = proxy.http.post(f"/api/v1/holds/{hold['id']}/approve", json=body, headers=headers)
    assert (answer.status_code, "permission of its own" in answer.text) == (403, True)
    assert proxy.hold(hold["id"])["state"] == "pending"
    proxy.deny(hold["id"])
    client.join()


def test_look_can_be_switched_off(postgres18: PostgresServer, table: str) -> None:
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", environment={"PGHOLD_LOOK_BEFORE_RELEASE": "false"})
    try:
        client = Client(proxy, "DELETE FROM account")
        proxy.approve(proxy.wait_for_hold()["id"])
        client.join()
        assert client.error is None
        assert proxy.holds("all")[0]["impact"] is None
    finally:
        assert proxy.stop() == 0


def test_retries_and_grants_end_in_the_future_they_name(proxy: Pghold, drifting: PostgresServer) -> None:
    run(proxy, TEXT, options="-c pghold.on_hold=reject")
    [hold] = proxy.holds()
    proxy.approve(hold["id"])
    [grant] = proxy.http.get("/api/v1/grants").json()
    left = datetime.fromisoformat(grant["expires_at"].replace("Z", "+00:00")) - datetime.now(UTC)
    assert timedelta(minutes=55) < left < timedelta(minutes=65)
