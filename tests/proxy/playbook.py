"""Plays a script of events against a core and compares the commands, one list for each event."""

from __future__ import annotations

from datetime import UTC, datetime

from policy.context import Context
from proxy.commands import Command, MoveHold, Note, Record, SendToBackend, SendToFrontend
from proxy.core import Core
from proxy.events import (
    BackendSent,
    Event,
    FrontendSent,
    HoldOpened,
    HoldResolved,
    Recorded,
)
from proxy.held import CoreSettings
from proxy.knowledge import Knowledge
from proxy.model import AuditEvent, Decision, HoldId, Requester, SessionId
from tests.proxy.fake_judge import FakeJudge
from tests.proxy.wire import split

REQUESTER = Requester(SessionId(1), "app", "shop", "test", "192.0.2.7:5000")
APPROVED_BY_ANA = Decision(True, "ana", "agreed", datetime(2026, 1, 1, tzinfo=UTC))
DENIED_BY_BO = Decision(False, "bo", "not today", datetime(2026, 1, 1, tzinfo=UTC))
SEVEN = HoldId(7)


def core(*, rejects: bool = False, **settings: object) -> Core:
    judge = FakeJudge()
    settings.setdefault("looks", False)
    return Core(
        judge=judge,
        knowledge=Knowledge(Context(role="app", database="shop"), judge),
        requester=REQUESTER,
        settings=CoreSettings(**settings),  # type: ignore[arg-type]
        rejects=rejects,
    )


class Table:
    """A core between a frontend and a backend that the test plays; keeps what each of them was sent."""

    def __init__(self, *, rejects: bool = False, **settings: object) -> None:
        self.core = core(rejects=rejects, **settings)
        self.to_backend = b""
        self.to_frontend = b""
        self.others: list[Command] = []

    def __call__(self, event: Event) -> list[Command]:
        commands = self.core.handle(event)
        for command in commands:
            match command:
                case SendToBackend(data):
                    self.to_backend += data
                case SendToFrontend(data):
                    self.to_frontend += data
                case _:
                    self.others.append(command)
        return commands

    def frontend(self, *messages: bytes) -> list[Command]:
        return self(FrontendSent(b"".join(messages)))

    def backend(self, *messages: bytes) -> list[Command]:
        return self(BackendSent(b"".join(messages)))

    def take_backend(self) -> bytes:
        taken, self.to_backend = self.to_backend, b""
        return taken

    def take_frontend(self) -> bytes:
        taken, self.to_frontend = self.to_frontend, b""
        return taken

    def seen(self) -> list[tuple[str, bytes]]:
        """What the frontend was sent since last asked, notices aside."""
        return [m for m in split(self.take_frontend()) if m[0] != "N"]

    def held(self) -> None:
        """The store takes the hold, the audit log its entry."""
        self(HoldOpened(SEVEN))
        self(Recorded())

    def decide(self, decision: Decision) -> None:
        self(HoldResolved(SEVEN, decision))
        self(Recorded())

    def audited(self) -> list[AuditEvent]:
        return [c.entry.event for c in self.others if isinstance(c, (Record, Note))]

    def moves(self) -> list[tuple[str, str]]:
        return [(str(c.to), c.outcome) for c in self.others if isinstance(c, MoveHold)]
