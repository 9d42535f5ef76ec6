"""At start: what the store knows of holds that ended, and the log does not.

A denial or an expiry is taken in the store first, by compare-and-set, and recorded then; nothing runs, so nothing waits for the record. A crash
between the two would leave the log without it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from proxy.audit.search import Query, search
from proxy.model import AuditEntry, AuditEvent, Hold, HoldId, HoldState
from proxy.records import about

#: So long before the last record may a hold have ended whose own record was lost.
WINDOW: Final = timedelta(minutes=10)
_SLACK: Final = timedelta(seconds=2)
_EVENTS: Final = {
    HoldState.DENIED: AuditEvent.DENIED,
    HoldState.EXPIRED: AuditEvent.EXPIRED,
    HoldState.WITHDRAWN: AuditEvent.WITHDRAWN,
    HoldState.ABANDONED: AuditEvent.ABANDONED,
    HoldState.DONE: AuditEvent.OUTCOME,
    HoldState.FAILED: AuditEvent.OUTCOME,
}


def last_moment(path: Path) -> datetime | None:
    """Of the last record. Raises OSError."""
    for record in search(path, Query()):
        return datetime.fromisoformat(str(record["at"]))
    return None


def unrecorded(path: Path, ended: list[Hold]) -> list[AuditEntry]:
    """Entries for those of these holds whose end is not in the log. Raises OSError."""
    moments = [h.ended_at for h in ended if h.ended_at is not None]
    if not moments:
        return []
    known: set[HoldId] = set()
    for record in search(path, Query(since=min(moments) - _SLACK)):
        if record["event"] in _EVENTS.values() and isinstance(record["hold_id"], int):
            known.add(HoldId(record["hold_id"]))
    return [_entry(h) for h in ended if h.id not in known and h.state in _EVENTS]


def _entry(hold: Hold) -> AuditEntry:
    decision = hold.decision
    operator, reason = (decision.operator, decision.reason) if decision is not None else ("", "")
    outcome = hold.outcome or str(hold.state)
    return about(_EVENTS[hold.state], hold, operator=operator, reason=reason, outcome=f"{outcome} (recorded at the start of the proxy)")
