from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Verdict


@final
class SetUnlogged(Rule):
    """ALTER TABLE … SET UNLOGGED.

    Why it is held: its rows are lost after a crash, and replicas do not have them.
    Instead: leave the table logged, or CREATE UNLOGGED TABLE beside it
    Known gaps: none known
    """

    id: ClassVar = "set-unlogged"
    verdict: ClassVar = Verdict.HOLD
    strict: ClassVar = Verdict.HOLD
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("alters",)
    triggers: ClassVar = (
        Example("ALTER TABLE account SET UNLOGGED"),
        Example("BEGIN; ALTER TABLE account SET UNLOGGED; COMMIT"),
    )
    passes: ClassVar = (
        Example("ALTER TABLE account SET LOGGED"),
        Example("CREATE UNLOGGED TABLE cache (id int)"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for alter in facts.alters:
            if alter.action == "SetUnLogged" and not alter.table.is_temp:
                yield self.found(f"makes {alter.table} unlogged", alter.statement, (str(alter.table),))
