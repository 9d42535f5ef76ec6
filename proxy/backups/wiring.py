"""The keeper of a process, on the parts that the process has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from proxy.backups.keeper import Keeper
from proxy.config import Settings, Upstream
from proxy.control import Control
from proxy.seams import AuditLog, Clock
from proxy.store.backups import SqlBackups
from proxy.tasks import Tasks

if TYPE_CHECKING:
    # It puts holds in the console's words, and so comes after the console.
    from proxy.notify import Notifier


def make_keeper(
    settings: Settings,
    register: SqlBackups,
    control: Control,
    audit: AuditLog,
    clock: Clock,
    notifier: Notifier,
    tasks: Tasks,
    log: structlog.typing.FilteringBoundLogger,
) -> Keeper:
    """Nothing is begun yet."""

    async def databases() -> list[str]:
        return await scheduled_databases(settings, control)

    return Keeper(settings, register, audit, clock, databases=databases, alarm=notifier.alarm, log=log.warning, spawn=tasks.spawn)


async def scheduled_databases(settings: Settings, control: Control) -> list[str]:
    """Those that the settings name, else that of the server's address, else all that can be connected to. Raises ControlError."""
    if settings.backup_databases:
        return list(dict.fromkeys(settings.backup_databases))
    # Of `control` last: what it names is often only where pghold's own role may log in.
    named = (Upstream.from_url(settings.upstream).database if settings.upstream else "") or control.place.database
    if named:
        return [named]
    async with control.connection(statement_timeout_s=10) as connection:
        rows = await connection.execute(
            "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate AND datname NOT LIKE 'pghold!_%' ESCAPE '!'"
            " AND pg_catalog.has_database_privilege(oid, 'CONNECT') ORDER BY datname"
        )
        return [str(row[0]) for row in await rows.fetchall()]
