from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Verdict


@final
class DangerousPreparedStatement(Rule):
    """PREPARE or EXECUTE of a statement that would be held by itself.

    Why it is held: EXECUTE runs it, any number of times.
    Instead: prepare a statement that needs no approval
    Known gaps: none known
    """

    id: ClassVar = "dangerous-prepared-statement"
    verdict: ClassVar = Verdict.HOLD
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("executed", "prepared")
    triggers: ClassVar = (
        Example("PREPARE wipe AS DELETE FROM account"),
        Example("PREPARE wipe AS DELETE FROM account; EXECUTE wipe"),
    )
    passes: ClassVar = (Example("PREPARE one(int) AS DELETE FROM account WHERE id = $1; EXECUTE one(7)"),)

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for name, judgement, statement in facts.prepared:
            for finding in judgement.findings:
                yield replace(finding, message=f"prepared as {name}: {finding.message}", statement=statement, span=(0, 0))
        for executed in facts.executed:
            for finding in max(executed.meanings, key=lambda j: j.verdict).findings if executed.meanings else ():
                message = f"executes {executed.name}: {finding.message}"
                yield replace(finding, message=message, statement=executed.statement, span=(0, 0))
