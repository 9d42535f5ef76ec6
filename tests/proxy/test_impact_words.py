"""The words and numbers for what is foreseen."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from proxy.impact.catalog import split_path
from proxy.impact.model import Blocked, Consequences, Matching, Reached
from proxy.impact.words import figures, lines, percent
from proxy.sight_words import sight_lines


def told(consequences: Consequences) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, line in lines(asdict(consequences)):
        found.setdefault(name, []).append(line)
    return found


def test_what_is_lost_comes_first() -> None:
    found = Consequences(
        reached=(
            Reached("s.a", "table", "named", "dropped", 41_220, True, 12 << 20),
            Reached("s.b", "table", "partition of s.a", "dropped", 10, False, 8192),
            Reached("s.v", "view", "CASCADE from s.a", "dropped"),
            Reached("s.c", "table", "CASCADE from s.a", "loses constraint k", 5, False, 8192),
        ),
        of_relations=71,
    )
    assert [(f.number, f.what) for f in figures(asdict(found))] == [
        ("2 of 71", "tables dropped"),
        ("about 41,230", "rows in them"),
        ("1", "view dropped"),
        ("12.0 MiB", "of data and indexes"),
    ]
    assert told(found)["reaches"][3] == "s.c: table, loses constraint k, CASCADE from s.a, about 5 rows, 8.0 KiB"


def test_rows_that_match_and_who_waits() -> None:
    found = Consequences(
        matching=(
            Matching("s.a", 3, True, 0.03, ("id", "name"), (("1", None), ("2", "x\ty")), ""),
            Matching("s.b", problem="it calls s.f(), which may change something: it was not run"),
        ),
        blocked=(Blocked(42, "app", "shop", 12.4, "UPDATE a"),),
        problem="not all",
    )
    words = told(found)
    assert words["impact"] == ["3 rows match, 3.0 % of s.a; 1 session waits behind it"]
    assert words["such as"] == ["id=1, name=NULL", "id=2, name=x\ty"]
    assert words["not counted"] == ["s.b: it calls s.f(), which may change something: it was not run"]
    assert words["blocks"] == ["app 42 (shop) waits behind it for 12 s: UPDATE a"]
    assert words["unforeseen"] == ["not all"]


@pytest.mark.parametrize(
    ("share", "text"), [(0, "none"), (1, "all"), (0.9999, "more than 99.9 %"), (0.00001, "less than 0.1 %"), (0.123, "12.3 %")]
)
def test_nearly_all_is_not_all(share: float, text: str) -> None:
    assert percent(share) == text


def test_long_lists_are_cut() -> None:
    found = Consequences(reached=tuple(Reached(f"t{i}", "table", "named", "dropped") for i in range(30)))
    assert told(found)["reaches"][-1] == "and 18 more"
    hold = {
        "difference": [],
        "impact": {"consequences": asdict(found), "objects": [], "missing": [], "locks": [], "waiting": [], "unbound": ""},
    }
    assert ("reaches", "and 18 more") in list(sight_lines(hold))


@pytest.mark.parametrize(
    ("text", "schemas"),
    [
        ('"$user", public', ["$user", "public"]),
        ('"O\'x ""é",  A ,b', ["O'x \"é", "a", "b"]),
        ("", []),
        ('""', [""]),
        ('"open', []),
    ],
)
def test_a_search_path_is_split_as_the_server_does(text: str, schemas: list[str]) -> None:
    assert list(split_path(text)) == schemas
