"""The hold book: every hold and what became of it, in the store, moved by compare-and-set only.

A move is one UPDATE … WHERE state IN (those it may follow): two operators cannot both decide, an expiry cannot overtake an
approval, and a hold ends once. Who waits for a decision is kept in memory, by hold; nothing else here grows with the number of holds.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Final

from pydantic import TypeAdapter
from sqlalchemy import Row, desc, func, insert, select, update

from proxy.impact.model import Consequences
from proxy.look import Sight
from proxy.model import (
    HOLD_TRANSITIONS,
    CopyState,
    Decision,
    Hold,
    HoldId,
    HoldRequest,
    HoldState,
)
from proxy.seams import Clock, HoldsFullError, NotPendingError, OnDecision, UnknownHoldError
from proxy.store import Store
from proxy.store.schema import grants, holds

#: What a subscriber may lag behind before it misses old changes.
_QUEUE_LIMIT: Final = 1000

_REQUEST: Final = TypeAdapter(HoldRequest)
_DECISION: Final = TypeAdapter(Decision)
_SIGHT: Final = TypeAdapter(Sight)
_CONSEQUENCES: Final = TypeAdapter(Consequences)
_COPY: Final = TypeAdapter(CopyState)

_FINAL: Final = frozenset(s for s, after in HOLD_TRANSITIONS.items() if not after)
_OPEN: Final = [str(s) for s in HoldState if s not in _FINAL]
_PREDECESSORS: Final = {state: [str(s) for s, after in HOLD_TRANSITIONS.items() if state in after] for state in HoldState}


class SqlHoldBook:
    """seams.HoldBook over the store."""

    def __init__(self, store: Store, clock: Clock, max_pending: int, on_end: Callable[[str, float], None] | None = None) -> None:
        self._store = store
        self._clock = clock
        self._max_pending = max_pending
        self._on_end = on_end
        self._waiting: dict[HoldId, OnDecision] = {}
        self._pending: dict[HoldId, Hold] = {}
        self._subscribers: set[asyncio.Queue[Hold]] = set()

    async def left_open(self) -> list[Hold]:
        """At start: what a process that died left open. Not that for which no session waits, nor what is approved for a retry."""
        async with self._store.transaction() as connection:
            rows = (await connection.execute(select(holds).where(holds.c.state.in_(_OPEN)))).all()
            granted = set((await connection.execute(select(grants.c.hold_id).where(grants.c.ended_at.is_(None)))).scalars())
        left: list[Hold] = []
        for hold in map(hold_of, rows):
            if hold.state is HoldState.PENDING and not hold.request.waits:
                self._pending[hold.id] = hold
            elif hold.state is not HoldState.APPROVED or hold.id not in granted:
                left.append(hold)
        return left

    async def ended_since(self, moment: datetime) -> list[Hold]:
        """Holds that ended at that time or later."""
        async with self._store.transaction() as connection:
            rows = (await connection.execute(select(holds).where(holds.c.ended_at >= _text(moment)))).all()
        return [hold_of(row) for row in rows]

    async def recover(self) -> list[Hold]:
        """At start: what a process that died left open is abandoned; return those holds. Those for which no session waits stay."""
        left = await self.left_open()
        now = self._clock.now()
        async with self._store.transaction() as connection:
            for hold in left:
                outcome = (
                    "the proxy stopped while it ran: its outcome is not known"
                    if hold.state is HoldState.RELEASED
                    else "the proxy stopped while it waited"
                )
                await connection.execute(
                    update(holds).where(holds.c.id == hold.id).values(state=str(HoldState.ABANDONED), outcome=outcome, ended_at=_text(now))
                )
        return left

    # --- by sessions --------------------------------------------------------------------------------------------

    async def open(self, request: HoldRequest, on_decision: OnDecision | None, decision: Decision | None = None) -> Hold:
        """With a `decision`, one that was taken ahead: the hold begins as approved."""
        if len(self._pending) >= self._max_pending and decision is None:
            raise HoldsFullError(f"{self._max_pending} statements are held already, which is the limit")
        state = HoldState.PENDING if decision is None else HoldState.APPROVED
        now = self._clock.now()
        expires_at = now + timedelta(seconds=request.expires_in_s)
        async with self._store.transaction() as connection:
            result = await connection.execute(
                insert(holds).values(
                    state=str(state),
                    decision=None if decision is None else decision_text(decision),
                    request=json.dumps(asdict(request)),
                    created_at=_text(now),
                    expires_at=_text(expires_at),
                    script_sha256=request.script_sha256,
                )
            )
            key = result.inserted_primary_key
            assert key is not None
        hold = Hold(HoldId(key[0]), state, request, now, expires_at, decision)
        if on_decision is not None:
            self._waiting[hold.id] = on_decision
        if decision is None:
            self._pending[hold.id] = hold
        self._publish(hold)
        return hold

    async def describe(self, hold_id: HoldId, sight: Sight) -> None:
        async with self._store.transaction() as connection:
            # The first stays: an operator may have looked at it already.
            first = update(holds).where(holds.c.id == hold_id, holds.c.impact.is_(None))
            await connection.execute(first.values(impact=json.dumps(asdict(sight))))
            row = (await connection.execute(select(holds).where(holds.c.id == hold_id))).one_or_none()
        if row is not None:
            hold = hold_of(row)
            if hold.id in self._pending:
                self._pending[hold.id] = hold
            self._publish(hold)

    async def foresee(self, hold_id: HoldId, consequences: Consequences) -> None:
        """Keep what is foreseen; the last one counts. Raises StoreError."""
        await self._tell(hold_id, consequences=json.dumps(asdict(consequences)))

    async def copied(self, hold_id: HoldId, copy: CopyState) -> None:
        """Keep how far its copy is. Raises StoreError."""
        await self._tell(hold_id, backup=json.dumps(asdict(copy)))

    async def _tell(self, hold_id: HoldId, **values: str) -> None:
        async with self._store.transaction() as connection:
            await connection.execute(update(holds).where(holds.c.id == hold_id).values(**values))
            row = (await connection.execute(select(holds).where(holds.c.id == hold_id))).one_or_none()
        if row is not None:
            hold = hold_of(row)
            if hold.id in self._pending:
                self._pending[hold.id] = hold
            self._publish(hold)

    async def move(self, hold_id: HoldId, to: HoldState, outcome: str = "") -> bool:
        now = self._clock.now()
        values: dict[str, str] = {"state": str(to)}
        if outcome:
            values["outcome"] = outcome
        if to in _FINAL:
            values["ended_at"] = _text(now)
        async with self._store.transaction() as connection:
            result = await connection.execute(
                update(holds).where(holds.c.id == hold_id, holds.c.state.in_(_PREDECESSORS[to])).values(**values)
            )
            if result.rowcount != 1:
                return False
            row = (await connection.execute(select(holds).where(holds.c.id == hold_id))).one()
        self.moved(hold_of(row))
        return True

    def moved(self, hold: Hold) -> None:
        """The store has a new state of this hold."""
        if hold.state is not HoldState.PENDING and self._pending.pop(hold.id, None) is not None and self._on_end is not None:
            waited_s = (self._clock.now() - hold.created_at).total_seconds()
            self._on_end(str(hold.state), waited_s)
        if hold.state in _FINAL:
            self._waiting.pop(hold.id, None)
        self._publish(hold)

    # --- by operators -------------------------------------------------------------------------------------------

    async def decide(self, hold_id: HoldId, decision: Decision) -> Hold:
        to = HoldState.APPROVED if decision.approved else HoldState.DENIED
        values = {"state": str(to), "decision": decision_text(decision)}
        if to in _FINAL:
            values["ended_at"] = _text(decision.decided_at)
            values["outcome"] = decision.reason
        async with self._store.transaction() as connection:
            result = await connection.execute(
                update(holds).where(holds.c.id == hold_id, holds.c.state == str(HoldState.PENDING)).values(**values)
            )
            row = (await connection.execute(select(holds).where(holds.c.id == hold_id))).one_or_none()
        if row is None:
            raise UnknownHoldError(hold_id)
        hold = hold_of(row)
        if result.rowcount != 1:
            raise NotPendingError(hold)
        tell = self._waiting.pop(hold_id, None)
        self.moved(hold)
        if tell is not None:
            tell(hold_id, decision)
        return hold

    async def get(self, hold_id: HoldId) -> Hold:
        if not 0 < hold_id < 2**63:
            raise UnknownHoldError(hold_id)  # no integer of the store, which would fail
        async with self._store.transaction() as connection:
            row = (await connection.execute(select(holds).where(holds.c.id == hold_id))).one_or_none()
        if row is None:
            raise UnknownHoldError(hold_id)
        return hold_of(row)

    def waiting_for_nobody(self) -> list[Hold]:
        """Pending, and no session waits: whoever expires those looks here."""
        return [h for h in self._pending.values() if not h.request.waits]

    async def list(self, *, pending_only: bool = True, limit: int = 1000, before: HoldId | None = None) -> list[Hold]:
        wanted = select(holds).order_by(desc(holds.c.id)).limit(limit)
        if pending_only:
            wanted = wanted.where(holds.c.state == str(HoldState.PENDING))
        if before is not None:
            wanted = wanted.where(holds.c.id < before)
        async with self._store.transaction() as connection:
            return [hold_of(row) for row in (await connection.execute(wanted)).all()]

    async def check(self) -> None:
        """Whether the store answers. Raises StoreError."""
        async with self._store.transaction() as connection:
            await connection.execute(select(func.count()).select_from(holds).where(holds.c.id == 0))

    def pending_count(self) -> int:
        return len(self._pending)

    # --- changes ------------------------------------------------------------------------------------------------

    def touch(self, hold: Hold) -> None:
        """Something beside its state changed; whoever shows it should look again."""
        self._publish(hold)

    def _publish(self, hold: Hold) -> None:
        for queue in self._subscribers:
            if queue.full():
                with suppress(asyncio.QueueEmpty):
                    queue.get_nowait()
            queue.put_nowait(hold)

    async def changes(self) -> AsyncIterator[Hold]:
        queue: asyncio.Queue[Hold] = asyncio.Queue(_QUEUE_LIMIT)
        self._subscribers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._subscribers.discard(queue)


def decision_text(decision: Decision) -> str:
    """As the store keeps it."""
    return json.dumps({**asdict(decision), "decided_at": _text(decision.decided_at)})


def _text(moment: datetime) -> str:
    return moment.isoformat()


def hold_of(row: Row[tuple[str, ...]]) -> Hold:
    values = row._mapping
    return Hold(
        id=HoldId(values["id"]),
        state=HoldState(values["state"]),
        request=_REQUEST.validate_json(values["request"]),
        created_at=datetime.fromisoformat(values["created_at"]),
        expires_at=datetime.fromisoformat(values["expires_at"]),
        ended_at=datetime.fromisoformat(values["ended_at"]) if values["ended_at"] else None,
        decision=_DECISION.validate_json(values["decision"]) if values["decision"] else None,
        outcome=values["outcome"],
        sight=_SIGHT.validate_json(values["impact"]) if values["impact"] else None,
        consequences=_CONSEQUENCES.validate_json(values["consequences"]) if values["consequences"] else None,
        copy=_COPY.validate_json(values["backup"]) if values["backup"] else None,
    )
