"""What pghold's own role must be allowed to, which of it is missing, and the statement that gives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from psycopg import AsyncConnection
from psycopg.rows import TupleRow


@dataclass(frozen=True, slots=True)
class MissingGrant:
    """Attributes:
    what: the privilege.
    why: what does not work without it.
    sql: gives it; for a superuser to run, in the database that was asked.
    """

    what: str
    why: str
    sql: str


_QUESTION: Final = """
SELECT quote_ident(current_user), r.rolsuper, r.rolbypassrls,
    coalesce((SELECT pg_has_role(current_user, oid, 'USAGE') FROM pg_roles WHERE rolname = 'pg_read_all_data'), false),
    coalesce((SELECT pg_has_role(current_user, oid, 'USAGE') FROM pg_roles WHERE rolname = 'pg_read_all_stats'), false),
    (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
        AND NOT (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'))),
    (SELECT count(*) FROM pg_class WHERE relrowsecurity AND relkind IN ('r', 'p') AND (relforcerowsecurity OR NOT pg_has_role(relowner, 'USAGE'))),
    coalesce((SELECT has_function_privilege(p.oid, 'EXECUTE') FROM pg_proc p
        WHERE p.proname = 'pg_create_restore_point' AND p.pronamespace = 'pg_catalog'::regnamespace), true),
    current_setting('server_version_num')::int4
FROM pg_roles r WHERE r.rolname = current_user
"""

_DATABASES: Final = (
    "SELECT quote_ident(datname) FROM pg_database WHERE datallowconn AND NOT has_database_privilege(oid, 'CONNECT') ORDER BY 1"
)

_SCHEMAS: Final = """
SELECT DISTINCT quote_ident(n.nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
AND NOT (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')) ORDER BY 1
"""


async def missing_grants(connection: AsyncConnection[TupleRow]) -> list[MissingGrant]:
    """Of the role and the database of this connection, which has an empty search_path (control.py). Raises psycopg.Error."""
    row = await (await connection.execute(_QUESTION)).fetchone()
    if row is None:
        return []
    role, is_super, passes_policies, reads_all, sees_stats, unread, guarded, restore_points, version = row
    if is_super:
        return []
    missing: list[MissingGrant] = []
    for (database,) in await (await connection.execute(_DATABASES)).fetchall():
        why = f"what statements would do in {database} is not seen, and it cannot be copied"
        missing.append(MissingGrant(f"CONNECT on database {database}", why, f"GRANT CONNECT ON DATABASE {database} TO {role}"))
    if unread:
        why = f"{unread:,} table{'' if unread == 1 else 's'} of this database cannot be counted or copied"
        if version >= 140000 and not reads_all:
            missing.append(MissingGrant("membership in pg_read_all_data", why, f"GRANT pg_read_all_data TO {role}"))
        elif version < 140000:
            for (schema,) in await (await connection.execute(_SCHEMAS)).fetchall():
                sql = f"GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}"
                missing.append(MissingGrant(f"SELECT in schema {schema}", why, sql))
    if not sees_stats:
        why = "who waits behind a held session, replication and sizes are seen in part only"
        missing.append(MissingGrant("membership in pg_read_all_stats", why, f"GRANT pg_read_all_stats TO {role}"))
    if guarded and not passes_policies:
        why = f"{guarded:,} table{' has' if guarded == 1 else 's have'} row security: they cannot be counted or copied as a whole"
        missing.append(MissingGrant("BYPASSRLS", why, f"ALTER ROLE {role} BYPASSRLS"))
    if not restore_points:
        why = "no restore point is made before a destructive statement; point-in-time recovery then needs the time or the LSN"
        sql = f"GRANT EXECUTE ON FUNCTION pg_catalog.pg_create_restore_point(text) TO {role}"
        missing.append(MissingGrant("EXECUTE on pg_create_restore_point", why, sql))
    return missing
