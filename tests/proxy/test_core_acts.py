"""What the core does with acts of tools: one hold, one decision, exactly what was decided about: playbooks with the real engine."""

from __future__ import annotations

import json
from typing import ClassVar

import pytest

import policy.tools
from policy.context import Context
from policy.engine import Engine
from policy.tools import Act, Evidence, Reach, Tool
from policy.verdict import Environment
from proxy.acts import ActSurvey, title
from proxy.approvals import needs
from proxy.backups.model import BackupId, Copied, CopyKind, CopyPlan
from proxy.commands import Command, DescribeHold, MoveHold, Note, OpenHold, PlanCopy, Record, StartTimer, TakeCopy, TellPart
from proxy.core import Core
from proxy.events import (
    CancelRequested,
    CopyFailed,
    CopyPlanned,
    CopyTaken,
    FrontendLost,
    Granted,
    HoldMoved,
    HoldOpened,
    HoldResolved,
    Recorded,
    Timer,
    TimerFired,
)
from proxy.held import CoreSettings
from proxy.knowledge import Knowledge
from proxy.model import AuditEvent, HoldId
from proxy.policies import ApprovalEntry
from tests.proxy.playbook import APPROVED_BY_ANA, DENIED_BY_BO, REQUESTER, SEVEN, Table
from tests.proxy.wire import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    PARSE_COMPLETE,
    SYNC,
    bind,
    close,
    complete,
    error,
    execute,
    fields,
    parse,
    query,
    ready,
    row,
    split,
)

TABLES = {"a": 16384, "b": 16390, "c": 16400}


class Syncer(Tool):
    """Drops tables in its own way."""

    name: ClassVar = "Syncer"
    forced = True

    def recognise(self, evidence: Evidence) -> Act | None:
        if not evidence.script.endswith(" CASCADE;"):
            return None
        return Act("Syncer", "force sync", Reach.SCHEMA, forced=self.forced)


@pytest.fixture(autouse=True)
def syncer(monkeypatch: pytest.MonkeyPatch) -> Syncer:
    tool = Syncer()
    monkeypatch.setattr(policy.tools, "ALL_TOOLS", (tool,))
    return tool


class Session(Table):
    """A core with the real engine, whose server the test plays."""

    def __init__(self, environment: Environment = Environment.DEVELOPMENT, **settings: object) -> None:
        engine = Engine(environment=environment)
        self.core = Core(
            judge=engine,
            knowledge=Knowledge(Context(role="app", database="shop", environment=environment), engine),
            requester=REQUESTER,
            settings=CoreSettings(environment=str(environment), **settings),  # type: ignore[arg-type]
        )
        self.to_backend = b""
        self.to_frontend = b""
        self.others: list[Command] = []

    def answered(self, value: bytes, status: str = "I") -> None:
        """One question of ours."""
        self.backend(PARSE_COMPLETE + BIND_COMPLETE + value + complete("SELECT 1") + CLOSE_COMPLETE + ready(status))

    def surveyed(self, tables: dict[str, int] = TABLES, status: str = "I", schemas: tuple[str, ...] = ("public",)) -> None:
        self.answered(survey(tables, schemas), status)

    def means(self, name: str, oid: int | None, kind: str = "", schema: str = "public", status: str = "I") -> None:
        """What its oid is; with a kind, asked in full."""
        if kind:
            self.reaches([[name, oid, kind, schema, False]], status)
        else:
            self.answered(row(str(oid)) if oid else b"D\0\0\0\x0a\0\1\xff\xff\xff\xff", status)

    def reaches(self, told: list[list[object]], status: str = "I") -> None:
        self.answered(row(json.dumps(told).encode().hex()), status)

    def sent(self) -> str:
        """The kinds of what the backend was sent since last asked."""
        return "".join(kind for kind, _ in split(self.take_backend()))

    def of(self, kind: type[Command]) -> list[Command]:
        return [c for c in self.others if isinstance(c, kind)]


