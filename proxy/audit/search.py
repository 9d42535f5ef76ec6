"""Looking things up in the audit log: newest first, over all its files, each read backwards in blocks, so that a question about today does
not read the year. Compressed files can only be read forwards; of those what fits is kept."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

from proxy.audit.chain import Record, read_record
from proxy.audit.files import LogFile, LogReader, as_rotated, rotated_files
from proxy.holds_json import Json

_BLOCK: Final = 1 << 16
#: Columns of the CSV; the whole record is in JSON Lines.
COLUMNS: Final = (
    "seq", "at", "event", "hold_id", "environment", "role", "database", "application_name", "client_addr", "operator", "reason",
    "rule_ids", "relations", "outcome", "script", "script_sha256", "hash",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Query:
    """Which records; an empty field is any.

    Attributes:
        since, until: of the record's time, inclusive and exclusive; aware.
        text: anywhere in the script, reason, outcome, names and rules; case does not matter.
        before: only records with a smaller number.
    """

    text: str = ""
    event: str = ""
    role: str = ""
    database: str = ""
    application: str = ""
    operator: str = ""
    rule: str = ""
    hold: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None

    def matches(self, record: Record) -> bool:
        for wanted, key in (
            (self.event, "event"),
            (self.role, "role"),
            (self.database, "database"),
            (self.application, "application_name"),
            (self.operator, "operator"),
        ):
            if wanted and record.get(key) != wanted:
                return False
        rules = record.get("rule_ids")
        if self.rule and (not isinstance(rules, list) or self.rule not in rules):
            return False
        if self.hold is not None and record.get("hold_id") != self.hold:
            return False
        if self.before is not None and int(str(record.get("seq", 0))) >= self.before:
            return False
        at = datetime.fromisoformat(str(record["at"]))
        if (self.until is not None and at >= self.until) or (self.since is not None and at < self.since):
            return False
        return not self.text or self.text.lower() in json.dumps(record, ensure_ascii=False).lower()


def search(path: Path, query: Query) -> Iterator[Record]:
    """Records that match, newest first. Lines that are no records are left out; `verify` tells of those. Raises OSError."""
    for file, stream in _files_backwards(path):
        if query.before is not None and file.first >= query.before:
            continue
        for line in _backwards(stream) if not file.compressed else _forwards_reversed(file, query):
            record = read_record(line)
            try:
                found = record is not None and query.matches(record)
                older = record is not None and query.since is not None and datetime.fromisoformat(str(record["at"])) < query.since
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            if older:
                return
            if found and record is not None:
                yield record


def tail(path: Path, count: int) -> Iterator[Record]:
    """The last records, in the order of the log. Raises OSError."""
    yield from reversed(list(islice(search(path, Query()), count)))


def _files_backwards(path: Path) -> Iterator[tuple[LogFile, BinaryIO]]:
    """The live file, then the rotated ones. Raises OSError."""
    alone = as_rotated(path)
    if alone is not None:
        with path.open("rb") as stream:
            yield alone, stream
        return
    with path.open("rb") as stream:
        # Listed after the live file was opened: one that is rotated at this moment is read under one of its names.
        rotated = rotated_files(path, os.fstat(stream.fileno()))
        yield LogFile(path), stream
    for file in reversed(rotated):
        try:
            found = file
            stream = file.path.open("rb")
        except FileNotFoundError:
            found = LogFile(file.path.with_name(file.name + ".gz"), file.first, file.last)  # compressed meanwhile
            try:
                stream = found.path.open("rb")
            except FileNotFoundError:
                return  # removed meanwhile, and so were those before it
        with stream:
            yield found, stream


def _forwards_reversed(file: LogFile, query: Query) -> Iterator[bytes]:
    reader = LogReader(file)
    fitting: list[bytes] = []
    last = b""
    try:
        for line in reader.lines():
            record = read_record(line)
            last = line
            try:
                if record is not None and query.matches(record):
                    fitting.append(line)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
    finally:
        reader.close()
    if last not in fitting[-1:]:
        fitting.append(last)  # it says how old the file is
    return reversed(fitting)


def _backwards(file: BinaryIO) -> Iterator[bytes]:
    position = file.seek(0, os.SEEK_END)
    rest = b""
    while position > 0:
        start = max(0, position - _BLOCK)
        file.seek(start)
        lines = (file.read(position - start) + rest).split(b"\n")
        rest = lines[0]
        position = start
        yield from (line for line in reversed(lines[1:]) if line)
    if rest:
        yield rest


def as_csv(records: Iterator[Record]) -> Iterator[str]:
    """Lines of CSV (RFC 4180), the header first. What a spreadsheet would take for a formula begins with an apostrophe."""
    yield _line(list(COLUMNS))
    for record in records:
        yield _line([_cell(record.get(name)) for name in COLUMNS])


def _cell(value: Json) -> str:
    text = "" if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _line(cells: list[str]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow(cells)
    return out.getvalue()
