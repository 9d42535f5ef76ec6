"""The question about what a held statement is about, and what is made of the answer."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy import Context, Engine
from policy.facts import Relation
from proxy.look import Look, SeenObject, Sight, difference, make_look, names_of


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("DROP TABLE a.b, \"C\"", [("relation", "a.b"), ("relation", '"C"')]),
        ("DELETE FROM a USING b", [("relation", "a"), ("relation", "b")]),
        ("DROP SCHEMA shop CASCADE", [("schema", "shop")]),
        ("DROP DATABASE shop", []),
        ("DROP FUNCTION f(int)", []),
        ("DROP TRIGGER t ON a", [("relation", "a")]),
        ("PREPARE p AS DELETE FROM a", [("relation", "a")]),
        ("DROP TABLE a; DROP TYPE a; TRUNCATE b", [("relation", "a"), ("relation", "b")]),
    ],
)  # fmt: skip
def test_names_that_are_looked_up(script: str, names: list[tuple[str, str]]) -> None:
    assert list(names_of(Engine().judge(script.encode(), Context()))) == names


def asked(name: str) -> list[dict[str, object]]:
    look = make_look([("relation", name)], 1, "UTF8", has_sync=True)
    if look is None:
        return []
    start = look.messages.index(b"[{")
    return list(json.loads(look.messages[start : look.messages.index(b"}]") + 2]))


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@given(NAMES.filter(bool), NAMES)
def test_any_name_is_asked_about_as_its_parts(name: str, schema: str) -> None:
    [question] = asked(str(Relation(schema, name)))
    assert (question["schema"], question["name"]) == (schema, name)


@pytest.mark.parametrize("name", ["f(integer)", "", '"open', "a.b.c", "a..b", ".a", '"a"b'])
def test_what_is_no_name_is_not_asked_about(name: str) -> None:
    assert asked(name) == []


def test_name_that_the_encoding_does_not_have_is_not_asked_about() -> None:
    assert make_look([("relation", "Ж")], 1, "LATIN1", has_sync=True) is None
    assert make_look([("relation", "Ж")], 1, "SJIS", has_sync=True) is None
    assert make_look([("relation", "Ж")], 1, "UTF8", has_sync=True) is not None


def answer(text: bytes) -> Sight:
    return Look(b"", (), b"\0\1" + len(text).to_bytes(4, "big") + text, names=("t",)).sight("UTF8")


@pytest.mark.parametrize(
    "text", [b"", b"zz", b"7b7d", json.dumps({"page_bytes": 1, "objects": [{"i": 5}]}).encode().hex().encode(), b"\xff"]
)
def test_answer_that_cannot_be_read_binds_nothing_and_says_so(text: bytes) -> None:
    assert "could not be read" in answer(text).unbound


TABLE = SeenObject("t", 1, 1, "t", "table", "7", "id integer")


def test_what_did_not_change_is_no_difference() -> None:
    assert difference(Sight((TABLE,), ("f",)), Sight((TABLE,), ("f",))) == ()


def test_what_was_not_there_and_is_now_is_a_difference() -> None:
    assert difference(Sight((), ("t",)), Sight((TABLE,))) == ("t means a table now (t); before, it was not there",)


def test_that_nothing_can_be_told_any_more_is_a_difference_but_not_when_nothing_could_be_told_before() -> None:
    assert difference(Sight((TABLE,)), Sight(unbound="no"))
    assert difference(Sight(unbound="no"), Sight((TABLE,))) == ()
