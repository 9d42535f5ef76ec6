from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Condition, Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class UpdateWithoutWhere(Rule):
    """An UPDATE with no WHERE clause.

    Why it is held: it changes every row, and the old values are gone.
    Instead: add the WHERE clause, or ask for approval and say that every row should change
    Known gaps: an always-true condition is left to always-true-where
    """

    id: ClassVar = "update-without-where"
    verdict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.HIGH
    irreversible: ClassVar = True
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("changes",)
    triggers: ClassVar = (
        Example("UPDATE account SET balance = 0"),
        Example("WITH u AS (UPDATE account SET balance = 0 RETURNING 1) SELECT 1"),
        Example("UPDATE account a SET balance = o.balance FROM old o"),
    )
    passes: ClassVar = (
        Example("UPDATE account SET balance = 0 WHERE id = 7"),
        Example("SELECT * FROM account FOR UPDATE", because="a lock"),
        Example("INSERT INTO account VALUES (1) ON CONFLICT (id) DO UPDATE SET balance = 0", because="one row at a time"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for change in facts.changes:
            if change.verb == "UPDATE" and change.condition is Condition.MISSING and not change.table.is_temp:
                table = str(change.table)
                yield self.found(f"UPDATE of {table} has no WHERE clause", change.statement, (table,), (change.position, change.position))
