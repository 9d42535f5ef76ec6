from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.rules._functions import LARGE_OBJECT_WRITERS
from policy.verdict import Severity, Verdict


@final
class LargeObject(Rule):
    """Destroying or overwriting a large object by a function.

    Why it is held: a SELECT that calls it is no read, and there is no undo.
    Instead: lo_export the object first, or ask for approval
    Known gaps: none known
    """

    id: ClassVar = "large-object"
    verdict: ClassVar = Verdict.HOLD
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.HIGH
    irreversible: ClassVar = True
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("calls",)
    triggers: ClassVar = (
        Example("SELECT lo_unlink(1)"),
        Example("SELECT count(*) FROM (SELECT lo_put(1, 0, '\\x00')) x"),
    )
    passes: ClassVar = (Example("SELECT lo_get(1)"),)

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for call in facts.calls:
            if call.name in LARGE_OBJECT_WRITERS:
                yield self.found(
                    f"calls {call.name}(): it {LARGE_OBJECT_WRITERS[call.name]} a large object",
                    call.statement,
                    (),
                    (call.position, call.position),
                )
