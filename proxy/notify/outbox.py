"""Letters that are on their way, those that were given up, and which threads a route knows of: in memory, and in the store behind it.

The store is written behind, many changes in one transaction: what people are told never waits for the disk, and a burst of holds, which
need the store themselves, is not slowed down by its own messages. A crash can cost the last moments: a message may then come twice, with
the same delivery id.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from pydantic import ValidationError
from sqlalchemy import delete, insert, select

from proxy.notify.message import Message, Topic
from proxy.seams import Clock, StoreError
from proxy.store import Store
from proxy.store.schema import notifications

#: So long are changes gathered before they are written.
_WRITE_EVERY_S: Final = 0.1
#: And so long after the store failed.
_RETRY_S: Final = 5.0
#: Given up ones that are kept; the oldest go first.
LOST_LIMIT: Final = 500
#: Threads that are remembered, of all routes.
_KNOWN_LIMIT: Final = 50_000
#: A hold that is opened meanwhile waits for no more than this.
_ROWS_AT_ONCE: Final = 100


class LetterState(StrEnum):
    """known: it was delivered, and its thread waits for a follow-up."""

    WAITING = "waiting"
    KNOWN = "known"
    LOST = "lost"


@dataclass(slots=True, eq=False)
class Letter:
    """One message for one route.

    Attributes:
        delivery: what the service may tell repetitions by; letters of one digest have the same.
    """

    id: int
    route: str
    message: Message
    created_at: datetime
    state: LetterState = LetterState.WAITING
    delivery: str = ""
    tries: int = 0
    error: str = ""


class Outbox:
    """All letters. Every change is made through it, so that the store follows."""

    def __init__(self, store: Store, clock: Clock, log: Callable[..., None]) -> None:
        self._store = store
        self._clock = clock
        self._log = log
        self._letters: dict[int, Letter] = {}
        self._known: dict[tuple[str, str], Letter] = {}
        self._lost: dict[int, Letter] = {}
        self._dirty: set[int] = set()
        self._next = 1
        self._wake = asyncio.Event()
        self._failing = False

    async def load(self) -> None:
        """What the process before this one left. Raises StoreError."""
        async with self._store.transaction() as connection:
            rows = (await connection.execute(select(notifications).order_by(notifications.c.id))).all()
        for row in rows:
            self._next = row.id + 1
            try:
                message = Message.model_validate_json(row.message)
                letter = Letter(
                    row.id,
                    row.route,
                    message,
                    datetime.fromisoformat(row.created_at),
                    LetterState(row.state),
                    row.delivery,
                    row.tries,
                    row.error,
                )
            except (ValidationError, ValueError):
                self._dirty.add(row.id)  # of another version; it goes
                continue
            self._put(letter)

    def _put(self, letter: Letter) -> None:
        self._letters[letter.id] = letter
        if letter.state is LetterState.KNOWN:
            self._known[letter.route, letter.message.thread] = letter
        elif letter.state is LetterState.LOST:
            self._lost[letter.id] = letter

    # --- changes ------------------------------------------------------------------------------------------------

    def add(self, route: str, message: Message) -> Letter:
        letter = Letter(self._next, route, message, self._clock.now(), delivery=_delivery(route, message))
        self._next += 1
        self._letters[letter.id] = letter
        self.changed(letter)
        return letter

    def changed(self, letter: Letter) -> None:
        self._dirty.add(letter.id)
        self._wake.set()

    def remove(self, letter: Letter) -> None:
        self._letters.pop(letter.id, None)
        self._lost.pop(letter.id, None)
        key = letter.route, letter.message.thread
        if self._known.get(key) is letter:
            del self._known[key]
        self.changed(letter)

    def know(self, letter: Letter) -> None:
        """It was delivered, and a later message will be about it."""
        before = self._known.pop((letter.route, letter.message.thread), None)
        if before is not None and before is not letter:
            self.remove(before)
        letter.state = LetterState.KNOWN
        if letter.message.topic is not Topic.PROBLEM:  # whose facts the next process needs
            letter.message = letter.message.model_copy(update={"facts": {}, "lines": ()})
        self._known[letter.route, letter.message.thread] = letter
        self.changed(letter)
        while len(self._known) > _KNOWN_LIMIT:
            self.remove(next(iter(self._known.values())))

    def lose(self, letter: Letter, error: str) -> None:
        letter.state = LetterState.LOST
        letter.error = error
        self._lost[letter.id] = letter
        self.changed(letter)
        while len(self._lost) > LOST_LIMIT:
            self.remove(next(iter(self._lost.values())))

    def again(self, letter: Letter) -> None:
        """A given up one gets a new start."""
        self._lost.pop(letter.id, None)
        letter.state, letter.tries, letter.error = LetterState.WAITING, 0, ""
        self.changed(letter)

    # --- questions ----------------------------------------------------------------------------------------------

    def waiting(self) -> list[Letter]:
        """Of all routes, oldest first; for the start only."""
        return [x for x in self._letters.values() if x.state is LetterState.WAITING]

    def known(self, route: str, thread: str) -> Letter | None:
        return self._known.get((route, thread))

    def of_thread(self, thread: str) -> Letter:
        """What one of the routes knows of it last. Raises KeyError."""
        return self._known[next(key for key in self._known if key[1] == thread)]

    def known_threads(self) -> set[str]:
        return {thread for _, thread in self._known}

    def lost(self) -> list[Letter]:
        """Oldest first."""
        return list(self._lost.values())

    def lost_one(self, letter_id: int) -> Letter | None:
        return self._lost.get(letter_id)

    # --- the store ----------------------------------------------------------------------------------------------

    async def write_behind(self) -> None:
        """Runs as long as the process."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(_WRITE_EVERY_S)
            if not await self.flush():
                await asyncio.sleep(_RETRY_S)

    async def flush(self) -> bool:
        """Write what has changed; False when the store failed, which changes nothing for those who are told."""
        self._wake.clear()
        while self._dirty:
            ids = sorted(self._dirty)[:_ROWS_AT_ONCE]
            rows = [_row(self._letters[i]) for i in ids if i in self._letters]
            self._dirty.difference_update(ids)
            try:
                async with self._store.transaction() as connection:
                    await connection.execute(delete(notifications).where(notifications.c.id.in_(ids)))
                    if rows:
                        await connection.execute(insert(notifications), rows)
            except StoreError as error:
                self._dirty.update(ids)
                self._wake.set()
                if not self._failing:
                    self._log("notifications not stored", error=str(error))
                self._failing = True
                return False
            except BaseException:
                self._dirty.update(ids)
                raise
            self._failing = False
        return True


def _delivery(route: str, message: Message) -> str:
    if not message.key:
        return uuid.uuid4().hex
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{route} {message.thread} {message.key}").hex


def _row(letter: Letter) -> dict[str, str | int]:
    return {
        "id": letter.id,
        "route": letter.route,
        "thread": letter.message.thread,
        "topic": str(letter.message.topic),
        "state": str(letter.state),
        "delivery": letter.delivery,
        "message": letter.message.model_dump_json(),
        "created_at": letter.created_at.isoformat(),
        "tries": letter.tries,
        "error": letter.error,
    }