def survey(tables: dict[str, int], schemas: tuple[str, ...] = ("public",)) -> bytes:
    told = {
        "page_bytes": 8192,
        "schemas": schemas,
        "objects": [
            {"oid": oid, "node": oid, "schema": "public", "name": name, "kind": "r", "owner": "app", "rows": 5, "pages": 1, "temporary": False}
            for name, oid in tables.items()
        ],
        "locks": None,
    }  # fmt: skip
    return row(json.dumps(told).encode().hex())


def drop(name: str) -> bytes:
    return query(f'DROP TABLE IF EXISTS "{name}" CASCADE;')


def held(**settings: object) -> Session:
    """An act waits for its decision."""
    session = Session(**settings)
    session.frontend(drop("a"))
    assert session.sent() == "PBECS"
    session.surveyed()
    session.held()
    session.take_frontend()
    return session


def running(**settings: object) -> Session:
    """It was approved, and its first statement has run."""
    session = held(**settings)
    session.decide(APPROVED_BY_ANA)
    assert session.sent() == "PBECS", "looked at again"
    session.surveyed()
    assert session.sent() == "Q"
    session.backend(complete("DROP TABLE") + ready("I"))
    session.take_frontend()
    session.others.clear()
    return session


def test_hold_is_about_all_that_the_session_was_asked_about() -> None:
    session = Session()
    session.frontend(drop("a"))
    assert not session.of(OpenHold), "first it is asked"
    session.surveyed()
    [opened] = session.of(OpenHold)
    request = opened.request  # type: ignore[attr-defined]
    assert request.relations == ("public.a", "public.b", "public.c")
    assert request.rule_ids == ("forced-sync", "drop-table")
    assert request.act is not None
    session.held()
    [described] = session.of(DescribeHold)
    assert title(request.act, described.sight) == "Syncer force sync of 3 tables"  # type: ignore[attr-defined]
    notice = fields(split(session.take_frontend())[0][1])
    assert notice["M"].startswith("pghold: Syncer force sync of 3 tables is held until an operator approves it")
    [entry] = [c.entry for c in session.others if isinstance(c, Record)]
    assert entry.relations == request.relations, "the record has every table"


def test_in_production_it_is_denied_and_the_message_says_so() -> None:
    session = Session(environment=Environment.PRODUCTION)
    session.frontend(drop("a"))
    session(Recorded())
    assert session.sent() == ""
    [(kind, body), _] = session.seen()
    assert kind == "E"
    assert fields(body)["M"] == "pghold: forced sync is not allowed in production: Syncer force sync"
    assert not session.of(OpenHold)


def test_a_migration_is_not_denied_in_production(syncer: Syncer) -> None:
    syncer.forced = False
    session = Session(environment=Environment.PRODUCTION)
    session.frontend(drop("a"))
    session.surveyed()
    [opened] = session.of(OpenHold)
    assert opened.request.rule_ids == ("drop-table",)  # type: ignore[attr-defined]


def test_in_the_test_environment_it_passes_on_record() -> None:
    session = Session(environment=Environment.TEST)
    session.frontend(drop("a"))
    assert session.sent() == ""
    session(Recorded())
    assert session.sent() == "Q"
    [entry] = [c.entry for c in session.others if isinstance(c, Record)]
    assert (entry.event, entry.reason) == (AuditEvent.ALLOWED, "Syncer force sync: the test environment")


def test_decision_covers_the_rest_of_it_without_another_hold() -> None:
    session = running()
    for name in ("b", "c"):
        session.frontend(drop(name))
        assert session.sent() == "PBECS", "what the name means now"
        session.means(name, TABLES[name])
        assert session.sent() == "Q"
        session.backend(complete("DROP TABLE") + ready("I"))
        assert [k for k, _ in session.seen()] == ["C", "Z"]
    assert not session.of(OpenHold)
    assert session.moves() == [], "the hold goes on"
    session(FrontendLost())
    assert session.moves() == [("done", "3 x DROP TABLE")]
    entries = [c.entry for c in session.of(Note)]  # type: ignore[attr-defined]
    assert [e.outcome for e in entries] == ["DROP TABLE", "DROP TABLE", "3 x DROP TABLE"]
    assert {e.hold_id for e in entries} == {SEVEN}


