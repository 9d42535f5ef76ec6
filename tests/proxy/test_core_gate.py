"""The commit gate in the session's core: playbooks with the real policy engine."""

from __future__ import annotations

import pytest

from policy import Context, Engine
from policy.view import RowLimit, View
from proxy.commands import OpenHold
from proxy.core import Core
from proxy.events import CancelRequested, FrontendLost, HoldOpened, HoldResolved, Recorded
from proxy.held import CoreSettings
from proxy.knowledge import Knowledge
from tests.proxy.playbook import APPROVED_BY_ANA, DENIED_BY_BO, REQUESTER, SEVEN, Table
from tests.proxy.wire import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    PARSE_COMPLETE,
    SYNC,
    bind,
    complete,
    error,
    execute,
    message,
    parse,
    query,
    ready,
    split,
)

DELETE = "DELETE FROM item WHERE id > 10"


def limited(rows: int = 5, *, looks: bool = False, rejects: bool = False) -> Table:
    engine = Engine(view=View(row_limits=(RowLimit(rows, ("item",)),)))
    table = Table()
    knowledge = Knowledge(Context(role="app", database="shop"), engine)
    settings = CoreSettings(looks=looks)
    table.core = Core(judge=engine, knowledge=knowledge, requester=REQUESTER, settings=settings, rejects=rejects)
    return table


def kinds(stream: bytes) -> str:
    return "".join(kind for kind, _ in split(stream))


def begun(table: Table) -> None:
    """Our BEGIN is answered."""
    assert kinds(table.take_backend()) == "PBECS"
    table.backend(PARSE_COMPLETE + BIND_COMPLETE + complete("BEGIN") + CLOSE_COMPLETE + ready("T"))


def wrapped(rows: int, **options: bool) -> Table:
    """A simple DELETE outside of a transaction that changed so many rows."""
    table = limited(**options)  # type: ignore[arg-type]
    table.frontend(query(DELETE))
    begun(table)
    assert table.take_backend() == query(DELETE)
    table.backend(complete(f"DELETE {rows}"), ready("T"))
    return table


def held(table: Table) -> bool:
    return any(isinstance(c, OpenHold) for c in table.others)


def test_within_the_limit_it_commits_and_only_then_is_told() -> None:
    table = wrapped(5)
    assert table.seen() == []
    assert table.take_backend() == query("COMMIT")
    table.backend(complete("COMMIT"), ready("I"))
    assert table.seen() == [("C", b"DELETE 5\0"), ("Z", b"I")]
    assert not held(table)


def test_over_the_limit_it_waits_and_denial_rolls_back() -> None:
    table = wrapped(6)
    assert held(table)
    table.held()
    table.decide(DENIED_BY_BO)
    assert table.take_backend() == query("ROLLBACK")
    table.backend(complete("ROLLBACK"), ready("I"))
    assert [k for k, _ in table.seen()] == ["E", "Z"]
    table.frontend(query("SELECT 1"))
    assert table.take_backend() == query("SELECT 1")


def test_approval_commits() -> None:
    table = wrapped(6)
    table.held()
    table.decide(APPROVED_BY_ANA)
    assert table.take_backend() == query("COMMIT")
    table.backend(complete("COMMIT"), ready("I"))
    assert table.seen() == [("C", b"DELETE 6\0"), ("Z", b"I")]
    assert table.moves()[-1] == ("done", "DELETE 6")


def test_begin_that_fails_lets_nothing_go() -> None:
    table = limited()
    table.frontend(query(DELETE))
    table.take_backend()
    table.backend(error("57014"), ready("I"))
    assert table.take_backend() == b""
    assert [k for k, _ in table.seen()] == ["E", "Z"]


def in_block(table: Table, *scripts: tuple[str, str, str]) -> None:
    for script, tag, status in scripts:
        table.frontend(query(script))
        table.backend(complete(tag), ready(status))
    table.take_backend()
    table.take_frontend()


def test_commit_of_a_block_is_what_waits() -> None:
    table = limited()
    in_block(table, ("BEGIN", "BEGIN", "T"), (DELETE, "DELETE 3", "T"), (DELETE, "DELETE 3", "T"))
    table.frontend(query("COMMIT"))
    assert table.take_backend() == b""
    assert held(table)
    table.held()
    table.decide(DENIED_BY_BO)
    assert table.take_backend() == query("ROLLBACK")
    table.backend(complete("ROLLBACK"), ready("I"))
    assert [k for k, _ in table.seen()] == ["E", "Z"]


