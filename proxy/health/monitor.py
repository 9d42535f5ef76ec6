"""The checks, every so often: one round after the other on one connection, and what changed from one to the next.

A round is bounded in time, so a server that hangs makes checks `unknown` and the next round late, and nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

import psycopg
import structlog

from policy.judgement import Judgement
from proxy.config import Settings
from proxy.control import YIELDS_S, Control, ControlError, first_line
from proxy.health import bypass, local, messages, server
from proxy.health.known import Known
from proxy.health.memory import Memory
from proxy.health.model import Bypasser, Check, HealthState, Measured, Report
from proxy.health.names import critical_name
from proxy.health.server import About, Connection, joined
from proxy.health.tables import Announced
from proxy.model import AuditEntry, AuditEvent, Hold, HoldId, HoldState, Requester, SessionId, SessionInfo
from proxy.notify.message import Message
from proxy.seams import AuditLog, Clock, StoreError
from proxy.store.backups import SqlBackups

_log = structlog.stdlib.get_logger()

OK, WARN, FAIL, UNKNOWN = HealthState.OK, HealthState.WARN, HealthState.FAIL, HealthState.UNKNOWN

_STATEMENT_S: Final = 5.0
#: For all that is asked of one database in one round.
_DATABASE_S: Final = 20.0
_SLOW_S: Final = 1.0
#: Who may pass and what lets them changes seldom.
_ACCESS_S: Final = 600.0
#: What ran through pghold may be committed later than it ran.
_NAMED: Final = timedelta(hours=1)
_EXACT: Final = timedelta(hours=24)
_REMEMBERED: Final = 2000
_DATABASES: Final = 16
_ROLES: Final = 1000
#: The same one past the proxy is told again after so long.
_TOLD_AGAIN_S: Final = 3600.0
#: After DDL has passed, the tables are looked at so soon.
_SOON_S: Final = 3.0
_SERVER_CHECKS: Final = ("replication", "databases", "tables", "critical-tables", "clock", "bypass")
_MADE: Final = ("pghold_scratch_", "pghold_loading")


class Book(Protocol):
    """What is asked of the hold book."""

    async def ended_since(self, moment: datetime) -> list[Hold]: ...

    async def list(self, *, pending_only: bool = True, limit: int = 1000, before: HoldId | None = None) -> list[Hold]: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a round looks at besides the server.

    Attributes:
        reachable: how the proxy's own last attempt to reach the server ended; None before the first.
        audit: (why dangerous statements are refused, what somebody should look at) of the audit log.
        tell: hand a message to the routes.
    """

    book: Book
    backups: SqlBackups
    sessions: Callable[[], Sequence[SessionInfo]]
    reachable: Callable[[], bool | None]
    audit: Callable[[], Awaitable[tuple[str, list[str]]]]
    record: AuditLog
    tell: Callable[[Message], None]


