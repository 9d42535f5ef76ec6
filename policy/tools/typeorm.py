from __future__ import annotations

import re
from typing import ClassVar, Final, final

from policy.tools.tool import Act, Evidence, Tool

_DROP: Final = re.compile(r"DROP (?:MATERIALIZED VIEW|VIEW|TABLE|TYPE) IF EXISTS ")
_CHANGE: Final = re.compile(r"(?:ALTER TABLE|DROP (?:TABLE|VIEW|INDEX|TYPE|SEQUENCE)) ")


@final
class TypeORM(Tool):
    """Seen with 0.3 and 1.1.

    dropSchema, dropDatabase() and synchronize(true) are one transaction that first asks for the views: 1.x for their quoted names, 0.3 for DROP
    statements to send. Then come the views, all tables and all enumerations. A synchronization asks whether the server knows partitions.
    """

    name: ClassVar = "TypeORM"
    marks: ClassVar = (
        "quote_ident(schemaname) || '.' || quote_ident(viewname)",
        "'DROP VIEW IF EXISTS \"' || schemaname",
        "table_name = 'pg_class' and column_name = 'relispartition'",
    )

    def recognise(self, evidence: Evidence) -> Act | None:
        names, statements, partitions = self.marks
        if _DROP.match(evidence.script) and any(names in s or statements in s or _asks_for_tables(s) for s in evidence.recent):
            return Act(self.name, "schema drop")
        if partitions in evidence.marks and _CHANGE.match(evidence.script):
            return Act(self.name, "synchronization", forced=False, is_whole=False)
        return None


def _asks_for_tables(script: str) -> bool:
    return "quote_ident(schemaname) || '.' || quote_ident(tablename)" in script or "'DROP TABLE IF EXISTS \"' || schemaname" in script
