"""What a session's core wants done; the shell performs a list in order."""

from __future__ import annotations

from dataclasses import dataclass

from policy.context import Context
from policy.judgement import Judgement
from proxy.backups.model import Copied, CopyOrder, CopyPlan
from proxy.events import Timer
from proxy.look import Sight
from proxy.model import AuditEntry, CopyState, HoldId, HoldRequest, HoldState, Requester


@dataclass(frozen=True, slots=True)
class SendToFrontend:
    data: bytes


@dataclass(frozen=True, slots=True)
class SendToBackend:
    data: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """Flush the entry to the audit log, then report Recorded or RecordFailed. Always the last of a list: what it
    records takes effect only in answer to Recorded."""

    entry: AuditEntry


@dataclass(frozen=True, slots=True)
class Note:
    """Append the entry to the audit log in order; nothing waits for it, because what it tells has already happened."""

    entry: AuditEntry


@dataclass(frozen=True, slots=True)
class JudgeScript:
    """Judge a long script off the event loop; report Judged."""

    script: bytes
    context: Context


@dataclass(frozen=True, slots=True)
class OpenHold:
    """Store the hold; report HoldOpened or OpenFailed, or Granted when an earlier decision covers it."""

    request: HoldRequest


@dataclass(frozen=True, slots=True)
class MoveHold:
    """Move the hold in the store, best effort: what matters is already on record."""

    hold_id: HoldId
    to: HoldState
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class DescribeHold:
    """Store what the hold is about, best effort: operators see it."""

    hold_id: HoldId
    sight: Sight


@dataclass(frozen=True, slots=True)
class PlanCopy:
    """Find out how what the statement destroys can be copied; report CopyPlanned or CopyFailed."""

    order: CopyOrder


@dataclass(frozen=True, slots=True)
class TakeCopy:
    """Take the copy, keep it, prove it; report CopyTaken or CopyFailed. `has_rows`: the session itself sends them, by KeepRows."""

    order: CopyOrder
    plan: CopyPlan
    has_rows: bool


@dataclass(frozen=True, slots=True)
class KeepRows:
    """A piece of the rows, as COPY gave them; empty: that was all."""

    data: bytes


@dataclass(frozen=True, slots=True)
class StopCopy:
    """The statement will not run: stop planning or copying, and keep nothing."""


@dataclass(frozen=True, slots=True)
class DescribeCopy:
    """Store how far its copy is, best effort: operators see it."""

    hold_id: HoldId
    copy: CopyState


@dataclass(frozen=True, slots=True)
class TellCopied:
    """What became of a statement whose copy was taken."""

    order: CopyOrder
    copied: Copied
    outcome: str
    failed: bool


@dataclass(frozen=True, slots=True)
class TellPart:
    """What became of a part of a plan that was approved. `outcome` is a CommandComplete tag, SQLSTATE, or why it did not run."""

    hold_id: HoldId
    outcome: str
    failed: bool


@dataclass(frozen=True, slots=True)
class ExpireHold:
    """Move the hold from pending to expired, and report HoldMoved: an operator may have been faster."""

    hold_id: HoldId


@dataclass(frozen=True, slots=True)
class StartTimer:
    timer: Timer
    after_s: float


@dataclass(frozen=True, slots=True)
class StopTimer:
    timer: Timer


@dataclass(frozen=True, slots=True)
class PauseFrontend:
    """Stop reading the frontend: its high-water mark is reached while a script is held."""


@dataclass(frozen=True, slots=True)
class ResumeFrontend:
    pass


@dataclass(frozen=True, slots=True)
class CloseSession:
    """Flush what was sent, close both links. `why` is for the log and the metric."""

    why: str


@dataclass(frozen=True, slots=True)
class Count:
    """A judged script, for metrics."""

    verdict: str
    rule_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tell:
    """DDL that nobody had to decide on has succeeded; given only when somebody wants to know (View.announces)."""

    requester: Requester
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class Log:
    event: str
    fields: dict[str, str | int] | None = None


Command = (
    SendToFrontend
    | SendToBackend
    | Record
    | Note
    | JudgeScript
    | OpenHold
    | MoveHold
    | DescribeHold
    | PlanCopy
    | TakeCopy
    | KeepRows
    | StopCopy
    | DescribeCopy
    | TellCopied
    | TellPart
    | ExpireHold
    | StartTimer
    | StopTimer
    | PauseFrontend
    | ResumeFrontend
    | CloseSession
    | Count
    | Tell
    | Log
)
