from __future__ import annotations

import re
from typing import ClassVar, Final, final

from policy.tools.tool import Act, Evidence, Reach, Tool

#: Of the settings that a dump begins with, the one that nobody else makes.
_PREAMBLE: Final = "SET xmloption = content"
#: How the text of a dump begins, where it is sent as a whole.
_TITLE: Final = re.compile(r"\s*--\s*-- PostgreSQL database dump\s")
#: A table that the parallel restore has just made is truncated, so that what is copied into it need not be logged.
_LOAD: Final = re.compile(r"TRUNCATE TABLE (?:ONLY )?\S")
_DROP_DATABASE: Final = re.compile(r"DROP DATABASE ")
#: What --clean destroys with.
_CLEAN: Final = re.compile(r"(?:DROP|ALTER TABLE(?: IF EXISTS)?(?: ONLY)? \S.{0,300} DROP) ", re.DOTALL)
#: What a dump with --clean has sent when it destroys for the first time: settings, and what is found harmless of the same.
_BEFORE: Final = re.compile(
    r"SET |BEGIN\b|DROP |ALTER TABLE [^;]{1,600} DROP |SELECT pg_catalog\.(?:set_config\('search_path', ''|lo_unlink\()|\s*(?:--|\Z)"
)


@final
class PgRestore(Tool):
    """pg_restore --clean, and scripts of pg_dump --clean that psql runs.

    Seen with versions 15 and 18. Both are told by the settings that every dump begins with; then pg_restore by its application_name, or (where PGAPPNAME is
    set) by the line break behind each of its statements, and a script by what came before: settings and DROPs, and nothing made yet. So a dump without
    --clean, and what is typed behind it, are no acts. It drops what is in the dump, so the tables of all schemas are shown.
    With --create the database is dropped instead. Parallel workers (-j) truncate what the restore has just made, each in a session of its own: one
    hold each.
    """

    name: ClassVar = "pg_restore"
    marks: ClassVar = (_PREAMBLE,)

    def recognise(self, evidence: Evidence) -> Act | None:
        script = evidence.script
        restores = evidence.application_name == self.name
        if not restores and _PREAMBLE not in evidence.marks:
            return None
        if _TITLE.match(script) and _PREAMBLE in script:
            return Act("pg_dump", "--clean script", Reach.STATEMENT)
        if not restores and script.endswith(";\n") and not script.startswith("\n"):
            restores = True
        tool, kind = (self.name, "--clean") if restores else ("pg_dump", "--clean script")
        if restores and _LOAD.match(script):
            return Act(tool, "parallel load", Reach.SCHEMAS, forced=False, is_whole=False)
        if not _CLEAN.match(script) or not (restores or all(_BEFORE.match(before) for before in evidence.recent)):
            return None
        if _DROP_DATABASE.match(script):
            return Act(tool, "--clean --create" if restores else "--clean --create script", Reach.DATABASE)
        return Act(tool, kind, Reach.SCHEMAS, is_whole=False)
