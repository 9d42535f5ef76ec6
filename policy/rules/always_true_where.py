from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Condition, Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class AlwaysTrueWhere(Rule):
    """A DELETE or UPDATE whose condition is true for every row.

    Why it is held: the WHERE clause is there, but it filters nothing.
    Instead: name the rows that you mean, or ask for approval and say that every row is meant
    Known gaps: arithmetic that cancels out (`id - id = 0`), ranges that overlap, a join of the table with itself, and what only the
      data can tell (`id > 0`) are not recognised
    """

    id: ClassVar = "always-true-where"
    verdict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.HIGH
    irreversible: ClassVar = True
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("changes",)
    triggers: ClassVar = (
        Example("DELETE FROM account WHERE true"),
        Example("DELETE FROM account WHERE 1 = 1"),
        Example("UPDATE account SET balance = 0 WHERE id = id"),
        Example("DELETE FROM account WHERE id = 7 OR true"),
        Example("DELETE FROM account WHERE EXISTS (SELECT 1)"),
        Example("DELETE FROM account WHERE name LIKE '%'"),
        Example("DELETE FROM account WHERE 1 IN (1, 2)"),
        Example("DELETE FROM account WHERE NOT (false)"),
        Example("EXPLAIN ANALYZE DELETE FROM account WHERE 1 < 2"),
    )
    passes: ClassVar = (
        Example("DELETE FROM account WHERE false", because="a contradiction"),
        Example("DELETE FROM account WHERE 1 = 2"),
        Example("DELETE FROM account WHERE id = 1 OR id = 2"),
        Example("DELETE FROM account WHERE name LIKE 'a%'"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for change in facts.changes:
            if change.condition is Condition.ALWAYS and not change.table.is_temp:
                table = str(change.table)
                yield self.found(
                    f"{change.verb} of {table} has a condition that is true for every row",
                    change.statement,
                    (table,),
                    (change.position, change.position),
                )
