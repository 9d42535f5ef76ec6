"""What the core does to learn what a held message is about, and to see that it still is: playbooks."""

from __future__ import annotations

import json

import pytest

from proxy.commands import DescribeHold, MoveHold, OpenHold, PlanCopy, Record
from proxy.events import BackendLost, CancelRequested, FrontendLost, Granted, HoldOpened, HoldResolved, Recorded, Timer, TimerFired
from proxy.look import QUESTION
from proxy.model import AuditEvent, HoldId
from tests.proxy.playbook import APPROVED_BY_ANA, DENIED_BY_BO, SEVEN, Table
from tests.proxy.wire import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    FLUSH,
    PARSE_COMPLETE,
    SYNC,
    bind,
    complete,
    error,
    execute,
    fields,
    message,
    parameter_status,
    parse,
    query,
    ready,
    row,
    split,
)

DANGER = query("danger")
SERIES = parse("danger") + bind() + execute() + SYNC


def seen(oid: int = 16384, node: int = 16384, name: str = "public.t", **more: object) -> bytes:
    """The DataRow of a look that found one table."""
    told = {
        "page_bytes": 8192,
        "objects": [
            {"i": 0, "oid": oid, "node": node, "now": name, "schema": "public", "name": "t", "kind": "r", "temporary": False,
             "owner": "app", "rows": 5, "pages": 2, "relations": 1, "digest": 7, "columns": "id integer", "views": None,
             "foreign_keys": None, "triggers": None, "indexes": 1, "users": 0, **more}
        ],
        "locks": None,
        "waiting": None,
    }  # fmt: skip
    return row(json.dumps(told).encode().hex())


def answers(data: bytes, *, sync: bool = True) -> bytes:
    done = PARSE_COMPLETE + BIND_COMPLETE + data + complete("SELECT 1") + CLOSE_COMPLETE
    return done + ready("I") if sync else done


def looking() -> Table:
    """A core whose frontend's script is held, and that has asked."""
    table = Table(looks=True)
    table.frontend(DANGER)
    return table


def pending(data: bytes = seen()) -> Table:
    """The same, when everything has been answered and the operator can decide."""
    table = looking()
    table.held()
    table.backend(answers(data))
    table.take_frontend()
    table.take_backend()
    return table


def kinds(stream: bytes) -> str:
    return "".join(kind for kind, _ in split(stream))


def test_session_is_asked_ahead_of_opening_the_hold_and_its_answers_are_ours() -> None:
    table = looking()
    sent = split(table.take_backend())
    assert "".join(k for k, _ in sent) == "PBECS"
    assert QUESTION in sent[0][1]
    table.held()
    assert kinds(table.take_frontend()) == "N"
    table.backend(answers(seen()))
    assert table.take_frontend() == b""
    [described] = [c for c in table.others if isinstance(c, DescribeHold)]
    assert (described.hold_id, described.sight.objects[0].oid, described.sight.objects[0].rows) == (SEVEN, 16384, 5)


@pytest.mark.parametrize("size", range(1, 40))
def test_answers_may_come_in_any_pieces_and_among_messages_that_are_the_frontends(size: int) -> None:
    table = looking()
    table.held()
    table.take_frontend()
    notice = message(b"N", b"SNOTICE\0C00000\0Mhello\0\0")
    notification = message(b"A", b"\0\0\0\1channel\0payload\0")
    stream = PARSE_COMPLETE + notice + BIND_COMPLETE + seen() + notification + complete("SELECT 1") + CLOSE_COMPLETE
    stream += parameter_status("a", "b") + ready("I") + notice
    for start in range(0, len(stream), size):
        table.backend(stream[start : start + size])
    assert table.take_frontend() == notice + notification + parameter_status("a", "b") + notice
    assert any(isinstance(c, DescribeHold) for c in table.others)


