"""The audit log: append-only JSON Lines, hash-chained, on disk before anything that it records takes effect.

Each record holds `seq`, `prev` (the hash of the record before) and `hash`, so that nothing can be changed, removed or put in without breaking
every one behind it. One thread writes: it takes all entries that wait, writes them, flushes once, and then answers all of them
(group commit). When a write fails, the file is cut back to its last good record and the waiting entries are refused, except those
that tell of what has happened already, which are kept and written later; while it fails the thread tries by itself, and what it
writes first when it can is how long it could not. Between two flushes the thread also rotates the file (rotation.py).
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from proxy.audit.chain import LOG_ID_CHARACTERS, Chain, Record, record_hash
from proxy.audit.files import sync_folder
from proxy.audit.rotation import Rotation, cut_torn_tail, finish, is_there, read_live, rotate
from proxy.holds_json import Json, iso
from proxy.model import AuditEntry, AuditEvent
from proxy.seams import AuditError, Clock

#: Entries flushed together.
_BATCH: Final = 1000
#: While it fails, so often is it tried.
_RETRY_S: Final = 1.0
#: A rotation that failed is tried again after so long.
_ROTATE_AGAIN_S: Final = 30.0
#: Entries about what has happened already, kept while the file cannot be written.
_KEPT: Final = 100_000
#: And of all their scripts.
_KEPT_CHARACTERS: Final = 64 << 20


@dataclass(slots=True)
class _Waiting:
    entry: AuditEntry
    future: asyncio.Future[None]
    loop: asyncio.AbstractEventLoop
    late: bool
    at: datetime


class JsonlAuditLog:
    """seams.AuditLog in a file. Only one process may have it open.

    Args:
        on_flush: called from the writer thread with the seconds that each flush took.
        mask: applied to SQL texts before they are recorded.

    Attributes:
        listeners: called from the writer thread when there are new records.
        log_id: the start of the first record's hash; it names this log in checkpoints and sinks. Empty while there is no record.

    Raises AuditError when the live file is not a whole chain, does not follow the rotated ones, or another process has it.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        on_flush: Callable[[float], None] | None = None,
        *,
        rotation: Rotation | None = None,
        mask: Callable[[str], str] | None = None,
    ) -> None:
        self.path = path
        self._clock = clock
        self._on_flush = on_flush
        self._rotation = rotation or Rotation()
        self._mask = mask
        self.failures = 0
        self.failing = False
        self.lost = 0
        self.rotations = 0
        self.rotations_failed = 0
        self.rotation_problem = ""
        self.listeners: list[Callable[[], None]] = []
        self._file = _open(path)
        try:
            cut_torn_tail(self._file, path)
            state = read_live(path)
        except (OSError, AuditError) as error:
            os.close(self._file)
            raise error if isinstance(error, AuditError) else AuditError(f"cannot read {path}: {error.strerror}") from error
        self._chain = state.chain
        self._first = state.first
        self._first_at = state.first_at
        self.log_id = state.log_id
        self._size = os.fstat(self._file).st_size
        self._dirty = False
        self._refused = 0
        self._failed_at: datetime | None = None
        self._late: deque[_Waiting] = deque()
        self._late_characters = 0
        self._rotate_after = 0.0
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="audit log", daemon=True)
        self._thread.start()

    @property
    def position(self) -> tuple[int, str]:
        """Number and hash of the last record on disk."""
        chain = self._chain
        return chain.sequence, chain.hash

    @property
    def size_bytes(self) -> int:
        """Of the live file."""
        return self._size

    def submit(self, entry: AuditEntry, *, late: bool = False) -> asyncio.Future[None]:
        """Queue an entry; the order of calls is the order in the file. The future fails with AuditError.

        `late`: it tells of what has happened already; while the file cannot be written it is kept, and the future ends at once.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._queue.put(_Waiting(entry, future, loop, late, self._clock.now()))
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
        ending = False
        while not ending:
            batch, ending = self._next_batch()
            if batch or self.failing:
                self._write(batch)
            if not self.failing and not ending and self._wants_rotation():
                self._rotate()

    def _next_batch(self) -> tuple[list[_Waiting], bool]:
        try:
            first = self._queue.get(timeout=_RETRY_S if self.failing else None)
        except queue.Empty:
            return [], False
        batch: list[_Waiting] = []
        while first is not None:
            batch.append(first)
            if len(batch) == _BATCH:
                return batch, False
            try:
                first = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _write(self, batch: list[_Waiting]) -> None:
        chain = Chain(*self.position)
        lines: list[bytes] = []
        error: AuditError | None = None
        log_id = self.log_id
        try:
            now = self._clock.now()
            entries = [(w.entry, w.at) for w in self._late] + [(w.entry, now) for w in batch]
            if self._failed_at is not None:
                entries.insert(0, (self._failure(), now))
            for entry, happened in entries:
                record = self._record(entry, chain, now, happened)
                lines.append(json.dumps(record, ensure_ascii=False).encode() + b"\n")
                chain = Chain(int(str(record["seq"])), str(record["hash"]))
                log_id = log_id or chain.hash[:LOG_ID_CHARACTERS]
            data = b"".join(lines)
            started = time.perf_counter()
            self._put(data)
            if self._on_flush is not None:
                self._on_flush(time.perf_counter() - started)
        except Exception as problem:
            # Safety: whatever it is, those who wait must be refused; a thread that ends here would leave them, and all others, waiting.
            error = AuditError(f"cannot write {self.path}: {getattr(problem, 'strerror', None) or problem}")
            self._failed(batch, error)
        else:
            self._size += len(data)
            self._first = self._first or 1
            self._first_at = self._first_at or now
            self._chain, self.log_id = chain, log_id
            self.failing = False
            self._failed_at, self._refused = None, 0
            self._late.clear()
            self._late_characters = 0
        for waiting in batch:
            waiting.loop.call_soon_threadsafe(_answer, waiting.future, None if waiting.late else error)
        if error is None:
            self._tell()

    def _put(self, data: bytes) -> None:
        if self._dirty:
            # What a failed write left must be gone first: the next record would stand behind half a one.
            os.ftruncate(self._file, self._size)
            self._dirty = False
        self._dirty = True
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        os.fdatasync(self._file)
        self._dirty = False

    def _failed(self, batch: list[_Waiting], error: AuditError) -> None:
        self.failures += bool(batch) or not self.failing
        self.failing = True
        if self._failed_at is None:
            self._failed_at, self._problem = self._clock.now(), str(error)
        for waiting in batch:
            if not waiting.late:
                self._refused += 1
            elif len(self._late) < _KEPT and self._late_characters + len(waiting.entry.script) < _KEPT_CHARACTERS:
                self._late.append(waiting)
                self._late_characters += len(waiting.entry.script)
            else:
                self.lost += 1
        with suppress(OSError):
            os.ftruncate(self._file, self._size)
            os.fdatasync(self._file)
            self._dirty = False

    def _failure(self) -> AuditEntry:
        detail: dict[str, str | int | float | bool | None] = {"since": iso(self._failed_at), "refused": self._refused, "lost": self.lost}
        return AuditEntry(AuditEvent.AUDIT_FAILED, outcome=self._problem, detail=detail)

    def _tell(self) -> None:
        for listener in self.listeners:
            listener()

    def _record(self, entry: AuditEntry, chain: Chain, now: datetime, happened: datetime) -> Record:
        requester = entry.requester
        detail: dict[str, Json] = dict(entry.detail)
        if happened < now:
            detail["happened_at"] = iso(happened)
        record: dict[str, Json] = {
            "seq": chain.sequence + 1,
            "at": iso(now),
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
            "script": self._shown(entry.script) or None,
            "script_sha256": entry.script_sha256 or None,
            "rule_ids": list(entry.rule_ids),
            "relations": list(entry.relations),
            "outcome": entry.outcome or None,
            "detail": {k: self._shown(v) if k in _SQL_DETAILS and isinstance(v, str) else v for k, v in detail.items()},
            "prev": chain.hash,
        }
        record = {k: _clean(v) for k, v in record.items()}
        record["hash"] = record_hash(record)
        return record

    def _shown(self, text: str) -> str:
        return self._mask(text) if self._mask is not None and text else text

    # --- rotation -----------------------------------------------------------------------------------------------

    def _wants_rotation(self) -> bool:
        if self._chain.sequence <= self._first or time.monotonic() < self._rotate_after:
            return False
        return self._rotation.due(self._size, self._first_at, self._clock.now())

    def _rotate(self) -> None:
        """Failing, it changes nothing: the file goes on to grow."""
        try:
            fresh = rotate(self.path, self._first, self._chain, self.log_id, lambda entry, chain: self._line(entry, chain))
        except OSError as problem:
            self.rotations_failed += 1
            self.rotation_problem = f"the audit log cannot be rotated: {problem.strerror or problem}"
            self._rotate_after = time.monotonic() + _ROTATE_AGAIN_S
            return
        os.close(self._file)
        self._file, self._size, self._first_at = fresh.file, fresh.size, self._clock.now()
        self._chain, self._first = fresh.chain, fresh.chain.sequence
        self.rotations += 1
        self.rotation_problem = ""
        self._tell()

    def _line(self, entry: AuditEntry, chain: Chain) -> bytes:
        now = self._clock.now()
        return json.dumps(self._record(entry, chain, now, now), ensure_ascii=False).encode() + b"\n"


#: Details that are SQL.
_SQL_DETAILS: Final = frozenset({"script", "statement", "suggestion", "sql", "preview"})


def _open(path: Path) -> int:
    """The live file, locked, with what a rotation left half done put right. Raises AuditError."""
    file = -1
    try:
        existed = is_there(path)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(file), path.stat()):
            raise BlockingIOError  # it was rotated at this moment
        # Behind the lock: to another process in the middle of a rotation this would take files away.
        finish(path)
        if not existed:
            sync_folder(path.parent)
    except AuditError:
        if file >= 0:
            os.close(file)
        raise
    except BlockingIOError:
        os.close(file)
        raise AuditError(f"{path} is in use by another pghold") from None
    except OSError as error:
        if file >= 0:
            os.close(file)
        raise AuditError(f"cannot open {path}: {error.strerror}") from error
    return file


def _clean(value: Json) -> Json:
    """Lone surrogates cannot be written as UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [_clean(v) for v in value]
    if isinstance(value, dict):
        return {k: _clean(v) for k, v in value.items()}
    return value


def _answer(future: asyncio.Future[None], error: AuditError | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
