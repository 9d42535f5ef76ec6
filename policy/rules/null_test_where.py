from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class NullTestWhere(Rule):
    """A DELETE or UPDATE whose only condition is IS NOT NULL.

    Why it is held: where the column is always filled, that is every row.
    Instead: add a condition on a value
    Known gaps: with the catalog known, a NOT NULL column makes it always-true-where
    """

    id: ClassVar = "null-test-where"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.LOW
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("changes",)
    triggers: ClassVar = (
        Example("DELETE FROM account WHERE id IS NOT NULL"),
        Example("WITH d AS (UPDATE account SET x = 1 WHERE id IS NOT NULL AND name IS NOT NULL RETURNING 1) SELECT 1"),
    )
    passes: ClassVar = (
        Example("DELETE FROM account WHERE deleted_at IS NULL"),
        Example("DELETE FROM account WHERE deleted_at IS NOT NULL AND id = 1"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for change in facts.changes:
            if change.only_null_tests and not change.table.is_temp:
                yield self.found(
                    f"{change.verb} of every row of {change.table} where a column is filled", change.statement, (str(change.table),)
                )
