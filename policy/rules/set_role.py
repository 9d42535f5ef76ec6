from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class SetRole(Rule):
    """SET ROLE or SET SESSION AUTHORIZATION.

    Why it is held: it changes whose rights the next statements have.
    Instead: connect as the role that is needed
    Known gaps: none known
    """

    id: ClassVar = "set-role"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.LOW
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("settings",)
    triggers: ClassVar = (
        Example("SET ROLE admin"),
        Example("SET SESSION AUTHORIZATION bob"),
        Example("SELECT set_config('role', 'admin', false)"),
    )
    passes: ClassVar = (
        Example("RESET ROLE"),
        Example("SET application_name = 'x'"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for setting in facts.settings:
            if (
                setting.name in ("role", "session_authorization")
                and not setting.is_reset
                and (setting.value or "").lower() not in ("none", "default")
            ):
                yield self.found(f"sets {setting.name}", setting.statement)
