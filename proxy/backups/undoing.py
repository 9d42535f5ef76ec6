"""What taking something back would do, and what is in the way, in words that all its kinds share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum

from proxy.backups.errands import ErrandError
from proxy.backups.model import BackupId
from proxy.holds_json import Json
from proxy.impact.model import Consequences, Reached
from proxy.model import HoldId


class Conflicts(StrEnum):
    """What to do about them. abort: nothing at all. skip: leave out what they are about. overwrite: what was goes over what is."""

    ABORT = "abort"
    SKIP = "skip"
    OVERWRITE = "overwrite"


class ConflictError(ErrandError):
    """Something is in the way. Carries the report."""

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


@dataclass(frozen=True, slots=True)
class Conflict:
    """Something that is in the way.

    Attributes:
        kind: "exists", "changed", "deleted", "parent", "unique" (rows); "columns"; "name", "schema", "key", "gone" (tables).
        rows: how many it is about; 0 where it is not about rows.
        text: for people.
        may_skip, may_overwrite: whether it can be dealt with in that way.
    """

    kind: str
    rows: int
    text: str
    may_skip: bool = True
    may_overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """Before anything is done.

    Attributes:
        kind: of the copy: CopyKind.
        relations: that it changes, qualified and quoted.
        rows: in the copy.
        does: in half a sentence: "puts 12 rows back into …".
        script: what will run, for people.
        notes: what else should be known, a sentence each.
    """

    hold_id: HoldId
    backup_id: BackupId
    kind: str
    database: str
    relations: tuple[str, ...]
    rows: int
    does: str
    script: str
    conflicts: tuple[Conflict, ...] = ()
    notes: tuple[str, ...] = ()

    def check(self, conflicts: Conflicts) -> None:
        """Raises ConflictError."""
        for conflict in self.conflicts:
            if conflicts is Conflicts.SKIP and conflict.may_skip:
                continue
            if conflicts is Conflicts.OVERWRITE and conflict.may_overwrite:
                continue
            ways = [
                way for way, good in (("skip", all(c.may_skip for c in self.conflicts)),
                                      ("overwrite", all(c.may_overwrite for c in self.conflicts))) if good
            ]  # fmt: skip
            hint = f"; it can be asked for again with conflicts {' or '.join(ways)}" if ways and conflicts is Conflicts.ABORT else ""
            raise ConflictError("; ".join(c.text for c in self.conflicts) + hint, self)

    def consequences(self, conflicts: Conflicts) -> Consequences:
        """For the card."""
        notes = [f"in the way, and dealt with by {conflicts}: {c.text}" for c in self.conflicts]
        return Consequences(
            reached=tuple(Reached(name, "table", "named", "given back", self.rows, exact=self.kind == "rows") for name in self.relations),
            notes=(*notes, *self.notes),
            source="control connection",
        )

    def as_json(self) -> dict[str, Json]:
        return {
            "hold_id": int(self.hold_id),
            "backup_id": int(self.backup_id),
            "kind": self.kind,
            "database": self.database,
            "relations": list(self.relations),
            "rows": self.rows,
            "does": self.does,
            "script": self.script,
            "conflicts": [asdict(c) for c in self.conflicts],
            "notes": list(self.notes),
        }
