from __future__ import annotations

import re
from typing import ClassVar, Final, final

from policy.tools.tool import Act, Evidence, Tool

_RESET: Final = re.compile(r'\s*DROP SCHEMA (?:"(?:[^"]|"")*"|\w+) CASCADE\s*;?\s*\Z')
_CHANGE: Final = re.compile(r"(?:\s|--[^\n]*\n|/\*[^*]*\*/)*(?:ALTER|DROP|TRUNCATE)\s", re.IGNORECASE)


@final
class Prisma(Tool):
    """Seen with 6.19's schema engine.

    The engine begins every connection by asking for the server's version as `numeric_version`, and takes the advisory lock 72707369 when it applies
    migrations. migrate reset and db push --force-reset drop the schema. An approved reset goes on without a further hold in that connection only.
    """

    name: ClassVar = "Prisma"
    marks: ClassVar = ("as numeric_version", "pg_advisory_lock(72707369)")

    def recognise(self, evidence: Evidence) -> Act | None:
        version, lock = self.marks
        if not evidence.marks & {version, lock}:
            return None
        if _RESET.match(evidence.script):
            return Act(self.name, "reset")
        if lock in evidence.marks:
            # A file of migrations may begin with anything.
            return Act(self.name, "migration", forced=False, is_whole=False)
        if _CHANGE.match(evidence.script):
            return Act(self.name, "schema push", forced=False, is_whole=False)
        return None
