from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.rules._functions import HARMLESS_FUNCTIONS, PROVEN
from policy.verdict import Profile, Verdict


@final
class Unproven(Rule):
    """In profile strict: anything that is not provably harmless.

    Why it is held: code that was not read, rights, settings and definitions can all prepare what no single
      statement shows.
    Instead: keep to SELECT, INSERT, and UPDATE and DELETE with a filter; ask for approval for the rest
    Known gaps: functions of extensions are unknown
    """

    id: ClassVar = "unproven"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.HOLD
    since: ClassVar = "0.1.0"
    triggers: ClassVar = (
        Example("SELECT mystery()"),
        Example("WITH x AS (SELECT mystery()) SELECT * FROM x"),
        Example("CALL refresh()"),
        Example("GRANT SELECT ON account TO bob"),
    )
    passes: ClassVar = (Example("SELECT 1"),)

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        if context.profile is not Profile.STRICT:
            return
        for index, statement in enumerate(facts.statements):
            if statement.kind not in PROVEN:
                yield self.found(f"{statement.kind} is not provably harmless", index)
        for call in facts.calls:
            if call.schema not in ("", "pg_catalog") or call.name not in HARMLESS_FUNCTIONS:
                span = (call.position, call.position)
                yield self.found(f"calls {call.name}(), which is not known to be harmless", call.statement, (), span)
