from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Condition, Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class UnlinkedWhere(Rule):
    """A DELETE or UPDATE whose condition does not speak of the rows that it changes.

    Why it is held: its WHERE is the same for every row, so it changes all of them or none: a parameter alone,
      the time of day, a sub-select or a joined table without a link to the target.
    Instead: add a condition on a column of the table
    Known gaps: an unqualified column of another table is taken for a link
    """

    id: ClassVar = "unlinked-where"
    verdict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.HIGH
    irreversible: ClassVar = True
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("changes",)
    triggers: ClassVar = (
        Example("DELETE FROM account WHERE $1"),
        Example("UPDATE account a SET balance = 0 FROM old o WHERE o.id = 7"),
        Example("DELETE FROM account USING old WHERE old.id = 7"),
        Example("DELETE FROM account WHERE now() > '2020-01-01'"),
    )
    passes: ClassVar = (
        Example("UPDATE account a SET balance = 0 FROM old o WHERE o.id = a.id"),
        Example("DELETE FROM account WHERE id = $1"),
        Example("DELETE FROM account WHERE id IN (SELECT id FROM old)"),
        Example("DELETE FROM account a WHERE EXISTS (SELECT 1 FROM old o WHERE o.id = a.id)"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for change in facts.changes:
            if change.condition is Condition.UNLINKED and not change.table.is_temp:
                table = str(change.table)
                yield self.found(
                    f"{change.verb} of {table} has a condition that says nothing about its rows",
                    change.statement,
                    (table,),
                    (change.position, change.position),
                )
