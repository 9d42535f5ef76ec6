"""The proxy is killed at random moments under load; then the audit log is compared with what the database did.

Each statement empties a table of its own, so what took effect can be read in the database; who approved what is known from the API. The log is
rotated every few kilobytes and compressed, so that the kills meet rotations, checkpoints and compression as well.
"""

from __future__ import annotations

import os
import random
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from proxy.audit import verify
from proxy.audit.chain import read_record
from proxy.audit.compare import verify_everything
from proxy.audit.files import walk
from tests.servers import Pghold, PostgresServer, wait_for

KILLS = int(os.environ.get("PGHOLD_KILLS", "50"))
CLIENTS = 6
STATEMENTS = 12
DATABASE = "killing"
SEED = 20261
POLICY = """
audit_rotate_bytes = 40000
audit_compress = true
audit_checkpoint_records = 10
audit_checkpoints = ["file:{place}"]

[[policy.rules]]
rules = "*"
relations = "w_*"
action = "warn"

[[policy.rules]]
rules = "*"
relations = "x_*"
action = "deny"
"""
#: How a table is emptied; the extended protocol for those that are marked.
WAYS = (("TRUNCATE {}", False), ("DELETE FROM {}", False), ("DELETE FROM {}", True), ("DROP TABLE {}", False))


@dataclass
class Round:
    """What one run of the proxy was asked.

    Attributes:
        wanted: table name to the script that empties it.
        approved, denied: tables whose decision the API confirmed; tried: those it was asked to approve.
        done: tables whose client got a result.
    """

    number: int
    wanted: dict[str, str] = field(default_factory=dict)
    approved: dict[str, int] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    tried: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)


