from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class GuardSetting(Rule):
    """Switching off a guard of an extension: safeupdate, pg_savior, sql_firewall, pgaudit.

    Why it is denied: the guard was put there by whoever runs the database.
    Instead: ask for approval of the statement that the guard stops
    Known gaps: other extensions are not listed
    """

    id: ClassVar = "guard-setting"
    verdict: ClassVar = Verdict.DENY
    strict: ClassVar = Verdict.DENY
    severity: ClassVar = Severity.CRITICAL
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("settings",)
    triggers: ClassVar = (
        Example("SET safeupdate.enabled = 0"),
        Example("SELECT set_config('pg_savior.bypass', 'on', true)"),
    )
    passes: ClassVar = (Example("SET my.setting = 1"),)

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for setting in facts.settings:
            if setting.name.partition(".")[0] in ("safeupdate", "pg_savior", "sql_firewall", "pgaudit") and "." in setting.name:
                yield self.found(f"changes {setting.name}", setting.statement)
