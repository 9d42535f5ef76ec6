from __future__ import annotations

from typing import ClassVar, final

from policy.rule import ActRule, Example
from policy.verdict import Severity, Verdict


@final
class ReassignOwned(ActRule):
    """REASSIGN OWNED.

    Why it is held: everything that a role owns goes to another one at once.
    Instead: ALTER … OWNER of single objects
    Known gaps: none known
    """

    id: ClassVar = "reassign-owned"
    verdict: ClassVar = Verdict.HOLD
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.HIGH
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("acts",)
    triggers: ClassVar = (
        Example("REASSIGN OWNED BY bob TO ana"),
        Example("BEGIN; REASSIGN OWNED BY CURRENT_USER TO ana; COMMIT"),
    )
    passes: ClassVar = (Example("ALTER TABLE account OWNER TO ana"),)
    kinds: ClassVar = frozenset(
        {
            "REASSIGN OWNED",
        }
    )
