"""Everything that protects, of one process, on the parts that the process has: the vault, where copies are proven, who takes them, who keeps them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from proxy.backups.copy_metrics import CopyMetrics
from proxy.backups.keeper import Keeper, Result
from proxy.backups.metrics import KeepingMetrics
from proxy.backups.model import Backup, Proof
from proxy.backups.protector import Proven, VaultProtector
from proxy.backups.scratch import Scratch, ScratchError
from proxy.backups.sealing import read_key
from proxy.backups.seams import OnProgress, Protector, Unprotected
from proxy.backups.targets import open_targets
from proxy.backups.undo import KeptRows
from proxy.backups.vault import Vault, VaultError
from proxy.backups.verify import Verifier
from proxy.config import Settings, Upstream
from proxy.control import Control
from proxy.metrics import Metrics
from proxy.seams import AuditError, AuditLog, Clock, HoldBook
from proxy.store.backups import SqlBackups
from proxy.tasks import Tasks

if TYPE_CHECKING:
    # It puts holds in the console's words, and so comes after the console.
    from proxy.notify import Notifier


@dataclass(frozen=True, slots=True)
class Protection:
    """Attributes:
    protector: of sessions and errands; takes nothing when copies are switched off.
    keeper: of the set, which goes on by its schedule all the same.
    """

    settings: Settings
    register: SqlBackups
    vault: Vault
    scratch: Scratch
    verifier: Verifier
    protector: Protector
    keeper: Keeper
    log: structlog.typing.FilteringBoundLogger

    async def start(self) -> None:
        """Take away what a process that died left half done. Raises StoreError."""
        for backup in await self.register.recover():
            self.log.warning("a copy was not finished", backup=int(backup.id), hold=backup.hold_id)
        await self.vault.sweep()

    async def warm(self) -> None:
        """Have the place where copies are proven ready before the first is."""
        if self.settings.backup_before_danger:
            try:
                await self.scratch.start()
            except ScratchError as error:
                self.log.warning("copies cannot be proven", error=str(error))

    @asynccontextmanager
    async def open_rows(self, backup: Backup) -> AsyncIterator[KeptRows]:
        """A copy of rows, for an undo. Raises ProtectError."""
        async with self.vault.open(backup) as opened:
            relation, columns = opened.manifest.get("relation"), opened.manifest.get("columns")
            if not isinstance(relation, str) or not isinstance(columns, list):
                raise VaultError("the manifest does not say what rows these are")
            yield KeptRows(relation, tuple(map(str, columns)) or None, backup.rows, opened.rows)


def make_protection(
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
) -> Protection:
    """Nothing is begun yet. Raises ConfigError: the key, or a further place, is not good."""
    vault = Vault(
        settings.backup_folder,
        key=read_key(settings.backup_key_file) if settings.backup_key_file else None,
        targets=open_targets(settings.backup_targets),
        min_free_bytes=settings.backup_min_free_bytes,
    )
    scratch = Scratch(settings.data_dir / "scratch", settings.scratch, settings.connect_timeout_s)
    verifier = Verifier(vault, scratch, settings.pg_bin)

    async def databases() -> list[str]:
        return await scheduled_databases(settings, control)

    keeper = Keeper(
        settings, register, audit, clock, databases=databases, alarm=notifier.alarm, log=log.warning, spawn=tasks.spawn, verifier=verifier,
        shelf=_Shelf(vault), book=book,
    )  # fmt: skip
    protector = VaultProtector(
        settings, control=control, vault=vault, backups=register, clock=clock, metrics=CopyMetrics(metrics.registry), spawn=tasks.spawn,
        proving=_Watched(verifier, keeper, log), log=log.warning,
    )  # fmt: skip
    keeper.copier = protector
    metrics.registry.register(KeepingMetrics(keeper, settings, clock))
    chosen: Protector = protector if settings.backup_before_danger else Unprotected()
    return Protection(settings, register, vault, scratch, verifier, chosen, keeper, log)


class _Shelf:
    """The vault, as the keeper asks for it."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    async def remove(self, backup: Backup) -> None:
        await self._vault.remove(backup)

    async def manifest(self, backup: Backup) -> dict[str, Any]:  # any: JSON
        return dict(await asyncio.to_thread(self._vault.manifest, backup.folder))

    async def folders(self) -> Collection[str]:
        try:
            return await asyncio.to_thread(self._vault.folders)
        except OSError as error:
            raise VaultError(f"{self._vault.root}: {error.strerror}") from None


class _Watched:
    """Proofs of copies that held statements need: what is not equal goes on record, and people are told."""

    def __init__(self, verifier: Verifier, keeper: Keeper, log: structlog.typing.FilteringBoundLogger) -> None:
        self._verifier = verifier
        self._keeper = keeper
        self._log = log

    async def verify(self, backup: Backup, progress: OnProgress) -> Proven:
        with self._keeper.using(backup.id):
            found: Result = await self._verifier.verify(backup, progress)
        if found.proof is Proof.EQUAL:
            self._keeper.figures.proofs[str(Proof.EQUAL)] += 1
            await self._keeper.tell_hold(backup, found.proof, found.text)
        else:
            try:
                await self._keeper.proved(backup, found.proof, found.text)
            except AuditError as error:
                self._log.warning("proof not on record", backup=int(backup.id), error=str(error))
        return Proven(found.proof, found.text)


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
