from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Verdict


@final
class UnknownPreparedStatement(Rule):
    """EXECUTE of a prepared statement whose text was never seen.

    Why it is held: it was prepared by a function, in another way than through this session, or not at all.
    Instead: PREPARE it in this session
    Known gaps: none known
    """

    id: ClassVar = "unknown-prepared-statement"
    verdict: ClassVar = Verdict.HOLD
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("executed",)
    triggers: ClassVar = (
        Example("EXECUTE mystery"),
        Example("EXPLAIN ANALYZE EXECUTE mystery(1)"),
        Example("CREATE TABLE copy AS EXECUTE mystery"),
    )
    passes: ClassVar = (
        Example("PREPARE one AS SELECT 1; EXECUTE one"),
        Example("EXPLAIN EXECUTE mystery", because="nothing is executed"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for executed in facts.executed:
            if not executed.meanings:
                yield self.found(f"EXECUTE of {executed.name}, which is not known", executed.statement)
