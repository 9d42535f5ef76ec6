"""Which copies go, and which never do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.backups.model import Backup, BackupId, BackupState, CopiedTable, CopyKind, Proof
from proxy.backups.reproof import next_to_prove
from proxy.backups.retention import Limits, what_goes
from proxy.model import HoldId

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


def copy(number: int, days: float = 0, kind: CopyKind = CopyKind.FULL, *names: str, **changes: Any) -> Backup:
    given: dict[str, Any] = {"proof": Proof.EQUAL, "bytes": 10, "database": "shop", "state": BackupState.DONE, **changes}
    tables = tuple(CopiedTable(name, 1) for name in names)
    hold = None if kind is CopyKind.FULL else HoldId(number)
    moment = NOW - timedelta(days=days)
    return Backup(BackupId(number), kind, folder=f"f{number}", created_at=moment, finished_at=moment, hold_id=hold, tables=tables, **given)


def gone(copies: list[Backup], limits: Limits, **more: Any) -> list[int]:
    return [int(r.backup.id) for r in what_goes(copies, limits, NOW, **more)]


def test_without_limits_nothing_goes() -> None:
    assert gone([copy(1, 9999), copy(2, 5)], Limits()) == []


def test_by_age() -> None:
    assert gone([copy(1, 31), copy(2, 30), copy(3, 1)], Limits(days=30)) == [1]


def test_the_newest_proven_full_copy_stays_however_old() -> None:
    assert gone([copy(1, 90), copy(2, 60), copy(3, 50, proof=Proof.FAILED)], Limits(days=30, count=1, bytes=1)) == [1, 3]


def test_the_newest_full_copy_stays_when_none_is_proven() -> None:
    assert gone([copy(1, 90, proof=Proof.NONE), copy(2, 60, proof=Proof.DIFFERENT)], Limits(days=30)) == [1]


def test_by_count_for_each_database() -> None:
    copies = [copy(1), copy(2, database="b"), copy(3), copy(4), copy(5, database="b")]
    assert gone(copies, Limits(count=2)) == [1]
    assert gone(copies, Limits(count=1)) == [1, 2, 3]


def test_by_size_the_oldest_first_until_it_fits() -> None:
    assert gone([copy(n) for n in range(1, 6)], Limits(bytes=30)) == [1, 2]


def test_what_a_hold_destroyed_goes_by_age_only_when_it_is_the_only_proven_copy() -> None:
    drops = [copy(1, 20, CopyKind.DUMP, "public.a"), copy(2, 10, CopyKind.DUMP, "public.a"), copy(3, 5, CopyKind.ROWS, "public.b")]
    assert gone(drops, Limits(count=1)) == [1]
    assert gone(drops, Limits(bytes=1)) == [1]
    assert gone(drops, Limits(days=7)) == [1, 2]


def test_a_full_copy_protects_no_table_for_it_goes_when_the_next_is_there() -> None:
    copies = [copy(1, 2, CopyKind.DUMP, "public.b"), copy(2, 1, CopyKind.FULL, "public.b"), copy(3, 0, CopyKind.FULL, "public.a")]
    assert gone(copies, Limits(bytes=1)) == [2]
    assert gone(copies[:2], Limits(bytes=1)) == []


def test_a_copy_that_is_not_proven_protects_no_table() -> None:
    drops = [copy(1, 2, CopyKind.DUMP, "public.a"), copy(2, 1, CopyKind.DUMP, "public.a", proof=Proof.NONE)]
    assert gone(drops, Limits(bytes=1)) == [2]


def test_what_runs_is_proven_or_restored_from_stays() -> None:
    copies = [copy(1, 90), copy(2, 90, state=BackupState.RUNNING), copy(3, 90, proof=Proof.RUNNING), copy(4, 90), copy(5, 1)]
    assert gone(copies, Limits(days=30, count=1, bytes=1), in_use={BackupId(1)}) == [4]


def test_the_trash_is_not_ours_to_remove() -> None:
    assert gone([copy(1, 90, CopyKind.TRASH, "public.a"), copy(2, 90, state=BackupState.FAILED)], Limits(days=1, count=1, bytes=1)) == []


@given(
    st.lists(
        st.builds(
            lambda age, kind, name, proof, database: (age, kind, name, proof, database),
            st.floats(0, 100), st.sampled_from([CopyKind.FULL, CopyKind.DUMP, CopyKind.ROWS]), st.sampled_from("abc"),
            st.sampled_from(list(Proof)), st.sampled_from(["shop", "other"]),
        ), max_size=12,
    ),
    st.floats(0, 60), st.integers(0, 3), st.integers(0, 50),
)  # fmt: skip
def test_whatever_the_limits_each_database_keeps_its_best_full_copy(drawn: list[Any], days: float, count: int, size: int) -> None:
    drawn.sort(key=lambda d: -d[0])
    copies = [copy(n, age, kind, name, proof=proof, database=db) for n, (age, kind, name, proof, db) in enumerate(drawn, 1)]
    left = {b.id: b for b in copies}
    for removal in what_goes(copies, Limits(days, count, size), NOW):
        del left[removal.backup.id]
    for database in ("shop", "other"):
        full = [b for b in copies if b.kind is CopyKind.FULL and b.database == database]
        proven = [b for b in full if b.proof is Proof.EQUAL]
        for best in (proven or full)[-1:]:
            assert best.id in left
    # What a hold destroyed has a proven copy left, unless it is too old.
    for backup in copies:
        young = not days or NOW - backup.created_at <= timedelta(days=days)
        if backup.hold_id is not None and backup.proof is Proof.EQUAL and young:
            assert any(
                b.proof is Proof.EQUAL and b.database == backup.database and set(b.tables) >= set(backup.tables) for b in left.values()
            )


@pytest.mark.parametrize(
    ("copies", "days", "expected"),
    [
        ([copy(1, 9, proved_at=NOW - timedelta(days=8)), copy(2, 9, proved_at=NOW - timedelta(days=9))], 7, 2),
        ([copy(1, 9, proved_at=NOW - timedelta(days=6))], 7, None),
        ([copy(1, 9, proved_at=NOW - timedelta(days=99))], 0, None),
        ([copy(1, 9, proved_at=NOW - timedelta(days=99)), copy(2, proof=Proof.NONE)], 7, 2),
        ([copy(1, 9, proof=Proof.DIFFERENT)], 7, None),
        ([copy(1, 9, proof=Proof.FAILED, proved_at=NOW - timedelta(hours=1))], 7, None),
        ([copy(1, 9, proof=Proof.FAILED, proved_at=NOW - timedelta(hours=7))], 7, 1),
        ([copy(1, 9, CopyKind.TRASH, proof=Proof.NONE), copy(2, 9, proof=Proof.NONE, state=BackupState.REMOVED)], 7, None),
    ],
)
def test_what_is_proven_again_next(copies: list[Backup], days: float, expected: int | None) -> None:
    found = next_to_prove(copies, NOW, days)
    assert (found.id if found else None) == expected
