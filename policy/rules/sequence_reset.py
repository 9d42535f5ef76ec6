from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class SequenceReset(Rule):
    """setval(), or ALTER SEQUENCE … RESTART.

    Why it is held: duplicate keys later, and a rollback does not undo it.
    Instead: leave the sequence alone, or set it to max(id) + 1
    Known gaps: none known
    """

    id: ClassVar = "sequence-reset"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.LOW
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("acts", "calls")
    triggers: ClassVar = (
        Example("SELECT setval('account_id_seq', 1)"),
        Example("ALTER SEQUENCE account_id_seq RESTART"),
        Example("WITH s AS (SELECT setval('a', 1)) SELECT 1"),
    )
    passes: ClassVar = (
        Example("SELECT nextval('account_id_seq')"),
        Example("ALTER SEQUENCE account_id_seq OWNED BY account.id"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for act in facts.acts:
            if act.kind == "ALTER SEQUENCE RESTART" and not act.on_temp:
                yield self.found("restarts a sequence", act.statement, act.objects)
        for call in facts.calls:
            if call.name == "setval":
                yield self.found("sets a sequence", call.statement, (), (call.position, call.position))
