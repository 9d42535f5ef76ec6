from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class DropTable(Rule):
    """DROP TABLE, of a foreign table or a materialized view too.

    Why it is held: its rows are gone, and with CASCADE so is more than the statement names.
    Instead: rename the table and drop it later, or ask for approval and say that its rows are not needed
    Known gaps: a table that a function drops is not seen
    """

    id: ClassVar = "drop-table"
    verdict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.HIGH
    irreversible: ClassVar = True
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("drops",)
    triggers: ClassVar = (
        Example("DROP TABLE account"),
        Example("DROP TABLE IF EXISTS a, b CASCADE"),
        Example("BEGIN; DROP TABLE account; COMMIT", because="one statement of a script"),
        Example("DROP MATERIALIZED VIEW totals"),
    )
    passes: ClassVar = (
        Example("CREATE TEMP TABLE work (id int); DROP TABLE work", because="it is temporary"),
        Example("DROP TABLE pg_temp.work", because="it is temporary"),
        Example("SELECT 'DROP TABLE account'", because="a string"),
        Example("CREATE TABLE IF NOT EXISTS account (id int)"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for drop in facts.drops:
            if drop.kind in ("TABLE", "FOREIGN TABLE", "MATERIALIZED VIEW") and not drop.all_temp:
                names = ", ".join(drop.names)
                cascade = " with CASCADE" if drop.cascade else ""
                yield self.found(f"DROP {drop.kind} {names}{cascade}", drop.statement, drop.names)
