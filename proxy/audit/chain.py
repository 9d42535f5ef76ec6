"""The chain: what a record's hash covers, and whether a line follows the one before it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Final

import orjson

from proxy.holds_json import Json
from proxy.model import AuditEvent

FIRST_PREVIOUS: Final = "0" * 64

#: A log is named after the start of its first record's hash.
LOG_ID_CHARACTERS: Final = 32

Record = dict[str, Json]


def canonical(fields: Record) -> bytes:
    """Sorted keys, no spaces, UTF-8: what is hashed and what is signed."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def record_hash(record: Record) -> str:
    """SHA-256 over the canonical JSON of the record without its own hash."""
    return hashlib.sha256(canonical({k: v for k, v in record.items() if k != "hash"})).hexdigest()


def _hashes_to(record: Record, own: object) -> bool:
    body = {k: v for k, v in record.items() if k != "hash"}
    try:
        # Five times as fast, and the same bytes for all that pghold writes.
        if hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest() == own:
            return True
    except (TypeError, ValueError):
        pass  # a lone surrogate or a huge number, which json takes
    try:
        return record_hash(record) == own
    except (ValueError, TypeError):
        return False


@dataclass(frozen=True, slots=True)
class Break:
    """Why a line is not the next record."""

    kind: str
    words: str


@dataclass(slots=True)
class Chain:
    """Where in the chain we are.

    Attributes:
        sequence, hash: of the last good record.
    """

    sequence: int = 0
    hash: str = FIRST_PREVIOUS

    def follow(self, line: bytes) -> Record | Break:
        """The record when this line is the next one; the chain has then gone on to it."""
        if not line.endswith(b"\n"):
            return Break("torn_tail", "the last record is not complete")
        record = read_record(line)
        if record is None:
            return Break("bad_json", "it is not a record")
        sequence, own = record.get("seq"), record.get("hash")
        if type(sequence) is not int or not isinstance(own, str):
            return Break("bad_json", "it is not a record")
        if not _hashes_to(record, own):
            return Break("hash_mismatch", "its content does not match its hash: it was changed")
        expected = self.sequence + 1
        if sequence < expected:
            return Break("duplicate_entry", f"number {sequence} comes again, or out of order")
        if sequence > expected:
            return Break("missing_entry", f"number {expected} is missing, {sequence} follows")
        if record.get("prev") != self.hash:
            return Break("broken_link", "it does not follow the record before it")
        self.sequence, self.hash = sequence, own
        return record


def read_record(line: bytes) -> Record | None:
    """The object in this line; None when there is none."""
    try:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def log_id_of(first: Record) -> str:
    """The log's id, from the first record of any of its files."""
    detail = first.get("detail")
    if first.get("event") == AuditEvent.ROTATED and isinstance(detail, dict):
        return str(detail.get("log"))
    return str(first.get("hash"))[:LOG_ID_CHARACTERS]
