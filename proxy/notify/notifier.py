"""All of it together: follows holds, operators and health, and hands each route what it wants to know.

Nobody waits for this: what the sessions, the operators and the server call here only puts a message into a queue.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from policy.judgement import Judgement
from proxy.backups.alarm import Alarm
from proxy.model import AuditEntry, AuditEvent, Hold, HoldId, HoldState, Requester
from proxy.notify import compose
from proxy.notify.courier import Courier, Reports
from proxy.notify.message import SETTLED, Message, Topic
from proxy.notify.outbox import Letter, Outbox
from proxy.notify.reminders import Reminders
from proxy.notify.routes import Route
from proxy.notify.senders import DeliveryError, Parcel, Sender, sender_for
from proxy.notify.watch import ChainWatch, HealthWatch
from proxy.seams import AuditLog, Clock, HoldBook, StoreError, UnknownHoldError
from proxy.store import Store
from proxy.tasks import Tasks

#: What ends without a decision, before anybody was told of it, is no news.
_QUIET: Final = frozenset({Topic.WITHDRAWN, Topic.ABANDONED})
#: How often it is checked that no hold was missed.
_RECONCILE_S: Final = 15.0
#: A full queue goes on record this often.
_LEFT_OUT_S: Final = 60.0
#: One operator's lockout is told this often.
_LOCKOUT_S: Final = 300.0
_LISTED: Final = 5000
#: Somebody waits for a test.
_TEST_S: Final = 20.0
_CLOSE_LOOK_S: Final = 0.01
#: Holds whose end is remembered.
_ENDED: Final = 10_000


@dataclass(frozen=True, slots=True)
class RouteState:
    """One route, for the console. Nothing in it is secret."""

    name: str
    shown: str
    waiting: int
    delivered: int
    failed: int
    lost: int
    left_out: int
    failing: bool
    last_error: str
    last_delivered: datetime | None


@dataclass(frozen=True, slots=True)
class TestResult:
    route: str
    arrived: bool
    problem: str = ""


class Notifier:
    """The process has one.

    Args:
        problems: why the proxy is not ready, one sentence each.
        console_url: as people reach it, without a slash at its end.
        chain: watches the audit log.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        *,
        store: Store,
        book: HoldBook,
        audit: AuditLog,
        clock: Clock,
        environment: str,
        console_url: Callable[[], str],
        problems: Callable[[], Awaitable[list[str]]],
        chain: ChainWatch,
        log: Callable[..., None],
        make_sender: Callable[[Route], Sender] = sender_for,
    ) -> None:
        self._book = book
        self._audit = audit
        self._clock = clock
        self._environment = environment
        self._console_url = console_url
        self._problems = problems
        self._log = log
        self._make_sender = make_sender
        self._outbox = Outbox(store, clock, log)
        self._chain = chain
        self._health = HealthWatch(self._all_problems, clock, self._problem, self._solved)
        self._reminders = Reminders(clock, self._remind)
        self._tasks = Tasks(lambda name, error: log("notifications failed", task=name, error=f"{type(error).__name__}: {error}"))
        self._routes = tuple(routes)
        self._couriers: dict[str, Courier] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._pending: dict[HoldId, Hold] = {}
        self._ended: dict[HoldId, HoldState] = {}
        self._protected: dict[HoldId, None] = {}
        self._locked_out: dict[str, datetime] = {}
        self._left_out_at: dict[str, datetime] = {}
        self._watching: list[asyncio.Task[None]] = []
        self._started = False

    # --- life ---------------------------------------------------------------------------------------------------

    async def start(self, recovered: Sequence[Hold]) -> None:
        """Take up what the process before left; `recovered` are the holds that it left open, as they are now. Raises StoreError."""
        await self._outbox.load()
        changes = self._book.changes()
        first = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)  # from here on no change is missed
        self._started = True
        self._set_routes(self._routes, self._outbox.waiting())
        for hold in recovered:
            self._follow(hold)
        await self._follow_up()
        await self._catch_up()
        for coroutine, name in (
            (self._outbox.write_behind(), "notifications' store"),
            (self._follow_all(changes, first), "notifications of holds"),
            (self._reconcile(), "notifications of missed holds"),
            (self._reminders.run(), "reminders"),
            (self._health.run(), "health"),
            (self._chain.run(), "audit chain"),
        ):
            self._watching.append(self._spawn(coroutine, name))

    def _spawn(self, coroutine: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        return self._tasks.spawn(coroutine, name)

    def replace(self, routes: Sequence[Route]) -> None:
        """Other routes from now on; what waits for one of the same name goes with it."""
        self._routes = tuple(routes)
        if self._started:
            self._set_routes(self._routes, [])

    def _set_routes(self, routes: Sequence[Route], left: Sequence[Letter]) -> None:
        before = self._couriers
        self._couriers = {}
        for route in routes:
            old = before.pop(route.name, None)
            if old is not None and old.route == route:
                self._couriers[route.name] = old
                continue
            letters = [x for x in left if x.route == route.name]
            if old is not None:
                self._running.pop(route.name).cancel()
                letters += old.letters()
            courier = Courier(
                route,
                self._make_sender(route),
                self._outbox,
                self._clock,
                self._link,
                self._console_url,
                Reports(self._lost, self._left_out),
            )
            if old is not None:
                courier.succeed(old)
            self._couriers[route.name] = courier
            courier.take_over(letters)
            self._running[route.name] = self._spawn(courier.run(), f"route {route.name}")
        gone = [x for x in left if x.route not in self._couriers]
        for courier in before.values():
            self._running.pop(courier.route.name).cancel()
            gone += courier.letters()
        for letter in gone:
            self._outbox.lose(letter, "the route is no longer in the file")

    async def close(self, within_s: float) -> None:
        """Deliver what is due, for so long at most; the rest stays in the store for the next process."""
        for task in self._watching:
            task.cancel()
        for courier in self._couriers.values():
            courier.gather()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not all(c.is_done for c in self._couriers.values()):
                    await asyncio.sleep(_CLOSE_LOOK_S)
        for task in self._running.values():
            task.cancel()
        await self._tasks.wait(within_s)
        await self._outbox.flush()

    # --- holds --------------------------------------------------------------------------------------------------

    async def _follow_all(self, changes: AsyncIterator[Hold], first: asyncio.Future[Hold]) -> None:
        try:
            hold = await first
            while True:
                self._follow(hold)
                hold = await anext(changes)
        finally:
            first.cancel()

    def _follow(self, hold: Hold) -> None:
        """A hold as it is now."""
        thread = f"hold-{hold.id}"
        if hold.state is HoldState.PENDING:
            # One of several approvals shows a hold anew, as it was before: it may have ended meanwhile.
            if hold.id not in self._pending and hold.id not in self._ended:
                self._pending[hold.id] = hold
                self._opened(hold)
            return
        self._pending.pop(hold.id, None)
        told = self._ended.get(hold.id)
        self._ended[hold.id] = hold.state
        if len(self._ended) > _ENDED:
            self._ended.pop(next(iter(self._ended)))
        if hold.state in (HoldState.RELEASED, HoldState.DONE, HoldState.FAILED):
            self._copied(hold)
        if hold.state in (HoldState.DONE, HoldState.FAILED):
            for courier in self._couriers.values():
                courier.forget(thread)
            return
        # A hold is shown anew when more is known of it, such as what was foreseen: that is no news.
        message = compose.settled(hold, self._clock.now()) if self._couriers and told is not hold.state else None
        if message is None:
            return
        for courier in self._couriers.values():
            route = courier.route
            wanted, knows = route.wants(message), courier.withdraw(thread)
            if not knows and message.topic in _QUIET:
                # Of a route that is told of openings, it is news only where the opening was.
                wanted = wanted and not route.wants(message.model_copy(update={"topic": Topic.OPENED}))
            if knows or wanted:
                courier.post(message)

    def _copied(self, hold: Hold) -> None:
        """Once, which copy there is of what it destroys."""
        message = compose.protected(hold, self._clock.now()) if self._couriers and hold.id not in self._protected else None
        if message is None:
            return
        self._protected[hold.id] = None
        if len(self._protected) > _ENDED:
            self._protected.pop(next(iter(self._protected)))
        self._tell(message)

    def _opened(self, hold: Hold) -> None:
        if not self._couriers:
            return
        message = compose.opened(hold, self._clock.now())
        reminder = message.model_copy(update={"topic": Topic.REMINDED})
        for courier in self._couriers.values():
            # The process before may have told it.
            told = courier.waits_with(message.thread) or self._outbox.known(courier.route.name, message.thread)
            if not told and courier.route.wants(message):
                courier.post(message)
            if courier.route.wants(reminder):
                self._reminders.add(hold, courier.route)

    def _remind(self, hold_id: HoldId, route: str) -> None:
        hold, courier = self._pending.get(hold_id), self._couriers.get(route)
        if hold is not None and courier is not None and hold.expires_at > self._clock.now():
            message = compose.reminded(hold, self._clock.now())
            if courier.route.wants(message):
                courier.post(message)

    async def _follow_up(self) -> None:
        """At start: routes that know of a hold are told what became of it, if that was not on its way already."""
        for thread in self._outbox.known_threads():
            if thread.startswith("health-"):
                self._health.take_up(self._outbox.of_thread(thread))
                continue
            number = thread.removeprefix("hold-")
            if not number.isdigit():
                continue
            waits = [c.waits_with(thread) for c in self._couriers.values()]
            try:
                hold = await self._book.get(HoldId(int(number)))
            except UnknownHoldError:
                continue
            message = compose.settled(hold, self._clock.now()) or compose.finished(hold, self._clock.now())
            for courier, waiting in zip(self._couriers.values(), waits, strict=True):
                known = self._outbox.known(courier.route.name, thread)
                if known is None:
                    continue
                if hold.state is HoldState.PENDING:
                    continue
                if message is not None and known.message.topic not in SETTLED and (waiting is None or waiting.message.topic not in SETTLED):
                    courier.post(message)
                courier.forget(thread)

    async def _reconcile(self) -> None:
        """The hold book drops changes for those who lag behind. Counts that differ twice in a row mean that some were missed."""
        differed = False
        while True:
            await asyncio.sleep(_RECONCILE_S)
            differs = len(self._pending) != self._book.pending_count()
            if differs and differed:
                with suppress(StoreError):
                    await self._catch_up()
            differed = differs

    async def _catch_up(self) -> None:
        """Raises StoreError."""
        waiting = {h.id: h for h in await self._book.list(limit=_LISTED)}
        for hold_id in [i for i in self._pending if i not in waiting]:
            with suppress(UnknownHoldError):
                self._follow(await self._book.get(hold_id))
        for hold in waiting.values():
            self._follow(hold)

    # --- everything else ----------------------------------------------------------------------------------------

    def tell(self, message: Message) -> None:
        """Of another part of the proxy; whoever wants it gets it."""
        self._tell(message)

    def _tell(self, message: Message) -> None:
        for courier in self._couriers.values():
            if courier.route.wants(message):
                courier.post(message)

    def locked_out(self, operator: str, until: datetime) -> None:
        """An operator gave too many wrong passwords or codes."""
        now = self._clock.now()
        before = self._locked_out.get(operator)
        if before is not None and (now - before).total_seconds() < _LOCKOUT_S:
            return
        self._locked_out[operator] = now
        self._tell(compose.locked_out(operator, until, now))

    def alarm(self, alarm: Alarm) -> None:
        """Something is wrong with a copy."""
        self._tell(compose.alarmed(alarm, self._environment, self._clock.now()))

    def changed(self, requester: Requester, judgement: Judgement) -> None:
        """DDL that nobody had to decide on has succeeded."""
        self._tell(compose.changed(requester, self._environment, judgement, self._clock.now()))

    @property
    def chain_problem(self) -> str:
        return self._chain.problem

    async def _all_problems(self) -> list[str]:
        found = await self._problems()
        return [*found, self._chain.problem] if self._chain.problem else found

    def _problem(self, problems: Sequence[str], began: datetime) -> None:
        self._log("not well", problems=list(problems))
        self._tell(compose.problem(problems, _health_thread(began), self._environment, began, self._clock.now()))

    def _solved(self, began: datetime) -> None:
        self._log("well again")
        message = compose.solved(_health_thread(began), self._environment, began, self._clock.now())
        for courier in self._couriers.values():
            knows = courier.withdraw(message.thread)
            if knows or courier.route.wants(message):
                courier.post(message)

    # --- what could not be delivered ----------------------------------------------------------------------------

    def _lost(self, route: Route, letters: Sequence[Letter], reason: str) -> None:
        first = letters[0].message
        number = first.thread.removeprefix("hold-") if first.thread.startswith("hold-") else ""
        self._record(
            AuditEntry(
                AuditEvent.NOTIFICATION_LOST,
                environment=self._environment,
                hold_id=HoldId(int(number)) if number.isdigit() and len(letters) == 1 else None,
                outcome=reason,
                detail={"route": route.name, "topic": str(first.topic), "messages": len(letters), "tries": letters[0].tries},
            )
        )
        self._log("notification lost", route=route.name, messages=len(letters), error=reason)

    def _left_out(self, route: Route, count: int) -> None:
        now = self._clock.now()
        before = self._left_out_at.get(route.name)
        if before is None or (now - before).total_seconds() >= _LEFT_OUT_S:
            self._left_out_at[route.name] = now
            detail: dict[str, str | int | float | bool | None] = {"route": route.name, "messages": count}
            self._record(AuditEntry(AuditEvent.NOTIFICATION_LOST, environment=self._environment, outcome="too many wait", detail=detail))

    def _record(self, entry: AuditEntry) -> None:
        self._audit.submit(entry).add_done_callback(self._recorded)

    def _recorded(self, future: asyncio.Future[None]) -> None:
        if not future.cancelled() and future.exception() is not None:
            self._log("not recorded", error=str(future.exception()))

    # --- for operators ------------------------------------------------------------------------------------------

    def states(self) -> list[RouteState]:
        return [
            RouteState(
                name=c.route.name,
                shown=c.route.shown,
                waiting=c.waiting_count,
                delivered=c.counts.delivered,
                failed=c.counts.failed,
                lost=c.counts.lost,
                left_out=c.counts.left_out,
                failing=c.is_failing,
                last_error=c.counts.last_error,
                last_delivered=c.counts.last_delivered,
            )
            for c in self._couriers.values()
        ]

    def dead_letters(self) -> list[Letter]:
        """Newest first."""
        return self._outbox.lost()[::-1]

    def dead_by_route(self) -> dict[str, int]:
        return dict(Counter(x.route for x in self._outbox.lost()))

    def send_again(self, letter_id: int) -> str:
        """A given up one gets a new start. Empty, or why not."""
        letter = self._outbox.lost_one(letter_id)
        if letter is None:
            return "it is not there any more"
        courier = self._couriers.get(letter.route)
        if courier is None:
            return f"there is no route {letter.route} any more"
        message = letter.message
        if message.topic in (Topic.OPENED, Topic.REMINDED) and message.thread not in {f"hold-{i}" for i in self._pending}:
            return "the hold waits no longer: the message would be stale"
        if self._shares(letter):
            letter.delivery = uuid.uuid4().hex
        self._outbox.again(letter)
        courier.take_over([letter])
        return ""

    def _shares(self, letter: Letter) -> bool:
        return any(x is not letter and x.delivery == letter.delivery for x in self._outbox.lost())

    async def dismiss(self, letter_id: int, operator: str) -> bool:
        """Raises AuditError."""
        letter = self._outbox.lost_one(letter_id)
        if letter is None:
            return False
        detail: dict[str, str | int | float | bool | None] = {"route": letter.route, "topic": str(letter.message.topic)}
        await self._audit.append(
            AuditEntry(AuditEvent.NOTIFICATION_LOST, environment=self._environment, operator=operator, outcome="dismissed", detail=detail)
        )
        self._outbox.remove(letter)
        return True

    async def test(self, operator: str, route: str = "") -> list[TestResult]:
        """One try of each route, or of one; empty when there is none of that name."""
        couriers = [c for c in self._couriers.values() if not route or c.route.name == route]
        return list(await asyncio.gather(*(self._test(c, operator) for c in couriers)))

    async def _test(self, courier: Courier, operator: str) -> TestResult:
        message = compose.test(courier.route.name, operator, self._clock.now())
        try:
            async with asyncio.timeout(_TEST_S):
                await courier.sender.send(Parcel(uuid.uuid4().hex, message, self._link(message.path), self._console_url()))
        except TimeoutError:
            return TestResult(courier.route.name, False, f"no answer within {_TEST_S:g} s")
        except DeliveryError as error:
            return TestResult(courier.route.name, False, str(error))
        return TestResult(courier.route.name, True)

    def _link(self, path: str) -> str:
        return f"{self._console_url()}{path}" if path else ""


def _health_thread(began: datetime) -> str:
    return f"health-{began:%Y%m%dT%H%M%S}"