class HealthMonitor:
    """The process has one.

    Attributes:
        report: of the last round.
        extra: further checks, asked at the end of each round; None: nothing to say.
    """

    def __init__(self, settings: Settings, control: Control, around: Surroundings, clock: Clock) -> None:
        self._settings = settings
        self._control = control
        self._around = around
        self._clock = clock
        self._known = Known(Memory(settings.data_dir / "health"), clock)
        self._own_clock = local.OwnClock(clock.now)
        self._changes: deque[tuple[datetime, Announced]] = deque(maxlen=_REMEMBERED)
        self._databases: dict[str, None] = {}
        self._roles: dict[str, None] = {}
        self._replicas: set[str] = set()
        self._access: tuple[float, int, tuple[Check, ...]] = (0.0, 0, ())
        self._told: dict[str, datetime] = {}
        self._told_bypass: dict[tuple[str, str], float] = {}
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()
        self.extra: list[Callable[[], Check | None]] = []
        self.report = Report()

    # --- life ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
            except Exception as error:
                # A check that fails in a way nobody thought of must not end all the others.
                _log.error("health not checked", error=f"{type(error).__name__}: {error}", exc_info=error)
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.health_interval_s):
                    await self._wake.wait()
                    await asyncio.sleep(min(_SOON_S, self._settings.health_interval_s))

    def changed(self, requester: Requester, judgement: Judgement) -> None:
        """DDL that nobody had to decide on has succeeded."""
        statements = tuple((s.kind, s.relations) for s in judgement.statements)
        self._changes.append((self._clock.now(), Announced(requester.database, statements, text=f"{requester.role}, allowed by policy")))
        self._seen(requester)
        self._wake.set()

    def _seen(self, requester: Requester) -> None:
        if len(self._roles) < _ROLES:
            self._roles[requester.role] = None
        if len(self._databases) < _DATABASES:
            self._databases[requester.database] = None

    @property
    def main_database(self) -> str:
        """That of the connection of our own."""
        return self._control.place.database or (self._settings.server.database if self._settings.server else "") or "postgres"

    async def accept(self, operator: str) -> int:
        """What is missed is gone on purpose, says an operator; return how much that was. Raises AuditError, OSError."""
        missed = await self._known.missed()
        if missed:
            detail: dict[str, str | int | float | bool | None] = {"check": "tables", "accepted": joined(missed, 100), "count": len(missed)}
            await self._around.record.append(AuditEntry(AuditEvent.HEALTH, operator=operator, outcome="accepted", detail=detail))
            async with self._lock:
                await self._known.accept()
            self._wake.set()
        return len(missed)

    # --- one round ----------------------------------------------------------------------------------------------

    async def look(self) -> Report:
        """One round, now. Never two at the same time."""
        async with self._lock:
            for info in self._around.sessions():
                self._seen(info.requester)
            checks, measured, bypassers = await self._look_at_server()
            checks += await self._look_around(measured)
            checks += [check for source in self.extra if (check := source()) is not None]
            checks.append(await asyncio.to_thread(local.disk, self._settings))
            checks = self._with_own_clock(checks)
            now = self._clock.now()
            before = {c.id: c for c in self.report.checks}
            first = self.report.at is None
            self.report = Report(
                now,
                tuple(_since(c, before.get(c.id), now) for c in checks),
                self._access[2],
                bypassers or (),
                replace(measured, bypass_sessions=None if bypassers is None else len(bypassers)),
            )
            self._tell_changes(before, first)
            self._tell_bypass(bypassers or ())
            return self.report

    async def _look_at_server(self) -> tuple[list[Check], Measured, tuple[Bypasser, ...] | None]:
        began = time.monotonic()
        try:
            async with asyncio.timeout(_DATABASE_S), self._connection(self.main_database) as connection:
                latency_s = time.monotonic() - began
                return await self._look_inside(connection, latency_s)
        except (ControlError, psycopg.Error, TimeoutError) as error:
            return self._not_reached(error), Measured(), None

    def _connection(self, database: str):  # type: ignore[no-untyped-def]  # an async context manager, as Control.connection is
        return self._control.connection(database, statement_timeout_s=_STATEMENT_S, lock_timeout_s=YIELDS_S)

    def _not_reached(self, error: BaseException) -> list[Check]:
        why = "it does not answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        if self._control.has_credentials or self._around.reachable() is False:
            fix = "Look whether the server runs and takes connections from here (its log, pg_hba.conf, the network)."
            found = [Check("server", FAIL, f"the server: {why}", fix)]
        else:
            fix = "Set control to the server with credentials of pghold's own; docs/health.md has the grants."
            found = [Check("server", UNKNOWN, f"pghold has no connection of its own: {why}", fix)]
        return found + [Check(i, UNKNOWN, "the server could not be asked") for i in _SERVER_CHECKS]

    async def _look_inside(self, connection: Connection, latency_s: float) -> tuple[list[Check], Measured, tuple[Bypasser, ...] | None]:
        about = await server.about(connection)
        measured = Measured(latency_s=latency_s)
        checks = [
            Check("server", WARN, f"connecting takes {latency_s:.1f} s", "Look at the server's load, and at the network between.")
            if latency_s > _SLOW_S
            else Check(
                "server", OK, f"PostgreSQL {about.version // 10000}.{about.version % 10000}, connected in {latency_s * 1000:,.0f} ms"
            )
        ]
        async with _asking(checks, "replication"):
            check, lag_s, slot_bytes = await server.replication(connection, about, self._replicas)
            checks.append(check)
            measured = replace(measured, lag_s=lag_s, slot_bytes=slot_bytes)
        async with _asking(checks, "clock"):
            check, clock_s = await server.clock(connection, self._clock.now)
            checks.append(check)
            measured = replace(measured, clock_s=clock_s)
        bypassers: tuple[Bypasser, ...] | None = None
        async with _asking(checks, "bypass"):
            check, bypassers = await bypass.sessions(connection, about, self._processes, self._settings.bypass_allowed_roles)
            checks.append(check)
        async with _asking(checks, "tables"):
            both, found = await self._look_at_tables(connection, about)
            checks += both
            measured = replace(measured, tables=found)
        async with _asking(checks, "critical-tables"):
            checks.append(await self._look_at_critical(connection))
        if not self._access[2] or self._access[1] != len(self._roles) or time.monotonic() - self._access[0] > _ACCESS_S:
            with suppress(psycopg.Error):
                roles = len(self._roles)
                access = await bypass.access(connection, about, list(self._roles), self._settings.bypass_allowed_roles)
                self._access = (time.monotonic(), roles, access)
        return checks, measured, bypassers

    def _processes(self) -> set[int]:
        return {s.requester.backend_pid for s in self._around.sessions()} - {0}

    async def _look_at_tables(self, connection: Connection, about: About) -> tuple[list[Check], dict[str, int]]:
        announced = await self._announced()
        databases = [d for d in await server.databases(connection) if not d.startswith(_MADE)]
        counts: dict[str, int] = {}
        problems: list[str] = []
        try:
            checks = [await self._known.databases(about.system, databases, [a for _, a in announced])]
            wanted = [self.main_database, *self._settings.backup_databases, *(n for n, _, _ in self._critical()), *self._databases]
            wanted += await self._known.remembered(databases)
            for name in [n for n in dict.fromkeys(wanted) if n in databases]:
                try:
                    if name == self.main_database:
                        tables, oid = await server.tables(connection), about.database_oid
                    else:
                        async with self._connection(name) as other:
                            tables, oid = await server.tables(other), (await server.about(other)).database_oid
                except (ControlError, psycopg.Error) as error:
                    problems.append(f"{name} could not be looked at: {first_line(error)}")
                    continue
                counts[name] = len(tables)
                await self._known.tables(name, f"{about.system}/{oid}", tables, [a for _, a in announced if a.database in ("", name)])
            checks.append(await self._known.check(counts, problems, self._settings.mode))
        except OSError as error:
            text = f"the list of tables cannot be kept in {self._settings.data_dir / 'health'}: {error.strerror}"
            checks = [Check(i, UNKNOWN, text, "Make that folder writable, and make room on its disk.") for i in ("databases", "tables")]
        return checks, counts

    async def _announced(self) -> list[tuple[datetime, Announced]]:
        """What ran through pghold lately and may have dropped tables."""
        now = self._clock.now()
        moment = timedelta(seconds=2 * self._settings.health_interval_s + _SOON_S)
        found = [(at, replace(a, fresh=now - at < moment)) for at, a in self._changes if now - at < _NAMED]
        try:
            holds = await self._around.book.ended_since(now - _EXACT)
            holds += [h for h in await self._around.book.list(pending_only=False, limit=500) if h.state is HoldState.RELEASED]
        except StoreError as error:
            _log.warning("holds not read", error=str(error))
            return found
        busy = {s.id for s in self._around.sessions() if s.state in ("active", "idle in transaction")}
        return [*found, *_of_holds(holds, now, moment, busy)]

    def _critical(self) -> Iterable[tuple[str, str, str]]:
        return [critical_name(text, self.main_database) for text in self._settings.critical_tables]

    async def _look_at_critical(self, connection: Connection) -> Check:
        bad: list[str] = []
        unknown: list[str] = []
        wanted = list(self._critical())
        for database in dict.fromkeys(d for d, _, _ in wanted):
            tables = [(s, t) for d, s, t in wanted if d == database]
            try:
                if database == self.main_database:
                    await _each(connection, database, tables, bad, unknown)
                else:
                    async with self._connection(database) as other:
                        await _each(other, database, tables, bad, unknown)
            except ControlError as error:
                unknown.append(f"{database}: {error}")
        fix = "Do not write to it. pghold holds --all and pghold audit search say what ran; pghold backups list has the copies."
        if bad:
            return Check("critical-tables", FAIL, joined(bad), fix)
        if unknown:
            return Check("critical-tables", UNKNOWN, f"could not be looked at: {joined(unknown)}", "GRANT SELECT on them to pghold's role.")
        text = f"all {len(wanted):,} are there and not empty" if wanted else "none are named (critical_tables)"
        return Check("critical-tables", OK, text)

    async def _look_around(self, measured: Measured) -> list[Check]:
        failing, warnings = await self._around.audit()
        if failing:
            audit = Check("audit", FAIL, failing, "Make room and rights in the data directory; then: pghold audit verify")
        elif warnings:
            audit = Check("audit", WARN, joined(warnings), "The Audit page of the console has the details.")
        else:
            audit = Check("audit", OK, "it can be written, and nothing was found wrong with its chain")
        now = self._clock.now()
        try:
            backups = await local.copies(self._settings, self._around.backups, self.main_database, now, await self._known.first_at())
        except (StoreError, OSError) as error:
            backups = Check("backups", UNKNOWN, f"the register of copies cannot be read: {error}")
        return [audit, backups]

    def _with_own_clock(self, checks: list[Check]) -> list[Check]:
        own = self._own_clock.look()
        if own is None:
            return checks
        # The worse of the two: a server's clock that is wrong now comes before a jump of ours that is over.
        return [own if c.id == "clock" and c.state in (OK, UNKNOWN) else c for c in checks]

    # --- what people are told -----------------------------------------------------------------------------------

    def _tell_changes(self, before: dict[str, Check], first: bool) -> None:
        environment, now = str(self._settings.effective_environment), self._clock.now()
        for check in self.report.checks:
            was = before.get(check.id)
            changed = check.state is FAIL if first or was is None else was.state is not check.state
            if changed:
                self._record(check, was.state if was is not None else None)
            if check.state is FAIL and check.id not in self._told:
                self._told[check.id] = now
                # Whether the server can be reached at all, the notifier watches by itself.
                if messages.tells(check) and not (check.id == "server" and self._around.reachable() is False):
                    self._around.tell(messages.failing(check, environment, now))
            elif check.state in (OK, WARN) and (began := self._told.pop(check.id, None)) is not None:
                self._around.tell(messages.works(check, environment, began, now))

    def _record(self, check: Check, was: HealthState | None) -> None:
        detail: dict[str, str | int | float | bool | None] = {
            "check": check.id, "state": str(check.state), "before": str(was) if was is not None else "", "text": check.text[:2000],
        }  # fmt: skip
        entry = AuditEntry(AuditEvent.HEALTH, environment=self._settings.effective_environment, outcome=str(check.state), detail=detail)
        self._around.record.submit(entry, late=True).add_done_callback(_recorded)

    def _tell_bypass(self, found: tuple[Bypasser, ...]) -> None:
        now_s = time.monotonic()
        self._told_bypass = {k: at for k, at in self._told_bypass.items() if now_s - at < _TOLD_AGAIN_S}
        fresh = [b for b in found if b.key not in self._told_bypass]
        if fresh:
            self._told_bypass |= dict.fromkeys((b.key for b in fresh), now_s)
            for b in fresh:
                _log.warning("session past pghold", role=b.role, database=b.database, client_addr=b.address, pid=b.pid)
            self._around.tell(messages.bypass(fresh, str(self._settings.effective_environment), self._clock.now()))


