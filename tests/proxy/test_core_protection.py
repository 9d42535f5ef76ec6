"""What the core does to protect what an approved statement destroys: playbooks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.backups.model import BackupId, Copied, CopyKind, CopyPlan, Substitute
from proxy.commands import DescribeCopy, KeepRows, MoveHold, PlanCopy, Record, StopCopy, TakeCopy, TellCopied
from proxy.events import (
    BackendLost,
    CancelRequested,
    CopyFailed,
    CopyPlanned,
    CopyProgressed,
    CopyTaken,
    FrontendLost,
    HoldOpened,
    HoldResolved,
    KillRequested,
    Recorded,
    RecordFailed,
    StopRequested,
    Timer,
    TimerFired,
)
from proxy.model import AuditEvent
from tests.proxy.playbook import APPROVED_BY_ANA, SEVEN, Table
from tests.proxy.wire import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    PARSE_COMPLETE,
    SYNC,
    bind,
    complete,
    error,
    execute,
    fields,
    message,
    parse,
    query,
    ready,
    split,
)

DANGER = query("danger")
SERIES = parse("danger") + bind() + execute() + SYNC
NOTHING = CopyPlan(CopyKind.NONE, "nothing can be lost")
DUMP = CopyPlan(CopyKind.DUMP, "1 table, 5 rows")
LOCKED = CopyPlan(CopyKind.DUMP, "1 table, 5 rows", lock=("public.t",))
ROWS = CopyPlan(CopyKind.ROWS, "5 rows", image="SELECT * FROM public.t WHERE a > 2 FOR UPDATE", image_relation="public.t", counted=True)
TRASH = CopyPlan(CopyKind.TRASH, "moved", substitute=Substitute("DO 'move'", "DROP TABLE", "it is in the trash"))
COPIED = Copied(BackupId(12), "copy 12: 1 table, 5 rows; restored, equal", "abc")


def done(*tags: str, status: str | None = "T") -> bytes:
    """The answers to statements of ours."""
    out = b"".join(PARSE_COMPLETE + BIND_COMPLETE + complete(tag) + CLOSE_COMPLETE for tag in tags)
    return out + ready(status) if status else out


def copied_rows(*rows: bytes, status: str | None = "T", begin: bool = True) -> bytes:
    begun = done("BEGIN", "SET", status=None) if begin else b""
    data = message(b"H", b"\0\0\1\0\0") + b"".join(message(b"d", r) for r in rows) + message(b"c", b"")
    out = begun + PARSE_COMPLETE + BIND_COMPLETE + data + complete(f"COPY {len(rows)}") + CLOSE_COMPLETE
    return out + ready(status) if status else out


def kinds(stream: bytes) -> str:
    return "".join(kind for kind, _ in split(stream))


def approved(*messages: bytes, **settings: object) -> Table:
    """A core whose frontend's statement was approved, and whose copy is being planned."""
    table = Table(protects=True, **settings)
    table.frontend(*(messages or (DANGER,)))
    table.held()
    table.decide(APPROVED_BY_ANA)
    table.take_frontend()
    return table


def commands(table: Table, kind: type) -> list[object]:
    return [c for c in table.others if isinstance(c, kind)]


def test_what_loses_nothing_goes_at_once() -> None:
    table = approved()
    assert table.take_backend() == b""
    [planned] = commands(table, PlanCopy)
    assert planned.order.script == "danger"  # type: ignore[attr-defined]
    table(CopyPlanned(SEVEN, NOTHING))
    assert table.take_backend() == DANGER
    table.backend(complete("DROP TABLE"), ready("I"))
    assert [k for k, _ in table.seen()] == ["C", "Z"]
    assert [s for s, _ in table.moves()] == ["protecting", "released", "done"]


