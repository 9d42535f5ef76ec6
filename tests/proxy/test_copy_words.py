"""What is said of a hold's copy: on terminals, in lists, in messages."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from proxy.backups.alarm import Alarm, AlarmKind
from proxy.backups.commands import back_again, back_command
from proxy.backups.model import Backup, BackupId, BackupState, CopyKind
from proxy.copy_words import copy_lines, copy_mark
from proxy.holds_json import hold_as_json
from proxy.model import CopyState, Hold, HoldId, HoldState
from proxy.notify import compose
from proxy.notify.message import Topic
from tests.proxy.notifying import NOW, a_hold, decided

MADE = CopyState(12, "dump", "done", "copy 12: 3 tables, 41,220 rows, 12 MB; restored, 41,220 rows, equal", "equal")
ROWS = CopyState(13, "rows", "done", "copy 13: 5 rows, 1 kB", "none")


def as_json(hold: Hold, **more: Any) -> dict[str, Any]:
    return {**hold_as_json(hold), **more}


@pytest.mark.parametrize(
    ("hold", "lines", "mark"),
    [
        (a_hold(), [], ""),
        (decided(a_hold(7)), [], ""),
        (replace(a_hold(), copy=CopyState(state="running", text="3 of 12 tables, 41 MB")), [("copying", "3 of 12 tables, 41 MB")], "copying"),
        (replace(a_hold(), copy=CopyState(state="none", text="")), [("backup", "none: nothing could be lost")], "none"),
        (replace(a_hold(), copy=CopyState(state="failed", text="disk full")), [("backup", "FAILED: disk full")], "FAILED"),
        (replace(a_hold(7), copy=MADE), [("backup", MADE.text), ("back", "pghold restore 7 brings it back")], "12 proven"),
        (replace(a_hold(7), copy=ROWS), [("backup", ROWS.text), ("back", "pghold undo 7 brings it back")], "13"),
        (replace(a_hold(7), copy=replace(MADE, proof="different")), [("backup", MADE.text), ("back", "pghold restore 7 brings it back")], "12 DIFFERENT"),
        (decided(a_hold(7), without_backup=True), [("backup", "NONE: approved WITHOUT A BACKUP by ana")], "WITHOUT"),
    ],
)  # fmt: skip
def test_a_hold_in_words(hold: Hold, lines: list[tuple[str, str]], mark: str) -> None:
    assert list(copy_lines(as_json(hold))) == lines
    assert copy_mark(as_json(hold)) == mark


def test_before_the_decision_what_is_to_be_expected() -> None:
    outlook = {"state": "copy", "text": "made before it runs"}
    assert list(copy_lines(as_json(a_hold(), backup_outlook=outlook))) == [("backup", "made before it runs")]
    assert "outlook" not in asdict(MADE)


def test_what_to_type_to_bring_a_copy_back_is_quoted_for_a_shell() -> None:
    hostile = Backup(BackupId(3), CopyKind.FULL, BackupState.DONE, "a b'; rm -rf /", "f", NOW)
    assert [c.command for c in back_again(hostile)] == [
        """pghold restore --backup 3 --into 'a b'"'"'; rm -rf /_copy'""",
        """pghold recover --database 'a b'"'"'; rm -rf /'""",
    ]
    assert back_again(replace(hostile, state=BackupState.REMOVED)) == []
    assert back_command("none", 7) == ""


def test_a_message_after_the_approval_names_the_copy() -> None:
    hold = replace(decided(a_hold(7)), state=HoldState.RELEASED, copy=MADE)
    message = compose.protected(hold, NOW)
    assert message is not None
    assert message.topic is Topic.PROTECTED
    assert message.subject.startswith("Copied: copy 12: 3 tables, 41,220 rows, 12 MB")
    assert message.lines[:3] == (f"Copy: {MADE.text}", "Approved by ana: agreed", "To bring it back: pghold restore 7")
    undone = compose.protected(replace(hold, copy=ROWS), NOW)
    assert undone is not None
    assert "To bring it back: pghold undo 7" in undone.lines
    assert compose.protected(replace(hold, copy=None), NOW) is None
    assert compose.protected(replace(hold, copy=replace(MADE, state="failed")), NOW) is None


def test_a_message_after_a_copy_that_failed_says_that_nothing_ran() -> None:
    hold = replace(decided(a_hold(7)), state=HoldState.DENIED, copy=CopyState(state="failed", text="disk full"))
    message = compose.settled(hold, NOW)
    assert message is not None
    assert message.subject == "NOT RUN: DROP TABLE account (hold 7) in shop (production): no copy could be made, after ana had approved it"
    assert message.lines[0] == "Copy: FAILED: disk full"


def test_a_message_of_an_approval_without_a_backup_is_loud() -> None:
    message = compose.settled(decided(a_hold(7), without_backup=True), NOW)
    assert message is not None
    assert message.subject.startswith("WITHOUT A BACKUP, approved by ana")
    assert message.lines[0].startswith("WITHOUT A BACKUP")


@pytest.mark.parametrize("kind", list(AlarmKind))
def test_every_alarm_is_a_message_that_says_what_to_do(kind: AlarmKind) -> None:
    message = compose.alarmed(Alarm(kind, "shop", "something is wrong with copy 3 <b>", BackupId(3)), "production", NOW)
    assert message.topic.startswith("backup.")
    assert message.path == "/backups/3"
    assert message.database == "shop"
    assert len(message.lines) >= 2
    without = compose.alarmed(Alarm(kind, "shop", "x" * 1000), "production", NOW)
    assert without.path == "/backups"
    assert without.thread != message.thread
    assert max(map(len, without.lines)) < 400


def test_two_alarms_of_one_kind_for_two_databases_are_two_threads() -> None:
    first, second = (compose.alarmed(Alarm(AlarmKind.FAILED, name, "x"), "production", NOW) for name in ("a", "b"))
    assert first.thread != second.thread


def test_ids_of_holds_stay_numbers() -> None:
    assert back_command("rows", int(HoldId(7))) == "pghold undo 7"
