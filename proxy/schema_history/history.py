"""Follows what changes schemas, and keeps a version when one has changed: after DDL has passed, at start, and once an hour.

Several scripts in a row (a migration) are one version: it is taken when nothing more comes for a moment and the sessions that sent them are
out of their transactions. What changed without anything having passed is drift.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from policy.judgement import Judgement
from proxy.config import Settings
from proxy.console.script import one_line
from proxy.control import Control
from proxy.health.model import Check, HealthState
from proxy.model import AuditEntry, AuditEvent, Hold, HoldId, HoldState, Requester, SessionId, SessionInfo
from proxy.schema_history.compare import summary
from proxy.schema_history.dump import DumpError, dump, objects
from proxy.schema_history.model import SchemaVersion
from proxy.schema_history.store import SchemaStore, UnknownVersionError, digest_of
from proxy.seams import AuditLog, Clock

_log = structlog.stdlib.get_logger()

_QUIET_S: Final = 2.0
_AT_MOST_S: Final = 30.0
_REGULAR_S: Final = 3600.0
#: A dump that fails is tried so often.
_TRIES: Final = 5
#: How long a session may stay in its transaction before its DDL is waited for no longer.
_OPEN_S: Final = 3600.0
_LOOK_S: Final = 0.5
_DATABASES: Final = 16
_STATEMENT_CHARACTERS: Final = 300
_SCRIPTS: Final = 50
_DML: Final = frozenset({"DELETE", "UPDATE", "INSERT", "MERGE", "TRUNCATE", "COPY"})
_BUSY: Final = frozenset({"active", "idle in transaction", "held"})


class Book(Protocol):
    def changes(self) -> AsyncIterator[Hold]: ...


@dataclass(slots=True)
class _Pending:
    """What passed in one database and is not in a version yet."""

    began: float
    last: float
    by: dict[str, None] = field(default_factory=dict)
    statements: list[str] = field(default_factory=list)
    holds: dict[int, None] = field(default_factory=dict)
    sessions: dict[SessionId, None] = field(default_factory=dict)
    taken: bool = False  # a dump was made since, and showed nothing new
    tries: int = 0  # dumps that failed since


class SchemaHistory:
    """The process has one.

    Attributes:
        store: the versions.
        drift: by database, the version that nothing explains; until the next that is explained, or a restart.
        problems: by database, why its schema could not be read last.
    """

    def __init__(
        self,
        settings: Settings,
        control: Control,
        book: Book,
        sessions: Callable[[], Sequence[SessionInfo]],
        record: AuditLog,
        clock: Clock,
    ) -> None:
        self._record = record
        self._settings = settings
        self._control = control
        self._book = book
        self._sessions = sessions
        self._clock = clock
        self._pending: dict[str, _Pending] = {}
        self._databases: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()
        self._looked_at: float | None = None
        self.store = SchemaStore(settings.data_dir / "schema")
        self.drift: dict[str, SchemaVersion] = {}
        self.problems: dict[str, str] = {}

    # --- what passes --------------------------------------------------------------------------------------------

    def changed(self, requester: Requester, judgement: Judgement) -> None:
        """DDL that nobody had to decide on has succeeded."""
        if self._settings.schema_history:
            self._add(requester, judgement.display, None)

    def _of_hold(self, hold: Hold) -> None:
        kinds = {s.kind for s in hold.request.statements}
        ran = hold.state in (HoldState.DONE, HoldState.ABANDONED)
        # Of several statements, those before the one that failed may have been committed.
        ran = ran or (hold.state is HoldState.FAILED and len(hold.request.statements) > 1)
        if ran and hold.decision is not None and hold.decision.approved and not (kinds and kinds <= _DML):
            self._add(hold.request.requester, hold.request.script, hold.id)

    def _add(self, requester: Requester, script: str, hold_id: HoldId | None) -> None:
        now = time.monotonic()
        pending = self._pending.setdefault(requester.database, _Pending(now, now))
        if pending.taken:
            pending.began, pending.taken = now, False
        pending.last = now
        name = f" ({requester.application_name})" if requester.application_name else ""
        hold = f", hold {hold_id}" if hold_id is not None else ""
        pending.by[one_line(f"{requester.role}{name}{hold}", 200)] = None
        if len(pending.statements) < _SCRIPTS:
            pending.statements.append(one_line(script, _STATEMENT_CHARACTERS))
        if hold_id is not None:
            pending.holds[int(hold_id)] = None
        pending.sessions[requester.session_id] = None
        if len(self._databases) < _DATABASES:
            self._databases[requester.database] = None
        self._keep_pending()
        self._wake.set()

    def _keep_pending(self) -> None:
        told: dict[str, dict[str, list[str] | list[int]]] = {
            d: {"by": list(p.by), "statements": p.statements, "holds": list(p.holds)} for d, p in self._pending.items()
        }
        try:
            self.store.keep_pending(told)
        except OSError as error:
            _log.warning("schema history not written", error=str(error))

    # --- life ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        if not self._settings.schema_history:
            return
        await asyncio.to_thread(self._take_up)
        follow = asyncio.ensure_future(self._follow())
        try:
            await self._run()
        finally:
            follow.cancel()

    def _take_up(self) -> None:
        """What the process before left."""
        now = time.monotonic()
        try:
            for database, left in self.store.pending().items():
                pending = self._pending.setdefault(database, _Pending(now, now))
                pending.by |= {str(x): None for x in left.get("by", [])}
                pending.statements += [str(x) for x in left.get("statements", [])]
                pending.holds |= {int(x): None for x in left.get("holds", [])}
            for database in self.store.databases():
                versions = self.store.versions(database)
                if versions and versions[-1].drift and not versions[-1].accepted_by:
                    self.drift[database] = versions[-1]
        except (OSError, ValueError) as error:
            _log.warning("schema history not read", error=str(error))

    async def _follow(self) -> None:
        async for hold in self._book.changes():
            self._of_hold(hold)

    async def _run(self) -> None:
        regular_at = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= regular_at:
                regular_at = now + _REGULAR_S
                known = await asyncio.to_thread(self._known)
                for database in dict.fromkeys([self.main_database, *self._settings.backup_databases, *known, *self._databases]):
                    await self.take(database)
            for database in [d for d in self._pending if self._is_due(d)]:
                await self.take(database)
            self._wake.clear()
            waits = any(not p.taken or self._is_open(p) for p in self._pending.values())
            try:
                async with asyncio.timeout(_LOOK_S if waits else max(0.0, regular_at - time.monotonic())):
                    await self._wake.wait()
                    await asyncio.sleep(_LOOK_S)
            except TimeoutError:
                pass

    def _known(self) -> list[str]:
        try:
            return self.store.databases()
        except OSError as error:
            _log.warning("schema history not read", error=str(error))
            return []

    @property
    def main_database(self) -> str:
        return self._control.place.database or (self._settings.server.database if self._settings.server else "") or "postgres"

    def _is_open(self, pending: _Pending) -> bool:
        """Whether one of its sessions may still be in the transaction in which its DDL ran."""
        if time.monotonic() - pending.last > _OPEN_S:
            return False
        return any(s.id in pending.sessions and s.state in _BUSY for s in self._sessions())

    def _is_due(self, database: str) -> bool:
        pending, now = self._pending[database], time.monotonic()
        if self._is_open(pending):
            # Its tables may be locked by it, and nothing of it can be seen yet.
            return False
        if pending.taken:
            return False
        return now - pending.last >= _QUIET_S or now - pending.began >= _AT_MOST_S

    # --- one version --------------------------------------------------------------------------------------------

    async def take(self, database: str) -> SchemaVersion | None:
        """Look at the schema now; the version, when it is a new one. What fails is in `problems`."""
        async with self._lock:
            pending = self._pending.get(database)
            was_open = pending is not None and self._is_open(pending)
            seen = pending.last if pending is not None else 0.0
            try:
                found = await self._take(database, pending)
            except Exception as error:
                # Whatever it was: it is unknown now, and the next look is made all the same.
                expected = isinstance(error, DumpError | OSError | UnknownVersionError)
                self.problems[database] = str(error) if expected else f"{type(error).__name__}: {error}"
                _log.warning("schema not kept", database=database, error=str(error))
                if pending is not None and not was_open:
                    # A table that somebody had locked is free a moment later. Else it is tried again with the next DDL, or within the hour; what
                    # passed still explains what will be found.
                    pending.tries += 1
                    pending.began = pending.last = time.monotonic()
                    pending.taken = pending.tries >= _TRIES
                return None
            self.problems.pop(database, None)
            self._looked_at = time.monotonic()
            if pending is not None and not was_open and pending.last == seen:
                self._pending.pop(database, None)
                self._keep_pending()
            return found

    async def _take(self, database: str, pending: _Pending | None) -> SchemaVersion | None:
        text = await dump(self._settings, self._control, database)
        found = await asyncio.to_thread(objects, text)
        digest = await asyncio.to_thread(digest_of, found)
        versions = await asyncio.to_thread(self.store.versions, database)
        last = versions[-1] if versions else None
        if last is not None and last.digest == digest:
            return None
        lines: tuple[str, ...] = ()
        if last is not None:
            try:
                before = await asyncio.to_thread(self.store.objects, database, last)
                lines = await asyncio.to_thread(summary, before, found)
            except UnknownVersionError as error:
                lines = (str(error),)
        version = SchemaVersion(
            number=0,
            digest=digest,
            at=self._clock.now(),
            by=tuple(pending.by) if pending is not None else (),
            statements=tuple(pending.statements) if pending is not None else (),
            hold_ids=tuple(pending.holds) if pending is not None else (),
            drift=last is not None and pending is None,
            summary=lines,
        )
        kept = await asyncio.to_thread(self.store.add, database, found, version)
        if kept.drift:
            self.drift[database] = kept
            _log.warning("schema drift", database=database, version=kept.number, changes=len(lines))
        else:
            self.drift.pop(database, None)
        return kept

    # --- health -------------------------------------------------------------------------------------------------

    def check(self) -> Check | None:
        """For the health monitor; None when no history is kept."""
        if not self._settings.schema_history:
            return None
        if self.drift:
            told = [f"{d}, version {v.number}: {', '.join(v.summary[:5])}" for d, v in self.drift.items()]
            fix = "\n".join(f"pghold schema diff --database '{d}' {v.number - 1} {v.number}" for d, v in self.drift.items())
            fix += "\nNothing that passed through pghold explains it. If it was on purpose: pghold schema accept"
            return Check("schema-drift", HealthState.FAIL, f"the schema changed, not seen by pghold: {'; '.join(told)}", fix)
        if self.problems:
            told = [f"{d}: {why}" for d, why in self.problems.items()]
            return Check(
                "schema-drift", HealthState.UNKNOWN, f"the schema cannot be read: {'; '.join(told)}", "See docs/schema.md for the grants."
            )
        if self._looked_at is None or time.monotonic() - self._looked_at > 2 * _REGULAR_S:
            return Check("schema-drift", HealthState.UNKNOWN, "the schema was not looked at lately")
        return Check("schema-drift", HealthState.OK, "every change of the schema passed through pghold")

    async def accept(self, operator: str) -> int:
        """Drift is on purpose, says an operator; how many databases' that was. Raises OSError, AuditError."""
        count = 0
        async with self._lock:
            for database, version in list(self.drift.items()):
                detail: dict[str, str | int | float | bool | None] = {
                    "check": "schema-drift", "database": database, "version": version.number,
                }  # fmt: skip
                await self._record.append(AuditEntry(AuditEvent.HEALTH, operator=operator, outcome="accepted", detail=detail))
                await asyncio.to_thread(self.store.accept, database, version.number, operator)
                self.drift.pop(database, None)
                count += 1
        return count
