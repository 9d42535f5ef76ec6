"""What is told: one message, before it is put into the form of a service."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from policy.verdict import Severity


class Topic(StrEnum):
    """What a message is about; routes choose by patterns of these."""

    OPENED = "hold.opened"
    REMINDED = "hold.reminded"
    APPROVED = "hold.approved"
    DENIED = "hold.denied"
    EXPIRED = "hold.expired"
    WITHDRAWN = "hold.withdrawn"
    ABANDONED = "hold.abandoned"
    PROTECTED = "hold.protected"  # approved, and what it destroys was copied
    BREAK_GLASS = "break-glass"
    LOCKED_OUT = "operator.locked-out"
    PROBLEM = "health.problem"
    SOLVED = "health.solved"
    FAILING = "health.failing"
    WORKS = "health.works"
    BYPASS = "health.bypass"
    BACKUP_FAILED = "backup.failed"
    BACKUP_LATE = "backup.late"
    BACKUP_DIFFERENT = "backup.different"
    BACKUP_MISSING = "backup.missing"
    BACKUP_REMOVAL = "backup.removal"
    CHANGED = "change.passed"
    TEST = "test"


#: After one of these a hold's thread is over.
SETTLED: Final = frozenset({Topic.APPROVED, Topic.DENIED, Topic.EXPIRED, Topic.WITHDRAWN, Topic.ABANDONED, Topic.BREAK_GLASS})
#: These wait for no digest.
URGENT: Final = frozenset(
    {
        Topic.BREAK_GLASS,
        Topic.PROBLEM,
        Topic.SOLVED,
        Topic.BYPASS,
        Topic.LOCKED_OUT,
        Topic.TEST,
        Topic.BACKUP_DIFFERENT,
        Topic.BACKUP_MISSING,
    }
)


class Message(BaseModel):
    """For people and for programs.

    Attributes:
        severity: of what it is about: low, medium, high or critical.
        thread: messages of one thread are about one thing; a later one makes the earlier stale.
        subject: one line that says it all. `lines`: the facts, most important first. Both as they are, not yet made safe for a service.
        path: of the page in the console, such as /holds/12; empty: none.
        key: with the thread, what makes it the same message when a process that died tells it anew; empty: nothing does.
        kind: what a digest counts, such as DROP TABLE.
        facts: the same for programs.
    """

    model_config = ConfigDict(frozen=True)

    topic: Topic
    severity: str
    thread: str
    subject: str
    lines: tuple[str, ...]
    at: str
    path: str = ""
    key: str = ""
    environment: str = ""
    database: str = ""
    kind: str = ""
    facts: dict[str, Any] = {}  # any: JSON; pydantic cannot follow our recursive name for it

    @property
    def rank(self) -> Severity:
        return Severity[self.severity.upper()]
