"""The audit log, the hold book and the operators, on real files."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.audit import JsonlAuditLog, record_hash, tail, verify
from proxy.clock import SystemClock
from proxy.holds import SqlHoldBook
from proxy.model import AuditEntry, AuditEvent, Decision, HoldRequest, HoldState, Requester, Role, SessionId
from proxy.operators import SqlOperators
from proxy.seams import AuditError, HoldsFullError, NotPendingError, UnknownHoldError
from proxy.store import open_store

CLOCK = SystemClock()
REQUEST = HoldRequest(
    Requester(SessionId(1), "app", "shop", "t", "a:1"), "test", "DROP TABLE t", "0", ("drop-table",), (), (), ("t",), "simple", False, 60
)


async def write(path: Path, count: int) -> None:
    log = JsonlAuditLog(path, CLOCK)
    await asyncio.gather(*(log.append(AuditEntry(AuditEvent.HELD, script=f"statement {i} \ud800")) for i in range(count)))
    await log.close()


async def test_chain_is_whole_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    await write(path, 300)
    await write(path, 5)
    assert verify(path).records == 305
    assert verify(path).problem is None
    assert [r["seq"] for r in tail(path, 2)] == [304, 305]
    assert path.stat().st_mode & 0o777 == 0o600


def _edit(lines: list[bytes]) -> None:
    lines[1] = lines[1].replace(b"statement 1", b"statement 9")


def _rehash(lines: list[bytes]) -> None:
    record = json.loads(lines[1])
    record["script"] = "another"
    record["hash"] = record_hash(record)
    lines[1] = json.dumps(record).encode() + b"\n"


@pytest.mark.parametrize(
    ("tamper", "kind", "line"),
    [
        (_edit, "hash_mismatch", 2),
        (_rehash, "broken_link", 3),
        (lambda lines: lines.pop(1), "missing_entry", 2),
        (lambda lines: lines.insert(2, lines[1]), "duplicate_entry", 3),
        (lambda lines: lines.insert(1, b"nonsense\n"), "bad_json", 2),
        (lambda lines: lines.append(lines[-1][:20]), "torn_tail", 6),
    ],
)
async def test_tampering_is_named(tmp_path: Path, tamper, kind: str, line: int) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "audit.jsonl"
    await write(path, 5)
    lines = path.read_bytes().splitlines(keepends=True)
    tamper(lines)
    path.write_bytes(b"".join(lines))
    report = verify(path)
    assert (report.kind, report.line) == (kind, line)
    if kind != "torn_tail":
        with pytest.raises(AuditError):
            JsonlAuditLog(path, CLOCK)


async def test_torn_tail_is_put_aside_and_the_chain_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    await write(path, 3)
    with path.open("ab") as file:
        file.write(b'{"seq": 4, "half')
    await write(path, 1)
    assert verify(path).records == 4
    assert list(tmp_path.glob("*.torn-*"))


async def test_only_one_process_has_the_log(tmp_path: Path) -> None:
    log = JsonlAuditLog(tmp_path / "audit.jsonl", CLOCK)
    with pytest.raises(AuditError, match="in use"):
        JsonlAuditLog(tmp_path / "audit.jsonl", CLOCK)
    await log.close()


def test_full_disk_refuses_and_heals(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for a full disk: writes beyond it fail; nothing half-written stays."""
    script = """
import asyncio, resource, signal, sys
from pathlib import Path
from proxy.audit import JsonlAuditLog, tail, verify
from proxy.clock import SystemClock
from proxy.model import AuditEntry, AuditEvent
from proxy.seams import AuditError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
async def main(path):
    log = JsonlAuditLog(path, SystemClock())
    await log.append(AuditEntry(AuditEvent.HELD))
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, resource.RLIM_INFINITY))
    try:
        await log.append(AuditEntry(AuditEvent.HELD, script="x" * 1000))
        raise SystemExit("written on a full disk")
    except AuditError:
        pass
    assert log.failing
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await log.append(AuditEntry(AuditEvent.HELD))
    await log.close()
    assert verify(path).records == 3 and verify(path).problem is None, verify(path)
    told = [r for r in tail(path, 3) if r["event"] == "audit failed"]
    assert len(told) == 1 and told[0]["detail"]["refused"] == 1, told
asyncio.run(main(Path(sys.argv[1])))
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "audit.jsonl")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_acknowledged_record_survives_kill(tmp_path: Path) -> None:
    script = """
