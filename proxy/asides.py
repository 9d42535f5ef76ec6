"""Statements of ours between those of a session, on its own backend link; the frontend sees none of their answers.

One aside is in flight at a time. A *look* (look.py) asks what a held message is about; once one has failed nothing is asked any more. *Steps*
(protection.py) lock what an approved statement destroys, and copy the rows that it changes, inside the transaction in which it will run.

Their statements and portals are named, so that the frontend's unnamed ones stay. Inside a series of the frontend's they end with a Flush, for a Sync
would end its implicit transaction (protocol-flow.html#PROTOCOL-FLOW-PIPELINING); elsewhere with a Sync. (Tried and dropped: a series without Sync
ahead of a Query, to share the transaction that the Query commits. PostgreSQL 18 does not commit it, and is in an unexpected state afterwards.)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from protocol import Bind, Close, Execute, Flush, Parse, Sync
from protocol.messages.extended_query import ObjectKind
from protocol.tracker import Kind, Request, Tracker

if TYPE_CHECKING:
    from proxy.held import Held

#: The backend skipped it, because something before it in the series failed.
SKIPPED: Final = "skipped after an earlier error"


@dataclass(slots=True)
class Aside:
    """Messages of ours in flight.

    Attributes:
        messages: as they are sent.
        kinds: of those that are answered, in order.
        row: the body of the DataRow that answered, the last of several.
        tags: of the CommandCompletes.
        problem: why there is no answer; `error` is the server's ErrorResponse, when it said so.
    """

    messages: bytes = field(repr=False)
    kinds: tuple[Kind, ...]
    row: bytes = b""
    tags: list[str] = field(default_factory=list)
    problem: str = ""
    error: bytes = field(default=b"", repr=False)


def aside_of(
    statements: tuple[bytes, ...], number: int, *, argument: bytes | None = None, has_sync: bool, reads_tables: bool = False
) -> Aside:
    """Each statement as Parse, Bind, Execute and Close. `number` tells the names of one session apart; `argument` is the value of $1.

    `reads_tables`: their portals are closed as well, for an open one would keep its tables in use, so that they could not be dropped.
    """
    messages = b""
    kinds: list[Kind] = []
    for index, statement in enumerate(statements):
        name = b"pghold %d %d" % (number, index)
        messages += (
            Parse(name, statement, ()).encode()
            + Bind(name, name, (), () if argument is None else (argument,), ()).encode()
            + Execute(name, 0).encode()
        )
        kinds += [Kind.PARSE, Kind.BIND, Kind.EXECUTE, Kind.CLOSE]
        if reads_tables:
            messages += Close(ObjectKind.PORTAL, name).encode()
            kinds.append(Kind.CLOSE)
        messages += Close(ObjectKind.STATEMENT, name).encode()
    messages += (Sync() if has_sync else Flush()).encode()
    if has_sync:
        kinds.append(Kind.SYNC)
    return Aside(messages, tuple(kinds))


def query_aside(statement: bytes) -> Aside:
    """One that ends the transaction: its ReadyForQuery tells how."""
    return Aside(b"Q" + (len(statement) + 5).to_bytes(4, "big") + statement + b"\0", (Kind.QUERY,))


class Asides:
    """What is in flight, and what came of it.

    Attributes:
        in_flight: the one whose answers are expected.
        answered: one that is over, until somebody takes it.
        about: for which held message it was sent; by the time of the answer another one may wait.
        closed: why no looks are made any more.
    """

    __slots__ = ("_number", "about", "answered", "closed", "in_flight")

    def __init__(self, closed: str) -> None:
        self.in_flight: Aside | None = None
        self.answered: Aside | None = None
        self.about: Held | None = None
        self.closed = closed
        self._number = 0

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def send(self, aside: Aside, held: Held | None, tracker: Tracker) -> bytes:
        """Note it as in flight; return what is to be sent."""
        assert self.in_flight is None
        self.in_flight = aside
        self.about = held
        last = len(aside.kinds) - 1
        for index, kind in enumerate(aside.kinds):
            if kind is Kind.SYNC:
                tracker.series += 1
                tracker.skipping = False
            tracker.requests.append(Asked(self, kind, is_last=index == last))
        return aside.messages

    def take(self) -> Aside:
        aside, self.answered = self.answered, None
        assert aside is not None
        return aside

    def over(self) -> None:
        """The last answer came, or will not come."""
        self.answered, self.in_flight = self.in_flight, None

    def failed(self, why: str, error: bytes = b"") -> None:
        """The first reason counts."""
        if self.in_flight is not None and not self.in_flight.problem:
            self.in_flight.problem = why
            self.in_flight.error = error


class Asked(Request):
    """A message of an aside in flight: its answers are not for the frontend."""

    __slots__ = ("_asides", "_is_last")

    def __init__(self, asides: Asides, kind: Kind, *, is_last: bool) -> None:
        super().__init__(kind)
        self._asides = asides
        self._is_last = is_last

    def confirmed(self, tag: bytes) -> None:
        if tag and self._asides.in_flight is not None:
            self._asides.in_flight.tags.append(tag.decode("utf-8", "replace"))

    def dropped(self, sqlstate: bytes) -> None:
        self._asides.failed(SKIPPED)

    def ended(self) -> None:
        if self._is_last:
            self._asides.over()
