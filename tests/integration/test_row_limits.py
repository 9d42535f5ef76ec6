"""The commit gate: what a transaction changes is counted by the server, and its commit is held when it is too much."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from tests.servers import Pghold, PostgresServer, wait_for

POLICY = """
[[policy.row_limits]]
rows = 5
relations = ["item", "archive", "child"]
roles = ["postgres"]

[[policy.row_limits]]
rows = 0
relations = ["sacred"]

[[policy.on_hold]]
action = "reject"
applications = ["impatient"]
"""


@pytest.fixture(scope="module")
def proxy(postgres18: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pghold]:
    policy = tmp_path_factory.mktemp("policy") / "pghold.toml"
    policy.write_text(POLICY)
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", "--policy", str(policy))
    yield proxy
    assert proxy.stop() == 0


@pytest.fixture(autouse=True)
def items(postgres18: PostgresServer, proxy: Pghold) -> Iterator[None]:
    postgres18.sql("DROP TABLE IF EXISTS child, archive, sacred; DROP TABLE IF EXISTS item CASCADE")
    postgres18.sql("CREATE TABLE item (id int PRIMARY KEY, n int); INSERT INTO item SELECT g, 0 FROM generate_series(1, 20) g")
    postgres18.sql("CREATE TABLE archive (id int, n int); CREATE TABLE sacred (id int)")
    postgres18.sql("CREATE TABLE child (item int REFERENCES item DEFERRABLE INITIALLY DEFERRED)")
    yield
    for hold in proxy.holds():
        proxy.deny(hold["id"])


def left(server: PostgresServer, table: str = "item") -> int:
    return int(server.sql(f"SELECT count(*) FROM {table}")[0][0])


class Doing(threading.Thread):
    """A client's work in a thread; `error` is what came of it."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.error: Exception | None = None
        self.result: Any = None
        self._work = work
        self.start()

    def run(self) -> None:
        try:
            self.result = self._work()
        except Exception as error:
            self.error = error

    def done(self) -> Any:
        self.join(20)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error
        return self.result


def simple(connection: psycopg.Connection[Any], sql: str) -> Any:
    """As one simple Query."""
    from psycopg import pq

    result = connection.pgconn.exec_(sql.encode())
    if result.status in (pq.ExecStatus.FATAL_ERROR,):
        raise psycopg.errors.lookup(result.error_field(pq.DiagnosticField.SQLSTATE).decode())(result.error_message.decode())  # type: ignore[union-attr]
    return result.command_status


def status(connection: psycopg.Connection[Any]) -> str:
    return connection.info.transaction_status.name


WAYS: dict[str, Callable[[psycopg.Connection[Any]], Any]] = {
    "simple": lambda c: simple(c, "DELETE FROM item WHERE id > 10"),
    "extended": lambda c: c.execute("DELETE FROM item WHERE id > %s", [10], prepare=True),
    "two in one message": lambda c: simple(c, "DELETE FROM item WHERE id > 17; DELETE FROM item WHERE id > 10"),
    "transaction": lambda c: _block(c, "DELETE FROM item WHERE id > 17", "DELETE FROM item WHERE id > 10"),
    "merge": lambda c: simple(c, "MERGE INTO item USING (SELECT 0 AS n) x ON item.n = x.n WHEN MATCHED AND item.id > 10 THEN DELETE"),
    "with": lambda c: simple(c, "WITH d AS (DELETE FROM item WHERE id > 10 RETURNING *) SELECT count(*) FROM d"),
    "sql prepared": lambda c: (simple(c, "PREPARE p AS DELETE FROM item WHERE id > 10"), simple(c, "EXECUTE p"), simple(c, "DEALLOCATE p")),
    "batch": lambda c: c.cursor().executemany("DELETE FROM item WHERE id = %s", [[n] for n in range(11, 21)]),
}


