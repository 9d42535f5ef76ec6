from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class DropRole(Rule):
    """DROP ROLE, USER or GROUP.

    Why it is held: whoever uses it cannot log in any more.
    Instead: ALTER ROLE … NOLOGIN
    Known gaps: a table that a function drops is not seen
    """

    id: ClassVar = "drop-role"
    verdict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.HIGH
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("drops",)
    triggers: ClassVar = (
        Example("DROP ROLE app"),
        Example("DROP USER IF EXISTS a, b"),
    )
    passes: ClassVar = (Example("CREATE ROLE reader"),)

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for drop in facts.drops:
            if drop.kind == "ROLE" and not drop.all_temp:
                names = ", ".join(drop.names)
                cascade = " with CASCADE" if drop.cascade else ""
                yield self.found(f"DROP {drop.kind} {names}{cascade}", drop.statement, drop.names)
