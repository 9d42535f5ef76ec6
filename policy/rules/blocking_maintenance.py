from __future__ import annotations

from typing import ClassVar, final

from policy.rule import ActRule, Example
from policy.verdict import Severity, Verdict


@final
class BlockingMaintenance(ActRule):
    """VACUUM FULL, CLUSTER, REINDEX without CONCURRENTLY, or REFRESH … WITH NO DATA.

    Why it is held: nobody can use the table while it runs, or the view is empty after it.
    Instead: VACUUM, REINDEX … CONCURRENTLY, REFRESH MATERIALIZED VIEW CONCURRENTLY
    Known gaps: the size of the table is not known
    """

    id: ClassVar = "blocking-maintenance"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.LOW
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("acts",)
    triggers: ClassVar = (
        Example("VACUUM FULL account"),
        Example("SELECT 1; CLUSTER account USING account_pkey"),
        Example("REINDEX TABLE account"),
    )
    passes: ClassVar = (
        Example("VACUUM ANALYZE account"),
        Example("REINDEX TABLE CONCURRENTLY account"),
        Example("REFRESH MATERIALIZED VIEW totals"),
    )
    kinds: ClassVar = frozenset(
        {
            "VACUUM FULL",
            "CLUSTER",
            "REINDEX",
            "REFRESH MATERIALIZED VIEW WITH NO DATA",
        }
    )
