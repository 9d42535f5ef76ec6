"""Approvals of holds that need several."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select

from proxy.model import HoldId
from proxy.seams import Clock
from proxy.store.engine import Store
from proxy.store.schema import approvals


@dataclass(frozen=True, slots=True)
class GivenApproval:
    operator: str
    reason: str
    at: datetime


class SqlApprovals:
    """Who has approved what so far. An operator counts once, by the table's own constraint."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def add(self, hold_id: HoldId, operator: str, reason: str) -> None:
        """Raises StoreError, also when this operator's is there already."""
        values = {"hold_id": hold_id, "operator": operator, "reason": reason, "at": self._clock.now().isoformat()}
        async with self._store.transaction() as connection:
            await connection.execute(insert(approvals).values(**values))

    async def of(self, hold_id: HoldId) -> list[GivenApproval]:
        """In the order in which they were given. Raises StoreError."""
        async with self._store.transaction() as connection:
            rows = (await connection.execute(select(approvals).where(approvals.c.hold_id == hold_id).order_by(approvals.c.at))).all()
        return [GivenApproval(row.operator, row.reason, datetime.fromisoformat(row.at)) for row in rows]