def test_inside_a_series_it_is_asked_without_a_sync() -> None:
    table = Table(looks=True)
    table.frontend(SERIES)
    sent = split(table.take_backend())
    assert "".join(k for k, _ in sent) == "PBPBECH"
    table.held()
    table.take_frontend()
    table.backend(PARSE_COMPLETE + BIND_COMPLETE + answers(seen(), sync=False))
    assert kinds(table.take_frontend()) == "12"
    table.decide(APPROVED_BY_ANA)
    assert kinds(table.take_backend()) == "PBECH"
    table.backend(answers(seen(), sync=False))
    assert table.take_backend() == execute() + SYNC
    table.backend(complete("DELETE 5") + ready("I"))
    assert table.seen() == [("C", b"DELETE 5\0"), ("Z", b"I")]


def test_after_a_flush_a_series_is_still_open() -> None:
    table = Table(looks=True)
    table.frontend(parse("danger") + bind() + FLUSH)
    table.backend(PARSE_COMPLETE + BIND_COMPLETE)
    table.take_backend()
    table.frontend(execute())
    assert kinds(table.take_backend()) == "PBECH"


def test_it_is_asked_only_when_nothing_is_in_flight_that_it_could_disturb() -> None:
    table = Table(looks=True)
    table.frontend(query("select 1") + DANGER)
    assert table.take_backend() == query("select 1")
    table.held()
    table.backend(complete("SELECT 1"))
    assert table.take_backend() == b""
    table.backend(ready("I"))
    assert kinds(table.take_backend()) == "PBECS"


def test_in_a_failed_transaction_nothing_is_asked() -> None:
    table = Table(looks=True)
    table.frontend(query("begin") + query("bad"))
    table.backend(complete("BEGIN") + ready("T") + error() + ready("E"))
    table.take_backend()
    table.frontend(query("rollback; danger"))
    assert table.take_backend() == b""


def test_approved_script_runs_when_it_is_about_the_same_objects() -> None:
    table = pending()
    table.decide(APPROVED_BY_ANA)
    assert kinds(table.take_backend()) == "PBECS"
    table.backend(answers(seen()))
    assert table.take_backend() == DANGER
    table.backend(complete("DELETE 5") + ready("I"))
    assert table.seen() == [("C", b"DELETE 5\0"), ("Z", b"I")]
    assert table.moves() == [("released", ""), ("done", "DELETE 5")]


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (seen(oid=20000), "is another table now"),
        (seen(node=20000), "truncated or written anew"),
        (seen(name="public.other"), "renamed or moved"),
        (seen(columns="id bigint"), "has other columns"),
        (seen(digest=8, relations=3), "consists of other relations"),
        (row(json.dumps({"page_bytes": 8192, "objects": None, "locks": None, "waiting": None}).encode().hex()), "is not there any more"),
    ],
)
def test_approved_script_is_held_again_when_its_objects_changed(now: bytes, told: str) -> None:
    table = pending()
    table.decide(APPROVED_BY_ANA)
    table.take_backend()
    table.backend(answers(now))
    assert DANGER not in table.take_backend()
    request = [c for c in table.others if isinstance(c, OpenHold)][-1].request
    assert request.follows == SEVEN
    assert told in request.difference[0]
    assert table.moves()[-1][0] == "withdrawn"
    assert AuditEvent.HELD_AGAIN in table.audited()
    table(HoldOpened(HoldId(8)))
    assert told in fields(table.take_frontend()[5:])["D"]
    table(Recorded())
    table(HoldResolved(HoldId(8), APPROVED_BY_ANA))
    table(Recorded())
    table.take_backend()
    table.backend(answers(now))
    assert table.take_backend() == DANGER


def test_what_depends_on_the_object_counts_only_with_cascade() -> None:
    for script, runs in (("danger", True), ("danger CASCADE", False)):
        table = Table(looks=True)
        table.frontend(query(script))
        table.held()
        table.backend(answers(seen()))
        table.decide(APPROVED_BY_ANA)
        table.take_backend()
        table.backend(answers(seen(views=["public.v"])))
        assert (table.take_backend() == query(script)) is runs


