"""What the core does with messages that need a decision: playbooks."""

from __future__ import annotations

import pytest

from proxy.commands import (
    CloseSession,
    Count,
    ExpireHold,
    JudgeScript,
    MoveHold,
    OpenHold,
    PauseFrontend,
    Record,
    ResumeFrontend,
    SendToBackend,
)
from proxy.core import STAND_IN_PARSE, STAND_IN_QUERY
from proxy.events import (
    BackendLost,
    CancelRequested,
    FrontendLost,
    HoldMoved,
    HoldOpened,
    HoldResolved,
    Judged,
    KillRequested,
    OpenFailed,
    Recorded,
    RecordFailed,
    StopRequested,
    Timer,
    TimerFired,
)
from proxy.held import Mode
from proxy.model import AuditEvent, HoldState
from tests.proxy.playbook import APPROVED_BY_ANA, DENIED_BY_BO, SEVEN, Table
from tests.proxy.wire import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    FLUSH,
    PARSE_COMPLETE,
    PORTAL_SUSPENDED,
    SYNC,
    TERMINATE,
    bind,
    close,
    complete,
    describe,
    error,
    execute,
    fields,
    message,
    parse,
    query,
    ready,
    row,
    split,
)

DANGER = query("danger")
SERIES = parse("danger") + bind() + execute() + SYNC


def held_table(**settings: object) -> Table:
    table = Table(**settings)
    table.frontend(DANGER)
    table.held()
    table.take_frontend()
    return table


def test_harmless_messages_pass_as_they_came() -> None:
    table = Table()
    chunk = query("select 1") + parse("select 2", "s") + bind("", "s", "v") + describe() + execute() + SYNC
    table.frontend(chunk)
    assert table.take_backend() == chunk
    assert table.others == []


def test_dangerous_script_is_held_and_its_client_told() -> None:
    table = Table()
    first = table.frontend(DANGER)
    assert [type(c) for c in first] == [Count, OpenHold]
    table(HoldOpened(SEVEN))
    [(kind, body)] = split(table.take_frontend())
    assert kind == "N"
    assert "hold 7" in fields(body)["M"]
    assert table.audited() == [AuditEvent.HELD]
    assert table.take_backend() == b""


def test_approved_script_is_forwarded_unchanged_after_the_decision_is_on_record() -> None:
    table = held_table()
    commands = table(HoldResolved(SEVEN, APPROVED_BY_ANA))
    assert isinstance(commands[-1], Record)
    assert commands[-1].entry.operator == "ana"
    assert table.take_backend() == b""
    table(Recorded())
    assert table.take_backend() == DANGER
    table.backend(complete("DELETE 5"), ready())
    assert [m[0] for m in table.seen()] == ["C", "Z"]
    assert table.moves() == [("released", ""), ("done", "DELETE 5")]
    assert table.audited() == [AuditEvent.HELD, AuditEvent.APPROVED, AuditEvent.OUTCOME]


def test_approved_script_that_fails_is_recorded_as_failed() -> None:
    table = held_table()
    table.decide(APPROVED_BY_ANA)
    table.backend(error("55P03", "canceling statement due to lock timeout"), ready())
    assert table.moves()[-1] == ("failed", "55P03")


def test_denied_script_gets_an_error_and_the_session_goes_on() -> None:
    table = held_table()
    table.decide(DENIED_BY_BO)
    (first, body), (second, status) = table.seen()
    assert (first, second, status) == ("E", "Z", b"I")
    assert fields(body)["C"] == "42501"
    assert "bo" in fields(body)["M"]
    assert "Hold 7" in fields(body)["D"]
    assert table.take_backend() == b""
    table.frontend(query("select 1"))
    assert table.take_backend() == query("select 1")


def test_denial_in_a_transaction_lets_the_backend_fail_and_replaces_its_error() -> None:
    table = Table()
    table.frontend(query("begin"))
    table.backend(complete("BEGIN"), ready("T"))
    table.seen()
    table.take_backend()
    table.frontend(DANGER)
    table.held()
    table.decide(DENIED_BY_BO)
    assert table.take_backend() == STAND_IN_QUERY
    table.take_frontend()
    table.backend(error(), ready("E"))
    (_, body), ready_message = table.seen()
    assert fields(body)["C"] == "42501"
    assert ready_message == ("Z", b"E")


