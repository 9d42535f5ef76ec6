"""What is foreseen is never in the way: a server that refuses, hangs or goes away costs the hold nothing, and the proxy stops at once."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tests.servers import Pghold, PostgresServer, free_port, wait_for


@pytest.fixture(scope="module")
def server(postgres18: PostgresServer) -> PostgresServer:
    postgres18.sql("DROP TABLE IF EXISTS slow")
    postgres18.sql("CREATE TABLE slow AS SELECT g AS id FROM generate_series(1, 20000) g; ANALYZE slow")
    return postgres18


@contextmanager
def proxied(server: PostgresServer, **environment: str) -> Iterator[Pghold]:
    proxy = Pghold(f"postgresql://127.0.0.1:{server.port}/postgres", environment={f"PGHOLD_{k.upper()}": v for k, v in environment.items()})
    try:
        yield proxy
    finally:
        began = time.monotonic()
        assert proxy.stop() == 0
        assert time.monotonic() - began < 25


@contextmanager
def held(proxy: Pghold, statement: str) -> Iterator[dict[str, Any]]:
    with proxy.connect() as link, ThreadPoolExecutor(1) as pool:
        running = pool.submit(link.execute, statement.encode())
        try:
            yield proxy.wait_for_hold()
        finally:
            for one in proxy.holds():
                proxy.deny(one["id"])
        with pytest.raises(psycopg.Error):
            running.result(20)


def consequences(proxy: Pghold, hold_id: int) -> dict[str, Any]:
    wait_for(lambda: ((proxy.hold(hold_id)["impact"] or {}).get("consequences") or {}) != {}, 20)
    return dict(proxy.hold(hold_id)["impact"]["consequences"])


SLOW = "DELETE FROM pg_temp.nothing; DELETE FROM slow WHERE (SELECT count(*) FROM slow a, slow b WHERE a.id + b.id + slow.id > 0) > 0"


def test_a_control_connection_that_is_refused_is_said(server: PostgresServer) -> None:
    port = free_port()
    with proxied(server, control=f"postgresql://nobody:hunter2@127.0.0.1:{port}/postgres") as proxy:
        with held(proxy, "DROP TABLE slow") as hold:
            told = consequences(proxy, hold["id"])
            assert "could not connect" in told["problem"]
            assert told["reached"] == []
        wait_for(lambda: proxy.metric("pghold_impact_failures_total") >= 1, 5)
        with held(proxy, "DROP TABLE slow") as hold:  # at once: not tried again so soon
            began = time.monotonic()
            assert "could not connect" in consequences(proxy, hold["id"])["problem"]
            assert time.monotonic() - began < 5
        assert "hunter2" not in proxy.log.read_text()


def test_a_control_server_that_never_answers_delays_nothing(server: PostgresServer) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(5)
        control = f"postgresql://nobody@127.0.0.1:{deaf.getsockname()[1]}/postgres"
        with proxied(server, control=control) as proxy, held(proxy, "DROP TABLE slow") as hold:
            time.sleep(1.5)
            began = time.monotonic()
            assert proxy.deny(hold["id"]).status_code == 200
            assert time.monotonic() - began < 1


def test_a_count_that_takes_too_long_is_an_estimate(server: PostgresServer) -> None:
    with proxied(server, impact_timeout_s="1") as proxy, held(proxy, SLOW) as hold:
        wait_for(lambda: proxy.metric("pghold_impact_found_total") >= 1, 20)
        found = consequences(proxy, hold["id"])["matching"][1]
        assert not found["exact"]
        assert found["rows"] is not None
        assert found["problem"] == "to count them takes too long: estimated"
        wait_for(lambda: _running(server) == 0, 15)


_ASKING = "application_name = 'pghold' AND state = 'active' AND query LIKE '%slow a, slow b%'"


def _running(server: PostgresServer) -> int:
    """Of the slow question, not of the quick ones before it."""
    return int(server.sql(f"SELECT count(*) FROM pg_stat_activity WHERE {_ASKING}")[0][0])


def test_stopping_ends_a_question_that_runs(server: PostgresServer) -> None:
    with proxied(server, impact_timeout_s="60") as proxy, proxy.connect() as link, ThreadPoolExecutor(1) as pool:
        running = pool.submit(link.execute, SLOW.encode())
        proxy.wait_for_hold()
        wait_for(lambda: _running(server) == 1, 10)
        began = time.monotonic()
        assert proxy.stop() == 0
        assert time.monotonic() - began < 25
        wait_for(lambda: _running(server) == 0, 15)
        with pytest.raises(psycopg.Error):
            running.result(20)


def test_a_connection_that_is_killed_in_the_middle_is_said_and_the_next_hold_is_seen(server: PostgresServer) -> None:
    with proxied(server, impact_timeout_s="60") as proxy:
        with held(proxy, SLOW) as hold:
            wait_for(lambda: _running(server) == 1, 10)
            server.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {_ASKING}")
            wait_for(lambda: proxy.metric("pghold_impact_found_total") >= 1, 10)
            told = consequences(proxy, hold["id"])
            assert "terminating connection" in told["matching"][1]["problem"]
            assert [r["name"] for r in told["reached"]] == ["public.slow"]
        with held(proxy, "DROP TABLE slow") as hold:
            wait_for(lambda: proxy.metric("pghold_impact_found_total") >= 2, 10)
            assert consequences(proxy, hold["id"])["problem"] == ""


def test_a_hold_that_was_decided_is_not_looked_into(server: PostgresServer) -> None:
    with proxied(server) as proxy:
        with held(proxy, "DROP TABLE slow") as hold:
            proxy.deny(hold["id"])
        time.sleep(2)
        assert proxy.metric("pghold_impact_found_total") <= 1
        assert _running(server) == 0
