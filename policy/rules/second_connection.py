from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.rules._functions import SECOND_CONNECTIONS
from policy.verdict import Severity, Verdict


@final
class SecondConnection(Rule):
    """A call that opens another connection, or runs SQL through one: dblink and the like.

    Why it is denied: what runs there is not seen here.
    Instead: connect to the other database through a proxy of its own
    Known gaps: foreign tables are not looked through
    """

    id: ClassVar = "second-connection"
    verdict: ClassVar = Verdict.DENY
    strict: ClassVar = Verdict.DENY
    severity: ClassVar = Severity.HIGH
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("calls",)
    triggers: ClassVar = (
        Example("SELECT dblink_exec('dbname=x', 'DROP TABLE account')"),
        Example("WITH x AS (SELECT dblink_connect('dbname=x')) SELECT 1"),
    )
    passes: ClassVar = (Example("SELECT dblink_get_connections()"),)

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for call in facts.calls:
            if call.name in SECOND_CONNECTIONS:
                yield self.found(f"calls {call.name}(), a connection that is not seen", call.statement, (), (call.position, call.position))