def test_nothing_is_sent_before_the_copy_is_on_record() -> None:
    table = approved()
    table(CopyPlanned(SEVEN, DUMP))
    assert commands(table, TakeCopy)
    assert table.take_backend() == b""
    table(CopyTaken(SEVEN, COPIED))
    assert table.take_backend() == b""
    entry = [c.entry for c in table.others if isinstance(c, Record)][-1]
    assert entry.event is AuditEvent.PROTECTED
    assert entry.detail == {"backup": 12, "manifest_sha256": "abc"}
    table(Recorded())
    assert table.take_backend() == DANGER
    table.backend(complete("DROP TABLE"), ready("I"))
    assert [(t.outcome, t.failed) for t in commands(table, TellCopied)] == [("DROP TABLE", False)]  # type: ignore[attr-defined]


def test_lock_begin_and_commit_are_ours_and_success_is_told_after_the_commit() -> None:
    table = approved()
    table(CopyPlanned(SEVEN, LOCKED))
    sent = split(table.take_backend())
    assert "".join(k for k, _ in sent) == "PBECPBECPBECS"
    assert b"LOCK TABLE public.t IN SHARE ROW EXCLUSIVE MODE" in sent[8][1]
    assert not commands(table, TakeCopy)
    table.backend(done("BEGIN", "SET", "DO"))
    assert commands(table, TakeCopy)
    table(CopyTaken(SEVEN, COPIED))
    table(Recorded())
    assert table.take_backend() == DANGER
    table.backend(complete("DROP TABLE"), ready("T"))
    assert table.take_backend() == query("COMMIT")
    assert table.seen() == []
    assert "done" not in [s for s, _ in table.moves()]
    table.backend(complete("COMMIT"), ready("I"))
    assert table.take_frontend().endswith(complete("DROP TABLE") + ready("I"))
    assert [s for s, _ in table.moves()] == ["protecting", "released", "done"]


def test_commit_that_fails_takes_the_place_of_the_success() -> None:
    table = approved()
    table(CopyPlanned(SEVEN, LOCKED))
    table.backend(done("BEGIN", "SET", "DO"))
    table(CopyTaken(SEVEN, COPIED))
    table(Recorded())
    table.backend(complete("DELETE 5"), ready("T"))
    table.backend(error("23503"), ready("I"))
    assert [k for k, _ in table.seen()] == ["E", "Z"]
    assert [s for s, _ in table.moves()][-1] == "failed"


def test_statement_that_fails_within_our_transaction_leaves_none_open() -> None:
    table = approved()
    table(CopyPlanned(SEVEN, LOCKED))
    table.backend(done("BEGIN", "SET", "DO"))
    table(CopyTaken(SEVEN, COPIED))
    table(Recorded())
    table.take_backend()
    table.backend(error("42P01"), ready("E"))
    assert table.take_backend() == query("ROLLBACK")
    table.backend(complete("ROLLBACK"), ready("I"))
    seen = table.seen()
    assert [k for k, _ in seen] == ["E", "Z"]
    assert seen[-1][1] == b"I"


def test_lock_that_is_not_given_denies_it_and_nothing_stays_open() -> None:
    table = approved()
    table(CopyPlanned(SEVEN, LOCKED))
    table.take_backend()
    table.backend(done("BEGIN", "SET", status=None) + PARSE_COMPLETE + BIND_COMPLETE + error("55P03"), ready("E"))
    assert table.take_backend() == b""
    table(Recorded())
    assert table.take_backend() == query("ROLLBACK")
    table.backend(complete("ROLLBACK"), ready("I"))
    [(kind, body), (last, _)] = table.seen()
    assert (kind, last) == ("E", "Z")
    assert fields(body)["C"] == "42501"
    assert "no proven copy" in fields(body)["M"]
    assert table.take_backend() == b""
    assert table.moves()[-1][0] == "denied"
    assert table.audited()[-1] is AuditEvent.UNPROTECTED


