from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class AlterSystem(Rule):
    """ALTER SYSTEM.

    Why it is held: it changes the whole server, persistently.
    Instead: SET in the session, or ALTER ROLE … SET
    Known gaps: none known
    """

    id: ClassVar = "alter-system"
    verdict: ClassVar = Verdict.HOLD
    strict: ClassVar = Verdict.DENY
    severity: ClassVar = Severity.HIGH
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("statements",)
    triggers: ClassVar = (
        Example("ALTER SYSTEM SET fsync = off"),
        Example("SELECT 1; ALTER SYSTEM RESET ALL"),
    )
    passes: ClassVar = (Example("ALTER ROLE app SET work_mem = '64MB'"),)

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for index, statement in enumerate(facts.statements):
            if statement.kind == "ALTER SYSTEM":
                yield self.found("changes the configuration of the server", index)
