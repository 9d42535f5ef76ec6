from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class AlterColumnType(Rule):
    """ALTER TABLE … ALTER COLUMN … TYPE.

    Why it is held: the table is written anew under a lock that stops everybody, and values may be cut or refused.
    Instead: add a column of the new type, fill it in steps, and switch
    Known gaps: types that need no rewrite are not told apart
    """

    id: ClassVar = "alter-column-type"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.LOW
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("alters",)
    triggers: ClassVar = (
        Example("ALTER TABLE account ALTER COLUMN name TYPE varchar(100)"),
        Example("BEGIN; ALTER TABLE account ALTER id SET DATA TYPE bigint; COMMIT"),
    )
    passes: ClassVar = (
        Example("ALTER TABLE account ALTER COLUMN name SET DEFAULT 'x'"),
        Example("CREATE TEMP TABLE w (i int); ALTER TABLE w ALTER i TYPE bigint"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for alter in facts.alters:
            if alter.action == "AlterColumnType" and not alter.table.is_temp:
                yield self.found(f"changes the type of column {alter.name} of {alter.table}", alter.statement, (str(alter.table),))