def test_rows_are_copied_by_the_session_itself_and_must_be_as_many_as_it_changes() -> None:
    table = approved()
    table(CopyPlanned(SEVEN, ROWS))
    sent = split(table.take_backend())
    assert b"COPY (SELECT * FROM public.t WHERE a > 2 FOR UPDATE) TO STDOUT" in sent[8][1]
    assert [t.has_rows for t in commands(table, TakeCopy)] == [True]  # type: ignore[attr-defined]
    table.backend(copied_rows(b"3\n", b"4\n", b"5\n"))
    assert table.take_frontend() == b""
    assert b"".join(k.data for k in commands(table, KeepRows)) == b"3\n4\n5\n"  # type: ignore[attr-defined]
    assert commands(table, KeepRows)[-1] == KeepRows(b"")
    table(CopyTaken(SEVEN, COPIED))
    table(Recorded())
    assert table.take_backend() == DANGER
    table.backend(complete("DELETE 3"), ready("T"))
    assert table.take_backend() == query("COMMIT")
    table.backend(complete("COMMIT"), ready("I"))
    assert [k for k, _ in table.seen()] == ["C", "Z"]


@pytest.mark.parametrize("size", range(1, 30))
def test_copied_rows_come_in_any_pieces(size: int) -> None:
    table = approved()
    table(CopyPlanned(SEVEN, ROWS))
    stream = copied_rows(b"a" * 50 + b"\n", b"b\n")
    for start in range(0, len(stream), size):
        table.backend(stream[start : start + size])
    assert b"".join(k.data for k in commands(table, KeepRows)) == b"a" * 50 + b"\nb\n"  # type: ignore[attr-defined]
    assert table.take_frontend() == b""


def test_another_count_rolls_it_back() -> None:
    table = approved()
    table(CopyPlanned(SEVEN, ROWS))
    table.backend(copied_rows(b"3\n"))
    table(CopyTaken(SEVEN, COPIED))
    table(Recorded())
    table.take_backend()
    table.backend(complete("DELETE 2"), ready("T"))
    assert table.take_backend() == query("ROLLBACK")
    table.backend(complete("ROLLBACK"), ready("I"))
    seen = table.seen()
    assert [k for k, _ in seen] == ["E", "Z"]
    assert "1 rows were copied, and it changed 2" in fields(seen[0][1])["M"]
    assert table.moves()[-1][0] == "failed"


def test_another_count_in_the_clients_transaction_fails_that() -> None:
    table = Table(protects=True)
    table.frontend(query("begin"))
    table.backend(complete("BEGIN"), ready("T"))
    table.frontend(DANGER)
    table.held()
    table.decide(APPROVED_BY_ANA)
    table.take_backend()
    table.take_frontend()
    table(CopyPlanned(SEVEN, ROWS))
    assert kinds(table.take_backend()) == "PBECS"
    table.backend(copied_rows(b"3\n", begin=False))
    table(CopyTaken(SEVEN, COPIED))
    table(Recorded())
    assert table.take_backend() == DANGER
    table.backend(complete("DELETE 2"), ready("T"))
    assert kinds(table.take_backend()) == "Q"
    table.backend(error("42601"), ready("E"))
    seen = table.seen()
    assert [k for k, _ in seen] == ["E", "Z"]
    assert "it changed 2" in fields(seen[0][1])["M"]
    assert seen[1][1] == b"E"


def test_series_is_copied_inside_and_what_is_behind_waits_for_the_count() -> None:
    table = approved(SERIES)
    table.backend(PARSE_COMPLETE + BIND_COMPLETE)
    table.take_backend()
    table(CopyPlanned(SEVEN, ROWS))
    assert kinds(table.take_backend()) == "PBECH"
    table.backend(copied_rows(b"3\n", status=None, begin=False))
    table(CopyTaken(SEVEN, COPIED))
    table(Recorded())
    assert kinds(table.take_backend()) == "EH"
    table.take_frontend()
    table.backend(complete("DELETE 1"))
    assert table.take_backend() == SYNC
    table.backend(ready("I"))
    assert [k for k, _ in table.seen()] == ["C", "Z"]