def _block(connection: psycopg.Connection[Any], *statements: str) -> None:
    with connection.transaction():
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize("way", WAYS)
def test_commit_waits_and_denial_rolls_back(way: str, proxy: Pghold, postgres18: PostgresServer) -> None:
    with proxy.connect() as connection:
        doing = Doing(lambda: WAYS[way](connection))
        hold = proxy.wait_for_hold()
        assert hold["rule_ids"] == ["row-limit"]
        assert "10 rows" in hold["findings"][0]["message"] or way == "with"
        assert left(postgres18) == 20  # nobody else sees it
        assert proxy.deny(hold["id"], "too many").status_code == 200
        if way == "batch":
            # The driver's pipeline does not survive an error at its Sync, as of a deferred constraint on the server itself.
            with pytest.raises(psycopg.Error):
                doing.done()
            assert left(postgres18) == 20
            connection.close()
            return
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="too many"):
            doing.done()
        if status(connection) != "IDLE":
            connection.rollback()
        assert status(connection) == "IDLE"
        assert left(postgres18) == 20
        assert connection.execute("SELECT 7").fetchone() == (7,)


@pytest.mark.parametrize("way", WAYS)
def test_approval_commits(way: str, proxy: Pghold, postgres18: PostgresServer) -> None:
    with proxy.connect() as connection:
        doing = Doing(lambda: WAYS[way](connection))
        hold = proxy.wait_for_hold()
        assert proxy.approve(hold["id"]).status_code == 200
        doing.done()
        assert status(connection) == "IDLE"
        assert left(postgres18) == 10
        assert proxy.wait_for_state(hold["id"], "done", "failed")["state"] == "done"
        assert connection.execute("SELECT 7").fetchone() == (7,)


def test_below_the_limit_nothing_waits(proxy: Pghold, postgres18: PostgresServer) -> None:
    with proxy.connect() as connection:
        assert simple(connection, "DELETE FROM item WHERE id > 15") == b"DELETE 5"
        assert status(connection) == "IDLE"
        connection.execute("UPDATE item SET n = 1 WHERE id < %s", [4])
        _block(connection, "UPDATE item SET n = 2 WHERE id < 3", "UPDATE item SET n = 3 WHERE id < 4")
        simple(connection, "BEGIN; UPDATE item SET n = 4 WHERE id = 1")
        assert status(connection) == "INTRANS"
        simple(connection, "COMMIT")
        with pytest.raises(psycopg.errors.UniqueViolation):
            simple(connection, "INSERT INTO item VALUES (1, 1)")
        assert status(connection) == "IDLE"
        assert simple(connection, "SELECT 1") == b"SELECT 1"
    assert proxy.holds() == []
    assert left(postgres18) == 15


def test_limit_is_per_transaction(proxy: Pghold, postgres18: PostgresServer) -> None:
    with proxy.connect() as connection:
        for n in range(0, 20, 4):
            connection.execute("DELETE FROM item WHERE id BETWEEN %s AND %s", [n + 1, n + 4])
    assert proxy.holds() == []
    assert left(postgres18) == 0


def test_relations_have_limits_of_their_own(proxy: Pghold, postgres18: PostgresServer) -> None:
    with proxy.connect() as connection:
        doing = Doing(lambda: simple(connection, "INSERT INTO sacred VALUES (1)"))
        hold = proxy.wait_for_hold()
        assert "1 rows changed in this transaction, the limit is 0 in sacred" in hold["findings"][0]["message"]
        proxy.approve(hold["id"])
        doing.done()
    assert left(postgres18, "sacred") == 1


def test_copy_from_is_counted(proxy: Pghold, postgres18: PostgresServer) -> None:
    def load(connection: psycopg.Connection[Any], count: int) -> None:
        with connection.cursor().copy("COPY archive FROM STDIN") as copy:
            for n in range(count):
                copy.write_row((n, n))

    with proxy.connect() as connection:
        load(connection, 5)
        assert left(postgres18, "archive") == 5
        doing = Doing(lambda: load(connection, 6))
        hold = proxy.wait_for_hold()
        assert "6 rows" in hold["findings"][0]["message"]
        proxy.deny(hold["id"])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            doing.done()
        assert left(postgres18, "archive") == 5
        assert status(connection) == "IDLE"