@pytest.mark.parametrize("cut", range(1, len(error())))
def test_replaced_error_may_come_in_pieces(cut: int) -> None:
    table = Table()
    table.frontend(query("begin"))
    table.backend(complete("BEGIN"), ready("T"))
    table.frontend(DANGER)
    table.held()
    table.decide(DENIED_BY_BO)
    table.take_frontend()
    table.backend(error()[:cut])
    table.backend(error()[cut:], ready("E"))
    assert [m[0] for m in table.seen()] == ["E", "Z"]


def test_extended_execute_is_held_while_parse_and_bind_pass() -> None:
    table = Table()
    table.frontend(SERIES)
    assert table.take_backend() == parse("danger") + bind()
    table.held()
    table.decide(APPROVED_BY_ANA)
    assert table.take_backend() == execute() + SYNC
    table.backend(PARSE_COMPLETE, BIND_COMPLETE, complete("DELETE 1"), ready())
    assert [m[0] for m in table.seen()] == ["1", "2", "C", "Z"]
    assert table.moves()[-1] == ("done", "DELETE 1")


def test_denied_execute_is_replaced_by_a_parse_that_fails() -> None:
    table = Table()
    table.frontend(SERIES)
    table.held()
    table.take_backend()
    table.decide(DENIED_BY_BO)
    assert table.take_backend() == STAND_IN_PARSE + SYNC
    table.take_frontend()
    table.backend(PARSE_COMPLETE, BIND_COMPLETE, error(), ready())
    seen = table.seen()
    assert [m[0] for m in seen] == ["1", "2", "E", "Z"]
    assert fields(seen[2][1])["C"] == "42501"


def test_an_approval_covers_one_execution() -> None:
    table = Table()
    table.frontend(parse("danger", "d"), SYNC)
    table.backend(PARSE_COMPLETE, ready())
    table.frontend(bind("", "d"), execute(), SYNC)
    table.held()
    table.decide(APPROVED_BY_ANA)
    table.backend(BIND_COMPLETE, complete("DELETE 1"), ready())
    table.take_backend()
    commands = table.frontend(bind("", "d"), execute(), SYNC)
    assert any(isinstance(c, OpenHold) for c in commands)
    assert table.take_backend() == bind("", "d")


def test_rows_left_in_an_approved_portal_belong_to_the_same_execution() -> None:
    table = Table()
    table.frontend(parse("danger"), bind("p"), execute("p", 1), FLUSH)
    table.held()
    table.decide(APPROVED_BY_ANA)
    table.backend(PARSE_COMPLETE, BIND_COMPLETE, row("1"), PORTAL_SUSPENDED)
    table.take_backend()
    table.frontend(execute("p", 1), SYNC)
    assert table.take_backend() == execute("p", 1) + SYNC


def test_name_survives_a_close_that_the_backend_skipped() -> None:
    """Close and re-Parse of a dangerous name behind an error never took place: Execute is held."""
    table = Table()
    table.frontend(parse("danger", "d"), SYNC)
    table.backend(PARSE_COMPLETE, ready())
    # One pipeline: a Parse that fails, then Close "d", Parse "d" as harmless; none of it happens.
    table.frontend(parse("bad"), close("d"), parse("select 1", "d"), SYNC)
    commands = table.frontend(bind("", "d"), execute(), SYNC)
    assert any(isinstance(c, OpenHold) for c in commands), "in flight it may still mean danger"
    table.held()
    table.take_frontend()
    table.backend(error(), ready())
    table.decide(DENIED_BY_BO)
    table.backend(BIND_COMPLETE, error(), ready())
    table.take_backend()
    commands = table.frontend(bind("", "d"), execute(), SYNC)
    assert any(isinstance(c, OpenHold) for c in commands), "and once confirmed it does"


def test_name_that_was_reparsed_in_the_same_series_means_the_new_text() -> None:
    table = Table()
    table.frontend(parse("danger", "d"), SYNC)
    table.backend(PARSE_COMPLETE, ready())
    chunk = close("d") + parse("select 1", "d") + bind("", "d") + execute() + SYNC
    table.take_backend()
    table.frontend(chunk)
    assert table.take_backend() == chunk


def test_long_names_are_cut_as_the_backend_cuts_them() -> None:
    table = Table()
    table.frontend(parse("danger", "n" * 70), SYNC)
    table.backend(PARSE_COMPLETE, ready())
    commands = table.frontend(bind("", "n" * 63), execute(), SYNC)
    assert any(isinstance(c, OpenHold) for c in commands)


