"""What is done to rotated files: compressed, and the oldest removed where the settings say so.

A compressed copy is read back before the plain file goes, and a file is removed only when its removal is on record and every sink has had it. A
crash between two steps leaves a file more than is needed, which readers know to leave out, and the next round takes it away.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from proxy.audit.chain import read_record
from proxy.audit.files import PART_SUFFIX, LogFile, last_line, rotated_files, sync_folder
from proxy.model import AuditEntry, AuditEvent

_CHUNK: Final = 1 << 20


def compress_all(live: Path) -> int:
    """Compress the rotated files that are not; return how many. Raises OSError."""
    done = 0
    for file in rotated_files(live):
        if not file.compressed:
            _compress(file)
            done += 1
    return done


def _compress(file: LogFile) -> None:
    target = file.path.with_name(file.name + ".gz")
    part = target.with_name(target.name + PART_SUFFIX)
    try:
        before = hashlib.sha256()
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with file.path.open("rb") as source, os.fdopen(descriptor, "wb") as out:
            with gzip.GzipFile(filename="", fileobj=out, mode="wb", compresslevel=6, mtime=0) as packed:
                while chunk := source.read(_CHUNK):
                    before.update(chunk)
                    packed.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        after = hashlib.sha256()
        with gzip.open(part, "rb") as check:
            while chunk := check.read(_CHUNK):
                after.update(chunk)
        if after.digest() != before.digest():
            raise OSError(f"{file.name} was not compressed well")
        os.replace(part, target)
        sync_folder(target.parent)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    file.path.unlink()
    sync_folder(target.parent)


def surplus(live: Path, keep: int) -> list[LogFile]:
    """The oldest rotated files beyond those to keep, oldest first; 0 keeps all."""
    return rotated_files(live)[:-keep] if keep else []


def removal(file: LogFile) -> AuditEntry:
    """The record that must be there before the file goes. Raises OSError."""
    last = read_record(last_line(file))
    if last is None or last.get("seq") != file.last:
        raise OSError(f"{file.name} does not end with record {file.last}: it is kept")
    detail: dict[str, str | int | float | bool | None] = {
        "file": file.name,
        "first_seq": file.first,
        "last_seq": file.last,
        "last_hash": str(last["hash"]),
    }
    return AuditEntry(AuditEvent.PRUNED, outcome="removed by the settings", detail=detail)


def remove(file: LogFile) -> None:
    """Raises OSError."""
    for path in (file.path, file.path.with_name(file.name + ".gz")):
        path.unlink(missing_ok=True)
    sync_folder(file.path.parent)