def test_outcomes_of_its_parts_go_on_record_while_it_lasts() -> None:
    session = running()
    session.frontend(drop("b"))
    session.means("b", TABLES["b"])
    session.backend(complete("DROP TABLE") + ready("I"))
    assert not session.of(Note)
    session(TimerFired(Timer.ACT))
    assert [c.entry.outcome for c in session.of(Note)] == ["DROP TABLE"]  # type: ignore[attr-defined]


def test_what_is_not_there_can_be_dropped() -> None:
    session = running()
    session.frontend(drop("z"))
    session.means("z", None)
    assert session.sent()[-1] == "Q"


@pytest.mark.parametrize("oid", [16391, 99])
def test_another_table_of_the_same_name_is_held_by_itself(oid: int) -> None:
    session = running()
    session.frontend(drop("b"))
    session.means("b", oid)
    session.take_backend()
    session.means("b", oid, kind="r")  # asked in full: it is none of those that the operator saw
    session.take_backend()
    session.surveyed({"b": oid})
    [opened] = session.of(OpenHold)
    assert opened.request.relations == ("public.b",)  # type: ignore[attr-defined]
    assert "Q" not in session.sent()


def test_other_rules_are_not_covered() -> None:
    session = running()
    session.frontend(query("COPY b TO PROGRAM 'x'"))
    session(Recorded())
    assert session.seen()[0][0] == "E"
    session.frontend(query("DO $$ BEGIN EXECUTE 'x'; END $$"))
    assert session.of(OpenHold)


def test_a_part_and_something_else_in_one_script_are_not_covered() -> None:
    session = running()
    session.frontend(query("DROP TABLE b; DROP DATABASE shop"))
    assert session.of(OpenHold)


def test_what_the_act_has_made_may_be_changed_and_not_dropped() -> None:
    session = running()
    session.frontend(query("CREATE TABLE public.b (id int)"))
    session.backend(complete("CREATE TABLE") + ready("I"))
    session.take_backend()
    session.frontend(query("UPDATE public.b SET id = 1"))
    session.means("public.b", 500, kind="r")
    assert session.sent()[-1] == "Q"
    session.backend(complete("UPDATE 1") + ready("I"))
    session.frontend(drop("b"))
    session.means("b", 500)
    session.means("b", 500, kind="r")
    session.surveyed({"b": 500})
    assert session.of(OpenHold)


def test_in_another_schema_nothing_is_covered() -> None:
    session = running()
    session.frontend(query("DROP INDEX other.i"))
    session.means("other.i", 700)
    session.take_backend()
    session.means("other.i", 700, kind="i", schema="other")
    assert session.of(OpenHold)
    assert "Q" not in session.sent()


@pytest.mark.parametrize(("script", "covered"), [
    ("DROP TYPE public.mood", True), ("DROP TYPE mood", True), ("DROP TYPE other.mood CASCADE", False), ("DROP FUNCTION public.f(int)", True),
    ("DROP SCHEMA public", True), ("DROP SCHEMA public CASCADE", False), ("DROP FUNCTION public.f(int) CASCADE", False), ("DROP SCHEMA other CASCADE", False), ("DROP ROLE app", False), ("DROP EXTENSION hstore", False),
])  # fmt: skip
def test_objects_without_rows_are_covered_in_its_schemas(script: str, covered: bool) -> None:
    session = running()
    session.frontend(query(script))
    assert (session.sent()[-1:] == "Q") is covered
    assert bool(session.of(OpenHold)) is not covered


ACCOUNT: list[object] = ["b", TABLES["b"], "r", "public", False]


