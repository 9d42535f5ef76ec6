"""What messages say, and that a stranger's text in them is only ever text."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from policy import Context, Engine
from policy.judgement import CreatesTemp, StatementReport
from policy.view import View
from proxy.model import HoldState, Requester, SessionId
from proxy.notify import compose
from proxy.notify.message import Message, Topic
from proxy.notify.senders import Parcel, as_json, subject_of, text_of
from proxy.notify.words import cut, harmless
from tests.proxy.notifying import NOW, a_hold, decided


def parcel(message: Message) -> Parcel:
    return Parcel("d1", message, "https://console.example.com/holds/1", "https://console.example.com")


def test_an_opened_hold_says_all_in_one_look() -> None:
    message = compose.opened(a_hold(), NOW)
    assert message.subject == "HIGH: DROP TABLE account (hold 1) waits for a decision in shop (production)"
    assert text_of(parcel(message)).split("\n") == [
        "Expires in 10 min, at 03:10:00 UTC",
        "Who: app with sync from 192.0.2.7:5000",
        "Where: database shop, production",
        "What: DROP TABLE account",
        "Found: DROP TABLE account",
        "It cannot be taken back.",
        "https://console.example.com/holds/1",
    ]


def test_a_long_script_says_how_many_lines_it_has_and_is_cut() -> None:
    message = compose.opened(a_hold(script="DROP TABLE account;\n" * 5000), NOW)
    assert "Lines: 5,001, statements: 1" in message.lines
    assert max(map(len, message.lines)) < 400
    assert len(message.model_dump_json()) < 20_000


def test_a_reminder_says_how_long_is_left() -> None:
    message = compose.reminded(a_hold(), NOW + timedelta(seconds=570))
    assert message.subject == "HIGH: 30 s left: DROP TABLE account (hold 1) still waits in shop (production)"


@pytest.mark.parametrize(
    ("state", "subject"),
    [
        (HoldState.EXPIRED, "Expired: DROP TABLE account (hold 1) in shop (production) did not run: nobody decided in time"),
        (HoldState.WITHDRAWN, "Withdrawn: DROP TABLE account (hold 1) in shop (production) did not run: taken back"),
        (HoldState.ABANDONED, "Abandoned: DROP TABLE account (hold 1) in shop (production) did not run: the client or the server is gone"),
    ],
)
def test_the_end_without_a_decision(state: HoldState, subject: str) -> None:
    message = compose.settled(replace(a_hold(), state=state), NOW)
    assert message is not None
    assert message.subject == subject


def test_a_decision_says_who_and_why() -> None:
    approved = compose.settled(decided(a_hold(), approvers=("bo", "ana")), NOW)
    denied = compose.settled(decided(a_hold(), False, suggestion="DROP TABLE tmp"), NOW)
    assert approved is not None
    assert denied is not None
    assert approved.subject == "Approved by ana: DROP TABLE account (hold 1) in shop (production)"
    assert approved.lines[:2] == ("Reason: agreed", "With: bo")
    assert denied.subject == "Denied by ana: DROP TABLE account (hold 1) in shop (production)"
    assert "Suggested instead: DROP TABLE tmp" in denied.lines


def test_break_glass_is_loud() -> None:
    message = compose.settled(decided(a_hold(severity="low"), break_glass=True), NOW)
    assert message is not None
    assert (message.topic, message.severity) == (Topic.BREAK_GLASS, "critical")
    assert message.subject.startswith("BREAK-GLASS by ana:")


def test_a_hold_that_runs_is_no_news_and_one_that_ran_was_approved() -> None:
    running = replace(decided(a_hold()), state=HoldState.RELEASED)
    assert compose.settled(running, NOW) is None
    done = compose.finished(replace(running, state=HoldState.DONE), NOW)
    assert done is not None
    assert done.topic is Topic.APPROVED


def test_many_are_told_as_one() -> None:
    holds = [a_hold(i, database="shop" if i % 2 else "billing", severity="critical" if i == 7 else "low") for i in range(50)]
    message = compose.digest([compose.opened(h, NOW) for h in holds], NOW, left_out=3)
    assert message.subject == "CRITICAL: 50 statements wait for a decision in billing, shop"
    assert message.lines[0] == "Of them: 50 × DROP TABLE"
    assert "hold 7" in message.lines[1]
    assert message.lines[-1] == "and 43 more"
    assert len(message.lines) == 12


# --- strangers' text --------------------------------------------------------------------------------------------------

HOSTILE = (
    "DROP TABLE a -- @channel <!here|x> <@U123> @everyone [click](https://evil.example/x) <a href=x> `*_~||\r\nBcc: victim@example.com\r\n"
    "\u202egnorts\u200b\x1b[31m\x00 \ud800"
)


def test_nothing_in_a_statement_or_a_name_can_act_on_a_service() -> None:
    hold = a_hold(script=HOSTILE, role=HOSTILE, database=HOSTILE, application=HOSTILE)
    messages = [
        compose.opened(hold, NOW),
        compose.reminded(hold, NOW),
        compose.settled(decided(hold, reason=HOSTILE, operator=HOSTILE, suggestion=HOSTILE), NOW),
    ]
    messages.append(compose.digest([m for m in messages if m], NOW))
    for message in messages:
        assert message is not None
        subject, text = subject_of(parcel(message)), text_of(parcel(message))
        assert "\n" not in subject
        assert "\r" not in subject + text
        told = subject + text.removesuffix("https://console.example.com/holds/1")
        assert not set("@<>[]`*~|&#\\\x00\x1b\u202e\u200b\ud800") & set(told), told
        assert "://" not in told
        assert all(len(line) <= 700 for line in text.split("\n"))
        (subject + text).encode()


def test_each_line_of_a_message_is_a_fact_of_ours() -> None:
    """A stranger's line break makes no line of its own, where it could pass for one of ours."""
    hold = a_hold(script="SELECT 1;\nReason: approved by ana\nDROP TABLE x", application="x\nExpires in 9 h")
    known = ("Expires in", "Who:", "Where:", "What:", "Found:", "Lines:", "It cannot")
    assert all(line.startswith(known) for line in compose.opened(hold, NOW).lines)
    assert sum(line.startswith("Expires in") for line in compose.opened(hold, NOW).lines) == 1


