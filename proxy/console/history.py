"""What was decided before, for the person who decides now."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import desc, select

from proxy.holds import hold_of
from proxy.model import Hold, HoldState
from proxy.seams import Clock
from proxy.store import Store
from proxy.store.schema import holds

#: How far back similar decisions are looked for.
_LOOKED_AT: Final = 500


class History:
    """Reads ended holds."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def similar(self, hold: Hold, limit: int = 5) -> list[Hold]:
        """Decided holds of the same script, then those of the same rules on the same relations, newest first. Raises StoreError."""
        decided = select(holds).where(holds.c.decision.is_not(None), holds.c.id != hold.id).order_by(desc(holds.c.id))
        async with self._store.transaction() as connection:
            same = (await connection.execute(decided.where(holds.c.script_sha256 == hold.request.script_sha256).limit(limit))).all()
            recent = (await connection.execute(decided.limit(_LOOKED_AT))).all()
        found = {h.id: h for h in map(hold_of, same)}
        wanted = hold.request
        for row in recent:
            if len(found) >= limit:
                break
            other = hold_of(row)
            if set(other.request.rule_ids) & set(wanted.rule_ids) and set(other.request.relations) & set(wanted.relations):
                found.setdefault(other.id, other)
        return list(found.values())[:limit]

    async def recent(self, limit: int = 10) -> list[Hold]:
        """Those that wait no more, newest first. Raises StoreError."""
        wanted = select(holds).where(holds.c.state != str(HoldState.PENDING)).order_by(desc(holds.c.id)).limit(limit)
        async with self._store.transaction() as connection:
            return [hold_of(row) for row in (await connection.execute(wanted)).all()]

    async def waits(self, hours: int = 24) -> list[tuple[datetime, float, str]]:
        """Of holds opened in the last hours: when, how many seconds until they were decided or ended, and their state now."""
        since = (self._clock.now() - timedelta(hours=hours)).isoformat()
        wanted = select(holds.c.created_at, holds.c.ended_at, holds.c.decision, holds.c.state).where(holds.c.created_at >= since)
        async with self._store.transaction() as connection:
            rows = (await connection.execute(wanted.order_by(holds.c.id).limit(20_000))).all()
        found = []
        for row in rows:
            began = datetime.fromisoformat(row.created_at)
            end = json.loads(row.decision)["decided_at"] if row.decision else row.ended_at
            until = datetime.fromisoformat(end) if end else self._clock.now()
            found.append((began, max(0.0, (until - began).total_seconds()), str(row.state)))
        return found
