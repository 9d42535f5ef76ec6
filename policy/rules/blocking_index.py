from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class BlockingIndex(Rule):
    """CREATE INDEX without CONCURRENTLY on a table that is there already.

    Why it is held: nobody can write to the table while it is built.
    Instead: CREATE INDEX CONCURRENTLY, outside a transaction
    Known gaps: the size of the table is not known: off in both profiles, for a policy to switch on
    """

    id: ClassVar = "blocking-index"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.ALLOW
    severity: ClassVar = Severity.LOW
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("acts",)
    triggers: ClassVar = (
        Example("CREATE INDEX account_name ON account (name)"),
        Example("BEGIN; CREATE UNIQUE INDEX u ON account (email); COMMIT"),
    )
    passes: ClassVar = (
        Example("CREATE INDEX CONCURRENTLY account_name ON account (name)"),
        Example("CREATE TABLE t (i int); CREATE INDEX ON t (i)"),
        Example("CREATE TEMP TABLE w (i int); CREATE INDEX ON w (i)"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        made = {o for act in facts.acts if act.kind.startswith("CREATE TABLE") for o in act.objects}
        for act in facts.acts:
            if act.kind == "CREATE INDEX" and not act.on_temp and act.objects[0].rpartition(".")[2] not in made:
                yield self.found(f"builds an index of {act.objects[0]} without CONCURRENTLY", act.statement, act.objects)
