from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Verdict

_ACTIONS = frozenset({"DetachPartition", "DropInherit"})


@final
class DetachPartition(Rule):
    """ALTER TABLE … DETACH PARTITION or NO INHERIT.

    Why it is held: the rows of the partition vanish from the parent, and with them from every query of it.
    Instead: DETACH PARTITION … CONCURRENTLY, with approval
    Known gaps: none known
    """

    id: ClassVar = "detach-partition"
    verdict: ClassVar = Verdict.HOLD
    strict: ClassVar = Verdict.HOLD
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("alters",)
    triggers: ClassVar = (
        Example("ALTER TABLE event DETACH PARTITION event_2019"),
        Example("BEGIN; ALTER TABLE event_2019 NO INHERIT event; COMMIT"),
    )
    passes: ClassVar = (Example("ALTER TABLE event ATTACH PARTITION event_2027 FOR VALUES FROM (1) TO (2)"),)

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for alter in facts.alters:
            if alter.action in _ACTIONS and not alter.table.is_temp:
                yield self.found(f"takes rows out of the parent of {alter.table}", alter.statement, (str(alter.table),))
