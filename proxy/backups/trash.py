"""The trash: planning soft drops, knowing what became of them, taking them back, and dropping what has been there for long enough.

A plan makes the schema that the tables will go to, since the session's role may make none, and notes in the store how they come back, before
the statement is sent. Whether they went is not what anybody says afterwards but what the catalog has: the session's transaction
may be rolled back later. So an item is `planned` until its tables are seen in the trash (`settle`), and only then `kept`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Final

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow

from proxy.backups.errands import Errand, ErrandError, Errands, Work
from proxy.backups.model import Backup, BackupState, CopiedTable, CopyKind, CopyOrder, CopyPlan, Substitute
from proxy.backups.softdrop import PREFIX, Key, Move, NotSoftError, is_drop_table, plan_move, qualified, quoted, substitute_sql
from proxy.backups.undoing import Conflict, Conflicts, Report
from proxy.config import Settings
from proxy.control import Control, ControlError
from proxy.model import ErrandKind, Hold, HoldId, HoldState, Operator
from proxy.seams import AuditError, Clock, HoldBook, StoreError
from proxy.store import Store
from proxy.store.backups import SqlBackups
from proxy.store.trash import Item, SqlTrash, TrashState

#: What is planned is looked at again this often, and purges are proposed.
_SWEEP_S: Final = 600.0
#: A schema that nothing came to is dropped after that: an open transaction may take its time.
_VOID_AFTER: Final = timedelta(hours=1)
_PURGE_EXPIRES_S: Final = 86_400.0
_ENDED: Final = (HoldState.DONE, HoldState.FAILED, HoldState.DENIED, HoldState.WITHDRAWN, HoldState.ABANDONED, HoldState.EXPIRED)


class Trash:
    """All that is done with it."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        backups: SqlBackups,
        book: HoldBook,
        control: Control,
        errands: Errands,
        clock: Clock,
        log: Callable[..., object],
    ) -> None:
        self.items = SqlTrash(store)
        self._settings = settings
        self._backups = backups
        self._book = book
        self._control = control
        self._errands = errands
        self._clock = clock
        self._log = log

    # --- going --------------------------------------------------------------------------------------------------

    async def plan(self, order: CopyOrder) -> CopyPlan | None:
        """The substitute of this statement; None when it cannot be one, and the usual copy is to be taken. Raises StoreError."""
        if not self._settings.soft_drop or is_drop_table(order.script) is None:
            return None
        database = order.requester.database
        try:
            async with self._connection(database) as connection:
                move = await plan_move(connection, order, await _free_schema(connection, f"{PREFIX}{order.hold_id}"))
                await self._make_schema(connection, move, order.hold_id)
        except (NotSoftError, ControlError) as error:
            self._log("no soft drop", hold=int(order.hold_id), why=str(error))
            return None
        now = self._clock.now()
        item = Item(
            (await self._backups.begin(CopyKind.TRASH, database, order.hold_id)).id,
            order.hold_id,
            database,
            TrashState.PLANNED,
            move,
            now + timedelta(days=self._settings.soft_drop_days),
        )
        await self.items.add(item)
        until = f"{item.purge_at:%Y-%m-%d %H:%M} UTC"
        what = " and ".join(f"{t.schema}.{t.name}" for t in move.tables[:3]) + (f" and {n} more" if (n := len(move.tables) - 3) > 0 else "")
        notes = "".join(f"; {note}" for note in move.notes[:5])
        return CopyPlan(
            CopyKind.TRASH,
            f"copy {item.backup_id}: moved to schema {move.trash} instead of dropped, until {until}{notes}",
            substitute=Substitute(
                substitute_sql(move),
                "DROP TABLE",
                f"{what} moved to schema {move.trash}, and kept there until {until}; to take it back: pghold undo {order.hold_id}",
            ),
            detail=item,
        )

    async def _make_schema(self, connection: AsyncConnection[TupleRow], move: Move, hold_id: HoldId) -> None:
        """Raises psycopg.Error, also when there is such a schema: it is somebody else's."""
        trash = sql.Identifier(move.trash)
        async with connection.transaction():
            await connection.execute(sql.SQL("CREATE SCHEMA {}").format(trash))
            tables = ", ".join(qualified(t.schema, t.name) for t in move.tables)
            note = f"pghold: dropped by hold {hold_id}: {tables}. To take it back: pghold undo {hold_id}"
            await connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(trash, sql.Literal(note)))
            for role in move.owners:
                await connection.execute(sql.SQL("GRANT USAGE, CREATE ON SCHEMA {} TO {}").format(trash, sql.Identifier(role)))

    # --- what became of it --------------------------------------------------------------------------------------

    async def settle(self, item: Item) -> Item:
        """Look where its tables are; the item as it is now. Raises ControlError, StoreError."""
        if item.state is not TrashState.PLANNED:
            return item
        hold = await self._book.get(item.hold_id)
        if hold.state not in _ENDED:
            return item
        async with self._connection(item.database) as connection:
            there = await _in_trash(connection, item.move)
            if there:
                await self._close_schema(connection, item.move)
                return await self._kept(item, there)
            # Not there, or not yet for others: a transaction that is open still.
            ran = hold.state in (HoldState.DONE, HoldState.ABANDONED)
            if ran and self._clock.now() - (hold.ended_at or hold.created_at) < _VOID_AFTER:
                return item
            await connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {}").format(sql.Identifier(item.move.trash)))
        return await self._to(item, TrashState.VOID, BackupState.FAILED, "nothing was moved: the statement failed or was rolled back")

    async def _close_schema(self, connection: AsyncConnection[TupleRow], move: Move) -> None:
        """Nobody but its owner may look into it, or put anything there."""
        for role in move.owners:
            await connection.execute(sql.SQL("REVOKE ALL ON SCHEMA {} FROM {}").format(sql.Identifier(move.trash), sql.Identifier(role)))

    async def _kept(self, item: Item, there: set[int]) -> Item:
        if not await self.items.put(item, TrashState.KEPT):
            return item
        backup = await self._backups.get(item.backup_id)
        move = item.move
        tables = tuple(CopiedTable(qualified(t.schema, t.name), max(0, move.rows) if len(move.tables) == 1 else 0) for t in move.tables)
        await self._put(
            replace(
                backup,
                state=BackupState.DONE,
                finished_at=self._clock.now(),
                tables=tables,
                bytes=move.bytes,
                error="",
                proof_text=f"the table itself, in schema {move.trash}",
            )
        )
        return replace(item, state=TrashState.KEPT)

    async def _to(self, item: Item, state: TrashState, backup_state: BackupState, error: str = "") -> Item:
        if await self.items.put(item, state):
            backup = await self._backups.get(item.backup_id)
            await self._put(replace(backup, state=backup_state, error=error, finished_at=backup.finished_at or self._clock.now()))
        return replace(item, state=state)

    async def _put(self, backup: Backup) -> None:
        await self._backups.put(backup)

    async def follow(self) -> None:
        """For as long as the process runs: settle what was planned, and propose to purge what is due."""
        changes = self._book.changes()
        coming = asyncio.ensure_future(anext(changes))
        try:
            await self._sweep()
            while True:
                done, _ = await asyncio.wait({coming}, timeout=_SWEEP_S)
                if not done:
                    await self._sweep()
                    continue
                hold = coming.result()
                coming = asyncio.ensure_future(anext(changes))
                if hold.state in _ENDED:
                    await self._settle_of(hold.id)
        finally:
            coming.cancel()

    async def _settle_of(self, hold_id: HoldId) -> None:
        try:
            await self._settle_all(await self.items.find(hold_id=hold_id, states=[TrashState.PLANNED]))
        except StoreError as error:
            self._log("trash not looked at", error=str(error))

    async def _sweep(self) -> None:
        try:
            await self._settle_all(await self.items.find(states=[TrashState.PLANNED]))
            await self.propose_purge()
        except (StoreError, AuditError, ErrandError) as error:
            self._log("trash not looked at", error=str(error))

    async def _settle_all(self, items: Iterable[Item]) -> None:
        for item in items:
            try:
                await self.settle(item)
            except (ControlError, StoreError) as error:
                self._log("trash not settled", hold=int(item.hold_id), error=str(error))

    async def listed(self) -> list[Item]:
        """What is in the trash, newest first. Raises StoreError."""
        return await self.items.find(states=[TrashState.KEPT, TrashState.PLANNED])

    # --- coming back --------------------------------------------------------------------------------------------

    async def report(self, item: Item) -> Report:
        """What taking it back would do, and what is in the way. Raises ControlError, StoreError, ErrandError."""
        item = await self.settle(item)
        async with self._connection(item.database) as connection:
            return await self._report(connection, item)

    async def _report(self, connection: AsyncConnection[TupleRow], item: Item) -> Report:
        move = item.move
        if item.state is not TrashState.KEPT:
            raise ErrandError(_WHY_NOT[item.state])
        there = await _in_trash(connection, move)
        conflicts: list[Conflict] = []
        if missing := [t for t in move.things if t.oid not in there]:
            names = ", ".join(qualified(t.schema, t.name) for t in missing)
            conflicts.append(Conflict("gone", 0, f"{names} is not in schema {move.trash} any more", may_skip=False))
        for schema in sorted({t.schema for t in move.things}):
            if not await _one(connection, "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s)", schema):
                conflicts.append(Conflict("schema", 0, f"schema {quoted(schema)} is not there any more", may_skip=False))
        taken = await (await connection.execute(_TAKEN, {"trash": move.trash})).fetchall()
        wanted = {t.oid: t.schema for t in move.things}
        conflicts += [
            Conflict("name", 0, f"there is a {kind} {qualified(schema, name)} again: rename it first", may_skip=False)
            for kind, schema, name, of in taken
            if wanted.get(int(of)) == schema
        ]
        for key in move.keys:
            if problem := await _key_problem(connection, key):
                conflicts.append(Conflict("key", 0, f"foreign key {key.name} of {qualified(key.schema, key.table)}: {problem}"))
        return Report(
            hold_id=item.hold_id,
            backup_id=item.backup_id,
            kind=str(CopyKind.TRASH),
            database=item.database,
            relations=tuple(qualified(t.schema, t.name) for t in move.tables),
            rows=max(0, move.rows),
            conflicts=tuple(conflicts),
            script=back_sql(move, skip_keys=frozenset()),
            does=f"moves {len(move.tables)} {'table' if len(move.tables) == 1 else 'tables'} back from {move.trash}",
            notes=("foreign keys are checked against the rows that are there when they are made again",) if move.keys else (),
        )

    def errand(self, item: Item, report: Report, conflicts: Conflicts) -> Errand:
        """Raises ErrandError when what is in the way does not go with `conflicts`."""
        report.check(conflicts)

        async def run(work: Work) -> str:
            return await self._take_back(work, item, conflicts)

        return Errand(
            ErrandKind.UNDO,
            item.database,
            report.script,
            f"{report.does}, as hold {item.hold_id} found them",
            run,
            relations=report.relations,
            of=item.hold_id,
            severity="medium",
            consequences=report.consequences(conflicts),
        )

    async def _take_back(self, work: Work, item: Item, conflicts: Conflicts) -> str:
        move = item.move
        async with self._connection(item.database, statement_timeout_s=600) as connection, connection.transaction():
            report = await self._report(connection, item)
            report.check(conflicts)
            skipped: list[str] = []
            await connection.execute(back_sql(move, skip_keys=frozenset(k.oid for k in move.keys)).encode())
            for key in move.keys:
                work.progress(f"foreign key {key.name}")
                problem = await _key_problem(connection, key)
                try:
                    if problem:
                        raise ErrandError(problem)
                    async with connection.transaction():
                        await connection.execute(key_sql(key).encode())
                except (psycopg.errors.IntegrityError, ErrandError) as error:
                    if conflicts is not Conflicts.SKIP:
                        raise ErrandError(
                            f"foreign key {key.name} of {qualified(key.schema, key.table)} cannot be made again: {error}"
                        ) from None
                    skipped.append(key.name)
            work.commits()
        await self._to(item, TrashState.BACK, BackupState.REMOVED)
        told = f"{len(move.tables)} tables moved back" if len(move.tables) > 1 else "1 table moved back"
        return told + (f"; without the foreign keys {', '.join(skipped)}" if skipped else "")

    # --- going for good -----------------------------------------------------------------------------------------

    async def propose_purge(self) -> list[Hold]:
        """A held errand for each database where something is due, unless one waits already. Raises StoreError, AuditError."""
        now = self._clock.now()
        due = [i for i in await self.items.find(states=[TrashState.KEPT]) if i.purge_at <= now]
        recent = {
            h.request.requester.database
            for h in await self._book.list(pending_only=False)
            if h.request.rule_ids == (str(ErrandKind.PURGE),) and (h.state not in _ENDED or now - h.created_at < timedelta(days=1))
        }
        holds = []
        for database in sorted({i.database for i in due} - recent):
            holds.append(await self._errands.submit(self.purge([i for i in due if i.database == database]), None))
        return holds

    async def submit_purge(self, backup_ids: Iterable[int], operator: Operator, *, reason: str = "", client_addr: str = "") -> Hold:
        """Open the hold of a purge of these.

        Raises ErrandError (ErrandRefusedError), ControlError, StoreError, AuditError.
        """
        wanted = sorted(set(backup_ids))
        items = await self.items.find(backup_ids=wanted)
        if missing := set(wanted) - {int(i.backup_id) for i in items}:
            raise ErrandError(f"{min(missing)} is not in the trash")
        return await self._errands.submit(
            self.purge([await self.settle(i) for i in items]), operator, reason=reason, client_addr=client_addr
        )

    def purge(self, items: list[Item]) -> Errand:
        """Drop these for good; all of one database. They are copied first, like whatever is dropped. Raises ErrandError."""
        if not items or len({i.database for i in items}) != 1 or any(i.state is not TrashState.KEPT for i in items):
            raise ErrandError("only what is in the trash of one database can be purged together")
        drops = [_drop_sql(i.move) for i in items]
        script = "\n".join(line for first, last in drops for line in (first, last))
        protected = "\n".join(first for first, _ in drops)

        async def run(work: Work) -> str:
            async with self._connection(items[0].database, statement_timeout_s=600) as connection:
                for item in items:
                    gone = [t for t in item.move.things if t.oid not in await _in_trash(connection, item.move)]
                    if gone:
                        raise ErrandError(f"{qualified(gone[0].schema, gone[0].name)} is not in schema {item.move.trash} any more")
            await work.protect(protected)
            async with self._connection(items[0].database, statement_timeout_s=600) as connection, connection.transaction():
                await connection.execute(script.encode())
                work.commits()
            for item in items:
                await self._to(item, TrashState.PURGED, BackupState.REMOVED)
            return f"{sum(len(i.move.tables) for i in items)} tables dropped for good"

        names = tuple(qualified(i.move.trash, t.name) for i in items for t in i.move.tables)
        return Errand(
            ErrandKind.PURGE,
            items[0].database,
            script,
            f"drops {len(names)} {'table' if len(names) == 1 else 'tables'} for good that {'was' if len(names) == 1 else 'were'} soft-dropped",
            run,
            relations=names,
            irreversible=True,
            destroys=True,
            expires_in_s=_PURGE_EXPIRES_S,
            hint="What is denied is proposed again a day later.",
        )

    @asynccontextmanager
    async def _connection(self, database: str, statement_timeout_s: float = 60.0) -> AsyncIterator[AsyncConnection[TupleRow]]:
        async with self._control.connection(database, statement_timeout_s=statement_timeout_s, read_only=False) as connection:
            yield connection


