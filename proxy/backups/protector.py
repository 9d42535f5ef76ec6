"""Takes the copy of what an approved statement destroys, and proves it, before the statement may run.

    wait for a turn → dump, or keep the rows that the session gives → manifest, flushed → further places → proof → the statement may run

Whatever fails on the way is a ProtectError: the statement is denied, and nothing of the copy stays. A copy of more than
`backup_prove_first_bytes` is proven afterwards, in the background.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Final, Protocol

import psycopg

from proxy.backups.copy_metrics import CopyMetrics
from proxy.backups.dump import ChangedError, Dumped, Dumper, Moment, Tools, moment
from proxy.backups.globals import GLOBALS, as_stream, read_globals
from proxy.backups.model import (
    Backup,
    BackupState,
    Copied,
    CopiedTable,
    CopyKind,
    CopyOrder,
    CopyPlan,
    Proof,
    ProtectError,
)
from proxy.backups.planner import Planner, Scope, refuse_when_used
from proxy.backups.reach import Connection, all_tables, held_exclusively, sequences_of, views_of
from proxy.backups.seams import OnProgress
from proxy.backups.vault import ARCHIVE, Draft, Json, Vault, VaultError
from proxy.config import Settings
from proxy.control import APPLICATION_NAME, Control, ControlError, first_line
from proxy.seams import Clock, StoreError
from proxy.store.backups import SqlBackups

_PROGRESS_S: Final = 2.0
#: Of a manifest; another shape gets another number.
FORMAT: Final = 1
_TRANSACTIONS_KEPT: Final = 200
_NICENESS: Final = 10
#: A snapshot in which something was gone is tried again so often.
_ATTEMPTS: Final = 5
_BLOCKED_LOOK_S: Final = 1.0


class Proving(Protocol):
    """Restores a copy elsewhere, and compares."""

    async def verify(self, backup: Backup, progress: OnProgress) -> tuple[Proof, str]:
        """Never raises but for cancellation."""
        ...


#: Another way of keeping a table than to copy it: a plan with a substitute; None where it cannot be.
PlanTrash = Callable[[CopyOrder], Awaitable[CopyPlan | None]]
#: Run something in the background.
Spawn = Callable[[Coroutine[None, None, None], str], object]


class VaultProtector:
    """See Protector in seams.py.

    Attributes:
        running: copies that are being taken now.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        control: Control,
        vault: Vault,
        backups: SqlBackups,
        clock: Clock,
        metrics: CopyMetrics,
        spawn: Spawn,
        proving: Proving | None = None,
        plan_trash: PlanTrash | None = None,
        log: Callable[..., object] = lambda *_, **__: None,
    ) -> None:
        self.running = 0
        self.vault = vault
        self._settings = settings
        self._control = control
        self._backups = backups
        self._clock = clock
        self._metrics = metrics
        self._spawn = spawn
        self._proving = proving
        self._plan_trash = plan_trash
        self._log = log
        self._turns = asyncio.Semaphore(settings.backup_parallel)
        self._planner = Planner(control, settings.backup_lock_timeout_s)
        self._tools = Tools(settings.pg_bin)
        self._dumper = Dumper(control, self._tools, settings.backup_lock_timeout_s)

    async def plan(self, order: CopyOrder) -> CopyPlan:
        """Raises ProtectError."""
        if self._plan_trash is not None and self._settings.soft_drop:
            try:
                moved = await self._plan_trash(order)
            except StoreError as error:
                raise ProtectError(str(error)) from None
            if moved is not None:
                return moved
        return await self._planner.plan(order)

    async def copy(self, order: CopyOrder, plan: CopyPlan, rows: AsyncIterator[bytes] | None, progress: OnProgress) -> Copied:
        """Raises ProtectError."""
        scope = plan.detail
        if not isinstance(scope, Scope):
            raise ProtectError("this plan has nothing to be copied")
        told = _Told(progress)
        try:
            async with asyncio.timeout(self._settings.backup_timeout_s):
                async with self._turn(told):
                    backup = await self._take(_Order(order, plan, scope), rows, told)
                copied = await self._proven(backup, sum(t.bytes for t in backup.tables) <= self._settings.backup_prove_first_bytes, told)
                await self._nothing_came(order, scope, plan, backup)
                return copied
        except TimeoutError:
            raise ProtectError(f"the copy took longer than {self._settings.backup_timeout_s:g} s (backup_timeout_s)") from None
        except StoreError as error:
            raise ProtectError(f"the copy could not be registered: {error}") from None

    async def ended(self, order: CopyOrder, copied: Copied, outcome: str, failed: bool) -> None:
        """What became of the statement, beside the manifest. Never raises but for cancellation."""
        try:
            backup = await self._backups.get(copied.backup_id)
            if backup.folder:
                told: Json = {"outcome": outcome, "failed": failed, "ended_at": self._clock.now().isoformat()}
                await self.vault.put_outcome(backup.folder, told)
        except (StoreError, VaultError, LookupError) as error:
            self._log("outcome not kept", backup=int(copied.backup_id), error=str(error))

    async def take(self, database: str, progress: OnProgress = lambda text: None) -> Backup:
        """A whole database: on schedule, or by hand. It has a lower priority than copies before statements. Raises ProtectError."""
        scope = Scope(database, everything=True, large_objects=True)
        told = _Told(progress)
        try:
            async with self._turn(told):
                return await self._take(_Order(None, CopyPlan(CopyKind.FULL, f"database {database}"), scope), None, told)
        except StoreError as error:
            raise ProtectError(f"the copy could not be registered: {error}") from None

    # --- one copy -----------------------------------------------------------------------------------------------

    def _turn(self, told: _Told) -> _Turn:
        if self._turns.locked():
            told.now(f"waits for {self._settings.backup_parallel} other copies")
        return _Turn(self._turns)

    async def _take(self, work: _Order, rows: AsyncIterator[bytes] | None, told: _Told) -> Backup:
        """The whole of it but for the proof; what fails leaves nothing but a row that says so."""
        began = time.monotonic()
        backup = await self._backups.begin(work.plan.kind, work.scope.database, None if work.order is None else work.order.hold_id)
        told.also = lambda text: self._backups.progress(backup.id, text)
        draft: Draft | None = None
        self.running += 1
        try:
            self.vault.check_space(work.scope.bytes)
            draft = self.vault.draft(backup)
            done = await self._fill(work, backup, draft, rows, told)
        except BaseException as error:
            why = "it was cancelled" if isinstance(error, asyncio.CancelledError) else _said(error)
            await _finished(self._undo(backup, draft, why))
            self._metrics.ended(str(work.plan.kind), "cancelled" if isinstance(error, asyncio.CancelledError) else "failed", 0, 0)
            if isinstance(error, ControlError | psycopg.Error | OSError):
                raise ProtectError(why) from None
            raise
        finally:
            self.running -= 1
        self._metrics.ended(str(work.plan.kind), "done", time.monotonic() - began, done.bytes)
        return done

    async def _undo(self, backup: Backup, draft: Draft | None, why: str) -> None:
        if draft is not None:
            await draft.discard()
        with suppress(StoreError):
            await self._backups.put(replace(backup, state=BackupState.FAILED, error=why, finished_at=self._clock.now()))

    async def _fill(self, work: _Order, backup: Backup, draft: Draft, rows: AsyncIterator[bytes] | None, told: _Told) -> Backup:
        scope, plan, settings = work.scope, work.plan, self._settings
        role = "" if work.order is None else work.order.requester.role
        copied_rows: int | None = None
        if plan.kind is CopyKind.ROWS:
            if rows is None:
                raise ProtectError("the session gave no rows")
            _, copied_rows = await draft.take_rows(_watched(rows, told, self.vault))
        restore_point = await self._restore_point(work, role)
        async with self._control.connection(
            scope.database, role=role, statement_timeout_s=settings.backup_timeout_s, lock_timeout_s=settings.backup_lock_timeout_s
        ) as connection:
            if scope.others:
                await self._alone(connection, scope.database, role)
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    async with moment(connection) as at:
                        dumped = await self._unless_blocked(work, role, self._dump(work, draft, at, role, told))
                    break
                except ChangedError:
                    if attempt == _ATTEMPTS:
                        raise
                    await draft.drop(ARCHIVE)
            if scope.others:
                await self._alone(connection, scope.database, role)
        if plan.kind is CopyKind.FULL and (found := await read_globals(self._control, self._tools, scope.database)):
            await draft.take(GLOBALS, as_stream(found))
        tables = dumped.tables if copied_rows is None else (CopiedTable(plan.image_relation, copied_rows),)
        finished = self._clock.now()
        manifest = _manifest(work, backup, at, dumped, tables, restore_point)
        sha256 = await draft.finish({**manifest, "finished_at": finished.isoformat()})
        told.now("taking it to further places" if self.vault.targets else "")
        targets = await self.vault.spread(draft.folder, draft.files)
        done = replace(
            backup,
            state=BackupState.DONE,
            folder=draft.folder,
            finished_at=finished,
            tables=tables,
            bytes=sum(f.bytes for f in draft.files),
            manifest_sha256=sha256,
            targets=targets,
        )
        try:
            await self._backups.put(done)
        except BaseException:
            with suppress(VaultError):
                await _finished(self.vault.remove(done))
            raise
        if scope.transaction and plan.kind is CopyKind.DUMP:
            self._remember(scope)
        return done

    def _remember(self, scope: Scope) -> None:
        copied = self._planner.copied
        copied[scope.transaction] = copied.get(scope.transaction, frozenset()) | scope.oids
        while len(copied) > _TRANSACTIONS_KEPT:
            del copied[next(iter(copied))]

    async def _alone(self, connection: Connection, database: str, role: str) -> None:
        """Nobody but pghold is connected to a database that is about to be dropped. Raises ProtectError."""
        await refuse_when_used(connection, database)

    async def _unless_blocked(self, work: _Order, role: str, dump: Coroutine[None, None, Dumped]) -> Dumped:
        """pg_dump has no limit for locks that the server takes on its own account, as for a definition: it would wait for the session, and the
        session for it."""
        running = asyncio.ensure_future(dump)
        pid = work.order.backend_pid if work.order is not None else 0
        watching = asyncio.ensure_future(self._blocked_by(pid, work.scope.database, role) if pid else asyncio.sleep(0))
        try:
            await asyncio.wait({running, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                await watching
            return await running
        finally:
            running.cancel()
            watching.cancel()
            await asyncio.gather(running, watching, return_exceptions=True)

    async def _blocked_by(self, pid: int, database: str, role: str) -> None:
        """Returns when it cannot be told. Raises ProtectError when a session of pghold's waits for that backend for longer than its lock timeout."""
        since: dict[int, float] = {}
        with suppress(ControlError):
            async with self._control.connection(database, role=role) as connection:
                while True:
                    await asyncio.sleep(_BLOCKED_LOOK_S)
                    cursor = await connection.execute(
                        "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND usename = current_user AND wait_event_type = 'Lock'"
                        " AND datname = current_database() AND %s = ANY(pg_blocking_pids(pid))",
                        (APPLICATION_NAME, pid),
                    )
                    now = time.monotonic()
                    since = {row[0]: since.get(row[0], now) for row in await cursor.fetchall()}
                    if since and now - min(since.values()) > self._settings.backup_lock_timeout_s:
                        raise ProtectError(
                            "pg_dump has to wait for what this session's open transaction has locked: commit or roll back, and send it again"
                        )

    async def _nothing_came(self, order: CopyOrder, scope: Scope, plan: CopyPlan, backup: Backup) -> None:
        """While it was copied: a new table in a schema that is dropped, say, which no lock prevents. Raises ProtectError."""
        if plan.kind is not CopyKind.DUMP or scope.others:
            return
        now = (await self._planner.plan(order)).detail
        if isinstance(now, Scope) and (now.oids - scope.oids or now.everything > scope.everything):
            why = "more would be lost than was copied: tables were added while the copy was taken; send it again"
            await _finished(self._unproven(backup, why))
            raise ProtectError(why)

    async def _dump(self, work: _Order, draft: Draft, at: Moment, role: str, told: _Told) -> Dumped:
        scope, plan = work.scope, work.plan
        tables = await all_tables(at.connection)
        if not scope.everything and (gone := scope.oids - tables.keys()):
            raise ProtectError(
                f"{len(gone)} of the tables to be copied are not there any more: they were changed after the copy was planned"
            )
        wanted = frozenset(tables) if scope.everything else frozenset() if plan.kind is CopyKind.ROWS else scope.oids
        skip: list[tuple[int, str]] = []
        if not (scope.everything and plan.kind is CopyKind.FULL):
            pid = work.order.backend_pid if work.order is not None else 0
            own, others = await held_exclusively(at.connection, pid)
            before = self._planner.copied.get(scope.transaction, frozenset()) if scope.transaction else frozenset()
            wanted -= own & before
            skip = [(oid, "locked by this session's transaction") for oid in own - wanted]
            skip += [(oid, "locked by another session") for oid in others - own - wanted]
            locked = [oid for oid, _ in skip]
            skip += [(oid, "reads a table that is locked") for oid in await views_of(at.connection, locked) if oid not in locked]
            # With a sequence goes the default of the table that owns it, and so a lock of that.
            skip += [(oid, "belongs to a table that is locked") for oid in await sequences_of(at.connection, locked) if oid not in locked]
        return await self._dumper.dump(
            draft,
            at,
            tables,
            wanted,
            database=scope.database,
            role=role,
            large_objects=scope.large_objects or scope.everything,
            skip=skip,
            niceness=_NICENESS if plan.kind is CopyKind.FULL else 0,
            progress=told,
            watch=self.vault.check_space,
        )

    async def _restore_point(self, work: _Order, role: str) -> str:
        """A name in the write-ahead log to recover to; empty where that is not permitted, or there is no log to speak of."""
        if work.order is None:
            return ""
        name = f"pghold hold {work.order.hold_id}"
        try:
            async with self._control.connection(work.order.requester.database, role=role, read_only=False) as connection:
                await connection.execute("SELECT pg_create_restore_point(%s)", (name,))
        except ControlError:
            return ""
        return name

    async def _proven(self, backup: Backup, first: bool, told: _Told) -> Copied:
        proving = self._proving
        if proving is None:
            return _copied(backup)
        if not first:
            await self._backups.put(replace(backup, proof=Proof.RUNNING, proof_text="is being proven"))
            self._spawn(self._prove_later(proving, backup), f"proof of copy {backup.id}")
            return _copied(replace(backup, proof_text="will be proven"))
        told.now("proving")
        try:
            proof, text = await proving.verify(backup, told)
        except BaseException:
            await _finished(self._unproven(backup, "its proof was cancelled"))
            raise
        if proof is not Proof.EQUAL:
            await _finished(self._unproven(backup, text))
            raise ProtectError(f"the copy could not be proven: {text}")
        proven = replace(backup, proof=proof, proof_text=text, proved_at=self._clock.now())
        await self._backups.put(proven)
        return _copied(proven)

    async def _unproven(self, backup: Backup, why: str) -> None:
        """A copy whose statement does not run is of no use."""
        with suppress(VaultError):
            await self.vault.remove(backup)
        with suppress(StoreError):
            await self._backups.put(replace(backup, state=BackupState.FAILED, error=why, proof=Proof.FAILED, proof_text=why))

    async def _prove_later(self, proving: Proving, backup: Backup) -> None:
        proof, text = await proving.verify(backup, lambda text: self._backups.progress(backup.id, text))
        # What became of it meanwhile stays as it is.
        backup = await self._backups.get(backup.id)
        await self._backups.put(replace(backup, proof=proof, proof_text=text, proved_at=self._clock.now()))
        if proof is not Proof.EQUAL:
            self._log("a copy is not proven", backup=int(backup.id), why=text)


@dataclass(frozen=True, slots=True)
class _Order:
    """What is to be done; `order` None: on schedule."""

    order: CopyOrder | None
    plan: CopyPlan
    scope: Scope


class _Turn:
    def __init__(self, turns: asyncio.Semaphore) -> None:
        self._turns = turns

    async def __aenter__(self) -> None:
        await self._turns.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._turns.release()


class _Told:
    """Progress, at most every few seconds."""

    def __init__(self, progress: OnProgress) -> None:
        self.also: OnProgress = lambda text: None
        self._progress = progress
        self._next = 0.0

    def __call__(self, text: str) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _PROGRESS_S
            self.now(text)

    def now(self, text: str) -> None:
        if text:
            self._progress(text)
            self.also(text)


async def _finished(work: Coroutine[None, None, None]) -> None:
    """Clean up to the end, also when this task is being cancelled."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.shield(task)
    task.result()


async def _watched(rows: AsyncIterator[bytes], told: _Told, vault: Vault) -> AsyncIterator[bytes]:
    size = 0
    looked_at = 0
    async for piece in rows:
        size += len(piece)
        if size - looked_at > 8 << 20:
            looked_at = size
            vault.check_space()
            told(f"{size >> 20:,} MB of rows")
        yield piece


def _said(error: BaseException) -> str:
    if isinstance(error, ProtectError | StoreError):
        return str(error)
    if isinstance(error, OSError):
        return f"the copy could not be written: {error.strerror or error}"
    return first_line(error)


def _copied(backup: Backup) -> Copied:
    rows = f"{backup.rows:,} {'row' if backup.rows == 1 else 'rows'}"
    what = rows if backup.kind is CopyKind.ROWS else f"{len(backup.tables):,} {'table' if len(backup.tables) == 1 else 'tables'}, {rows}"
    size = f"{backup.bytes / (1 << 20):,.1f} MB" if backup.bytes >= 1 << 20 else f"{max(1, backup.bytes >> 10):,} kB"
    proof = f"; {backup.proof_text}" if backup.proof_text else ""
    return Copied(
        backup.id,
        f"copy {backup.id}: {what}, {size}{proof}",
        backup.manifest_sha256,
        backup.proof,
        len(backup.tables),
        backup.rows,
        backup.bytes,
    )


def _manifest(work: _Order, backup: Backup, at: Moment, dumped: Dumped, tables: tuple[CopiedTable, ...], restore_point: str) -> Json:
    """All that is known of a copy, for people and for whoever gives it back without pghold."""
    order, scope, plan = work.order, work.scope, work.plan
    told: Json = {
        "format": FORMAT,
        "backup": int(backup.id),
        "kind": str(plan.kind),
        "database": scope.database,
        "whole": scope.everything,
        "encoding": at.encoding,
        "started_at": backup.created_at.isoformat(),
        "what": plan.why,
        "tables": [{"name": t.name, "rows": t.rows, "bytes": t.bytes, "checksum": t.checksum} for t in tables],
        "large_objects": None if dumped.large_objects is None else {"count": dumped.large_objects[0], "checksum": dumped.large_objects[1]},
        "left_out": list(dumped.left_out),
        "server_version": at.version_text,
        "server_version_num": at.version,
        "tool": dumped.tool,
        "pghold": version("pghold"),
        "lsn": at.lsn,
        "restore_point": restore_point,
        "in_recovery": at.in_recovery,
    }
    if order is not None:
        requester = order.requester
        told |= {
            "hold": int(order.hold_id),
            "environment": order.environment,
            "requested_by": {
                "role": requester.role,
                "application_name": requester.application_name,
                "client_addr": requester.client_addr,
                "certificate": requester.certificate,
            },
            "approved_by": list(order.approvers),
            "reason": order.reason,
            "statement": order.judgement.display or order.script,
            "script_sha256": order.script_sha256,
        }
    if plan.kind is CopyKind.ROWS:
        told |= {"relation": plan.image_relation, "columns": list(scope.columns), "changed_by": scope.changed, "rows_encoding": "UTF8"}
    return told
