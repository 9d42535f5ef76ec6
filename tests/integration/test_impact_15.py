"""The same on PostgreSQL 15, with credentials of pghold's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.test_impact import DROPS, agrees, foreseen, held, make
from tests.servers import Pghold, PostgresServer


@pytest.fixture(scope="module")
def on15(postgres_tls: PostgresServer) -> Iterator[Pghold]:
    make(postgres_tls)
    postgres_tls.sql("DROP ROLE IF EXISTS controller")
    postgres_tls.sql("CREATE ROLE controller LOGIN PASSWORD 'also secret' BYPASSRLS IN ROLE pg_read_all_data, pg_read_all_stats")
    control = f"postgresql://controller:also%20secret@127.0.0.1:{postgres_tls.port}/postgres"
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres_tls.port}/postgres?sslmode=disable", environment={"PGHOLD_CONTROL": control})
    yield proxy
    assert proxy.stop() == 0
    assert "also secret" not in proxy.log.read_text()
    postgres_tls.sql("DROP ROLE controller")


@pytest.fixture(autouse=True)
def login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "secret")
    original = Pghold.connect
    monkeypatch.setattr(
        Pghold, "connect", lambda proxy, dbname="postgres", **options: original(proxy, dbname, **{"user": "scram", **options})
    )


@pytest.mark.parametrize("statement", DROPS)
def test_what_is_reached_is_what_vanishes_on_15(on15: Pghold, postgres_tls: PostgresServer, statement: str) -> None:
    agrees(on15, postgres_tls, statement)


def test_rows_that_match_are_counted_on_15(on15: Pghold) -> None:
    with held(on15, "DELETE FROM shop.person; DELETE FROM shop.orders WHERE id <= 10") as hold:
        told = foreseen(hold)
    assert [(m["rows"], m["exact"], m["problem"]) for m in told["matching"]] == [(0, True, ""), (10, True, "")]
    assert {r["name"]: r["rows"] for r in told["reached"] if r["rows"]} == {"shop.orders": 10, "shop.line": 20, "shop.invoice": 10}