def test_what_is_undone_to_a_savepoint_counts() -> None:
    table = limited()
    in_block(table, ("BEGIN", "BEGIN", "T"), (DELETE, "DELETE 9", "T"), ("SAVEPOINT s", "SAVEPOINT", "T"))
    table.frontend(query("SELECT 1/0"))
    table.backend(error("22012"), ready("E"))
    in_block(table, ("ROLLBACK TO s", "ROLLBACK", "T"))
    table.frontend(query("COMMIT"))
    assert held(table)


def test_rolled_back_transaction_counts_no_more() -> None:
    table = limited()
    in_block(table, ("BEGIN", "BEGIN", "T"), (DELETE, "DELETE 9", "T"), ("ROLLBACK", "ROLLBACK", "I"), ("BEGIN", "BEGIN", "T"))
    table.frontend(query("COMMIT"))
    assert table.take_backend() == query("COMMIT")
    assert not held(table)


def test_commit_behind_statements_without_an_answer_yet_waits_for_these() -> None:
    table = limited()
    table.frontend(query("BEGIN"), query(DELETE), query("COMMIT"), query(DELETE))
    assert table.take_backend() == query("BEGIN")
    table.backend(complete("BEGIN"), ready("T"))
    assert table.take_backend() == query(DELETE)
    table.backend(complete("DELETE 2"), ready("T"))
    assert table.take_backend() == query("COMMIT")
    table.backend(complete("COMMIT"), ready("I"))
    begun(table)  # the last one is a transaction of its own
    assert table.take_backend() == query(DELETE)


def test_series_waits_at_its_sync() -> None:
    table = limited()
    table.frontend(parse(DELETE) + bind() + execute() + SYNC)
    assert kinds(table.take_backend()) == "PBEH"
    table.backend(PARSE_COMPLETE + BIND_COMPLETE + complete("DELETE 6"))
    assert held(table)
    assert table.take_backend() == b""
    table.held()
    table.decide(DENIED_BY_BO)
    assert kinds(table.take_backend()) == "PS"
    table.backend(error("42601"), ready("I"))
    assert [k for k, _ in table.seen()] == ["1", "2", "C", "E", "Z"]


def test_series_within_the_limit_goes_on() -> None:
    table = limited()
    table.frontend(parse(DELETE) + bind() + execute() + SYNC)
    table.backend(PARSE_COMPLETE + BIND_COMPLETE + complete("DELETE 5"))
    assert table.take_backend().endswith(SYNC)
    table.backend(ready("I"))
    assert not held(table)


def test_begin_in_a_series_that_failed_is_no_block() -> None:
    table = limited()
    table.frontend(parse("BEGIN") + bind() + execute() + SYNC)
    table.backend(error("57014"), ready("I"))
    table.take_backend()
    table.frontend(parse(DELETE) + bind() + execute() + SYNC)
    assert kinds(table.take_backend()) == "PBEH"
    table.backend(PARSE_COMPLETE + BIND_COMPLETE + complete("DELETE 6"))
    assert held(table)


def test_series_behind_one_that_failed_and_is_not_answered_yet() -> None:
    table = limited()
    table.frontend(parse("BEGIN") + bind() + execute() + SYNC + parse(DELETE) + bind() + execute() + SYNC)
    table.take_backend()
    table.backend(error("57014"), ready("I"), PARSE_COMPLETE + BIND_COMPLETE + complete("DELETE 6"))
    assert held(table)
    assert table.take_backend() == b""


def test_each_series_of_a_pipeline_counts_by_itself() -> None:
    table = limited()
    table.frontend((parse(DELETE) + bind() + execute() + SYNC) * 3)
    for _ in range(3):
        assert kinds(table.take_backend()).endswith("PBEH")
        table.backend(PARSE_COMPLETE + BIND_COMPLETE + complete("DELETE 3"))
        table.backend(ready("I"))
    assert not held(table)
    assert kinds(table.take_backend()) == "S"


def test_commit_within_a_series_and_more_behind_it() -> None:
    table = limited()
    in_block(table, ("BEGIN", "BEGIN", "T"))
    table.frontend(parse("COMMIT") + bind() + execute() + parse(DELETE) + bind() + execute() + SYNC)
    assert kinds(table.take_backend()) == "PBEPBEH"
    table.backend(PARSE_COMPLETE + BIND_COMPLETE + complete("COMMIT") + PARSE_COMPLETE + BIND_COMPLETE + complete("DELETE 6"))
    assert held(table)
    assert table.take_backend() == b""


def test_what_is_not_counted_is_held() -> None:
    table = limited()
    in_block(table, ("BEGIN", "BEGIN", "T"))
    script = "WITH d AS (DELETE FROM item WHERE id > 10 RETURNING 1) SELECT count(*) FROM d"
    in_block(table, (script, "SELECT 1", "T"))
    table.frontend(query("COMMIT"))
    assert held(table)


