from __future__ import annotations

import re
from typing import ClassVar, Final, final

from policy.tools.tool import Act, Evidence, Reach, Tool

#: In its question for all tables.
_INTROSPECTION: Final = "WHEN c.relispartition THEN"
#: Its history, in quotes as it writes all names.
_HISTORY: Final = '"django_migrations"'
_NAME: Final = r'"[^"]*(?:""[^"]*)*"'
#: Every name quoted, and no word TABLE.
_FLUSH: Final = re.compile(rf"TRUNCATE {_NAME}(?:, {_NAME})*(?: RESTART IDENTITY)?(?: CASCADE)?;\Z")
_DROP_DATABASE: Final = re.compile(rf"DROP DATABASE {_NAME}\Z")
#: What it sends before it drops a database, if anything: its time zone, and the attempt to make the database.
_BEFORE: Final = re.compile(rf"SELECT set_config\('TimeZone', |SET TIME ZONE |CREATE DATABASE {_NAME} ")
#: What migrations destroy with. Other dangerous statements of theirs (GRANT, CREATE FUNCTION, DO) are matters of their own.
_DESTROYING: Final = ("ALTER", "DELETE", "DROP", "TRUNCATE", "UPDATE")


@final
class Django(Tool):
    """Django: `flush`, the teardown of the test database, and `migrate` in either direction.

    Seen with Django 3.2, 4.2 and 5.2; psycopg2 and psycopg.
    - flush is one TRUNCATE of all tables, written as only Django does, in a session that asked for the tables as Django does, or
      with a table of Django's own (`manage.py sqlflush | psql`). What it names is all.
    - the test database is dropped in a session that has done nothing else but set its time zone. Where it did not even do that, it is told by Django's own
      prefix. Whether that is a loss is told by its name.
    - migrate reads its history first. Which way it goes is written into the history behind each migration, so the two look the same. A migration is a
      deliberate step, so it is never forced. In a test run, everything that the tests do goes through the session of the migrations.
    """

    name: ClassVar = "Django"
    marks: ClassVar = (_INTROSPECTION, _HISTORY)

    def recognise(self, evidence: Evidence) -> Act | None:
        script = evidence.script
        if _FLUSH.match(script):
            if _INTROSPECTION in evidence.marks or '"django_' in script:
                return Act(self.name, "flush", Reach.STATEMENT)
            return None
        if _DROP_DATABASE.match(script):
            names_it = bool(evidence.recent) or script.startswith('DROP DATABASE "test_')
            if names_it and all(_BEFORE.match(before) for before in evidence.recent):
                return Act(self.name, "test database teardown", Reach.DATABASE)
            return None
        if _HISTORY not in evidence.marks or not any(s.kind.startswith(_DESTROYING) for s in evidence.judgement.statements):
            return None
        return Act(self.name, "migrate", forced=False, is_whole=False)