@pytest.mark.parametrize("script", ["TRUNCATE b CASCADE", "DELETE FROM b", "UPDATE b SET x = 1"])
@pytest.mark.parametrize(
    ("reached", "covered"),
    [
        ([], True),
        ([[None, TABLES["c"], "r", "public", False]], True),
        ([[None, 900, "r", "other", False]], False),
        ([[None, 900, "r", "public", False]], False),
        ([[None, TABLES["c"], "r", "public", True]], False),
    ],
    ids=["nothing", "another of the act", "another schema", "a new table", "a trigger"],
)
def test_what_changes_rows_may_reach_nothing_else(script: str, reached: list[list[object]], covered: bool) -> None:
    session = running()
    session.frontend(query(script))
    session.reaches([ACCOUNT, [None, TABLES["b"], "r", "public", False], *reached])
    assert (session.sent()[-1] == "Q") is covered
    assert bool(session.of(OpenHold)) is not covered


def test_table_is_emptied_once() -> None:
    session = running()
    for expected in (0, 1):
        session.frontend(query("TRUNCATE b"))
        session.reaches([ACCOUNT, [None, TABLES["b"], "r", "public", False]])
        assert len(session.of(OpenHold)) == expected
        session.backend(complete("TRUNCATE TABLE") + ready("I"))


def test_first_statement_counts_as_well() -> None:
    session = Session()
    session.frontend(query("TRUNCATE a, public.b CASCADE;"))
    session.surveyed()
    session.held()
    session.decide(APPROVED_BY_ANA)
    session.surveyed()
    session.backend(complete("TRUNCATE TABLE") + ready("I"))
    session.frontend(query("TRUNCATE b"))
    session.reaches([ACCOUNT])
    assert len(session.of(OpenHold)) == 2


@pytest.mark.parametrize(("oid", "covered"), [(TABLES["b"], True), (900, False)])
def test_type_goes_with_cascade_where_only_tables_of_the_act_have_it(oid: int, covered: bool) -> None:
    session = running()
    session.frontend(query("DROP TYPE public.mood CASCADE"))
    session.reaches([[None, oid, "r", "public", False]])
    assert (session.sent()[-1] == "Q") is covered


def test_another_role_is_not_covered() -> None:
    session = running()
    session.frontend(query("SET ROLE boss"))
    session.backend(complete("SET") + ready("I"))
    session.take_backend()
    session.frontend(drop("b"))
    session.surveyed({"b": TABLES["b"]})
    assert session.of(OpenHold)


def test_name_with_several_meanings_is_no_part() -> None:
    session = running()
    session.frontend(parse('DROP TABLE "b"', "s"), SYNC)
    session.backend(PARSE_COMPLETE + ready("I"))
    session.frontend(close("s"), parse('DROP TABLE "other"."t"', "s"), SYNC)
    session.take_backend()
    session.frontend(bind("", "s"), execute(), SYNC)
    assert "C" not in session.sent()
    session.backend(CLOSE_COMPLETE + PARSE_COMPLETE + ready("I"))
    assert session.of(OpenHold), "held by itself, although one of its meanings is a part"


def test_grant_for_the_session_is_about_one_statement(syncer: Syncer) -> None:
    syncer.forced = False
    session = Session()
    session.frontend(drop("a"))
    session.surveyed()
    session(Granted(SEVEN, APPROVED_BY_ANA, None))
    session(Recorded())
    assert session.sent()[-1] == "Q"
    session.backend(complete("DROP TABLE") + ready("I"))
    session.others.clear()
    session.frontend(drop("b"))
    session.surveyed()
    assert session.of(OpenHold)


def test_schema_that_got_a_table_meanwhile_is_held_again() -> None:
    session = Session()
    session.frontend(query("DROP SCHEMA public CASCADE;"))
    session.surveyed()
    session.held()
    session.decide(APPROVED_BY_ANA)
    session.surveyed({**TABLES, "d": 999})
    [opened] = session.of(OpenHold)[1:]
    assert opened.request.difference == ("public.d is new",)  # type: ignore[attr-defined]
    assert "Q" not in session.sent()


