"""The SELECT that stands for a change: its text, and when there is none. That it finds the same rows, integration/test_preview_effects.py proves."""

from __future__ import annotations

import pytest

from policy.facts import Relation
from policy.preview import PreviewError, names_of_query, previews

SELECTS = [
    ("DELETE FROM t", 'SELECT * FROM "t"'),
    ("DELETE FROM t WHERE a = 1 RETURNING a", 'SELECT * FROM "t" WHERE (a = 1)'),
    ('DELETE FROM ONLY "S"."T ""x" AS y WHERE y.a = 1', 'SELECT * FROM ONLY "S"."T ""x" AS "y" WHERE (y.a = 1)'),
    ("DELETE FROM ONLY (t) WHERE a = 1;", 'SELECT * FROM ONLY "t" WHERE (a = 1)'),
    ("DELETE FROM s.t WHERE s.t.a = 1", 'SELECT * FROM "s"."t" WHERE (s.t.a = 1)'),
    ("DELETE FROM t USING u JOIN v USING (i) WHERE t.i = u.i", 'SELECT * FROM "t" WHERE EXISTS (SELECT 1 FROM u JOIN v USING (i) WHERE (t.i = u.i))'),
    ("DELETE FROM t USING u", 'SELECT * FROM "t" WHERE EXISTS (SELECT 1 FROM u)'),
    ("UPDATE t SET a = b IS DISTINCT FROM c FROM u WHERE u.i = t.i", 'SELECT * FROM "t" WHERE EXISTS (SELECT 1 FROM u WHERE (u.i = t.i))'),
    ("UPDATE t SET a = u.from, b = x.distinct FROM u WHERE true", 'SELECT * FROM "t" WHERE EXISTS (SELECT 1 FROM u WHERE (true))'),
    ("UPDATE t SET a = (SELECT 1 FROM u WHERE b), c = CASE WHEN a THEN 1 END WHERE d", 'SELECT * FROM "t" WHERE (d)'),
    ("UPDATE t AS set SET a = 1 WHERE set.a = $2 AND '$1' <> 'x'", 'SELECT * FROM "t" AS "set" WHERE (set.a = $2 AND \'$1\' <> \'x\')'),
    ("WITH q AS (SELECT $1::int) DELETE FROM t WHERE a IN (SELECT * FROM q)", 'WITH q AS (SELECT $1::int) SELECT * FROM "t" WHERE (a IN (SELECT * FROM q))'),
    ("DELETE FROM t WHERE a = 1 -- all\n", 'SELECT * FROM "t" WHERE (a = 1)'),
    ("DELETE FROM t /* of */ WHERE a = /* what? */ 1", 'SELECT * FROM "t" WHERE (a =             1)'),
    (
        "MERGE INTO t USING u ON t.i = u.i WHEN MATCHED AND u.x THEN DO NOTHING WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (1)",
        'SELECT * FROM "t" WHERE EXISTS (SELECT 1 FROM u WHERE (t.i = u.i) AND CASE WHEN (u.x) THEN false WHEN true THEN true ELSE false END)',
    ),
    ("MERGE INTO t USING u ON t.i = u.i WHEN NOT MATCHED THEN INSERT VALUES (1)", 'SELECT * FROM "t" WHERE false'),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "select"), SELECTS)
def test_select_of(statement: str, select: str) -> None:
    (preview,) = previews(statement)
    assert preview.problem == ""
    assert preview.select("*") == select


PROBLEMS = [
    ("DELETE FROM t WHERE CURRENT OF c", "cursor"),
    ("WITH d AS (DELETE FROM u RETURNING *) DELETE FROM t USING d WHERE d.i = t.i", "changes rows as well"),
    ("WITH t AS (SELECT 1) DELETE FROM t", "WITH query"),
    ("DELETE FROM", "grammar"),
    ("DELETE FROM t WHERE a = '\0'", "NUL"),
    ("DELETE FROM t WHERE a = '\ud800'", "text"),
    ("DELETE FROM t WHERE a = " + "(" * 3000 + "1" + ")" * 3000 + " + 1" * 6000, "long"),
]


