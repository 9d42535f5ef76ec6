"""What is asked of the server in each round, on one connection. Every function raises psycopg.Error, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow

from proxy.health.model import Check, HealthState
from proxy.health.tables import KnownTable

Connection = AsyncConnection[TupleRow]

LAG_WARN_S: Final = 30.0
LAG_FAIL_S: Final = 300.0
SLOT_WARN_BYTES: Final = 1 << 30
SLOT_FAIL_BYTES: Final = 10 << 30
CLOCK_S: Final = 5.0

OK, WARN, FAIL, UNKNOWN = HealthState.OK, HealthState.WARN, HealthState.FAIL, HealthState.UNKNOWN


@dataclass(frozen=True, slots=True)
class About:
    """The server and the database that a connection is in.

    Attributes:
        system: of the cluster (pg_control_system), 0 when it may not be asked.
        recovery: it is a standby.
        sees_all: whether pg_stat_* shows other roles' sessions in full.
        address: what the server sees this machine as; empty for a Unix socket.
    """

    version: int
    system: str
    database_oid: int
    role: str
    superuser: bool
    recovery: bool
    sees_all: bool
    address: str


async def about(connection: Connection) -> About:
    row = await _row(
        connection,
        """SELECT pg_catalog.current_setting('server_version_num')::int, d.oid::bigint, current_user::text, r.rolsuper,
                  pg_catalog.pg_is_in_recovery(), r.rolsuper OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'),
                  coalesce(pg_catalog.host(pg_catalog.inet_client_addr()), ''),
                  pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')
           FROM pg_catalog.pg_database d, pg_catalog.pg_roles r
           WHERE d.datname = pg_catalog.current_database() AND r.rolname = current_user""",
    )
    system = 0
    if row[7]:
        (system,) = await _row(connection, "SELECT system_identifier FROM pg_catalog.pg_control_system()")
    return About(row[0], str(system), row[1], row[2], row[3], row[4], row[5], row[6])


async def _row(connection: Connection, statement: str) -> tuple[Any, ...]:  # any: of the server's types
    row = await (await connection.execute(statement.encode())).fetchone()
    assert row is not None
    return row


# --- replication ------------------------------------------------------------------------------------------------------


async def replication(connection: Connection, server: About, seen: set[str]) -> tuple[Check, float | None, int | None]:
    """The check, the worst lag in seconds, and the most WAL that a slot keeps. `seen`: replicas that were connected before; added to."""
    if server.recovery:
        return await _standby(connection)
    if not server.sees_all:
        fix = f"GRANT pg_monitor TO {_ident(server.role)};"
        return Check("replication", UNKNOWN, "pghold's role may not see pg_stat_replication", fix), None, None
    cursor = await connection.execute(
        """SELECT coalesce(nullif(application_name, ''), 'walreceiver'), coalesce(pg_catalog.host(client_addr), 'local'), state,
                  coalesce(extract(epoch FROM replay_lag), 0)::float8,
                  coalesce(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), replay_lsn), 0)::int8
           FROM pg_catalog.pg_stat_replication WHERE application_name <> 'pg_basebackup'"""
    )
    replicas = await cursor.fetchall()
    cursor = await connection.execute(
        """SELECT slot_name::text, active, coalesce(wal_status, ''),
                  coalesce(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), restart_lsn), 0)::int8
           FROM pg_catalog.pg_replication_slots"""
    )
    slots = await cursor.fetchall()
    found: list[tuple[HealthState, str, str]] = []
    names = {f"{name} ({address})" for name, address, *_ in replicas}
    for name in sorted(seen - names):
        found.append((WARN, f"replica {name} is not connected any more", "Look at that server and the network between."))
    seen |= names
    for name, address, state, lag_s, behind in replicas:
        level = _level(lag_s, LAG_WARN_S, LAG_FAIL_S)
        if level is not OK:
            found.append((level, f"replica {name} ({address}, {state}) is {lag_s:,.0f} s and {size(behind)} behind", _LAG_FIX))
    for name, active, status, kept in slots:
        level = (
            FAIL
            if status == "lost"
            else max(_level(kept, SLOT_WARN_BYTES, SLOT_FAIL_BYTES), WARN if status == "unreserved" else OK, key=_rank)
        )
        if level is not OK:
            use = "is in use" if active else "nobody uses it"
            lost = "; what it kept is lost" if status == "lost" else ""
            fix = f"If nobody needs it: SELECT pg_drop_replication_slot({_literal(name)}); it is held when it goes through pghold."
            found.append((level, f"slot {name} keeps {size(kept)} of WAL ({use}{lost})", fix))
    worst_lag = max((float(r[3]) for r in replicas), default=0.0)
    most = max((int(s[3]) for s in slots), default=0)
    if found:
        found.sort(key=lambda f: -_rank(f[0]))
        fixes = "\n".join(dict.fromkeys(f[2] for f in found))
        return Check("replication", found[0][0], "; ".join(f[1] for f in found), fixes), worst_lag, most
    if not replicas:
        return Check("replication", OK, "no replica is connected"), 0.0, most
    shown = ", ".join(f"{r[0]} {r[3]:.1f} s behind" for r in replicas)
    return Check("replication", OK, shown), worst_lag, most


_LAG_FIX: Final = "Look for long transactions and for load on the replica (pg_stat_activity there), and at the network between."


async def _standby(connection: Connection) -> tuple[Check, float | None, int | None]:
    received, replayed, lag_s, paused = await _row(
        connection,
        """SELECT pg_catalog.pg_last_wal_receive_lsn()::text, pg_catalog.pg_last_wal_replay_lsn()::text,
                  extract(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp())::float8,
                  pg_catalog.pg_is_wal_replay_paused()""",
    )
    (receivers,) = await _row(connection, "SELECT count(*) FROM pg_catalog.pg_stat_wal_receiver")
    if paused:
        return (
            Check("replication", WARN, "the server is a standby, and its replay is paused", "SELECT pg_wal_replay_resume();"),
            lag_s,
            None,
        )
    if not receivers:
        # Without a receiver "all that was received is replayed" says nothing: the primary may be hours ahead.
        state = WARN if lag_s is None else max(_level(lag_s, LAG_WARN_S, LAG_FAIL_S), WARN, key=_rank)
        text = "the server is a standby, and no primary sends to it"
        return Check("replication", state, text, "Look at the primary, and at primary_conninfo."), lag_s, None
    if received is not None and received == replayed:
        return Check("replication", OK, "the server is a standby that has replayed all it received"), 0.0, None
    if lag_s is None:
        return Check("replication", UNKNOWN, "the server is a standby that has not replayed a transaction yet"), None, None
    return (
        Check("replication", _level(lag_s, LAG_WARN_S, LAG_FAIL_S), f"the server is a standby, {lag_s:,.0f} s behind", _LAG_FIX),
        lag_s,
        None,
    )


def _level(value: float, warn: float, fail: float) -> HealthState:
    return FAIL if value > fail else WARN if value > warn else OK


def _rank(state: HealthState) -> int:
    return (OK, WARN, UNKNOWN, FAIL).index(state)


# --- tables -----------------------------------------------------------------------------------------------------------


async def databases(connection: Connection) -> list[str]:
    """Those that anybody can connect to."""
    cursor = await connection.execute(
        "SELECT datname::text FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1"
    )
    return [row[0] for row in await cursor.fetchall()]


async def tables(connection: Connection) -> list[KnownTable]:
    """Tables, partitioned ones and materialized views; neither the system's nor temporary ones."""
    cursor = await connection.execute(
        """SELECT c.oid::bigint, n.nspname::text, c.relname::text,
                  coalesce((SELECT pg_catalog.array_agg(i.inhparent::bigint) FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid), '{}')
           FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
           WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' AND n.nspname <> 'information_schema'
             AND n.nspname !~ '^pg_(catalog|toast|temp_)' ORDER BY 1"""
    )
    return [KnownTable(oid, schema, name, tuple(parents)) for oid, schema, name, parents in await cursor.fetchall()]


