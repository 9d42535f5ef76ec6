"""What the parts of the proxy may ask of each other; fakes in tests pass the same contract tests as the real ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Protocol

from proxy.impact.model import Consequences
from proxy.look import Sight
from proxy.model import (
    AuditEntry,
    CopyState,
    Decision,
    Hold,
    HoldId,
    HoldRequest,
    HoldState,
    Operator,
    SessionId,
    SessionInfo,
)


class StoreError(Exception):
    """The store failed; whatever needed it is refused."""


class HoldsFullError(StoreError):
    """More holds are pending than the limit allows."""


class UnknownHoldError(LookupError):
    """No hold of that id."""


class NotPendingError(Exception):
    """The hold was decided, or ended, before. Carries the hold as it is now."""

    def __init__(self, hold: Hold) -> None:
        super().__init__(f"hold {hold.id} is {hold.state}, no longer pending")
        self.hold = hold


class LockedOutError(Exception):
    """Too many wrong passwords or codes; nothing is checked until then."""

    def __init__(self, until: datetime) -> None:
        super().__init__("too many failed attempts")
        self.until = until


class AuditError(Exception):
    """The entry is not on disk; what it was to record must not take effect."""


class AuditLog(Protocol):
    def submit(self, entry: AuditEntry, *, late: bool = False) -> asyncio.Future[None]:
        """Queue the entry, in order; the future ends when it is flushed, or fails with AuditError.

        `late`: it tells of what has happened already; while the log cannot be written it is kept for later, and the future ends at once.
        """
        ...

    async def append(self, entry: AuditEntry) -> None:
        """Return when the entry is flushed to disk. Raises AuditError."""
        ...


#: Called on the event loop, once at most, when an operator has decided the hold.
OnDecision = Callable[[HoldId, Decision], None]


class HoldBook(Protocol):
    async def open(self, request: HoldRequest, on_decision: OnDecision | None) -> Hold:
        """Store a pending hold; None where no session waits. Raises StoreError (HoldsFullError)."""
        ...

    async def describe(self, hold_id: HoldId, sight: Sight) -> None:
        """Store what the hold is about; the first time counts. Raises StoreError."""
        ...

    async def foresee(self, hold_id: HoldId, consequences: Consequences) -> None:
        """Store what is foreseen; the last one counts. Raises StoreError."""
        ...

    async def copied(self, hold_id: HoldId, copy: CopyState) -> None:
        """Store how far its copy is; the last one counts. Raises StoreError."""
        ...

    async def move(self, hold_id: HoldId, to: HoldState, outcome: str = "") -> bool:
        """Compare-and-set along HOLD_TRANSITIONS, by the owning session; False when the hold is elsewhere by now.

        Raises StoreError.
        """
        ...

    async def decide(self, hold_id: HoldId, decision: Decision) -> Hold:
        """By an operator: pending → approved | denied, then tell the owning session through its on_decision.

        Raises UnknownHoldError, NotPendingError, StoreError.
        """
        ...

    async def get(self, hold_id: HoldId) -> Hold:
        """Raises UnknownHoldError, StoreError."""
        ...

    async def list(self, *, pending_only: bool = True, limit: int = 1000, before: HoldId | None = None) -> list[Hold]:
        """Newest first."""
        ...

    def pending_count(self) -> int: ...

    def touch(self, hold: Hold) -> None:
        """Something beside its state changed; whoever shows it should look again."""
        ...

    def changes(self) -> AsyncIterator[Hold]:
        """Each hold as it is opened or changes state, from now on. A slow reader misses old ones, never blocks."""
        ...


class Grants(Protocol):
    async def use(self, request: HoldRequest) -> Hold | None:
        """The approved hold that lets this statement run, when it was decided ahead; a retry grant is used up by it. Raises StoreError."""
        ...

    def asked_before(self, request: HoldRequest) -> Hold | None:
        """The pending hold for which nobody waits, of the same identity and the same statement."""
        ...


class Sessions(Protocol):
    def list(self) -> list[SessionInfo]: ...

    def kill(self, session_id: SessionId, operator: str) -> bool:
        """End that session with FATAL 57P01; False when there is none."""
        ...


class Operators(Protocol):
    async def by_token(self, token: str) -> Operator | None: ...

    async def get(self, name: str) -> Operator | None:
        """None when there is none, or he is disabled."""
        ...

    async def check_totp(self, name: str, code: str) -> bool:
        """Whether it is a code of his device that was not used before. Raises LockedOutError."""
        ...

    async def scram_verifier(self, name: str) -> tuple[Operator, str] | None:
        """The operator and his `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`."""
        ...


class Clock(Protocol):
    def now(self) -> datetime:
        """Aware UTC."""
        ...
