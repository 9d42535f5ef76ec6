"""What the terminal view knows, without a terminal."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.cells import cell_len

from proxy.cli.watch.board import ENDED_KEPT, Board, Change, hold_of
from proxy.cli.watch.text import columns, row_text, safe, span
from proxy.holds_json import hold_as_json
from proxy.model import Decision, HeldFinding, HeldStatement, Hold, HoldId, HoldRequest, HoldState, Requester, SessionId

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)


def hold(number: int, script: str = "DROP TABLE t", state: HoldState = HoldState.PENDING, **request: Any) -> dict[str, Any]:
    who = Requester(
        SessionId(request.pop("session", number)), request.pop("role", "app"), "shop", request.pop("program", f"p{number}"), "h:1"
    )
    finding = HeldFinding("drop-table", "drops t", "rename it", 0, (0, 4), ("t",), "", "high", True)
    asked = HoldRequest(
        who,
        "test",
        script,
        "0" * 64,
        ("drop-table",),
        (finding,),
        (HeldStatement("DROP TABLE", script, ("t",)),),
        ("t",),
        "simple",
        False,
        600,
    )
    asked = replace(asked, **request)
    decision = Decision(state is not HoldState.DENIED, "ana", "because", NOW) if state is not HoldState.PENDING else None
    return dict(hold_as_json(Hold(HoldId(number), state, asked, NOW, NOW + timedelta(seconds=600 + number), decision)))


def test_a_hold_is_the_same_after_its_way_through_json() -> None:
    raw = hold(7, parameters=("1", None), in_transaction=True, state=HoldState.APPROVED)
    assert hold_as_json(hold_of(raw)) == raw


def test_news_that_comes_late_takes_nothing_back() -> None:
    board = Board()
    assert board.apply(hold(1)) is Change.OPENED
    assert board.apply(hold(1)) is Change.NONE
    assert board.apply(hold(1, state=HoldState.RELEASED)) is Change.MOVED
    assert board.apply(hold(1)) is Change.NONE
    assert board.apply(hold(1, state=HoldState.APPROVED)) is Change.NONE
    assert board.ended[1].hold.state is HoldState.RELEASED
    assert not board.pending


def test_what_is_gone_after_a_new_connection_is_told() -> None:
    board = Board()
    for number in (1, 2, 3):
        board.apply(hold(number))
    assert board.replace_pending([hold(2), hold(4)], news=True) == [1, 3]
    assert board.fresh >= {4}
    board.forget(1)
    assert set(board.pending) == {2, 3, 4}


def test_ended_holds_do_not_fill_the_memory() -> None:
    board = Board()
    for number in range(1, ENDED_KEPT + 100):
        board.apply(hold(number, state=HoldState.DENIED))
    assert len(board.ended) == ENDED_KEPT
    assert min(board.ended) == 100


def test_the_worst_come_first_then_what_expires_soonest_and_groups_are_one_row() -> None:
    board = Board()
    board.apply(hold(1, "DROP TABLE a", severity="medium"))
    board.apply(hold(2, "DROP TABLE b", severity="critical"))
    for number in (3, 4, 5):
        board.apply(hold(number, f"DROP TABLE c{number}", session=9, severity="medium"))
    assert [row.ids for row in board.rows()] == [(2,), (1,), (3, 4, 5)]
    board.opened.add(3)
    assert [(row.ids, row.is_member) for row in board.rows()][2:] == [((3, 4, 5), False), ((3,), True), ((4,), True), ((5,), True)]
    board.words = "app TABLE c4"
    assert [row.ids for row in board.rows()] == [(4,)]
    board.words = "#2"
    assert [row.ids for row in board.rows()] == [(2,)]


def test_only_what_waits_can_be_marked() -> None:
    board = Board()
    board.apply(hold(1))
    board.apply(hold(2))
    board.toggle_mark([1, 2, 99])
    assert board.marked == {1, 2}
    board.apply(hold(2, state=HoldState.DENIED))
    assert board.marked == {1}
    board.toggle_mark([1])
    assert board.marked == set()


@pytest.mark.parametrize("width", [10, 39, 40, 59, 60, 80, 99, 100, 129, 130, 300])
@pytest.mark.parametrize("script", ["SELECT 1", "\u5bb6" * 400, "e" + "\u0301" * 50, "\x1b[2J" * 30, "\U0001f468\u200d\U0001f469" * 60, ""])
def test_a_row_is_as_wide_as_the_terminal(width: int, script: str) -> None:
    board = Board()
    board.apply(hold(1, script, role="\u5bb6" * 50, program="\u202e"))
    text = row_text(board.rows()[0], board, NOW, width)
    if width >= 40:
        assert sum(size for _, size in columns(width)) == width
        assert cell_len(text.plain) == width
    assert text.plain.isprintable()


def test_times_are_short() -> None:
    assert [span(s) for s in (-5, 0, 59.9, 60, 3599, 3600, 86399, 86400 * 3)] == [
        "0 s",
        "0 s",
        "59 s",
        "1:00",
        "59:59",
        "1:00:00",
        "23:59:59",
        "3 d",
    ]


def test_accents_do_not_climb_over_other_lines() -> None:
    assert safe("e" + "\u0301" * 3) == "e\u0301\u0301<U+0301>"
    assert safe("\u202ex\u200b\x1b[2J\r\n\ty") == "<U+202E>x<U+200B><U+001B>[2J y"
