from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class DropOwned(Rule):
    """DROP OWNED BY.

    Why it is held: it drops everything the role owns in this database.
    Instead: REASSIGN OWNED first, and drop single objects
    Known gaps: a table that a function drops is not seen
    """

    id: ClassVar = "drop-owned"
    verdict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.CRITICAL
    irreversible: ClassVar = True
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("drops",)
    triggers: ClassVar = (
        Example("DROP OWNED BY app"),
        Example("SELECT 1; DROP OWNED BY app, web CASCADE"),
    )
    passes: ClassVar = (Example("REASSIGN OWNED BY app TO web", because="nothing is lost"),)

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for drop in facts.drops:
            if drop.kind == "OWNED" and not drop.all_temp:
                names = ", ".join(drop.names)
                cascade = " with CASCADE" if drop.cascade else ""
                yield self.found(f"DROP {drop.kind} {names}{cascade}", drop.statement, drop.names)