def test_sql_execute_of_a_wire_prepared_name_is_held_and_the_reverse() -> None:
    table = Table()
    table.frontend(parse("danger", "d"), SYNC)
    table.backend(PARSE_COMPLETE, ready())
    commands = table.frontend(query("execute d"))
    assert any(isinstance(c, OpenHold) for c in commands)
    table.held()
    table.decide(DENIED_BY_BO)

    table.frontend(query("prepare s as danger"))
    table.held()
    table.decide(APPROVED_BY_ANA)
    table.backend(complete("PREPARE"), ready())
    commands = table.frontend(bind("", "s"), execute(), SYNC)
    assert any(isinstance(c, OpenHold) for c in commands)


def test_execute_of_a_name_nobody_saw_is_held() -> None:
    table = Table()
    commands = table.frontend(bind("", "mystery"), execute(), SYNC)
    assert any(isinstance(c, OpenHold) for c in commands)
    # It does not exist: the backend says so, skips the rest, and the hold has no point any more.
    table(HoldOpened(SEVEN))
    table(Recorded())
    table.take_frontend()
    table.backend(error("26000", "prepared statement does not exist"))
    assert table.moves() == [("withdrawn", "skipped after an earlier error")]
    assert table.take_backend() == bind("", "mystery") + SYNC
    table.backend(ready())
    assert [m[0] for m in table.seen()] == ["E", "Z"]


def test_query_behind_a_failed_series_is_skipped_and_never_sent() -> None:
    table = Table()
    table.frontend(parse("bad"))
    table.backend(error())
    table.take_backend()
    table.frontend(DANGER, query("select 1"), SYNC)
    assert table.take_backend() == SYNC
    table.backend(ready())
    assert [m[0] for m in table.seen()] == ["E", "Z"]


def test_error_that_comes_while_the_release_is_being_recorded_drops_the_statement() -> None:
    table = Table()
    table.frontend(parse("bad"), parse("danger", "d"), bind("", "d"), execute(), SYNC)
    table.held()
    table(HoldResolved(SEVEN, APPROVED_BY_ANA))
    table.take_backend()
    table.backend(error())
    table(Recorded())
    assert table.take_backend() == SYNC
    assert table.moves()[-1][0] == "withdrawn"


def test_messages_behind_a_held_one_wait_in_order() -> None:
    table = Table()
    table.frontend(query("select 1"), DANGER, query("select 2"))
    assert table.take_backend() == query("select 1")
    table.frontend(query("select 3")[:7])
    table.frontend(query("select 3")[7:])
    table.held()
    table.decide(APPROVED_BY_ANA)
    assert table.take_backend() == DANGER + query("select 2") + query("select 3")


def test_denial_behind_a_request_in_flight_waits_for_its_reply() -> None:
    table = Table()
    table.frontend(query("select 1"), DANGER, query("select 2"))
    table.held()
    table.take_backend()
    table.decide(DENIED_BY_BO)
    assert table.take_backend() == STAND_IN_QUERY + query("select 2")
    table.take_frontend()
    table.backend(complete("SELECT 1"), ready(), error(), ready(), complete("SELECT 1"), ready())
    seen = table.seen()
    assert [m[0] for m in seen] == ["C", "Z", "E", "Z", "C", "Z"]
    assert fields(seen[2][1])["C"] == "42501"


@pytest.mark.parametrize("at", range(1, len(DANGER)))
def test_held_message_may_come_in_pieces(at: int) -> None:
    table = Table()
    table.frontend(DANGER[:at])
    assert table.take_backend() == b""
    commands = table.frontend(DANGER[at:])
    assert any(isinstance(c, OpenHold) for c in commands)


def test_policy_denial_is_recorded_before_the_error_is_sent() -> None:
    table = Table()
    table.frontend(query("forbidden"))
    assert table.take_frontend() == b""
    assert table.audited() == [AuditEvent.DENIED_BY_POLICY]
    table(Recorded())
    assert [m[0] for m in table.seen()] == ["E", "Z"]


def test_no_release_without_its_record() -> None:
    table = held_table()
    table(HoldResolved(SEVEN, APPROVED_BY_ANA))
    table(RecordFailed("disk full"))
    assert table.take_backend() == b""
    (_, body), _ = table.seen()
    assert fields(body)["C"] == "42501"
    assert "audit" in fields(body)["M"]
    table.frontend(query("select 1"))
    assert table.take_backend() == query("select 1")


