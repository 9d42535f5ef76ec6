"""The audit log: JSON Lines, hash-chained, flushed to disk before anything it records takes effect.

Each record carries the hash of the one before and its own, so that a record cannot be changed, taken out or put in without breaking
every one behind it. One thread writes: it takes all entries that wait, writes them, flushes once, and then answers all of them
(group commit). When a write fails, the file is cut back to its last good record and the waiting entries are refused; the log
works again as soon as the disk does.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.holds_json import Json, iso
from proxy.model import AuditEntry
from proxy.seams import AuditError, Clock

FIRST_PREVIOUS: Final = "0" * 64
#: Entries flushed together.
_BATCH: Final = 1000


def record_hash(record: dict[str, Json]) -> str:
    """SHA-256 over the canonical JSON (sorted keys, no spaces, UTF-8) of the record without its own hash."""
    body = {k: v for k, v in record.items() if k != "hash"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


@dataclass(slots=True)
class _Waiting:
    entry: AuditEntry
    future: asyncio.Future[None]
    loop: asyncio.AbstractEventLoop


class JsonlAuditLog:
    """seams.AuditLog in a file. Only one process may have it open.

    Args:
        on_flush: called from the writer thread with the seconds that each flush took.

    Raises AuditError when the file is not a whole chain, or another process has it.
    """

    def __init__(self, path: Path, clock: Clock, on_flush: Callable[[float], None] | None = None) -> None:
        self.path = path
        self._clock = clock
        self._on_flush = on_flush
        self.failures = 0
        self.failing = False
        try:
            existed = path.exists()
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not existed:
                _sync_folder(path.parent)
        except BlockingIOError:
            os.close(self._file)
            raise AuditError(f"{path} is in use by another pghold") from None
        except OSError as error:
            raise AuditError(f"cannot open {path}: {error.strerror}") from error
        self._cut_torn_tail()
        report = verify(path)
        if report.problem is not None:
            os.close(self._file)
            raise AuditError(f"{path}: {report.problem}")
        self._sequence = report.records
        self._previous = report.last_hash
        self._size = os.fstat(self._file).st_size
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="audit log", daemon=True)
        self._thread.start()

    def submit(self, entry: AuditEntry) -> asyncio.Future[None]:
        """Queue an entry; the order of calls is the order in the file. The future fails with AuditError."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._queue.put(_Waiting(entry, future, loop))
        return future

    async def append(self, entry: AuditEntry) -> None:
        await self.submit(entry)

    async def close(self) -> None:
        """Flush what waits, and let the file go."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        os.close(self._file)

    # --- the writer thread --------------------------------------------------------------------------------------

    def _write_all(self) -> None:
        while True:
            first = self._queue.get()
            batch: list[_Waiting] = []
            ending = first is None
            if first is not None:
                batch.append(first)
            while len(batch) < _BATCH and not ending:
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
                if item is None:
                    ending = True
                else:
                    batch.append(item)
            if batch:
                self._write(batch)
            if ending:
                return

    def _write(self, batch: list[_Waiting]) -> None:
        sequence, previous = self._sequence, self._previous
        lines: list[bytes] = []
        error: AuditError | None = None
        try:
            for waiting in batch:
                record = self._record(waiting.entry, sequence + 1, previous)
                sequence += 1
                previous = str(record["hash"])
                lines.append(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            data = b"".join(lines)
            started = time.perf_counter()
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
            os.fdatasync(self._file)
            if self._on_flush is not None:
                self._on_flush(time.perf_counter() - started)
            self._size += len(data)
            self._sequence, self._previous = sequence, previous
            self.failing = False
        except (OSError, ValueError, TypeError) as problem:
            self.failures += 1
            self.failing = True
            error = AuditError(f"cannot write {self.path}: {getattr(problem, 'strerror', None) or problem}")
            try:
                os.ftruncate(self._file, self._size)
                os.fdatasync(self._file)
            except OSError:
                pass  # the next write fails as well, or continues behind the last good record
        for waiting in batch:
            waiting.loop.call_soon_threadsafe(_answer, waiting.future, error)

    def _record(self, entry: AuditEntry, sequence: int, previous: str) -> dict[str, Json]:
        requester = entry.requester
        record: dict[str, Json] = {
            "seq": sequence,
            "at": iso(self._clock.now()),
            "event": str(entry.event),
            "hold_id": entry.hold_id,
            "environment": entry.environment,
            "role": requester.role if requester else None,
            "database": requester.database if requester else None,
            "application_name": requester.application_name if requester else None,
            "client_addr": requester.client_addr if requester else None,
            "certificate": (requester.certificate or None) if requester else None,
            "session_id": requester.session_id if requester else None,
            "operator": entry.operator or None,
            "reason": entry.reason or None,
            "script": _clean(entry.script) or None,
            "script_sha256": entry.script_sha256 or None,
            "rule_ids": list(entry.rule_ids),
            "relations": list(entry.relations),
            "outcome": entry.outcome or None,
            "detail": dict(entry.detail),
            "prev": previous,
        }
        record = {k: _clean(v) if isinstance(v, str) else v for k, v in record.items()}
        record["hash"] = record_hash(record)
        return record

    def _cut_torn_tail(self) -> None:
        """A crash can leave the start of a record; it was never acknowledged. Keep it aside and go on."""
        size = os.fstat(self._file).st_size
        if size == 0 or os.pread(self._file, 1, size - 1) == b"\n":
            return
        end = size
        while end > 0:
            start = max(0, end - 65536)
            found = os.pread(self._file, end - start, start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        torn = os.pread(self._file, size - end, end)
        aside = self.path.with_name(f"{self.path.name}.torn-{end}")
        aside.write_bytes(torn)
        os.ftruncate(self._file, end)
        os.fsync(self._file)


def _clean(text: str) -> str:
    """Lone surrogates cannot be written as UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _answer(future: asyncio.Future[None], error: AuditError | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- reading ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify` found.

    Attributes:
        records: good ones from the start.
        last_hash: of the last good record; zeros for an empty log.
        problem: the first broken record and why, in words; None when the chain is whole.
        kind: bad_json, hash_mismatch, broken_link, missing_entry, duplicate_entry or torn_tail.
        line: of the broken record, from 1.
    """

    records: int
    last_hash: str
    problem: str | None = None
    kind: str | None = None
    line: int | None = None


def verify(path: Path) -> VerifyReport:
    """Check every record and every link. Raises OSError."""
    previous, count = FIRST_PREVIOUS, 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            problem = _check(line, count + 1, previous)
            if isinstance(problem, tuple):
                kind, words = problem
                return VerifyReport(count, previous, f"record {count + 1} (line {number}): {words}", kind, number)
            previous, count = problem, count + 1
    return VerifyReport(count, previous)


def _check(line: bytes, expected: int, previous: str) -> str | tuple[str, str]:
    if not line.endswith(b"\n"):
        return "torn_tail", "the last record is not complete"
    try:
        record = json.loads(line)
        sequence, own = record["seq"], record["hash"]
    except (ValueError, KeyError, TypeError):
        return "bad_json", "it is not a record"
    if record_hash(record) != own:
        return "hash_mismatch", "its content does not match its hash: it was changed"
    if sequence != expected:
        if sequence < expected:
            return "duplicate_entry", f"number {sequence} comes again, or out of order"
        return "missing_entry", f"number {expected} is missing, {sequence} follows"
    if record.get("prev") != previous:
        return "broken_link", "it does not follow the record before it"
    return str(own)


def tail(path: Path, count: int) -> Iterator[dict[str, Json]]:
    """The last records. Raises OSError."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        block, data = 65536, b""
        while size > 0 and data.count(b"\n") <= count:
            start = max(0, size - block)
            file.seek(start)
            data = file.read(size - start) + data
            size = start
    for line in data.splitlines()[-count:] if count else []:
        try:
            yield json.loads(line)
        except ValueError:
            continue
