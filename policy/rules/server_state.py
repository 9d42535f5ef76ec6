from __future__ import annotations

from typing import ClassVar, final

from policy.rule import ActRule, Example
from policy.verdict import Severity, Verdict


@final
class ServerState(ActRule):
    """CHECKPOINT, tablespaces, ALTER DATABASE, ALTER TYPE RENAME VALUE and the like: the state of the whole server.

    Why it is held: it concerns everybody who uses it.
    Instead: ask for approval
    Known gaps: none known
    """

    id: ClassVar = "server-state"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.LOW
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("acts",)
    triggers: ClassVar = (
        Example("CHECKPOINT"),
        Example("SELECT 1; ALTER DATABASE shop CONNECTION LIMIT 1"),
        Example("CREATE TABLESPACE t LOCATION '/x'"),
    )
    passes: ClassVar = (Example("CREATE DATABASE shop"),)
    kinds: ClassVar = frozenset(
        {
            "CHECKPOINT",
            "CREATE TABLESPACE",
            "ALTER TABLESPACE",
            "ALTER DATABASE",
            "DISCARD ALL",
        }
    )
