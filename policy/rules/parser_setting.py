from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class ParserSetting(Rule):
    """standard_conforming_strings off, or another setting that changes how text is read.

    Why it is denied: the same text means another statement then, so what is judged would not be what runs.
    Instead: write E'…' strings where backslashes are needed
    Known gaps: none known
    """

    id: ClassVar = "parser-setting"
    verdict: ClassVar = Verdict.DENY
    strict: ClassVar = Verdict.DENY
    severity: ClassVar = Severity.HIGH
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("settings",)
    triggers: ClassVar = (
        Example("SET standard_conforming_strings = off"),
        Example("SELECT set_config('standard_conforming_strings', 'off', false)"),
        Example("SET LOCAL backslash_quote TO on"),
    )
    passes: ClassVar = (
        Example("SET standard_conforming_strings = on"),
        Example("RESET standard_conforming_strings"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for setting in facts.settings:
            value = (setting.value or "").lower()
            off = (setting.value is None and not setting.is_reset) or value in ("off", "false", "0", "no", "f", "n", "of")
            if setting.name == "standard_conforming_strings" and off:
                yield self.found("turns standard_conforming_strings off", setting.statement)
            elif setting.name == "backslash_quote" and value in ("on", "true", "1", "yes"):
                yield self.found("turns backslash_quote on", setting.statement)
