from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class Rename(Rule):
    """ALTER … RENAME or SET SCHEMA.

    Why it is held: what uses the old name breaks, and a rename with a new empty table is a disguised TRUNCATE.
    Instead: add a view under the old name in the same transaction
    Known gaps: none known
    """

    id: ClassVar = "rename"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.LOW
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("acts",)
    triggers: ClassVar = (
        Example("ALTER TABLE account RENAME TO account_old"),
        Example("BEGIN; ALTER TABLE account RENAME COLUMN name TO title; COMMIT"),
        Example("ALTER TABLE account SET SCHEMA attic"),
    )
    passes: ClassVar = (Example("CREATE TEMP TABLE w (i int); ALTER TABLE w RENAME TO v"),)

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for act in facts.acts:
            if act.kind.startswith(("RENAME", "SET SCHEMA")) and not act.on_temp:
                yield self.found(f"{act.kind.lower()} {', '.join(act.objects)}".rstrip(), act.statement, act.objects)
