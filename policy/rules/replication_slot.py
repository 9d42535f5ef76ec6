from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.rules._functions import SLOT_FUNCTIONS
from policy.verdict import Verdict


@final
class ReplicationSlot(Rule):
    """Dropping or advancing a replication slot, or consuming its changes.

    Why it is held: subscribers lose changes and must be filled anew.
    Instead: pg_logical_slot_peek_changes to look
    Known gaps: none known
    """

    id: ClassVar = "replication-slot"
    verdict: ClassVar = Verdict.HOLD
    strict: ClassVar = Verdict.HOLD
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("calls",)
    triggers: ClassVar = (
        Example("SELECT pg_drop_replication_slot('s')"),
        Example("DELETE FROM work WHERE pg_drop_replication_slot(name) IS NULL"),
    )
    passes: ClassVar = (Example("SELECT * FROM pg_replication_slots"),)

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for call in facts.calls:
            if call.name in SLOT_FUNCTIONS:
                yield self.found(
                    f"calls {call.name}(): it changes what replicas and subscribers get", call.statement, (), (call.position, call.position)
                )
