from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict

_ACTIONS = frozenset({"DropConstraint", "DropNotNull", "DropIdentity", "DropExpression"})


@final
class DropConstraint(Rule):
    """Dropping a constraint, a NOT NULL, a default, an identity or an expression of a column or domain.

    Why it is held: what the constraint kept out can come in, and cannot be told apart later.
    Instead: add the new constraint before the old one is dropped
    Known gaps: constraints that fall with CASCADE are not named
    """

    id: ClassVar = "drop-constraint"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.LOW
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("acts", "alters")
    triggers: ClassVar = (
        Example("ALTER TABLE account DROP CONSTRAINT account_pkey"),
        Example("ALTER TABLE account ADD x int, ALTER email DROP NOT NULL"),
        Example("ALTER DOMAIN mail DROP CONSTRAINT valid"),
    )
    passes: ClassVar = (Example("ALTER TABLE account ADD CONSTRAINT positive CHECK (balance >= 0) NOT VALID"),)

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for alter in facts.alters:
            if alter.action in _ACTIONS and not alter.table.is_temp:
                yield self.found(f"{_words(alter.action)} {alter.name} of {alter.table}", alter.statement, (str(alter.table),))
        for act in facts.acts:
            if act.kind.startswith("ALTER DOMAIN DROP"):
                yield self.found(act.kind, act.statement, act.objects)


def _words(action: str) -> str:
    return {"DropConstraint": "drops constraint", "DropNotNull": "drops NOT NULL"}.get(action, "drops the rule for")