def test_copy_data_sent_ahead_of_its_invitation(proxy: Pghold, postgres18: PostgresServer) -> None:
    rows = "".join(f"{n}\t{n}\n" for n in range(3))
    done = subprocess.run(
        [str(postgres18.bindir / "psql"), "-h", "127.0.0.1", "-p", str(proxy.port), "-U", "postgres", "-d", "postgres", "-c",
         "COPY archive FROM STDIN"],
        input=rows.encode(), capture_output=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert left(postgres18, "archive") == 3


def test_script_that_commits_by_itself_is_held_before_it_runs(proxy: Pghold, postgres18: PostgresServer) -> None:
    with proxy.connect() as connection:
        doing = Doing(lambda: simple(connection, "BEGIN; DELETE FROM item WHERE id > 10; COMMIT"))
        hold = proxy.wait_for_hold()
        assert hold["rule_ids"] == ["row-limit"]
        proxy.deny(hold["id"])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            doing.done()
    assert left(postgres18) == 20


def test_what_a_savepoint_has_undone_still_counts(proxy: Pghold, postgres18: PostgresServer) -> None:
    with proxy.connect() as connection:
        simple(connection, "BEGIN")
        simple(connection, "DELETE FROM item WHERE id > 10")
        simple(connection, "SAVEPOINT s")
        with pytest.raises(psycopg.errors.DivisionByZero):
            simple(connection, "SELECT 1/0")
        simple(connection, "ROLLBACK TO s")
        doing = Doing(lambda: simple(connection, "COMMIT"))
        proxy.deny(proxy.wait_for_hold()["id"])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            doing.done()
        assert status(connection) == "IDLE"
    assert left(postgres18) == 20


def test_pipeline_is_counted_at_its_sync(proxy: Pghold, postgres18: PostgresServer) -> None:
    def work(connection: psycopg.Connection[Any]) -> None:
        with connection.pipeline():
            for n in range(11, 21):
                connection.execute("DELETE FROM item WHERE id = %s", [n])

    with proxy.connect() as connection:
        doing = Doing(lambda: work(connection))
        hold = proxy.wait_for_hold()
        assert left(postgres18) == 20
        proxy.deny(hold["id"])
        with pytest.raises(psycopg.Error):
            doing.done()
        connection.close()
    assert left(postgres18) == 20


def test_commit_behind_which_more_was_sent(proxy: Pghold, postgres18: PostgresServer) -> None:
    """BEGIN, DELETE, COMMIT and a DELETE of its own, sent without waiting for any answer."""
    from tests.proxy.wire import query

    with proxy.connect() as connection:
        import socket

        sock = socket.socket(fileno=connection.fileno(), proto=0)
        try:
            sock.setblocking(True)
            sock.sendall(b"".join(query(q) for q in ("BEGIN", "DELETE FROM item WHERE id = 1", "COMMIT", "DELETE FROM item WHERE id > 10")))
            hold = proxy.wait_for_hold()
            assert "10 rows" in hold["findings"][0]["message"]
            assert left(postgres18) == 19
            proxy.deny(hold["id"])
            proxy.wait_for_state(hold["id"], "denied")
            wait_for(lambda: left(postgres18) == 19, 5)
        finally:
            sock.detach()


def test_deferred_constraint_fails_as_it_would_directly(proxy: Pghold, postgres18: PostgresServer) -> None:
    with proxy.connect() as connection:
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            simple(connection, "INSERT INTO child VALUES (999)")
        assert status(connection) == "IDLE"
    assert left(postgres18, "child") == 0


def test_client_that_goes_away_has_changed_nothing(proxy: Pghold, postgres18: PostgresServer) -> None:
    connection = proxy.connect()
    doing = Doing(lambda: simple(connection, "DELETE FROM item WHERE id > 10"))
    hold = proxy.wait_for_hold()
    import os

    os.close(os.dup(connection.fileno()))
    connection.pgconn.finish()
    doing.join(10)
    assert proxy.wait_for_state(hold["id"], "abandoned")
    assert left(postgres18) == 20
    assert proxy.approve(hold["id"]).status_code == 409  # a COMMIT that nobody waits for is no statement to send again


def test_cancel_rolls_back(proxy: Pghold, postgres18: PostgresServer) -> None:
    with proxy.connect() as connection:
        doing = Doing(lambda: simple(connection, "DELETE FROM item WHERE id > 10"))
        hold = proxy.wait_for_hold()
        connection.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            doing.done()
        assert proxy.wait_for_state(hold["id"], "withdrawn")
        assert status(connection) == "IDLE"
    assert left(postgres18) == 20


def test_who_does_not_wait_is_rolled_back_at_once(proxy: Pghold, postgres18: PostgresServer) -> None:
    with proxy.connect(application_name="impatient") as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="rows changed"):
            simple(connection, "DELETE FROM item WHERE id > 10")
        assert status(connection) == "IDLE"
    assert left(postgres18) == 20


