"""Copies in the psql console."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from proxy.backups.commands import back_again
from proxy.backups.keeper import words_of
from proxy.backups.model import Backup, BackupId
from proxy.console.script import one_line
from proxy.store.backups import SqlBackups

BACKUP_COLUMNS: Final = ("id", "age", "hold", "database", "kind", "state", "tables", "rows", "bytes", "proof", "what")
_LISTED: Final = 1000

Row = tuple[str | None, ...]


async def backup_rows(register: SqlBackups, now: datetime) -> list[Row]:
    """Oldest first. Raises StoreError."""
    return [_row(b, now) for b in reversed(await register.find(limit=_LISTED))]


def _row(backup: Backup, now: datetime) -> Row:
    whole = max(0, int((now - backup.created_at).total_seconds()))
    return (
        str(backup.id),
        f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}",
        None if backup.hold_id is None else str(backup.hold_id),
        one_line(backup.database, 100),
        str(backup.kind),
        str(backup.state),
        str(len(backup.tables)),
        str(backup.rows),
        str(backup.bytes),
        str(backup.proof),
        one_line(backup.error or backup.proof_text or backup.progress, 200),
    )


async def backup_fields(register: SqlBackups, backup_id: int) -> list[Row]:
    """Raises UnknownBackupError, StoreError."""
    backup = await register.get(BackupId(backup_id))
    rows: list[Row] = [
        ("id", str(backup.id)),
        ("kind", str(backup.kind)),
        ("state", str(backup.state)),
        ("database", one_line(backup.database, 200)),
        ("hold", None if backup.hold_id is None else str(backup.hold_id)),
        ("made", backup.created_at.isoformat(sep=" ", timespec="seconds")),
        ("what", words_of(backup)),
        ("proof", one_line(backup.proof_text or str(backup.proof), 1000)),
        ("proved at", None if backup.proved_at is None else backup.proved_at.isoformat(sep=" ", timespec="seconds")),
        ("folder", one_line(backup.folder, 500)),
    ]
    if backup.error:
        rows.append(("error", one_line(backup.error, 1000)))
    rows += [("also at", one_line(t.partition("?")[0], 500)) for t in backup.targets]
    rows += [(f"table {i}", one_line(f"{t.name}: {t.rows:,} rows", 500)) for i, t in enumerate(backup.tables, 1)]
    return rows + [(c.what, c.command) for c in back_again(backup)]
