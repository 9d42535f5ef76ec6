"""Runs one session core on two transports: reports events to it, performs its commands in order.

The fast path is synchronous: a chunk comes in, the core says that nothing is to be decided, the chunk is written to the peer. Only
commands that must wait for something (the audit log, the store, a long judgement) start a task; while it runs, `_busy` is set and
events queue in `_inbox`, so that the core is never entered twice and nothing overtakes.

Flow control: a transport whose write buffer is full stops the reading of its peer, in both directions. Reading the frontend also
stops when the core says so (its high-water mark while a script is held) and when too much has queued in the inbox.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol

from policy.context import Context
from policy.judgement import Judgement
from proxy.backups.seams import Protector
from proxy.commands import (
    CloseSession,
    Command,
    Count,
    DescribeCopy,
    DescribeHold,
    ExpireHold,
    JudgeScript,
    KeepRows,
    MoveHold,
    Note,
    OpenHold,
    PauseFrontend,
    PlanCopy,
    Record,
    ResumeFrontend,
    SendToBackend,
    SendToFrontend,
    StartTimer,
    StopCopy,
    StopTimer,
    TakeCopy,
    Tell,
    TellCopied,
    TellPart,
)
from proxy.copying import Copying
from proxy.core import Core
from proxy.events import (
    BackendLost,
    BackendSent,
    CancelRequested,
    Event,
    FrontendLost,
    FrontendSent,
    Granted,
    HoldMoved,
    HoldOpened,
    HoldResolved,
    Judged,
    KillRequested,
    OpenFailed,
    Recorded,
    RecordFailed,
    StopRequested,
    Timer,
    TimerFired,
)
from proxy.held import CoreSettings
from proxy.judging import SessionJudge
from proxy.knowledge import Knowledge
from proxy.model import AuditEntry, AuditEvent, Decision, HoldId, HoldRequest, HoldState, Requester, SessionInfo
from proxy.seams import AuditError, AuditLog, Clock, Grants, HoldBook, StoreError
from proxy.tasks import Tasks

#: A write buffer over this pauses the peer. With one chunk in flight on each side it bounds what a session can buffer.
WRITE_HIGH_WATER_BYTES: Final = 256 << 10
#: The same for events that queue while the core waits for the audit log or the store.
INBOX_HIGH_WATER_BYTES: Final = 512 << 10
#: How long a closing transport may take to flush to a peer that does not read.
FLUSH_TIMEOUT_S: Final = 5.0
#: Records of what did not run; any other that fails turns what it was about into a denial.
_REFUSALS: Final = frozenset(
    {AuditEvent.DENIED_BY_POLICY, AuditEvent.DENIED, AuditEvent.EXPIRED, AuditEvent.WITHDRAWN, AuditEvent.ABANDONED}
)


_Chore = MoveHold | DescribeHold | DescribeCopy | asyncio.Future[None]


class Counters(Protocol):
    """The metrics that sessions feed one by one; bytes and allowed scripts are added up by `Totals`."""

    def judged(self, verdict: str, rule_ids: tuple[str, ...]) -> None: ...

    def protocol_violation(self, kind: str) -> None: ...


class Totals:
    """Sums over sessions that have ended; the live ones are added when somebody asks."""

    __slots__ = ("allowed", "bytes_from_backend", "bytes_from_frontend")

    def __init__(self) -> None:
        self.allowed = 0
        self.bytes_from_frontend = 0
        self.bytes_from_backend = 0


@dataclass(frozen=True, slots=True)
class SessionRuntime:
    """What all sessions of a process share.

    Attributes:
        log: one line about a session, as event name and fields without user data.
        on_closed: called once, when both links of a session are gone.
        on_change: told of DDL that passed; asked for by View.announces only.
    """

    book: HoldBook
    grants: Grants
    protector: Protector
    audit: AuditLog
    counters: Counters
    settings: CoreSettings
    clock: Clock
    tasks: Tasks
    totals: Totals
    log: Callable[..., None]
    on_closed: Callable[[Session], None]
    on_change: Callable[[Requester, Judgement], None]


class Session:
    """One frontend link and its backend link, from the first ReadyForQuery on.

    Attributes:
        frontend_link, backend_link: the protocols to set on the two transports.
    """

    def __init__(
        self,
        *,
        runtime: SessionRuntime,
        frontend: asyncio.Transport,
        backend: asyncio.Transport,
        requester: Requester,
        context: Context,
        judge: SessionJudge,
        settings_seen: dict[str, str],
        tls: bool,
        started_at: datetime,
        rejects: bool = False,
    ) -> None:
        self.requester = requester
        self.tls = tls
        self.started_at = started_at
        self.process_id: int | None = None
        self.bytes_from_frontend = 0
        self.bytes_from_backend = 0
        self._runtime = runtime
        self._judge = judge
        self._frontend = frontend
        self._backend = backend
        knowledge = Knowledge(context, judge)
        for name, value in settings_seen.items():
            knowledge.parameter_status(name, value)
        self.core = Core(judge=judge, knowledge=knowledge, requester=requester, settings=runtime.settings, rejects=rejects)
        self.frontend_link = FrontendLink(self)
        self.backend_link = BackendLink(self)
        self._busy = False
        self._inbox: deque[Event] = deque()
        self._inbox_bytes = 0
        self._timers: dict[Timer, asyncio.TimerHandle] = {}
        self._copying = Copying(runtime.protector, runtime.tasks, self.report, self._perform_now, self._rows_pile)
        self._rows_full = False
        self._chores: deque[_Chore] = deque()
        self._chore_task: asyncio.Task[None] | None = None
        self._links = 2
        self._closing = False
        self._half_closed = False
        self._core_paused = False
        self._backend_full = False
        self._inbox_full = False
        self._frontend_full = False
        for transport in (frontend, backend):
            transport.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)

    # --- for the server -----------------------------------------------------------------------------------------

    def start(self, backend_bytes: bytes = b"", frontend_bytes: bytes = b"") -> None:
        """Begin relaying; `backend_bytes` came behind the first ReadyForQuery, `frontend_bytes` ahead of it."""
        if backend_bytes:
            self.backend_sent(backend_bytes)
        if frontend_bytes:
            self.frontend_sent(frontend_bytes)

    @property
    def has_hold(self) -> bool:
        return self.core.has_hold

    @property
    def has_step(self) -> bool:
        return self.core.has_step

    def cancel_requested(self) -> None:
        self.report(CancelRequested())

    def stop_requested(self) -> None:
        self.report(StopRequested())

    def kill(self, operator: str) -> None:
        self.report(KillRequested(operator))

    def info(self) -> SessionInfo:
        return SessionInfo(
            id=self.requester.session_id,
            requester=self.requester,
            started_at=self.started_at,
            state=self.core.state,
            hold_id=self.core.hold_id,
            tls=self.tls,
            bytes_from_frontend=self.bytes_from_frontend,
            bytes_from_backend=self.bytes_from_backend,
        )

    # --- events -------------------------------------------------------------------------------------------------

    def frontend_sent(self, chunk: bytes) -> None:
        self.bytes_from_frontend += len(chunk)
        if self._busy:
            self._queue(FrontendSent(chunk), len(chunk))
            return
        commands = self.core.frontend_sent(chunk)
        if commands is None:
            self._backend.write(chunk)
        else:
            self._perform(commands)

    def backend_sent(self, chunk: bytes) -> None:
        self.bytes_from_backend += len(chunk)
        if self._busy:
            self._queue(BackendSent(chunk), len(chunk))
            return
        commands = self.core.backend_sent(chunk)
        if commands is None:
            self._frontend.write(chunk)
        else:
            self._perform(commands)

    def report(self, event: Event) -> None:
        if self._busy:
            self._queue(event, 0)
        else:
            self._perform(self.core.handle(event))

    def _queue(self, event: Event, size: int) -> None:
        self._inbox.append(event)
        self._inbox_bytes += size
        if self._inbox_bytes > INBOX_HIGH_WATER_BYTES and not self._inbox_full:
            self._inbox_full = True
            self._steer_reading()

    # --- commands -----------------------------------------------------------------------------------------------

    def _perform(self, commands: list[Command]) -> None:
        """Perform commands up to the first that must wait; a task does the rest."""
        for index, command in enumerate(commands):
            if isinstance(command, (Record, OpenHold, ExpireHold, JudgeScript)):
                self._busy = True
                self._runtime.tasks.spawn(self._perform_rest(commands[index:]), f"session {self.requester.session_id}")
                return
            self._perform_now(command)

    async def _perform_rest(self, commands: list[Command]) -> None:
        try:
            answers: deque[Event] = deque()
            await self._perform_in_order(commands, answers)
            while answers or self._inbox:
                event = answers.popleft() if answers else self._take_from_inbox()
                await self._perform_in_order(self.core.handle(event), answers)
        except BaseException:
            # Safety: whatever went wrong, nothing more is forwarded on this session.
            self._abort()
            raise
        finally:
            self._busy = False

    def _take_from_inbox(self) -> Event:
        event = self._inbox.popleft()
        if isinstance(event, (FrontendSent, BackendSent)):
            self._inbox_bytes -= len(event.chunk)
            if self._inbox_full and self._inbox_bytes <= INBOX_HIGH_WATER_BYTES // 2:
                self._inbox_full = False
                self._steer_reading()
        return event

    async def _perform_in_order(self, commands: list[Command], answers: deque[Event]) -> None:
        for command in commands:
            match command:
                case Record(entry):
                    answers.append(await self._record(entry))
                case OpenHold(request):
                    try:
                        answers.append(await self._open(request))
                    except StoreError as error:
                        self._runtime.log("hold not stored", session=int(self.requester.session_id), error=str(error))
                        answers.append(OpenFailed(str(error)))
                case ExpireHold(hold_id):
                    answers.append(await self._expire(hold_id))
                case JudgeScript(script, context):
                    answers.append(Judged(await self._judge.judge_elsewhere(script, context)))
                case _:
                    self._perform_now(command)

    async def _open(self, request: HoldRequest) -> Event:
        """A decision that was taken ahead is used up; else the hold waits for one. Raises StoreError."""
        used = await self._runtime.grants.use(request)
        if used is not None:
            assert used.decision is not None
            return Granted(used.id, used.decision, used.sight)
        asked = None if request.waits else self._runtime.grants.asked_before(request)
        hold = asked or await self._runtime.book.open(request, self._on_decision if request.waits else None)
        return HoldOpened(hold.id)

    async def _record(self, entry: AuditEntry) -> Event:
        try:
            await self._runtime.audit.append(entry)
        except AuditError as error:
            self._runtime.log("audit log failed", session=int(self.requester.session_id), error=str(error))
            # What it was to record is refused now; that goes on record when the log works again.
            event = entry.event if entry.event in _REFUSALS else AuditEvent.DENIED
            self._chore(self._runtime.audit.submit(replace(entry, event=event, outcome=f"refused: {error}"), late=True))
            return RecordFailed(str(error))
        return Recorded()

    async def _expire(self, hold_id: HoldId) -> HoldMoved:
        try:
            return HoldMoved(hold_id, await self._runtime.book.move(hold_id, HoldState.EXPIRED, "expired"))
        except StoreError as error:
            # Nobody can decide while the store is away, so it expires; the store learns of it at the next start.
            self._runtime.log("expiry not stored", session=int(self.requester.session_id), error=str(error))
            return HoldMoved(hold_id, True)

    def _perform_now(self, command: Command) -> None:
        match command:
            case SendToFrontend(data):
                if not self._frontend.is_closing():
                    self._frontend.write(data)
            case SendToBackend(data):
                if not self._backend.is_closing():
                    self._backend.write(data)
            case Count(verdict, rule_ids):
                self._runtime.counters.judged(verdict, rule_ids)
            case Tell(requester, judgement):
                self._runtime.on_change(requester, judgement)
            case Note(entry):
                self._chore(self._runtime.audit.submit(entry, late=True))
            case MoveHold() | DescribeHold() | DescribeCopy():
                self._chore(command)
            case PlanCopy() | TakeCopy() | KeepRows() | StopCopy() | TellCopied():
                self._copying.perform(command)
            case StartTimer(timer, after_s):
                self._stop_timer(timer)
                loop = asyncio.get_running_loop()
                self._timers[timer] = loop.call_later(after_s, self._timer_fired, timer)
            case StopTimer(timer):
                self._stop_timer(timer)
            case PauseFrontend():
                self._core_paused = True
                self._steer_reading()
            case ResumeFrontend():
                self._core_paused = False
                self._steer_reading()
            case CloseSession(why):
                self._close(why)
            case TellPart() | Record() | OpenHold() | ExpireHold() | JudgeScript():
                raise AssertionError("must be awaited")

    def _rows_pile(self, full: bool) -> None:
        """The rows of a copy come faster than they are kept."""
        self._rows_full = full
        self._steer_reading()

    def _chore(self, chore: _Chore) -> None:
        """What must happen in order, but holds nobody up."""
        self._chores.append(chore)
        if self._chore_task is None:
            self._chore_task = self._runtime.tasks.spawn(self._do_chores(), f"chores {self.requester.session_id}")

    async def _do_chores(self) -> None:
        try:
            while self._chores:
                chore = self._chores.popleft()
                try:
                    if isinstance(chore, MoveHold):
                        await self._runtime.book.move(chore.hold_id, chore.to, chore.outcome)
                    elif isinstance(chore, DescribeHold):
                        await self._runtime.book.describe(chore.hold_id, chore.sight)
                    elif isinstance(chore, DescribeCopy):
                        await self._runtime.book.copied(chore.hold_id, chore.copy)
                    else:
                        await chore
                except (StoreError, AuditError) as error:
                    self._runtime.log("not recorded", session=int(self.requester.session_id), error=str(error))
        finally:
            self._chore_task = None

    def _on_decision(self, hold_id: HoldId, decision: Decision) -> None:
        self.report(HoldResolved(hold_id, decision))

    # --- timers, flow control, the end --------------------------------------------------------------------------

    def _stop_timer(self, timer: Timer) -> None:
        handle = self._timers.pop(timer, None)
        if handle is not None:
            handle.cancel()

    def _timer_fired(self, timer: Timer) -> None:
        self._timers.pop(timer, None)
        self.report(TimerFired(timer))

    def _steer_reading(self) -> None:
        _set_reading(self._frontend, not (self._core_paused or self._backend_full or self._inbox_full))
        _set_reading(self._backend, not (self._frontend_full or self._inbox_full or self._rows_full))

    def backend_full(self, full: bool) -> None:
        self._backend_full = full
        self._steer_reading()

    def frontend_full(self, full: bool) -> None:
        self._frontend_full = full
        self._steer_reading()

    def frontend_eof(self) -> bool:
        """The frontend will send nothing more. As PostgreSQL does, finish what it has sent; True keeps the link open.

        While something is held, though, EOF means that nobody waits for the answer.
        """
        core = self.core
        if core.is_occupied or self._busy or not core.tracker.requests or not self._backend.can_write_eof():
            return False
        self._half_closed = True
        self._backend.write_eof()
        return True

    def frontend_lost(self) -> None:
        self._links -= 1
        if self._links:
            self.report(FrontendLost())
        self._finish()

    def backend_lost(self, reason: str) -> None:
        self._links -= 1
        if self._links:
            self.report(FrontendLost() if self._half_closed else BackendLost(reason))
        self._finish()

    def _close(self, why: str) -> None:
        if self._closing:
            return
        self._closing = True
        self._runtime.log("session closed", session=int(self.requester.session_id), why=why)
        if why.startswith("protocol violation"):
            self._runtime.counters.protocol_violation("session")
        loop = asyncio.get_running_loop()
        for transport in (self._frontend, self._backend):
            transport.close()
            loop.call_later(FLUSH_TIMEOUT_S, _abort_if_open, transport)

    def _abort(self) -> None:
        self._closing = True
        self._copying.stop()
        for transport in (self._frontend, self._backend):
            transport.abort()

    def _finish(self) -> None:
        if self._links:
            return
        for timer in list(self._timers):
            self._stop_timer(timer)
        self._copying.stop()
        totals = self._runtime.totals
        totals.allowed += self.core.allowed
        totals.bytes_from_frontend += self.bytes_from_frontend
        totals.bytes_from_backend += self.bytes_from_backend
        self._runtime.on_closed(self)


def _set_reading(transport: asyncio.Transport, reading: bool) -> None:
    if transport.is_closing() or transport.is_reading() == reading:
        return
    if reading:
        transport.resume_reading()
    else:
        transport.pause_reading()


def _abort_if_open(transport: asyncio.Transport) -> None:
    # is_closing() says only that close() was called; abort() of a transport that is gone does nothing.
    transport.abort()


class FrontendLink(asyncio.Protocol):
    """The frontend's transport, as the session sees it."""

    __slots__ = ("_session", "data_received")

    def __init__(self, session: Session) -> None:
        self._session = session
        self.data_received = session.frontend_sent  # type: ignore[method-assign, assignment]  # one call less on the hot path

    def eof_received(self) -> bool:
        return self._session.frontend_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self._session.frontend_lost()

    def pause_writing(self) -> None:
        self._session.frontend_full(True)

    def resume_writing(self) -> None:
        self._session.frontend_full(False)


class BackendLink(asyncio.Protocol):
    """The backend's transport, as the session sees it."""

    __slots__ = ("_session", "data_received")

    def __init__(self, session: Session) -> None:
        self._session = session
        self.data_received = session.backend_sent  # type: ignore[method-assign, assignment]  # one call less on the hot path

    def connection_lost(self, exc: Exception | None) -> None:
        self._session.backend_lost("" if exc is None else str(exc))

    def pause_writing(self) -> None:
        self._session.backend_full(True)

    def resume_writing(self) -> None:
        self._session.backend_full(False)
