"""What goes wrong between the approval and the statement, with the proxy as a process: no table is ever gone without a proven copy of it."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.faulty import DATABASE, ROWS, Faulty, children, make_database
from tests.matrix import ENDED, WAIT_S, Sent, ended
from tests.servers import PostgresServer, free_port, wait_for


@pytest.fixture(scope="module")
def shared(postgres18: PostgresServer, folder: Path) -> Iterator[Faulty]:
    make_database(postgres18)
    made = Faulty(postgres18, folder / "faults")
    yield made
    made.programs.go_on()
    assert made.proxy.stop() == 0


@pytest.fixture
def faulty(shared: Faulty) -> Iterator[Faulty]:
    shared.anew()
    yield shared
    shared.programs.go_on()


# --- programs and servers that die -----------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_pg_dump_is_killed(faulty: Faulty, when: str) -> None:
    faulty.programs.stop("pg_dump", when)
    sent, hold_id = faulty.approved()
    faulty.programs.wait("pg_dump")
    for pid in children(faulty.proxy.process.pid, "pg_dump"):
        os.kill(pid, signal.SIGKILL)
    faulty.assert_denied(sent, hold_id, "killed by signal 9")


def test_the_scratch_server_is_killed(faulty: Faulty) -> None:
    faulty.programs.stop("pg_restore")
    sent, hold_id = faulty.approved()
    faulty.programs.wait("pg_restore")
    scratch = int(next((faulty.proxy.folder / "data" / "scratch").rglob("postmaster.pid")).read_text().split()[0])
    assert scratch in children(faulty.proxy.process.pid)
    os.kill(scratch, signal.SIGKILL)
    faulty.programs.go_on()
    faulty.assert_denied(sent, hold_id, "proven", "scratch")
    # It is started again for the next.
    sent, hold_id = faulty.approved()
    assert sent.done().error is None
    faulty.assert_protected(hold_id)


def test_the_copy_is_damaged_before_its_proof(faulty: Faulty) -> None:
    faulty.programs.stop("pg_restore")
    sent, hold_id = faulty.approved()
    faulty.programs.wait("pg_restore")
    # Its table of contents is read before: what is torn is the rows.
    for archive in (faulty.proxy.folder / "data" / "backups").rglob("archive*"):
        data = bytearray(archive.read_bytes())
        if archive.stat().st_mtime > 0 and len(data) > 400:
            data[-300:] = bytes(300)
            archive.write_bytes(data)
    faulty.programs.go_on()
    faulty.assert_denied(sent, hold_id, "proven")


def test_the_backend_is_terminated(faulty: Faulty) -> None:
    faulty.programs.stop("pg_dump")
    sent, hold_id = faulty.approved()
    faulty.programs.wait("pg_dump")
    faulty.server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'the client'")
    sent.done()
    assert isinstance(sent.error, psycopg.OperationalError)
    assert ended(faulty.proxy, hold_id)["state"] == "abandoned"
    faulty.assert_intact()


# --- the client ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", ["pg_dump", "pg_restore"])
def test_the_client_is_gone(faulty: Faulty, program: str) -> None:
    faulty.programs.stop(program)
    sent, hold_id = faulty.approved()
    faulty.programs.wait(program)
    assert sent.connection is not None
    with socket.socket(fileno=os.dup(sent.connection.fileno())) as link:
        link.shutdown(socket.SHUT_RDWR)
    assert ended(faulty.proxy, hold_id)["state"] == "abandoned"
    sent.done()
    faulty.assert_intact()


@pytest.mark.parametrize(("program", "first"), [("pg_dump", ()), ("pg_restore", ("BEGIN",))])
def test_the_client_cancels(faulty: Faulty, program: str, first: tuple[str, ...]) -> None:
    faulty.programs.stop(program)
    sent, hold_id = faulty.approved("DELETE FROM victim", *first)
    faulty.programs.wait(program)
    assert sent.connection is not None
    sent.connection.cancel_safe()
    sent.done()
    assert isinstance(sent.error, psycopg.errors.QueryCanceled), sent.error
    assert ended(faulty.proxy, hold_id)["state"] == "withdrawn"
    faulty.assert_intact()


# --- locks and limits ------------------------------------------------------------------------------------------------


def test_no_lock_is_to_be_had(faulty: Faulty) -> None:
    with faulty.server.connect(DATABASE) as other, other.transaction():
        other.execute("UPDATE victim SET note = note WHERE id = 1")
        sent, hold_id = faulty.approved()
        sent.done()
        assert faulty.rows() == ROWS
    faulty.assert_denied(sent, hold_id, "lock")


def test_a_time_limit(postgres18: PostgresServer, folder: Path) -> None:
    make_database(postgres18)
    made = Faulty(postgres18, folder / "faults-time", PGHOLD_BACKUP_TIMEOUT_S="2")
    try:
        made.anew()
        made.programs.stop("pg_dump")
        sent, hold_id = made.approved()
        made.assert_denied(sent, hold_id, "longer than 2 s")
    finally:
        made.programs.go_on()
        assert made.proxy.stop() == 0


def test_many_at_once(faulty: Faulty) -> None:
    count = 20
    faulty.server.sql("".join(f"DROP TABLE IF EXISTS many_{n}; CREATE TABLE many_{n} AS SELECT {n} AS id;" for n in range(count)), DATABASE)
    sent = [faulty.send(f"DROP TABLE many_{n}") for n in range(count)]
    wait_for(lambda: len(faulty.proxy.holds()) == count, WAIT_S)
    holds = [h["id"] for h in faulty.proxy.holds()]
    for hold_id in holds:
        assert faulty.proxy.approve(hold_id).status_code == 200
    most = 0
    while any(faulty.proxy.hold(h)["state"] not in ENDED for h in holds):
        most = max(most, len(children(faulty.proxy.process.pid, "pg_dump")))
    assert [s.done().error for s in sent] == [None] * count
    # The wrapper and the program of two.
    assert most <= 4
    for hold_id in holds:
        assert faulty.assert_protected(hold_id)["rows"] == 1
    assert faulty.server.sql("SELECT count(*) FROM pg_class WHERE relname LIKE 'many!_%' ESCAPE '!'", DATABASE) == [(0,)]


def test_two_drops_of_one_table(faulty: Faulty) -> None:
    sent = [faulty.send("DROP TABLE victim") for _ in range(2)]
    wait_for(lambda: len(faulty.proxy.holds()) == 2, WAIT_S)
    holds = [h["id"] for h in faulty.proxy.holds()]
    for hold_id in holds:
        faulty.proxy.approve(hold_id)
    while not all(s.is_over for s in sent):
        # One of them is held again when the other was faster: it is not there any more.
        wait_for(lambda: all(s.is_over for s in sent) or bool(faulty.proxy.holds()), WAIT_S)
        for hold in faulty.proxy.holds():
            faulty.proxy.deny(hold["id"])
    done = [h for h in holds if ended(faulty.proxy, h)["state"] == "done"]
    assert len(done) == 1
    assert faulty.assert_protected(done[0])["rows"] == ROWS
    faulty.assert_nothing_left()


# --- what changes meanwhile ------------------------------------------------------------------------------------------


def test_the_table_grows_all_the_time(faulty: Faulty) -> None:
    """Each row whose insert was confirmed is there after the drop was undone."""
    confirmed: list[int] = []
    over = threading.Event()

    def write(start: int) -> None:
        with faulty.server.connect(DATABASE) as connection:
            number = start
            while not over.is_set():
                try:
                    connection.execute("INSERT INTO public.victim VALUES (%s, 'written')", (number,))
                except psycopg.errors.UndefinedTable:
                    return
                confirmed.append(number)
                number += 1

    writers = [threading.Thread(target=write, args=(1_000_000 * n,), daemon=True) for n in (1, 2)]
    for writer in writers:
        writer.start()
    try:
        wait_for(lambda: len(confirmed) > 50, WAIT_S)
        faulty.programs.stop("pg_dump")
        sent, hold_id = faulty.approved()
        before = len(confirmed)
        faulty.programs.wait("pg_dump")
        faulty.programs.go_on()
        assert sent.done().error is None
        for writer in writers:
            writer.join(WAIT_S)
            assert not writer.is_alive()
    finally:
        over.set()
    assert len(confirmed) >= before
    faulty.assert_protected(hold_id)
    assert faulty.undo(hold_id)["state"] == "done"
    there = {row[0] for row in faulty.server.sql("SELECT id FROM victim WHERE note = 'written'", DATABASE)}
    assert there == set(confirmed)


def test_a_column_is_added_while_it_waits_for_the_lock(faulty: Faulty) -> None:
    with faulty.server.connect(DATABASE) as other:
        with other.transaction():
            other.execute("INSERT INTO victim VALUES (0, 'late')")
            sent, hold_id = faulty.approved()
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'ShareRowExclusiveLock'"
            wait_for(lambda: faulty.server.sql(waits) == [(1,)], 10)
            other.execute("ALTER TABLE victim ADD COLUMN added text DEFAULT 'meanwhile'")
        sent.done()
    if sent.error is None:
        faulty.assert_protected(hold_id)
        assert faulty.undo(hold_id)["state"] == "done"
    assert faulty.server.sql("SELECT count(*), count(added) FROM victim", DATABASE) == [(ROWS + 1, ROWS + 1)]


def test_another_table_has_its_name_when_it_gets_the_lock(faulty: Faulty) -> None:
    with faulty.server.connect(DATABASE) as other:
        with other.transaction():
            other.execute("INSERT INTO victim VALUES (0, 'late')")
            sent, hold_id = faulty.approved()
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'ShareRowExclusiveLock'"
            wait_for(lambda: faulty.server.sql(waits) == [(1,)], 10)
            other.execute("ALTER TABLE victim RENAME TO victim_before")
            other.execute("CREATE TABLE victim (other text)")
            other.execute("INSERT INTO victim VALUES ('not copied')")
        wait_for(lambda: sent.is_over or bool(faulty.proxy.holds()), WAIT_S)
        for hold in faulty.proxy.holds():
            faulty.proxy.deny(hold["id"])
        sent.done()
    assert faulty.server.sql("SELECT count(*) FROM victim_before", DATABASE) == [(ROWS + 1,)]
    if faulty.server.sql("SELECT to_regclass('victim')", DATABASE) == [(None,)]:
        assert '"victim"' in str(faulty.assert_protected(hold_id)["tables"])
        assert faulty.undo(hold_id)["state"] == "done"
    assert faulty.server.sql("SELECT * FROM victim", DATABASE) == [("not copied",)]


def test_a_table_is_added_to_a_schema_that_is_dropped(faulty: Faulty) -> None:
    faulty.server.sql("DROP SCHEMA IF EXISTS area CASCADE; CREATE SCHEMA area; CREATE TABLE area.one AS SELECT 1 AS i", DATABASE)
    faulty.programs.stop("pg_restore")
    sent, hold_id = faulty.approved("DROP SCHEMA area CASCADE")
    faulty.programs.wait("pg_restore")
    faulty.server.sql("CREATE TABLE area.two AS SELECT 2 AS i", DATABASE)
    faulty.programs.go_on()
    faulty.assert_denied(sent, hold_id, "more would be lost")
    assert faulty.server.sql("SELECT i FROM area.two", DATABASE) == [(2,)]
    sent, hold_id = faulty.approved("DROP SCHEMA area CASCADE")
    assert sent.done().error is None
    assert len(faulty.assert_protected(hold_id)["tables"]) == 2


def test_the_table_is_changed_after_the_hold_was_opened(faulty: Faulty) -> None:
    sent = faulty.send("DROP TABLE victim")
    first = faulty.proxy.wait_for_hold()["id"]
    wait_for(lambda: faulty.proxy.hold(first).get("impact") or faulty.proxy.hold(first).get("sight"), 10)
    faulty.server.sql("ALTER TABLE victim ADD COLUMN added int", DATABASE)
    faulty.proxy.approve(first)
    wait_for(lambda: bool(faulty.proxy.holds()) or sent.is_over, WAIT_S)
    assert not sent.is_over
    [again] = faulty.proxy.holds()
    assert faulty.proxy.hold(first)["state"] == "withdrawn"
    faulty.proxy.deny(again["id"])
    sent.done()
    faulty.assert_intact()


# --- the session's own transaction -----------------------------------------------------------------------------------


def test_the_transaction_has_locked_rows_of_it(faulty: Faulty) -> None:
    sent, hold_id = faulty.approved("DROP TABLE victim", "BEGIN", "SELECT FROM victim WHERE id = 1 FOR UPDATE")
    assert sent.done().error is None
    faulty.assert_protected(hold_id)
    assert faulty.undo(hold_id)["state"] == "done"
    assert faulty.rows() == ROWS


def test_a_table_that_the_transaction_has_locked_exclusively(faulty: Faulty) -> None:
    """Nobody else can read it then."""
    sent, hold_id = faulty.approved("DROP TABLE victim", "BEGIN", "LOCK TABLE victim IN ACCESS EXCLUSIVE MODE")
    sent.done()
    faulty.assert_denied(sent, hold_id, "locked against everybody else")


def test_pg_dump_would_wait_for_the_session_itself(faulty: Faulty) -> None:
    """It has no limit for locks that come with definitions; the session would wait for it until the time limit."""
    faulty.server.sql(
        "DROP TABLE IF EXISTS child, parent CASCADE; CREATE TABLE parent (id int PRIMARY KEY);"
        "CREATE TABLE child (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, parent int DEFAULT 5 REFERENCES parent)",
        DATABASE,
    )

    def work(connection: psycopg.Connection[Any]) -> None:
        for statement in ("BEGIN", "DROP TABLE child", "TRUNCATE victim"):
            connection.execute(statement)  # type: ignore[call-overload]

    sent = Sent(faulty.proxy, DATABASE, work)
    first = faulty.proxy.wait_for_hold()["id"]
    assert faulty.proxy.approve(first).status_code == 200
    assert ended(faulty.proxy, first)["state"] == "done"
    faulty.assert_protected(first)
    second = faulty.proxy.wait_for_hold()["id"]
    assert faulty.proxy.approve(second).status_code == 200
    faulty.assert_denied(sent, second, "wait for what this session")
    assert faulty.server.sql("SELECT to_regclass('child')::text", DATABASE) == [("child",)]


# --- ways around -----------------------------------------------------------------------------------------------------


def test_without_backup_is_on_record(faulty: Faulty) -> None:
    faulty.programs.stop("pg_dump")
    sent, hold_id = faulty.approved(without_backup=True)
    assert sent.done().error is None
    assert ended(faulty.proxy, hold_id)["state"] == "done"
    [entry] = [e for e in faulty.proxy.audit() if e["hold_id"] == hold_id and e["event"] == "unprotected"]
    assert "admin" in str(entry) or entry["operator"]
    assert faulty.server.sql("SELECT to_regclass('victim')", DATABASE) == [(None,)]
    assert faulty.proxy.http.post(f"/api/v1/holds/{hold_id}/undo", json={}).status_code == 409


def test_a_retry_that_was_approved_ahead_is_protected(faulty: Faulty) -> None:
    options = {"options": "-c pghold.on_hold=reject"}
    sent = faulty.send("DROP TABLE victim", **options).done()
    assert isinstance(sent.error, psycopg.errors.InsufficientPrivilege)
    assert faulty.rows() == ROWS
    [hold] = faulty.proxy.holds()
    assert faulty.proxy.approve(hold["id"]).status_code == 200
    faulty.programs.stop("pg_dump")
    again = faulty.send("DROP TABLE victim", **options)
    faulty.programs.wait("pg_dump")
    assert faulty.rows() == ROWS
    faulty.programs.go_on()
    assert again.done().error is None
    faulty.assert_protected(hold["id"])
    assert faulty.undo(hold["id"])["state"] == "done"
    assert faulty.rows() == ROWS


def test_a_session_grant_is_protected(faulty: Faulty) -> None:
    def work(connection: psycopg.Connection[Any]) -> None:
        connection.execute("DELETE FROM victim")
        connection.execute("DELETE FROM victim")

    sent = Sent(faulty.proxy, DATABASE, work)
    first = faulty.proxy.wait_for_hold()["id"]
    body = {"phrase": "YES I UNDERSTAND THE RISKS", "reason": "tested", "session_grant_s": 60}
    assert faulty.proxy.http.post(f"/api/v1/holds/{first}/approve", json=body).status_code == 200
    assert sent.done().error is None
    holds = [h for h in faulty.proxy.holds("all") if h["id"] >= first]
    assert len(holds) == 2
    for hold in holds:
        faulty.assert_protected(hold["id"])


def test_control_without_a_right_to_log_in(postgres18: PostgresServer, folder: Path) -> None:
    make_database(postgres18)
    control = f"postgresql://nobody_of_this_name:secret-word@127.0.0.1:{postgres18.port}/{DATABASE}"
    made = Faulty(postgres18, folder / "faults-login", PGHOLD_CONTROL=control)
    try:
        made.anew()
        sent, hold_id = made.approved()
        made.assert_denied(sent, hold_id, "nobody_of_this_name")
        told = f"{sent.error} {made.proxy.hold(hold_id)} {made.proxy.log.read_text()}"
        assert "secret-word" not in told
        # And with a server that is not there.
    finally:
        assert made.proxy.stop() == 0


def nowhere() -> str:
    return f"postgresql://postgres@127.0.0.1:{free_port()}/{DATABASE}"


def test_control_of_a_server_that_is_not_there(postgres18: PostgresServer, folder: Path) -> None:
    make_database(postgres18)
    made = Faulty(postgres18, folder / "faults-nowhere", PGHOLD_CONTROL=nowhere())
    try:
        made.anew()
        sent, hold_id = made.approved()
        made.assert_denied(sent, hold_id, "no copy can be planned")
    finally:
        assert made.proxy.stop() == 0
