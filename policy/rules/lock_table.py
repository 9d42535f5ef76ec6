from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict

_MODES = frozenset({"SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE"})


@final
class LockTable(Rule):
    """LOCK TABLE in a mode that stops writers.

    Why it is held: everybody who writes waits until this transaction ends.
    Instead: SELECT … FOR UPDATE of the rows that matter
    Known gaps: SELECT FOR UPDATE without WHERE is not counted
    """

    id: ClassVar = "lock-table"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.LOW
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("acts",)
    triggers: ClassVar = (
        Example("LOCK TABLE account"),
        Example("BEGIN; LOCK account IN SHARE MODE; COMMIT"),
    )
    passes: ClassVar = (
        Example("LOCK TABLE account IN ACCESS SHARE MODE"),
        Example("LOCK TABLE account IN ROW EXCLUSIVE MODE"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for act in facts.acts:
            if act.kind == "LOCK" and act.detail in _MODES and not act.on_temp:
                yield self.found(f"locks {', '.join(act.objects)} in {act.detail} mode", act.statement, act.objects)
