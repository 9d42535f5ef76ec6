from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class DropSchema(Rule):
    """DROP SCHEMA.

    Why it is held: with CASCADE it drops every table in the schema.
    Instead: drop single objects, or ask for approval
    Known gaps: a table that a function drops is not seen
    """

    id: ClassVar = "drop-schema"
    verdict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.CRITICAL
    irreversible: ClassVar = True
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("drops",)
    triggers: ClassVar = (
        Example("DROP SCHEMA public CASCADE"),
        Example("DROP SCHEMA IF EXISTS a, b"),
        Example("DROP SCHEMA public CASCADE; CREATE SCHEMA public", because="how tools reset a database"),
    )
    passes: ClassVar = (Example("CREATE SCHEMA shop"),)

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for drop in facts.drops:
            if drop.kind == "SCHEMA" and not drop.all_temp:
                names = ", ".join(drop.names)
                cascade = " with CASCADE" if drop.cascade else ""
                yield self.found(f"DROP {drop.kind} {names}{cascade}", drop.statement, drop.names)
