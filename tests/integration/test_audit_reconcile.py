"""What ended in the store, and was not on record when the proxy was killed, is recorded at the next start."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress

import psycopg
import pytest

from proxy.audit import verify
from tests.servers import Pghold, PostgresServer


@pytest.mark.parametrize("answer", ["denied", "approved"])
def test_decision_that_was_not_recorded_is_not_lost(postgres18: PostgresServer, table: str, answer: str) -> None:
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres")
    log = proxy.folder / "data" / "audit.jsonl"

    def ask() -> None:
        with suppress(psycopg.Error), proxy.connect() as link:
            link.execute(f"TRUNCATE {table}")

    thread = threading.Thread(target=ask)
    thread.start()
    hold = proxy.wait_for_hold()
    if answer == "denied":
        assert proxy.deny(hold["id"], "not this one").status_code == 200
    else:
        # Approved in the store; the proxy ends before the session has recorded it.
        proxy.process.kill()
        proxy.process.wait()
        decision = '{"approved": true, "operator": "ana", "reason": "not this one", "decided_at": "2026-01-01T00:00:00+00:00"}'
        with sqlite3.connect(proxy.folder / "data" / "pghold.sqlite") as store:
            store.execute("UPDATE holds SET state = 'approved', decision = ? WHERE id = ?", (decision, hold["id"]))
        store.close()
    proxy.process.kill()
    proxy.process.wait()
    proxy.http.close()
    thread.join(20)
    # As if the kill had come right behind the record of the hold.
    lines = log.read_bytes().splitlines(keepends=True)
    end = next(i for i, line in enumerate(lines) if b'"event": "held"' in line)
    log.write_bytes(b"".join(lines[: end + 1]))
    (log.parent / "audit.checkpoints.jsonl").unlink()

    for _ in range(2):  # once, not at each start
        proxy.start()
        records = [r for r in proxy.audit() if r["hold_id"] == hold["id"]]
        assert [r["event"] for r in records] == ["held", "denied" if answer == "denied" else "abandoned"]
        assert records[1]["reason"] == "not this one"
        assert records[1]["operator"] == ("operator" if answer == "denied" else "ana")
        assert proxy.holds() == []
        assert proxy.stop() == 0
    assert verify(log).problem is None
    assert postgres18.sql(f"SELECT count(*) FROM {table}") == [(10,)]