def test_no_hold_without_the_store() -> None:
    table = Table()
    table.frontend(DANGER)
    table(OpenFailed("database is locked"))
    table(Recorded())
    (_, body), _ = table.seen()
    assert fields(body)["C"] == "42501"
    assert "database is locked" in fields(body)["M"]
    assert table.take_backend() == b""


def test_cancel_ends_the_hold_with_57014() -> None:
    table = held_table()
    table(CancelRequested())
    table(Recorded())
    (_, body), _ = table.seen()
    assert fields(body)["C"] == "57014"
    assert table.moves() == [("withdrawn", "cancelled by the client")]
    assert table.take_backend() == b""


def test_cancel_during_the_record_of_an_approval_still_counts() -> None:
    table = held_table()
    table(HoldResolved(SEVEN, APPROVED_BY_ANA))
    table(CancelRequested())
    table(Recorded())
    (_, body), _ = table.seen()
    assert fields(body)["C"] == "57014"
    assert table.take_backend() == b""


def test_expiry_asks_the_store_first_and_yields_to_a_faster_operator() -> None:
    table = held_table()
    assert table(TimerFired(Timer.EXPIRY)) == [ExpireHold(SEVEN)]
    table(HoldMoved(SEVEN, False))
    assert table.take_frontend() == b""
    table.decide(APPROVED_BY_ANA)
    assert table.take_backend() == DANGER


def test_expiry_refuses_with_42501() -> None:
    table = held_table()
    table(TimerFired(Timer.EXPIRY))
    table(HoldMoved(SEVEN, True))
    table(Recorded())
    (_, body), _ = table.seen()
    assert fields(body)["C"] == "42501"
    assert AuditEvent.EXPIRED in table.audited()
    assert table.take_backend() == b""


def test_heartbeat_comes_between_messages_only() -> None:
    table = Table()
    table.frontend(query("select 1"), DANGER)
    table.held()
    table.take_frontend()
    big = row("x" * 100)
    table.backend(big[:50])
    table(TimerFired(Timer.HEARTBEAT))
    assert table.take_frontend() == big[:50]
    table.backend(big[50:], complete("SELECT 1"), ready())
    assert [m[0] for m in split(big[:50] + table.take_frontend())] == ["D", "N", "C", "Z"]


@pytest.mark.parametrize("ending", [FrontendLost(), BackendLost("reset"), KillRequested("ana")])
def test_a_lost_peer_ends_the_hold_and_nothing_runs(ending: object) -> None:
    table = held_table()
    table.frontend(query("select 1"))
    commands = table(ending)  # type: ignore[arg-type]
    assert isinstance(commands[-1], CloseSession)
    assert table.moves()[0][0] in ("abandoned", "withdrawn")
    table(HoldResolved(SEVEN, APPROVED_BY_ANA))
    table(Recorded())
    assert table.take_backend() == b""
    assert AuditEvent.DECISION_TOO_LATE in table.audited()


def test_backend_loss_is_told_with_08006() -> None:
    table = held_table()
    table(BackendLost("connection reset by peer"))
    [(_, body)] = table.seen()
    assert (fields(body)["S"], fields(body)["C"]) == ("FATAL", "08006")


def test_backend_that_said_why_is_not_contradicted() -> None:
    table = Table()
    table.backend(error("57P01", "terminating connection due to administrator command", "FATAL"))
    table(BackendLost(""))
    assert [m[0] for m in table.seen()] == ["E"]


def test_terminate_behind_a_held_script_ends_it() -> None:
    table = held_table()
    commands = table.frontend(TERMINATE)
    assert isinstance(commands[-1], CloseSession)
    assert table.take_backend() == TERMINATE
    assert table.moves()[0][0] == "abandoned"


def test_rollback_behind_a_held_script_takes_it_back() -> None:
    table = Table()
    table.frontend(query("begin"))
    table.backend(complete("BEGIN"), ready("T"))
    table.frontend(DANGER)
    table.held()
    table.take_backend()
    table.frontend(query("rollback"))
    table(Recorded())
    assert table.take_backend() == STAND_IN_QUERY + query("rollback")


