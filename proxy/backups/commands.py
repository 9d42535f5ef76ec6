"""What to type to bring back what a copy has."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from proxy.backups.model import Backup, BackupState, CopyKind


@dataclass(frozen=True, slots=True)
class Command:
    """What it does, and the line."""

    what: str
    command: str


def back_command(kind: str, hold_id: int) -> str:
    """The shortest way back from what a hold destroyed; empty when its copy is of no such kind."""
    match kind:
        case CopyKind.ROWS | CopyKind.TRASH:
            return f"pghold undo {hold_id}"
        case CopyKind.DUMP:
            return f"pghold restore {hold_id}"
        case _:
            return ""


def back_again(backup: Backup) -> list[Command]:
    """The likeliest first; none for a copy that is not there."""
    if backup.state is not BackupState.DONE:
        return []
    beside = shlex.quote(f"{backup.database}_copy")
    number = f"--backup {backup.id}"
    match backup.kind:
        case CopyKind.ROWS if backup.hold_id is not None:
            return [
                Command("put these rows back", f"pghold undo {backup.hold_id}"),
                Command("look at them in a database beside it", f"pghold restore {number} --into {beside}"),
            ]
        case CopyKind.TRASH if backup.hold_id is not None:
            return [Command("take it out of the trash", f"pghold undo {backup.hold_id}")]
        case CopyKind.FULL:
            return [
                Command("into a database beside it", f"pghold restore {number} --into {beside}"),
                Command("the whole database is gone", f"pghold recover --database {shlex.quote(backup.database)}"),
            ]
        case CopyKind.DUMP:
            return [
                Command("put it back in place", f"pghold restore {number}"),
                Command("into a database beside it", f"pghold restore {number} --into {beside}"),
            ]
        case _:
            return []
