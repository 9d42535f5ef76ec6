from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class TextEncoding(Rule):
    """A client_encoding other than UTF-8.

    Why it is held: what people are shown may not be what the server reads.
    Instead: use UTF-8
    Known gaps: none known
    """

    id: ClassVar = "text-encoding"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.LOW
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("settings",)
    triggers: ClassVar = (
        Example("SET client_encoding TO LATIN1"),
        Example("SELECT set_config('client_encoding', 'WIN1252', false)"),
    )
    passes: ClassVar = (
        Example("SET client_encoding = 'UTF8'"),
        Example("SET NAMES 'utf-8'"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for setting in facts.settings:
            value = (setting.value or "?").upper().replace("-", "").replace("_", "")
            if setting.name in ("client_encoding", "names") and not setting.is_reset and value not in ("UTF8", "UNICODE", "SQLASCII"):
                yield self.found("sets a client_encoding other than UTF-8", setting.statement)
