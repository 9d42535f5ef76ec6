"""Rotation of the audit log: the chain goes on, nothing is lost by a crash, and what is taken away, swapped or cut is named."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from proxy.audit import JsonlAuditLog, record_hash, tail, verify
from proxy.audit.files import LogFile, rotated_files, walk
from proxy.audit.follow import LogFollower, Position
from proxy.audit.rotation import Rotation
from proxy.audit.search import Query, search
from proxy.audit.upkeep import compress_all, removal, remove, surplus
from proxy.clock import SystemClock
from proxy.model import AuditEntry, AuditEvent
from proxy.seams import AuditError

CLOCK = SystemClock()
SMALL = Rotation(max_bytes=2000)


class Later:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment


async def write(path: Path, count: int, rotation: Rotation = SMALL) -> None:
    """One after the other, so that each may rotate."""
    log = JsonlAuditLog(path, CLOCK, rotation=rotation)
    for i in range(count):
        await log.append(AuditEntry(AuditEvent.HELD, script=f"statement {i}"))
    await log.close()


@pytest.fixture
async def rotated(tmp_path: Path) -> Path:
    path = tmp_path / "audit.jsonl"
    await write(path, 30)
    assert len(rotated_files(path)) >= 3
    return path


def scripts(path: Path) -> list[str]:
    return [str(r["script"]) for r in search(path, Query(event="held"))][::-1]


async def test_chain_is_carried_over(rotated: Path) -> None:
    report = verify(rotated)
    assert report.problem is None
    files = rotated_files(rotated)
    assert report.records == 30 + len(files)
    assert report.files == len(files) + 1
    for file, following in zip(files, [*files[1:], LogFile(rotated)], strict=True):
        last = json.loads(file.path.read_text().splitlines()[-1])
        first = json.loads(following.path.read_text().splitlines()[0])
        assert first["event"] == "rotated"
        assert first["prev"] == last["hash"] == first["detail"]["last_hash"]
        assert first["detail"]["file"] == file.name
        assert (first["detail"]["first_seq"], first["detail"]["last_seq"]) == (file.first, file.last)
        assert first["seq"] == last["seq"] + 1
        assert file.path.stat().st_mode & 0o777 == 0o600
    await write(rotated, 5)
    assert verify(rotated).problem is None
    assert scripts(rotated) == [f"statement {i}" for i in [*range(30), *range(5)]]


async def test_age_rotates(tmp_path: Path) -> None:
    path, clock = tmp_path / "audit.jsonl", Later()
    log = JsonlAuditLog(path, clock, rotation=Rotation(max_bytes=0, days=7))
    await log.append(AuditEntry(AuditEvent.HELD))
    clock.moment += timedelta(days=6)
    await log.append(AuditEntry(AuditEvent.HELD))
    assert rotated_files(path) == []
    clock.moment += timedelta(days=1)
    await log.append(AuditEntry(AuditEvent.HELD))
    await log.append(AuditEntry(AuditEvent.HELD))
    await log.close()
    (file,) = rotated_files(path)
    assert (file.first, file.last) in ((1, 2), (1, 3)), "before or behind the record that came when it was time"
    assert verify(path).records == 5


async def test_start_reads_the_live_file_only_and_knows_its_number(rotated: Path) -> None:
    rotated_files(rotated)[0].path.write_bytes(b"{}\n" * 10)
    log = JsonlAuditLog(rotated, CLOCK, rotation=SMALL)
    assert log.position[0] == 30 + len(rotated_files(rotated))
    await log.close()
    report = verify(rotated)
    assert (report.kind, report.line, report.file) == ("bad_json", 1, rotated_files(rotated)[0].name)


# --- what somebody did to the files -------------------------------------------------------------------------------------


def _missing(path: Path) -> None:
    rotated_files(path)[1].path.unlink()


def _first_missing(path: Path) -> None:
    rotated_files(path)[0].path.unlink()


def _last_missing(path: Path) -> None:
    rotated_files(path)[-1].path.unlink()


def _live_missing(path: Path) -> None:
    path.unlink()


def _live_emptied(path: Path) -> None:
    path.write_bytes(b"")


def _swapped(path: Path) -> None:
    one, other = (f.path for f in rotated_files(path)[:2])
    a, b = one.read_bytes(), other.read_bytes()
    one.write_bytes(b)
    other.write_bytes(a)


def _names_swapped(path: Path) -> None:
    one, other = (f.path for f in rotated_files(path)[1:3])
    shutil.move(one, path.with_name("x"))
    shutil.move(other, one)
    shutil.move(path.with_name("x"), other)


def _truncated(path: Path) -> None:
    file = rotated_files(path)[1].path
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))


def _torn(path: Path) -> None:
    file = rotated_files(path)[1].path
    file.write_bytes(file.read_bytes()[:-10])


def _emptied(path: Path) -> None:
    rotated_files(path)[1].path.write_bytes(b"")


def _changed(path: Path) -> None:
    file = rotated_files(path)[1].path
    lines = file.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"held"', b'"hold"')
    file.write_bytes(b"".join(lines))


def _rewritten(path: Path) -> None:
    """The last record of a file, with a hash that fits."""
    file = rotated_files(path)[1].path
    lines = file.read_bytes().splitlines(keepends=True)
    record = json.loads(lines[-1])
    record["script"] = "another"
    record["hash"] = record_hash(record)
    lines[-1] = json.dumps(record).encode() + b"\n"
    file.write_bytes(b"".join(lines))


def _twice(path: Path) -> None:
    file = rotated_files(path)[1]
    assert file.last is not None
    shutil.copy(file.path, path.with_name(f"audit-{file.first + 1:012}-{file.last + 1:012}.jsonl"))


@pytest.mark.parametrize(
    ("tamper", "kind", "place", "line"),
    [
        (_missing, "missing_file", 1, None),
        (_first_missing, "missing_file", None, None),
        (_last_missing, "missing_file", -1, 1),
        (_live_missing, "missing_file", None, None),
        (_live_emptied, "truncated", -1, 1),
        (_swapped, "missing_entry", 0, 1),
        (_names_swapped, "missing_entry", 1, 1),
        (_truncated, "truncated", 1, 0),
        (_torn, "torn_tail", 1, 0),
        (_emptied, "truncated", 1, 1),
        (_changed, "hash_mismatch", 1, 3),
        (_rewritten, "broken_link", 2, 1),
        (_twice, "duplicate_entry", 2, None),
    ],
)
async def test_what_was_done_to_the_files_is_named(
    rotated: Path, tamper: Callable[[Path], None], kind: str, place: int | None, line: int | None
) -> None:
    tamper(rotated)
    names = [f.name for f in rotated_files(rotated)] + [rotated.name]
    report = verify(rotated)
    assert report.kind == kind, report
    assert report.problem is not None
    if place is not None:
        assert report.file == names[place], report
    if line:
        assert report.line == line, report
    if tamper in (_missing, _last_missing, _live_missing, _live_emptied, _twice):
        with pytest.raises(AuditError):
            JsonlAuditLog(rotated, CLOCK)


async def test_compressed_files_that_are_cut_or_changed_are_named(rotated: Path) -> None:
    compress_all(rotated)
    file = rotated_files(rotated)[1]
    data = file.path.read_bytes()
    file.path.write_bytes(data[: len(data) // 2])
    report = verify(rotated)
    assert (report.kind, report.file) == ("unreadable_file", file.name)
    file.path.write_bytes(data[:40] + bytes([data[40] ^ 0x55]) + data[41:])
    assert verify(rotated).file == file.name


# --- a crash at each step -----------------------------------------------------------------------------------------------

CRASH = """
import asyncio, os, sys
from pathlib import Path
from proxy.audit import JsonlAuditLog
from proxy.audit.rotation import Rotation
from proxy.clock import SystemClock
from proxy.model import AuditEntry, AuditEvent
name, when, path = sys.argv[1], sys.argv[2], Path(sys.argv[3])
from proxy.audit import rotation
count = 0
real = getattr(os, name)
def dying(*arguments, **options):
    global count
    if when == "before" and ready():
        os.kill(os.getpid(), 9)
    result = real(*arguments, **options)
    if when == "after" and ready():
        os.kill(os.getpid(), 9)
    return result
