"""Taking back what a held statement did: which copy there is of it, what is in the way, and the errand that does it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from proxy.backups.errands import Errand, ErrandError, Errands, Work
from proxy.backups.model import Backup, BackupState, CopyKind, CopyPlan
from proxy.backups.planner import Scope
from proxy.backups.reach import with_children
from proxy.backups.rowsback import Image, Mode, RowsBack, mode_of
from proxy.backups.trash import Trash
from proxy.backups.undoing import Conflicts, Report
from proxy.control import Control
from proxy.model import ErrandKind, Hold, HoldId, Operator
from proxy.seams import HoldBook
from proxy.store.backups import SqlBackups

#: Of one statement of an undo.
_TIMEOUT_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class KeptRows:
    """A copy of rows, open for reading.

    Attributes:
        relation, columns, rows: as in rowsback.Image.
    """

    relation: str
    columns: tuple[str, ...] | None
    rows: int | None
    read: Callable[[], Iterator[bytes]]


#: Opens the copy of rows that this register's line is about. Raises ProtectError.
OpenRows = Callable[[Backup], AbstractAsyncContextManager["KeptRows"]]
#: The errand that puts an archive back in place. Raises ErrandError.
RestoreInPlace = Callable[[Backup, Hold], Awaitable[Errand]]


class Undo:
    """Reports and errands, by hold.

    Attributes:
        open_rows, restore_in_place: set once when the process is wired; without them, such copies cannot be taken back.
    """

    def __init__(self, book: HoldBook, backups: SqlBackups, control: Control, errands: Errands, trash: Trash) -> None:
        self.open_rows: OpenRows | None = None
        self.restore_in_place: RestoreInPlace | None = None
        self._book = book
        self._backups = backups
        self._control = control
        self._errands = errands
        self._trash = trash

    async def can(self, hold: Hold) -> bool:
        """Whether there is a copy of what it destroyed. Raises StoreError."""
        return bool(await self._copies(hold.id))

    async def report(self, hold_id: HoldId, conflicts: Conflicts = Conflicts.ABORT) -> Report:
        """What taking it back would do; nothing is done. Raises UnknownHoldError, ErrandError, ControlError, ProtectError, StoreError."""
        return (await self._prepare(hold_id, conflicts))[0]

    async def submit(
        self, hold_id: HoldId, operator: Operator, *, conflicts: Conflicts = Conflicts.ABORT, reason: str = "", client_addr: str = ""
    ) -> Hold:
        """Open the hold of its undo.

        Raises UnknownHoldError, ErrandError (ConflictError, ErrandRefusedError), ControlError, ProtectError, StoreError, AuditError.
        """
        report, make = await self._prepare(hold_id, conflicts)
        report.check(conflicts)
        return await self._errands.submit(await make(), operator, reason=reason, client_addr=client_addr)

    async def _copies(self, hold_id: HoldId) -> list[Backup]:
        found = await self._backups.find(hold_id=hold_id, kinds=[CopyKind.TRASH, CopyKind.ROWS, CopyKind.DUMP])
        # What is still running, of the trash, is one whose tables nobody has looked for yet.
        return [b for b in found if b.state is BackupState.DONE or (b.kind is CopyKind.TRASH and b.state is BackupState.RUNNING)]

    async def _prepare(self, hold_id: HoldId, conflicts: Conflicts) -> tuple[Report, Callable[[], Awaitable[Errand]]]:
        hold = await self._book.get(hold_id)
        copies = await self._copies(hold_id)
        if not copies:
            raise ErrandError(f"there is no copy of what hold {hold_id} destroyed")
        backup = copies[0]
        if backup.kind is CopyKind.TRASH:
            return await self._of_trash(backup, conflicts)
        if backup.kind is CopyKind.ROWS:
            return await self._of_rows(backup, hold, conflicts)
        return await self._of_dump(backup, hold)

    async def _of_trash(self, backup: Backup, conflicts: Conflicts) -> tuple[Report, Callable[[], Awaitable[Errand]]]:
        items = await self._trash.items.find(backup_ids=[backup.id])
        if not items:
            raise ErrandError(f"copy {backup.id} is not in the register of the trash")
        item = await self._trash.settle(items[0])
        report = await self._trash.report(item)

        async def make() -> Errand:
            return self._trash.errand(item, report, conflicts)

        return report, make

    async def _of_dump(self, backup: Backup, hold: Hold) -> tuple[Report, Callable[[], Awaitable[Errand]]]:
        if self.restore_in_place is None:
            raise ErrandError(f"the copy is an archive: pghold restore {hold.id} puts it back, in place or elsewhere")
        errand = await self.restore_in_place(backup, hold)
        report = Report(hold.id, backup.id, str(backup.kind), backup.database, errand.relations, backup.rows, errand.message, errand.script)

        async def make() -> Errand:
            return errand

        return report, make

    # --- rows ---------------------------------------------------------------------------------------------------

    async def _of_rows(self, backup: Backup, hold: Hold, conflicts: Conflicts) -> tuple[Report, Callable[[], Awaitable[Errand]]]:
        report = await self._report_rows(backup, hold, conflicts)

        async def make() -> Errand:
            async def run(work: Work) -> str:
                return await self._put_back(work, backup, hold, report, conflicts)

            return Errand(
                ErrandKind.UNDO,
                backup.database,
                report.script,
                f"{report.does}, as copy {backup.id} of hold {hold.id} has them",
                run,
                relations=report.relations,
                of=hold.id,
                severity="medium",
                destroys=True,
                consequences=report.consequences(conflicts),
            )

        return report, make

    async def _report_rows(self, backup: Backup, hold: Hold, conflicts: Conflicts) -> Report:
        async with self._rows_back(backup, hold) as (back, connection):
            report = _report_of(back, backup, hold, conflicts)
            await connection.rollback()
        return report

    @asynccontextmanager
    async def _rows_back(self, backup: Backup, hold: Hold) -> AsyncIterator[tuple[RowsBack, AsyncConnection[TupleRow]]]:
        """The copy loaded and compared, in an open transaction, which is rolled back unless it is committed."""
        if self.open_rows is None:
            raise ErrandError("copies of rows cannot be read by this process")
        mode, changed = mode_of(hold.request.script)
        async with (
            self.open_rows(backup) as kept,
            self._control.connection(backup.database, statement_timeout_s=_TIMEOUT_S, read_only=False) as connection,
        ):
            await connection.set_autocommit(False)
            image = Image(kept.relation, kept.columns, kept.rows, mode, changed, kept.read)
            back = RowsBack(connection, image)
            await back.look()
            yield back, connection

    async def _put_back(self, work: Work, backup: Backup, hold: Hold, seen: Report, conflicts: Conflicts) -> str:
        work.progress("loading the copy")
        async with self._rows_back(backup, hold) as (back, connection):
            now = _report_of(back, backup, hold, conflicts)
            if now.conflicts != seen.conflicts:
                told = "; ".join(c.text for c in now.conflicts) or "nothing any more"
                raise ErrandError(f"what is in the way has changed since it was asked for: {told}; ask again")
            now.check(conflicts)
            left_out = await back.leave_out() if conflicts is Conflicts.SKIP else 0
            there = await back.lock()
            if there:
                work.progress(f"keeping {there:,} rows as they are now")
                plan = CopyPlan(
                    CopyKind.ROWS,
                    f"{there:,} rows as they are before they are set back",
                    image=back.present_query,
                    image_relation=back.relation,
                    counted=True,
                    detail=Scope(
                        backup.database,
                        oids=frozenset(await with_children(connection, [back.oid])),
                        columns=back.present_columns,
                        changed="UPDATE",
                    ),
                )
                await work.protect(seen.script, plan, back.present())
            else:
                await work.release()
            work.progress("putting the rows back")
            inserted, updated = await back.put_back(there, left_out)
            work.commits()
            await connection.commit()
        done = [f"{n:,} rows {what}" for n, what in ((inserted, "inserted again"), (updated, "set back"), (left_out, "left out")) if n]
        return ", ".join(done) or "no rows were in the copy"


def _report_of(back: RowsBack, backup: Backup, hold: Hold, conflicts: Conflicts) -> Report:
    verb = {Mode.GONE: "inserts", Mode.THERE: "sets back", Mode.EITHER: "puts back"}[mode_of(hold.request.script)[0]]
    return Report(
        hold_id=hold.id,
        backup_id=backup.id,
        kind=str(CopyKind.ROWS),
        database=backup.database,
        relations=(back.relation,),
        rows=back.rows,
        does=f"{verb} {back.rows:,} row{'' if back.rows == 1 else 's'} of {back.relation}",
        script=back.script(conflicts) if not any(c.kind == "columns" for c in back.conflicts) else "",
        conflicts=back.conflicts,
        notes=tuple(back.notes),
    )
