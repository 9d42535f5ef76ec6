"""Takes the letters of one route to its service: gathers them for a digest, tries again when it fails, gives up in the end.

The states of a letter here:

    post --> gathering --(digest_s over)--> parcel --send--> arrived
                                              |  ^
                                         fails|  |back-off
                                              v  |
                                            parcel --(tries used up)--> lost

A parcel is one delivery: one letter, or all that were gathered, when they are more than digest_over. It is put into words when it is sent,
from the letters that are in it by then: one that became stale while it waited is simply gone (`withdraw`). Of one thread there is never
more than one letter that waits, besides the one that is being sent, so that a thread's order is kept whatever order parcels leave in.

While sending fails, one parcel at a time is tried, with a growing wait: the oldest, and every other time the next one, so that a letter
that the service does not like holds up nobody else for long.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from proxy.notify import compose
from proxy.notify.message import SETTLED, URGENT, Message, Topic
from proxy.notify.outbox import Letter, Outbox
from proxy.notify.routes import Route
from proxy.notify.senders import DeliveryError, Parcel, Sender
from proxy.seams import Clock

#: Letters of one route that wait; more are counted, and the next digest says how many.
WAITING_LIMIT: Final = 5000
#: Between two deliveries of a route: in a burst of holds, the sessions that wait for them come first.
_PACE_S: Final = 0.02


@dataclass(slots=True, eq=False)
class Waiting:
    """A parcel that is not delivered. `due`: of the loop's clock."""

    letters: list[Letter]
    due: float = 0.0


@dataclass(slots=True)
class Counts:
    """Of one route, for metrics and the console."""

    delivered: int = 0
    failed: int = 0
    lost: int = 0
    left_out: int = 0
    last_delivered: datetime | None = None
    last_error: str = ""


@dataclass(slots=True)
class Reports:
    """Whom the courier tells.

    Attributes:
        lost: letters that were given up, and why.
        left_out: so many were not even kept.
    """

    lost: Callable[[Route, Sequence[Letter], str], None]
    left_out: Callable[[Route, int], None]


