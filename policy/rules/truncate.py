from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class Truncate(Rule):
    """TRUNCATE.

    Why it is held: it empties tables at once, without row triggers and without a record of the rows.
    Instead: DELETE with a WHERE clause, or ask for approval
    Known gaps: a truncate inside a function is not seen
    """

    id: ClassVar = "truncate"
    verdict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.HIGH
    irreversible: ClassVar = True
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("truncates",)
    triggers: ClassVar = (
        Example("TRUNCATE account"),
        Example("TRUNCATE TABLE a, b RESTART IDENTITY CASCADE"),
        Example("EXPLAIN SELECT 1; TRUNCATE account"),
    )
    passes: ClassVar = (
        Example("CREATE TEMP TABLE work (id int); TRUNCATE work", because="it is temporary"),
        Example("SELECT truncate(1.5)", because="a number function"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for truncate in facts.truncates:
            if not truncate.all_temp:
                names = tuple(str(t) for t in truncate.tables)
                yield self.found(f"TRUNCATE of {', '.join(names)}", truncate.statement, names)