def test_asyncpg_transaction(proxy: Pghold, postgres18: PostgresServer) -> None:
    async def work() -> None:
        connection = await asyncpg.connect(host="127.0.0.1", port=proxy.port, user="postgres", database="postgres")
        try:
            async with connection.transaction():
                await connection.execute("DELETE FROM item WHERE id > $1", 10)
        finally:
            await connection.close()

    doing = Doing(lambda: asyncio.run(work()))
    proxy.deny(proxy.wait_for_hold()["id"])
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        doing.done()
    assert left(postgres18) == 20


def test_who_has_no_limit_is_not_counted(proxy: Pghold, postgres18: PostgresServer, tmp_path: Path) -> None:
    with proxy.connect(user="scram", password="secret") as connection:
        simple(connection, "DELETE FROM item WHERE id > 10")
    assert left(postgres18) == 10


def test_a_statement_that_was_approved_is_not_held_once_more(proxy: Pghold, postgres18: PostgresServer) -> None:
    with proxy.connect() as connection:
        doing = Doing(lambda: simple(connection, "DELETE FROM item"))
        proxy.approve(proxy.wait_for_hold()["id"])
        doing.done()
    assert left(postgres18) == 0


@pytest.fixture
def copying(postgres18: PostgresServer, tmp_path: Path) -> Iterator[Pghold]:
    policy = tmp_path / "pghold.toml"
    policy.write_text(POLICY)
    proxy = Pghold(f"postgresql://postgres@127.0.0.1:{postgres18.port}/postgres", "--policy", str(policy), backups=True)
    yield proxy
    assert proxy.stop() == 0


def test_what_an_approved_commit_changes_is_copied_as_it_was(copying: Pghold, postgres18: PostgresServer) -> None:
    with copying.connect() as connection:
        for way in ("simple", "transaction", "extended"):
            doing = Doing(lambda way=way: WAYS[way](connection))  # type: ignore[misc]
            hold = copying.wait_for_hold()
            copying.approve(hold["id"])
            doing.done()
            backup = copying.wait_for_state(hold["id"], "done")["backup"]
            assert backup["kind"] == "dump"
            assert "20 rows" in backup["text"]
            assert "equal" in backup["text"]
            assert left(postgres18) == 10
            postgres18.sql("DELETE FROM item; INSERT INTO item SELECT g, 0 FROM generate_series(1, 20) g")
        doing = Doing(lambda: simple(connection, "INSERT INTO archive SELECT g FROM generate_series(1, 9) g"))
        hold = copying.wait_for_hold()
        copying.approve(hold["id"])
        doing.done()
        assert copying.wait_for_state(hold["id"], "done")["backup"]["kind"] == "none"  # what is new destroys nothing