def test_approval_takes_what_the_most_demanding_rule_of_an_act_takes() -> None:
    session = Session(environment=Environment.DEVELOPMENT)
    session.frontend(drop("a"))
    session.surveyed()
    [opened] = session.of(OpenHold)
    request = opened.request  # type: ignore[attr-defined]
    assert request.severity == "critical"
    entry = ApprovalEntry.model_validate({"rules": ["truncate"], "approvers": 2})
    assert needs([entry], request).approvers == 2


def test_denied_all_of_it_is_denied_without_asking_again() -> None:
    session = held()
    session.decide(DENIED_BY_BO)
    assert session.sent() == ""
    assert session.seen()[0][0] == "E"
    session.others.clear()
    session.frontend(drop("b"))
    session.means("b", TABLES["b"])
    session(Recorded())
    [(kind, body), _] = session.seen()
    assert kind == "E"
    assert "denied by bo: not today" in fields(body)["M"]
    assert session.audited() == [AuditEvent.DENIED]
    assert "Q" not in session.sent()
    session.frontend(query("DROP TABLE other.t"))
    session.means("other.t", 900)
    session.means("other.t", 900, kind="r", schema="other")
    session.surveyed()
    assert session.of(OpenHold), "what is not of it is held as always"
    session(FrontendLost())
    assert session.moves() == []


def test_expired_all_of_it_is_refused() -> None:
    session = held()
    session(HoldMoved(SEVEN, True))
    session(Recorded())
    assert session.seen()[0][0] == "E"
    session.frontend(drop("b"))
    session.means("b", TABLES["b"])
    session(Recorded())
    assert "in time" in fields(session.seen()[0][1])["M"]
    session(TimerFired(Timer.ACT))
    session(TimerFired(Timer.ACT))
    session.frontend(drop("b"))
    session.surveyed()
    assert len(session.of(OpenHold)) == 2, "later it may be asked for again"


def test_first_statement_that_fails_ends_it() -> None:
    session = held()
    session.decide(APPROVED_BY_ANA)
    session.surveyed()
    session.backend(error("2BP01") + ready("I"))
    assert session.moves()[-1][0] == "failed"
    session.others.clear()
    session.frontend(drop("b"))
    session.surveyed()
    assert session.of(OpenHold)


def test_changed_tables_are_held_again() -> None:
    session = held()
    session.decide(APPROVED_BY_ANA)
    session.surveyed({**TABLES, "b": 999})
    [opened] = session.of(OpenHold)[1:]
    assert opened.request.difference == ("public.b is another table now (oid 999); it was oid 16390",)  # type: ignore[attr-defined]
    assert "Q" not in session.sent()


def test_new_tables_are_no_part_of_it_and_no_reason_to_ask_again() -> None:
    session = held()
    session.decide(APPROVED_BY_ANA)
    session.surveyed({**TABLES, "d": 999})
    assert session.sent()[-1] == "Q"
    session.backend(complete("DROP TABLE") + ready("I"))
    session.frontend(drop("d"))
    session.means("d", 999)
    session.means("d", 999, kind="r")
    session.surveyed({"d": 999})
    assert len(session.of(OpenHold)) == 2


def test_retry_grant_lets_all_of_it_run() -> None:
    session = Session()
    session.frontend(drop("a"))
    session.surveyed()
    [opened] = session.of(OpenHold)
    survey_of_it = ActSurvey(b"", ())
    survey_of_it.row = split(survey(TABLES))[0][1]
    sight = survey_of_it.sight("UTF8")
    session(Granted(SEVEN, APPROVED_BY_ANA, sight))
    session(Recorded())
    session.surveyed()
    assert session.sent()[-1] == "Q"
    session.backend(complete("DROP TABLE") + ready("I"))
    session.frontend(drop("b"))
    session.means("b", TABLES["b"])
    assert session.sent()[-1] == "Q"
    assert len(session.of(OpenHold)) == 1
    assert opened is session.of(OpenHold)[0]


