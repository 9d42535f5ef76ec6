"""What people are told of health, in the form of a notification."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from proxy.health.model import Bypasser, Check, HealthState
from proxy.holds_json import iso
from proxy.notify.message import Message, Topic
from proxy.notify.words import REASON_CHARACTERS, SUBJECT_CHARACTERS, cut

_LINES: Final = 6


def failing(check: Check, environment: str, now: datetime) -> Message:
    """A check began to fail."""
    fixes = [cut(line, REASON_CHARACTERS) for line in check.fix.splitlines() if line.strip()]
    return Message(
        topic=Topic.FAILING,
        severity="high",
        thread="",
        subject=cut(f"Health: {check.id}: {check.text}", SUBJECT_CHARACTERS),
        lines=(cut(check.text, REASON_CHARACTERS), *fixes[:_LINES]),
        at=str(iso(now)),
        path="/health",
        environment=environment,
        kind=check.id,
        facts={"check": check.id, "state": str(check.state), "text": check.text[:2000], "fix": check.fix[:2000]},
    )


def works(check: Check, environment: str, began: datetime, now: datetime) -> Message:
    """It does not fail any more."""
    return Message(
        topic=Topic.WORKS,
        severity="high",
        thread="",
        subject=cut(f"Health: {check.id} is {check.state} again: {check.text}", SUBJECT_CHARACTERS),
        lines=(f"It failed since {began:%Y-%m-%d %H:%M:%S} UTC",),
        at=str(iso(now)),
        path="/health",
        environment=environment,
        kind=check.id,
        facts={"check": check.id, "state": str(check.state), "began": iso(began)},
    )


def bypass(found: Sequence[Bypasser], environment: str, now: datetime) -> Message:
    """Somebody is connected to the server past the proxy."""
    first = found[0]
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return Message(
        topic=Topic.BYPASS,
        severity="high",
        thread="",
        subject=cut(f"Past pghold: {first.role}@{first.database} from {first.address}{more}", SUBJECT_CHARACTERS),
        lines=tuple(cut(str(b), REASON_CHARACTERS) for b in found[:_LINES]),
        at=str(iso(now)),
        path="/health",
        environment=environment,
        database=first.database,
        kind="bypass",
        facts={
            "sessions": [
                {"pid": b.pid, "role": b.role, "database": b.database, "client_addr": b.address, "application_name": b.application_name}
                for b in found[:50]
            ],
            "count": len(found),
        },
    )


def tells(check: Check) -> bool:
    """Whether its failing is told here; what the notifier watches by itself, or tells with more in it, is not."""
    return check.state is not HealthState.FAIL or check.id not in ("audit", "bypass", "backups")
