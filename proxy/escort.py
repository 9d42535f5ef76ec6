"""A message that was sent, but whose success the frontend is not told before it is certain.

Either its count must be that of the rows that were copied, or its transaction may only commit when that is decided (gate.py). The messages
that answer it go on to the frontend, all but the last CommandComplete and the ReadyForQuery; these follow when it is certain, and an error
in their place when it is not. What the frontend sends meanwhile waits.

    RUNNING --ReadyForQuery, or the CommandComplete of an Execute--> checked:
        right: ENDING with COMMIT where BEGIN was ours, else over
        wrong: ENDING with ROLLBACK where BEGIN was ours, else a message that fails in its place
        too many rows: the hold of its commit (gate.py), then one of the above
    ENDING  --the answer of COMMIT or ROLLBACK--> over
"""

from __future__ import annotations

from typing import Final

from policy.judgement import Effect
from protocol.tracker import Kind
from proxy.backups.model import Substitute
from proxy.held import Held
from proxy.inflight import Owner, Running

COMMIT: Final = b"COMMIT"
ROLLBACK: Final = b"ROLLBACK"


class Escort:
    """Attributes:
    expected: how many rows it must change; None: any number.
    wrapped: the BEGIN was ours, and so is what ends the transaction.
    withheld: the CommandComplete that the frontend has not been told.
    ready: the ReadyForQuery, likewise.
    failed: SQLSTATE, or why.
    error: what the frontend is told when the end of the transaction is over; empty: success.
    commit: the hold of its commit, when there was one.
    opening: BEGIN is in flight, and the message itself waits for it.
    ending: COMMIT is in flight.
    instead: what was sent in its place (soft drop); `effects` of the statement itself, when that was a series.
    """

    __slots__ = (
        "commit",
        "effects",
        "ending",
        "error",
        "expected",
        "failed",
        "held",
        "instead",
        "opening",
        "ready",
        "tags",
        "withheld",
        "wrapped",
    )

    def __init__(self, held: Held, *, expected: int | None = None, wrapped: bool = False) -> None:
        self.held = held
        self.expected = expected
        self.wrapped = wrapped
        self.withheld = b""
        self.ready = b""
        self.tags: list[str] = []
        self.failed: str | None = None
        self.error = b""
        self.commit: Held | None = None
        self.opening = False
        self.ending = False
        self.instead: Substitute | None = None
        self.effects: list[tuple[Effect, ...]] = []


class Escorted(Running):
    """The message in flight. Its outcome is told by the escort, not when the backend is done with it."""

    __slots__ = ("escort",)

    def __init__(self, core: Owner, kind: Kind, effects: tuple[tuple[Effect, ...], ...], series: int, escort: Escort) -> None:
        super().__init__(core, kind, effects, series, escort.held)
        self.escort = escort

    def confirmed(self, tag: bytes) -> None:
        super().confirmed(tag)
        self.escort.tags.append(tag.decode("utf-8", "replace") if tag else "suspended")

    def dropped(self, sqlstate: bytes) -> None:
        super().dropped(sqlstate)
        self.escort.failed = sqlstate.decode("ascii", "replace") if sqlstate else "skipped or cut off"

    def ended(self) -> None:
        """The escort says so."""
