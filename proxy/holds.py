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

from proxy.model import (
    HOLD_TRANSITIONS,
    Decision,
    Hold,
    HoldId,
    HoldRequest,
    HoldState,
)
from proxy.seams import Clock, HoldsFullError, NotPendingError, OnDecision, UnknownHoldError
from proxy.store import Store
from proxy.store.schema import holds

#: What a subscriber may lag behind before it misses old changes.
_QUEUE_LIMIT: Final = 1000

_REQUEST: Final = TypeAdapter(HoldRequest)
_DECISION: Final = TypeAdapter(Decision)

_FINAL: Final = frozenset(s for s, after in HOLD_TRANSITIONS.items() if not after)
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

    async def recover(self) -> list[Hold]:
        """At start: what a process that died left open is abandoned; return those holds."""
        open_states = [str(s) for s in HoldState if s not in _FINAL]
        now = self._clock.now()
        async with self._store.transaction() as connection:
            rows = (await connection.execute(select(holds).where(holds.c.state.in_(open_states)))).all()
            left = [hold_of(row) for row in rows]
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

    async def open(self, request: HoldRequest, on_decision: OnDecision) -> Hold:
        if len(self._pending) >= self._max_pending:
            raise HoldsFullError(f"{self._max_pending} statements are held already, which is the limit")
        now = self._clock.now()
        expires_at = now + timedelta(seconds=request.expires_in_s)
        async with self._store.transaction() as connection:
            result = await connection.execute(
                insert(holds).values(
                    state=str(HoldState.PENDING),
                    request=json.dumps(asdict(request)),
                    created_at=_text(now),
                    expires_at=_text(expires_at),
                    script_sha256=request.script_sha256,
                )
            )
            key = result.inserted_primary_key
            assert key is not None
        hold = Hold(HoldId(key[0]), HoldState.PENDING, request, now, expires_at)
        self._waiting[hold.id] = on_decision
        self._pending[hold.id] = hold
        self._publish(hold)
        return hold

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
        self._moved(hold_of(row))
        return True

    def _moved(self, hold: Hold) -> None:
        if hold.state is not HoldState.PENDING and self._pending.pop(hold.id, None) is not None and self._on_end is not None:
            waited_s = (self._clock.now() - hold.created_at).total_seconds()
            self._on_end(str(hold.state), waited_s)
        if hold.state in _FINAL:
            self._waiting.pop(hold.id, None)
        self._publish(hold)

    # --- by operators -------------------------------------------------------------------------------------------

    async def decide(self, hold_id: HoldId, decision: Decision) -> Hold:
        to = HoldState.APPROVED if decision.approved else HoldState.DENIED
        values = {"state": str(to), "decision": json.dumps({**asdict(decision), "decided_at": _text(decision.decided_at)})}
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
        self._moved(hold)
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
    )
