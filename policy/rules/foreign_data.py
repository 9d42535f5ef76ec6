from __future__ import annotations

from typing import ClassVar, final

from policy.rule import ActRule, Example
from policy.verdict import Severity, Verdict


@final
class ForeignData(ActRule):
    """Foreign servers, user mappings, data wrappers and foreign tables.

    Why it is held: what is written there goes over a connection that is not seen.
    Instead: connect to the other database through a proxy of its own
    Known gaps: none known
    """

    id: ClassVar = "foreign-data"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.LOW
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("acts",)
    triggers: ClassVar = (
        Example("CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw"),
        Example("CREATE SCHEMA a; IMPORT FOREIGN SCHEMA public FROM SERVER s INTO a"),
    )
    passes: ClassVar = (Example("CREATE TABLE t (i int)"),)
    kinds: ClassVar = frozenset(
        {
            "CREATE SERVER",
            "ALTER SERVER",
            "CREATE USER MAPPING",
            "ALTER USER MAPPING",
            "CREATE FOREIGN DATA WRAPPER",
            "ALTER FOREIGN DATA WRAPPER",
            "IMPORT FOREIGN SCHEMA",
            "CREATE FOREIGN TABLE",
            "ALTER FOREIGN TABLE",
        }
    )