def test_series_with_another_count_fails() -> None:
    table = approved(SERIES)
    table.backend(PARSE_COMPLETE + BIND_COMPLETE)
    table(CopyPlanned(SEVEN, ROWS))
    table.backend(copied_rows(b"3\n", status=None, begin=False))
    table(CopyTaken(SEVEN, COPIED))
    table(Recorded())
    table.take_backend()
    table.take_frontend()
    table.backend(complete("DELETE 2"))
    assert kinds(table.take_backend()) == "PS"
    table.backend(error("42601"), ready("I"))
    seen = table.seen()
    assert [k for k, _ in seen] == ["E", "Z"]
    assert "it changed 2" in fields(seen[0][1])["M"]


def test_series_whose_step_fails_is_told_once_and_runs_nothing() -> None:
    table = approved(SERIES)
    table.backend(PARSE_COMPLETE + BIND_COMPLETE)
    table(CopyPlanned(SEVEN, LOCKED))
    table.take_backend()
    table.take_frontend()
    table.backend(PARSE_COMPLETE + BIND_COMPLETE + error("55P03"))
    table(Recorded())
    assert table.take_backend() == SYNC
    table.backend(ready("I"))
    seen = table.seen()
    assert [k for k, _ in seen] == ["E", "Z"]
    assert fields(seen[0][1])["C"] == "42501"


def test_rows_in_portions_cannot_be_counted() -> None:
    table = approved(parse("danger") + bind() + execute(limit=1) + SYNC)
    table.backend(PARSE_COMPLETE + BIND_COMPLETE)
    table(CopyPlanned(SEVEN, ROWS))
    table.backend(copied_rows(b"3\n", status=None, begin=False))
    table(CopyTaken(SEVEN, COPIED))
    table(Recorded())
    table.take_backend()
    table.take_frontend()
    table.backend(message(b"s", b""))
    assert kinds(table.take_backend()) == "PS"
    table.backend(error("42601"), ready("I"))
    assert [k for k, _ in table.seen()] == ["E", "Z"]


def test_planned_copy_that_fails_denies_it() -> None:
    table = approved()
    table(CopyFailed(SEVEN, "there is no room"))
    table(Recorded())
    [(kind, body), _] = table.seen()
    assert kind == "E"
    assert "there is no room" in fields(body)["M"]
    assert table.take_backend() == b""
    assert table.moves()[-1] == ("denied", "no copy: there is no room")


def test_copy_that_fails_after_the_lock_is_unwound_first() -> None:
    table = approved()
    table(CopyPlanned(SEVEN, LOCKED))
    table.backend(done("BEGIN", "SET", "DO"))
    table.take_backend()
    table(CopyFailed(SEVEN, "pg_dump was killed"))
    table(Recorded())
    assert table.take_backend() == query("ROLLBACK")
    assert table.seen() == []
    table.backend(complete("ROLLBACK"), ready("I"))
    assert [k for k, _ in table.seen()] == ["E", "Z"]


ENDINGS = [CancelRequested(), StopRequested(), FrontendLost(), BackendLost("gone"), KillRequested("bo")]


