"""The questions of one session (look.py): one at a time, and none any more once one has failed."""

from __future__ import annotations

from typing import Final

from protocol.tracker import Kind, Request, Tracker
from proxy.held import Held
from proxy.look import Look, make_look, names_of

#: The backend skipped it, because something before it in the series failed.
SKIPPED: Final = "skipped after an earlier error"


class Looking:
    """What is asked, and what came of it.

    Attributes:
        in_flight: the question whose answers are expected.
        answered: one that is over, until somebody takes it.
        about: for which held message it was asked; by the time of the answer another one may wait.
        closed: why nothing is asked any more.
    """

    __slots__ = ("_number", "about", "answered", "closed", "in_flight")

    def __init__(self, closed: str) -> None:
        self.in_flight: Look | None = None
        self.answered: Look | None = None
        self.about: Held | None = None
        self.closed = closed
        self._number = 0

    def ask(self, held: Held, tracker: Tracker, client_encoding: str, *, has_sync: bool) -> Look | None:
        """The question, noted as in flight; None when there is nothing that could be asked about."""
        look = make_look(names_of(held.judgement), self._number + 1, client_encoding, has_sync=has_sync)
        if look is None:
            return None
        self._number += 1
        self.in_flight = look
        self.about = held
        kinds = [Kind.PARSE, Kind.BIND, Kind.EXECUTE, Kind.CLOSE]
        if has_sync:
            kinds.append(Kind.SYNC)
            tracker.series += 1
        tracker.requests += [Asked(self, kind, is_last=kind is kinds[-1]) for kind in kinds]
        return look

    def take(self) -> Look:
        look, self.answered = self.answered, None
        assert look is not None
        return look

    def over(self) -> None:
        """The last answer came, or will not come."""
        self.answered, self.in_flight = self.in_flight, None

    def failed(self, why: str) -> None:
        """The first reason counts."""
        if self.in_flight is not None and not self.in_flight.problem:
            self.in_flight.problem = why


class Asked(Request):
    """A message of a question in flight: its answers are not for the frontend."""

    __slots__ = ("_is_last", "_looking")

    def __init__(self, looking: Looking, kind: Kind, *, is_last: bool) -> None:
        super().__init__(kind)
        self._looking = looking
        self._is_last = is_last

    def dropped(self, sqlstate: bytes) -> None:
        self._looking.failed(SKIPPED)

    def ended(self) -> None:
        if self._is_last:
            self._looking.over()