@pytest.fixture
def killed(postgres18: PostgresServer, tmp_path: Path) -> Iterator[tuple[Pghold, Path]]:
    postgres18.sql(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
    postgres18.sql(f"CREATE DATABASE {DATABASE}")
    place = tmp_path / "checkpoints.jsonl"
    policy = tmp_path / "pghold.toml"
    policy.write_text(POLICY.format(place=place))
    proxy = Pghold(
        f"postgresql://127.0.0.1:{postgres18.port}/{DATABASE}",
        "--policy",
        str(policy),
        folder=tmp_path,
        environment={"PYTHONFAULTHANDLER": "1"},
    )
    yield proxy, place
    assert proxy.stop() == 0


def names(number: int, client: int) -> list[str]:
    """Of ten statements one is warned of and one denied by policy; the others wait."""
    kinds = "hhhhwhhhxhhh"
    return [f"{kinds[i % len(kinds)]}_{number}_{client}_{i}" for i in range(STATEMENTS)]


def client(proxy: Pghold, work: Round, index: int) -> None:
    with suppress(psycopg.Error), proxy.connect(DATABASE) as link:
        for i, table in enumerate(names(work.number, index)):
            script, extended = WAYS[(i + index) % len(WAYS)]
            script = script.format(table)
            work.wanted[table] = script
            try:
                if extended:
                    link.execute(script, prepare=True)
                else:
                    link.execute(script)
            except psycopg.errors.InsufficientPrivilege:
                continue
            work.done.add(table)


def operate(proxy: Pghold, work: Round, ending: threading.Event) -> None:
    """Approves most, denies some, leaves some to wait, until the console is gone."""
    seen: set[int] = set()
    with httpx.Client(base_url=proxy.console, headers=proxy.http.headers, trust_env=False, timeout=5) as http, suppress(httpx.HTTPError):
        while not ending.is_set():
            for hold in http.get("/api/v1/holds", params={"state": "pending"}).json():
                if hold["id"] in seen:
                    continue
                seen.add(hold["id"])
                table = hold["relations"][0]
                choice = int(table.rpartition("_")[2]) % 5
                if choice == 3:
                    answer = http.post(f"/api/v1/holds/{hold['id']}/deny", json={"reason": f"no {table}"})
                    if answer.status_code == 200:
                        work.denied.add(table)
                elif choice != 4 or hold["id"] % 3:
                    work.tried.add(table)
                    body = {"phrase": "YES I UNDERSTAND THE RISKS", "reason": f"yes {table}"}
                    answer = http.post(f"/api/v1/holds/{hold['id']}/approve", json=body)
                    if answer.status_code == 200:
                        work.approved[table] = hold["id"]


def prepare(server: PostgresServer, number: int) -> None:
    tables = [n for c in range(CLIENTS) for n in names(number, c)]
    server.sql("".join(f"CREATE TABLE {t} AS SELECT 1 AS id;" for t in tables), DATABASE)


def emptied(server: PostgresServer, work: Round) -> set[str]:
    """The tables of this round that lost their row, once no session of the killed proxy is left."""
    others = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{DATABASE}' AND pid <> pg_backend_pid()"
    wait_for(lambda: server.sql(others)[0][0] == 0, 20)
    there = {t for (t,) in server.sql(f"SELECT relname FROM pg_class WHERE relname ~ '^[hwx]_{work.number}_'", DATABASE)}
    full = set()
    if there:
        union = " UNION ALL ".join(f"SELECT '{t}' FROM {t}" for t in there)
        full = {t for (t,) in server.sql(union, DATABASE)}
        server.sql("DROP TABLE " + ", ".join(there), DATABASE)
    return {n for c in range(CLIENTS) for n in names(work.number, c)} - full


def records_since(log: Path, sequence: int) -> list[dict[str, Any]]:
    found = []
    for reader in walk(log):
        for line in reader.lines():
            record = read_record(line) if line.endswith(b"\n") else None
            if record is not None and int(str(record["seq"])) > sequence:
                found.append(dict(record))
    return found


def check(work: Round, lost: set[str], records: list[dict[str, Any]]) -> None:
    """Everything that the database did is on record with its decision before it, and nothing else took effect."""
    events: dict[str, list[str]] = defaultdict(list)
    for record in records:
        for table in record["relations"]:
            events[table].append(record["event"])
            if record["event"] == "approved":
                assert record["operator"] == "operator"
                assert record["reason"] == f"yes {table}"
            assert record["script"] in (None, work.wanted.get(table)), record
    for table in lost:
        told = events[table]
        if table.startswith("h_"):
            assert told[:2] == ["held", "approved"], (table, told)
            assert table in work.tried, f"{table} was emptied, and nobody approved it"
            assert table not in work.denied
        else:
            assert table.startswith("w_"), f"{table} is denied by policy, and was emptied"
            assert told[0] == "warned", (table, told)
    assert work.done <= lost, "a client was told that it ran, and the table is full"
    for table in work.denied:
        assert "denied" in events[table], (table, events[table])
    for table, told in events.items():
        if "held" in told:
            assert any(e in told for e in ("approved", "denied", "withdrawn", "abandoned", "expired")), (table, told)


@pytest.mark.timeout(1500)
def test_the_record_and_the_database_agree_whenever_it_is_killed(killed: tuple[Pghold, Path], postgres18: PostgresServer) -> None:
    proxy, place = killed
    log = proxy.folder / "data" / "audit.jsonl"
    chance = random.Random(SEED)
    sequence, taken, decisions = 0, 0, 0
    for number in range(KILLS):
        work = Round(number)
        prepare(postgres18, number)
        ending = threading.Event()
        threads = [threading.Thread(target=client, args=(proxy, work, c)) for c in range(CLIENTS)]
        threads.append(threading.Thread(target=operate, args=(proxy, work, ending)))
        for thread in threads:
            thread.start()
        # The moment is what is random here; there is no condition to wait for.
        ending.wait(chance.uniform(0.02, 0.7))
        proxy.process.kill()
        proxy.process.wait()
        ending.set()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        proxy.http.close()
        lost = emptied(postgres18, work)
        report = verify(log)
        assert report.kind in (None, "torn_tail"), report

        try:
            proxy.start()
        except TimeoutError:
            proxy.process.send_signal(6)
            proxy.process.wait()
            raise AssertionError(proxy.log.read_text()[-5000:]) from None
        assert proxy.holds() == [], "a hold waits for nobody"
        whole = verify_everything(log, None, None)
        assert whole.report.problem is None, whole.report
        records = records_since(log, sequence)
        check(work, lost, records)
        for table, hold_id in work.approved.items():
            hold = proxy.hold(hold_id)
            assert hold["decision"]["approved"], (table, hold)
            told = [r for r in records if r["hold_id"] == hold_id and r["operator"] == "operator"]
            assert any(r["event"] in ("approved", "abandoned", "withdrawn") for r in told), (table, hold, told)
        sequence = max((int(r["seq"]) for r in records), default=sequence)
        taken += len(lost)
        decisions += len(work.approved) + len(work.denied)
    # It did something: otherwise all of the above is empty words.
    assert taken >= KILLS
    assert decisions >= KILLS
    assert len(list(log.parent.glob("audit-*.jsonl*"))) >= KILLS // 10
    assert place.read_bytes().count(b"\n") >= KILLS
