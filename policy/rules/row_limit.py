from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding, TransactionStep
from policy.limits import limits_of
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict
from policy.view import RowLimit as Limit
from policy.view import View


@final
class RowLimit(Rule):
    """More rows changed in a transaction than the policy's row limit.

    Why it is held: the count is that of the server, before the commit; it is the last moment at which nothing is lost.
      A script that changes counted rows and commits by itself is held before it runs, for its commit cannot be.
    Instead: change fewer rows in one transaction, or send the COMMIT as a message of its own
    Known gaps: rows that functions, triggers and foreign keys change are not counted
    """

    id: ClassVar = "row-limit"
    verdict: ClassVar = Verdict.HOLD
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.HIGH
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("statements",)
    view: ClassVar = View(row_limits=(Limit(100, ("item",)),))
    triggers: ClassVar = (
        Example("BEGIN; UPDATE item SET price = 0 WHERE id < 10; COMMIT"),
        Example("DELETE FROM item WHERE id = 1; COMMIT; SELECT 1"),
        Example("ROLLBACK; DELETE FROM item WHERE id = 1"),
    )
    passes: ClassVar = (
        Example("UPDATE item SET price = 0 WHERE id < 10", "it is counted while it runs, and its commit may be held"),
        Example("BEGIN; UPDATE other SET x = 1 WHERE id = 1; COMMIT"),
        Example("BEGIN; UPDATE item SET price = 0 WHERE id < 10"),
        Example("ROLLBACK; BEGIN; UPDATE item SET price = 0 WHERE id < 10"),
        Example("UPDATE item SET price = 0 WHERE id < 10; ROLLBACK"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        if not context.row_limits or len(facts.statements) < 2:
            return
        limited: tuple[Limit, ...] = ()
        alone = False  # behind the end of a transaction, where each statement commits with the script
        for index, statement in enumerate(facts.statements):
            commits = statement.transaction in (TransactionStep.COMMIT, TransactionStep.PREPARE)
            changes = limits_of(facts, index, context.row_limits)["limits"]
            if (limited and commits) or (changes and alone):
                names = tuple(str(r) for s in facts.statements[: index + 1] for r in s.writes)
                limit = (limited or changes)[0]
                yield self.found(f"commits by itself, so that its rows cannot be counted first (limit {limit})", index, names)
                return
            if commits or statement.transaction is TransactionStep.ROLLBACK:
                limited, alone = (), True
            elif statement.transaction is TransactionStep.BEGIN:
                alone = False
            limited = limited or changes
