from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class UnboundedUpsert(Rule):
    """INSERT … SELECT … ON CONFLICT DO UPDATE without WHERE.

    Why it is held: it overwrites as many rows as the query finds.
    Instead: add WHERE to the DO UPDATE, or insert in batches
    Known gaps: the number of rows is not known
    """

    id: ClassVar = "unbounded-upsert"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.LOW
    irreversible: ClassVar = True
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("upserts",)
    triggers: ClassVar = (
        Example("INSERT INTO account SELECT * FROM old ON CONFLICT (id) DO UPDATE SET balance = 0"),
        Example("WITH u AS (INSERT INTO account SELECT * FROM old ON CONFLICT (id) DO UPDATE SET balance = 0 RETURNING 1) SELECT 1"),
    )
    passes: ClassVar = (
        Example("INSERT INTO account VALUES (1) ON CONFLICT (id) DO UPDATE SET balance = 0"),
        Example("INSERT INTO account SELECT * FROM old ON CONFLICT DO NOTHING"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for upsert in facts.upserts:
            if not upsert.table.is_temp:
                yield self.found(f"overwrites rows of {upsert.table} with those of a query", upsert.statement, (str(upsert.table),))
