"""What checks find. All are immutable; times are aware UTC datetimes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum


class HealthState(StrEnum):
    """unknown: it could not be looked at, which is never the same as ok."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"

    @property
    def number(self) -> int:
        """For metrics: 0 ok, 1 warn, 2 fail, -1 unknown."""
        return {HealthState.OK: 0, HealthState.WARN: 1, HealthState.FAIL: 2, HealthState.UNKNOWN: -1}[self]


#: The worst first.
ORDER = (HealthState.FAIL, HealthState.UNKNOWN, HealthState.WARN, HealthState.OK)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        id: the same in every round, such as "replication".
        text: what was found, a sentence without a full stop.
        fix: what to do about it, with commands; lines. Empty when nothing is to be done.
        since: since when it is in this state; None for what looks once (pghold doctor).
    """

    id: str
    state: HealthState
    text: str
    fix: str = ""
    since: datetime | None = None

    def began(self, moment: datetime) -> Check:
        return replace(self, since=moment)


def worst(checks: list[Check]) -> HealthState:
    """Of all; unknown when there are none."""
    states = {c.state for c in checks}
    return next((s for s in ORDER if s in states), HealthState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Bypasser:
    """A session of the server that did not come through this proxy.

    Attributes:
        address: of the client; "local" for a Unix socket.
        seconds: since it connected.
    """

    pid: int
    role: str
    database: str
    address: str
    application_name: str
    seconds: float

    @property
    def key(self) -> tuple[str, str]:
        """Who it is, for those who are told once."""
        return self.role, self.address

    def __str__(self) -> str:
        name = f" ({self.application_name})" if self.application_name else ""
        return f"{self.role}@{self.database} from {self.address}{name}, pid {self.pid}"


@dataclass(frozen=True, slots=True)
class Measured:
    """Numbers of the last round, for metrics; None: not known."""

    latency_s: float | None = None
    lag_s: float | None = None
    clock_s: float | None = None
    slot_bytes: int | None = None
    bypass_sessions: int | None = None
    tables: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """One round.

    Attributes:
        at: when it ended; None before the first.
        checks: each id once.
        access: ways around the proxy, and how to close them.
    """

    at: datetime | None = None
    checks: tuple[Check, ...] = ()
    access: tuple[Check, ...] = ()
    bypassers: tuple[Bypasser, ...] = ()
    measured: Measured = Measured()

    @property
    def state(self) -> HealthState:
        return worst(list(self.checks))