def test_rollback_further_behind_waits_its_turn() -> None:
    table = held_table()
    table.frontend(query("select 1"), query("rollback"))
    assert table.take_backend() == b""
    assert table.audited() == [AuditEvent.HELD]


def test_stop_withdraws_the_hold_and_then_ends_the_session() -> None:
    table = held_table()
    table(StopRequested())
    commands = table(Recorded())
    seen = table.seen()
    assert [m[0] for m in seen] == ["E", "Z", "E"]
    assert fields(seen[0][1])["C"] == "57P01"
    assert fields(seen[2][1])["S"] == "FATAL"
    assert isinstance(commands[-1], CloseSession)


def test_stop_lets_a_transaction_finish() -> None:
    table = Table()
    table.frontend(query("begin"))
    table.backend(complete("BEGIN"), ready("T"))
    table(StopRequested())
    table.seen()
    table.frontend(query("commit"))
    commands = table.backend(complete("COMMIT"), ready())
    assert [m[0] for m in table.seen()] == ["C", "Z", "E"]
    assert isinstance(commands[-1], CloseSession)


def test_drain_time_is_bounded() -> None:
    table = Table()
    table.frontend(query("begin"))
    table.backend(complete("BEGIN"), ready("T"))
    table(StopRequested())
    commands = table(TimerFired(Timer.DRAIN))
    assert isinstance(commands[-1], CloseSession)


def test_observe_mode_records_and_forwards() -> None:
    table = Table(mode=Mode.OBSERVE)
    table.frontend(DANGER)
    assert table.take_backend() == b""
    table(Recorded())
    assert table.take_backend() == DANGER
    assert table.audited() == [AuditEvent.OBSERVED]
    assert table.take_frontend() == b""


def test_off_mode_judges_nothing() -> None:
    table = Table(mode=Mode.OFF)
    table.frontend(DANGER, SERIES)
    assert table.take_backend() == DANGER + SERIES
    assert table.others == []


def test_warned_script_is_recorded_then_forwarded() -> None:
    table = Table()
    table.frontend(query("warn"))
    table(Recorded())
    assert table.take_backend() == query("warn")
    assert table.audited() == [AuditEvent.WARNED]


def test_long_script_is_judged_off_the_loop_and_keeps_its_place() -> None:
    table = Table(judge_inline_bytes=10)
    long = query("danger " + "x" * 50)
    commands = table.frontend(long, query("select 1"))
    assert isinstance(commands[-1], JudgeScript)
    assert table.take_backend() == b""
    judgement = table.core._judge.judge(b"select 1", table.core.knowledge.context())
    table(Judged(judgement))
    assert table.take_backend() == long + query("select 1")


def test_long_parse_is_judged_off_the_loop_and_held_when_it_is_executed() -> None:
    table = Table(judge_inline_bytes=10)
    long = parse("danger " + "x" * 50, "s")
    commands = table.frontend(long, bind("", "s"), execute(""), SYNC)
    assert isinstance(commands[-1], JudgeScript)
    assert table.take_backend() == b""
    table(Judged(table.core._judge.judge(b"danger", table.core.knowledge.context())))
    assert table.take_backend() == long + bind("", "s")
    assert table.core.hold_id is None
    table(HoldOpened(SEVEN))
    table(Recorded())
    assert table.core.hold_id == SEVEN


def test_long_parse_that_is_skipped_after_an_error_is_never_sent() -> None:
    table = Table(judge_inline_bytes=10)
    table.frontend(parse("select 1", "a"))
    table.frontend(parse("danger " + "x" * 50, "s"), SYNC)
    table.take_backend()
    table.backend(error("42601"))
    assert table.take_backend() == SYNC
    table(Judged(table.core._judge.judge(b"danger", table.core.knowledge.context())))
    assert table.take_backend() == b""


def test_client_that_sends_on_and_on_is_paused_at_the_high_water_mark() -> None:
    table = Table(high_water_bytes=100)
    table.frontend(DANGER)
    table.held()
    commands = table.frontend(query("select " + "x" * 200))
    assert PauseFrontend() in commands
    table(HoldResolved(SEVEN, DENIED_BY_BO))
    assert ResumeFrontend() in table(Recorded())