def test_denied_while_it_is_still_being_asked() -> None:
    table = looking()
    table.held()
    table.take_frontend()
    table.take_backend()
    table.decide(DENIED_BY_BO)
    assert kinds(table.take_backend()) == "Q"
    table.backend(answers(seen()) + error() + ready("I"))
    [(kind, body), (last, _)] = table.seen()
    assert (kind, last) == ("E", "Z")
    assert "bo" in fields(body)["M"]


def test_answer_about_a_statement_that_is_gone_is_not_taken_for_the_next_one() -> None:
    table = looking()
    table.held()
    table.decide(DENIED_BY_BO)
    table.frontend(query("danger two"))
    table(HoldOpened(HoldId(8)))
    table(Recorded())
    table.take_backend()
    table.backend(answers(seen(oid=1)) + error() + ready("I"))
    assert kinds(table.take_backend()) == "PBECS"
    assert not any(isinstance(c, DescribeHold) for c in table.others)
    table.backend(answers(seen(oid=2)))
    [described] = [c for c in table.others if isinstance(c, DescribeHold)]
    assert (described.hold_id, described.sight.objects[0].oid) == (HoldId(8), 2)


def test_approved_before_the_first_answer_is_released_behind_it() -> None:
    table = looking()
    table.held()
    table.take_backend()
    table.decide(APPROVED_BY_ANA)
    assert table.take_backend() == b""
    table.backend(answers(seen()))
    assert table.take_backend() == DANGER


def test_copy_is_of_what_the_answer_says_also_when_the_decision_was_there_before() -> None:
    table = Table(looks=True, protects=True)
    table.frontend(DANGER)
    table.held()
    table.decide(APPROVED_BY_ANA)
    table.backend(answers(seen()))
    [planned] = [c for c in table.others if isinstance(c, PlanCopy)]
    assert planned.order.sight is not None
    assert [o.oid for o in planned.order.sight.objects] == [16384]


def test_question_that_fails_outside_a_transaction_binds_nothing() -> None:
    table = looking()
    table.held()
    table.take_backend()
    table.take_frontend()
    table.backend(PARSE_COMPLETE + error("42501", "permission denied for table pg_class") + ready("I"))
    assert table.take_frontend() == b""
    [described] = [c for c in table.others if isinstance(c, DescribeHold)]
    assert "permission denied" in described.sight.unbound
    table.decide(APPROVED_BY_ANA)
    assert table.take_backend() == DANGER


def test_question_that_fails_in_a_transaction_fails_the_held_script() -> None:
    table = Table(looks=True)
    table.frontend(query("begin"))
    table.backend(complete("BEGIN") + ready("T"))
    table.frontend(DANGER)
    table.held()
    table.take_backend()
    table.take_frontend()
    table.backend(error("57014", "canceling statement due to statement timeout") + ready("E"))
    table(Recorded())
    assert kinds(table.take_backend()) == "Q"
    table.backend(error() + ready("E"))
    [(kind, body), (_, status)] = table.seen()
    assert (kind, status) == ("E", b"E")
    assert "statement timeout" in fields(body)["M"]
    assert table.moves() == [("withdrawn", "canceling statement due to statement timeout")]


def test_question_that_fails_in_a_series_is_the_held_messages_error() -> None:
    table = Table(looks=True)
    table.frontend(SERIES)
    table.held()
    table.take_backend()
    table.take_frontend()
    table.backend(PARSE_COMPLETE + BIND_COMPLETE + error("53200", "out of memory"))
    assert table.take_backend() == SYNC
    table.backend(ready("I"))
    assert [k for k, _ in table.seen()] == ["1", "2", "E", "Z"]
    assert table.moves()[-1][0] == "withdrawn"


