"""What cron's fields name, and what is due by them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from proxy.backups.schedule import Timetable, Tries, is_due, is_late
from proxy.config import load
from proxy.errors import ConfigError

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
TWICE = Timetable("0 0,12 * * *")
SECOND = timedelta(seconds=1)


def test_the_last_and_the_next() -> None:
    assert TWICE.last(NOON) == NOON
    assert TWICE.last(NOON + timedelta(seconds=59)) == NOON
    assert TWICE.last(NOON - SECOND) == NOON - timedelta(hours=12)
    assert TWICE.after(NOON) == NOON + timedelta(hours=12)
    assert TWICE.after(NOON - SECOND) == NOON


def test_an_empty_one_names_nothing() -> None:
    never = Timetable("  ")
    assert (never.last(NOON), never.after(NOON)) == (None, None)
    assert not is_due(never, NOON, None, Tries())
    assert not is_late(never, NOON, None, timedelta(0))


@pytest.mark.parametrize("expression", ["x", "* * * *", "0 0 0 * * *", "61 * * * *", "0 24 * * *", "0 0 30 2 *", "@daily", "0 0 * * MON-X"])
def test_what_is_no_schedule_is_refused_at_start(expression: str) -> None:
    with pytest.raises(ConfigError, match="backup_schedule"):
        load({"backup_schedule": expression})


def test_blanks_do_not_matter() -> None:
    assert load({"backup_schedule": " 0  3 * * 1-5 "}).backup_schedule == "0 3 * * 1-5"


def test_each_time_asks_for_one_copy() -> None:
    assert is_due(TWICE, NOON, NOON - timedelta(hours=12), Tries())
    assert not is_due(TWICE, NOON, NOON, Tries())
    assert not is_due(TWICE, NOON + timedelta(hours=11), NOON, Tries())


def test_missed_times_ask_for_one_copy_in_all() -> None:
    weeks_ago = NOON - timedelta(days=14)
    assert is_due(TWICE, NOON + SECOND, weeks_ago, Tries())
    assert not is_due(TWICE, NOON + SECOND, NOON + SECOND, Tries())
    assert is_due(TWICE, NOON, None, Tries())


def test_a_failure_is_tried_again_later_and_later_but_at_least_once_an_hour() -> None:
    tries = Tries()
    waits = []
    for _ in range(6):
        tries = tries.failed(NOON, "disk full")
        again = tries.again_at()
        assert again is not None
        waits.append((again - NOON).total_seconds())
        assert not is_due(TWICE, again - SECOND, None, tries)
        assert is_due(TWICE, again, None, tries)
    assert waits == [300, 600, 1200, 2400, 3600, 3600]


def test_late_is_what_was_due_for_long() -> None:
    grace = timedelta(minutes=30)
    before = NOON - timedelta(hours=12)
    assert not is_late(TWICE, NOON + timedelta(minutes=29), before, grace)
    assert is_late(TWICE, NOON + timedelta(minutes=30), before, grace)
    assert not is_late(TWICE, NOON + timedelta(hours=11), NOON, grace)
