"""What the parts that take, prove, keep and give back copies hand each other. All are immutable; times are aware UTC datetimes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType

from policy.judgement import Judgement
from proxy.look import Sight
from proxy.model import CopyState, HoldId, Requester

BackupId = NewType("BackupId", int)


class ProtectError(Exception):
    """No copy could be made, or it could not be proven: what it was to protect does not run. The message is for people."""


class CopyKind(StrEnum):
    """dump: an archive of pg_dump. rows: the rows that a statement changes, as they were. trash: the table itself, moved away.
    full: a whole database, on schedule. none: nothing can be lost."""

    NONE = "none"
    DUMP = "dump"
    ROWS = "rows"
    TRASH = "trash"
    FULL = "full"


class BackupState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    REMOVED = "removed"  # by retention, or by hand


class Proof(StrEnum):
    """Whether a copy was restored elsewhere and compared with what it is a copy of."""

    NONE = "none"
    RUNNING = "running"
    EQUAL = "equal"
    DIFFERENT = "different"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CopyOrder:
    """What is about to run, for whoever plans and takes the copy.

    Attributes:
        script: the script as text; the bytes that run never leave the session.
        parameters: values bound to it, as (value, whether binary); None is NULL.
        backend_pid: of the held session; 0 when the server did not tell.
        in_transaction: a transaction block is open in it.
        search_path: what it is for the session, when it was set there; None: the role's default.
        approvers: who approved.
        act: all that the sight tells is to be copied at once, for what follows in this session (proxy/acts.py).
        part: of an act or a plan, so that the copy is not the only one of its hold.
        committing: it has run, and its commit is what was approved: others still see the rows as they were, the session itself does not.
    """

    hold_id: HoldId
    requester: Requester
    environment: str
    script: str
    script_sha256: str
    judgement: Judgement
    sight: Sight | None
    parameters: tuple[tuple[bytes | None, bool], ...] = ()
    backend_pid: int = 0
    in_transaction: bool = False
    search_path: str | None = None
    approvers: tuple[str, ...] = ()
    reason: str = ""
    committing: bool = False
    act: bool = False
    part: bool = False


@dataclass(frozen=True, slots=True)
class Substitute:
    """What is sent in the place of the statement (soft drop).

    Attributes:
        sql: one statement, without parameters.
        tag: the CommandComplete that the client is told, such as "DROP TABLE".
        notice: what the client is told beside it.
    """

    sql: str
    tag: str
    notice: str


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """How the copy is made.

    Attributes:
        kind: NONE when nothing can be lost; `why` says why.
        why: for people: what is copied ("3 tables, some 41,220 rows, 12 MB").
        lock: relations, qualified and quoted, which the held session locks against writers before the copy begins, so that what is
            copied is what is destroyed.
        locked: their oids: under the same names there may be others, once the locks are got.
        image: of ROWS: the query whose rows are copied inside the session's own transaction; they are locked by it.
        image_relation: of ROWS: where these rows belong, qualified and quoted.
        counted: the statement must change exactly as many rows as were copied, else its transaction is rolled back.
        substitute: of TRASH.
        detail: whatever the planner wants to find again when the copy is taken.
    """

    kind: CopyKind
    why: str
    lock: tuple[str, ...] = ()
    locked: tuple[int, ...] = ()
    image: str = ""
    image_relation: str = ""
    counted: bool = False
    substitute: Substitute | None = None
    detail: object = None


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy that was taken, and proven unless it was too large for that.

    Attributes:
        text: for people: "copy 12: 3 tables, 41,220 rows, 12 MB; restored, equal".
        sha256: of its manifest.
        proof: so far.
        tables, rows, bytes: what is in it, and the size of its files.
    """

    backup_id: BackupId
    text: str
    sha256: str = ""
    proof: Proof = Proof.NONE
    tables: int = 0
    rows: int = 0
    bytes: int = 0

    def state(self, kind: CopyKind) -> CopyState:
        """For the hold."""
        return CopyState(int(self.backup_id), str(kind), "done", self.text, str(self.proof), self.tables, self.rows, self.bytes)


@dataclass(frozen=True, slots=True)
class CopiedTable:
    """One table in a copy.

    Attributes:
        name: qualified and quoted.
        rows: exact, in the copy's snapshot.
        checksum: of its content, whatever the order of rows (checksums.py); empty when not computed.
    """

    name: str
    rows: int
    bytes: int = 0
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy, as the store knows it.

    Attributes:
        folder: its place below the backup folder; the same path below each further target.
        tables: what is in it.
        bytes: of its files.
        progress: while it runs: done of all, in percent, and what it is at.
        proof_text: for people: "restored, 41,220 rows, equal".
        hold_id: None for those on schedule.
        manifest_sha256: of manifest.json, which has all the rest (versions, LSN, statement, who, files with their digests).
        targets: where else it lies.
    """

    id: BackupId
    kind: CopyKind
    state: BackupState
    database: str
    folder: str
    created_at: datetime
    hold_id: HoldId | None = None
    finished_at: datetime | None = None
    tables: tuple[CopiedTable, ...] = ()
    bytes: int = 0
    progress: str = ""
    error: str = ""
    proof: Proof = Proof.NONE
    proof_text: str = ""
    proved_at: datetime | None = None
    manifest_sha256: str = ""
    targets: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return sum(t.rows for t in self.tables)