import asyncio, sys
from pathlib import Path
from proxy.audit import JsonlAuditLog
from proxy.clock import SystemClock
from proxy.model import AuditEntry, AuditEvent
async def main(path):
    log = JsonlAuditLog(path, SystemClock())
    for i in range(10**6):
        await log.append(AuditEntry(AuditEvent.HELD, script=str(i)))
        print(i, flush=True)
asyncio.run(main(Path(sys.argv[1])))
"""
    path = tmp_path / "audit.jsonl"
    child = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    acknowledged = [child.stdout.readline() for _ in range(200)]
    child.kill()
    rest = child.stdout.read()
    child.stdout.close()
    child.wait()
    count = len(acknowledged) + rest.count("\n")
    asyncio.run(write(path, 0))
    report = verify(path)
    assert report.problem is None
    assert report.records >= count


async def test_a_hold_is_decided_once(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    book = SqlHoldBook(store, CLOCK, 3)
    told: list[Decision] = []
    hold = await book.open(REQUEST, lambda _, decision: told.append(decision))
    decisions = [Decision(i % 2 == 0, f"operator {i}", "because", CLOCK.now()) for i in range(6)]
    results = await asyncio.gather(*(book.decide(hold.id, d) for d in decisions), return_exceptions=True)
    assert sum(not isinstance(r, BaseException) for r in results) == 1
    assert sum(isinstance(r, NotPendingError) for r in results) == 5
    assert len(told) == 1
    with pytest.raises(UnknownHoldError):
        await book.get(hold.id + 100)  # type: ignore[arg-type]
    await store.close()


async def test_expiry_and_approval_exclude_each_other(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    book = SqlHoldBook(store, CLOCK, 10)
    hold = await book.open(REQUEST, lambda *_: None)
    assert await book.move(hold.id, HoldState.EXPIRED)
    with pytest.raises(NotPendingError):
        await book.decide(hold.id, Decision(True, "a", "b", CLOCK.now()))
    assert not await book.move(hold.id, HoldState.RELEASED)
    hold = await book.open(REQUEST, lambda *_: None)
    await book.decide(hold.id, Decision(True, "a", "b", CLOCK.now()))
    assert not await book.move(hold.id, HoldState.EXPIRED)
    assert await book.move(hold.id, HoldState.RELEASED)
    assert await book.move(hold.id, HoldState.DONE, "DROP TABLE")
    assert (await book.get(hold.id)).outcome == "DROP TABLE"
    await store.close()


async def test_limit_and_recovery(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    book = SqlHoldBook(store, CLOCK, 2)
    for _ in range(2):
        await book.open(REQUEST, lambda *_: None)
    with pytest.raises(HoldsFullError):
        await book.open(REQUEST, lambda *_: None)
    assert len(await SqlHoldBook(store, CLOCK, 2).recover()) == 2
    assert await book.list() == []
    await store.close()


async def test_operators(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    operators = SqlOperators(store, CLOCK)
    await operators.ensure_first(tmp_path / "operator.token")
    token = (tmp_path / "operator.token").read_text().strip()
    assert (tmp_path / "operator.token").stat().st_mode & 0o777 == 0o600
    found = await operators.by_token(token)
    assert found is not None
    assert found.role is Role.ADMIN
    assert await operators.by_token("guess") is None
    await operators.ensure_first(tmp_path / "operator.token")
    assert (tmp_path / "operator.token").read_text().strip() == token
    assert await operators.remove("operator")
    await operators.ensure_first(tmp_path / "operator.token")
    assert await operators.by_token(token) is not None
    await store.close()
