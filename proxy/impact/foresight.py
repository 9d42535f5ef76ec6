"""Finds out what each hold that opens would do, before anybody decides it.

It follows the hold book and asks on connections of pghold's own: a few workers, each with one connection that it keeps while the next hold is of the
same database. A hold never waits for it, and what it finds is for people: nothing is decided by it, but for blocking.py. Whatever fails is
said on the card.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

import psycopg

from policy import Context, Engine
from policy.preview import previews
from proxy.config import Settings
from proxy.control import YIELDS_S, Control, ControlError, first_line
from proxy.impact.blocking import Blocking
from proxy.impact.effects import Target, targets
from proxy.impact.model import Consequences
from proxy.impact.survey import Survey
from proxy.metrics import Metrics
from proxy.model import Hold, HoldId, HoldState
from proxy.policies import Policies
from proxy.seams import Clock, HoldBook, StoreError, UnknownHoldError

#: Holds looked into at the same time, and so connections.
_WORKERS: Final = 2
#: What is decided at once, by a program or ahead of time, is not looked into, and not held up by that.
_PAUSE_S: Final = 0.05
#: How long a hold may be without what its session sees before it is looked into all the same.
_SIGHT_S: Final = 1.0
#: A connection that nobody needs is kept for this long.
_IDLE_S: Final = 2.0
#: Holds that wait to be looked into; of more the oldest are left out.
_QUEUE: Final = 10_000
#: After a failure the same database is not tried again for this long.
_FAILED_S: Final = 10.0
#: Scripts longer than this are not taken apart here: it would keep the sessions waiting.
_SCRIPT_CHARACTERS: Final = 200_000
#: A hold is looked into for this many times the time limit of one question.
_QUESTIONS: Final = 4

Log = Callable[..., None]


@dataclass(slots=True)
class Found:
    """Counters.

    Attributes:
        foreseen, failed: holds; failed are those about which nothing could be found.
    """

    foreseen: int = 0
    failed: int = 0


@dataclass(slots=True)
class Foresight:
    """Args:
    timeout_s: of each question.
    exact_rows: tables estimated to be smaller are counted.
    """

    book: HoldBook
    control: Control
    timeout_s: float
    exact_rows: int
    blocking: Blocking
    log: Log
    found: Found = field(default_factory=Found)
    _engine: Engine = field(default_factory=Engine)
    _waiting: OrderedDict[HoldId, None] = field(default_factory=OrderedDict)
    _timers: dict[HoldId, asyncio.TimerHandle] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _failures: dict[tuple[str, str], tuple[float, str]] = field(default_factory=dict)
    _handled: OrderedDict[HoldId, None] = field(default_factory=OrderedDict)

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            while True:
                try:
                    async with asyncio.TaskGroup() as group:
                        for number in range(_WORKERS):
                            group.create_task(self._work(), name=f"foresight {number}")
                        group.create_task(self._follow(), name="foresight")
                        group.create_task(self.blocking.run(), name="blocking")
                except* Exception as errors:
                    # An edge: one hold that nobody thought of must not end this for all that follow.
                    for error in errors.exceptions:
                        self.log("looking into holds failed", error=f"{type(error).__name__}: {first_line(error)}")
                await asyncio.sleep(1)
        finally:
            for timer in self._timers.values():
                timer.cancel()

    # --- which holds --------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        async for hold in self.book.changes():
            self.blocking.changed(hold)
            if hold.state is not HoldState.PENDING:
                self._waiting.pop(hold.id, None)
                self._forget(hold.id)
            elif hold.id not in self._handled and hold.request.protocol not in ("practice", "errand"):
                if hold.sight is not None:
                    self._forget(hold.id)
                    self._timers[hold.id] = asyncio.get_running_loop().call_later(_PAUSE_S, self._late, hold.id)
                elif hold.id not in self._timers:
                    self._timers[hold.id] = asyncio.get_running_loop().call_later(_SIGHT_S, self._late, hold.id)

    def _late(self, hold_id: HoldId) -> None:
        self._forget(hold_id)
        self._enqueue(hold_id)

    def _forget(self, hold_id: HoldId) -> None:
        if (timer := self._timers.pop(hold_id, None)) is not None:
            timer.cancel()

    def _enqueue(self, hold_id: HoldId) -> None:
        self._handled[hold_id] = None
        self._waiting[hold_id] = None
        for kept in (self._handled, self._waiting):
            while len(kept) > _QUEUE:
                kept.popitem(last=False)
        self._wake.set()

    async def _next(self) -> Hold | None:
        """A pending hold; None when there is none for a while."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _IDLE_S
        while True:
            while self._waiting:
                hold_id, _ = self._waiting.popitem(last=False)
                with suppress(UnknownHoldError, StoreError):
                    hold = await self.book.get(hold_id)
                    if hold.state is HoldState.PENDING:
                        return hold
            self._wake.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._wake.wait()
            except TimeoutError:
                return None

    # --- looking into them --------------------------------------------------------------------------------------

    async def _work(self) -> None:
        hold: Hold | None = None
        while True:
            hold = hold or await self._next()
            if hold is not None:
                hold = await self._work_on(hold)

    def _place(self, hold: Hold) -> tuple[str, str]:
        """Database and role of the connection for it."""
        requester = hold.request.requester
        return requester.database, "" if self.control.has_credentials else requester.role

    async def _work_on(self, hold: Hold) -> Hold | None:
        """Look into this one, and those that follow for the same database; return the first that needs another connection."""
        place = self._place(hold)
        loop = asyncio.get_running_loop()
        at, problem = self._failures.get(place, (0.0, ""))
        if problem and loop.time() - at < _FAILED_S:
            await self._say(hold, Consequences(problem=problem))
            return None
        following: Hold | None = hold
        current = hold
        try:
            async with self.control.connection(
                place[0], role=place[1], statement_timeout_s=self.timeout_s, lock_timeout_s=YIELDS_S
            ) as link:
                self._failures.pop(place, None)
                while following is not None and self._place(following) == place:
                    current = following
                    await self._look_into(current, link)
                    if link.closed:
                        return None
                    following = await self._next()
                    if following is not None and not await _lives(link):
                        return following  # the server has ended the connection meanwhile
        except ControlError as error:
            if len(self._failures) > 1000:
                self._failures.clear()
            self._failures[place] = (loop.time(), str(error))
            await self._say(current, Consequences(problem=str(error)))
            return None
        return following

    async def _look_into(self, hold: Hold, link: psycopg.AsyncConnection[psycopg.rows.TupleRow]) -> None:
        survey = await self._survey(hold, link)
        try:
            async with asyncio.timeout(_QUESTIONS * self.timeout_s):
                await survey.objects()
                for target in survey.targets:
                    if target.kind == "database":
                        await self._whole_database(survey, target)
                if not link.closed:
                    # The numbers take longer than what is reached: that is shown at once.
                    await self._say(hold, survey.consequences(), last=False)
                    await survey.counts()
        except TimeoutError:
            survey.problems.append(f"not all could be found out within {_QUESTIONS * self.timeout_s:.0f} s")
        except ControlError as error:
            survey.problems.append(str(error))
        except (psycopg.Error, UnicodeError, ValueError, KeyError) as error:
            self.log("a hold was not looked into", hold=int(hold.id), error=f"{type(error).__name__}: {first_line(error)}")
            survey.problems.append(f"not all could be found out: {type(error).__name__}")
        await self._say(hold, survey.consequences())

    async def _survey(self, hold: Hold, link: psycopg.AsyncConnection[psycopg.rows.TupleRow]) -> Survey:
        script = hold.request.script
        survey = Survey(link, hold, None, (), (), self.timeout_s, self.exact_rows)
        if len(script) > _SCRIPT_CHARACTERS:
            survey.problems.append("the script is too long to be taken apart")
            return survey
        survey.facts = facts = await asyncio.to_thread(self._engine.facts, script.encode(errors="replace"), Context())
        if facts is not None:
            survey.targets = targets(facts)
            survey.previews = await asyncio.to_thread(previews, script) if facts.changes or facts.merges else ()
        else:
            survey.problems.append("the script could not be taken apart")
        if hold.request.in_transaction:
            survey.notes.append("what the session has done in its open transaction is not seen: rows are as they were before")
        return survey

    async def _whole_database(self, survey: Survey, target: Target) -> None:
        """Its tables are seen on a connection to it only."""
        role = self._place(survey.hold)[1]
        async with self.control.connection(target.name, role=role, statement_timeout_s=self.timeout_s, lock_timeout_s=YIELDS_S) as link:
            other = replace(survey, link=link, known={})
            await other.everything(target)
            survey.reached, survey.result = other.reached, other.result

    async def _say(self, hold: Hold, consequences: Consequences, *, last: bool = True) -> None:
        try:
            now = await self.book.get(hold.id)
            # Who waits behind it is found out elsewhere meanwhile.
            if now.consequences is not None:
                consequences = replace(consequences, blocked=now.consequences.blocked)
            await self.book.foresee(hold.id, consequences)
        except (StoreError, UnknownHoldError) as error:
            self.log("what is foreseen was not kept", hold=int(hold.id), error=str(error))
            return
        if last:
            self.found.foreseen += 1
            self.found.failed += bool(consequences.problem and not consequences.reached and not consequences.matching)


async def _lives(link: psycopg.AsyncConnection[psycopg.rows.TupleRow]) -> bool:
    try:
        await link.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True


def make_foresight(
    settings: Settings, book: HoldBook, control: Control, clock: Clock, policies: Callable[[], Policies], metrics: Metrics, log: Log
) -> Foresight:
    """With its metrics; nothing is begun yet."""
    blocking = Blocking(book, control, clock, policies, log)
    foresight = Foresight(book, control, settings.impact_timeout_s, settings.impact_exact_rows, blocking, log)
    found = foresight.found
    metrics.add_source("pghold_impact_found", "counter", "Holds of which the consequences were looked up.", lambda: found.foreseen)
    metrics.add_source("pghold_impact_failures", "counter", "Of those, the ones about which nothing was found.", lambda: found.failed)
    metrics.add_source("pghold_blocked_sessions", "gauge", "Sessions that wait behind the locks of held ones.", blocking.sessions)
    metrics.add_source("pghold_blocking_denied", "counter", "Holds denied because others waited behind them.", lambda: blocking.denied)
    return foresight