_WHY_NOT: Final = {
    TrashState.PLANNED: "it is not in the trash: its transaction is still open, or nothing was moved",
    TrashState.BACK: "it was taken back already",
    TrashState.PURGED: "it was dropped for good",
    TrashState.VOID: "nothing was moved: the statement failed, or its transaction was rolled back",
}

_TAKEN: Final = """SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence' WHEN 'i' THEN 'index' ELSE 'relation' END, n.nspname, c.relname,
    COALESCE(
        (SELECT i.indrelid FROM pg_catalog.pg_index i WHERE i.indexrelid = m.oid),
        (SELECT d.refobjid FROM pg_catalog.pg_depend d WHERE m.relkind = 'S' AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
            AND d.objid = m.oid AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i') LIMIT 1),
        m.oid)
    FROM pg_catalog.pg_class m JOIN pg_catalog.pg_namespace t ON t.oid = m.relnamespace AND t.nspname = %(trash)s
    JOIN pg_catalog.pg_class c ON c.relname = m.relname AND c.oid <> m.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"""


async def _free_schema(connection: AsyncConnection[TupleRow], name: str) -> str:
    """This name, or with a number behind it: another pghold may use the same server, or did."""
    cursor = await connection.execute(
        "SELECT nspname FROM pg_catalog.pg_namespace WHERE pg_catalog.starts_with(nspname::pg_catalog.text, %s)", (name,)
    )
    taken = {str(row[0]) for row in await cursor.fetchall()}
    return next(n for n in (name, *(f"{name}_{i}" for i in range(2, len(taken) + 3))) if n not in taken)


