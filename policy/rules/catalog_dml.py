from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class CatalogDml(Rule):
    """Changing a system catalog directly.

    Why it is denied: it corrupts the cluster, or takes rights that nobody granted.
    Instead: use the DDL statement for it
    Known gaps: catalogs that a search_path shadows are judged by their names
    """

    id: ClassVar = "catalog-dml"
    verdict: ClassVar = Verdict.DENY
    strict: ClassVar = Verdict.DENY
    severity: ClassVar = Severity.CRITICAL
    irreversible: ClassVar = True
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("catalog_writes",)
    triggers: ClassVar = (
        Example("DELETE FROM pg_catalog.pg_class WHERE relname = 't'"),
        Example("UPDATE pg_authid SET rolsuper = true WHERE rolname = 'bob'"),
        Example("WITH d AS (DELETE FROM pg_proc WHERE oid = 1 RETURNING 1) SELECT 1"),
        Example("ALTER TABLE pg_class ADD x int"),
    )
    passes: ClassVar = (
        Example("SELECT * FROM pg_class"),
        Example("DELETE FROM pg_stat_log WHERE id = 1", because="no catalog"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for relation, statement in facts.catalog_writes:
            yield self.found(f"changes the system catalog {relation}", statement, (relation,))
