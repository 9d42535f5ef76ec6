from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict
from policy.view import View, matches


@final
class ProtectedRelation(Rule):
    """Any change of a relation that the policy protects.

    Why it is held: the policy says that it changes only with approval.
    Instead: ask for approval
    Known gaps: changes by functions and triggers are not seen
    """

    id: ClassVar = "protected-relation"
    verdict: ClassVar = Verdict.HOLD
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.HIGH
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("drops", "statements")
    view: ClassVar = View(protected=("account", "shop.*"))
    triggers: ClassVar = (
        Example("UPDATE account SET balance = 0 WHERE id = 1"),
        Example("WITH d AS (INSERT INTO shop.item VALUES (1) RETURNING 1) SELECT 1"),
        Example("ALTER TABLE account ADD x int"),
    )
    passes: ClassVar = (Example("SELECT * FROM account"),)

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        if not context.protected:
            return
        for index, statement in enumerate(facts.statements):
            names = tuple(dict.fromkeys(str(r) for r in statement.writes if not r.is_temp and matches(str(r), context.protected)))
            if names:
                yield self.found(f"changes {', '.join(names)}, which the policy protects", index, names)
        for drop in facts.drops:
            names = tuple(n for n in drop.names if matches(n, context.protected) and not drop.all_temp)
            if names:
                yield self.found(f"drops {', '.join(names)}, which the policy protects", drop.statement, names)
