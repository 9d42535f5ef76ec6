"""Runs the copy of one session's held statement beside the session: the core asks for it, and is told how it went."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Final

from proxy.backups.model import CopyOrder, CopyPlan, ProtectError
from proxy.backups.seams import Protector
from proxy.commands import Command, DescribeCopy, KeepRows, PlanCopy, StopCopy, TakeCopy, TellCopied
from proxy.events import CopyFailed, CopyPlanned, CopyProgressed, CopyTaken, Event
from proxy.model import CopyState
from proxy.tasks import Tasks

#: Rows that wait to be kept; with more than this the server is not read.
_PILE_BYTES: Final = 4 << 20
#: How often people are told how far a copy is.
_TELL_S: Final = 1.0


class Rows:
    """What the session copies itself, on its way to the copy."""

    def __init__(self, full: Callable[[bool], None]) -> None:
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._bytes = 0
        self._is_full = False
        self._full = full

    def put(self, data: bytes) -> None:
        """Empty: that was all."""
        self._queue.put_nowait(data)
        self._bytes += len(data)
        if self._bytes > _PILE_BYTES and not self._is_full:
            self._is_full = True
            self._full(True)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._take()

    async def _take(self) -> AsyncIterator[bytes]:
        while data := await self._queue.get():
            self._bytes -= len(data)
            if self._is_full and self._bytes <= _PILE_BYTES // 2:
                self._is_full = False
                self._full(False)
            yield data

    def close(self) -> None:
        if self._is_full:
            self._is_full = False
            self._full(False)


class Copying:
    """Attributes are the session's: `report` takes events, `perform` the commands that nothing waits for."""

    __slots__ = ("_full", "_perform", "_protector", "_report", "_rows", "_task", "_tasks", "_told_at")

    def __init__(
        self,
        protector: Protector,
        tasks: Tasks,
        report: Callable[[Event], None],
        perform: Callable[[Command], None],
        full: Callable[[bool], None],
    ) -> None:
        self._protector = protector
        self._tasks = tasks
        self._report = report
        self._perform = perform
        self._full = full
        self._task: asyncio.Task[None] | None = None
        self._rows: Rows | None = None
        self._told_at = 0.0

    def perform(self, command: PlanCopy | TakeCopy | KeepRows | StopCopy | TellCopied) -> None:
        match command:
            case PlanCopy(order):
                self._begin(self._plan(order), f"plan the copy of hold {order.hold_id}")
            case TakeCopy(order, plan, has_rows):
                self._rows = Rows(self._full) if has_rows else None
                self._begin(self._take(order, plan, self._rows), f"copy of hold {order.hold_id}")
            case KeepRows(data):
                if self._rows is not None:
                    self._rows.put(data)
            case StopCopy():
                self.stop()
            case TellCopied(order, copied, outcome, failed):
                self._tasks.spawn(self._protector.ended(order, copied, outcome, failed), f"outcome of hold {order.hold_id}")

    def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        if self._rows is not None:
            self._rows.close()
            self._rows = None

    def _begin(self, work: Coroutine[None, None, None], name: str) -> None:
        self.stop_task()
        self._task = self._tasks.spawn(work, name)

    def stop_task(self) -> None:
        task, self._task = self._task, None
        if task is not None and not task.done():
            task.cancel()

    async def _plan(self, order: CopyOrder) -> None:
        hold_id = order.hold_id
        try:
            plan = await self._protector.plan(order)
        except ProtectError as error:
            self._answer(CopyFailed(hold_id, str(error)))
        except Exception as error:
            # Safety: whatever goes wrong, nothing runs unprotected.
            self._answer(CopyFailed(hold_id, f"the copy could not be planned ({type(error).__name__})"))
            raise
        else:
            self._answer(CopyPlanned(hold_id, plan))

    async def _take(self, order: CopyOrder, plan: CopyPlan, rows: Rows | None) -> None:
        hold_id = order.hold_id
        try:
            copied = await self._protector.copy(
                order, plan, aiter(rows) if rows is not None else None, lambda text: self._tell(order, plan, text)
            )
        except ProtectError as error:
            self._answer(CopyFailed(hold_id, str(error)))
        except Exception as error:
            self._answer(CopyFailed(hold_id, f"the copy failed ({type(error).__name__})"))
            raise
        else:
            if not order.part:
                self._perform(DescribeCopy(hold_id, copied.state(plan.kind)))
            self._answer(CopyTaken(hold_id, copied))
        finally:
            if rows is not None:
                rows.close()

    def _answer(self, event: CopyPlanned | CopyTaken | CopyFailed) -> None:
        self._task = None
        self._report(event)

    def _tell(self, order: CopyOrder, plan: CopyPlan, text: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._told_at < _TELL_S:
            return
        self._told_at = now
        if not order.part:
            self._perform(DescribeCopy(order.hold_id, CopyState(0, str(plan.kind), "running", text)))
        self._report(CopyProgressed(order.hold_id, text))