def ready():
    # A rotation after the first one: there is a history.
    prepared = path.with_name("audit.jsonl.next")
    return len(list(path.parent.glob("audit-*.jsonl"))) >= 2 and (name in ("link", "rename") or prepared.exists())
async def main():
    log = JsonlAuditLog(path, SystemClock(), rotation=Rotation(max_bytes=2000))
    setattr(os, name, dying)
    for i in range(1000):
        await log.append(AuditEntry(AuditEvent.HELD, script=str(i)))
        print(i, flush=True)
asyncio.run(main())
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["fsync", "link", "rename", "write", "close"])
def test_kill_at_each_step_of_a_rotation(tmp_path: Path, step: str, when: str) -> None:
    path = tmp_path / "audit.jsonl"
    child = subprocess.run([sys.executable, "-c", CRASH, step, when, str(path)], capture_output=True, text=True, check=False)
    assert child.returncode == -9, child.stderr
    acknowledged = child.stdout.split()
    assert len(acknowledged) < 1000
    # Also before it starts again, readers find all of it.
    assert verify(path).problem is None
    assert scripts(path)[: len(acknowledged)] == acknowledged
    asyncio.run(write(path, 20))
    report = verify(path)
    assert report.problem is None
    assert scripts(path)[: len(acknowledged)] == acknowledged
    assert not path.with_name("audit.jsonl.next").exists()
    inodes = [p.stat().st_ino for p in tmp_path.glob("audit*.jsonl")]
    assert len(inodes) == len(set(inodes))