def test_a_programs_json_has_the_text_as_it_is_and_survives_any_of_it() -> None:
    hold = a_hold(script=HOSTILE, application=HOSTILE)
    message = Message.model_validate_json(compose.opened(hold, NOW).model_dump_json())
    told = as_json(parcel(message))
    facts = told["hold"]
    assert isinstance(facts, dict)
    assert str(facts["script"]).startswith("DROP TABLE a -- @channel <!here|x>")
    assert (told["link"], told["thread"], told["supersedes"]) == ("https://console.example.com/holds/1", "hold-1", None)


def test_cutting_looks_at_no_more_than_could_be_shown() -> None:
    assert cut("a" * 10_000_000, 10) == "a" * 9 + "…"
    assert cut("  a \n b  ", 10) == "a b"
    assert cut("a" + " " * 1000, 10) == "a…"
    assert harmless("plain text: 1 + 2 = 3, 'quoted' \"name\" (x)") == "plain text: 1 + 2 = 3, 'quoted' \"name\" (x)"


# --- changes that passed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "announced"),
    [
        ("CREATE TABLE a (x int)", True),
        ("ALTER TABLE a ADD COLUMN y int", True),
        ("CREATE INDEX CONCURRENTLY i ON a (x)", True),
        ("COMMENT ON TABLE a IS 'x'", True),
        ("SELECT 1", False),
        ("INSERT INTO a VALUES (1)", False),
        ("CREATE TEMP TABLE a (x int)", False),
        ("BEGIN; CREATE TABLE a (x int); COMMIT", True),
    ],
)
def test_ddl_is_announced_only_where_somebody_wants_to_know(script: str, announced: bool) -> None:
    judgement = Engine(view=View(announces=True)).judge(script.encode(), Context())
    assert judgement.announced is announced
    assert not (judgement.plain and announced)
    silent = Engine().judge(script.encode(), Context())
    assert not silent.announced
    assert silent.verdict is judgement.verdict


def test_the_relays_fast_path_keeps_what_is_no_ddl_and_all_of_it_when_nobody_wants_to_know() -> None:
    assert Engine(view=View(announces=True)).judge(b"SELECT 1", Context()).plain
    assert Engine().judge(b"CREATE TABLE a (x int)", Context()).plain


def test_a_change_names_kind_object_and_requester() -> None:
    judgement = Engine(view=View(announces=True)).judge(b"CREATE TABLE a (x int)", Context())
    message = compose.changed(Requester(SessionId(1), "app", "shop", "migrate", "local"), "production", judgement, NOW)
    assert message.subject == "Changed: CREATE TABLE a in shop (production) by app"
    assert message.facts["kinds"] == ["CREATE TABLE"]
    assert not StatementReport("CREATE TABLE", effects=(CreatesTemp("a"),)).changes_schema
