from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Condition, Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class MergeUnconditional(Rule):
    """A MERGE that deletes or updates every matched row.

    Why it is held: MERGE deletes and updates as DELETE and UPDATE do; without a condition it changes all rows
      that match, and with ON true that is all rows.
    Instead: add AND … to the WHEN clause, or a filter to the source
    Known gaps: rows that match because of the data are not counted
    """

    id: ClassVar = "merge-unconditional"
    verdict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.HIGH
    irreversible: ClassVar = True
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("merges",)
    triggers: ClassVar = (
        Example("MERGE INTO account a USING old o ON a.id = o.id WHEN MATCHED THEN DELETE"),
        Example("MERGE INTO account a USING (SELECT 1) s ON true WHEN MATCHED THEN UPDATE SET balance = 0"),
        Example("WITH m AS (MERGE INTO account a USING old o ON true WHEN MATCHED THEN DELETE RETURNING 1) SELECT 1"),
    )
    passes: ClassVar = (
        Example("MERGE INTO account a USING new n ON a.id = n.id WHEN MATCHED THEN UPDATE SET balance = n.balance"),
        Example("MERGE INTO account a USING old o ON a.id = o.id WHEN MATCHED AND o.gone THEN DELETE"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for merge in facts.merges:
            if merge.table.is_temp:
                continue
            table = str(merge.table)
            span = (merge.position, merge.position)
            if merge.deletes in (Condition.MISSING, Condition.ALWAYS, Condition.UNLINKED):
                yield self.found(f"MERGE deletes every matched row of {table}", merge.statement, (table,), span)
            if merge.updates in (Condition.MISSING, Condition.ALWAYS, Condition.UNLINKED):
                yield self.found(f"MERGE updates rows of {table} without a filter", merge.statement, (table,), span)
