"""The keeper of a process, on the parts that the process has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from proxy.backups.assembly import Copies, Verifying
from proxy.backups.keeper import Keeper
from proxy.backups.metrics import KeepingMetrics
from proxy.backups.model import Backup, Proof
from proxy.config import Settings, Upstream
from proxy.control import Control
from proxy.metrics import Metrics
from proxy.seams import AuditError, AuditLog, Clock, HoldBook
from proxy.store.backups import SqlBackups
from proxy.tasks import Tasks

if TYPE_CHECKING:
    # It puts holds in the console's words, and so comes after the console.
    from proxy.notify import Notifier


def make_keeper(
    settings: Settings,
    register: SqlBackups,
    book: HoldBook,
    control: Control,
    audit: AuditLog,
    clock: Clock,
    notifier: Notifier,
    tasks: Tasks,
    metrics: Metrics,
    log: structlog.typing.FilteringBoundLogger,
) -> Keeper:
    """Nothing is begun yet, and it has nothing yet to take, prove and remove copies with: see `furnish`."""

    async def databases() -> list[str]:
        return await scheduled_databases(settings, control)

    keeper = Keeper(
        settings, register, audit, clock, databases=databases, alarm=notifier.alarm, log=log.warning, spawn=tasks.spawn, book=book
    )  # fmt: skip
    metrics.registry.register(KeepingMetrics(keeper, settings, clock))
    return keeper


def furnish(keeper: Keeper, copies: Copies, log: structlog.typing.FilteringBoundLogger) -> None:
    """Give it what it works with; what held statements' proofs find comes to it as well."""
    keeper.copier, keeper.verifier, keeper.shelf = copies.protector, Verifying(copies.verifier), copies.shelf

    async def proved(backup: Backup, proof: Proof, text: str) -> None:
        if proof is Proof.EQUAL:
            keeper.figures.proofs[str(Proof.EQUAL)] += 1
            await keeper.tell_hold(backup, proof, text)
            return
        try:
            await keeper.proved(backup, proof, text)
        except AuditError as error:
            log.warning("proof not on record", backup=int(backup.id), error=str(error))

    copies.verifying.on_result = proved
    copies.vault.using = keeper.using


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
