from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Condition, Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class DeleteWithoutWhere(Rule):
    """A DELETE with no WHERE clause.

    Why it is held: it empties the whole table, and is most often a half-typed statement.
    Instead: add the WHERE clause, or ask for approval and say that the table should be emptied
    Known gaps: an always-true condition is left to always-true-where
    """

    id: ClassVar = "delete-without-where"
    verdict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.HIGH
    irreversible: ClassVar = True
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("changes",)
    triggers: ClassVar = (
        Example("DELETE FROM account"),
        Example("WITH d AS (DELETE FROM account RETURNING 1) SELECT count(*) FROM d"),
        Example("EXPLAIN ANALYZE DELETE FROM account", because="ANALYZE executes it"),
        Example("COPY (DELETE FROM account RETURNING *) TO STDOUT"),
        Example("DELETE FROM account USING old", because="every row that old has one row for"),
    )
    passes: ClassVar = (
        Example("DELETE FROM account WHERE id = 7"),
        Example("EXPLAIN DELETE FROM account", because="nothing is executed"),
        Example("CREATE TEMP TABLE work (id int); DELETE FROM work", because="it is temporary"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for change in facts.changes:
            if change.verb == "DELETE" and change.condition is Condition.MISSING and not change.table.is_temp:
                table = str(change.table)
                yield self.found(f"DELETE on {table} has no WHERE clause", change.statement, (table,), (change.position, change.position))