async def test_rotation_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "audit.jsonl"

    def no_link(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", no_link)
    log = JsonlAuditLog(path, CLOCK, rotation=SMALL)
    for i in range(20):
        await log.append(AuditEntry(AuditEvent.HELD, script=str(i)))
    await log.close()
    assert log.rotations_failed == 1
    assert "rotated" in log.rotation_problem
    assert rotated_files(path) == []
    assert verify(path).records == 20
    assert not path.with_name("audit.jsonl.next").exists()


# --- compression and removal --------------------------------------------------------------------------------------------


async def test_compressed_files_are_read_like_others(rotated: Path) -> None:
    before = scripts(rotated)
    report = verify(rotated)
    assert compress_all(rotated) == len(rotated_files(rotated))
    assert all(f.compressed and f.path.stat().st_mode & 0o777 == 0o600 for f in rotated_files(rotated))
    assert verify(rotated) == report
    assert scripts(rotated) == before
    assert [r["seq"] for r in tail(rotated, 25)] == list(range(report.records - 24, report.records + 1))
    assert [r["script"] for r in search(rotated, Query(text="statement 1"))][-1] == "statement 1"
    since = next(search(rotated, Query(event="held", before=10)))["at"]
    assert len(list(search(rotated, Query(since=datetime.fromisoformat(str(since)))))) >= report.records - 10
    await write(rotated, 10)
    assert verify(rotated).problem is None


async def test_compression_that_was_broken_off_is_done_again(rotated: Path) -> None:
    file = rotated_files(rotated)[0]
    part = file.path.with_name(file.name + ".gz.part")
    part.write_bytes(b"half")
    # Or it was whole, and the plain file had not gone yet.
    whole = rotated_files(rotated)[1]
    whole.path.with_name(whole.name + ".gz").write_bytes(gzip.compress(whole.path.read_bytes()))
    assert verify(rotated).problem is None
    compress_all(rotated)
    assert verify(rotated).problem is None
    assert not part.exists()
    assert not whole.path.exists()


async def test_removed_files_are_on_record(rotated: Path) -> None:
    log = JsonlAuditLog(rotated, CLOCK, rotation=SMALL)
    for file in surplus(rotated, 2):
        await log.append(removal(file))
        remove(file)
    await log.close()
    report = verify(rotated)
    assert report.problem is None
    assert report.first > 1
    await write(rotated, 1)
    rotated_files(rotated)[0].path.unlink()
    assert verify(rotated).kind == "missing_file", "nobody said that this one goes"


async def test_file_that_does_not_end_as_its_name_says_is_not_removed(rotated: Path) -> None:
    _truncated(rotated)
    with pytest.raises(OSError, match="kept"):
        removal(rotated_files(rotated)[1])


# --- readers while it is rotated ----------------------------------------------------------------------------------------


async def test_follower_gets_each_record_once_in_order(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = JsonlAuditLog(path, CLOCK, rotation=SMALL)
    follower = LogFollower(path, lambda: log.position[0])
    position, got = Position(), []
    for i in range(60):
        await log.append(AuditEntry(AuditEvent.HELD, script=str(i)))
        if i % 7 == 0:
            compress_all(path)
        if i % 11 == 0:
            follower.close()  # as after a restart
            follower = LogFollower(path, lambda: log.position[0])
        if i % 3 == 0:
            lines, position = follower.read(position, 4, 1500)
            got += [json.loads(line)["seq"] for line in lines]
    while True:
        lines, position = follower.read(position, 4, 1500)
        if not lines:
            break
        got += [json.loads(line)["seq"] for line in lines]
    assert got == list(range(1, log.position[0] + 1))
    assert follower.lag(position) == 0
    follower.close()
    await log.close()


async def test_follower_gives_out_nothing_that_is_not_flushed(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    await write(path, 3)
    flushed = 2
    follower = LogFollower(path, lambda: flushed)
    lines, position = follower.read(Position(), 100, 1 << 20)
    assert [json.loads(line)["seq"] for line in lines] == [1, 2]
    # The third was a write that failed: it is cut off, and another one comes to its place.
    data = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(data[:2]))
    await write(path, 1)
    flushed = 3
    lines, position = follower.read(position, 100, 1 << 20)
    assert [json.loads(line)["script"] for line in lines] == ["statement 0"]
    follower.close()


async def test_verifying_while_it_is_written_and_rotated(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = JsonlAuditLog(path, CLOCK, rotation=SMALL)
    await log.append(AuditEntry(AuditEvent.STARTED))

    async def writing() -> None:
        for i in range(150):
            await asyncio.gather(*(log.append(AuditEntry(AuditEvent.HELD, script=f"{i} {j}")) for j in range(5)))
            if i % 50 == 0:
                await asyncio.to_thread(compress_all, path)

    task = asyncio.ensure_future(writing())
    looks = 0
    while not task.done():
        report = await asyncio.to_thread(verify, path)
        assert report.problem is None, report
        found = await asyncio.to_thread(lambda: [r["seq"] for r in search(path, Query())])
        assert found == list(range(len(found), 0, -1))
        looks += 1
    await task
    await log.close()
    assert looks > 1
    assert verify(path).records == 751 + len(rotated_files(path))


async def test_walk_gives_each_file_once(rotated: Path) -> None:
    names = [reader.file.name for reader in walk(rotated)]
    assert names == [*(f.name for f in rotated_files(rotated)), "audit.jsonl"]
    alone = rotated_files(rotated)[1].path
    assert [reader.file.path for reader in walk(alone)] == [alone]
    report = verify(alone)
    assert report.problem is None
    assert report.first == rotated_files(rotated)[1].first


async def test_second_process_takes_nothing_from_one_that_rotates(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = JsonlAuditLog(path, CLOCK, rotation=SMALL)
    await log.append(AuditEntry(AuditEvent.HELD))
    # The moment between the second name and the new file.
    target = path.with_name("audit-000000000001-000000000001.jsonl")
    target.hardlink_to(path)
    prepared = path.with_name("audit.jsonl.next")
    prepared.write_bytes(b"prepared")
    with pytest.raises(AuditError, match="in use"):
        JsonlAuditLog(path, CLOCK)
    assert target.exists()
    assert prepared.exists()
    await log.close()
