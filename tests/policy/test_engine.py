"""The engine as a whole: decoding, caching, failing closed, and disguises."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy import Context, Engine, Finding, Judgement, Profile, Verdict
from policy.engine import parse_options
from policy.facts import Facts
from policy.judgement import CreatesTemp, ForgetsTemp, Prepares, TransactionStep
from policy.rule import Rule
from policy.shape import shape
from policy.view import RuleAction, View

ENGINE = Engine()


def judge(script: str | bytes, **context: object) -> Judgement:
    data = script if isinstance(script, bytes) else script.encode()
    return Engine().judge(data, Context(**context))  # type: ignore[arg-type]


HELD = [
    "DELETE FROM t",
    "delete/**/from t;",
    "/* /* nested */ */ DELETE FROM t",
    "SELECT 1; DELETE FROM t; SELECT 2",
    "WITH a AS (WITH b AS (DELETE FROM t RETURNING 1) SELECT * FROM b) SELECT * FROM a",
    "EXPLAIN (ANALYZE, VERBOSE) DELETE FROM t",
    "EXPLAIN (ANALYZE true) UPDATE t SET a = 1",
    "COPY (DELETE FROM t RETURNING *) TO STDOUT",
    "PREPARE p AS DELETE FROM t",
    "PREPARE p AS DELETE FROM t; EXECUTE p",
    'DELETE FROM U&"\\0074"',
    "DO 'BEGIN DELETE FROM t; END'",
    "DO $x$ BEGIN EXECUTE 'DELETE ' || 'FROM t'; END $x$",
    "DO $x$ DECLARE r record; BEGIN FOR r IN DELETE FROM t RETURNING id LOOP NULL; END LOOP; END $x$",
    "CREATE TABLE c AS EXECUTE mystery",
    "DO $x$ DECLARE c refcursor; BEGIN OPEN c FOR EXECUTE 'DELETE FROM ' || 't RETURNING 1'; END $x$",
    "DO $x$ DECLARE n int := lo_unlink(5); BEGIN n := 1; END $x$",
    "DELETE FROM t WHERE (((true)))",
    "DELETE FROM t WHERE a IS NULL OR a IS NOT NULL",
    "DELETE FROM t WHERE 'a' = 'a' AND 2 > 1",
    "DELETE FROM t WHERE 't'::bool",
    "DELETE FROM t WHERE CASE WHEN true THEN true ELSE false END",
    "CREATE SCHEMA s CREATE TABLE x (i int); DROP SCHEMA s",
    "ALTER TABLE ONLY t DROP IF EXISTS c CASCADE",
    "DROP TABLE pg_temp.a, b",
    "CREATE TEMP TABLE a (i int); ALTER TABLE a RENAME TO b; DROP TABLE a",
    "CREATE TEMP TABLE a (i int); SET search_path = public, pg_temp; DROP TABLE a",
    "CREATE TEMP TABLE a (i int); DO $$ BEGIN PERFORM 1; END $$; DROP TABLE a",
    "SELECT set_config(name, 'off', false) FROM pg_settings WHERE name = 'standard_conforming_strings'",
    "SELECT set_config(name, 'off', false) FROM pg_settings WHERE name LIKE 'standard_%'",
    "\x00SELECT 1",
    "SELECT 1\x00; DROP TABLE t",
]

ALLOWED = [
    "",
    ";",
    "SELECT 1",
    "EXPLAIN DELETE FROM t",
    "EXPLAIN (ANALYZE false) DELETE FROM t",
    "SELECT 'DELETE FROM t'",
    "SELECT $$DROP TABLE t$$",
    "-- DROP TABLE t\nSELECT 1",
    'SELECT "drop table" FROM t',
    "DELETE FROM t WHERE id = 1",
    "DELETE FROM t WHERE CURRENT OF c",
    "UPDATE t SET a = a + 1 WHERE id IN (SELECT id FROM u)",
    "INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING",
    "CREATE INDEX CONCURRENTLY i ON t (a)",
    "CREATE TEMP TABLE a (i int) ON COMMIT DROP; DELETE FROM a; DROP TABLE a",
    "SELECT * INTO TEMP x FROM t; TRUNCATE x",
    "LISTEN c",
    "BEGIN READ ONLY",
    "SELECT nextval('s')",
    "SELEC 1",
    "GRANT SELECT ON t TO bob",
    "SELECT set_config(name, 'view', false) FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind'",
]


@pytest.mark.parametrize("script", HELD)
def test_dangerous_script_is_held(script: str) -> None:
    assert judge(script).verdict >= Verdict.HOLD


@pytest.mark.parametrize("script", ALLOWED)
def test_harmless_script_passes(script: str) -> None:
    judgement = judge(script)
    assert judgement.verdict is Verdict.ALLOW, judgement.findings


WRAPPERS = [
    "{}",
    "  \t\n{} ;",
    "/* c */ {} -- end",
    "SELECT 1; {}",
    "BEGIN; {}; COMMIT",
    "PREPARE p AS {}",
    "EXPLAIN ANALYZE {}",
    "WITH w AS ({} RETURNING 1) SELECT * FROM w",
    "COPY ({} RETURNING 1) TO STDOUT",
    "DO $d$ BEGIN {}; END $d$",
    "DO $d$ BEGIN IF true THEN {}; END IF; END $d$",
    "DO $d$ BEGIN EXECUTE $e${}$e$; END $d$",
]


@pytest.mark.parametrize("change", ["DELETE FROM t", "UPDATE t SET a = 1", "DELETE FROM t WHERE 1 = 1", "UPDATE t SET a = 1 WHERE id = id"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_no_disguise_makes_it_milder(change: str, wrapper: str) -> None:
    for script in (wrapper.format(change), wrapper.format(change.lower()), wrapper.format(change.replace(" ", "/**/ "))):
        assert judge(script).verdict >= Verdict.HOLD, script


def test_undecodable_text_is_held() -> None:
    assert judge(b"SELECT '\xff'").verdict is Verdict.HOLD
    assert judge(b"SELECT 1", client_encoding="KLINGON").verdict is Verdict.ALLOW
    assert judge(b"SELECT '\xe9'", client_encoding="KLINGON").verdict is Verdict.HOLD
    assert judge(b"SELECT '\xe9'", client_encoding="LATIN1").verdict is Verdict.ALLOW


def test_text_is_read_in_the_encoding_the_server_reads_it_in() -> None:
    # In SJIS 0x81 0x5C is one character: the string ends at the next quote, and what follows runs.
    script = b"SELECT E'\x81\x5c'; DELETE FROM t; --'"
    assert judge(script, client_encoding="SJIS").verdict is Verdict.HOLD


def test_nonstandard_strings_are_parsed_as_such() -> None:
    script = "SELECT '\\' || '; DELETE FROM t; --'"
    assert judge(script).verdict is Verdict.ALLOW
    script = "SELECT 'a\\' , '; DELETE FROM t; --'"
    assert judge(script, standard_conforming_strings=False).verdict is Verdict.HOLD
    assert ENGINE.settled(script.encode(), Context(standard_conforming_strings=False)) is None


class Broken(Rule):
    """Raises."""

    looks_at = ("statements",)

    id = "broken"
    triggers = ()
    passes = ()

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        raise ZeroDivisionError
        yield


def test_rule_that_raises_holds() -> None:
    engine = Engine(rules=(Broken(),), profile=Profile.STRICT)
    judgement = engine.judge(b"SELECT 1", Context())
    assert judgement.verdict is Verdict.HOLD
    assert "ZeroDivisionError" in judgement.findings[0].message


@pytest.mark.parametrize(
    "script",
    [
        b"SELECT " + b"1+" * 30000 + b"1",
        b"SELECT '" + b"a" * 5000 + b"' || f(1,2)" + b"+f(1,2)" * 30000,
        b"SELECT " + b"1 -- '\n+" * 30000 + b"1",
        b"SELECT 1" + b"::int" * 30000,
        b"SELECT $a$ ' $a$" + b"+1" * 30000,
        b"/*" * 20000 + b"*/" * 20000 + b" SELECT 1",
        b"SELECT 1 " + b"UNION SELECT 1 " * 30000,
        b"SELECT * FROM a" + b" NATURAL JOIN a" * 30000,
    ],
    ids=["chain", "commas", "comment", "casts", "dollar", "comments", "union", "joins"],
)
def test_text_that_would_break_the_parser_is_held(script: bytes) -> None:
    assert Engine().judge(script, Context()).verdict is Verdict.HOLD


@pytest.mark.parametrize(
    "script",
    [
        b"SELECT " + b"(" * 20000 + b"1" + b")" * 20000,
        b"SELECT " + b"NOT " * 30000 + b"true",
        b"SELECT " + b"f(" * 20000 + b")" * 20000,
        b"SELECT " + b"ARRAY[" * 20000 + b"]" * 20000,
        b"SELECT " + b"CASE WHEN true THEN " * 20000 + b"1" + b" END" * 20000,
        b"SELECT " + b"(SELECT " * 3000 + b"1" + b")" * 3000,
        b"DELETE FROM t WHERE " + b"(" * 2000 + b"id = 1" + b")" * 2000,
        b"DELETE FROM t WHERE " + b"NOT " * 2000 + b"id = 1",
        b"SELECT " + b"- " * 20000 + b"1",
    ],
    ids=["parentheses", "not", "calls", "arrays", "case", "selects", "where", "where not", "minus"],
)
def test_text_that_nests_deep_does_no_harm(script: bytes) -> None:
    Engine().judge(script, Context())
    Engine(profile=Profile.STRICT).judge(script, Context())


def test_large_but_flat_text_is_judged() -> None:
    assert Engine().judge(b"SELECT '" + b"x" * (8 << 20) + b"'", Context()).verdict is Verdict.ALLOW
    rows = b",".join(b"(%d,'a-b/c')" % i for i in range(100_000))
    assert Engine().judge(b"INSERT INTO t VALUES " + rows, Context()).verdict is Verdict.ALLOW


def test_cache_serves_exact_bytes_and_never_what_rests_on_the_session() -> None:
    engine = Engine()
    context = Context()
    assert engine.settled(b"SELECT 1", context) is None
    engine.judge(b"SELECT 1", context)
    assert engine.settled(b"SELECT 1", context) is not None
    engine.judge(b"DROP TABLE t", Context(temp_relations=frozenset({"t"})))
    assert engine.settled(b"DROP TABLE t", context) is None


def judge_as_sessions_do(engine: Engine, script: bytes) -> Judgement:
    return engine.settled(script, Context()) or engine.judge(script, Context())


def test_cache_serves_the_same_script_with_other_constants() -> None:
    engine = Engine()
    judge_as_sessions_do(engine, b"SELECT a FROM t WHERE id = 1 AND name = 'x'")
    assert engine.settled(b"SELECT a FROM t WHERE id = 27 AND name = 'other ''one'", Context()) is not None
    judge_as_sessions_do(engine, b"DELETE FROM t WHERE id = 1")
    assert engine.settled(b"DELETE FROM t WHERE id = 2", Context()) is not None
    judge_as_sessions_do(engine, b"DELETE FROM t WHERE 1 = 2")
    assert engine.settled(b"DELETE FROM t WHERE 1 = 1", Context()) is None
    judge_as_sessions_do(engine, b"DELETE FROM t WHERE name >= 'x'")
    assert engine.settled(b"DELETE FROM t WHERE name >= ''", Context()) is None


@pytest.mark.parametrize(
    "script",
    [
        b'SELECT " 1 " FROM t',
        b"SELECT \" 'a\" ,' b '\" '",
        b"SELECT E'a' , 'b'",
        b"SELECT U&\"lo!005funlink\" UESCAPE '#' (5)",
        b"INSERT INTO u&\"pg!005fclass\" UESCAPE '#' VALUES (1)",
        b"SELECT 1 -- '",
        b"SELECT $a$ 1 $a$",
        b"SELECT a ? 'b'",
        b"SELECT 'a\\' , 1",
        b"SELECT U&'a' , 1",
        b"SELECT 1 /* 2 */",
        "SELECT 1 AS é".encode(),
        b"SELECT 'a",
    ],
)
def test_script_whose_tokens_are_not_certain_has_no_shape(script: bytes) -> None:
    assert shape(script) is None


FRAGMENTS = st.sampled_from(
    ["id", "1", "2", "'a'", "'b'", "''", "true", "name", "= ", " AND ", " OR ", " WHERE ", "DELETE FROM t", "SELECT ", "UPDATE t SET a = 1",
     ", ", "(", ")", " IN ", " LIKE ", "'%'", "E'x'", "U&'x'", "$1", "--", "/*", "*/", ";", "'", '"', "\\", "x'1'", " LIMIT ", "set_config"]
)  # fmt: skip


@given(st.lists(FRAGMENTS, max_size=14).map("".join), st.lists(FRAGMENTS, max_size=14).map("".join))
def test_scripts_of_one_shape_are_judged_alike(first: str, second: str) -> None:
    one, two = first.encode(), second.encode()
    if shape(one) is None or shape(one) != shape(two):
        return
    a, b = Engine().judge(one, Context()), Engine().judge(two, Context())
    if a.literal_free or b.literal_free:
        assert a.verdict == b.verdict


@given(st.binary(max_size=200))
def test_no_bytes_make_it_raise(script: bytes) -> None:
    Engine().judge(script, Context())
    Engine().judge(script, Context(client_encoding="GBK", standard_conforming_strings=False))


def test_effects_are_reported() -> None:
    statements = judge("BEGIN; CREATE TEMP TABLE w (i int); DROP TABLE w; PREPARE p AS SELECT 1; ROLLBACK").statements
    assert statements[0].transaction is TransactionStep.BEGIN
    assert statements[1].effects == (CreatesTemp("w"),)
    assert statements[2].effects == (ForgetsTemp("w"),)
    assert isinstance(statements[3].effects[0], Prepares)
    assert judge("ROLLBACK").only_rolls_back
    assert not judge("ROLLBACK; DROP TABLE t").only_rolls_back


def test_prepared_names_are_looked_up_in_the_session() -> None:
    wipe = judge("DELETE FROM t")
    harmless = judge("SELECT 1")
    assert judge("EXECUTE p", prepared={"p": (harmless,)}).verdict is Verdict.ALLOW
    assert judge("EXECUTE p", prepared={"p": (harmless, wipe)}).verdict is Verdict.HOLD
    assert judge("EXPLAIN ANALYZE EXECUTE p", prepared={"p": (wipe,)}).verdict is Verdict.HOLD


def test_passwords_are_masked() -> None:
    for script in (
        "ALTER ROLE bob PASSWORD 'secret'",
        "ALTER ROLE bob PASSWORD $x$secret$x$",
        "ALTER ROEL bob DROP PASSWORD 'secret'",
    ):
        judgement = Engine(profile=Profile.STRICT).judge(script.encode(), Context())
        assert "secret" not in judgement.display
        assert judgement.display


def test_spans_count_characters() -> None:
    script = "SELECT 'äöü'; DELETE FROM t"
    start, end = judge(script).statements[1].span
    assert script[start:end].strip() == "DELETE FROM t"


def test_function_calls_are_judged_by_oid() -> None:
    assert ENGINE.judge_function_call(952, Context()).verdict is Verdict.ALLOW
    assert ENGINE.judge_function_call(964, Context()).verdict is Verdict.HOLD
    assert ENGINE.judge_function_call(99999, Context()).verdict is Verdict.DENY


def test_startup_settings_are_judged_like_set() -> None:
    ok = {"user": "a", "application_name": "x", "options": "-c search_path=a,b --statement-timeout=5"}
    assert ENGINE.judge_startup(ok, Context()).verdict is Verdict.ALLOW
    for bad in (
        {"standard_conforming_strings": "off"},
        {"options": "-c standard_conforming_strings=off"},
        {"client_encoding": "SJIS"},
        {"options": "-O"},
        {"options": "-Oc search_path=a"},
        {"options": "-cstandard-conforming-strings=off"},
        {"Standard_Conforming_Strings": "off"},
    ):
        assert ENGINE.judge_startup(bad, Context()).verdict >= Verdict.HOLD


def test_options_are_split_as_the_server_splits_them() -> None:
    assert parse_options(r"-c a=b\ c -cd=e --f-g=h -x") == {"a": "b c", "d": "e", "f_g": "h", "": "-x"}


@pytest.mark.parametrize(
    ("script", "verdict"),
    [
        ("SELECT 1 WHERE 1 NOT /* c */ IN (2)", Verdict.ALLOW),
        ("CREATE TABLE U&\"d!0061t\" /* ; DROP TABLE x */ UESCAPE '!' (i int)", Verdict.ALLOW),
        ("DELETE FROM t WHERE 1 NOT /* c */ IN (2)", Verdict.HOLD),
        ("DROP TABLE U&\"d!0061t\" -- c\n UESCAPE '!'", Verdict.HOLD),
        ("SELECT '/*' NOT /**/ IN ('a'); DROP TABLE t; -- */", Verdict.HOLD),
    ],
)
def test_comment_between_two_tokens_that_are_read_as_one(script: str, verdict: Verdict) -> None:
    assert judge(script).verdict is verdict


@pytest.mark.parametrize(
    ("script", "values", "verdict"),
    [
        ("DELETE FROM t WHERE name LIKE $1", (b"a%",), Verdict.ALLOW),
        ("DELETE FROM t WHERE name LIKE $1", (b"%",), Verdict.HOLD),
        ("DELETE FROM t WHERE name LIKE $1", (None,), Verdict.ALLOW),
        ("DELETE FROM t WHERE name ~ $2", (b"", b".*"), Verdict.HOLD),
        ("UPDATE t SET a = 1 WHERE name >= $1", (b"",), Verdict.HOLD),
        ("DELETE FROM t WHERE id = 7 AND name LIKE $1", (b"%",), Verdict.ALLOW),
        ("DELETE FROM t WHERE $1 = $2", (b"01", b"1"), Verdict.HOLD),
        ("DELETE FROM t WHERE $1", (b"f",), Verdict.HOLD),
        ("DELETE FROM t WHERE name LIKE $9", (b"%",), Verdict.ALLOW),
    ],
)
def test_values_of_parameters_may_make_it_stricter(script: str, values: tuple[bytes | None, ...], verdict: Verdict) -> None:
    assert ENGINE.judge_bound(script.encode(), Context(), values).verdict is verdict


def test_only_statements_that_a_value_can_open_want_values() -> None:
    assert judge("DELETE FROM t WHERE name LIKE $1").wants_values
    assert not judge("DELETE FROM t WHERE name LIKE $1").plain
    assert not judge("DELETE FROM t WHERE id = $1 AND name = $2").wants_values
    assert judge("DELETE FROM t WHERE id = $1").plain


def test_not_null_columns_make_a_null_test_a_tautology() -> None:
    known = frozenset({("account", "id"), ("other", "name")})
    assert judge("DELETE FROM account WHERE id IS NOT NULL").verdict is Verdict.ALLOW
    assert judge("DELETE FROM account WHERE id IS NOT NULL", not_null=known).verdict is Verdict.HOLD
    assert judge("DELETE FROM account WHERE name IS NOT NULL", not_null=known).verdict is Verdict.ALLOW
    assert judge("UPDATE account SET a = 1 WHERE name = 'x' OR id IS NOT NULL", not_null=known).verdict is Verdict.HOLD
    engine = Engine()
    engine.judge(b"DELETE FROM account WHERE id IS NOT NULL", Context())
    assert engine.settled(b"DELETE FROM account WHERE id IS NOT NULL", Context(not_null=known)) is None


@pytest.mark.parametrize(
    ("action", "expected"), [(Verdict.DENY, Verdict.DENY), (Verdict.WARN, Verdict.WARN), (Verdict.ALLOW, Verdict.WARN)]
)
def test_policy_decides_about_what_cannot_be_analysed(action: Verdict, expected: Verdict) -> None:
    engine = Engine(view=View((RuleAction(("unanalysable",), action, reason="because"),)))
    for script in (b"DROP TALBE x", b"SELECT '\xff'"):
        assert engine.judge(script, Context()).verdict is expected


@pytest.mark.parametrize(
    "script",
    [
        "UPDATE t SET a = 0 -- only the test tenant",
        "UPDATE t SET a = 0 -- WHERE tenant = 7",
    ],
)
def test_a_suggestion_is_not_swallowed_by_a_comment_at_the_end(script: str) -> None:
    judgement = Engine(profile=Profile.STRICT).judge(script.encode(), Context(profile=Profile.STRICT))
    suggestions = [f.suggestion for f in judgement.findings if f.suggestion]
    assert suggestions
    for suggestion in suggestions:
        added = suggestion.rpartition("\n")[2]
        assert added == "WHERE id = …", suggestion