def test_rows_in_portions_are_not_counted() -> None:
    table = limited()
    table.frontend(parse(DELETE) + bind() + execute(limit=1) + SYNC)
    table.take_backend()
    table.backend(PARSE_COMPLETE + BIND_COMPLETE + message(b"s", b""))
    assert held(table)


def test_query_behind_an_unsynced_series_cannot_slip_through() -> None:
    table = limited()
    table.frontend(parse("SELECT 1") + bind() + execute() + message(b"H"))
    table.backend(PARSE_COMPLETE + BIND_COMPLETE + complete("SELECT 1"))
    table.take_backend()
    table.frontend(query(DELETE))
    assert table.take_backend() == b""
    assert held(table)


@pytest.mark.parametrize("event", [CancelRequested(), FrontendLost()], ids=lambda e: type(e).__name__)
def test_what_ends_the_hold_commits_nothing(event: object) -> None:
    table = wrapped(6)
    table.held()
    table(event)  # type: ignore[arg-type]
    table(Recorded())
    assert query("COMMIT") not in table.take_backend()
    assert [s for s, _ in table.moves()][-1] in ("withdrawn", "abandoned")


def test_who_does_not_wait_is_rolled_back() -> None:
    table = wrapped(6, rejects=True)
    assert not held(table)
    table(Recorded())
    assert table.take_backend() == query("ROLLBACK")
    table.backend(complete("ROLLBACK"), ready("I"))
    assert [k for k, _ in table.seen()] == ["E", "Z"]


def test_denial_while_the_session_is_still_asked_waits_for_that_answer() -> None:
    table = wrapped(6, looks=True)
    asked = table.take_backend()
    assert kinds(asked) == "PBECS"
    table(HoldOpened(SEVEN))
    table(Recorded())
    table(HoldResolved(SEVEN, DENIED_BY_BO))
    table(Recorded())
    assert table.take_backend() == b""
    table.backend(error("57014"), ready("E"))
    assert table.take_backend() == query("ROLLBACK")
    table.backend(complete("ROLLBACK"), ready("I"))
    assert [k for k, _ in table.seen()] == ["E", "Z"]


def test_approval_while_the_session_is_still_asked_waits_for_that_answer() -> None:
    table = wrapped(6, looks=True)
    table.take_backend()
    table(HoldOpened(SEVEN))
    table(Recorded())
    table(HoldResolved(SEVEN, APPROVED_BY_ANA))
    table(Recorded())
    assert table.take_backend() == b""
    table.backend(PARSE_COMPLETE + BIND_COMPLETE + complete("SELECT 0") + CLOSE_COMPLETE + ready("T"))
    assert table.take_backend() == query("COMMIT")


def test_data_of_a_copy_passes_while_it_is_counted() -> None:
    table = limited()
    table.frontend(query("COPY item FROM STDIN"))
    begun(table)
    table.take_backend()
    table.backend(message(b"G", b"\0\0\1\0\0"))
    table.frontend(message(b"d", b"1\n"), message(b"c"), query("SELECT 1"))
    assert table.take_backend() == message(b"d", b"1\n") + message(b"c")
    table.backend(complete("COPY 1"), ready("T"))
    assert table.take_backend() == query("COMMIT")
    table.backend(complete("COMMIT"), ready("I"))
    assert table.take_backend() == query("SELECT 1")


def test_function_call_behind_an_unsynced_series_commits_it_and_is_counted() -> None:
    table = limited()
    table.frontend(parse(DELETE) + bind() + execute() + message(b"H"))
    table.backend(PARSE_COMPLETE + BIND_COMPLETE + complete("DELETE 6"))
    table.take_backend()
    table.frontend(message(b"F", (952).to_bytes(4, "big") + bytes(6)))
    assert table.take_backend() == b""
    assert held(table)


@pytest.mark.parametrize("script", [f"ROLLBACK; {DELETE}", f"COMMIT; {DELETE}", f"BEGIN; COMMIT; {DELETE}", f"BEGIN; {DELETE}; END"])
def test_script_that_leaves_its_transaction_is_held_before_it_runs(script: str) -> None:
    for block in (False, True):
        table = limited()
        if block:
            in_block(table, ("BEGIN", "BEGIN", "T"))
        table.frontend(query(script))
        assert table.take_backend() == b""
        assert held(table)


def test_without_a_limit_everything_is_as_it_was() -> None:
    table = Table()
    judge = Engine()
    table.core = Core(judge=judge, knowledge=Knowledge(Context(), judge), requester=REQUESTER, settings=CoreSettings())
    judge.judge(DELETE.encode(), Context())
    assert table.core.frontend_sent(query(DELETE)) is None
