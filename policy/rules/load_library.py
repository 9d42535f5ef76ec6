from __future__ import annotations

from typing import ClassVar, final

from policy.rule import ActRule, Example
from policy.verdict import Severity, Verdict


@final
class LoadLibrary(ActRule):
    """LOAD of a shared library.

    Why it is held: native code runs inside the server.
    Instead: let whoever runs the server preload it
    Known gaps: none known
    """

    id: ClassVar = "load-library"
    verdict: ClassVar = Verdict.HOLD
    strict: ClassVar = Verdict.DENY
    severity: ClassVar = Severity.HIGH
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("acts",)
    triggers: ClassVar = (
        Example("LOAD 'evil'"),
        Example("BEGIN; LOAD 'auto_explain'; COMMIT"),
    )
    passes: ClassVar = (Example("SELECT 1"),)
    kinds: ClassVar = frozenset(
        {
            "LOAD",
        }
    )
