from __future__ import annotations

from typing import ClassVar, final

from policy.rule import ActRule, Example
from policy.verdict import Severity, Verdict


@final
class DoCode(ActRule):
    """A DO block, even one whose statements are known and harmless.

    Why it is held: code in a string.
    Instead: send its statements one by one
    Known gaps: none known
    """

    id: ClassVar = "do-code"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.LOW
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("acts",)
    triggers: ClassVar = (
        Example("DO $$ BEGIN RAISE NOTICE 'hello'; END $$"),
        Example("BEGIN; DO $$ BEGIN PERFORM 1; END $$; COMMIT"),
    )
    passes: ClassVar = (Example("SELECT 1"),)
    kinds: ClassVar = frozenset(
        {
            "DO",
        }
    )
