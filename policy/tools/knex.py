from __future__ import annotations

import re
from typing import ClassVar, Final, final

from policy.tools.tool import Act, Evidence, Tool

_STEP: Final = re.compile(r"\s*(?:drop|alter|truncate)\s", re.IGNORECASE)
#: What a run ends with: the lock is given back, without a condition.
_UNLOCK: Final = re.compile(r'update (?:"[^"]*"\.)?"[^"]*_lock" set "is_locked" = \$1\Z')


@final
class Knex(Tool):
    """Seen with 3.3.

    It goes by its table of migrations. migrate:rollback and migrate:down commit their lock before they ask for the last batch, migrate:latest
    and migrate:up ask within the transaction in which they then migrate. A table of another name than knex_migrations is not recognised.
    Every run gives its lock back by an UPDATE without WHERE, which is held: where nothing was before, the act begins with it.
    """

    name: ClassVar = "Knex"
    marks: ClassVar = ('"knex_migrations',)

    def recognise(self, evidence: Evidence) -> Act | None:
        if _UNLOCK.match(evidence.script.strip()):
            return Act(self.name, "migration", forced=False, is_whole=False)
        if not evidence.marks.issuperset(self.marks) or not _STEP.match(evidence.script):
            return None
        recent = [s.strip() for s in evidence.recent]
        if any(_UNLOCK.match(s) for s in recent):
            return None
        asked = max((i for i, s in enumerate(recent) if s.startswith('select max("batch")')), default=-1)
        removed = any(s.startswith('delete from "knex_migrations"') for s in recent)
        if removed or (asked > 0 and recent[asked - 1] == "COMMIT;"):
            return Act(self.name, "rollback", forced=False, is_whole=False)
        return Act(self.name, "migration", forced=False, is_whole=False)
