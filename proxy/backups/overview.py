"""The set of copies as a whole, for pages and programs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from proxy.backups.as_json import database_as_json
from proxy.backups.keeper import DatabaseState, Keeper
from proxy.backups.outlook import disk_of
from proxy.config import Settings


@dataclass(frozen=True, slots=True)
class Overview:
    """Attributes:
    disk_bytes, free_bytes: of the disk that copies are kept on; 0 when that is not known.
    reserve_bytes: what must stay free.
    schedule: cron's fields; empty: none.
    warnings: what is wrong, a sentence each.
    """

    folder: str
    kept: int
    kept_bytes: int
    disk_bytes: int
    free_bytes: int
    reserve_bytes: int
    schedule: str
    databases: list[DatabaseState]
    warnings: list[str]
    enabled: bool


async def overview(keeper: Keeper, settings: Settings) -> Overview:
    """Raises StoreError."""
    try:
        total, free = await asyncio.to_thread(disk_of, settings.backup_folder)
    except OSError:
        total, free = 0, 0
    kept, kept_bytes = await keeper.kept()
    return Overview(
        folder=str(settings.backup_folder),
        kept=kept,
        kept_bytes=kept_bytes,
        disk_bytes=total,
        free_bytes=free,
        reserve_bytes=settings.backup_min_free_bytes,
        schedule=keeper.timetable.expression,
        databases=await keeper.databases(),
        warnings=keeper.warnings(),
        enabled=settings.backup_before_danger,
    )


def overview_as_json(found: Overview) -> dict[str, object]:
    return {
        "enabled": found.enabled,
        "schedule": found.schedule,
        "databases": [database_as_json(d) for d in found.databases],
        "folder": found.folder,
        "kept": found.kept,
        "kept_bytes": found.kept_bytes,
        "disk_bytes": found.disk_bytes,
        "free_bytes": found.free_bytes,
        "reserve_bytes": found.reserve_bytes,
        "warnings": found.warnings,
    }
