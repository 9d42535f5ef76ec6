from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.rules._functions import HARMLESS_FUNCTIONS, NAMED_ELSEWHERE
from policy.verdict import Severity, Verdict


@final
class UnknownFunction(Rule):
    """A call of a function that is not known to be harmless.

    Why it is held: its body is not in the statement.
    Instead: use built-in functions, or ask for approval
    Known gaps: functions of extensions are unknown; operators and casts may call functions too
    """

    id: ClassVar = "unknown-function"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.LOW
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("calls",)
    triggers: ClassVar = (
        Example("SELECT mystery()"),
        Example("WITH x AS (SELECT mystery()) SELECT * FROM x"),
        Example("INSERT INTO log SELECT shop.mystery()"),
    )
    passes: ClassVar = (
        Example("SELECT lower('A')"),
        Example("SELECT count(*) FROM account"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for call in facts.calls:
            known = call.schema in ("", "pg_catalog", "information_schema") and call.name in HARMLESS_FUNCTIONS
            # What drivers ask information_schema for (its helpers of arrays and types).
            known = known or (call.schema == "information_schema" and call.name.startswith("_pg_"))
            if not known and call.name not in NAMED_ELSEWHERE:
                span = (call.position, call.position)
                yield self.found(f"calls {call.name}(), which is not known to be harmless", call.statement, (), span)
