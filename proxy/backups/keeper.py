"""Looks after the set of copies: takes the scheduled ones, proves again, lets go what is past its limits, and says what is wrong.

One loop, and one task for each copy that it makes. It asks nothing of sessions, and yields to them: while a safety copy of a held
statement runs, nothing new is begun. What it cannot do is an alarm and a warning until it is over, never an end of the loop.

Parts that it stands on come as the protocols below; where one is not there (copies need a server that lets pghold in, say), asking for it
says so.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from proxy.backups.alarm import Alarm, AlarmKind
from proxy.backups.model import Backup, BackupId, BackupState, CopyKind, Proof, ProtectError
from proxy.backups.reproof import PROVABLE, next_to_prove
from proxy.backups.retention import Limits, Removal, what_goes
from proxy.backups.schedule import Timetable, Tries, is_due, is_late
from proxy.backups.seams import OnProgress
from proxy.config import Settings
from proxy.control import ControlError
from proxy.model import AuditEntry, AuditEvent
from proxy.seams import AuditError, AuditLog, Clock, HoldBook, StoreError, UnknownHoldError
from proxy.sight_words import size
from proxy.store.backups import SqlBackups

#: How often the loop looks what is due.
LOOK_S: Final = 15.0
#: A copy that was missed is made up for so long after the start: whoever restarts the proxy has other things to do first.
_SETTLE_S: Final = 60.0
#: How late a scheduled copy may be before that is a problem.
_GRACE: Final = timedelta(minutes=30)
#: How often the limits are looked at, and whether the files of every copy are there.
_PRUNE_S: Final = 3600.0
#: A machine busier than this, by its load for each processor, proves nothing that it can prove later.
_BUSY: Final = 0.8
#: But not for longer than this.
_PATIENCE: Final = timedelta(days=1)
#: Copies that are looked at; a register longer than this is looked at from its newest on.
_LOOKED_AT: Final = 100_000


class BusyError(Exception):
    """A copy of that database is being made already. The message is for people."""


class FullCopier(Protocol):
    async def take(self, database: str, progress: OnProgress) -> Backup:
        """A copy of a whole database, at low priority: on record as done, its files in place. Raises ProtectError."""
        ...


class Verifier(Protocol):
    async def verify(self, backup: Backup, progress: OnProgress) -> tuple[Proof, str]:
        """Restore it elsewhere and compare. Whatever goes wrong is Proof.FAILED and the reason."""
        ...


class Shelf(Protocol):
    async def remove(self, backup: Backup) -> None:
        """Its files, at every target. Raises ProtectError when any could not be removed."""
        ...

    async def manifest(self, backup: Backup) -> dict[str, Any]:  # any: JSON
        """What it says of itself. Raises ProtectError when it cannot be read."""
        ...

    async def folders(self) -> Collection[str]:
        """The folders of copies that are there, as in Backup.folder. Raises ProtectError."""
        ...


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """How well a database is copied.

    Attributes:
        proven_at: when its newest proven full copy was begun; taken_at: the newest that was made.
        next_at: when the next is due by the schedule; None: it is not on it.
        running: whether one is being made.
        error: why the last try failed.
    """

    name: str
    proven_at: datetime | None
    taken_at: datetime | None
    next_at: datetime | None
    running: bool
    error: str


@dataclass(slots=True)
class Figures:
    """For metrics and pages, as of the last look.

    Attributes:
        proven_at: of each database on schedule.
        late: databases whose scheduled copy is late.
        missing: copies whose files are gone; orphans: folders that no copy is known for.
    """

    kept: int = 0
    bytes: int = 0
    proven_at: dict[str, datetime | None] = field(default_factory=dict)
    late: list[str] = field(default_factory=list)
    missing: list[BackupId] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    unremoved: dict[BackupId, str] = field(default_factory=dict)
    scheduled: Counter[str] = field(default_factory=Counter)
    proofs: Counter[str] = field(default_factory=Counter)


class Keeper:
    """The process has one.

    Args:
        databases: those of the schedule. Raises ControlError or ProtectError.
        alarm: tells people; must not block.
        load: of the machine, for each processor.
    """

    def __init__(
        self,
        settings: Settings,
        register: SqlBackups,
        audit: AuditLog,
        clock: Clock,
        *,
        databases: Callable[[], Awaitable[list[str]]],
        alarm: Callable[[Alarm], None],
        log: Callable[..., None],
        spawn: Callable[[Coroutine[None, None, None], str], asyncio.Task[None]],
        copier: FullCopier | None = None,
        verifier: Verifier | None = None,
        shelf: Shelf | None = None,
        book: HoldBook | None = None,
        load: Callable[[], float] = lambda: os.getloadavg()[0] / (os.cpu_count() or 1),
    ) -> None:
        self.timetable = Timetable(settings.backup_schedule)
        self.figures = Figures()
        self._settings = settings
        self._register = register
        self._audit = audit
        self._clock = clock
        self._databases = databases
        self._alarm = alarm
        self._log = log
        self._spawn = spawn
        self.copier = copier
        self.verifier = verifier
        self.shelf = shelf
        self._book = book
        self._load = load
        self._running: dict[str, asyncio.Task[None]] = {}
        self._proving: asyncio.Task[None] | None = None
        self._in_use: Counter[BackupId] = Counter()
        self._tries: dict[str, Tries] = {}
        self._names: list[str] = []
        self._names_problem = ""
        self._told: set[tuple[AlarmKind, str]] = set()
        self._started_at = clock.now()
        self._pruned_at: float | None = None

    # --- life ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        await self.recover()
        while True:
            try:
                await self.look()
            except (StoreError, AuditError, ProtectError, OSError) as error:
                self._log("copies not looked after", error=str(error))
            await asyncio.sleep(LOOK_S)

    async def recover(self) -> None:
        """What a process that ended was proving is not proven; it is done again."""
        try:
            for backup in await self._register.find(states=[BackupState.DONE], limit=_LOOKED_AT, with_tables=False):
                if backup.proof is Proof.RUNNING:
                    await self._register.put(replace(await self._register.get(backup.id), proof=Proof.NONE, proof_text=""))
        except StoreError as error:
            self._log("copies not recovered", error=str(error))

    async def close(self) -> None:
        """Whatever it runs is cancelled and has ended."""
        tasks = [*self._running.values(), *([self._proving] if self._proving is not None else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def look(self) -> None:
        """What is due is begun. Raises StoreError, AuditError."""
        now = self._clock.now()
        states = await self._refresh(now)
        settled = (now - self._started_at).total_seconds() >= _SETTLE_S
        busy = await self._is_protecting()
        named = self.timetable.last(now)
        # What came due while this process runs waits for nothing but its turn.
        may_begin = self.copier is not None and not busy and (settled or (named is not None and named >= self._started_at))
        for state in states if may_begin else ():
            if state.name not in self._running and is_due(self.timetable, now, state.taken_at, self._tries.get(state.name, Tries())):
                self._begin(state.name, "schedule")
        self._notice_late(states, now)
        if self._pruned_at is None or time.monotonic() - self._pruned_at > _PRUNE_S:
            self._pruned_at = time.monotonic()
            await self.check_files()
            await self.prune("retention")
        if not busy:
            await self._prove_next(now)

    async def _is_protecting(self) -> bool:
        kinds = [CopyKind.DUMP, CopyKind.ROWS]
        return bool(await self._register.find(states=[BackupState.RUNNING], kinds=kinds, limit=1, with_tables=False))

    async def _refresh(self, now: datetime) -> list[DatabaseState]:
        """Those on schedule, as they are."""
        figures = self.figures
        kept = await self._register.find(states=[BackupState.DONE], limit=_LOOKED_AT, with_tables=False)
        figures.kept, figures.bytes = len(kept), sum(b.bytes for b in kept)
        if self.timetable.expression:
            try:
                self._names, self._names_problem = await self._databases(), ""
            except (ControlError, ProtectError) as error:
                # The schedule goes on with what it knew.
                self._names_problem = str(error)
        full = [b for b in kept if b.kind is CopyKind.FULL]
        states = [self._state_of(n, [b for b in full if b.database == n], now) for n in self._names]
        figures.proven_at = {s.name: s.proven_at for s in states}
        return states

    def _notice_late(self, states: list[DatabaseState], now: datetime) -> None:
        """After what is due was begun: what runs is not late, and there must have been time for it since the start."""
        settled = now - self._started_at > _GRACE
        late = [s.name for s in states if settled and s.name not in self._running and is_late(self.timetable, now, s.taken_at, _GRACE)]
        self.figures.late = late
        for name in late:
            self._tell_once(Alarm(AlarmKind.LATE, name, f"the scheduled copy of database {name} is late"))
        self._told -= {(AlarmKind.LATE, n) for kind, n in self._told if kind is AlarmKind.LATE and n not in late}

    def _state_of(self, name: str, copies: list[Backup], now: datetime) -> DatabaseState:
        """`copies`: full ones that are done, newest first."""
        tries = self._tries.get(name, Tries())
        listed = name in self._names
        return DatabaseState(
            name,
            proven_at=next((b.created_at for b in copies if b.proof is Proof.EQUAL), None),
            taken_at=copies[0].created_at if copies else None,
            next_at=self.timetable.after(now) if listed else None,
            running=name in self._running,
            error=tries.error if tries.failures else "",
        )

    # --- for operators ------------------------------------------------------------------------------------------

    async def databases(self) -> list[DatabaseState]:
        """Those of the schedule, and those that have a full copy. Raises StoreError."""
        now = self._clock.now()
        copies = await self._register.find(kinds=[CopyKind.FULL], states=[BackupState.DONE], limit=_LOOKED_AT, with_tables=False)
        names = dict.fromkeys([*self._names, *self._running, *(b.database for b in copies)])
        return [self._state_of(name, [b for b in copies if b.database == name], now) for name in names]

    async def kept(self) -> tuple[int, int]:
        """How many copies there are, and their bytes. Raises StoreError."""
        found = await self._register.find(states=[BackupState.DONE], limit=_LOOKED_AT, with_tables=False)
        return len(found), sum(b.bytes for b in found)

    def warnings(self) -> list[str]:
        """What is wrong with the copies, a sentence each."""
        figures, settings = self.figures, self._settings
        found = []
        if not settings.backup_before_danger:
            found.append("copies are switched off: what is approved runs without one (backup_before_danger)")
        if self._names_problem:
            found.append(f"the databases to copy on schedule are not known: {self._names_problem}")
        found += [f"the scheduled copy of database {n} is late" for n in figures.late]
        found += [f"the last full copy of database {n} failed: {t.error}" for n, t in self._tries.items() if t.failures]
        if figures.missing:
            found.append(f"the files of {_ids(figures.missing)} are gone")
        found += [f"copy {i} could not be removed: {why}" for i, why in figures.unremoved.items()]
        if figures.orphans:
            count = len(figures.orphans)
            found.append(f"{count:,} folder{'' if count == 1 else 's'} of copies not in the register: {', '.join(figures.orphans[:3])}")
        if settings.backup_keep_bytes and figures.bytes > settings.backup_keep_bytes:
            found.append(f"copies take {size(figures.bytes)}, more than backup_keep_bytes: what is left must not go")
        return found

    @contextmanager
    def using(self, backup_id: BackupId) -> Iterator[None]:
        """While somebody reads it, it is not removed."""
        self._in_use[backup_id] += 1
        try:
            yield
        finally:
            self._in_use[backup_id] -= 1
            if not self._in_use[backup_id]:
                del self._in_use[backup_id]

    async def manifest(self, backup: Backup) -> tuple[dict[str, Any] | None, str]:  # any: JSON
        """Its manifest; or None, and why not."""
        if backup.state is not BackupState.DONE or backup.kind not in PROVABLE:
            return None, ""
        if self.shelf is None:
            return None, "files are not looked at here"
        try:
            return await self.shelf.manifest(backup), ""
        except (ProtectError, OSError) as error:
            return None, str(error)

    async def take(self, database: str, operator: str) -> list[str]:
        """Begin a full copy now, of one database or (empty) of those on schedule; returns which. Raises BusyError, ProtectError."""
        if self.copier is None:
            raise ProtectError("full copies are not available here")
        names = [database] if database else self._names or await self._databases()
        fresh = [n for n in names if n not in self._running]
        if not fresh:
            raise BusyError(f"a copy of {', '.join(names) or 'nothing'} is being made already" if names else "there is no database to copy")
        for name in fresh:
            self._begin(name, operator)
        return fresh

    async def prune(self, operator: str, *, dry_run: bool = False) -> list[Removal]:
        """Remove what is past its limits: on record, then the files, then its row. Raises StoreError, AuditError."""
        settings = self._settings
        limits = Limits(settings.backup_keep_days, settings.backup_keep_count, settings.backup_keep_bytes)
        copies = await self._register.find(states=[BackupState.DONE], limit=_LOOKED_AT)
        due = what_goes(copies, limits, self._clock.now(), self._in_use)
        if dry_run or self.shelf is None:
            return due
        return [removal for removal in due if await self._remove(removal, operator)]

    async def remove(self, backup: Backup, operator: str, why: str) -> bool:
        """One, by hand. Raises StoreError, AuditError."""
        return backup.id not in self._in_use and await self._remove(Removal(backup, why), operator)

    async def _remove(self, removal: Removal, operator: str) -> bool:
        backup, shelf = removal.backup, self.shelf
        assert shelf is not None
        if backup.id in self._in_use:
            return False
        with self.using(backup.id):
            await self._record(AuditEvent.BACKUP_REMOVED, backup, operator=operator, reason=removal.why)
            try:
                await shelf.remove(backup)
            except ProtectError as error:
                self.figures.unremoved[backup.id] = str(error)
                self._tell_once(Alarm(AlarmKind.REMOVAL, backup.database, f"copy {backup.id} could not be removed: {error}", backup.id))
                return False
            self.figures.unremoved.pop(backup.id, None)
            await self._register.put(replace(backup, state=BackupState.REMOVED))
        return True

    async def check_files(self) -> None:
        """Copies without files, and files without a copy. Raises StoreError, AuditError."""
        if self.shelf is None:
            return
        # The register first: a copy that is made meanwhile has its folder before its row is done.
        states = [BackupState.DONE, BackupState.RUNNING]
        copies = await self._register.find(states=states, limit=_LOOKED_AT, with_tables=False)
        try:
            there = set(await self.shelf.folders())
        except (ProtectError, OSError) as error:
            self._log("folder of copies not looked at", error=str(error))
            return
        known = {b.folder for b in copies}
        running = any(b.state is BackupState.RUNNING for b in copies)
        self.figures.orphans = [] if running else sorted(there - known)
        gone = [b for b in copies if b.state is BackupState.DONE and b.kind in PROVABLE and b.folder not in there]
        self.figures.missing = [b.id for b in gone]
        for backup in gone:
            elsewhere = f"; they are still at {', '.join(t.partition('?')[0] for t in backup.targets)}" if backup.targets else ""
            text = f"the files of copy {backup.id} of database {backup.database} are gone{elsewhere}"
            self._tell_once(Alarm(AlarmKind.MISSING, backup.database, text, backup.id))
            # From a further place it can be restored and proven all the same.
            if backup.proof is not Proof.FAILED and not backup.targets:
                # It counts as proven no longer.
                whole = await self._register.get(backup.id)
                await self._register.put(replace(whole, proof=Proof.FAILED, proof_text="its files are gone", proved_at=self._clock.now()))
                await self._record(AuditEvent.BACKUP_FAILED, backup, outcome="its files are gone")

    # --- making them --------------------------------------------------------------------------------------------

    def _begin(self, database: str, operator: str) -> None:
        task = self._spawn(self._take(database, operator), f"copy of {database}")
        self._running[database] = task
        task.add_done_callback(lambda _: self._running.pop(database, None))

    async def _take(self, database: str, operator: str) -> None:
        copier = self.copier
        assert copier is not None
        began, now = time.monotonic(), self._clock.now()
        try:
            backup = await copier.take(database, lambda text: None)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # whatever it was, there is no copy, and somebody must know
            text = str(error) if isinstance(error, ProtectError) and str(error) else f"{type(error).__name__}: {error}"
            self._tries[database] = self._tries.get(database, Tries()).failed(now, text)
            self.figures.scheduled["failed"] += 1
            self._alarm(Alarm(AlarmKind.FAILED, database, f"no full copy of database {database} could be made: {text}"))
            self._log("copy failed", database=database, error=text)
            entry = AuditEntry(
                AuditEvent.BACKUP_FAILED,
                environment=self._settings.effective_environment,
                operator=operator,
                outcome=text,
                detail={"database": database, "kind": str(CopyKind.FULL)},
            )
            await self._recorded(entry)
            return
        self._tries[database] = Tries(now)
        self.figures.scheduled["taken"] += 1
        more = {"seconds": round(time.monotonic() - began, 1)}
        try:
            await self._record(AuditEvent.BACKUP_TAKEN, backup, operator=operator, outcome=words_of(backup), more=more)
        except AuditError as error:
            self._log("copy not on record", backup=backup.id, error=str(error))
        await self._prove(backup)

    # --- proving them -------------------------------------------------------------------------------------------

    async def _prove_next(self, now: datetime) -> None:
        if self.verifier is None or (self._proving is not None and not self._proving.done()) or self._running:
            return
        copies = await self._register.find(states=[BackupState.DONE], limit=_LOOKED_AT, with_tables=False)
        # A copy of a hold is proven by whoever took it, while its statement waits or at once afterwards.
        settled = [b for b in copies if b.proof is not Proof.NONE or now - (b.finished_at or b.created_at) > timedelta(minutes=15)]
        backup = next_to_prove(settled, now, self._settings.backup_verify_days, self._in_use)
        if backup is None:
            return
        wanted_since = (backup.proved_at or backup.created_at) + timedelta(days=self._settings.backup_verify_days)
        if self._load() > _BUSY and now - wanted_since < _PATIENCE:
            return
        self._proving = self._spawn(self._prove(await self._register.get(backup.id)), f"proof of copy {backup.id}")

    async def verify(self, backup: Backup, operator: str) -> None:
        """Begin to prove it now. Raises BusyError, ProtectError."""
        if self.verifier is None:
            raise ProtectError("copies cannot be proven here")
        if backup.state is not BackupState.DONE or backup.kind not in PROVABLE:
            raise ProtectError(f"copy {backup.id} has no files that could be restored")
        if backup.id in self._in_use or (self._proving is not None and not self._proving.done()):
            raise BusyError("a copy is being proven already")
        self._proving = self._spawn(self._prove(backup, operator), f"proof of copy {backup.id}")

    async def _prove(self, backup: Backup, operator: str = "") -> None:
        if self.verifier is None or backup.id in self._in_use:
            return
        with self.using(backup.id):
            try:
                # What it was before stays to be read while it is proven again.
                await self._register.put(replace(await self._register.get(backup.id), proof=Proof.RUNNING))
            except StoreError as error:
                self._log("proof not begun", backup=backup.id, error=str(error))
                return
            try:
                proof, text = await self.verifier.verify(backup, lambda text: self._register.progress(backup.id, text))
            except asyncio.CancelledError:
                with suppress(StoreError):
                    await self._register.put(replace(await self._register.get(backup.id), proof=backup.proof))
                raise
            except Exception as error:  # not proven, whatever it was
                proof, text = Proof.FAILED, f"{type(error).__name__}: {error}"
            try:
                current = await self._register.get(backup.id)
                await self._register.put(replace(current, proof=proof, proof_text=text, proved_at=self._clock.now()))
                await self.proved(backup, proof, text, operator)
            except (StoreError, AuditError) as error:
                self._log("proof not kept", backup=backup.id, error=str(error))

    async def proved(self, backup: Backup, proof: Proof, text: str, operator: str = "") -> None:
        """Count it, record it, and sound the alarm when it is not equal. Raises AuditError."""
        self.figures.proofs[str(proof)] += 1
        if proof is not Proof.EQUAL:
            said = f"copy {backup.id} of database {backup.database} is not proven: {text}"
            self._alarm(Alarm(AlarmKind.DIFFERENT, backup.database, said, backup.id))
        await self._record(AuditEvent.BACKUP_PROVED, backup, operator=operator, outcome=text, more={"proof": str(proof)})
        await self.tell_hold(backup, proof, text)

    async def tell_hold(self, backup: Backup, proof: Proof, text: str) -> None:
        """The card of its hold says what is known of the copy now."""
        if self._book is None or backup.hold_id is None:
            return
        with suppress(StoreError, UnknownHoldError):
            copy = (await self._book.get(backup.hold_id)).copy
            if copy is not None and copy.state == "done" and copy.backup_id == backup.id:
                said = f"{copy.text.partition(';')[0]}; {text}"
                await self._book.copied(backup.hold_id, replace(copy, proof=str(proof), text=said))

    # --- on record ----------------------------------------------------------------------------------------------

    async def _record(
        self,
        event: AuditEvent,
        backup: Backup,
        *,
        operator: str = "",
        reason: str = "",
        outcome: str = "",
        more: Mapping[str, Any] | None = None,  # any: what an entry's detail may have
    ) -> None:
        detail = {"backup": int(backup.id), "kind": str(backup.kind), "database": backup.database, "bytes": backup.bytes, **(more or {})}
        await self._audit.append(
            AuditEntry(
                event,
                environment=self._settings.effective_environment,
                hold_id=backup.hold_id,
                operator=operator,
                reason=reason,
                outcome=outcome,
                detail=detail,
            )
        )

    async def _recorded(self, entry: AuditEntry) -> None:
        try:
            await self._audit.append(entry)
        except AuditError as error:
            self._log("copy not on record", error=str(error))

    def _tell_once(self, alarm: Alarm) -> None:
        key = (alarm.kind, str(alarm.backup_id or alarm.database))
        if key not in self._told:
            self._told.add(key)
            self._alarm(alarm)


def words_of(backup: Backup) -> str:
    """What is in it: "3 tables, 41,220 rows, 12 MiB"."""
    tables = len(backup.tables)
    rows = f", {backup.rows:,} row{'' if backup.rows == 1 else 's'}" if tables else ""
    return f"{tables:,} table{'' if tables == 1 else 's'}{rows}, {size(backup.bytes)}" if tables else size(backup.bytes)


def _ids(ids: list[BackupId]) -> str:
    shown = ", ".join(map(str, ids[:5]))
    return f"{'copy' if len(ids) == 1 else 'copies'} {shown}" + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
