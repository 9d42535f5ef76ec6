"""Requests in flight that something follows from: a name gets its meaning, a script's outcome goes on record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from policy.judgement import Effect
from protocol.tracker import Kind, Request
from proxy.held import Held
from proxy.knowledge import Knowledge
from proxy.meaning import HARMLESS


class Owner(Protocol):
    """What the requests tell the core."""

    knowledge: Knowledge

    def running_ended(self, held: Held, tags: list[str], failed: str | None) -> None: ...

    def statement_done(self, held: Held, index: int, tag: str) -> None: ...


_NameCall = Callable[[bytes], None]


class Naming(Request):
    """Parse, Bind or Close in flight: gives a name its meaning once confirmed."""

    __slots__ = ("_confirm", "_drop", "_name")

    def __init__(self, kind: Kind, confirm: _NameCall, drop: _NameCall, name: bytes) -> None:
        super().__init__(kind)
        self._confirm = confirm
        self._drop = drop
        self._name = name

    def confirmed(self, tag: bytes) -> None:
        self._confirm(self._name)

    def dropped(self, sqlstate: bytes) -> None:
        self._drop(self._name)


class Running(Request):
    """A script in flight that changes the session's state, or whose outcome belongs to a hold."""

    __slots__ = ("_core", "_effects", "_failed", "_held", "_tags")

    def __init__(self, core: Owner, kind: Kind, effects: tuple[tuple[Effect, ...], ...], series: int, held: Held) -> None:
        super().__init__(kind)
        self._core = core
        self._held = held
        self._effects = [core.knowledge.begin(e, series) for e in effects]
        self._tags: list[str] = []
        self._failed: str | None = None

    def confirmed(self, tag: bytes) -> None:
        self._tags.append(tag.decode("utf-8", "replace") if tag else "suspended")
        if not tag and self.kind is Kind.EXECUTE:
            # PortalSuspended: to fetch the rest of the rows is the same execution, which was decided on.
            self._core.knowledge.portals.replace_confirmed(self._held.portal, HARMLESS)
        if self._effects:
            self._core.knowledge.confirm(self._effects.pop(0))
        if self._held.judgement.gated and self._held.hold_id is None:
            self._core.statement_done(self._held, len(self._tags) - 1, self._tags[-1])

    def dropped(self, sqlstate: bytes) -> None:
        self._failed = sqlstate.decode("ascii", "replace") if sqlstate else "skipped or cut off"
        for effects in self._effects:
            self._core.knowledge.drop(effects)
        self._effects.clear()

    def ended(self) -> None:
        self._core.running_ended(self._held, self._tags, self._failed)


def error_fields(body: bytes) -> dict[int, bytes]:
    """The fields of an ErrorResponse by their type byte (protocol-error-fields.html)."""
    return {part[0]: part[1:] for part in body.split(b"\0") if part}


class Committing(Request):
    """A Sync in flight that commits what an operator has approved."""

    __slots__ = ("_core", "_failed", "_held")

    def __init__(self, core: Owner, held: Held) -> None:
        super().__init__(Kind.SYNC)
        self._core = core
        self._held = held
        self._failed: str | None = None

    def dropped(self, sqlstate: bytes) -> None:
        self._failed = sqlstate.decode("ascii", "replace") if sqlstate else "skipped or cut off"

    def ended(self) -> None:
        self._core.running_ended(self._held, ["COMMIT"], self._failed)
