from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class ColumnOverwrite(Rule):
    """ALTER TABLE … ALTER COLUMN … TYPE … USING an expression without any column.

    Why it is held: every value of the column is replaced by the same one.
    Instead: convert the old value: USING column::type
    Known gaps: an expression that names the column but ignores it is not recognised
    """

    id: ClassVar = "column-overwrite"
    verdict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.HIGH
    irreversible: ClassVar = True
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("alters",)
    triggers: ClassVar = (
        Example("ALTER TABLE account ALTER COLUMN email TYPE text USING ''"),
        Example("ALTER TABLE account ADD note text, ALTER id TYPE bigint USING NULL"),
    )
    passes: ClassVar = (
        Example("ALTER TABLE account ALTER COLUMN id TYPE bigint"),
        Example("ALTER TABLE account ALTER COLUMN id TYPE text USING id::text"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for alter in facts.alters:
            if alter.constant_using and not alter.table.is_temp:
                yield self.found(f"overwrites column {alter.name} of {alter.table}", alter.statement, (str(alter.table),))
