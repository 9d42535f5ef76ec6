from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class AlterTableDropColumn(Rule):
    """ALTER TABLE … DROP COLUMN, or ALTER TYPE … DROP ATTRIBUTE.

    Why it is held: the values of the column are gone.
    Instead: stop using the column, and drop it in a later release; or ask for approval
    Known gaps: a column that a function drops is not seen
    """

    id: ClassVar = "alter-table-drop-column"
    verdict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.HIGH
    irreversible: ClassVar = True
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("alters",)
    triggers: ClassVar = (
        Example("ALTER TABLE account DROP COLUMN email"),
        Example("ALTER TABLE account ADD note text, DROP email", because="COLUMN may be left out"),
        Example("ALTER TYPE address DROP ATTRIBUTE street"),
    )
    passes: ClassVar = (
        Example("ALTER TABLE account ADD COLUMN email text"),
        Example("ALTER TABLE account ALTER COLUMN email DROP NOT NULL"),
        Example("CREATE TEMP TABLE work (a int, b int); ALTER TABLE work DROP COLUMN b", because="it is temporary"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for alter in facts.alters:
            if alter.action == "DropColumn" and not alter.table.is_temp:
                yield self.found(f"drops column {alter.name} of {alter.table}", alter.statement, (str(alter.table),))