@pytest.mark.parametrize(("statement", "problem"), PROBLEMS)
def test_there_is_none_for(statement: str, problem: str) -> None:
    (preview,) = previews(statement)
    assert problem in preview.problem
    with pytest.raises(PreviewError):
        preview.select("*")


def test_only_statements_of_the_top_level_have_one() -> None:
    script = (
        "SELECT 1; DELETE FROM a; WITH d AS (DELETE FROM b RETURNING 1) SELECT * FROM d; EXPLAIN ANALYZE DELETE FROM c; UPDATE d SET x = 1"
    )
    assert [(p.statement, p.verb, p.relation.name) for p in previews(script)] == [(1, "DELETE", "a"), (4, "UPDATE", "d")]


def test_rows_can_be_locked_and_the_target_named_otherwise() -> None:
    (preview,) = previews('DELETE FROM "T" WHERE "T".a = 1')
    assert preview.select("1", relation='s."T"', lock=True) == 'SELECT 1 FROM s."T" AS "T" WHERE ("T".a = 1) FOR UPDATE OF "T"'
    (preview,) = previews("UPDATE s.t x SET a = 1")
    assert preview.select("x.*", relation="other.t", lock=True) == 'SELECT x.* FROM other.t AS "x" FOR UPDATE OF "x"'


def test_an_alias_would_hide_what_has_the_schema_in_front() -> None:
    (preview,) = previews("DELETE FROM s.t WHERE s.t.a = 1")
    assert preview.select("1", relation='"s"."t"', lock=True) == 'SELECT 1 FROM "s"."t" WHERE (s.t.a = 1) FOR UPDATE OF "t"'


def test_values_take_the_places_of_parameters_and_stay_values() -> None:
    (preview,) = previews("DELETE FROM t WHERE a = $3 AND b = $1::text AND c = '$2'")
    assert preview.parameters == (1, 3)
    text = preview.select("*", values={1: "x' OR 'a'='a", 3: None})
    assert text == "SELECT * FROM \"t\" WHERE (a =  NULL  AND b =  'x'' OR ''a''=''a' ::text AND c = '$2')"
    assert "E'\\\\'' OR 1=1 --'" in preview.select("*", values={1: "\\' OR 1=1 --", 3: "1"})
    with pytest.raises(PreviewError):
        preview.select("*", values={1: "x"})


def test_a_condition_is_told_from_none() -> None:
    told = {
        p.statement: p.filtered
        for p in previews("DELETE FROM t; DELETE FROM t WHERE a = 1; DELETE FROM t WHERE 1 = 1; UPDATE t SET a = 1 WHERE true")
    }
    assert told == {0: False, 1: True, 2: False, 3: False}
    (merge,) = previews("MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE")
    assert not merge.filtered
    (merge,) = previews("MERGE INTO t USING u ON t.i = u.i WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (1)")
    assert merge.filtered
    assert merge.can_insert


def test_what_the_condition_calls_and_reads() -> None:
    (preview,) = previews(
        "DELETE FROM t USING v x WHERE pg_catalog.lower(a) = s.f(b) AND t.total ~~~ 1 AND EXISTS (SELECT random() FROM s.w)"
    )
    assert preview.functions == ("f", "lower", "random")
    assert preview.operators == ("=", "~~~")
    assert "total" in preview.attributes
    assert preview.reads == (Relation("s", "w"), Relation("", "v"))
    names = names_of_query("WITH a AS (SELECT nextval('q')) SELECT * FROM a, b")
    assert names is not None
    assert names.functions == ("nextval",)
    assert names.reads == (Relation("", "b"),)
    assert names_of_query("SELEC") is None


def test_backslashes_that_mean_something_else_are_left_alone() -> None:
    assert previews("DELETE FROM t WHERE a = 'x\\''", standard_conforming_strings=False)[0].problem
    assert not previews("DELETE FROM t WHERE a = 'x'", standard_conforming_strings=False)[0].problem
