from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Verdict


@final
class Unproven(Rule):
    """A statement of which a part is not known to this version.

    Why it is held: what is not understood may do more than it says.
    Instead: ask for approval
    Known gaps: none known
    """

    id: ClassVar = "unproven"
    verdict: ClassVar = Verdict.HOLD
    strict: ClassVar = Verdict.HOLD
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("opaque",)
    triggers: ClassVar = (
        Example("SELECT set_config(name, 'off', false) FROM settings"),
        Example("BEGIN; SELECT set_config(name, 'off', false) FROM settings; COMMIT"),
    )
    passes: ClassVar = (Example("SELECT 1"),)

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for opaque in facts.opaque:
            yield self.found(opaque.what, opaque.statement)
