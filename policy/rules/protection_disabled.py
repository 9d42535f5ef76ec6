from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict

_ACTIONS = frozenset({"DisableTrig", "DisableTrigAll", "DisableTrigUser", "DisableRule", "DisableRowSecurity", "NoForceRowSecurity"})


@final
class ProtectionDisabled(Rule):
    """Switching off triggers, rules or row security of a table.

    Why it is held: foreign keys, audit triggers and row security no longer protect it.
    Instead: name what is in the way and change that
    Known gaps: triggers that are dropped have a rule of their own
    """

    id: ClassVar = "protection-disabled"
    verdict: ClassVar = Verdict.HOLD
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.HIGH
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("alters",)
    triggers: ClassVar = (
        Example("ALTER TABLE account DISABLE TRIGGER ALL"),
        Example("ALTER TABLE account ADD x int, DISABLE ROW LEVEL SECURITY"),
        Example("ALTER TABLE account NO FORCE ROW LEVEL SECURITY"),
    )
    passes: ClassVar = (
        Example("ALTER TABLE account ENABLE TRIGGER ALL"),
        Example("ALTER TABLE account ENABLE ROW LEVEL SECURITY"),
        Example("ALTER TABLE account REPLICA IDENTITY FULL"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for alter in facts.alters:
            if alter.action in _ACTIONS and not alter.table.is_temp:
                yield self.found(f"switches off a protection of {alter.table}", alter.statement, (str(alter.table),))