async def critical(connection: Connection, schema: str, table: str) -> tuple[HealthState, str]:
    """Whether it is there and has a row. Fails like any statement when it may not be read, or is locked."""
    cursor = await connection.execute(
        """SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
           WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p', 'm', 'f', 'v')""",
        (schema, table),
    )
    if await cursor.fetchone() is None:
        return FAIL, f"{schema}.{table} is not there"
    query = sql.SQL("SELECT EXISTS (SELECT 1 FROM {})").format(sql.Identifier(schema, table))
    row = await (await connection.execute(query)).fetchone()
    return (OK, "") if row is not None and row[0] else (FAIL, f"{schema}.{table} is empty")


# --- clock ------------------------------------------------------------------------------------------------------------


async def clock(connection: Connection, now: Callable[[], datetime]) -> tuple[Check, float]:
    """The server's clock against ours: positive when it is ahead. How long the answer took is taken off."""
    sent, before = now(), time.monotonic()
    (theirs,) = await _row(connection, "SELECT pg_catalog.clock_timestamp()")
    took_s = time.monotonic() - before
    off_s = (theirs - sent).total_seconds() - took_s / 2
    certain_s = max(0.0, abs(off_s) - took_s / 2)
    if certain_s > CLOCK_S:
        way = "ahead of" if off_s > 0 else "behind"
        fix = (
            "Let both machines follow a time server (chronyc tracking, timedatectl); the times of holds and of the audit log depend on it."
        )
        return Check("clock", FAIL, f"the server's clock is {abs(off_s):,.1f} s {way} pghold's", fix), off_s
    return Check("clock", OK, f"the server's clock differs by {max(0.0, abs(off_s)):.2f} s"), off_s


def size(count: float) -> str:
    """Of bytes, for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:,.0f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"


def _ident(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def joined(parts: Sequence[str], limit: int = 10) -> str:
    """The first of them."""
    more = f" and {len(parts) - limit:,} more" if len(parts) > limit else ""
    return ", ".join(parts[:limit]) + more
