from __future__ import annotations

import re
from typing import ClassVar, Final, final

from policy.tools.tool import Act, Evidence, Tool

_NAME: Final = r'(?:"(?:[^"]|"")*"|\w+)(?:\.(?:"(?:[^"]|"")*"|\w+))?'
_DROP: Final = re.compile(rf"DROP TABLE IF EXISTS {_NAME}( CASCADE)?;\s*\Z")
_TRUNCATE: Final = re.compile(rf"TRUNCATE {_NAME}(?: RESTART IDENTITY)?(?: CASCADE)?;?\s*\Z")


@final
class Sequelize(Tool):
    """Seen with 6.37; 5 sends the same.

    Every connection begins with one script that sets client_min_messages and the time zone, with no blank behind the semicolon; the first one of
    a pool then asks for range types. sync({force: true}) drops each table with CASCADE, drop() without. That of one model looks the same, so a
    drop is "up to" all tables. Whoever has read SequelizeMeta migrates (sequelize-cli, umzug).
    """

    name: ClassVar = "Sequelize"
    marks: ClassVar = (";SET TIME ZONE ", "AS rngtypname", '"SequelizeMeta"')

    def recognise(self, evidence: Evidence) -> Act | None:
        setting, types, history = self.marks
        if not {setting, types} & evidence.marks:
            return None
        script = evidence.script
        drop = _DROP.match(script)
        if history in evidence.marks:
            is_step = drop is not None or script.startswith(("ALTER TABLE ", "DROP TYPE ", "TRUNCATE "))
            return Act(self.name, "migration", forced=False, is_whole=False) if is_step else None
        if drop is not None:
            return Act(self.name, "force sync") if drop[1] else Act(self.name, "drop", is_whole=False)
        if _TRUNCATE.match(script):
            return Act(self.name, "truncate", forced=False, is_whole=False)
        described = any('pk.constraint_type as "Constraint"' in s or "DISTINCT tc.constraint_name as" in s for s in evidence.recent)
        if described and script.startswith("ALTER TABLE "):
            return Act(self.name, "sync with alter", forced=False, is_whole=False)
        return None