async def _in_trash(connection: AsyncConnection[TupleRow], move: Move) -> set[int]:
    """The oids of what is there now; empty unless all its tables are."""
    cursor = await connection.execute(
        "SELECT c.oid::int8 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %(trash)s AND c.oid = ANY (%(oids)s::pg_catalog.oid[])"
        " UNION ALL SELECT s.oid::int8 FROM pg_catalog.pg_statistic_ext s JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace"
        " WHERE n.nspname = %(trash)s AND s.oid = ANY (%(oids)s::pg_catalog.oid[])",
        {"trash": move.trash, "oids": [t.oid for t in move.things]},
    )
    found = {int(row[0]) for row in await cursor.fetchall()}
    return found if all(t.oid in found for t in move.tables) else set()


async def _one(connection: AsyncConnection[TupleRow], query: str, *values: object) -> object:
    row = await (await connection.execute(query.encode(), values)).fetchone()
    return None if row is None else row[0]


async def _key_problem(connection: AsyncConnection[TupleRow], key: Key) -> str:
    """Why it cannot be made again, as far as that can be told without looking at rows."""
    if not key.moves:
        there = await _one(
            connection,
            "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p')",
            key.schema,
            key.table,
        )
        if there is None:
            return "that table is not there any more"
        if await _one(
            connection, "SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conrelid = %s AND conname = %s)", there, key.name
        ):
            return "there is a constraint of that name again"
    return ""


