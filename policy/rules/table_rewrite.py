from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict

_ACTIONS = frozenset({"SetLogged", "SetTableSpace", "SetAccessMethod", "SetExpression"})


@final
class TableRewrite(Rule):
    """Writing a whole table anew or moving it: SET LOGGED, TABLESPACE, ACCESS METHOD, EXPRESSION.

    Why it is held: it takes as long as the table is large, under a lock that stops everybody.
    Instead: do it in a maintenance window
    Known gaps: the size of the table is not known
    """

    id: ClassVar = "table-rewrite"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.LOW
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("acts", "alters")
    triggers: ClassVar = (
        Example("ALTER TABLE account SET TABLESPACE fast"),
        Example("ALTER TABLE ALL IN TABLESPACE a SET TABLESPACE b"),
    )
    passes: ClassVar = (Example("ALTER TABLE account SET (fillfactor = 70)"),)

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for alter in facts.alters:
            if alter.action in _ACTIONS and not alter.table.is_temp:
                yield self.found(f"writes {alter.table} anew", alter.statement, (str(alter.table),))
        for act in facts.acts:
            if act.kind == "ALTER TABLE ALL IN TABLESPACE":
                yield self.found("moves every table of a tablespace", act.statement)
