"""Which copy is proven again next: those never proven first, then what was proven longest ago."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from proxy.backups.model import Backup, BackupId, BackupState, CopyKind, Proof

#: What is proven by restoring it.
PROVABLE: Final = frozenset({CopyKind.DUMP, CopyKind.ROWS, CopyKind.FULL})
#: One that could not be proven is tried again no sooner than this.
_AGAIN: Final = timedelta(hours=6)
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


def next_to_prove(backups: Iterable[Backup], now: datetime, days: float, in_use: Collection[BackupId] = ()) -> Backup | None:
    """None when no copy is due. `days` of 0: nothing is proven again, and what was never proven still is."""

    def is_due(backup: Backup) -> bool:
        if backup.state is not BackupState.DONE or backup.kind not in PROVABLE or backup.id in in_use:
            return False
        match backup.proof:
            case Proof.NONE:
                return True
            case Proof.RUNNING | Proof.DIFFERENT:
                # What differs will differ again: a person has to look.
                return False
            case Proof.FAILED:
                return backup.proved_at is None or now - backup.proved_at > _AGAIN
            case Proof.EQUAL:
                return days > 0 and (backup.proved_at is None or now - backup.proved_at > timedelta(days=days))

    return min((b for b in backups if is_due(b)), key=lambda b: (b.proved_at or _NEVER, b.id), default=None)
