"""What can happen to a session, as its core is told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from policy.judgement import Judgement
from proxy.backups.model import Copied, CopyPlan
from proxy.look import Sight
from proxy.model import Decision, HoldId


class Timer(Enum):
    HEARTBEAT = auto()
    EXPIRY = auto()
    DRAIN = auto()
    LOOK = auto()
    ACT = auto()


@dataclass(frozen=True, slots=True)
class FrontendSent:
    chunk: bytes


@dataclass(frozen=True, slots=True)
class BackendSent:
    chunk: bytes


@dataclass(frozen=True, slots=True)
class FrontendLost:
    """EOF or an error on the frontend link."""


@dataclass(frozen=True, slots=True)
class BackendLost:
    """EOF or an error on the backend link."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class HoldOpened:
    hold_id: HoldId


@dataclass(frozen=True, slots=True)
class Granted:
    """Instead of HoldOpened: it was decided ahead of time, and that is used up by it.

    Attributes:
        hold_id: of a retry the hold that was approved, else a new one.
        sight: what the approval is about; None when it is about rules, not about objects.
        planned: it is a part of a plan: the hold is that of the plan, and its state is not this session's business.
    """

    hold_id: HoldId
    decision: Decision
    sight: Sight | None = None
    planned: bool = False


@dataclass(frozen=True, slots=True)
class OpenFailed:
    """The store could not take the hold."""

    reason: str


@dataclass(frozen=True, slots=True)
class HoldResolved:
    hold_id: HoldId
    decision: Decision


@dataclass(frozen=True, slots=True)
class HoldMoved:
    """The answer to ExpireHold: whether the hold was still pending; if not, a decision is on its way."""

    hold_id: HoldId
    moved: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """The answer to JudgeScript."""

    judgement: Judgement


@dataclass(frozen=True, slots=True)
class Recorded:
    """The entry of the Record that ended the last list of commands is on disk."""


@dataclass(frozen=True, slots=True)
class RecordFailed:
    """The audit log did not take that entry: what it was to record must not take effect."""

    reason: str


@dataclass(frozen=True, slots=True)
class CopyPlanned:
    """The answer to PlanCopy."""

    hold_id: HoldId
    plan: CopyPlan


@dataclass(frozen=True, slots=True)
class CopyTaken:
    """The answer to TakeCopy: the copy is kept, and proven unless it is too large for that."""

    hold_id: HoldId
    copied: Copied


@dataclass(frozen=True, slots=True)
class CopyFailed:
    """The other answer to PlanCopy and TakeCopy: what was to be copied must not be destroyed."""

    hold_id: HoldId
    reason: str


@dataclass(frozen=True, slots=True)
class CopyProgressed:
    hold_id: HoldId
    text: str


@dataclass(frozen=True, slots=True)
class TimerFired:
    timer: Timer


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """A CancelRequest with this session's key came while it had a hold."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The proxy stops: end the hold, end the session at the next idle moment."""


@dataclass(frozen=True, slots=True)
class KillRequested:
    operator: str


Event = (
    FrontendSent
    | BackendSent
    | FrontendLost
    | BackendLost
    | HoldOpened
    | Granted
    | OpenFailed
    | HoldResolved
    | HoldMoved
    | Judged
    | Recorded
    | RecordFailed
    | CopyPlanned
    | CopyTaken
    | CopyFailed
    | CopyProgressed
    | TimerFired
    | CancelRequested
    | StopRequested
    | KillRequested
)
