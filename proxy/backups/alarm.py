"""What people are told of copies, whoever looks after them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from proxy.backups.model import BackupId


class AlarmKind(StrEnum):
    FAILED = "failed"  # one on schedule could not be made
    LATE = "late"  # none was made when one should have been
    DIFFERENT = "different"  # what was restored from it is not what it is a copy of, or nothing could be restored
    MISSING = "missing"  # its files are gone
    REMOVAL = "removal"  # it should have gone, and its files did not


@dataclass(frozen=True, slots=True)
class Alarm:
    """One of them.

    Attributes:
        text: a sentence for people, without a full stop.
        backup_id: None where it is about no copy that there is.
    """

    kind: AlarmKind
    database: str
    text: str
    backup_id: BackupId | None = None
