"""Restores as an operator asks for them: each opens a hold of pghold's own (errands.py) that says what will be done, and is carried out once it is approved."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from proxy.backups.archive import Archive, ArchiveError
from proxy.backups.beside import chosen, into_database, into_schema
from proxy.backups.errands import Errand, ErrandError, Errands, Work
from proxy.backups.model import Backup, BackupId, BackupState, CopyKind
from proxy.backups.recover import RecoverError
from proxy.backups.restore import InPlace, RestoreError, RestorePlan
from proxy.backups.scratch import Scratch, ScratchError
from proxy.backups.vault import Opened, Vault
from proxy.backups.verify import Manifest
from proxy.config import Settings
from proxy.control import Control
from proxy.model import ErrandKind, Hold, HoldId, Operator
from proxy.store.backups import SqlBackups

T = TypeVar("T")

#: Of a script for people.
_TABLES_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Wish:
    """How a copy is to come back.

    Attributes:
        into: the database that it is restored into; made when it is missing.
        schema: the schema of its own database, which is not there yet. Neither: in place.
        tables: only these, as the copy names them; empty: all.
    """

    into: str = ""
    schema: str = ""
    tables: tuple[str, ...] = ()


class Restores:
    """Turns wishes into errands. What goes wrong is an ErrandError for people."""

    def __init__(self, settings: Settings, backups: SqlBackups, vault: Vault, scratch: Scratch, control: Control, errands: Errands) -> None:
        self._settings = settings
        self._backups = backups
        self._vault = vault
        self._scratch = scratch
        self._control = control
        self._errands = errands

    async def submit(self, backup_id: int, wish: Wish, operator: Operator, *, reason: str = "", client_addr: str = "") -> Hold:
        """Open the hold. Raises UnknownBackupError, ErrandError (ErrandRefusedError), ProtectError, ControlError, StoreError, AuditError."""
        backup = await self._backups.get(BackupId(backup_id))
        return await self._errands.submit(await self.errand(backup, wish), operator, reason=reason, client_addr=client_addr)

    async def of_hold(self, hold_id: int) -> Backup:
        """The newest copy of a hold's that is there. Raises ErrandError, StoreError."""
        found = await self._backups.find(hold_id=HoldId(hold_id), states=[BackupState.DONE], kinds=[CopyKind.DUMP, CopyKind.ROWS])
        if not found:
            raise ErrandError(f"there is no copy of what hold {hold_id} destroyed")
        return found[0]

    async def in_place(self, backup: Backup, hold: Hold) -> Errand:
        """For Undo."""
        return await self.errand(backup, Wish())

    async def errand(self, backup: Backup, wish: Wish) -> Errand:
        """Raises ErrandError, ProtectError, ControlError."""
        if backup.state is not BackupState.DONE or backup.kind is CopyKind.TRASH:
            raise ErrandError(f"copy {backup.id} has no files to restore from")
        if wish.into and wish.schema:
            raise ErrandError("either into another database, or into a schema")
        if not wish.into and not wish.schema:
            return await self._in_place(backup, wish)
        return self._beside(backup, wish)

    def _beside(self, backup: Backup, wish: Wish) -> Errand:
        async def run(work: Work) -> str:
            try:
                async with self._vault.open(backup) as opened:
                    if wish.into:
                        return await into_database(
                            self._control, opened, wish.into, wish.tables, tools=self._settings.pg_bin, progress=work.progress
                        )
                    return await into_schema(
                        self._control, self._scratch, opened, wish.schema, wish.tables, tools=self._settings.pg_bin, progress=work.progress
                    )
            except (RestoreError, RecoverError, ArchiveError, ScratchError) as error:
                raise ErrandError(str(error)) from None

        target = f"database {wish.into}" if wish.into else f"schema {wish.schema} of database {backup.database}"
        names = wish.tables or tuple(t.name for t in backup.tables)
        lines = [f"-- restore copy {backup.id} into {' '.join(target.split())}; what is there stays as it is"]
        lines += [f"-- {' '.join(name.split())}" for name in names[:_TABLES_SHOWN]]
        return Errand(
            ErrandKind.RESTORE,
            wish.into or backup.database,
            "\n".join(lines),
            f"restores copy {backup.id} into {target}",
            run,
            of=backup.hold_id,
            severity="low",
        )

    async def _in_place(self, backup: Backup, wish: Wish) -> Errand:
        if backup.kind is CopyKind.ROWS:
            raise ErrandError(f"copy {backup.id} has rows: pghold undo puts them back, and --into and --schema put them beside")
        if backup.kind is CopyKind.FULL and not wish.tables:
            raise ErrandError(
                "of a whole database, say which tables: --tables; or put it beside: --into; or, when it is gone: pghold recover"
            )
        plan = await self._with(backup, wish, lambda work: work.plan())
        if plan.conflicts:
            raise ErrandError(f"conflict: {'; '.join(plan.conflicts)}")
        if plan.does_nothing:
            raise ErrandError(f"nothing to do: all tables are as copy {backup.id} has them")

        async def run(work: Work) -> str:
            async def protect(script: str) -> object:
                # What is dropped is copied first, like what a client drops; with nothing dropped nothing can be lost.
                return await (work.protect(script) if script else work.release())

            return await self._with(backup, wish, lambda place: place.run(protect, work.progress))

        changed = tuple(t.name for t in plan.tables if t.fate != "as in the copy")
        return Errand(
            ErrandKind.RESTORE,
            backup.database,
            plan.script(),
            f"restores {_counted(plan)} in place, from copy {backup.id}",
            run,
            relations=changed,
            of=backup.hold_id,
            severity="high" if plan.replaced else "medium",
            destroys=True,
        )

    async def _with(self, backup: Backup, wish: Wish, do: Callable[[InPlace], Awaitable[T]]) -> T:
        try:
            async with self._vault.open(backup) as opened:
                return await do(self._place(opened, wish))
        except (RestoreError, ArchiveError) as error:
            raise ErrandError(str(error)) from None

    def _place(self, opened: Opened, wish: Wish) -> InPlace:
        manifest = Manifest.read(opened.manifest)
        tables = chosen(manifest, wish.tables)
        # Without rows, the definitions are what was copied: whatever is gone comes back.
        everything = not wish.tables and not tables
        return InPlace(self._control, manifest.database, Archive(opened.archive, self._settings.pg_bin), tables, everything=everything)


def _counted(plan: RestorePlan) -> str:
    count = sum(t.fate != "as in the copy" for t in plan.tables)
    return f"{count:,} table{'' if count == 1 else 's'}"