def test_session_that_cannot_be_asked_holds_the_first_statement_alone() -> None:
    session = Session(looks=False)
    session.frontend(drop("a"))
    [opened] = session.of(OpenHold)
    assert opened.request.act is None  # type: ignore[attr-defined]
    assert opened.request.relations == ("a",)  # type: ignore[attr-defined]
    session.held()
    session.decide(APPROVED_BY_ANA)
    assert session.sent() == "Q"
    session.backend(complete("DROP TABLE") + ready("I"))
    session.frontend(drop("b"))
    assert len(session.of(OpenHold)) == 2


def test_server_that_does_not_answer_in_time_is_not_waited_for() -> None:
    session = Session()
    session.frontend(drop("a"))
    assert any(isinstance(c, StartTimer) and c.timer is Timer.LOOK for c in session.others)
    session(TimerFired(Timer.LOOK))
    [opened] = session.of(OpenHold)
    assert opened.request.act is None  # type: ignore[attr-defined]


def test_cancel_while_it_is_asked_about() -> None:
    session = Session()
    session.frontend(drop("a"))
    session(CancelRequested())
    session(Recorded())
    session.surveyed()
    session.backend(error("42601") + ready("I"))  # of what went in its place
    [(kind, body), _] = session.seen()
    assert (kind, fields(body)["C"]) == ("E", "57014")
    assert not session.of(OpenHold)
    session.frontend(query("SELECT 1"))
    assert session.sent()[-1] == "Q"


def test_client_that_leaves_in_the_middle_ends_it_as_far_as_it_came() -> None:
    session = running()
    session.frontend(drop("b"))
    session(FrontendLost())
    assert session.moves() == [("done", "1 x DROP TABLE")]


def test_it_is_over_when_the_session_is_quiet() -> None:
    session = running()
    session(TimerFired(Timer.ACT))
    assert session.moves() == [], "it may have been busy until now"
    session(TimerFired(Timer.ACT))
    assert session.moves() == [("done", "1 x DROP TABLE")]
    session.frontend(drop("b"))
    session.surveyed()
    assert session.of(OpenHold)


def test_it_goes_on_while_the_session_works() -> None:
    session = running()
    for _ in range(5):
        session.frontend(query("SELECT 1"))
        session.backend(complete("SELECT 1") + ready("I"))
        session(TimerFired(Timer.ACT))
    assert session.moves() == []


def test_a_plan_s_part_runs_under_the_plan_s_hold() -> None:
    session = Session(looks=False)
    session.frontend(query("DROP TABLE a"))
    session(Granted(HoldId(9), APPROVED_BY_ANA, None, planned=True))
    assert session.sent() == "Q"
    session.backend(complete("DROP TABLE") + ready("I"))
    assert session.of(TellPart) == [TellPart(HoldId(9), "DROP TABLE", False)]
    assert not session.of(MoveHold)


# --- copies ---------------------------------------------------------------------------------------------------------

LOCKED = CopyPlan(CopyKind.DUMP, "3 tables", lock=("public.a", "public.b", "public.c"), locked=(16384, 16390, 16400))
COPIED = Copied(BackupId(12), "copy 12: 3 tables, 15 rows; restored, equal", "abc")


def steps(*rows: bytes, tags: int, status: str = "T", portals: bool = False) -> bytes:
    """The answers to so many statements of ours; `rows` are those of the last."""
    closed = CLOSE_COMPLETE * 2 if portals else CLOSE_COMPLETE
    one = PARSE_COMPLETE + BIND_COMPLETE + complete("X") + closed
    return one * (tags - 1) + PARSE_COMPLETE + BIND_COMPLETE + b"".join(rows) + complete("SELECT 1") + closed + ready(status)


def copied(**settings: object) -> Session:
    """Approved and copied as a whole, in a transaction of ours around the first statement, which has run."""
    session = held(protects=True, **settings)
    session.decide(APPROVED_BY_ANA)
    session.surveyed()
    [planned] = session.of(PlanCopy)
    assert planned.order.act  # type: ignore[attr-defined]
    session(CopyPlanned(SEVEN, LOCKED))
    session.take_backend()
    session.backend(steps(row("100:105:101"), tags=4))
    assert session.of(TakeCopy)
    session(CopyTaken(SEVEN, COPIED))
    session(Recorded())
    assert session.sent() == "Q"
    session.backend(complete("DROP TABLE") + ready("T"))
    session.backend(complete("COMMIT") + ready("I"))
    assert [k for k, _ in session.seen()] == ["C", "Z"]
    session.take_backend()
    session.others.clear()
    return session


