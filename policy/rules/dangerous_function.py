from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.rules._functions import DANGEROUS, LATER_SCHEMAS
from policy.verdict import Verdict


@final
class DangerousFunction(Rule):
    """A call of a function that ends other sessions, changes the state of the server, or runs SQL later.

    Why it is held: a SELECT that calls it is no read.
    Instead: ask for approval and say why it is needed
    Known gaps: functions that are not listed, user functions among them, are not looked into in profile guard
    """

    id: ClassVar = "dangerous-function"
    verdict: ClassVar = Verdict.HOLD
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("calls",)
    triggers: ClassVar = (
        Example("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"),
        Example("DELETE FROM work WHERE id = 1 AND pg_reload_conf()"),
        Example("SELECT cron.schedule('* * * * *', 'DELETE FROM account')"),
    )
    passes: ClassVar = (
        Example("SELECT pg_backend_pid()"),
        Example("SELECT lo_open(1, 262144)"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for call in facts.calls:
            if call.name in DANGEROUS:
                span = (call.position, call.position)
                yield self.found(f"calls {call.name}(): {DANGEROUS[call.name]}", call.statement, (), span)
            elif call.name in LATER_SCHEMAS.get(call.schema, ()):
                yield self.found(f"calls {call.schema}.{call.name}(): it runs later or elsewhere", call.statement)
