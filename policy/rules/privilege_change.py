from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import ActRule, Example
from policy.verdict import Severity, Verdict


@final
class PrivilegeChange(ActRule):
    """GRANT, REVOKE, ALTER DEFAULT PRIVILEGES, ALTER … OWNER, SECURITY LABEL, and making or changing roles.

    Why it is held: rights decide what no rule here sees.
    Instead: ask for approval
    Known gaps: none known
    """

    id: ClassVar = "privilege-change"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.LOW
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("acts", "alters")
    triggers: ClassVar = (
        Example("GRANT SELECT ON account TO bob"),
        Example("BEGIN; ALTER TABLE account OWNER TO bob; COMMIT"),
        Example("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO bob"),
        Example("CREATE ROLE bob"),
    )
    passes: ClassVar = (Example("SELECT has_table_privilege('account', 'select')"),)
    kinds: ClassVar = frozenset(
        {
            "GRANT",
            "REVOKE",
            "GRANT ROLE",
            "REVOKE ROLE",
            "ALTER DEFAULT PRIVILEGES",
            "ALTER OWNER",
            "SECURITY LABEL",
            "CREATE ROLE",
            "ALTER ROLE",
        }
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        yield from super().check(facts, context)
        for alter in facts.alters:
            if alter.action == "ChangeOwner" and not alter.table.is_temp:
                yield self.found(f"gives {alter.table} to another role", alter.statement, (str(alter.table),))