def back_sql(move: Move, *, skip_keys: frozenset[int]) -> str:
    """What brings it back, one statement a line."""
    trash = qualified("", move.trash)[3:]
    lines = []
    for kind in ("TABLE", "VIEW", "MATERIALIZED VIEW", "STATISTICS"):
        lines += [f"ALTER {kind} {qualified(move.trash, t.name)} SET SCHEMA {quoted(t.schema)};" for t in move.things if t.kind == kind]
    lines.append(f"DROP SCHEMA {trash};")
    lines += [key_sql(key) for key in move.keys if key.oid not in skip_keys]
    return "\n".join(lines)


def key_sql(key: Key) -> str:
    """What makes a foreign key again."""
    name = qualified("", key.name)[3:]
    made = f"ALTER TABLE {qualified(key.schema, key.table)} ADD CONSTRAINT {name} {key.definition};"
    if key.comment is not None:
        comment = sql.Literal(key.comment).as_string()
        made += f"\nCOMMENT ON CONSTRAINT {name} ON {qualified(key.schema, key.table)} IS {comment};"
    return made


def _drop_sql(move: Move) -> tuple[str, str]:
    """DROP of what is in the trash, and of its schema; neither takes anything along that came there otherwise."""
    drops = []
    for kind in ("VIEW", "MATERIALIZED VIEW", "TABLE"):
        if names := [qualified(move.trash, t.name) for t in move.things if t.kind == kind]:
            drops.append(f"DROP {kind} {', '.join(names)};")
    return "\n".join(drops), f"DROP SCHEMA {quoted(move.trash)};"
