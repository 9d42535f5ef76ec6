"""Sessions that wait behind a held one are seen, and by policy end the hold."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.servers import Pghold, PostgresServer, wait_for

POLICY = """
[[policy.blocking]]
after_s = 1
action = "warn"

[[policy.blocking]]
roles = "hasty*"
after_s = 2
action = "deny"
"""


@pytest.fixture(scope="module")
def proxy(postgres18: PostgresServer, folder: Path) -> Iterator[Pghold]:
    postgres18.sql("DROP TABLE IF EXISTS bl_a, bl_b")
    postgres18.sql("CREATE TABLE bl_a AS SELECT 1 AS id; CREATE TABLE bl_b AS SELECT 1 AS id")
    postgres18.sql("DROP ROLE IF EXISTS hasty_1")
    postgres18.sql("CREATE ROLE hasty_1 LOGIN SUPERUSER")
    policy = folder / "blocking.toml"
    policy.write_text(POLICY)
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", "--policy", str(policy))
    yield proxy
    assert proxy.stop() == 0


def blocked(proxy: Pghold, hold_id: int) -> list[dict[str, Any]]:
    consequences = (proxy.hold(hold_id)["impact"] or {}).get("consequences") or {}
    return list(consequences.get("blocked") or ())


def begin(proxy: Pghold, user: str) -> psycopg.Connection[Any]:
    """A transaction that has locked a row."""
    link = proxy.connect(user=user)
    link.autocommit = False
    link.execute("UPDATE bl_b SET id = 2 WHERE id = 1")
    return link


def test_who_waits_is_told_and_told_again_when_nobody_does(proxy: Pghold, postgres18: PostgresServer) -> None:
    link = begin(proxy, "postgres")
    with ThreadPoolExecutor(2) as pool:
        held = pool.submit(link.execute, "DROP TABLE bl_a")
        hold = proxy.wait_for_hold()
        assert blocked(proxy, hold["id"]) == []
        with postgres18.connect(application_name="a waiting one") as other:
            waiting = pool.submit(other.execute, "UPDATE bl_b SET id = 3 WHERE id = 1")
            wait_for(lambda: bool(blocked(proxy, hold["id"])), 10)
            (found,) = blocked(proxy, hold["id"])
            assert (found["role"], found["application_name"], found["pid"]) == ("postgres", "a waiting one", other.info.backend_pid)
            assert "UPDATE bl_b" in found["query"]
            assert proxy.metric("pghold_blocked_sessions") == 1
            time.sleep(3)  # a warning is all that this policy has for this role
            assert proxy.hold(hold["id"])["state"] == "pending"
            other.cancel()
            with pytest.raises(psycopg.errors.QueryCanceled):
                waiting.result(10)
        wait_for(lambda: not blocked(proxy, hold["id"]), 10)
        proxy.deny(hold["id"])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            held.result(10)
    link.close()
    wait_for(lambda: proxy.metric("pghold_blocked_sessions") == 0, 10)


def test_the_policy_denies_what_blocks_others_for_too_long(proxy: Pghold, postgres18: PostgresServer) -> None:
    link = begin(proxy, "hasty_1")
    with ThreadPoolExecutor(2) as pool:
        held = pool.submit(link.execute, "DROP TABLE bl_a")
        hold = proxy.wait_for_hold()
        with postgres18.connect(application_name="shop") as other:
            began = time.monotonic()
            waiting = pool.submit(other.execute, "UPDATE bl_b SET id = 3 WHERE id = 1")
            with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
                held.result(15)
            assert 1.5 < time.monotonic() - began < 8
            link.rollback()
            waiting.result(10)
            other.execute("UPDATE bl_b SET id = 1")
    link.close()
    assert "(shop)" in str(refused.value.diag.message_detail) or "(shop)" in str(refused.value)
    after = proxy.hold(hold["id"])
    assert (after["state"], after["decision"]["operator"]) == ("denied", "policy")
    assert "1 waited behind it" in after["decision"]["reason"]
    assert postgres18.sql("SELECT count(*) FROM bl_a") == [(1,)]
    assert any(e["event"] == "denied" and e["operator"] == "policy" for e in proxy.audit())
    assert proxy.metric("pghold_blocking_denied_total") == 1


def test_nothing_is_asked_while_nothing_is_held_in_a_transaction(proxy: Pghold, postgres18: PostgresServer) -> None:
    def asking() -> int:
        found = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pghold' AND query LIKE '%pg_blocking_pids%'"
        return int(postgres18.sql(found)[0][0])

    wait_for(lambda: asking() == 0, 10)
    with proxy.connect() as link, ThreadPoolExecutor(1) as pool:
        held = pool.submit(link.execute, "DROP TABLE bl_a")
        hold = proxy.wait_for_hold()
        time.sleep(2)
        assert asking() == 0
        proxy.deny(hold["id"])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            held.result(10)