def test_temporary_table_may_be_dropped_until_its_transaction_is_undone() -> None:
    table = Table()
    table.frontend(query("begin; temp t"))
    table.backend(complete("BEGIN"), complete("CREATE TABLE"), ready("T"))
    table.take_backend()
    table.frontend(query("drop t"))
    assert table.take_backend() == query("drop t")
    table.backend(complete("DROP TABLE"), ready("T"))

    table.frontend(query("temp t"))
    table.backend(complete("CREATE TABLE"), ready("T"))
    table.frontend(query("rollback"))
    table.backend(complete("ROLLBACK"), ready())
    table.take_backend()
    commands = table.frontend(query("drop t"))
    assert any(isinstance(c, OpenHold) for c in commands)


def test_script_in_a_failed_transaction_is_not_worth_a_hold() -> None:
    table = Table()
    table.frontend(query("begin; bad"))
    table.backend(complete("BEGIN"), error(), ready("E"))
    table.take_backend()
    table.take_frontend()
    table.frontend(DANGER)
    assert table.take_backend() == STAND_IN_QUERY
    table.backend(error("25P02", "current transaction is aborted"), ready("E"))
    (_, body), _ = table.seen()
    assert fields(body)["C"] == "25P02"


def test_function_call_is_judged() -> None:
    table = Table()
    harmless = message(b"F", (952).to_bytes(4, "big") + b"\0\0\0\0\0\0")
    table.frontend(harmless)
    assert table.take_backend() == harmless
    table.backend(message(b"V", b"\0\0\0\0"), ready())
    commands = table.frontend(message(b"F", (99999).to_bytes(4, "big") + b"\0\0\0\0\0\0"))
    assert any(isinstance(c, OpenHold) for c in commands)
    table.held()
    table.take_frontend()
    table.decide(DENIED_BY_BO)
    assert [m[0] for m in table.seen()] == ["E", "Z"]


@pytest.mark.parametrize(
    ("garbage", "code"),
    [
        (b"Q\0\0\0\x03", "08P01"),
        (b"Q\xff\xff\xff\xff", "54000"),
        (b"?\0\0\0\x04", "08P01"),
        (query("select 1\0danger"), "08P01"),
        (b"Q\0\0\0\x08abcd", "08P01"),
        (b"p\0\0\0\x05\0", "08P01"),
        (b"B\0\0\0\x06ab", "08P01"),
        (message(b"S", b"x" * 20000), "54000"),
    ],
)
def test_broken_messages_end_the_session_and_are_not_forwarded(garbage: bytes, code: str) -> None:
    table = Table()
    commands = table.frontend(query("select 1"), garbage, DANGER)
    assert isinstance(commands[-1], CloseSession)
    [(kind, body)] = table.seen()
    assert kind == "E"
    assert (fields(body)["S"], fields(body)["C"]) == ("FATAL", code)
    assert table.take_backend() == query("select 1")


def test_query_during_copy_in_ends_the_session() -> None:
    table = Table()
    table.frontend(query("copy t from stdin"))
    table.backend(message(b"G", b"\0\0\0"))
    table.take_backend()
    table.frontend(message(b"d", b"1\n"))
    assert table.take_backend() == message(b"d", b"1\n")
    commands = table.frontend(query("select 1"))
    assert isinstance(commands[-1], CloseSession)
    assert table.take_backend() == b""


def test_sync_sent_ahead_of_copy_data_is_owed_no_ready() -> None:
    table = Table()
    table.frontend(parse("copy t from stdin"), bind(), execute(), SYNC)
    table.backend(PARSE_COMPLETE, BIND_COMPLETE, message(b"G", b"\0\0\0"))
    table.frontend(message(b"d", b"1\n"), message(b"c"), SYNC)
    table.backend(complete("COPY 1"), ready())
    assert table.core.tracker.is_quiet


def test_close_complete_without_a_close_ends_the_session() -> None:
    table = Table()
    commands = table.backend(CLOSE_COMPLETE)
    assert isinstance(commands[-1], CloseSession)


def test_stand_ins_are_well_formed() -> None:
    [(kind, body)] = split(STAND_IN_QUERY)
    assert kind == "Q"
    assert body.endswith(b"\0")
    [(kind, body)] = split(STAND_IN_PARSE)
    assert kind == "P"
    assert body.count(b"\0") == 4


def test_hold_states_used_are_reachable() -> None:
    table = held_table()
    table.decide(APPROVED_BY_ANA)
    assert MoveHold(SEVEN, HoldState.RELEASED) in table.others
    assert SendToBackend(DANGER) not in table.others
