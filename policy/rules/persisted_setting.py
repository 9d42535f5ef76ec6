from __future__ import annotations

from typing import ClassVar, final

from policy.rule import ActRule, Example
from policy.verdict import Severity, Verdict


@final
class PersistedSetting(ActRule):
    """ALTER ROLE … SET or ALTER DATABASE … SET.

    Why it is held: every session to come starts with it.
    Instead: SET in the session that needs it
    Known gaps: none known
    """

    id: ClassVar = "persisted-setting"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.LOW
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("acts",)
    triggers: ClassVar = (
        Example("ALTER ROLE bob SET work_mem = '1GB'"),
        Example("SELECT 1; ALTER DATABASE shop SET search_path = a"),
    )
    passes: ClassVar = (Example("SET work_mem = '1GB'"),)
    kinds: ClassVar = frozenset(
        {
            "ALTER ROLE SET",
            "ALTER DATABASE SET",
        }
    )
