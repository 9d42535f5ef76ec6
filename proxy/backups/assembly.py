"""The parts that take, prove and keep copies, put together for a process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from typing import Any

from prometheus_client import CollectorRegistry

from proxy.backups.copy_metrics import CopyMetrics
from proxy.backups.model import Backup, Proof
from proxy.backups.protector import PlanTrash, Spawn, VaultProtector
from proxy.backups.scratch import Scratch, ScratchError
from proxy.backups.sealing import read_key
from proxy.backups.seams import OnProgress, Protector, Unprotected
from proxy.backups.targets import open_targets
from proxy.backups.undo import KeptRows
from proxy.backups.vault import Vault
from proxy.backups.verify import Manifest, Verifier
from proxy.config import Settings
from proxy.control import Control
from proxy.seams import Clock
from proxy.store.backups import SqlBackups


class Verifying:
    """Verifier, in the keeper's and the protector's words.

    Attributes:
        on_result: told what came of each.
    """

    def __init__(self, verifier: Verifier) -> None:
        self.on_result: Callable[[Backup, Proof, str], Awaitable[None]] | None = None
        self._verifier = verifier

    async def verify(self, backup: Backup, progress: OnProgress) -> tuple[Proof, str]:
        result = await self._verifier.verify(backup, progress)
        if self.on_result is not None:
            await self.on_result(backup, result.proof, result.text)
        return result.proof, result.text


class VaultShelf:
    """Vault, in the keeper's words."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    async def remove(self, backup: Backup) -> None:
        await self._vault.remove(backup)

    async def manifest(self, backup: Backup) -> dict[str, Any]:  # any: JSON
        return dict(self._vault.manifest(backup.folder))

    async def folders(self) -> Collection[str]:
        return self._vault.folders()


class Copies:
    """All of it.

    Attributes:
        vault: where copies lie.
        protector: takes them; `before_danger` is what sessions ask: it, or nobody when copies are switched off.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        control: Control,
        backups: SqlBackups,
        clock: Clock,
        registry: CollectorRegistry,
        spawn: Spawn,
        plan_trash: PlanTrash,
        log: Callable[..., object],
    ) -> None:
        """Raises ConfigError: the key file, or a further place."""
        self.vault = Vault(
            settings.backup_folder,
            key=read_key(settings.backup_key_file) if settings.backup_key_file is not None else None,
            targets=open_targets(settings.backup_targets),
            min_free_bytes=settings.backup_min_free_bytes,
        )
        self.scratch = Scratch(settings.data_dir / "scratch", settings.scratch)
        self.verifier = Verifier(self.vault, self.scratch, settings.pg_bin)
        self.verifying = Verifying(self.verifier)
        self.shelf = VaultShelf(self.vault)
        self.protector = VaultProtector(
            settings,
            control=control,
            vault=self.vault,
            backups=backups,
            clock=clock,
            metrics=CopyMetrics(registry, settings.backup_before_danger, lambda: self.protector.running),
            spawn=spawn,
            proving=self.verifying,
            plan_trash=plan_trash,
            log=log,
        )
        self.before_danger: Protector = self.protector if settings.backup_before_danger else Unprotected()
        self._settings = settings
        self._backups = backups
        self._spawn = spawn
        self._log = log

    async def start(self) -> None:
        """Clear away what a process that died has left, and have a place for proofs ready. Raises StoreError."""
        if left := await self.vault.sweep():
            self._log("half copies removed", folders=left)
        await self._backups.recover()
        if self._settings.backup_before_danger:
            self._spawn(self._warm(), "scratch server")

    async def _warm(self) -> None:
        try:
            await self.scratch.start()
        except ScratchError as error:
            self._log("copies cannot be proven", error=str(error))

    async def stop(self) -> None:
        with suppress(ScratchError):
            await self.scratch.stop()

    @asynccontextmanager
    async def open_rows(self, backup: Backup) -> AsyncIterator[KeptRows]:
        """Raises ProtectError."""
        async with self.vault.open(backup) as opened:
            manifest = Manifest.read(opened.manifest)
            yield KeptRows(manifest.relation, manifest.columns, sum(t.rows for t in manifest.tables), opened.rows)
