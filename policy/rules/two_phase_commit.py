from __future__ import annotations

from typing import ClassVar, final

from policy.rule import ActRule, Example
from policy.verdict import Severity, Verdict


@final
class TwoPhaseCommit(ActRule):
    """PREPARE TRANSACTION, COMMIT PREPARED or ROLLBACK PREPARED.

    Why it is held: another session decides about what was judged here.
    Instead: COMMIT
    Known gaps: none known
    """

    id: ClassVar = "two-phase-commit"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.LOW
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("acts",)
    triggers: ClassVar = (
        Example("PREPARE TRANSACTION 'x'"),
        Example("SELECT 1; COMMIT PREPARED 'x'"),
    )
    passes: ClassVar = (
        Example("COMMIT"),
        Example("PREPARE p AS SELECT 1"),
    )
    kinds: ClassVar = frozenset(
        {
            "PREPARE TRANSACTION",
            "COMMIT PREPARED",
            "ROLLBACK PREPARED",
        }
    )