@pytest.mark.parametrize("event", ENDINGS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("moment", ["planning", "stepping", "copying", "recording"])
def test_whatever_ends_it_stops_the_copy_and_runs_nothing(moment: str, event: object) -> None:
    table = approved()
    if moment != "planning":
        table(CopyPlanned(SEVEN, LOCKED))
    if moment in ("copying", "recording"):
        table.backend(done("BEGIN", "SET", "DO"))
    if moment == "recording":
        table(CopyTaken(SEVEN, COPIED))
    table.take_backend()
    table(event)  # type: ignore[arg-type]
    table(Recorded())
    if moment == "stepping" and isinstance(event, (CancelRequested, StopRequested)):
        assert table.take_backend() == b""  # the answer to the step comes first
        table.backend(done("BEGIN", "SET", "DO"))
    if moment != "planning" and isinstance(event, (CancelRequested, StopRequested)):
        assert table.take_backend() == query("ROLLBACK")
        table.backend(complete("ROLLBACK"), ready("I"))
    assert DANGER not in table.take_backend()
    assert bool(commands(table, StopCopy)) is (moment in ("planning", "copying"))
    assert [s for s, _ in table.moves()][-1] in ("withdrawn", "abandoned")
    assert "released" not in [s for s, _ in table.moves()]


def test_a_record_that_fails_refuses_it_although_it_is_copied() -> None:
    table = approved()
    table(CopyPlanned(SEVEN, LOCKED))
    table.backend(done("BEGIN", "SET", "DO"))
    table(CopyTaken(SEVEN, COPIED))
    table.take_backend()
    table(RecordFailed("disk full"))
    assert table.take_backend() == query("ROLLBACK")
    table.backend(complete("ROLLBACK"), ready("I"))
    assert [k for k, _ in table.seen()] == ["E", "Z"]


def test_client_is_told_how_far_the_copy_is() -> None:
    table = approved()
    table(CopyPlanned(SEVEN, DUMP))
    table(CopyProgressed(SEVEN, "3 of 12 tables"))
    table(TimerFired(Timer.HEARTBEAT))
    [(kind, body)] = split(table.take_frontend())
    assert kind == "N"
    assert "3 of 12 tables" in fields(body)["M"]


def test_waived_copy_is_on_record_and_nothing_is_planned() -> None:
    table = Table(protects=True)
    table.frontend(DANGER)
    table(HoldOpened(SEVEN))
    table(Recorded())
    table(HoldResolved(SEVEN, replace(APPROVED_BY_ANA, without_backup=True)))
    table(Recorded())
    assert not commands(table, PlanCopy)
    assert table.take_backend() == b""
    table(Recorded())
    assert table.take_backend() == DANGER
    assert AuditEvent.UNPROTECTED in table.audited()


def test_answers_for_another_hold_change_nothing() -> None:
    table = approved()
    for event in (
        CopyPlanned(type(SEVEN)(8), NOTHING),
        CopyTaken(type(SEVEN)(8), COPIED),
        CopyTaken(SEVEN, COPIED),
        CopyFailed(type(SEVEN)(8), "x"),
    ):
        table(event)
    assert table.take_backend() == b""


def test_soft_drop_sends_another_statement_and_tells_the_clients_own_success() -> None:
    table = approved()
    table(CopyPlanned(SEVEN, TRASH))
    table(Recorded())
    assert table.take_backend() == query("DO 'move'")
    table.backend(complete("DO"), ready("I"))
    assert table.seen() == [("C", b"DROP TABLE\0"), ("Z", b"I")]


def test_soft_drop_in_a_series() -> None:
    table = approved(SERIES)
    table.backend(PARSE_COMPLETE + BIND_COMPLETE)
    table.take_frontend()
    table(CopyPlanned(SEVEN, TRASH))
    table.take_backend()
    table(Recorded())
    assert kinds(table.take_backend()) == "PBECH"
    table.backend(done("DO", status=None))
    assert table.take_backend() == SYNC
    table.backend(ready("I"))
    assert table.seen() == [("C", b"DROP TABLE\0"), ("Z", b"I")]


def test_soft_drop_that_fails_gives_the_servers_own_error() -> None:
    for sent in (DANGER, SERIES):
        table = approved(sent)
        if sent == SERIES:
            table.backend(PARSE_COMPLETE + BIND_COMPLETE)
        table.take_frontend()
        table(CopyPlanned(SEVEN, TRASH))
        table(Recorded())
        table.backend(error("42501") if sent == DANGER else PARSE_COMPLETE + BIND_COMPLETE + error("42501"), ready("I"))
        assert [k for k, _ in table.seen()] == ["E", "Z"]
        assert table.moves()[-1][0] == "failed"


def test_described_copies_are_kept_for_operators() -> None:
    table = approved()
    table(CopyFailed(SEVEN, "there is no room"))
    [told] = commands(table, DescribeCopy)
    assert (told.copy.state, told.copy.text) == ("failed", "there is no room")  # type: ignore[attr-defined]
    assert next(c.to for c in table.others if isinstance(c, MoveHold)) == "protecting"
