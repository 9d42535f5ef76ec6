"""Bad input: the offender is told and closed, nothing is forwarded, everybody else goes on."""

from __future__ import annotations

import socket

import pytest

from protocol import StartupMessage
from tests.integration.test_holds import Raw, error_of
from tests.proxy.wire import message, query
from tests.servers import Pghold, PostgresServer, wait_for


@pytest.mark.parametrize(
    ("garbage", "code"),
    [
        (b"Q\0\0\0\3", "08P01"),
        (b"Q\x7f\xff\xff\xff", "54000"),
        (b"y\0\0\0\4", "08P01"),
        (query("SELECT 1\0; DROP TABLE account"), "08P01"),
        (b"Q\0\0\0\x0cSELECT 1", "08P01"),
        (b"p\0\0\0\5x", "08P01"),
        (message(b"E", b"no terminator"), "08P01"),
        (message(b"S", b"x" * 20000), "54000"),
    ],
)
def test_broken_message(pghold: Pghold, table: str, garbage: bytes, code: str) -> None:
    other = Raw(pghold.port)
    before = pghold.metric("pghold_protocol_violations_total")
    client = Raw(pghold.port)
    client.send(garbage)
    answer = client.until("?")
    assert error_of(answer)["C"] == code
    assert error_of(answer)["S"] == "FATAL"
    other.send(query("SELECT count(*) FROM account"))
    assert other.reply()[1][1].endswith(b"10")
    assert pghold.metric("pghold_protocol_violations_total") == before + 1


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\3", b"\xff" * 64, b"\0\0\0\x09\0\3\0\0x", b"\0\0\0\x08\0\2\0\0"])
def test_garbage_before_startup(pghold: Pghold, garbage: bytes) -> None:
    with socket.create_connection(("127.0.0.1", pghold.port), timeout=10) as sock:
        sock.sendall(garbage)
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while data := sock.recv(4096):
            answer += data
    assert answer == b"" or b"FATAL" in answer
    Raw(pghold.port).close()


def test_startup_byte_by_byte(pghold: Pghold) -> None:
    packet = StartupMessage(3, 2, ((b"user", b"postgres"), (b"database", b"postgres"), (b"_pq_.test", b"1"))).encode()
    with socket.create_connection(("127.0.0.1", pghold.port), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for index in range(len(packet)):
            sock.sendall(packet[index : index + 1])
        answer = sock.recv(4096)
    assert answer[:1] == b"v"
    assert b"_pq_.test" in answer


def test_silent_client_is_let_go(postgres18: PostgresServer) -> None:
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", "--startup-timeout", "0.3", "--max-connections", "1")
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as sock:
        assert sock.recv(1) == b""
    first = Raw(proxy.port)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as sock:
        sock.sendall(StartupMessage(3, 0, ((b"user", b"postgres"),)).encode())
        assert b"53300" in sock.recv(4096)
    first.close()
    proxy.stop()


def test_startup_settings_and_replication_are_judged(pghold: Pghold) -> None:
    for extra in ((b"options", b"-c standard_conforming_strings=off"), (b"replication", b"database"), (b"client_encoding", b"SJIS")):
        with socket.create_connection(("127.0.0.1", pghold.port), timeout=10) as sock:
            sock.sendall(StartupMessage(3, 0, ((b"user", b"postgres"), extra)).encode())
            assert b"42501" in sock.recv(4096)


def test_statement_byte_by_byte_is_held(pghold: Pghold, table: str) -> None:
    client = Raw(pghold.port)
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = query("DELETE FROM account")
    for index in range(len(data)):
        client.send(data[index : index + 1])
    hold = pghold.wait_for_hold()
    pghold.deny(hold["id"])
    assert [k for k, _ in client.reply()] == ["E", "Z"]


def test_client_that_stops_reading_does_not_fill_memory(pghold: Pghold) -> None:
    client = Raw(pghold.port)
    client.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 300000)"))  # 300 MB

    def relayed() -> float:
        return pghold.metric("pghold_bytes_total")

    seen = [relayed()]

    def at_rest() -> bool:
        seen.append(relayed())
        return len(seen) > 20 and seen[-1] == seen[-20]

    wait_for(at_rest, 20)
    # What is in flight: both kernels' socket buffers, and at most 1 MiB in the proxy.
    assert seen[-1] - seen[0] < 30 << 20
    with open(f"/proc/{pghold.process.pid}/statm") as file:
        pages = int(file.read().split()[1])
    assert pages * 4096 < 250 << 20
    other = Raw(pghold.port)
    other.send(query("SELECT 1"))
    assert [k for k, _ in other.reply()] == ["T", "D", "C", "Z"]
