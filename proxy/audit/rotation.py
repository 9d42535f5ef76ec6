"""Rotation: the live file gets a name with its records' numbers, and a new one goes on with the chain.

Its steps, each of which a crash may be the last:

1. `audit.jsonl.next` is written with its first record, `rotated`, and flushed.
2. The live file gets its second name, `audit-FIRST-LAST.jsonl` (a hard link), and the folder is flushed.
3. `.next` is renamed to `audit.jsonl`, which takes the first name from the old file, and the folder is flushed.

There is always a live file. A start after step 1 or 2 finds the live file that was, removes `.next` and the second name, and is where it
was before. Two renames instead of the link would leave a moment without a live file, which a start could not tell from one that somebody took away.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

from proxy.audit.chain import Break, Chain, Record, log_id_of, read_record
from proxy.audit.checkpoints import last_checkpoint
from proxy.audit.files import NEXT_SUFFIX, LogFile, LogReader, as_rotated, last_line, rotated_files, rotated_name, sync_folder
from proxy.model import AuditEntry, AuditEvent
from proxy.seams import AuditError

DEFAULT_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Rotation:
    """When the live file is rotated; 0 is never.

    Attributes:
        days: since its first record.
    """

    max_bytes: int = DEFAULT_BYTES
    days: float = 0

    def due(self, size: int, first_at: datetime | None, now: datetime) -> bool:
        if self.max_bytes and size >= self.max_bytes:
            return True
        return bool(self.days and first_at is not None and now - first_at >= timedelta(days=self.days))


@dataclass(frozen=True, slots=True)
class Fresh:
    """The new live file, open and locked."""

    file: int
    size: int
    chain: Chain


def rotate(path: Path, first: int, chain: Chain, log_id: str, line: Callable[[AuditEntry, Chain], bytes]) -> Fresh:
    """Raises OSError; the old file is then still the live one."""
    target = rotated_name(path, first, chain.sequence)
    prepared = path.with_name(path.name + NEXT_SUFFIX)
    detail: dict[str, str | int | float | bool | None] = {
        "file": target.name,
        "first_seq": first,
        "last_seq": chain.sequence,
        "last_hash": chain.hash,
        "log": log_id,
    }
    data = line(AuditEntry(AuditEvent.ROTATED, detail=detail), chain)
    after = Chain(*_position(data))
    prepared.unlink(missing_ok=True)
    file = os.open(prepared, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        view = memoryview(data)
        while view:
            view = view[os.write(file, view) :]
        os.fsync(file)
        os.link(path, target)
        try:
            sync_folder(path.parent)
            os.rename(prepared, path)
        except OSError:
            target.unlink()
            raise
    except OSError:
        os.close(file)
        prepared.unlink(missing_ok=True)
        raise
    with suppress(OSError):
        sync_folder(path.parent)
    return Fresh(file, len(data), after)


def _position(line: bytes) -> tuple[int, str]:
    record = read_record(line)
    assert record is not None
    return int(str(record["seq"])), str(record["hash"])


def is_there(path: Path) -> bool:
    """Whether there is a live file; where others were rotated before it there must be one. Raises AuditError, OSError."""
    if path.exists():
        return True
    newest = rotated_files(path)
    if newest:
        raise AuditError(
            f"{path} is missing, although {newest[-1].name} was rotated before it: put it back, or move all files of the log away"
        )
    return False


def finish(path: Path) -> None:
    """At start: undo a rotation that a crash broke off. Raises OSError."""
    live = path.stat()
    undone = False
    for name in os.listdir(path.parent):
        other = path.with_name(name)
        if name.startswith(f"{path.stem}-") and as_rotated(other) is not None and os.path.samestat(other.stat(), live):
            other.unlink()
            undone = True
    prepared = path.with_name(path.name + NEXT_SUFFIX)
    if prepared.exists():
        prepared.unlink()
        undone = True
    if undone:
        sync_folder(path.parent)


def cut_torn_tail(file: int, path: Path) -> None:
    """A crash can leave the start of a record; it was never acknowledged. Keep it aside and go on. Raises OSError."""
    size = os.fstat(file).st_size
    if size == 0 or os.pread(file, 1, size - 1) == b"\n":
        return
    end = size
    while end > 0:
        start = max(0, end - 65536)
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    torn = os.pread(file, size - end, end)
    aside = path.with_name(f"{path.name}.torn-{end}")
    with suppress(OSError):  # on a full disk it cannot be kept
        aside.write_bytes(torn)
    os.ftruncate(file, end)
    os.fsync(file)


@dataclass(frozen=True, slots=True)
class Live:
    """Where the log stands, as its live file has it.

    Attributes:
        first, first_at: of the live file's first record; 0 and None when it is empty.
    """

    chain: Chain
    first: int
    first_at: datetime | None
    log_id: str


def read_live(path: Path) -> Live:
    """At start: check the live file wholly, and that it follows the rotated ones, whose names must leave no gap.

    What is inside those is not read: years of them would keep the start waiting; `verify` does. The last checkpoint that was made here must
    fit. Raises AuditError, OSError.
    """
    chain, first_record = Chain(), None
    signed = last_checkpoint(path.with_name(f"{path.stem}.checkpoints.jsonl"))
    reader = LogReader(LogFile(path))
    try:
        for number, line in enumerate(reader.lines(), 1):
            if first_record is None:
                first_record = read_record(line)
                chain = _before(path, first_record)
            record = chain.follow(line)
            if isinstance(record, Break):
                raise AuditError(f"{path}: record {chain.sequence + 1} (line {number}): {record.words} ({record.kind})")
            if signed is not None and signed.seq == chain.sequence and signed.hash != chain.hash:
                raise AuditError(f"{path}: record {signed.seq} is not the one that was signed at {signed.at} (hash_mismatch)")
    finally:
        reader.close()
    if first_record is None:
        if rotated_files(path):
            raise AuditError(f"{path} is empty, although others were rotated before it (truncated)")
        if signed is not None:
            raise AuditError(f"{path} has no record, and had {signed.seq} at {signed.at} (truncated)")
        return Live(chain, 0, None, "")
    log_id = log_id_of(first_record)
    if signed is not None:
        if signed.log != log_id:
            raise AuditError(f"{path} is another log than the one whose checkpoints are beside it (other_log)")
        if signed.seq > chain.sequence:
            raise AuditError(f"{path} ends with record {chain.sequence}, and had {signed.seq} at {signed.at} (truncated)")
    return Live(chain, int(str(first_record["seq"])), datetime.fromisoformat(str(first_record["at"])), log_id)


def _before(path: Path, first: Record | None) -> Chain:
    """The end of the rotated files, when the live one says that it follows some."""
    rotated = rotated_files(path)
    for one, other in pairwise(rotated):
        if one.last is None or other.first != one.last + 1:
            raise AuditError(f"{path.parent}: between {one.name} and {other.name} records are missing, or come twice (missing_file)")
    if first is None or first.get("event") != AuditEvent.ROTATED:
        if rotated:
            raise AuditError(f"{path} does not follow {rotated[-1].name} (missing_file)")
        return Chain()
    sequence, previous = first.get("seq"), first.get("prev")
    if type(sequence) is not int or not isinstance(previous, str):
        raise AuditError(f"{path}: record 1 (line 1): it is not a record (bad_json)")
    if not rotated:
        return Chain(sequence - 1, previous)  # all were removed by the rules of the configuration; verify looks for the record of it
    newest = rotated[-1]
    if newest.last != sequence - 1:
        raise AuditError(f"{path} begins with record {sequence}, and {newest.name} ends with {newest.last} (missing_file)")
    if not newest.compressed:
        last = read_record(last_line(newest))
        if last is None or last.get("hash") != previous:
            raise AuditError(f"{path} does not follow {newest.name}, whose last record was changed or cut (broken_link)")
    return Chain(sequence - 1, previous)