class _asking:  # small: it reads as a statement
    """What one check asks; when the server refuses, that check is unknown, and the next goes on."""

    def __init__(self, checks: list[Check], check_id: str) -> None:
        self._checks = checks
        self._id = check_id

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, psycopg.Error) and not isinstance(error, psycopg.OperationalError):
            self._checks.append(Check(self._id, UNKNOWN, f"the server refused to say: {first_line(error)}"))
            return True
        if isinstance(error, psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable):
            self._checks.append(Check(self._id, UNKNOWN, f"the server did not say in time: {first_line(error)}"))
            return True
        return False


async def _each(connection: Connection, database: str, tables: list[tuple[str, str]], bad: list[str], unknown: list[str]) -> None:
    for schema, table in tables:
        try:
            state, text = await server.critical(connection, schema, table)
        except psycopg.Error as error:
            if connection.closed:
                raise
            unknown.append(f"{database}.{schema}.{table}: {first_line(error)}")
            continue
        if state is not OK:
            bad.append(f"{database}.{text}")


def _of_holds(holds: Iterable[Hold], now: datetime, moment: timedelta, busy: set[SessionId]) -> list[tuple[datetime, Announced]]:
    """Of those that were approved and ran. `busy`: sessions that may still be in the transaction in which theirs did."""
    found = []
    for hold in holds:
        ran = hold.state in (HoldState.RELEASED, HoldState.DONE, HoldState.ABANDONED)
        # Of several statements, those before the one that failed may have been committed.
        ran = ran or (hold.state is HoldState.FAILED and len(hold.request.statements) > 1)
        if not ran or hold.decision is None or not hold.decision.approved:
            continue
        seen = hold.sight.objects if hold.sight is not None else ()
        oids = frozenset(o.oid for o in seen)
        # What was seen is known by its oid: its name says nothing of a later table that is called the same.
        asked = {o.asked for o in seen if o.kind != "schema"}
        at = hold.ended_at or now
        lately = now - at < _NAMED
        statements = tuple(
            (s.kind, tuple(r for r in s.relations if r not in asked))
            for s in hold.request.statements
            if lately or s.kind == "DROP DATABASE"
        )
        if lately and not hold.request.statements:
            statements = (("UNKNOWN", ()),)
        text = f"hold {hold.id}, approved by {hold.decision.operator}"
        fresh = now - at < moment or hold.request.requester.session_id in busy
        found.append((at, Announced(hold.request.requester.database, statements, oids, text, fresh)))
    return found


def _since(check: Check, before: Check | None, now: datetime) -> Check:
    same = before is not None and before.state is check.state and before.since is not None
    return check.began(before.since if same and before is not None and before.since is not None else now)


def _recorded(future: asyncio.Future[None]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        _log.warning("not recorded", error=str(error))