def test_earlier_error_of_the_series_skips_the_question_as_well() -> None:
    table = Table(looks=True)
    table.frontend(SERIES)
    table.held()
    table.take_backend()
    table.take_frontend()
    table.backend(error())
    assert [k for k, _ in table.seen()] == ["E"]
    assert table.take_backend() == SYNC
    table.backend(ready("I"))
    assert [k for k, _ in table.seen()] == ["Z"]


def test_fatal_error_while_asked_reaches_the_frontend() -> None:
    table = looking()
    table.held()
    table.take_frontend()
    table.backend(error("57P01", "terminating connection", severity="FATAL"))
    assert [k for k, _ in table.seen()] == ["E"]
    table(BackendLost())
    assert table.take_frontend() == b""
    assert table.moves() == [("abandoned", "the server went away")]


@pytest.mark.parametrize("event", [CancelRequested(), FrontendLost()])
def test_hold_that_ends_while_its_objects_are_checked_does_not_run(event: object) -> None:
    table = pending()
    table.decide(APPROVED_BY_ANA)
    table.take_backend()
    table(event)  # type: ignore[arg-type]
    table(Recorded())
    table.backend(answers(seen()))
    assert DANGER not in table.to_backend


def test_client_that_does_not_wait_is_refused_with_the_holds_number() -> None:
    table = Table(looks=True, rejects=True)
    table.frontend(DANGER)
    [opening] = [c for c in table.others if isinstance(c, OpenHold)]
    assert not opening.request.waits
    table(HoldOpened(SEVEN))
    table(Recorded())
    assert table.take_frontend() == b""  # what it is about is kept with the hold
    table.take_backend()
    table.backend(answers(seen()))
    assert any(isinstance(c, DescribeHold) for c in table.others)
    [(kind, body), (last, _)] = table.seen()
    assert (kind, last) == ("E", "Z")
    assert (fields(body)["C"], "hold 7" in fields(body)["M"], "pghold approve 7" in fields(body)["H"]) == ("42501", True, True)
    table.frontend(query("select 1"))
    assert table.take_backend() == query("select 1")
    table(FrontendLost())
    assert not any(isinstance(c, MoveHold) for c in table.others)


def test_server_that_does_not_answer_in_time_has_it_held_again_and_is_asked_no_more() -> None:
    table = pending()
    table.decide(APPROVED_BY_ANA)
    assert kinds(table.take_backend()) == "PBECS"
    table(TimerFired(Timer.LOOK))
    request = [c for c in table.others if isinstance(c, OpenHold)][-1].request
    assert "did not say in time" in request.difference[0]
    table(HoldOpened(HoldId(8)))
    table(Recorded())
    table(HoldResolved(HoldId(8), APPROVED_BY_ANA))
    table(Recorded())
    assert table.take_backend() == DANGER  # somebody has seen that nothing can be told
    table.take_frontend()
    table.backend(answers(seen()) + complete("DELETE 5") + ready("I"))
    assert table.seen() == [("C", b"DELETE 5\0"), ("Z", b"I")]


def test_client_that_does_not_wait_is_refused_even_when_the_server_says_nothing() -> None:
    table = Table(looks=True, rejects=True)
    table.frontend(DANGER)
    table(HoldOpened(SEVEN))
    table(Recorded())
    assert table.take_frontend() == b""
    table(TimerFired(Timer.LOOK))
    table.backend(answers(seen()) + error() + ready("I"))
    assert [k for k, _ in table.seen()] == ["E", "Z"]


def test_timer_of_a_look_that_was_answered_changes_nothing() -> None:
    table = pending()
    assert table(TimerFired(Timer.LOOK)) == []
    table.decide(APPROVED_BY_ANA)
    table.backend(answers(seen()))
    assert table(TimerFired(Timer.LOOK)) == []


