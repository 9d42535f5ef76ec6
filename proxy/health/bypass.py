"""Ways around the proxy: sessions that did not come through it, and what lets them in.

A session is the proxy's when the server's process is that of one of its sessions; it is pghold's own when it has pghold's name, role and
address. Any name can be given by anybody, so the name alone excuses nobody. Every function raises psycopg.Error, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from typing import Any, Final

from proxy.control import APPLICATION_NAME
from proxy.health.model import Bypasser, Check, HealthState
from proxy.health.names import quoted
from proxy.health.server import About, Connection, joined

OK, WARN, FAIL, UNKNOWN = HealthState.OK, HealthState.WARN, HealthState.FAIL, HealthState.UNKNOWN

#: A session that began later may be one whose login the proxy still relays.
GRACE_S: Final = 5.0
_SHOWN: Final = 20

_FIX: Final = "Let the server take connections from pghold's address only (see: connections from elsewhere), and restart what still connects directly."


async def sessions(
    connection: Connection,
    server: About,
    ours: Callable[[], Collection[int]],
    allowed: Collection[str],
) -> tuple[Check, tuple[Bypasser, ...] | None]:
    """Client backends that came another way; None when that cannot be told.

    Args:
        ours: the server's processes of the proxy's sessions, now.
        allowed: patterns of roles that may.
    """
    if not server.sees_all:
        fix = f"GRANT pg_monitor TO {quoted(server.role)};"
        return Check("bypass", UNKNOWN, "pghold's role may not see who else is connected", fix), None
    before = set(ours())
    cursor = await connection.execute(
        """SELECT a.pid, a.usename::text, coalesce(a.datname::text, ''), coalesce(pg_catalog.host(a.client_addr), 'local'),
                  coalesce(a.application_name, ''), extract(epoch FROM pg_catalog.clock_timestamp() - a.backend_start)::float8,
                  a.application_name = %s AND a.usename = current_user AND a.client_addr IS NOT DISTINCT FROM me.client_addr
           FROM pg_catalog.pg_stat_activity a, pg_catalog.pg_stat_activity me
           WHERE me.pid = pg_catalog.pg_backend_pid() AND a.backend_type = 'client backend' AND a.usename IS NOT NULL AND a.pid <> me.pid
           ORDER BY a.pid""",
        (APPLICATION_NAME,),
    )
    rows = await cursor.fetchall()
    # Sessions that ended while the server answered, and those that began: both count as the proxy's.
    known = before | set(ours())
    there = {row[0] for row in rows}
    if len(before) > 2 and not before & there:
        text = "none of the proxy's sessions is among the server's processes: most likely a pooler stands between"
        return Check("bypass", UNKNOWN, text, "Give upstream (or control) the server's own address."), None
    found = tuple(
        Bypasser(pid, role, database, address, name, seconds)
        for pid, role, database, address, name, seconds, own in rows
        if not own and pid not in known and seconds > GRACE_S and not any(fnmatchcase(role, p) for p in allowed)
    )
    if not found:
        return Check("bypass", OK, f"every session came through pghold ({len(rows):,} others seen)"), ()
    text = f"{len(found):,} session{'' if len(found) == 1 else 's'} did not come through pghold: {joined([str(b) for b in found], 5)}"
    return Check("bypass", FAIL, text, _FIX), found


async def access(connection: Connection, server: About, application_roles: Collection[str], allowed: Collection[str]) -> tuple[Check, ...]:
    """What lets people past the proxy, or do more there than they need."""
    return (
        await _doors(connection, server, allowed),
        await _superusers(connection, server),
        await _powerful(connection, server, application_roles),
        await _owners(connection, application_roles),
    )


# --- pg_hba.conf ------------------------------------------------------------------------------------------------------


async def _doors(connection: Connection, server: About, allowed: Collection[str]) -> Check:
    cursor = await connection.execute(
        "SELECT pg_catalog.count(*) FROM pg_catalog.pg_roles WHERE rolcanlogin AND rolname <> current_user",
    )
    row = await cursor.fetchone()
    logins = row[0] if row is not None else 0
    if not server.superuser:
        cursor = await connection.execute(
            "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_hba_file_rules', 'SELECT')"
            " AND pg_catalog.has_function_privilege('pg_catalog.pg_hba_file_rules()', 'EXECUTE')"
        )
        row = await cursor.fetchone()
        if row is None or not row[0]:
            text = f"{logins:,} roles may log in; from where is in pg_hba.conf, which pghold's role may not read"
            fix = (
                f"GRANT SELECT ON pg_hba_file_rules TO {quoted(server.role)};\n"
                f"GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO {quoted(server.role)};"
            )
            return Check("access-addresses", UNKNOWN, text, fix)
    # rule_number and file_name came with PostgreSQL 16.
    file = "coalesce(file_name, '')" if server.version >= 160000 else "pg_catalog.current_setting('hba_file')"
    cursor = await connection.execute(
        f"""SELECT line_number, {file}, type, database, user_name, coalesce(address, ''), coalesce(netmask, ''), auth_method
            FROM pg_catalog.pg_hba_file_rules WHERE error IS NULL ORDER BY {"rule_number" if server.version >= 160000 else "line_number"}""".encode()
    )
    rules = await cursor.fetchall()
    opened = open_rules(rules, server.address, allowed)
    if not opened:
        return Check("access-addresses", OK, "pg_hba.conf lets nobody in from elsewhere than pghold's address")
    shown = joined([_shown(rule) for rule in opened], 5)
    lines = hba_lines(rules, opened, server.address, allowed)
    same = ip_address(server.address).is_loopback if server.address else True
    note = "\n# pghold runs on the server's own machine: whoever may log in there still reaches the server." if same else ""
    return Check(
        "access-addresses",
        WARN,
        f"{logins:,} other roles may log in, and pg_hba.conf lets them in past pghold: {shown}",
        "\n".join(lines) + note,
    )


def _shown(rule: tuple[Any, ...]) -> str:
    line, _, kind, databases, users, address, netmask, method = rule
    place = address + (f" {netmask}" if netmask else "")
    return f"line {line}: {kind} {','.join(databases)} {','.join(users)} {place} {method}".replace("  ", " ")


def open_rules(rules: list[tuple[Any, ...]], proxy: str, allowed: Collection[str]) -> list[tuple[Any, ...]]:
    """Those that let clients in over the network from elsewhere than the proxy, in the order of the file.

    What stands behind a rule that refuses everybody from everywhere is never reached.
    """
    found = []
    for rule in rules:
        _, _, kind, databases, users, address, netmask, method = rule
        if not kind.startswith("host") or databases == ["replication"]:
            continue
        if method == "reject":
            if address == "all" and "all" in databases and "all" in users and kind == "host":
                break
            continue
        if users and all(any(fnmatchcase(u, p) for p in allowed) for u in users):
            continue
        if not _only(address, netmask, proxy):
            found.append(rule)
    return found


def _only(address: str, netmask: str, proxy: str) -> bool:
    """Whether nobody but the proxy comes from there."""
    try:
        network = ip_network(f"{address}/{netmask}" if netmask else address, strict=False)
        return bool(proxy) and network.num_addresses == 1 and ip_address(proxy) == network.network_address
    except ValueError:
        # all, samehost, samenet, a host's or a domain's name
        return False


def hba_lines(rules: list[tuple[Any, ...]], opened: list[tuple[Any, ...]], proxy: str, allowed: Collection[str]) -> list[str]:
    """What to put in front of the first rule that is too open; the first line that fits counts (auth-pg-hba-conf.html)."""
    first = opened[0]
    lines = [f"# Put these lines before line {first[0]} of {first[1]}, then: SELECT pg_reload_conf();"]
    if proxy:
        width = 128 if ":" in proxy else 32
        method = next((r[7] for r in rules if r[2].startswith("host") and r[7] != "reject" and _covers(r[5], r[6], proxy)), "scram-sha-256")
        lines.append(f"{first[2]} all all {proxy}/{width} {method}")
    lines += [f"{first[2]} all {_hba(role)} all scram-sha-256" for role in sorted(allowed) if not set(role) & set("*?[")]
    lines.append("host all all all reject")
    return lines


def _covers(address: str, netmask: str, proxy: str) -> bool:
    if address in ("all", "samehost", "samenet"):
        return True
    try:
        return ip_address(proxy) in ip_network(f"{address}/{netmask}" if netmask else address, strict=False)
    except ValueError:
        return False


def _hba(name: str) -> str:
    """A name in pg_hba.conf: in quotes it has no special meaning."""
    return '"' + name.replace('"', '""') + '"'


# --- roles ------------------------------------------------------------------------------------------------------------


async def _superusers(connection: Connection, server: About) -> Check:
    cursor = await connection.execute(
        "SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolsuper AND rolcanlogin AND rolname <> current_user ORDER BY 1"
    )
    names = [row[0] for row in await cursor.fetchall()]
    if not names:
        return Check("access-superusers", OK, "no other superuser may log in")
    fix = "\n".join(f"ALTER ROLE {quoted(n)} NOSUPERUSER;" for n in names[:_SHOWN])
    return Check("access-superusers", WARN, f"superusers besides {server.role}: {joined(names)}; nothing on the server stops them", fix)


#: Roles whose members reach past the database (predefined-roles.html).
_PREDEFINED: Final = ("pg_write_server_files", "pg_execute_server_program", "pg_read_server_files", "pg_write_all_data")


async def _powerful(connection: Connection, server: About, application_roles: Collection[str]) -> Check:
    cursor = await connection.execute(
        """SELECT r.rolname::text, pg_catalog.array_remove(ARRAY[
                      CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END, CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END,
                      CASE WHEN r.rolreplication THEN 'REPLICATION' END] || ARRAY(
                          SELECT p.rolname::text FROM pg_catalog.pg_roles p
                          WHERE p.rolname = ANY(%s) AND pg_catalog.pg_has_role(r.oid, p.oid, 'MEMBER')), NULL)
           FROM pg_catalog.pg_roles r
           WHERE r.rolcanlogin AND NOT r.rolsuper AND r.rolname <> current_user ORDER BY 1""",
        (list(_PREDEFINED),),
    )
    found = [(name, powers) for name, powers in await cursor.fetchall() if powers]
    if not found:
        return Check("access-powers", OK, "no role that may log in has more rights than its own objects")
    fixes = []
    for name, powers in found[:_SHOWN]:
        options = [f"NO{p}" for p in powers if p.isupper()]
        fixes += [f"ALTER ROLE {quoted(name)} {' '.join(options)};"] if options else []
        fixes += [f"REVOKE {p} FROM {quoted(name)};" for p in powers if not p.isupper()]
    own = [f for f in found if f[0] in application_roles]
    shown = joined([f"{name} ({', '.join(powers)})" for name, powers in [*own, *(f for f in found if f not in own)]])
    return Check("access-powers", WARN, f"roles with rights beyond their own objects: {shown}", "\n".join(fixes))


async def _owners(connection: Connection, application_roles: Collection[str]) -> Check:
    cursor = await connection.execute(
        """SELECT r.rolname::text, n.nspname::text, pg_catalog.count(*), r.rolsuper
           FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
           WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
             AND r.rolname = ANY(%s) GROUP BY 1, 2, 4 ORDER BY 1, 2""",
        (list(application_roles),),
    )
    rows = await cursor.fetchall()
    if not rows:
        return Check("access-owners", OK, "no role that comes through pghold owns tables")
    roles = sorted({row[0] for row in rows})
    counts = {role: sum(row[2] for row in rows if row[0] == role) for role in roles}
    lines = ["# An owner of its own, that nobody logs in as; migrations SET ROLE to it. Through pghold:"]
    supers = {row[0] for row in rows if row[3]}
    for role in roles[:_SHOWN]:
        if role in supers:
            lines.append(f"# {quoted(role)} is a superuser: give the application a role of its own.")
            continue
        owner = quoted((role.encode()[:57]).decode(errors="ignore") + "_owner")
        lines += [f"CREATE ROLE {owner} NOLOGIN;", f"REASSIGN OWNED BY {quoted(role)} TO {owner};"]
        for schema in [row[1] for row in rows if row[0] == role][:_SHOWN]:
            lines += [
                f"GRANT USAGE ON SCHEMA {quoted(schema)} TO {quoted(role)};",
                f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {quoted(schema)} TO {quoted(role)};",
                f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {quoted(schema)} TO {quoted(role)};",
            ]
    shown = joined([f"{role} ({counts[role]:,})" for role in roles])
    return Check("access-owners", WARN, f"tables are owned by roles of applications, which may drop them: {shown}", "\n".join(lines))
