from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class DropDatabase(Rule):
    """DROP DATABASE or DROP TABLESPACE.

    Why it is held: it cannot run in a transaction, and nothing undoes it.
    Instead: revoke CONNECT and drop it later, or ask for approval after a dump was taken
    Known gaps: a table that a function drops is not seen
    """

    id: ClassVar = "drop-database"
    verdict: ClassVar = Verdict.HOLD
    strict: ClassVar = Verdict.DENY
    severity: ClassVar = Severity.CRITICAL
    irreversible: ClassVar = True
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("drops",)
    triggers: ClassVar = (
        Example("DROP DATABASE shop"),
        Example("DROP DATABASE IF EXISTS shop WITH (FORCE)"),
        Example("DROP TABLESPACE fast"),
    )
    passes: ClassVar = (Example("CREATE DATABASE shop"),)

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for drop in facts.drops:
            if drop.kind in ("DATABASE", "TABLESPACE") and not drop.all_temp:
                names = ", ".join(drop.names)
                cascade = " with CASCADE" if drop.cascade else ""
                yield self.found(f"DROP {drop.kind} {names}{cascade}", drop.statement, drop.names)
