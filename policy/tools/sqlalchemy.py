from __future__ import annotations

import re
from typing import ClassVar, Final, final

from policy.tools.tool import Act, Evidence, Reach, Tool

#: The question whether tables, or a sequence, are there; once as versions 2.x ask, once as 1.4 does.
_CHECK: Final = re.compile(
    r"SELECT pg_catalog\.pg_class\.relname \nFROM pg_catalog\.pg_class JOIN pg_catalog\.pg_namespace "
    r"|select relname from pg_class c join pg_namespace n on n\.oid=c\.relnamespace where ",
    re.IGNORECASE,
)
#: The same of a type.
_TYPE_CHECK: Final = re.compile(
    r"SELECT pg_catalog\.pg_type\.typname \nFROM pg_catalog\.pg_type JOIN |\s*SELECT EXISTS \(\s*SELECT \* FROM pg_catalog\.pg_type t\s"
)
#: Version 2.1 asks for all tables of a schema at once, those before it for one at a time.
_LIST: Final = re.compile(r"\.relname IN \([^(),]{1,200}(,|\))")
_OF_SCHEMA: Final = re.compile(r"nspname ?= ")
#: It ends its own statements with a semicolon.
_ASYNCPG: Final = re.compile(r"BEGIN[^;]{0,100};\Z")
#: Constraints of tables that belong to each other go before the tables.
_CONSTRAINT: Final = re.compile(r"ALTER TABLE \S+ DROP CONSTRAINT \S+\Z")
#: So many of them before a DROP TABLE leave no doubt, and no room for the question in what is known of the session.
_CONSTRAINTS: Final = 5
_NAME: Final = r'(?:"[^"]*(?:""[^"]*)*"|\w+)'
#: How its compiler writes it: a line of its own, and no semicolon.
_DROP: Final = re.compile(rf"\nDROP (?:TABLE|VIEW|MATERIALIZED VIEW) (?:IF EXISTS )?(?:{_NAME}\.)?{_NAME}\Z")
#: What goes after the tables.
_REST: Final = re.compile(rf"DROP (?:SEQUENCE|TYPE|DOMAIN) (?:{_NAME}\.)?{_NAME}\Z")


@final
class Sqlalchemy(Tool):
    """SQLAlchemy: `metadata.drop_all()`, by its question for several tables just before the first of them is dropped.

    Seen with SQLAlchemy 1.4, 2.0 and 2.1; psycopg2, psycopg and asyncpg. With asyncpg, version 2.0 prepares that question once and then only
    executes it, so that the number of tables is not seen: any such question counts there, `table.drop(checkfirst=True)` as well.
    `drop_all(checkfirst=False)` asks nothing. Its first DROP is one of many that might be meant by itself, so it is held by itself; the one
    that follows begins the act. Alembic's migrations are written by the same compiler: they are recognised first.
    """

    name: ClassVar = "SQLAlchemy"

    def recognise(self, evidence: Evidence) -> Act | None:
        drops_table = _DROP.match(evidence.script) is not None
        if not drops_table and _REST.match(evidence.script) is None:
            return None
        tables = schemas = constraints = 0
        follows = False
        for script in reversed(evidence.recent):
            if script == "DEALLOCATE ALL":
                continue  # psycopg's own, after a change of a table
            if _CONSTRAINT.match(script):
                constraints += 1
            elif _CHECK.match(script):
                listed = _LIST.search(script)
                tables += 2 if listed is not None and listed[1] == "," else 1
                if listed is None and "$" in script and any(_ASYNCPG.match(before) for before in evidence.recent):
                    tables += 1
                # Each schema has a list of its own; one by one, those are told apart that the search path does not find.
                schemas += 1 if listed is not None else 2 if _OF_SCHEMA.search(script) else 0
            elif not _TYPE_CHECK.match(script):
                follows = _DROP.match(script) is not None or _REST.match(script) is not None
                break
        if drops_table and not follows and (tables > 1 or constraints > _CONSTRAINTS):
            return Act(self.name, "drop all", Reach.SCHEMAS if schemas > 1 else Reach.SCHEMA, is_whole=False)
        return Act(self.name, "drop", forced=False, is_whole=False) if follows else None
