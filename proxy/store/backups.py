"""The register of copies: each one that was begun, and what became of it. How far a running one is stays in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import datetime

from pydantic import TypeAdapter
from sqlalchemy import Row, desc, insert, select, update

from proxy.backups.model import Backup, BackupId, BackupState, CopiedTable, CopyKind, Proof
from proxy.model import HoldId
from proxy.seams import Clock
from proxy.store import Store
from proxy.store.schema import backups

_TABLES = TypeAdapter(tuple[CopiedTable, ...])
_FEW = 20


class UnknownBackupError(LookupError):
    """No copy of that id."""


class SqlBackups:
    """Copies over the store; every method raises StoreError."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._progress: dict[BackupId, str] = {}

    async def begin(self, kind: CopyKind, database: str, hold_id: HoldId | None = None) -> Backup:
        """A new one, running."""
        now = self._clock.now()
        values = {
            "kind": str(kind),
            "state": str(BackupState.RUNNING),
            "database": database,
            "created_at": now.isoformat(),
            "hold_id": hold_id,
        }
        async with self._store.transaction() as connection:
            result = await connection.execute(insert(backups).values(**values))
            key = result.inserted_primary_key
            assert key is not None
        return Backup(BackupId(key[0]), kind, BackupState.RUNNING, database, "", now, hold_id)

    async def put(self, backup: Backup) -> None:
        """Keep what became of it: all but its id, kind, database, time and hold."""
        values = {
            "state": str(backup.state),
            "folder": backup.folder,
            "finished_at": None if backup.finished_at is None else backup.finished_at.isoformat(),
            "tables": json.dumps([asdict(t) for t in backup.tables]),
            "bytes": backup.bytes,
            "error": backup.error,
            "proof": str(backup.proof),
            "proof_text": backup.proof_text,
            "proved_at": None if backup.proved_at is None else backup.proved_at.isoformat(),
            "manifest_sha256": backup.manifest_sha256,
            "targets": json.dumps(backup.targets),
        }
        async with self._store.transaction() as connection:
            await connection.execute(update(backups).where(backups.c.id == backup.id).values(**values))
        if backup.state is not BackupState.RUNNING:
            self._progress.pop(backup.id, None)

    def progress(self, backup_id: BackupId, text: str) -> None:
        """How far a running one is, for people."""
        self._progress[backup_id] = text

    async def get(self, backup_id: BackupId) -> Backup:
        """Raises UnknownBackupError."""
        if 0 < backup_id < 2**63:
            async with self._store.transaction() as connection:
                row = (await connection.execute(select(backups).where(backups.c.id == backup_id))).one_or_none()
            if row is not None:
                return self._of(row)
        raise UnknownBackupError(backup_id)

    async def find(
        self,
        *,
        database: str | None = None,
        hold_id: HoldId | None = None,
        states: Iterable[BackupState] = (),
        kinds: Iterable[CopyKind] = (),
        limit: int = 1000,
        before: BackupId | None = None,
        with_tables: bool = True,
    ) -> list[Backup]:
        """Newest first; what is not given is not asked for. Without their tables, which can be many, it is cheap."""
        columns = backups.c if with_tables else [c for c in backups.c if c is not backups.c.tables]
        wanted = select(*columns).order_by(desc(backups.c.id)).limit(limit)
        if database is not None:
            wanted = wanted.where(backups.c.database == database)
        if hold_id is not None:
            wanted = wanted.where(backups.c.hold_id == hold_id)
        if named := [str(s) for s in states]:
            wanted = wanted.where(backups.c.state.in_(named))
        if named := [str(k) for k in kinds]:
            wanted = wanted.where(backups.c.kind.in_(named))
        if before is not None:
            wanted = wanted.where(backups.c.id < before)
        async with self._store.transaction() as connection:
            rows = (await connection.execute(wanted)).all()
        if len(rows) < _FEW:
            return [self._of(row) for row in rows]
        # Tables are parsed, and sessions would wait for it.
        return await asyncio.to_thread(lambda: [self._of(row) for row in rows])

    async def recover(self) -> list[Backup]:
        """At start: what a process that died left running has failed; return those, whose folders may hold half a copy."""
        # What is in the trash was moved by a transaction of the session's own: trash.py looks what became of it.
        left = await self.find(states=[BackupState.RUNNING], kinds=[k for k in CopyKind if k is not CopyKind.TRASH])
        ended = [replace(b, state=BackupState.FAILED, error="the proxy stopped while it ran", finished_at=self._clock.now()) for b in left]
        for backup in ended:
            await self.put(backup)
        return ended

    def _of(self, row: Row[tuple[str, ...]]) -> Backup:
        values = row._mapping
        backup_id = BackupId(values["id"])
        return Backup(
            id=backup_id,
            kind=CopyKind(values["kind"]),
            state=BackupState(values["state"]),
            database=values["database"],
            folder=values["folder"],
            created_at=datetime.fromisoformat(values["created_at"]),
            hold_id=None if values["hold_id"] is None else HoldId(values["hold_id"]),
            finished_at=datetime.fromisoformat(values["finished_at"]) if values["finished_at"] else None,
            tables=_TABLES.validate_json(values["tables"]) if "tables" in values else (),
            bytes=values["bytes"],
            progress=self._progress.get(backup_id, ""),
            error=values["error"],
            proof=Proof(values["proof"]),
            proof_text=values["proof_text"],
            proved_at=datetime.fromisoformat(values["proved_at"]) if values["proved_at"] else None,
            manifest_sha256=values["manifest_sha256"],
            targets=tuple(json.loads(values["targets"])),
        )
