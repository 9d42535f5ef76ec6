from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.rules._functions import SESSION_FUNCTIONS
from policy.verdict import Severity, Verdict


@final
class SessionFunction(Rule):
    """A function that keeps a connection busy, makes large objects, or resets statistics.

    Why it is held: it changes what others see, or blocks.
    Instead: ask for approval
    Known gaps: none known
    """

    id: ClassVar = "session-function"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.LOW
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("calls",)
    triggers: ClassVar = (
        Example("SELECT pg_sleep(1)"),
        Example("SELECT lo_create(0)"),
        Example("UPDATE account SET f = lo_open(1, 131072) WHERE id = 1"),
    )
    passes: ClassVar = (Example("SELECT lo_open(1, 262144)"),)

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for call in facts.calls:
            reads_only = call.name == "lo_open" and len(call.arguments) == 2 and call.arguments[1] == "262144"
            if call.name in SESSION_FUNCTIONS and not reads_only:
                yield self.found(f"calls {call.name}()", call.statement, (), (call.position, call.position))
