"""Which copies go: by age, by count, by size. Pure; keeper.py carries it out.

What never goes, whatever the limits say: a copy that is being made, proven or restored from; the newest proven full copy of a
database; and by count or size no safety copy that is the only proven one of a table. Only its age lets such a one go, since nobody can make it again: what it has was
destroyed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from proxy.backups.model import Backup, BackupId, BackupState, CopyKind, Proof


@dataclass(frozen=True, slots=True)
class Limits:
    """0 stands for no limit, everywhere.

    Attributes:
        days: older ones go.
        count: of each database, more than the newest so many go.
        bytes: the oldest go while all take more.
    """

    days: float = 0.0
    count: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Removal:
    """One that goes, and why, for people."""

    backup: Backup
    why: str


def what_goes(backups: Iterable[Backup], limits: Limits, now: datetime, in_use: Collection[BackupId] = ()) -> list[Removal]:
    """Oldest first. Those that failed or were removed have no files; those in the trash schema are purged by a held statement."""
    kept = sorted((b for b in backups if b.state is BackupState.DONE and b.kind is not CopyKind.TRASH), key=lambda b: b.id)
    bound = {b.id for b in kept if b.proof is Proof.RUNNING} | set(in_use) | _newest_full(kept)
    gone: dict[BackupId, Removal] = {}

    def remove(backup: Backup, why: str) -> None:
        gone[backup.id] = Removal(backup, why)

    for backup in kept if limits.days else ():
        if backup.id not in bound and now - backup.created_at > timedelta(days=limits.days):
            remove(backup, f"older than {limits.days:g} days")
    rest = [b for b in kept if b.id not in gone]
    # No full copy makes a safety copy superfluous: when the next one is there, without the table, it goes.
    lasting = {b.id for b in rest if b.proof is Proof.EQUAL and b.hold_id is not None}
    proven = Counter((b.database, t.name) for b in rest if b.id in lasting for t in b.tables)

    def is_only_one(backup: Backup) -> bool:
        return backup.id in lasting and any(proven[backup.database, t.name] < 2 for t in backup.tables)

    def drop(backup: Backup, why: str) -> bool:
        if backup.id in bound or backup.id in gone or is_only_one(backup):
            return False
        remove(backup, why)
        if backup.id in lasting:
            proven.subtract((backup.database, t.name) for t in backup.tables)
        return True

    if limits.count:
        of_database: dict[str, list[Backup]] = defaultdict(list)
        for backup in rest:
            of_database[backup.database].append(backup)
        for database, copies in of_database.items():
            for backup in copies[: -limits.count]:
                drop(backup, f"more than {limits.count:,} copies of database {database}")
    if limits.bytes:
        taken = sum(b.bytes for b in rest if b.id not in gone)
        for backup in rest:
            if taken > limits.bytes and drop(backup, f"all copies take more than {limits.bytes:,} bytes"):
                taken -= backup.bytes
    return [gone[key] for key in sorted(gone)]


def _newest_full(kept: Iterable[Backup]) -> set[BackupId]:
    """Of each database, the newest proven one; where none is proven, the newest."""
    found: dict[str, Backup] = {}
    for backup in kept:
        if backup.kind is CopyKind.FULL:
            before = found.get(backup.database)
            if before is None or backup.proof is Proof.EQUAL or before.proof is not Proof.EQUAL:
                found[backup.database] = backup
    return {b.id for b in found.values()}
