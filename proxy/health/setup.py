"""What `pghold doctor` looks at besides the checks of a running proxy: programs, files, keys, targets, rights. Each looks once."""

from __future__ import annotations

import asyncio
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from cryptography import x509

from proxy.backups.sealing import read_key
from proxy.backups.targets import TargetError, open_targets
from proxy.config import Settings, Upstream, is_loopback
from proxy.control import Control, ControlError, first_line
from proxy.errors import ConfigError
from proxy.health import bypass, local, server
from proxy.health.model import Check, HealthState
from proxy.health.names import critical_name
from proxy.health.server import Connection
from proxy.impact.grants import missing_grants
from proxy.schema_history.dump import DumpError, program

OK, WARN, FAIL, UNKNOWN = HealthState.OK, HealthState.WARN, HealthState.FAIL, HealthState.UNKNOWN

_EXPIRES_DAYS = 21
_TIMEOUT_S = 20.0


def control_of(settings: Settings) -> Control | None:
    """The way to the server; None for the embedded one, which runs only while pghold does."""
    upstream = settings.server
    if upstream is None:
        return None
    return Control(Upstream.from_url(settings.control) if settings.control else upstream, settings.connect_timeout_s)


# --- without a server ---------------------------------------------------------------------------------------------------


def files(settings: Settings) -> list[Check]:
    """Files and programs of this machine."""
    return [*_data_dir(settings), *_key(settings), *_programs(settings), *_certificates(settings), _console(settings), local.disk(settings)]


def _data_dir(settings: Settings) -> list[Check]:
    folder = settings.data_dir
    if not folder.exists():
        return [Check("data-rights", OK, f"{folder} is made by the first start")]
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o022:
        text = f"{folder} can be written by others ({mode:o}): whoever can, can change holds"
        return [Check("data-rights", FAIL, text, f"chmod 700 {folder}")]
    loose = [p for p in (folder / "operator.token", *folder.glob("*.sqlite"), folder / "audit.jsonl") if p.exists() and _open(p)]
    if loose:
        names = ", ".join(p.name for p in loose)
        if mode & 0o055:
            return [Check("data-rights", FAIL, f"others can read {names} in {folder}", f"chmod 700 {folder}")]
    return [
        Check(
            "data-rights",
            OK,
            f"nobody else can read {folder}" if not mode & 0o055 else f"others see {folder}, and cannot read what is secret",
        )
    ]


def _open(path: Path) -> bool:
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o044)


def _key(settings: Settings) -> list[Check]:
    path = settings.backup_key_file
    if path is None:
        return [Check("backup-key", OK, "copies are not encrypted (backup_key_file)")]
    try:
        key = read_key(path)
    except ConfigError as error:
        return [Check("backup-key", FAIL, str(error), f"A key is a file that only pghold reads; a new one: pghold backups key {path}")]
    return [Check("backup-key", OK, f"{path} has key {key.id}, and nobody else can read it")]


def _programs(settings: Settings) -> list[Check]:
    missing = []
    for name in ("pg_dump", "pg_restore", "psql"):
        try:
            path = program(settings, name)
        except DumpError as error:
            missing.append(str(error))
            continue
        if not os.access(path, os.X_OK):
            missing.append(f"{path} cannot be run")
    if missing:
        return [Check("programs", FAIL, "; ".join(missing), "Set pg_bin to the folder of PostgreSQL's client programs.")]
    return [Check("programs", OK, f"pg_dump, pg_restore and psql are in {program(settings, 'pg_dump').parent}")]


def _certificates(settings: Settings) -> list[Check]:
    found = []
    for name, path in (("tls_cert", settings.tls_cert), ("console_tls_cert", settings.console_tls_cert), ("tls_ca", settings.tls_ca)):
        if path is None:
            continue
        try:
            certificate = x509.load_pem_x509_certificates(path.read_bytes())[0]
        except (OSError, ValueError, IndexError) as error:
            why = error.strerror if isinstance(error, OSError) else "no PEM certificate"
            found.append(Check(f"tls-{name}", FAIL, f"{path}: {why}", f"Give {name} the path of a PEM file."))
            continue
        left = (certificate.not_valid_after_utc - datetime.now(UTC)).total_seconds() / 86400
        state = FAIL if left <= 0 else WARN if left < _EXPIRES_DAYS else OK
        text = f"{path} {'expired' if left <= 0 else 'expires'} on {certificate.not_valid_after_utc:%Y-%m-%d}"
        found.append(Check(f"tls-{name}", state, text, "Renew it, then: kill -HUP (or pghold reload) without a restart."))
    return found


