"""Errands: what pghold itself does on the server (an undo, a restore, a purge), held and decided on like any dangerous statement.

An errand is asked for by an operator, opens a hold in which its script can be read, and waits. Approved, it is on record before anything is
sent; then it is `released`, runs on a connection of pghold's own, and ends as `done` or `failed`. Denied, expired, or the proxy stopping:
nothing was sent. Whoever asked may also approve: he decides on pghold's statement, not on one of his own program's (approvals.why_not).

What an errand destroys is copied first, like what a client's statement destroys: it says `destroys=True` and asks for the copy when it has locked
what it is about (Work.protect).

A process that dies leaves the hold open in the store; the next start abandons it (SqlHoldBook.recover). Errands change the server in
one transaction, so that there is nothing half done.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

import psycopg

from policy import Context, Engine
from proxy.approvals import why_not
from proxy.backups.model import Copied, CopyKind, CopyOrder, CopyPlan, ProtectError
from proxy.backups.seams import Protector, Unprotected
from proxy.config import Settings
from proxy.control import Control, ControlError, first_line
from proxy.impact.model import Consequences
from proxy.model import (
    AuditEntry,
    AuditEvent,
    CopyState,
    Decision,
    ErrandKind,
    HeldFinding,
    HeldStatement,
    Hold,
    HoldId,
    HoldRequest,
    HoldState,
    Operator,
    Requester,
    SessionId,
)
from proxy.records import about
from proxy.seams import AuditError, AuditLog, HoldBook, StoreError
from proxy.tasks import Tasks

#: HoldRequest.protocol of an errand's hold: no client waits for it, and none can send it again.
PROTOCOL: Final = "errand"
#: At the end a running errand is broken off, and again when it has not ended after so long.
_STOP_S: Final = 2.0
_STOP_TRIES: Final = 4


class ErrandError(Exception):
    """It cannot be done, or it failed and nothing was changed. The message is for people."""


class ErrandRefusedError(ErrandError):
    """This operator may not ask for it."""


@dataclass(frozen=True, slots=True)
class Errand:
    """What is to be done.

    Attributes:
        script: the SQL that will run, for people to read; counts and rows that are not in it are told in comments.
        message: what it does, in one sentence without a full stop.
        run: does it; returns the outcome for people ("12 rows put back"). Raises ErrandError, ControlError, psycopg.Error, ProtectError.
        relations: that it changes, qualified and quoted.
        of: the hold whose statement it takes back.
        severity: low, medium, high or critical.
        irreversible: it cannot be taken back; whoever approves types the name of a relation.
        destroys: something can be lost. `run` must then await Work.protect or Work.release before it changes anything; else it is
            released before `run` is called.
        consequences: what is foreseen, for the card.
        expires_in_s: how long it waits; None: as long as any hold.
    """

    kind: ErrandKind
    database: str
    script: str
    message: str
    run: Callable[[Work], Awaitable[str]]
    relations: tuple[str, ...] = ()
    of: HoldId | None = None
    hint: str = ""
    severity: str = "high"
    irreversible: bool = False
    destroys: bool = False
    consequences: Consequences | None = None
    expires_in_s: float | None = None


class Work:
    """An approved errand while it runs."""

    def __init__(self, errands: Errands, errand: Errand, hold: Hold, decision: Decision) -> None:
        self.errand = errand
        self.hold = hold
        self.decision = decision
        self.copied: Copied | None = None
        self.order: CopyOrder | None = None
        self._errands = errands
        self._released = False
        self._commits = False

    def progress(self, text: str) -> None:
        """How far it is, for people."""
        self._errands.tell(self.hold, text)

    async def protect(self, script: str = "", plan: CopyPlan | None = None, rows: AsyncIterator[bytes] | None = None) -> Copied | None:
        """Copy what it destroys, then release it; None when nothing can be lost, or nobody wants a copy.

        `script`: SQL that destroys as much as the errand does, names qualified; default: the errand's own. `plan` and `rows`: as in Protector.copy, where
        the errand knows better than a planner. Raises ProtectError, StoreError, AuditError.
        """
        self.copied = await self._errands.protect(self, script or self.errand.script, plan, rows)
        await self.release()
        return self.copied

    async def release(self) -> None:
        """From now on it may change the server. Raises StoreError, AuditError, ErrandError."""
        if not self._released:
            await self._errands.move(self, HoldState.RELEASED)
            # Whatever happens from here on, it ends as one that was released.
            self._released = True
            await self._errands.record_release(self)

    def commits(self) -> None:
        """Said just before the COMMIT: if the connection is lost from here on, nobody knows what became of it."""
        self._commits = True

    def is_in_doubt(self, error: BaseException) -> bool:
        """Whether this error leaves open what was committed: one that the server did not send."""
        cause = error if isinstance(error, psycopg.Error) else error.__cause__
        ended = isinstance(cause, psycopg.OperationalError) and (cause.sqlstate is None or cause.sqlstate.startswith(("57P", "08")))
        return self._commits and ended

    @property
    def is_released(self) -> bool:
        return self._released


class Errands:
    """Opens, decides the fate of, and runs errands.

    Attributes:
        protector: takes copies; set once when the process is wired.
        log: for what cannot be told to anybody.
    """

    def __init__(
        self,
        settings: Settings,
        book: HoldBook,
        audit: AuditLog,
        control: Control,
        log: Callable[..., object],
        protector: Protector | None = None,
    ) -> None:
        self.protector: Protector = protector or Unprotected()
        self._settings = settings
        self._book = book
        self._audit = audit
        self._control = control
        self._log = log
        self._tasks = Tasks(self._task_failed)
        self._told: dict[HoldId, str] = {}
        self._engine = Engine()

    def _task_failed(self, name: str, error: BaseException) -> None:
        self._log("errand failed", errand=name, error=f"{type(error).__name__}: {error}")

    async def submit(self, errand: Errand, operator: Operator | None, *, reason: str = "", client_addr: str = "") -> Hold:
        """Open its hold and return; it runs once it is approved. `operator` None: pghold itself asks.

        Raises ErrandRefusedError, StoreError (HoldsFullError), AuditError.
        """
        request = self._request(errand, operator, client_addr)
        if operator is not None and (problem := why_not(operator, request)):
            raise ErrandRefusedError(problem)
        decided: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()

        def on_decision(_: HoldId, decision: Decision) -> None:
            if not decided.done():
                decided.set_result(decision)

        hold = await self._book.open(request, on_decision)
        asked = operator.name if operator is not None else "pghold"
        try:
            await self._audit.append(self._entry(AuditEvent.HELD, errand, hold, operator=asked, reason=reason))
            if errand.consequences is not None:
                await self._book.foresee(hold.id, errand.consequences)
        except (AuditError, StoreError):
            await self._book.move(hold.id, HoldState.WITHDRAWN, "it could not be put on record")
            raise
        self._tasks.spawn(self._follow(errand, hold, decided), f"{errand.kind} {hold.id}")
        return hold

    def progress(self, hold_id: HoldId) -> str:
        """How far a running errand is; empty when none runs."""
        return self._told.get(hold_id, "")

    async def close(self) -> None:
        """The process stops: what waits is withdrawn, what runs is broken off, and its transaction with it."""
        for _ in range(_STOP_TRIES):
            # More than once: a cancel request that overtakes its query is lost, and then the query is waited for.
            for task in (running := self._tasks.running):
                task.cancel()
            if not running or not (await asyncio.wait(running, timeout=_STOP_S))[1]:
                return

    # --- one errand ---------------------------------------------------------------------------------------------

    async def _follow(self, errand: Errand, hold: Hold, decided: asyncio.Future[Decision]) -> None:
        try:
            async with asyncio.timeout(hold.request.expires_in_s):
                decision = await decided
        except TimeoutError:
            if await self._book.move(hold.id, HoldState.EXPIRED, "expired"):
                await self._audit.append(about(AuditEvent.EXPIRED, hold, outcome="expired"))
                return
            decision = await decided  # it was decided in the same moment
        except asyncio.CancelledError:
            await self._withdraw(hold, "the proxy stopped while it waited")
            raise
        if not decision.approved:
            await self._audit.append(about(AuditEvent.DENIED, hold, operator=decision.operator, reason=decision.reason))
            return
        try:
            # Safety: on record before it takes effect (test_errands: an audit log that fails).
            await self._audit.append(self._entry(AuditEvent.APPROVED, errand, hold, operator=decision.operator, reason=decision.reason))
        except AuditError as error:
            await self._book.move(hold.id, HoldState.WITHDRAWN, f"not recorded, and so not run: {error}")
            return
        except asyncio.CancelledError:
            await self._withdraw(hold, "the proxy stopped before it ran")
            raise
        await self._carry_out(errand, replace(hold, decision=decision, state=HoldState.APPROVED), decision)

    async def _carry_out(self, errand: Errand, hold: Hold, decision: Decision) -> None:
        work = Work(self, errand, hold, decision)
        failed = True
        try:
            if not errand.destroys:
                await work.release()
            outcome = await errand.run(work)
            await work.release()
            failed = False
        except asyncio.CancelledError:
            if work.is_released:
                why = "the proxy stopped while it ran: its outcome is not known"
                if await self._book.move(hold.id, HoldState.ABANDONED, why):
                    self._late(self._entry(AuditEvent.ABANDONED, errand, hold, outcome=why))
            else:
                await self._withdraw(hold, "the proxy stopped before it ran")
            raise
        except ProtectError as error:
            outcome = f"no copy could be made, and so it did not run: {error}"
        except (ErrandError, ControlError, StoreError, AuditError, psycopg.Error) as error:
            outcome = first_line(error)
            if work.is_in_doubt(error):
                await self._in_doubt(work, outcome)
                return
        except Exception as error:
            # An edge like that around a session: whatever it is, the hold must end, and not as done.
            self._log("errand failed", errand=f"{errand.kind} {hold.id}", error=f"{type(error).__name__}: {error}")
            outcome = f"internal error: {type(error).__name__}"
        finally:
            self._told.pop(hold.id, None)
        await self._end(work, outcome, failed)

    async def _in_doubt(self, work: Work, why: str) -> None:
        told = f"the connection was lost while it was being committed, so that its outcome is not known: {why}"
        self._late(self._entry(AuditEvent.ABANDONED, work.errand, work.hold, outcome=told))
        await self._book.move(work.hold.id, HoldState.ABANDONED, told)

    async def _end(self, work: Work, outcome: str, failed: bool) -> None:
        errand, hold = work.errand, work.hold
        state = HoldState.DONE if not failed else HoldState.FAILED if work.is_released else HoldState.DENIED
        event = AuditEvent.DENIED if state is HoldState.DENIED else AuditEvent.OUTCOME
        # It has happened: kept for later where the log cannot be written now.
        self._late(self._entry(event, errand, hold, operator=work.decision.operator, outcome=outcome))
        if not failed and errand.kind is not ErrandKind.PURGE:
            self._late(self._entry(AuditEvent.GIVEN_BACK, errand, hold, operator=work.decision.operator, outcome=outcome))
        await self._book.move(hold.id, state, outcome)
        if work.copied is not None and work.order is not None:
            try:
                await self.protector.ended(work.order, work.copied, outcome, failed)
            except (ProtectError, StoreError, AuditError) as error:
                self._log("copy of an errand not ended", errand=f"{errand.kind} {hold.id}", error=str(error))

    async def _withdraw(self, hold: Hold, why: str) -> None:
        if await self._book.move(hold.id, HoldState.WITHDRAWN, why):
            self._late(about(AuditEvent.WITHDRAWN, hold, outcome=why))

    def _late(self, entry: AuditEntry) -> None:
        # Nobody waits for it, and its failure is the log's own business.
        self._audit.submit(entry, late=True).add_done_callback(lambda done: done.cancelled() or done.exception())

    # --- for Work -----------------------------------------------------------------------------------------------

    def tell(self, hold: Hold, text: str) -> None:
        self._told[hold.id] = text

    async def move(self, work: Work, to: HoldState) -> None:
        """Raises StoreError, ErrandError."""
        if not await self._book.move(work.hold.id, to):
            raise ErrandError("its hold has ended meanwhile")

    async def record_release(self, work: Work) -> None:
        """Raises AuditError."""
        await self._audit.append(self._entry(AuditEvent.RELEASED, work.errand, work.hold, operator=work.decision.operator))

    async def protect(self, work: Work, script: str, plan: CopyPlan | None, rows: AsyncIterator[bytes] | None) -> Copied | None:
        """Raises ProtectError, StoreError, AuditError, ErrandError."""
        hold = work.hold
        why = "" if self._settings.backup_before_danger else "copies are switched off"
        if work.decision.without_backup:
            why = f"{work.decision.operator} waived it"
        if not why:
            order = self._order(work, script)
            work.order = order
            await self.move(work, HoldState.PROTECTING)
            plan = plan or await self.protector.plan(order)
            if plan.kind is not CopyKind.NONE:
                return await self._copy(work, order, plan, rows)
            why = plan.why
        await self._audit.append(self._entry(AuditEvent.UNPROTECTED, work.errand, hold, operator=work.decision.operator, outcome=why))
        await self._book.copied(hold.id, CopyState(text=why))
        return None

    async def _copy(self, work: Work, order: CopyOrder, plan: CopyPlan, rows: AsyncIterator[bytes] | None) -> Copied:
        hold = work.hold
        await self._book.copied(hold.id, CopyState(kind=str(plan.kind), state="running", text=plan.why))
        try:
            copied = await self.protector.copy(order, plan, rows, work.progress)
        except ProtectError as error:
            await self._book.copied(hold.id, CopyState(kind=str(plan.kind), state="failed", text=str(error)))
            raise
        await self._audit.append(self._entry(AuditEvent.PROTECTED, work.errand, hold, outcome=copied.text))
        await self._book.copied(hold.id, copied.state(plan.kind))
        return copied

    def _order(self, work: Work, script: str) -> CopyOrder:
        data = script.encode()
        return CopyOrder(
            hold_id=work.hold.id,
            requester=work.hold.request.requester,
            environment=work.hold.request.environment,
            script=script,
            script_sha256=hashlib.sha256(data).hexdigest(),
            judgement=self._engine.judge(data, Context()),
            sight=None,
            search_path="",
            approvers=work.decision.approvers,
            reason=work.decision.reason,
        )

    # --- words --------------------------------------------------------------------------------------------------

    def _request(self, errand: Errand, operator: Operator | None, client_addr: str) -> HoldRequest:
        finding = HeldFinding(
            rule_id=str(errand.kind),
            message=errand.message,
            hint=errand.hint,
            statement=0,
            span=(0, 0),
            relations=errand.relations,
            severity=errand.severity,
            irreversible=errand.irreversible,
        )
        requester = Requester(
            session_id=SessionId(0),
            role=self._control.place.user or "postgres",
            database=errand.database,
            application_name=f"pghold {errand.kind}",
            client_addr=client_addr or (f"operator {operator.name}" if operator is not None else "pghold"),
        )
        return HoldRequest(
            requester=requester,
            environment=str(self._settings.effective_environment),
            script=errand.script,
            script_sha256=hashlib.sha256(errand.script.encode()).hexdigest(),
            rule_ids=(str(errand.kind),),
            findings=(finding,),
            statements=(HeldStatement(errand.kind.upper(), errand.script, errand.relations),),
            relations=errand.relations,
            protocol=PROTOCOL,
            in_transaction=False,
            expires_in_s=errand.expires_in_s or self._settings.hold_timeout_s,
            severity=errand.severity,
        )

    def _entry(
        self, event: AuditEvent, errand: Errand, hold: Hold, *, operator: str = "", reason: str = "", outcome: str = ""
    ) -> AuditEntry:
        entry = about(event, hold, operator=operator, reason=reason, outcome=outcome)
        return entry if errand.of is None else replace(entry, detail={**entry.detail, "of_hold": int(errand.of)})
