from __future__ import annotations

from typing import ClassVar, final

from policy.rule import ActRule, Example
from policy.verdict import Severity, Verdict


@final
class CallProcedure(ActRule):
    """CALL of a procedure.

    Why it is held: its body is not in the statement, and it may commit by itself.
    Instead: send its statements one by one
    Known gaps: none known
    """

    id: ClassVar = "call-procedure"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.LOW
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("acts",)
    triggers: ClassVar = (
        Example("CALL refresh()"),
        Example("EXPLAIN SELECT 1; CALL shop.refresh(1)"),
    )
    passes: ClassVar = (Example("SELECT 1"),)
    kinds: ClassVar = frozenset(
        {
            "CALL",
        }
    )
