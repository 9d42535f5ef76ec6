"""What the terminal view knows: holds that wait and that ended, in groups, filtered, marked. No terminal, no network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import Any, Final

from policy.verdict import Severity
from proxy.console.grouping import Group, group
from proxy.model import Decision, HeldAct, HeldFinding, HeldStatement, Hold, HoldId, HoldRequest, HoldState, Requester, SessionId

Json = dict[str, Any]  # any: JSON

#: Ended holds that are kept to be looked at.
ENDED_KEPT: Final = 500
#: News comes in the order in which it happened, but what is fetched meanwhile may be older: a hold never goes back.
_RANK: Final = {HoldState.PENDING: 0, HoldState.APPROVED: 2, HoldState.PROTECTING: 3, HoldState.RELEASED: 4}
#: What ended without a decision can still be approved, for a retry.
_UNDECIDED: Final = (HoldState.EXPIRED, HoldState.ABANDONED)


class Change(Enum):
    """What a piece of news was."""

    NONE = auto()
    OPENED = auto()
    MOVED = auto()


@dataclass(frozen=True, slots=True)
class Entry:
    """A hold, and all that the console said of it."""

    hold: Hold
    raw: Json


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the list: one hold, a group, or one of a group that is shown in full.

    Attributes:
        is_member: it is below its group's line.
    """

    group: Group
    is_member: bool = False
    is_open: bool = False

    @property
    def hold(self) -> Hold:
        return self.group.first

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(int(h.id) for h in self.group.holds)

    @property
    def key(self) -> tuple[int, bool]:
        return int(self.hold.id), self.is_member


@dataclass
class Board:
    """
    Attributes:
        is_known: what waits is known; False until it was asked for, and while the console is away.
        fresh: holds that nobody at this terminal has looked at.
        marked: holds to decide together.
        opened: leading ids of groups that are shown in full.
    """

    is_known: bool = False
    words: str = ""
    shows_ended: bool = False
    pending: dict[int, Entry] = field(default_factory=dict)
    ended: dict[int, Entry] = field(default_factory=dict)
    fresh: set[int] = field(default_factory=set)
    marked: set[int] = field(default_factory=set)
    opened: set[int] = field(default_factory=set)

    def entry(self, hold_id: int) -> Entry | None:
        return self.pending.get(hold_id) or self.ended.get(hold_id)

    def apply(self, raw: Json, *, news: bool = True) -> Change:
        """Take in what the console says of a hold. `news`: it happens now, rather than being told of the past."""
        hold = hold_of(raw)
        number = int(hold.id)
        known = self.entry(number)
        if known is not None and _rank(hold) < _rank(known.hold):
            return Change.NONE
        was = known.hold.state if known is not None else None
        if hold.state is HoldState.PENDING:
            self.pending[number] = Entry(hold, raw)
            if known is None and news:
                self.fresh.add(number)
                return Change.OPENED
            return Change.NONE
        self.pending.pop(number, None)
        self.marked.discard(number)
        self.fresh.discard(number)
        self.ended[number] = Entry(hold, raw)
        while len(self.ended) > ENDED_KEPT:
            del self.ended[min(self.ended)]
        return Change.MOVED if was is not hold.state else Change.NONE

    def replace_pending(self, raws: Iterable[Json], *, news: bool) -> list[int]:
        """After a connection was made: what waits now. Returns the ids of holds that waited before and are not among them."""
        waiting = {int(raw["id"]): raw for raw in raws}
        gone = [number for number in self.pending if number not in waiting]
        for raw in waiting.values():
            self.apply(raw, news=news)
        return gone

    def forget(self, number: int) -> None:
        """It no longer waits, and nobody knows what became of it."""
        self.pending.pop(number, None)
        self.marked.discard(number)
        self.fresh.discard(number)

    # --- the list -----------------------------------------------------------------------------------------------

    def rows(self) -> list[Row]:
        """The worst first, and of those what expires soonest; ended ones newest first."""
        if self.shows_ended:
            ended = sorted(self.ended.values(), key=lambda e: -e.hold.id)
            return [Row(Group((e.hold,))) for e in ended if self._is_wanted(e.hold)]
        groups = group(e.hold for e in self.pending.values() if self._is_wanted(e.hold))
        groups.sort(key=lambda g: (-Severity[g.severity.upper()], g.expires_first.expires_at, g.first.id))
        rows: list[Row] = []
        for one in groups:
            is_open = len(one.holds) > 1 and int(one.first.id) in self.opened
            rows.append(Row(one, is_open=is_open))
            if is_open:
                rows += [Row(Group((hold,)), is_member=True) for hold in one.holds]
        return rows

    def _is_wanted(self, hold: Hold) -> bool:
        if not self.words:
            return True
        request, who = hold.request, hold.request.requester
        text = " ".join(
            (
                request.script,
                who.role,
                who.database,
                who.application_name,
                who.client_addr,
                *request.rule_ids,
                request.severity,
                hold.state,
                f"#{hold.id}",
            )
        ).lower()
        return all(word in text for word in self.words.lower().split())

    def toggle_mark(self, ids: Iterable[int]) -> None:
        """Mark all of them; if all are marked, none."""
        chosen = set(ids) & set(self.pending)
        if chosen <= self.marked:
            self.marked -= chosen
        else:
            self.marked |= chosen


def _rank(hold: Hold) -> int:
    return 1 if is_undecided(hold) else _RANK.get(hold.state, 5)


def is_undecided(hold: Hold) -> bool:
    """It ended before anybody decided; perhaps it can still be approved."""
    return hold.state in _UNDECIDED and hold.decision is None


def hold_of(raw: Json) -> Hold:
    """A hold from the JSON of the API. What a newer console tells besides stays in the JSON."""
    decision = raw["decision"]
    request = HoldRequest(
        requester=Requester(SessionId(raw["session_id"]), raw["role"], raw["database"], raw["application_name"], raw["client_addr"]),
        environment=raw["environment"],
        script=raw["script"],
        script_sha256=raw["script_sha256"],
        rule_ids=tuple(raw["rule_ids"]),
        findings=tuple(
            HeldFinding(
                f["rule_id"],
                f["message"],
                f["hint"],
                f["statement"],
                (f["span"][0], f["span"][1]),
                tuple(f["relations"]),
                f["suggestion"],
                f["severity"],
                f["irreversible"],
            )
            for f in raw["findings"]
        ),
        statements=tuple(HeldStatement(s["kind"], s["text"], tuple(s["relations"])) for s in raw["statements"]),
        relations=tuple(raw["relations"]),
        protocol=raw["protocol"],
        in_transaction=raw["in_transaction"],
        expires_in_s=0.0,
        parameters=tuple(raw["parameters"]),
        severity=raw["severity"],
        # Its title is whole here, with the count.
        act=HeldAct(act["tool"], act["title"], act["reach"], act["forced"], act["whole"]) if (act := raw.get("act")) else None,
    )
    return Hold(
        id=HoldId(raw["id"]),
        state=HoldState(raw["state"]),
        request=request,
        created_at=datetime.fromisoformat(raw["created_at"]),
        expires_at=datetime.fromisoformat(raw["expires_at"]),
        decision=None
        if decision is None
        else Decision(
            decision["approved"],
            decision["operator"],
            decision["reason"],
            datetime.fromisoformat(decision["decided_at"]),
            tuple(decision["approvers"]),
            decision["suggestion"],
            decision["break_glass"],
        ),
        ended_at=datetime.fromisoformat(raw["ended_at"]) if raw["ended_at"] else None,
        outcome=raw["outcome"],
    )
