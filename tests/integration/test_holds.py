"""Each way a hold can end, in each way a statement can be sent, on a real server, byte by byte as the client sees it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from protocol import Framer, StartupMessage
from protocol.framing import BACKEND_LIMITS
from tests.proxy.wire import SYNC, TERMINATE, bind, execute, fields, parse, query
from tests.servers import Pghold, PostgresServer, wait_for

DELETE = "DELETE FROM account"
SENT = {
    "simple": query(DELETE),
    "extended": parse(DELETE) + bind() + execute() + SYNC,
    "first": parse(DELETE) + bind() + execute() + parse("SELECT 1") + bind() + execute() + SYNC,
    "middle": parse("SELECT 1") + bind() + execute() + parse(DELETE) + bind() + execute() + parse("SELECT 2") + bind() + execute() + SYNC,
    "last": parse("SELECT 1") + bind() + execute() + parse(DELETE) + bind() + execute() + SYNC,
}
APPROVED = {"simple": "CZ", "extended": "12CZ", "first": "12C12DCZ", "middle": "12DC12C12DCZ", "last": "12DC12CZ"}
REFUSED = {"simple": "EZ", "extended": "12EZ", "first": "12EZ", "middle": "12DC12EZ", "last": "12DC12EZ"}


OPENED: list[Raw] = []


@pytest.fixture(autouse=True)
def _close_all() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


class Raw:
    """A client that speaks bytes; closed after the test."""

    def __init__(self, port: int) -> None:
        OPENED.append(self)
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._framer = Framer(BACKEND_LIMITS)
        self._frames: list[tuple[str, bytes]] = []
        self.key = b""
        self.socket.sendall(StartupMessage(3, 0, ((b"user", b"postgres"), (b"database", b"postgres"))).encode())
        for kind, body in self.until("Z"):
            if kind == "K":
                self.key = body

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def next(self) -> tuple[str, bytes] | None:
        while not self._frames:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._frames += [(chr(k), b) for k, b in self._framer.feed(data)]
        return self._frames.pop(0)

    def until(self, last: str) -> list[tuple[str, bytes]]:
        found = []
        while (message := self.next()) is not None:
            found.append(message)
            if message[0] == last:
                break
        return found

    def reply(self, last: str = "Z") -> list[tuple[str, bytes]]:
        return [m for m in self.until(last) if m[0] != "N"]

    def run(self, script: str) -> None:
        self.send(query(script))
        self.until("Z")

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def client(pghold: Pghold) -> Iterator[Raw]:
    raw = Raw(pghold.port)
    yield raw
    raw.close()


def kinds(messages: list[tuple[str, bytes]]) -> str:
    return "".join(kind for kind, _ in messages)


def error_of(messages: list[tuple[str, bytes]]) -> dict[str, str]:
    return next(fields(body) for kind, body in messages if kind == "E")


def rows(server: PostgresServer) -> int:
    return int(server.sql("SELECT count(*) FROM account")[0][0])


@pytest.mark.parametrize("in_transaction", [False, True], ids=["autocommit", "transaction"])
@pytest.mark.parametrize("how", list(SENT))
class TestEndings:
    def begin(self, client: Raw, in_transaction: bool) -> None:
        if in_transaction:
            client.run("BEGIN")

    def finish(self, client: Raw, in_transaction: bool) -> None:
        """The session goes on, in the state in which PostgreSQL would be."""
        if in_transaction:
            client.run("ROLLBACK")
        client.send(query("SELECT 7"))
        assert kinds(client.reply()) == "TDCZ"

    def test_approve(self, pghold: Pghold, client: Raw, table: str, postgres18: PostgresServer, how: str, in_transaction: bool) -> None:
        self.begin(client, in_transaction)
        client.send(SENT[how])
        hold = pghold.wait_for_hold()
        assert rows(postgres18) == 10
        assert hold["in_transaction"] is (in_transaction or how != "simple")
        assert pghold.approve(hold["id"]).status_code == 200
        messages = client.reply()
        assert kinds(messages) == APPROVED[how]
        assert b"DELETE 10\0" in [b for k, b in messages if k == "C"]
        assert pghold.wait_for_state(hold["id"], "done")["outcome"] == "DELETE 10"
        if in_transaction:
            client.run("COMMIT")
        assert rows(postgres18) == 0
        events = [r["event"] for r in pghold.audit() if r["hold_id"] == hold["id"]]
        assert events == ["held", "approved", "outcome"]

    def test_deny(self, pghold: Pghold, client: Raw, table: str, postgres18: PostgresServer, how: str, in_transaction: bool) -> None:
        self.begin(client, in_transaction)
        before = pghold.metric("pghold_holds_decided_total")
        client.send(SENT[how])
        hold = pghold.wait_for_hold()
        assert pghold.deny(hold["id"], "keep them").status_code == 200
        messages = client.reply()
        assert kinds(messages) == REFUSED[how]
        error = error_of(messages)
        assert error["C"] == "42501"
        assert "keep them" in error["M"]
        assert messages[-1] == ("Z", b"E" if in_transaction else b"I")
        self.finish(client, in_transaction)
        assert rows(postgres18) == 10
        assert pghold.metric("pghold_holds_decided_total") == before + 1
        assert [r["event"] for r in pghold.audit() if r["hold_id"] == hold["id"]] == ["held", "denied"]

    def test_cancel(self, pghold: Pghold, client: Raw, table: str, postgres18: PostgresServer, how: str, in_transaction: bool) -> None:
        self.begin(client, in_transaction)
        client.send(SENT[how])
        hold = pghold.wait_for_hold()
        request = (80877102).to_bytes(4, "big") + client.key
        with socket.create_connection(("127.0.0.1", pghold.port)) as other:
            other.sendall((len(request) + 4).to_bytes(4, "big") + request)
            assert other.recv(1) == b""
        messages = client.reply()
        assert kinds(messages) == REFUSED[how]
        assert error_of(messages)["C"] == "57014"
        self.finish(client, in_transaction)
        assert rows(postgres18) == 10
        assert pghold.wait_for_state(hold["id"], "withdrawn")
        assert pghold.approve(hold["id"]).status_code == 409

    def test_client_gone(self, pghold: Pghold, table: str, postgres18: PostgresServer, how: str, in_transaction: bool) -> None:
        client = Raw(pghold.port)
        self.begin(client, in_transaction)
        client.send(SENT[how])
        hold = pghold.wait_for_hold()
        client.close()
        assert pghold.wait_for_state(hold["id"], "abandoned")
        assert pghold.deny(hold["id"]).status_code == 409
        assert rows(postgres18) == 10
        assert [r["event"] for r in pghold.audit() if r["hold_id"] == hold["id"]][:2] == ["held", "abandoned"]

    def test_client_terminates(
        self, pghold: Pghold, client: Raw, table: str, postgres18: PostgresServer, how: str, in_transaction: bool
    ) -> None:
        self.begin(client, in_transaction)
        client.send(SENT[how])
        hold = pghold.wait_for_hold()
        client.send(TERMINATE)
        assert pghold.wait_for_state(hold["id"], "abandoned")
        assert rows(postgres18) == 10

    def test_backend_gone(
        self, pghold: Pghold, client: Raw, table: str, postgres18: PostgresServer, how: str, in_transaction: bool
    ) -> None:
        self.begin(client, in_transaction)
        client.send(SENT[how])
        hold = pghold.wait_for_hold()
        pid = int.from_bytes(client.key[:4], "big")
        postgres18.sql(f"SELECT pg_terminate_backend({pid})")
        messages = client.reply("?")
        assert error_of(messages)["C"] in ("57P01", "08006")
        assert pghold.wait_for_state(hold["id"], "abandoned")
        assert rows(postgres18) == 10


@pytest.mark.parametrize("how", list(SENT))
@pytest.mark.parametrize("in_transaction", [False, True], ids=["autocommit", "transaction"])
def test_expiry(postgres18: PostgresServer, table: str, how: str, in_transaction: bool, quick: Pghold) -> None:
    client = Raw(quick.port)
    if in_transaction:
        client.run("BEGIN")
    client.send(SENT[how])
    messages = client.reply()
    assert kinds(messages) == REFUSED[how]
    assert error_of(messages)["C"] == "42501"
    hold = quick.holds("all")[0]
    assert hold["state"] == "expired"
    assert rows(postgres18) == 10
    assert [r["event"] for r in quick.audit() if r["hold_id"] == hold["id"]] == ["held", "expired"]
    client.close()


@pytest.fixture(scope="module")
def quick(postgres18: PostgresServer) -> Iterator[Pghold]:
    proxy = Pghold(
        f"postgresql://127.0.0.1:{postgres18.port}/postgres",
        "--hold-timeout", "0.4", "--hold-timeout-in-transaction", "0.3", "--heartbeat", "0.1",
    )  # fmt: skip
    yield proxy
    assert proxy.stop() == 0


def test_heartbeat_notices_reach_the_client(quick: Pghold, table: str) -> None:
    client = Raw(quick.port)
    client.send(query(DELETE))
    notices = [fields(b)["M"] for k, b in client.until("Z") if k == "N"]
    assert len(notices) >= 2
    assert "still waits" in notices[1]
    client.close()


@pytest.mark.parametrize("how", list(SENT))
@pytest.mark.parametrize("in_transaction", [False, True], ids=["autocommit", "transaction"])
def test_proxy_stopped(postgres18: PostgresServer, table: str, how: str, in_transaction: bool) -> None:
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", "--drain-timeout", "1")
    client = Raw(proxy.port)
    if in_transaction:
        client.run("BEGIN")
    client.send(SENT[how])
    hold = proxy.wait_for_hold()
    proxy.process.send_signal(signal.SIGTERM)
    messages = client.reply("Z")
    assert kinds(messages) == REFUSED[how]
    assert error_of(messages)["C"] == "57P01"
    last = client.reply("?")
    assert error_of(last)["S"] == "FATAL"
    assert proxy.stop() == 0
    assert rows(postgres18) == 10
    records = [r["event"] for r in proxy.audit() if r["hold_id"] == hold["id"]]
    assert records == ["held", "withdrawn"]


def test_restart_marks_what_was_pending_abandoned(postgres18: PostgresServer, table: str) -> None:
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres")
    client = Raw(proxy.port)
    client.send(query(DELETE))
    hold = proxy.wait_for_hold()
    proxy.stop(signal.SIGKILL)
    assert rows(postgres18) == 10
    proxy.start()
    assert proxy.hold(hold["id"])["state"] == "abandoned"
    assert proxy.deny(hold["id"]).status_code == 409
    records = [r["event"] for r in proxy.audit() if r["hold_id"] == hold["id"]]
    assert records == ["held", "abandoned", "decision too late"]
    environment = {**os.environ, "PGHOLD_DATA_DIR": str(proxy.folder / "data")}
    done = subprocess.run([sys.executable, "-m", "proxy", "audit", "verify"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    proxy.stop()


def test_server_that_is_down_is_told_and_found_again(folder, postgres18: PostgresServer) -> None:  # type: ignore[no-untyped-def]
    server = PostgresServer(folder / "downtime", postgres18.bindir)
    proxy = Pghold(f"postgresql://127.0.0.1:{server.port}/postgres")
    assert proxy.http.get("/readyz").status_code == 200
    server.stop()
    with socket.create_connection(("127.0.0.1", proxy.port)) as sock:
        sock.sendall(StartupMessage(3, 0, ((b"user", b"postgres"),)).encode())
        answer = sock.recv(4096)
    assert b"08006" in answer
    assert str(server.port).encode() in answer
    assert proxy.http.get("/readyz").status_code == 503
    server.start()
    Raw(proxy.port).close()
    assert proxy.http.get("/readyz").status_code == 200
    proxy.stop()
    server.stop()


def test_decisions_race_to_one_outcome(pghold: Pghold, client: Raw, table: str) -> None:
    client.send(query(DELETE))
    hold = pghold.wait_for_hold()
    codes = sorted([pghold.deny(hold["id"]).status_code, pghold.approve(hold["id"]).status_code, pghold.deny(hold["id"]).status_code])
    assert codes == [200, 409, 409]
    assert kinds(client.reply()) == "EZ"


def test_many_pending_holds_do_not_slow_the_rest(pghold: Pghold, table: str) -> None:
    waiting = [Raw(pghold.port) for _ in range(50)]
    for raw in waiting:
        raw.send(query(DELETE))
    wait_for(lambda: len(pghold.holds()) == 50, 20)
    other = Raw(pghold.port)
    other.send(query("SELECT 1"))
    assert kinds(other.reply()) == "TDCZ"
    for raw in waiting:
        raw.close()
    wait_for(lambda: not pghold.holds(), 20)
    other.close()


def test_value_of_a_parameter_is_judged_when_it_is_bound(pghold: Pghold, postgres18: PostgresServer, table: str) -> None:
    postgres18.sql("ALTER TABLE account ADD name text DEFAULT 'x'")
    with pghold.connect(options="-c statement_timeout=1000") as link:
        deleting = "DELETE FROM account WHERE name LIKE %s"
        assert link.execute(deleting, ("y%",), prepare=True).rowcount == 0
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(link.execute, deleting, ("%",), prepare=True)
            hold = pghold.wait_for_hold()
            assert hold["rule_ids"] == ["always-true-where"]
            pghold.deny(hold["id"])
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                waiting.result(10)
        assert link.execute(deleting, ("x",), prepare=True).rowcount == 10


def test_long_script_is_judged_elsewhere_and_keeps_its_place(pghold: Pghold, table: str) -> None:
    long = "/* " + "x" * 20_000 + " */ "
    with pghold.connect() as link:
        with link.pipeline():
            first = link.execute("SELECT 1")
            second = link.execute(long + "SELECT %s::int", (2,))
            third = link.execute("SELECT 3")
        assert [c.fetchone() for c in (first, second, third)] == [(1,), (2,), (3,)]
        assert link.execute(long + "SELECT 4").fetchone() == (4,)
        with ThreadPoolExecutor() as pool:
            for prepared in (False, True):
                waiting = pool.submit(link.execute, long + "DROP TABLE account", prepare=prepared)
                pghold.deny(pghold.wait_for_hold()["id"])
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    waiting.result(10)
        assert link.execute("SELECT count(*) FROM account").fetchone() == (10,)
