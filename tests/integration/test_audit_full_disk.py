"""The disk of the data directory is full in the middle of load, for real: a small tmpfs. Then there is room again."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from proxy.audit import JsonlAuditLog, verify
from proxy.audit.compare import verify_everything
from proxy.audit.search import Query, search
from proxy.clock import SystemClock
from proxy.model import AuditEntry, AuditEvent
from proxy.seams import AuditError
from tests.servers import Pghold, PostgresServer, wait_for

POLICY = """
[[policy.rules]]
rules = "*"
relations = "warned"
action = "warn"
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs the right to mount: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        for size in (65536, 4096):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return filler


class Client(threading.Thread):
    """Sends what is warned of and what is harmless, in turns, and counts what became of it."""

    def __init__(self, proxy: Pghold) -> None:
        super().__init__(daemon=True)
        self.link = proxy.connect()
        self.outcomes: Counter[str] = Counter()
        self.messages: set[str] = set()
        self.number = 0
        self.ending = False

    def run(self) -> None:
        while not self.ending:
            self.number += 1
            try:
                self.link.execute(f"DELETE FROM warned -- {self.number} {'x' * 500}")
                self.outcomes["warned"] += 1
            except psycopg.errors.InsufficientPrivilege as error:
                self.outcomes["refused"] += 1
                self.messages.add(str(error.diag.message_primary))
            self.link.execute(f"SELECT {self.number}")
            self.outcomes["harmless"] += 1
        self.link.close()


def test_full_disk_refuses_what_is_dangerous_and_recovers(postgres18: PostgresServer, small_disk: Path, tmp_path: Path, table: str) -> None:
    postgres18.sql("DROP TABLE IF EXISTS warned")
    postgres18.sql("CREATE TABLE warned (id int)")
    policy = tmp_path / "pghold.toml"
    policy.write_text(POLICY)
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", "--policy", str(policy), folder=small_disk)
    log = small_disk / "data" / "audit.jsonl"
    clients = [Client(proxy) for _ in range(3)]
    for client in clients:
        client.start()
    wait_for(lambda: all(c.outcomes["warned"] > 5 for c in clients), 20)
    assert proxy.http.get("/readyz").status_code == 200

    filler = fill(small_disk)
    wait_for(lambda: all(c.outcomes["refused"] > 5 for c in clients), 20)
    # Harmless statements pass, dangerous ones get a clear error, and everybody is told.
    before = [c.outcomes["harmless"] for c in clients]
    wait_for(lambda: all(c.outcomes["harmless"] > b + 5 for c, b in zip(clients, before, strict=True)), 20)
    assert all("could not be recorded in the audit log" in m for c in clients for m in c.messages)
    with proxy.connect() as link, pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"recorded|held"):
        link.execute(f"DROP TABLE {table}")
    assert postgres18.sql(f"SELECT count(*) FROM {table}") == [(10,)]
    ready = proxy.http.get("/readyz")
    assert ready.status_code == 503
    assert any("the audit log cannot be written" in p for p in ready.json()["problems"])
    assert proxy.metric("pghold_audit_failing") == 1
    assert proxy.metric("pghold_audit_failures_total") > 0
    assert proxy.http.get("/healthz").status_code == 200

    for client in clients:
        client.ending = True
    for client in clients:
        client.join(20)
    filler.unlink()
    # Nobody sends anything dangerous: it finds out by itself.
    wait_for(lambda: proxy.http.get("/readyz").status_code == 200, 20)
    assert proxy.metric("pghold_audit_failing") == 0
    with proxy.connect() as link:
        link.execute("DELETE FROM warned")
    assert verify_everything(log, None, None).report.problem is None
    told = list(search(log, Query(event="audit failed")))
    assert told
    detail = told[-1]["detail"]
    assert isinstance(detail, dict)
    assert "No space left" in str(told[-1]["outcome"])
    # Each one that ran is on record, and each that was refused is, too.
    warned = Counter(
        str(r["script"]).partition("-- ")[2].split()[0] for r in search(log, Query(event="warned", text="DELETE FROM warned --"))
    )
    assert warned.total() == sum(c.outcomes["warned"] for c in clients)
    refused = [r for r in search(log, Query(event="denied")) if "refused" in str(r["outcome"])]
    assert len(refused) >= sum(c.outcomes["refused"] for c in clients)
    assert proxy.stop() == 0
    proxy.start()
    assert proxy.stop() == 0


def test_disk_that_is_full_at_the_start(postgres18: PostgresServer, small_disk: Path) -> None:
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", folder=small_disk)
    assert proxy.stop() == 0
    log = small_disk / "data" / "audit.jsonl"
    records = verify(log).records
    filler = fill(small_disk)
    # Nothing is recorded, so nothing may be decided: it does not start, and says why.
    with pytest.raises((RuntimeError, TimeoutError, OSError)):
        proxy.start()
    proxy.process.kill()
    proxy.process.wait()
    filler.unlink()
    proxy.start()
    assert verify(log).records > records
    assert verify(log).problem is None
    assert proxy.stop() == 0


@pytest.mark.parametrize("broken", ["write", "fdatasync", "short write", "ftruncate too"])
async def test_file_that_fails_in_other_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """Read-only, an I/O error when flushing, half a record written, and what was written cannot be cut off either."""
    path = tmp_path / "audit.jsonl"
    log = JsonlAuditLog(path, SystemClock())
    await log.append(AuditEntry(AuditEvent.HELD, script="before"))
    real = {name: getattr(os, name) for name in ("write", "fdatasync", "ftruncate")}

    def fail(*_: object) -> int:
        raise OSError(errno.EROFS if broken == "write" else errno.EIO, "broken for the test")

    def half(file: int, data: memoryview) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, "broken for the test")
        return int(real["write"](file, data[: len(data) // 2]))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync" if broken in ("fdatasync", "ftruncate too") else "write", half if broken == "short write" else fail)
        if broken == "ftruncate too":
            patch.setattr(os, "ftruncate", fail)
        with pytest.raises(AuditError, match="broken for the test"):
            await log.append(AuditEntry(AuditEvent.APPROVED, script="refused"))
        assert log.failing
        await log.submit(AuditEntry(AuditEvent.OUTCOME, script="happened"), late=True)
    await log.append(AuditEntry(AuditEvent.HELD, script="after"))
    assert not log.failing
    await log.close()
    report = verify(path)
    assert report.problem is None
    events = [(r["event"], r["script"]) for r in search(path, Query())][::-1]
    assert [e for e in events if e[0] != "audit failed"] == [("held", "before"), ("outcome", "happened"), ("held", "after")]
    assert sum(e[0] == "audit failed" for e in events) == 1
    outcome = next(r for r in search(path, Query(event="outcome")))
    assert "happened_at" in outcome["detail"]  # type: ignore[operator]


async def test_mask_that_raises_refuses_and_the_log_goes_on(tmp_path: Path) -> None:
    def mask(text: str) -> str:
        if "odd" in text:
            raise LookupError("odd")
        return "?"

    log = JsonlAuditLog(tmp_path / "audit.jsonl", SystemClock(), mask=mask)
    with pytest.raises(AuditError, match="odd"):
        await log.append(AuditEntry(AuditEvent.HELD, script="odd"))
    await log.append(AuditEntry(AuditEvent.HELD, script="even"))
    await log.close()
    assert verify(tmp_path / "audit.jsonl").problem is None
    assert [r["script"] for r in search(tmp_path / "audit.jsonl", Query(event="held"))] == ["?"]
