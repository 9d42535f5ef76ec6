"""What can be checked without the server: disks, copies, the audit log, our own clock."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from cronsim import CronSim, CronSimError

from proxy.backups.model import Backup, BackupState, CopyKind, Proof
from proxy.config import Settings
from proxy.health.model import Check, HealthState
from proxy.health.server import size
from proxy.store.backups import SqlBackups

OK, WARN, FAIL, UNKNOWN = HealthState.OK, HealthState.WARN, HealthState.FAIL, HealthState.UNKNOWN

#: A data directory with less room cannot keep the audit log for long.
_DATA_WARN_BYTES = 1 << 30
_DATA_FAIL_BYTES = 128 << 20
_JUMP_S = 5.0
#: A jump of the clock is shown for so long.
_JUMP_SHOWN_S = 3600.0


def free_bytes(folder: Path) -> int:
    """Where it is or will be. Raises OSError."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def disk(settings: Settings) -> Check:
    """Room for copies and for the audit log."""
    try:
        for_copies, for_data = free_bytes(settings.backup_folder), free_bytes(settings.data_dir)
    except OSError as error:
        return Check("disk", UNKNOWN, f"the disk could not be asked: {error.strerror}")
    least = settings.backup_min_free_bytes
    fix = "Remove old copies (backup_keep_days, backup_keep_bytes), or give backup_dir a larger disk."
    copies = settings.backup_before_danger or bool(settings.backup_schedule)
    if for_data < _DATA_FAIL_BYTES:
        text = f"{size(for_data)} are free in {settings.data_dir}: without room for the audit log dangerous statements are refused"
        return Check("disk", FAIL, text, "Make room there, or move data_dir.")
    if copies and for_copies < least:
        text = f"{size(for_copies)} are free for copies in {settings.backup_folder}, {size(least)} must stay free: none can be made"
        return Check("disk", FAIL, text, fix)
    if copies and for_copies < 2 * least:
        return Check("disk", WARN, f"{size(for_copies)} are free for copies, {size(least)} must stay free", fix)
    if for_data < _DATA_WARN_BYTES:
        return Check("disk", WARN, f"{size(for_data)} are free in {settings.data_dir}", "Make room there.")
    return Check("disk", OK, f"{size(for_copies)} are free for copies")


def longest_wait(schedule: str, now: datetime) -> timedelta:
    """The longest time between two of the next moments of a schedule (cron's five fields). Raises CronSimError."""
    moments = []
    for moment in CronSim(schedule, now.replace(microsecond=0)):
        moments.append(moment)
        if len(moments) > 8:
            break
    return max((b - a for a, b in pairwise(moments)), default=timedelta(days=366))


async def copies(settings: Settings, backups: SqlBackups, database: str, now: datetime, since: datetime) -> Check:
    """How old the last proven copy of each whole database is. `since`: when pghold first looked at this server. Raises StoreError."""
    if not settings.backup_schedule:
        return Check("backups", WARN, "no whole database is copied on schedule", "Set backup_schedule, such as 0 0,12 * * *")
    try:
        limit = 2 * longest_wait(settings.backup_schedule, now)
    except CronSimError as error:
        return Check("backups", FAIL, f"backup_schedule cannot be read: {error}", "Set backup_schedule to cron's five fields")
    late, ages = [], []
    for name in settings.backup_databases or [database]:
        found = await backups.find(database=name, kinds=[CopyKind.FULL], states=[BackupState.DONE], limit=200)
        proven = next((b for b in found if b.proof is Proof.EQUAL), None)
        age = now - (_taken(proven) if proven is not None else since)
        if age > limit:
            what = f"the last proven copy of {name} is {_span(age)} old" if proven is not None else f"there is no proven copy of {name}"
            late.append(what + (f" ({len(found)} are there that are not proven)" if found and proven is None else ""))
        elif proven is not None:
            ages.append(f"{name}: {_span(age)} old")
    if late:
        fix = "Look why on the Backups page, or with: pghold backups list; make one: pghold backups take"
        return Check("backups", FAIL, f"{'; '.join(late)}; two intervals are {_span(limit)}", fix)
    return Check("backups", OK, f"last proven copies: {', '.join(ages)}" if ages else "the first copy on schedule is not due yet")


def _taken(backup: Backup) -> datetime:
    # Of the data, not of the proof: what was changed afterwards is not in it.
    return backup.created_at


def _span(age: timedelta) -> str:
    hours = age.total_seconds() / 3600
    return f"{hours:.0f} h" if hours < 72 else f"{hours / 24:.0f} days"


@dataclass(slots=True)
class OwnClock:
    """Our wall clock against our monotonic one: a jump makes holds expire early or late, and times in the log wrong."""

    now: Callable[[], datetime]
    monotonic: Callable[[], float] = time.monotonic
    _last: tuple[datetime, float] | None = None
    _jumped: tuple[float, datetime] | None = None

    def look(self) -> Check | None:
        """Warns for an hour after a jump; None when there is nothing to say."""
        wall, steady = self.now(), self.monotonic()
        if self._last is not None:
            jump_s = (wall - self._last[0]).total_seconds() - (steady - self._last[1])
            if abs(jump_s) > _JUMP_S:
                self._jumped = (jump_s, wall)
        self._last = (wall, steady)
        if self._jumped is None or abs((wall - self._jumped[1]).total_seconds()) > _JUMP_SHOWN_S:
            return None
        jump_s, at = self._jumped
        text = f"pghold's own clock jumped by {jump_s:+,.0f} s at {at.astimezone(UTC):%H:%M:%S} UTC"
        return Check("clock", WARN, text, "Was the machine asleep, or its clock set? Let it follow a time server (timedatectl).")