@dataclass(slots=True, eq=False)
class Courier:
    """Attributes:
    link: of a path, the address as people reach it.
    source: which pghold this is.
    """

    route: Route
    sender: Sender
    outbox: Outbox
    clock: Clock
    link: Callable[[str], str]
    source: Callable[[], str]
    reports: Reports
    counts: Counts = field(default_factory=Counts)
    _gathering: list[Letter] = field(default_factory=list)
    _gather_until: float = 0.0
    _parcels: OrderedDict[str, Waiting] = field(default_factory=OrderedDict)
    _by_thread: dict[str, Letter] = field(default_factory=dict)
    _sending: Waiting | None = None
    _over: set[int] = field(default_factory=set)
    _failures: int = 0
    _not_before: float = 0.0
    _left_out: int = 0
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    # --- what is to be told -------------------------------------------------------------------------------------

    def post(self, message: Message) -> None:
        """Tell this; what waits of the same thread is stale by it."""
        if message.thread:
            self.withdraw(message.thread)
        if self.waiting_count >= WAITING_LIMIT and message.topic not in URGENT:
            self._left_out += 1
            self.counts.left_out += 1
            self.reports.left_out(self.route, self._left_out)
            return
        self._take(self.outbox.add(self.route.name, message))

    def take_over(self, letters: Sequence[Letter]) -> None:
        """Letters of the process before, or of this route as it was configured before."""
        shared: dict[str, list[Letter]] = {}
        newest = {x.message.thread: x for x in sorted(letters, key=lambda x: x.id) if x.message.thread}
        for letter in letters:
            if newest.get(letter.message.thread, letter) is not letter:
                # It was being sent when it became stale; whether it arrived is not known, and what follows it is here.
                self._over.discard(letter.id)
                self.outbox.remove(letter)
                continue
            shared.setdefault(letter.delivery, []).append(letter)
        for delivery, together in shared.items():
            if len(together) == 1 and not together[0].tries:
                self._take(together[0])
            else:
                self._parcels[delivery] = Waiting(together)
                self._by_thread.update({x.message.thread: x for x in together if x.message.thread})
        self._wake.set()

    def succeed(self, old: Courier) -> None:
        """This route was configured anew: go on where the courier before stopped."""
        self.counts, self._over, self._left_out = old.counts, old._over, old._left_out

    def _take(self, letter: Letter) -> None:
        message = letter.message
        if message.thread:
            self._by_thread[message.thread] = letter
        if message.topic in URGENT or not self.route.digest_s:
            self._parcels[letter.delivery] = Waiting([letter])
            if message.topic in URGENT:
                self._parcels.move_to_end(letter.delivery, last=False)
                self._not_before = 0.0
        else:
            if not self._gathering:
                self._gather_until = _now() + self.route.digest_s
            self._gathering.append(letter)
        self._wake.set()

    def withdraw(self, thread: str) -> bool:
        """Whatever waits about this is stale, and is dropped. Whether the route knows, or may know, of it."""
        letter = self._by_thread.pop(thread, None)
        sending = False
        if letter is not None:
            sending = self._sending is not None and letter in self._sending.letters
            if sending:
                self._over.add(letter.id)  # not again, if this try fails
            else:
                self._drop(letter)
        return sending or self.outbox.known(self.route.name, thread) is not None

    def _drop(self, letter: Letter) -> None:
        if letter in self._gathering:
            self._gathering.remove(letter)
        waiting = self._parcels.get(letter.delivery)
        if waiting is not None and letter in waiting.letters:
            waiting.letters.remove(letter)
            if not waiting.letters:
                del self._parcels[letter.delivery]
        self._over.discard(letter.id)
        self.outbox.remove(letter)

    def forget(self, thread: str) -> None:
        """Nothing more will come of it; what waits is still delivered."""
        letter = self._by_thread.get(thread)
        known = self.outbox.known(self.route.name, thread)
        if letter is not None:
            self._over.add(letter.id)
        elif known is not None:
            self.outbox.remove(known)

    def waits_with(self, thread: str) -> Letter | None:
        return self._by_thread.get(thread)

    @property
    def waiting_count(self) -> int:
        return len(self._gathering) + sum(len(p.letters) for p in self._parcels.values())

    @property
    def is_failing(self) -> bool:
        return self._failures > 0

    def letters(self) -> list[Letter]:
        """All that wait, the one that is being sent included."""
        return sorted([*self._gathering, *(x for p in self._parcels.values() for x in p.letters)], key=lambda x: x.id)

    # --- on its way ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wake.clear()
            now = _now()
            if self._gathering and now >= self._gather_until:
                self.gather()
            waiting = self._next(now)
            if waiting is not None:
                await self._try(waiting)
                await asyncio.sleep(_PACE_S)
                continue
            try:
                async with asyncio.timeout_at(self._next_look()):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def gather(self) -> None:
        """The window is over: each on its own, or all as one."""
        letters, self._gathering = self._gathering, []
        if len(letters) > self.route.digest_over:
            for letter in letters:
                letter.delivery = letters[0].delivery
                self.outbox.changed(letter)
            self._parcels[letters[0].delivery] = Waiting(letters)
        else:
            self._parcels.update({x.delivery: Waiting([x]) for x in letters})
        self._wake.set()

    def _next(self, now: float) -> Waiting | None:
        if now < self._not_before:
            return None
        ready = [p for p in self._parcels.values() if p.due <= now][:2]
        if not ready:
            return None
        return ready[-1] if self._failures % 2 else ready[0]

    def _next_look(self) -> float | None:
        moments = [self._gather_until] if self._gathering else []
        if self._parcels:
            moments.append(max(self._not_before, min(p.due for p in self._parcels.values())))
        return min(moments, default=None)

    async def _try(self, waiting: Waiting) -> None:
        letters = list(waiting.letters)
        left_out, self._left_out = (self._left_out, 0) if len(letters) > 1 else (0, self._left_out)
        self._sending = waiting
        try:
            await self.sender.send(self._parcel(letters, left_out))
        except DeliveryError as error:
            self._left_out += left_out
            self._failed(waiting, str(error), error.after_s)
        else:
            self._arrived(waiting)
        finally:
            self._sending = None

    def _parcel(self, letters: list[Letter], left_out: int) -> Parcel:
        messages = [x.message for x in letters]
        if len(messages) > 1:
            many = compose.digest(messages, self.clock.now(), left_out)
            return Parcel(letters[0].delivery, many, self.link(many.path), self.source(), many=tuple(messages))
        message = messages[0]
        known = self.outbox.known(self.route.name, message.thread) if message.thread else None
        return Parcel(letters[0].delivery, message, self.link(message.path), self.source(), known.delivery if known else "")

    def _arrived(self, waiting: Waiting) -> None:
        self._parcels.pop(waiting.letters[0].delivery, None)
        self._failures, self._not_before = 0, 0.0
        self.counts.delivered += 1
        self.counts.last_delivered = self.clock.now()
        self.counts.last_error = ""
        for letter in waiting.letters:
            self._forget_waiting(letter)
            topic, over = letter.message.topic, letter.id in self._over
            self._over.discard(letter.id)
            # A follow-up comes after these: after an approval, the news that it did not run after all.
            if letter.message.thread and _goes_on(topic) and (not over or topic not in SETTLED):
                self.outbox.know(letter)
            else:
                known = self.outbox.known(self.route.name, letter.message.thread)
                if known is not None and topic in SETTLED | {Topic.SOLVED}:
                    self.outbox.remove(known)
                self.outbox.remove(letter)

    def _failed(self, waiting: Waiting, reason: str, after_s: float) -> None:
        route = self.route
        self._failures += 1
        self.counts.failed += 1
        self.counts.last_error = reason
        delay = min(route.retry_up_to_s, route.retry_from_s * 2 ** min(self._failures - 1, 30))
        delay = max(random.uniform(delay / 2, delay), min(after_s, route.retry_up_to_s))
        self._not_before = _now() + delay
        for letter in [x for x in waiting.letters if x.id in self._over and x.message.topic not in SETTLED]:
            self._over.discard(letter.id)
            self._drop(letter)
        given_up = []
        for letter in waiting.letters:
            letter.tries += 1
            letter.error = reason
            self.outbox.changed(letter)
            if letter.tries >= route.tries:
                given_up.append(letter)
        if given_up:
            self._parcels.pop(given_up[0].delivery, None)
            for letter in given_up:
                self._forget_waiting(letter)
                self._over.discard(letter.id)
                self.outbox.lose(letter, reason)
            self.counts.lost += len(given_up)
            self.reports.lost(route, given_up, reason)

    def _forget_waiting(self, letter: Letter) -> None:
        if self._by_thread.get(letter.message.thread) is letter:
            del self._by_thread[letter.message.thread]

    @property
    def is_done(self) -> bool:
        """Nothing waits, or what waits will wait on."""
        return not self.waiting_count or (self.is_failing and self._sending is None)


def _goes_on(topic: Topic) -> bool:
    return topic in (Topic.OPENED, Topic.REMINDED, Topic.PROBLEM, Topic.APPROVED, Topic.PROTECTED, Topic.BREAK_GLASS)


def _now() -> float:
    return asyncio.get_running_loop().time()
