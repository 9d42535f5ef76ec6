from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class PrivilegeEscalation(Rule):
    """Making a role superuser, or giving it CREATEROLE, REPLICATION, BYPASSRLS or a predefined role.

    Why it is held: whoever has that role can then do what no rule foresees.
    Instead: GRANT the single privileges that are needed
    Known gaps: privileges on single objects are not counted
    """

    id: ClassVar = "privilege-escalation"
    verdict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.HIGH
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("roles",)
    triggers: ClassVar = (
        Example("ALTER ROLE bob SUPERUSER"),
        Example("CREATE ROLE evil LOGIN SUPERUSER PASSWORD 'x'"),
        Example("GRANT pg_execute_server_program TO bob"),
    )
    passes: ClassVar = (
        Example("CREATE ROLE reader"),
        Example("GRANT readers TO bob"),
        Example("ALTER ROLE bob NOSUPERUSER"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for change in facts.roles:
            if change.powers:
                yield self.found(f"gives {', '.join(change.powers)} ({change.role})", change.statement)
