from __future__ import annotations

from typing import ClassVar, Final, final

from policy.tools.tool import Act, Evidence, Tool

#: How SQLAlchemy writes the question for the version, whatever the version table is called.
_VERSION: Final = ".version_num \nFROM "
#: In a new database nothing is asked for: the table is made, and rows are put into it.
_TABLE: Final = "alembic_version"
#: What a migration destroys with. Other dangerous statements of it (GRANT, CREATE FUNCTION, DO) are matters of their own.
_DESTROYING: Final = ("ALTER", "DELETE", "DROP", "TRUNCATE", "UPDATE")


@final
class Alembic(Tool):
    """Alembic: its version table is in what the session sent before.

    Seen with Alembic 1.11, 1.13 and 1.20; psycopg2, psycopg and asyncpg; one transaction for all migrations and one for each. A downgrade and
    an upgrade look the same until the version is written, behind what was destroyed.
    A migration is a deliberate step, so it is never forced. `alembic stamp --purge` only empties the version table: no act.
    """

    name: ClassVar = "Alembic"
    marks: ClassVar = (_VERSION, _TABLE)

    def recognise(self, evidence: Evidence) -> Act | None:
        if evidence.marks.isdisjoint(self.marks):
            return None
        judgement = evidence.judgement
        if not any(s.kind.startswith(_DESTROYING) for s in judgement.statements):
            return None
        if all(_TABLE in relation for relation in judgement.relations):
            return None
        return Act(self.name, "downgrade or upgrade", forced=False, is_whole=False)
