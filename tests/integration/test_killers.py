"""Inputs that crash or stall the grammar's library, sent by a hostile client while another one works."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest

from tests.servers import Pghold, PostgresServer, wait_for

KILLERS = {
    "chain": b"SELECT " + b"1+" * 200_000 + b"1",
    "hidden chain": b"SELECT '" + b"," * 5000 + b"' || f(1,2)" + b"+f(1,2)" * 100_000,
    "casts": b"SELECT 1" + b"::int" * 100_000,
    "joins": b"SELECT * FROM a" + b" NATURAL JOIN a" * 50_000,
    "unions": b"SELECT 1" + b" UNION ALL SELECT 1" * 50_000,
    "parentheses": b"SELECT " + b"(" * 100_000 + b"1" + b")" * 100_000,
    "not": b"DELETE FROM t WHERE " + b"NOT " * 100_000 + b"true",
    "sub-selects": b"SELECT " + b"(SELECT " * 20_000 + b"1" + b")" * 20_000,
    "comments": b"/*" * 10_000 + b"*/" * 10_000 + b" SELECT 1",
    "in list": b"DELETE FROM t WHERE id IN (" + b",".join(b"%d" % i for i in range(150_000)) + b")",
    "rows": b"INSERT INTO t SELECT * FROM (VALUES " + b",".join(b"(%d)" % i for i in range(100_000)) + b") v",
    "or": b"DELETE FROM t WHERE " + b" OR ".join(b"a%d = 1" % i for i in range(20_000)),
    "statements": b"SELECT 1;" * 50_000,
    "do": b"DO $$ BEGIN " + b"PERFORM 1;" * 20_000 + b" END $$",
    "short or": b"DELETE FROM t WHERE " + b"(" * 60 + b"a=1" + b" OR b=2)" * 60,
    "short case": b"DELETE FROM t WHERE a=1 OR CASE WHEN " + b" + ".join([b"b"] * 250) + b" > 1 THEN true ELSE false END",
}
#: The issue's bound is 50 ms; a shared machine adds its own pauses.
DELAY_S = 0.05


@pytest.fixture(scope="module")
def hunted(postgres18: PostgresServer) -> Iterator[Pghold]:
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", "--hold-timeout", "0.2", "--max-connections", "20")
    yield proxy
    assert proxy.stop() == 0


def own_children(process_id: int) -> int:
    return sum(1 for p in os.listdir("/proc") if p.isdigit() and _parent(p) == process_id)


def _parent(process_id: str) -> int:
    try:
        with open(f"/proc/{process_id}/stat") as stat:
            return int(stat.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


class Neighbour(threading.Thread):
    """Works all the time, and notes how long each of its statements took, and what share of the processor it had."""

    def __init__(self, proxy: Pghold) -> None:
        super().__init__(daemon=True)
        self.link = proxy.connect()
        self.took_s: list[float] = []
        self.ending = False

    def run(self) -> None:
        number = 0
        while not self.ending:
            number += 1
            started = time.perf_counter()
            self.link.execute(f"SELECT {number}")
            self.took_s.append(time.perf_counter() - started)
            time.sleep(0.002)
        self.link.close()


@pytest.mark.parametrize("name", KILLERS)
def test_killer_harms_nobody_else(hunted: Pghold, name: str) -> None:
    neighbour = Neighbour(hunted)
    neighbour.start()
    for extended in (False, True):
        # Whatever comes of it: it may be harmless, an error of the server's, or held and expired.
        with hunted.connect() as hostile, suppress(psycopg.Error):
            hostile.execute(KILLERS[name], prepare=extended)
    served = len(neighbour.took_s)
    wait_for(lambda: len(neighbour.took_s) >= served + 10, 10)
    neighbour.ending = True
    neighbour.join(30)
    # The proxy still judges.
    with hunted.connect() as other, pytest.raises(psycopg.errors.InsufficientPrivilege):
        other.execute("DROP TABLE nothing_here")


def test_event_loop_is_free_while_killers_are_judged() -> None:
    """Measured is what the loop's own thread works between two turns: other processes of the machine have no part in it."""
    import asyncio

    from policy import Context
    from proxy.isolation import IsolatedJudges
    from proxy.policies import Identity, Policies

    async def measure() -> float:
        judges = IsolatedJudges(deadline_s=5)
        await judges.warm()
        engine = Policies().engine(Identity())
        worst = 0.0

        async def tick() -> None:
            nonlocal worst
            while True:
                started = time.thread_time()
                await asyncio.sleep(0.001)
                worst = max(worst, time.thread_time() - started)

        ticking = asyncio.ensure_future(tick())
        for script in KILLERS.values():
            if len(script) > 4096:
                await judges.judge(engine, script, Context())
            else:
                engine.judge(script, Context())
                await asyncio.sleep(0)
        ticking.cancel()
        await judges.close()
        return worst

    # The middle of three.
    delays = sorted(asyncio.run(measure()) for _ in range(3))
    assert delays[1] < DELAY_S, delays


def test_child_that_dies_is_replaced_and_its_script_held() -> None:
    import asyncio

    from policy import Context, Verdict
    from proxy.isolation import IsolatedJudges
    from proxy.policies import Identity, Policies

    async def run() -> None:
        judges = IsolatedJudges(deadline_s=5, children=1)
        engine = Policies().engine(Identity())
        before = own_children(os.getpid())
        crash = await judges.judge(engine, KILLERS["chain"], Context())
        assert crash.verdict is Verdict.HOLD
        assert "did not come back" in crash.findings[0].message
        assert judges.lost == 1
        fine = await judges.judge(engine, b"SELECT " + b"1," * 10_000 + b"1", Context())
        assert fine.verdict is Verdict.ALLOW
        slow = IsolatedJudges(deadline_s=0.3, children=1)
        late = await slow.judge(engine, b"/*" * 60_000 + b"*/" * 60_000 + b" SELECT 1", Context())
        assert "longer than" in late.findings[0].message
        await judges.close()
        await slow.close()
        assert own_children(os.getpid()) == before

    asyncio.run(run())
