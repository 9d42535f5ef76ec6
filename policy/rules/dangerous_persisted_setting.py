from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Verdict

_SETTINGS = frozenset(
    {
        "standard_conforming_strings",
        "session_replication_role",
        "backslash_quote",
        "client_encoding",
        "row_security",
        "session_preload_libraries",
        "local_preload_libraries",
        "role",
    }
)


@final
class DangerousPersistedSetting(Rule):
    """ALTER ROLE, DATABASE or FUNCTION … SET of a setting that changes what statements mean or switches a protection off.

    Why it is held: every session to come starts with it, and it does not show in their text.
    Instead: leave the setting as it is
    Known gaps: none known
    """

    id: ClassVar = "dangerous-persisted-setting"
    verdict: ClassVar = Verdict.HOLD
    strict: ClassVar = Verdict.DENY
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("acts",)
    triggers: ClassVar = (
        Example("ALTER ROLE bob SET standard_conforming_strings = off"),
        Example("BEGIN; ALTER DATABASE shop SET session_replication_role = replica; COMMIT"),
    )
    passes: ClassVar = (Example("ALTER ROLE bob SET work_mem = '1GB'"),)

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for act in facts.acts:
            if act.kind in ("ALTER ROLE SET", "ALTER DATABASE SET", "FUNCTION SET") and act.detail.partition("=")[0] in _SETTINGS:
                yield self.found(f"{act.kind} {act.detail.partition('=')[0]}", act.statement, act.objects)