def _console(settings: Settings) -> Check:
    if not settings.console_url:
        listens = settings.console.split(",")[0].rpartition(":")[0].strip("[] ")
        if is_loopback(listens):
            return Check("console-url", OK, f"the console is for this machine only ({settings.console})")
        text = "console_url is not set: links in notifications name the address that the console listens on"
        return Check("console-url", WARN, text, "Set console_url to the address under which people reach it.")
    parts = urlsplit(settings.console_url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        return Check(
            "console-url", WARN, f"{settings.console_url} is not encrypted", "Use https, with console_tls_cert or a proxy in front."
        )
    return Check("console-url", OK, settings.console_url)


async def targets(settings: Settings) -> list[Check]:
    """Whether the other places for copies answer."""
    if not settings.backup_targets:
        return []
    try:
        places = open_targets(settings.backup_targets)
    except ConfigError as error:
        return [Check("backup-targets", FAIL, str(error), "See docs/backups.md.")]
    found = []
    for place in places:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                count = len(await place.folders())
        except (TargetError, TimeoutError) as error:
            why = str(error) or f"no answer within {_TIMEOUT_S:g} s"
            found.append(
                Check(
                    "backup-targets",
                    FAIL,
                    f"{place.name}: {why}",
                    "Look at its address, the network, and the credentials in the environment.",
                )
            )
        else:
            found.append(Check("backup-targets", OK, f"{place.name} answers, with {count:,} copies"))
    return found


# --- with the server ----------------------------------------------------------------------------------------------------


async def on_server(settings: Settings, control: Control, *, running: bool) -> list[Check]:
    """Through a connection of our own. `running`: the proxy's own checks are shown beside, so they are not made again."""
    database = control.place.database or (settings.server.database if settings.server else "") or "postgres"
    try:
        async with asyncio.timeout(_TIMEOUT_S), control.connection(database, statement_timeout_s=5, lock_timeout_s=1) as connection:
            about = await server.about(connection)
            found = [] if running else await _as_the_monitor(settings, connection, about, database)
            return [*found, await _grants(connection), await _trash(settings, connection), await _newer(settings, about)]
    except (ControlError, TimeoutError) as error:
        why = f"no answer within {_TIMEOUT_S:g} s" if isinstance(error, TimeoutError) else str(error)
        return [Check("control", FAIL, f"pghold's own connection: {why}", "Set control to the server with credentials of pghold's own.")]


async def _as_the_monitor(settings: Settings, connection: Connection, about: server.About, database: str) -> list[Check]:
    version = f"PostgreSQL {about.version // 10000}.{about.version % 10000}"
    found = [Check("control", OK, f"{version}, as {about.role}{', a superuser' if about.superuser else ''}")]
    try:
        found.append((await server.replication(connection, about, set()))[0])
        found.append((await server.clock(connection, lambda: datetime.now(UTC)))[0])
    except psycopg.Error as error:
        found.append(Check("replication", UNKNOWN, f"the server refused to say: {first_line(error)}"))
    named = [critical_name(text, database) for text in settings.critical_tables]
    bad, unseen = [], []
    for other, schema, table in named:
        if other != database:
            unseen.append(f"{other}.{schema}.{table} is in another database")
            continue
        try:
            state, text = await server.critical(connection, schema, table)
        except psycopg.Error as error:
            unseen.append(f"{schema}.{table}: {first_line(error)}")
            continue
        bad += [text] if state is not OK else []
    if named:
        state = FAIL if bad else UNKNOWN if unseen else OK
        found.append(Check("critical-tables", state, "; ".join([*bad, *unseen]) or f"all {len(named):,} are there and not empty"))
    return [*found, *await bypass.access(connection, about, [], settings.bypass_allowed_roles)]


async def _trash(settings: Settings, connection: Connection) -> Check:
    if not settings.soft_drop:
        return Check("soft-drop", OK, "soft drop is off")
    # Each drop has a schema of its own, made by pghold's own role (backups/trash.py).
    cursor = await connection.execute(
        "SELECT has_database_privilege(current_database(), 'CREATE'), quote_ident(current_database()), quote_ident(current_user)"
    )
    row = await cursor.fetchone()
    assert row is not None
    if row[0]:
        return Check("soft-drop", OK, "pghold's own role may make schemas for what is dropped")
    return Check(
        "soft-drop",
        WARN,
        "soft drop is on, and pghold's own role may not make schemas: what is dropped is copied instead",
        f"GRANT CREATE ON DATABASE {row[1]} TO {row[2]};",
    )


async def _grants(connection: Connection) -> Check:
    """What pghold's own role may not do, for copies and for what is foreseen."""
    try:
        missing = await missing_grants(connection)
    except psycopg.Error as error:
        return Check("grants", UNKNOWN, f"the server refused to say: {first_line(error)}")
    if not missing:
        return Check("grants", OK, "pghold's own role may read and copy everything here")
    return Check("grants", WARN, "; ".join(f"{m.what} is missing: {m.why}" for m in missing), " ".join(m.sql for m in missing))


async def _newer(settings: Settings, about: server.About) -> Check:
    """pg_dump reads servers of its own version and older ones (app-pgdump.html)."""
    try:
        path = await asyncio.to_thread(program, settings, "pg_dump")
        process = await asyncio.create_subprocess_exec(
            str(path), "--version", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        answer, _ = await process.communicate()
        major = int(answer.decode().split()[-1 if b"(" not in answer else 2].partition(".")[0])
    except (DumpError, OSError, ValueError, IndexError) as error:
        return Check("pg_dump", FAIL, f"pg_dump cannot be asked for its version: {error}", "Set pg_bin to the folder of pg_dump.")
    if major < about.version // 10000:
        text = f"pg_dump {major} cannot read PostgreSQL {about.version // 10000}: no copy can be made"
        return Check("pg_dump", FAIL, text, f"Install PostgreSQL {about.version // 10000}'s client programs, and set pg_bin.")
    return Check("pg_dump", OK, f"pg_dump {major} reads PostgreSQL {about.version // 10000}")
