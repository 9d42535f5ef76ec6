"""Checkpoints: where the chain was, signed, and kept in a second place. Whoever cuts the log, or writes it anew with hashes that fit, cannot
make them fit.

One is a line of JSON: `{"type": "pghold-audit-checkpoint", "log", "seq", "hash", "at", "reason", "key", "signature"}`. Signed is the canonical
JSON (sorted keys, no spaces, UTF-8) of all but `signature`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, cast

import orjson

from proxy.audit.chain import Record, canonical, read_record
from proxy.audit.keys import PublicKey, SigningKey, follow_keys
from proxy.audit.verify import Progress, Verifier, VerifyReport
from proxy.holds_json import iso
from proxy.model import AuditEvent

TYPE: Final = "pghold-audit-checkpoint"
LOCAL_NAME: Final = "audit.checkpoints.jsonl"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One as it was read.

    Attributes:
        signed: the bytes under the signature.
        number: of its line, from 1.
    """

    log: str
    seq: int
    hash: str
    at: str
    key: str
    signature: str
    signed: bytes
    number: int = 0


def make_checkpoint(key: SigningKey, log_id: str, position: tuple[int, str], at: datetime, reason: str) -> bytes:
    """The line."""
    fields: Record = {
        "type": TYPE, "log": log_id, "seq": position[0], "hash": position[1], "at": iso(at), "reason": reason, "key": key.public.id,
    }  # fmt: skip
    return orjson.dumps({**fields, "signature": key.sign(canonical(fields))}) + b"\n"


def read_checkpoint(line: bytes, number: int = 0) -> Checkpoint | None:
    """None when it is none."""
    record = read_record(line)
    if record is None or record.get("type") != TYPE or type(record.get("seq")) is not int:
        return None
    texts = {name: record.get(name) for name in ("log", "hash", "at", "key", "signature")}
    if not all(isinstance(v, str) for v in texts.values()):
        return None
    signed = canonical({k: v for k, v in record.items() if k != "signature"})
    known = cast(dict[str, str], texts)
    return Checkpoint(known["log"], int(str(record["seq"])), known["hash"], known["at"], known["key"], known["signature"], signed, number)


def append_line(path: Path, line: bytes) -> None:
    """To a file that is only appended to, flushed. A line that a crash tore is ended first. Raises OSError."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(file).st_size
        torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
        data = (b"\n" if torn else b"") + line
        written = os.write(file, data)
        if written < len(data):
            raise OSError(28, "No space left on device")
        os.fsync(file)
    finally:
        os.close(file)


def read_lines(data: bytes) -> list[bytes]:
    """Without what a crash tore: a line that is the start of the next one, or has no end."""
    lines = data.split(b"\n")[:-1]
    return [line for line, after in zip(lines, [*lines[1:], b""], strict=True) if line and not (after != line and after.startswith(line))]


def last_checkpoint(path: Path) -> Checkpoint | None:
    """Of a file; None when there is none. Raises OSError."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 65536))
            data = file.read()
    except FileNotFoundError:
        return None
    for line in reversed(read_lines(data)):
        found = read_checkpoint(line)
        if found is not None:
            return found
    return None


# --- verifying ----------------------------------------------------------------------------------------------------------


def verify_against(
    path: Path, lines: Iterable[bytes], keys: Iterable[PublicKey], progress: Progress | None = None, place: str = "checkpoints"
) -> VerifyReport:
    """The chain, and every checkpoint against it. The report is of the first thing that is wrong: in the chain, else in the checkpoints.

    Keys that trusted ones vouch for in the log are trusted. Raises OSError.
    """
    found: list[Checkpoint] = []
    bad: int | None = None
    for number, line in enumerate(lines, 1):
        checkpoint = read_checkpoint(line, number)
        if checkpoint is None:
            bad = bad or number
        else:
            found.append(checkpoint)
    wanted = {c.seq for c in found}
    hashes: dict[int, str] = {}
    changes: list[Record] = []

    def note(record: Record) -> None:
        number = int(str(record["seq"]))
        if number in wanted:
            hashes[number] = str(record["hash"])
        if record["event"] == AuditEvent.AUDIT_KEY:
            changes.append(record)

    verifier = Verifier(path, progress, note)
    report = verifier.run()
    report = replace(report, checkpoints=sum(c.seq in hashes for c in found))
    if report.problem is not None and report.kind != "torn_tail":
        return report
    log_id = verifier.log_id
    trusted = follow_keys(keys, changes)
    problem = _bad(bad) or next(filter(None, (_wrong(c, trusted, log_id, hashes, report) for c in found)), None)
    if problem is None:
        return report
    kind, number_, words = problem
    return replace(report, kind=kind, problem=f"{place}, line {number_}: {words}", line=number_, file=place)


def _bad(number: int | None) -> tuple[str, int, str] | None:
    return ("bad_json", number, "it is not a checkpoint") if number is not None else None


def _wrong(
    checkpoint: Checkpoint, keys: dict[str, PublicKey], log_id: str, hashes: dict[int, str], report: VerifyReport
) -> tuple[str, int, str] | None:
    number, seq = checkpoint.number, checkpoint.seq
    key = keys.get(checkpoint.key)
    if key is None:
        return "unknown_key", number, f"it is signed with key {checkpoint.key[:32]!r}, which is not trusted"
    if not key.accepts(checkpoint.signed, checkpoint.signature):
        return "bad_signature", number, "its signature does not fit"
    if log_id and checkpoint.log != log_id:
        return "other_log", number, f"it is of another log, {checkpoint.log[:40]!r}"
    if seq > report.last:
        return "truncated", number, f"the log had {seq} records at {checkpoint.at[:40]}, and ends with {report.last}"
    if seq in hashes and hashes[seq] != checkpoint.hash:
        return "hash_mismatch", number, f"record {seq} is not the one that was signed at {checkpoint.at[:40]}: the log was rewritten"
    return None
