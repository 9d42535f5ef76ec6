"""Every kind of node that the grammar knows has its place, and one that it does not know is held."""

from __future__ import annotations

import importlib

import pytest

from policy import Context, Engine, Profile, Verdict
from policy.extract import VISITORS
from policy.extract.extractor import Extractor
from policy.extract.table import NEVER_PARSED, THROUGH
from policy.judgement import Judgement
from policy.parse import parse, tree

#: Its type stubs do not parse under mypy.
pg_query_pb2 = importlib.import_module("postgast.pg_query_pb2")
KINDS = {field.message_type.name for field in pg_query_pb2.Node.DESCRIPTOR.fields}


def test_every_kind_of_node_has_its_place() -> None:
    known = set(VISITORS) | NEVER_PARSED
    assert KINDS - known == set()
    assert known - KINDS == set()
    assert not set(VISITORS) & NEVER_PARSED


def test_every_statement_is_visited_not_only_looked_through() -> None:
    statements = {k for k in KINDS if k.endswith("Stmt")} - NEVER_PARSED
    assert statements & THROUGH == {"RawStmt", "ReturnStmt", "PLAssignStmt"}


@pytest.mark.parametrize("script", ["SELECT 1", "SELECT f(a) FROM t", "DROP TABLE t"])
@pytest.mark.parametrize("profile", list(Profile))
def test_kind_that_is_not_known_makes_the_statement_uncertain(script: str, profile: Profile) -> None:
    visitors = {k: v for k, v in VISITORS.items() if k not in ("A_Const", "FuncCall", "DropStmt")}
    extractor = Extractor(visitors, Context(), lambda *_: Judgement(Verdict.ALLOW))
    facts = extractor.read(tree(parse(script.encode())))
    assert not facts.statements[0].certain
    assert facts.opaque


def test_engine_holds_what_is_not_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(VISITORS, "CreateStmt")
    assert Engine().judge(b"CREATE TABLE t (i int)", Context()).verdict is Verdict.HOLD
