from __future__ import annotations

from typing import ClassVar, final

from policy.rule import ActRule, Example
from policy.verdict import Severity, Verdict


@final
class ReplicationChange(ActRule):
    """Changing a publication, REPLICA IDENTITY NOTHING, or making or changing a subscription.

    Why it is held: what replicas and subscribers get changes.
    Instead: ask for approval
    Known gaps: none known
    """

    id: ClassVar = "replication-change"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.LOW
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("acts",)
    triggers: ClassVar = (
        Example("ALTER PUBLICATION p ADD TABLE account"),
        Example("BEGIN; ALTER SUBSCRIPTION s DISABLE; COMMIT"),
        Example("CREATE SUBSCRIPTION s CONNECTION 'host=x' PUBLICATION p"),
    )
    passes: ClassVar = (Example("CREATE PUBLICATION p FOR TABLE account"),)
    kinds: ClassVar = frozenset(
        {
            "ALTER PUBLICATION",
            "REPLICA IDENTITY NOTHING",
            "CREATE SUBSCRIPTION",
            "ALTER SUBSCRIPTION",
        }
    )