def test_what_was_approved_before_runs_once_its_use_is_on_record() -> None:
    before = pending()
    [described] = [c for c in before.others if isinstance(c, DescribeHold)]
    table = looking()
    table.backend(answers(seen()))
    table.take_backend()
    [record] = [c for c in table(Granted(SEVEN, APPROVED_BY_ANA, described.sight)) if isinstance(c, Record)]
    assert record.entry.event is AuditEvent.GRANT_USED
    table(Recorded())
    assert kinds(table.take_backend()) == "PBECS"
    table.backend(answers(seen()))
    assert table.take_backend() == DANGER
    assert "ana" in fields(split(table.take_frontend())[0][1])["M"]


def test_what_was_approved_before_is_held_again_when_it_is_about_something_else_now() -> None:
    [described] = [c for c in pending().others if isinstance(c, DescribeHold)]
    table = looking()
    table.backend(answers(seen(oid=99)))
    table(Granted(SEVEN, APPROVED_BY_ANA, described.sight))
    table(Recorded())
    table.take_backend()
    table.backend(answers(seen(oid=99)))
    assert DANGER not in table.take_backend()
    assert [c for c in table.others if isinstance(c, OpenHold)][-1].request.follows == SEVEN


@pytest.mark.parametrize("order", ["answer, grant, record", "grant, answer, record", "grant, record, answer"])
def test_in_whatever_order_things_come_an_approval_is_about_what_was_seen_then(order: str) -> None:
    """The new session's own look must not take the place of the one that was decided about."""
    [described] = [c for c in pending().others if isinstance(c, DescribeHold)]
    table = looking()
    table.take_backend()
    for step in order.split(", "):
        match step:
            case "answer":
                table.backend(answers(seen(oid=99)))
            case "grant":
                table(Granted(SEVEN, APPROVED_BY_ANA, described.sight))
            case _:
                table(Recorded())
    if order.endswith("record"):
        table.backend(answers(seen(oid=99)))
    assert DANGER not in table.take_backend()
    again = [c for c in table.others if isinstance(c, OpenHold)][-1].request
    assert (again.follows, "is another table now" in again.difference[0]) == (SEVEN, True)
    assert not any(isinstance(c, DescribeHold) for c in table.others)


def test_what_was_approved_before_is_held_again_where_nothing_can_be_asked() -> None:
    """No way around the comparison: a failed transaction, an open series, a session whose question failed."""
    [described] = [c for c in pending().others if isinstance(c, DescribeHold)]

    def granted(table: Table) -> None:
        table.take_backend()
        table(Granted(SEVEN, APPROVED_BY_ANA, described.sight))
        table(Recorded())
        assert b"danger" not in table.take_backend()
        assert [c for c in table.others if isinstance(c, OpenHold)][-1].request.follows == SEVEN

    failed = Table(looks=True)
    failed.frontend(query("begin") + query("bad"))
    failed.backend(complete("BEGIN") + ready("T") + error() + ready("E"))
    failed.frontend(query("rollback; danger"))
    granted(failed)

    series = Table(looks=True)
    series.frontend(parse("select 1"))
    series.backend(PARSE_COMPLETE)
    series.frontend(DANGER)
    granted(series)

    refused = looking()
    refused.backend(error("57014", "canceling statement due to statement timeout") + ready("I"))
    granted(refused)


def test_grant_for_a_session_that_ended_meanwhile_lets_nothing_run() -> None:
    table = looking()
    table(FrontendLost())
    [move] = table(Granted(SEVEN, APPROVED_BY_ANA))
    assert isinstance(move, MoveHold)
    assert str(move.to) == "abandoned"


def test_what_the_session_sent_before_is_told() -> None:
    table = Table(looks=True)
    for number in range(18):
        table.frontend(query(f"select {number}"))
        table.backend(complete("SELECT 1") + ready("I"))
    table.frontend(DANGER)
    [opening] = [c for c in table.others if isinstance(c, OpenHold)]
    assert opening.request.recent == tuple(f"select {n}" for n in range(2, 18))