def test_all_of_it_is_copied_once_before_the_first_statement() -> None:
    session = copied()
    session.frontend(drop("b"))
    session.means("b", TABLES["b"])
    sent = split(session.take_backend())
    assert "".join(k for k, _ in sent[-21:]) == "PBECCPBECCPBECCPBECCS"
    check = sent[-6][1].decode()
    assert '"public"."b" AS t' in check
    assert "105::pg_catalog.int8" in check
    assert "'{101}'" in check
    session.backend(steps(row("t"), tags=4, portals=True))
    assert session.sent() == "Q"
    session.backend(complete("DROP TABLE") + ready("T"))
    session.backend(complete("COMMIT") + ready("I"))
    assert not session.of(PlanCopy), "nobody has written since"
    assert [k for k, _ in session.seen()] == ["C", "Z"]


def test_table_that_somebody_wrote_since_is_copied_once_more() -> None:
    session = copied()
    session.frontend(drop("b"))
    session.means("b", TABLES["b"])
    session.take_backend()
    session.backend(steps(row("f"), tags=4, portals=True))
    [planned] = session.of(PlanCopy)
    order = planned.order  # type: ignore[attr-defined]
    assert (order.act, order.part) == (False, True)
    assert session.sent() == ""
    session(CopyFailed(SEVEN, "no space"))
    session(Recorded())
    session.backend(complete("ROLLBACK") + ready("I"))
    assert session.seen()[0][0] == "E"
    assert not session.of(MoveHold), "a part that fails does not end the act"


def test_in_one_transaction_the_locks_of_the_copy_are_enough() -> None:
    session = Session(protects=True)
    session.frontend(query("BEGIN"))
    session.backend(complete("BEGIN") + ready("T"))
    session.take_backend()
    session.frontend(drop("a"))
    session.surveyed(status="T")
    session.held()
    session.decide(APPROVED_BY_ANA)
    session.surveyed(status="T")
    session(CopyPlanned(SEVEN, LOCKED))
    session.take_backend()
    session.backend(steps(row("100:105:"), tags=2))
    session(CopyTaken(SEVEN, COPIED))
    session(Recorded())
    session.backend(complete("DROP TABLE") + ready("T"))
    session.take_backend()
    session.frontend(drop("b"))
    session.means("b", TABLES["b"], status="T")
    assert session.sent() == "PBECSQ"
    session.backend(complete("DROP TABLE") + ready("T"))
    session.frontend(query("COMMIT"))
    session.backend(complete("COMMIT") + ready("I"))
    session.take_backend()
    session.frontend(drop("c"))
    session.means("c", TABLES["c"])
    assert session.sent() != "PBECSQ", "the locks went with the transaction"


def test_an_act_that_is_approved_without_a_copy_is_not_copied_in_parts() -> None:
    from dataclasses import replace

    session = held(protects=True)
    session(HoldResolved(SEVEN, replace(APPROVED_BY_ANA, without_backup=True)))
    session(Recorded())
    session.surveyed()
    session(Recorded())
    session.backend(complete("DROP TABLE") + ready("I"))
    session.take_backend()
    session.frontend(drop("b"))
    session.means("b", TABLES["b"])
    assert session.sent()[-1] == "Q"
    assert not session.of(PlanCopy)


def test_hold_opens_even_when_the_answer_is_no_use() -> None:
    session = Session()
    session.frontend(drop("a"))
    session.answered(row("zz"))
    [opened] = session.of(OpenHold)
    assert opened.request.act is None  # type: ignore[attr-defined]
    session(HoldOpened(SEVEN))
