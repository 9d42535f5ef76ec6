"""Verifying: all files of a log as one chain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.audit.chain import FIRST_PREVIOUS, Break, Chain, Record, log_id_of, read_record
from proxy.audit.files import LogFile, LogReader, as_rotated, size_on_disk, walk
from proxy.model import AuditEvent

#: Called with bytes read, bytes in all, records.
Progress = Callable[[int, int, int], None]
_PROGRESS_EVERY: Final = 1000


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify` found.

    Attributes:
        records: good ones from the start.
        last_hash: of the last good record; zeros for an empty log.
        problem: the first broken record and why, in words; None when the chain is whole.
        kind: bad_json, hash_mismatch, broken_link, missing_entry, duplicate_entry, torn_tail, missing_file, truncated or unreadable_file;
            of checkpoints also bad_signature, unknown_key and other_log.
        line, file: of the broken record; lines count from 1.
        first: number of the first record; more than 1 when older files were removed by the rules of the configuration, on record.
        files: that were read.
        checkpoints: signed positions that were compared; 0 without any.
    """

    records: int
    last_hash: str
    problem: str | None = None
    kind: str | None = None
    line: int | None = None
    file: str | None = None
    first: int = 1
    files: int = 1
    checkpoints: int = 0

    @property
    def last(self) -> int:
        return self.first + self.records - 1


class Verifier:
    """Reads a log once.

    Attributes:
        log_id: the log's id, once the first record was read.
    """

    def __init__(self, path: Path, progress: Progress | None = None, on_record: Callable[[Record], None] | None = None) -> None:
        self._path = path
        self._progress = progress
        self._on_record = on_record
        self._chain = Chain()
        self.log_id = ""
        self._first: int | None = None
        self._first_previous = FIRST_PREVIOUS
        self._removed: dict[int, str] = {}
        self._files = 0
        self._bytes = 0
        self._total = size_on_disk(path) if progress is not None else 0
        self._since = 0

    def run(self) -> VerifyReport:
        """Raises OSError."""
        alone = as_rotated(self._path) is not None
        ended_live = False
        for reader in walk(self._path):
            self._files += 1
            report = self._read(reader)
            if report is not None:
                return report
            self._bytes += reader.bytes_read
            ended_live = reader.file.live
        if not ended_live and not alone:
            return self._report("missing_file", f"{self._path.name} is missing: it follows record {self._chain.sequence}")
        if self._progress is not None:
            self._progress(self._total, self._total, self._chain.sequence)
        if self._first not in (None, 1) and not alone:
            assert self._first is not None
            before = self._first - 1
            if self._removed.get(before) != self._first_previous:
                return self._report("missing_file", f"records 1 to {before} are missing, and no record says that they were removed")
        return self._report()

    def _read(self, reader: LogReader) -> VerifyReport | None:
        file, chain = reader.file, self._chain
        expected = chain.sequence + 1
        if file.last is not None and self._first is not None and file.first != expected:
            what = f"records {expected} to {file.first - 1} are missing" if file.first > expected else "records come twice"
            kind = "missing_file" if file.first > expected else "duplicate_entry"
            return self._report(kind, f"{what}: {file.name} follows record {chain.sequence}", file=file.name)
        line_number = 0
        try:
            for line in reader.lines():
                line_number += 1
                if self._first is None:
                    self._begin(file, line)
                record = chain.follow(line)
                if isinstance(record, Break):
                    if file.live and line_number == 1 and record.kind == "missing_entry":
                        # No file has the records before it.
                        record = Break("missing_file", f"records {chain.sequence + 1} to {_sequence(line) - 1} are missing")
                    return self._report(record.kind, record.words, line_number, file.name)
                if not self.log_id:
                    self.log_id = log_id_of(record)
                if record.get("event") == AuditEvent.PRUNED:
                    self._note_removed(record)
                if self._on_record is not None:
                    self._on_record(record)
                self._since += 1
                if self._progress is not None and self._since >= _PROGRESS_EVERY:
                    self._since = 0
                    self._progress(self._bytes + reader.bytes_read, self._total, chain.sequence)
        except OSError as error:
            return self._report("unreadable_file", str(error), line_number + 1, file.name)
        if file.last is not None and chain.sequence != file.last:
            if self._first is None:
                return self._report("truncated", "the file is empty", 1, file.name)
            words = f"the file ends with record {chain.sequence}, and should with {file.last}"
            return self._report("truncated" if chain.sequence < file.last else "duplicate_entry", words, line_number + 1, file.name)
        if file.live and line_number == 0 and self._first is not None:
            return self._report("truncated", "the file is empty, although others were rotated before it", 1, file.name)
        return None

    def _begin(self, file: LogFile, line: bytes) -> None:
        """The oldest files may have been removed; then the chain begins where the first record says."""
        self._first = 1
        record = read_record(line)
        alone = as_rotated(self._path) is not None
        if record is None or (record.get("event") != AuditEvent.ROTATED and not alone):
            return
        sequence, previous = record.get("seq"), record.get("prev")
        named = file.live or sequence == file.first
        if type(sequence) is int and sequence > 1 and isinstance(previous, str) and named:
            self._first, self._first_previous = sequence, previous
            self._chain.sequence, self._chain.hash = sequence - 1, previous

    def _note_removed(self, record: Record) -> None:
        detail = record.get("detail")
        if isinstance(detail, dict) and type(last := detail.get("last_seq")) is int:
            self._removed[last] = str(detail.get("last_hash"))

    def _report(self, kind: str | None = None, words: str = "", line: int | None = None, file: str | None = None) -> VerifyReport:
        first = self._first or 1
        problem = words if kind else None
        if kind and line is not None:
            problem = f"record {self._chain.sequence + 1} ({file}, line {line}): {words}"
        records = max(0, self._chain.sequence - first + 1)
        return VerifyReport(records, self._chain.hash, problem, kind, line, file, first, max(1, self._files))


def _sequence(line: bytes) -> int:
    record = read_record(line)
    return int(str(record["seq"])) if record is not None else 0


def verify(path: Path, progress: Progress | None = None) -> VerifyReport:
    """Check every record and every link, over all files of the log. Raises OSError."""
    return Verifier(path, progress).run()
