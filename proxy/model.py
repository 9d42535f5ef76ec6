"""The records that the parts of the proxy hand each other: sessions, holds, decisions, audit entries.

All are immutable. Times are aware UTC datetimes; ids are NewTypes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NewType

from proxy.impact.model import Consequences
from proxy.look import Sight

HoldId = NewType("HoldId", int)
SessionId = NewType("SessionId", int)


class HoldState(StrEnum):
    """pending → approved → protecting → released → done | failed, or denied | expired | withdrawn | abandoned.

    withdrawn: the requester took it back (cancel, Terminate, ROLLBACK behind it, an earlier error that makes the server
    skip it) or the proxy stops. abandoned: the client or the server vanished, or the proxy died while it waited.
    """

    PENDING = "pending"
    APPROVED = "approved"
    PROTECTING = "protecting"
    RELEASED = "released"
    DONE = "done"
    FAILED = "failed"
    DENIED = "denied"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    ABANDONED = "abandoned"


#: Which state may follow which; the store moves a hold by compare-and-set along these only. Retry grants (grants.py) add two ways that no
#: session goes: expired or abandoned → approved, and approved → expired when the retry does not come.
HOLD_TRANSITIONS: dict[HoldState, frozenset[HoldState]] = {
    HoldState.PENDING: frozenset({HoldState.APPROVED, HoldState.DENIED, HoldState.EXPIRED, HoldState.WITHDRAWN, HoldState.ABANDONED}),
    HoldState.APPROVED: frozenset({HoldState.PROTECTING, HoldState.RELEASED, HoldState.DENIED, HoldState.WITHDRAWN, HoldState.ABANDONED}),
    HoldState.PROTECTING: frozenset({HoldState.RELEASED, HoldState.DENIED, HoldState.WITHDRAWN, HoldState.ABANDONED}),
    HoldState.RELEASED: frozenset({HoldState.DONE, HoldState.FAILED, HoldState.ABANDONED}),
    HoldState.DONE: frozenset(),
    HoldState.FAILED: frozenset(),
    HoldState.DENIED: frozenset(),
    HoldState.EXPIRED: frozenset(),
    HoldState.WITHDRAWN: frozenset(),
    HoldState.ABANDONED: frozenset(),
}


class ErrandKind(StrEnum):
    """What pghold itself does on the server (backups/errands.py); also the id of the "rule" that the hold of an errand names, for
    [[policy.approvals]] and notifications."""

    UNDO = "undo"
    RESTORE = "restore"
    PURGE = "purge"


class Role(StrEnum):
    """What an operator may do: viewer reads; approver decides as well; admin also kills and reloads; auditor
    reads holds and the audit log."""

    VIEWER = "viewer"
    APPROVER = "approver"
    ADMIN = "admin"
    AUDITOR = "auditor"

    @property
    def may_decide(self) -> bool:
        return self in (Role.APPROVER, Role.ADMIN)

    @property
    def may_administer(self) -> bool:
        return self is Role.ADMIN


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody who has proved who he is.

    Attributes:
        databases: patterns (fnmatch) of those he decides for; empty: all.
        max_severity: the worst that he decides; empty: any.
        database_roles: whose statements are his own, and never decided by him; besides the role of his own name.
        may_skip_backup: whether he may approve without a copy.
        second_factor: whether he has a TOTP device.
        source: "local", "oidc" or "header".
    """

    name: str
    role: Role
    databases: tuple[str, ...] = ()
    max_severity: str = ""
    database_roles: tuple[str, ...] = ()
    may_skip_backup: bool = False
    second_factor: bool = False
    source: str = "local"


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks: the session as the startup packet and the socket describe it.

    Attributes:
        certificate: the common name of the client's certificate; empty without one.
        certificate_emails: the addresses it is also for.
        backend_pid: of the server's process for the session; 0 when it did not tell.
    """

    session_id: SessionId
    role: str
    database: str
    application_name: str
    client_addr: str
    certificate: str = ""
    certificate_emails: tuple[str, ...] = ()
    backend_pid: int = 0


@dataclass(frozen=True, slots=True)
class HeldStatement:
    kind: str
    text: str
    relations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HeldFinding:
    rule_id: str
    message: str
    hint: str
    statement: int
    span: tuple[int, int]
    relations: tuple[str, ...] = ()
    suggestion: str = ""
    severity: str = "medium"
    irreversible: bool = False


@dataclass(frozen=True, slots=True)
class HeldAct:
    """What a tool has begun (policy.tools.Act): the hold is about all of it, not about the first statement alone.

    Attributes:
        title: for people, without a count: "Sequelize force sync".
        forced: the rule forced-sync is about it; False: a migration.
        is_whole: it destroys all that the hold lists; False: it may be content with less.
    """

    tool: str
    title: str
    reach: str
    forced: bool
    is_whole: bool


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """A script that is to wait.

    Attributes:
        script: for people (decoded, passwords blanked). The bytes that will run never leave the session.
        script_sha256: hex digest of the exact bytes.
        protocol: "simple", "extended" or "function_call"; "commit" of a transaction that has run already, "errand" of pghold's own (backups/errands.py), "practice" of nobody's.
        parameters: Bind values for people: text values as text (cut), others as "\\x…" (cut), NULL as None.
        in_transaction: whether the session is in a transaction block (its locks stay while it waits).
        expires_in_s: how long it may wait.
        severity: the worst of its findings': low, medium, high or critical.
        waits: a client waits for the answer; False where it was refused at once, and may try again once approved.
        follows: the hold that was approved for other objects than are there now; `difference` says what changed.
        recent: what the session sent before, oldest first, cut.
        act: of a tool, which this script begins.
    """

    requester: Requester
    environment: str
    script: str
    script_sha256: str
    rule_ids: tuple[str, ...]
    findings: tuple[HeldFinding, ...]
    statements: tuple[HeldStatement, ...]
    relations: tuple[str, ...]
    protocol: str
    in_transaction: bool
    expires_in_s: float
    parameters: tuple[str | None, ...] = ()
    severity: str = "medium"
    waits: bool = True
    follows: HoldId | None = None
    difference: tuple[str, ...] = ()
    recent: tuple[str, ...] = ()
    act: HeldAct | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What was settled.

    Attributes:
        operator: who decided; of several approvers, the last.
        approvers: all of them, in order, where a rule wants more than one.
        suggestion: with a denial, the statement that the client is told to send instead.
        break_glass: one person approved what needs several.
        without_backup: the operator waived the copy.
        session_grant_s: the same rules need no decision in this session for so long; 0: this statement only.
    """

    approved: bool
    operator: str
    reason: str
    decided_at: datetime
    approvers: tuple[str, ...] = ()
    suggestion: str = ""
    break_glass: bool = False
    without_backup: bool = False
    session_grant_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CopyState:
    """The copy that was made before a held statement ran, for people.

    Attributes:
        backup_id: 0 while it runs, and where there is none.
        kind: of backups.model.CopyKind.
        state: "running", "done", "failed", "none" (nothing could be lost, or nobody wanted one).
        text: how far it is; what it is; why there is none.
        proof: of backups.model.Proof.
        tables, rows, bytes: what is in it, and the size of its files.
    """

    backup_id: int = 0
    kind: str = "none"
    state: str = "none"
    text: str = ""
    proof: str = "none"
    tables: int = 0
    rows: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold as the store knows it.

    Attributes:
        expires_at: how long it waits; once approved for a retry, how long the client may take for that.
        sight: what it is about, as the session saw it; None until the server has said.
        consequences: what is foreseen; None until that is known.
        copy: what copy was made of it; None before that begins.
    """

    id: HoldId
    state: HoldState
    request: HoldRequest
    created_at: datetime
    expires_at: datetime
    decision: Decision | None = None
    ended_at: datetime | None = None
    outcome: str | None = None  # CommandComplete tag(s), SQLSTATE, or why it ended without running
    sight: Sight | None = None
    consequences: Consequences | None = None
    copy: CopyState | None = None

    def may_be_retried(self, now: datetime, within_s: float) -> bool:
        """Whether nobody waits for it any more, or ever did, and it can still be approved for the next time that it is sent.

        Never one that was decided before: what was approved may have run.
        """
        if self.decision is not None or self.request.protocol in ("practice", "errand", "commit"):
            return False
        if self.state is HoldState.PENDING:
            return not self.request.waits
        ended = self.ended_at
        return self.state in (HoldState.EXPIRED, HoldState.ABANDONED) and ended is not None and (now - ended).total_seconds() < within_s


class GrantKind(StrEnum):
    """retry: the same identity may run the same script once. session: these rules are not held in this session."""

    RETRY = "retry"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Grant:
    """A decision taken ahead of the statement that uses it.

    Attributes:
        hold_id: the hold it was given for.
        role, database, certificate: whose statement; session_id and epoch: which session, of which run of the proxy (session grants).
        script_sha256: as in HoldRequest (retry grants); rule_ids: of session grants.
    """

    id: int
    kind: GrantKind
    hold_id: HoldId
    operator: str
    reason: str
    created_at: datetime
    expires_at: datetime
    role: str
    database: str
    certificate: str = ""
    script_sha256: str = ""
    rule_ids: tuple[str, ...] = ()
    session_id: int = 0
    epoch: str = ""
    ended_at: datetime | None = None  # used, revoked, or over


class AuditEvent(StrEnum):
    STARTED = "started"
    STOPPED = "stopped"
    RELOADED = "reloaded"
    HELD = "held"
    DENIED_BY_POLICY = "denied by policy"
    OBSERVED = "observed"  # would have been held or denied; forwarded because of the mode
    WARNED = "warned"
    ALLOWED = "allowed by policy"  # what the profile would have held; the reason is the policy's
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    ABANDONED = "abandoned"
    RELEASED = "released"
    OUTCOME = "outcome"
    DECISION_TOO_LATE = "decision too late"
    OPERATOR_REFUSED = "operator refused"
    KILLED = "killed"
    APPROVAL = "approval"  # one of several that are needed
    BREAK_GLASS = "break-glass"
    HELD_AGAIN = "held again"  # what it is about changed between the look and the release
    GRANTED = "granted"
    GRANT_USED = "grant used"
    GRANT_REVOKED = "grant revoked"
    LOGGED_IN = "logged in"
    LOGIN_FAILED = "login failed"
    LOGGED_OUT = "logged out"
    OPERATOR_CHANGED = "operator changed"
    POLICY_CHANGED = "policy changed"
    NOTIFICATION_LOST = "notification lost"
    ROTATED = "rotated"
    PRUNED = "pruned"  # the oldest file of the log is about to be removed
    AUDIT_FAILED = "audit failed"  # it could not be written for a while, and can again
    AUDIT_KEY = "audit key"  # checkpoints are signed with this key from now on
    PROTECTED = "protected"  # a copy of what the statement destroys was taken
    UNPROTECTED = "unprotected"  # none could be taken, or none was wanted
    BACKUP_TAKEN = "backup taken"  # on schedule, or by hand
    BACKUP_FAILED = "backup failed"
    BACKUP_PROVED = "backup proved"
    BACKUP_REMOVED = "backup removed"
    GIVEN_BACK = "given back"  # an undo or restore was carried out
    ACT_ENDED = "act ended"  # of a tool: its hold tells what was done
    HEALTH = "health"  # a check began to fail, or works again


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What the audit log is told; it adds sequence number, time, and the chain.

    Attributes:
        outcome: CommandComplete tag ("DROP TABLE"), or SQLSTATE, or why it ended.
        detail: further facts, JSON-able.
    """

    event: AuditEvent
    requester: Requester | None = None
    environment: str = ""
    hold_id: HoldId | None = None
    script: str = ""
    script_sha256: str = ""
    rule_ids: tuple[str, ...] = ()
    relations: tuple[str, ...] = ()
    operator: str = ""
    reason: str = ""
    outcome: str = ""
    detail: dict[str, str | int | float | bool | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One line of SHOW SESSIONS."""

    id: SessionId
    requester: Requester
    started_at: datetime
    state: str  # "starting", "idle", "active", "idle in transaction", "held", "draining"
    hold_id: HoldId | None
    tls: bool
    bytes_from_frontend: int
    bytes_from_backend: int
