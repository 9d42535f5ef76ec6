"""Tables that vanish, doors in pg_hba.conf, clocks and schedules: the parts without a server."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from proxy.health.bypass import hba_lines, open_rules
from proxy.health.local import OwnClock, longest_wait
from proxy.health.memory import DatabaseMemory, Memory, Missed
from proxy.health.names import critical_name, quoted, split_name
from proxy.health.tables import Announced, KnownTable, compare

NOW = datetime(2026, 1, 1, tzinfo=UTC)
A = KnownTable(1, "public", "a")
B = KnownTable(2, "public", 'b "c".d')
PART = KnownTable(3, "parts", "p", (1,))


def ran(*statements: tuple[str, tuple[str, ...]], oids: frozenset[int] = frozenset(), fresh: bool = True) -> Announced:
    return Announced("d", statements, oids, fresh=fresh)


@pytest.mark.parametrize(
    ("script", "excused"),
    [
        (ran(("DROP TABLE", ("a",))), {A, PART}),
        (ran(("DROP TABLE", ('public."b ""c"".d"',))), {B}),
        (ran(("DROP TABLE", ("other.a",))), set()),
        (ran(("DROP SCHEMA", ("parts",))), {PART}),
        (ran(("ALTER TABLE", ("a",))), set()),
        (ran(("CREATE TABLE", ("a",))), set()),
        (ran(("TRUNCATE", ("a",)), ("DELETE", ("a",))), set()),
        (ran(("DROP INDEX", ("a",))), set()),
        (ran(("DROP TABLE", ()), oids=frozenset({2})), {B}),
        (ran(("DO", ())), {A, B, PART}),
        (ran(("DO", ()), fresh=False), set()),
        (ran(("DROP EXTENSION", ("x",)), fresh=False), set()),
    ],
)
def test_what_was_announced_excuses_what_it_takes_and_nothing_else(script: Announced, excused: set[KnownTable]) -> None:
    found = compare([A, B, PART], [], [script])
    assert {t for t, _ in found.explained} == excused
    assert set(found.unexplained) == {A, B, PART} - excused


def test_renames_are_no_drops_and_new_tables_of_old_names_are() -> None:
    moved = KnownTable(1, "trash", "a_1")
    again = KnownTable(9, "public", 'b "c".d')
    found = compare([A, B], [moved, again], [])
    assert (found.unexplained, found.renamed, found.remade) == ((), ((A, moved),), (B,))


def test_what_is_remembered_comes_back_whatever_the_names(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "health")
    for name in ("../x", "a\n/\\", "ü" * 31, ""):
        kept = DatabaseMemory(name, "1/2", NOW, [A, B, PART], [Missed(B, NOW, True)])
        memory.keep_database(kept)
        assert Memory(tmp_path / "health").database(name) == kept
    assert {p.parent for p in tmp_path.rglob("*.json")} == {tmp_path / "health"}
    next(tmp_path.rglob("*.json")).write_text("{ half")
    assert sum(bool(memory.database(n).tables) for n in ("../x", "a\n/\\", "ü" * 31, "")) == 3


@pytest.mark.parametrize(("text", "parts"), [("a.b", ("a", "b")), ('"x.y"."q""r".T', ("x.y", 'q"r', "T")), ("one", ("one",))])
def test_names_are_taken_apart_as_they_are_put_together(text: str, parts: tuple[str, ...]) -> None:
    assert split_name(text) == parts
    assert split_name(quoted(*parts)) == parts


@pytest.mark.parametrize("text", ["", ".", "a.", "a", "a.b.c.d", '"a', 'a."', '""."b"'])
def test_what_is_no_table_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        critical_name(text, "d")


def rule(
    line: int, kind: str, users: list[str], address: str, netmask: str, method: str, databases: list[str] | None = None
) -> tuple[object, ...]:
    return line, "/pg_hba.conf", kind, databases or ["all"], users, address, netmask, method


HOST = "255.255.255.255"


def test_only_the_proxys_address_is_no_open_door() -> None:
    rules = [
        rule(1, "local", ["all"], "", "", "peer"),
        rule(2, "host", ["all"], "10.0.0.5", HOST, "scram-sha-256"),
        rule(3, "host", ["watcher"], "0.0.0.0", "0.0.0.0", "scram-sha-256"),
        rule(4, "host", ["all"], "all", "", "reject", ["replication"]),
        rule(5, "hostssl", ["all"], "10.0.0.0", "255.0.0.0", "scram-sha-256"),
        rule(6, "host", ["all"], "samenet", "", "trust"),
        rule(7, "host", ["all"], "all", "", "reject"),
        rule(8, "host", ["all"], "all", "", "trust"),
    ]
    opened = open_rules(rules, "10.0.0.5", ["watch*"])
    assert [r[0] for r in opened] == [5, 6], "what stands behind a refusal of all is never reached"
    lines = hba_lines(rules, opened, "10.0.0.5", ["watch*", 'mo"ni'])
    assert lines[0].startswith("# Put these lines before line 5 of /pg_hba.conf")
    assert lines[1:] == [
        "hostssl all all 10.0.0.5/32 scram-sha-256",
        'hostssl all "mo""ni" all scram-sha-256',
        "host all all all reject",
    ]


def test_a_jump_of_our_clock_is_seen_for_an_hour() -> None:
    times = {"wall": NOW, "steady": 0.0}
    clock = OwnClock(lambda: times["wall"], lambda: times["steady"])  # type: ignore[arg-type,return-value]
    assert clock.look() is None
    times |= {"wall": NOW + timedelta(seconds=64), "steady": 60.0}
    assert clock.look() is None
    times |= {"wall": NOW + timedelta(seconds=3664), "steady": 120.0}
    found = clock.look()
    assert found is not None
    assert "+3,540 s" in found.text
    times |= {"wall": NOW + timedelta(seconds=7400), "steady": 3856.0}
    assert clock.look() is None


def test_the_longest_wait_of_a_schedule() -> None:
    assert longest_wait("0 0,12 * * *", NOW) == timedelta(hours=12)
    assert longest_wait("0 1,3 * * *", NOW) == timedelta(hours=22)
