"""Dangerous statements in harmless clothes: whatever they wear, none comes out milder."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy import Context, Engine, Profile, Verdict
from proxy.check.session import SessionJudge

GUARD, STRICT = Engine(), Engine(profile=Profile.STRICT)

ROWS = [
    "DELETE FROM account",
    "UPDATE account SET balance = 0",
    "DELETE FROM account WHERE 1 = 1",
    "DELETE FROM account WHERE id = id",
    "DELETE FROM account WHERE true OR id = 3",
    "UPDATE account SET balance = 0 WHERE id IS NULL OR id IS NOT NULL",
    "DELETE FROM account WHERE EXISTS (SELECT 1)",
    "DELETE FROM account WHERE NOT (false)",
    "DELETE FROM account WHERE 3 IN (1, 2, 3)",
    "DELETE FROM account USING other WHERE other.id = 7",
    "UPDATE account SET balance = 0 FROM other WHERE other.id = 7",
    "MERGE INTO account a USING other o ON a.id = o.id WHEN MATCHED THEN DELETE",
]
SCHEMA = [
    "DROP TABLE account",
    "TRUNCATE account",
    "DROP SCHEMA public CASCADE",
    "ALTER TABLE account DROP COLUMN email",
    "DROP OWNED BY bob",
]
DENIED = [
    "COPY account TO PROGRAM 'x'",
    "COPY account FROM '/etc/passwd'",
    "SET standard_conforming_strings = off",
    "SELECT dblink_exec('x', 'y')",
    "UPDATE pg_catalog.pg_class SET relname = 'x' WHERE oid = 1",
]

RETURNING = st.sampled_from(
    ["WITH d AS ({} RETURNING 1) SELECT count(*) FROM d", "WITH a AS (SELECT 1), d AS ({} RETURNING 1) SELECT * FROM a"]
)
AROUND_ROWS = st.sampled_from(
    ["EXPLAIN ANALYZE {}", "EXPLAIN (COSTS off, ANALYZE true) {}", "PREPARE p AS {}; EXECUTE p", "EXPLAIN (ANALYZE 1, FORMAT json) {}"]
)
AROUND = st.sampled_from(
    [
        "SELECT 1; {}",
        "{}; SELECT 1",
        "BEGIN; {}; COMMIT",
        "BEGIN; {}; ROLLBACK",
        "DO $x$ BEGIN {}; END $x$",
        "DO LANGUAGE plpgsql $x$ DECLARE i int; BEGIN IF now() > '2020-01-01' THEN {}; END IF; END $x$",
        "DO $x$ BEGIN EXECUTE $y${}$y$; END $x$",
        "DO $x$ BEGIN BEGIN {}; EXCEPTION WHEN OTHERS THEN NULL; END; END $x$",
        "DO $x$ BEGIN FOR i IN 1..2 LOOP {}; END LOOP; END $x$",
        "SAVEPOINT a; {}; RELEASE a",
        "/* harmless */ {} -- really",
        "CREATE TEMP TABLE w (i int); {}; DROP TABLE w",
        "BEGIN; CREATE TEMP TABLE account (i int); ROLLBACK; {}",
        "BEGIN; CREATE TEMP TABLE account (i int) ON COMMIT DROP; COMMIT; {}",
        "SET search_path = public, pg_temp; CREATE TEMP TABLE account (i int); {}",
        "CREATE TEMP TABLE account (i int); DO $x$ BEGIN PERFORM 1; END $x$; {}",
        "CREATE TEMP VIEW account AS SELECT * FROM public.account; {}",
        "EXPLAIN CREATE TABLE account AS SELECT 1; {}",
        "PREPARE q AS SELECT 1; {}; DEALLOCATE q",
    ]
)
STORED = st.sampled_from(
    [
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $x${}$x$",
        "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $x$ BEGIN {}; END $x$",
        "CREATE OR REPLACE PROCEDURE f() LANGUAGE plpgsql AS $x$ BEGIN IF true THEN {}; END IF; END $x$",
    ]
)


@st.composite
def spelled(draw: st.DrawFn, statement: str) -> str:
    """The same statement in other letters and with other white space, its strings left alone."""
    words = statement.split(" ")
    out = []
    for word in words:
        changed = word if "'" in word or '"' in word else draw(st.sampled_from([word, word.upper(), word.lower(), word.swapcase()]))
        out.append(changed)
        out.append(draw(st.sampled_from([" ", "  ", "\n", "\t", " /**/ ", " /* a /* b */ ; */ ", " -- c\n", "\f", "\r\n"])))
    return "".join(out).strip()


@st.composite
def dressed(draw: st.DrawFn, statements: list[str], clothes: st.SearchStrategy[str], times: int = 2) -> str:
    text = draw(spelled(draw(st.sampled_from(statements))))
    if text.rstrip().endswith("-- c"):
        text += "\n"
    for _ in range(draw(st.integers(0, times))):
        cloth = draw(clothes)
        # One dollar quote inside another needs a tag of its own.
        depth = text.count("$x") + text.count("$y")
        text = cloth.replace("$x$", f"$x{depth}$").replace("$y$", f"$y{depth}$").replace("{}", text)
    return text


def judge(engine: Engine, text: str) -> Verdict:
    return engine.judge(text.encode(), Context()).verdict


@settings(max_examples=400, deadline=None)
@given(dressed(ROWS, AROUND))
def test_changes_of_all_rows(text: str) -> None:
    assert judge(GUARD, text) >= Verdict.HOLD
    assert judge(STRICT, text) >= Verdict.HOLD


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(ROWS[:-1]).flatmap(spelled), RETURNING)
def test_changes_in_a_cte(text: str, cloth: str) -> None:
    assert judge(GUARD, cloth.replace("{}", text)) >= Verdict.HOLD


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(ROWS).flatmap(spelled), AROUND_ROWS)
def test_changes_that_are_explained_or_prepared(text: str, cloth: str) -> None:
    assert judge(GUARD, cloth.replace("{}", text)) >= Verdict.HOLD


@settings(max_examples=300, deadline=None)
@given(dressed(SCHEMA, AROUND))
def test_schema(text: str) -> None:
    assert judge(GUARD, text) >= Verdict.HOLD


@settings(max_examples=200, deadline=None)
@given(dressed(DENIED, st.sampled_from(["SELECT 1; {}", "BEGIN; {}; COMMIT", "DO $x$ BEGIN {}; END $x$", "/* */ {}"])))
def test_denied_statements(text: str) -> None:
    assert judge(GUARD, text) >= Verdict.HOLD
    if "DO" not in text.upper():
        assert judge(GUARD, text) is Verdict.DENY
        assert judge(STRICT, text) is Verdict.DENY


@settings(max_examples=200, deadline=None)
@given(dressed([*ROWS, *SCHEMA], STORED, times=1).filter(lambda t: "CREATE" in t))
def test_stored_code(text: str) -> None:
    assert judge(GUARD, text) >= Verdict.HOLD


ENCODINGS = ["SJIS", "SHIFT_JIS_2004", "BIG5", "GBK", "GB18030", "UHC", "JOHAB"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=60, deadline=None)
@given(lead=st.integers(0x81, 0xFE), trail=st.sampled_from([0x5C, 0x27, 0x40, 0x7C]), statement=st.sampled_from(ROWS[:3] + SCHEMA[:2]))
def test_bytes_that_swallow_a_quote(encoding: str, lead: int, trail: int, statement: str) -> None:
    """Whichever way the two bytes are read, a string that ends there lets the statement run, and one that does not is no reason to let
    the text pass unless the server reads it so, too."""
    script = b"SELECT E'" + bytes([lead, trail]) + b"'; " + statement.encode() + b"; --'"
    judgement = GUARD.judge(script, Context(client_encoding=encoding))
    codec = {"SJIS": "cp932", "BIG5": "cp950", "UHC": "cp949"}.get(encoding, encoding.lower())
    try:
        text = script.decode(codec)
    except UnicodeDecodeError:
        assert judgement.verdict >= Verdict.HOLD
        return
    # Two bytes became one character: the quote behind them ends the string.
    if len(text) == len(script) - 1:
        assert judgement.verdict >= Verdict.HOLD


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([*ROWS, *SCHEMA]))
def test_strings_that_end_elsewhere_when_backslashes_escape(statement: str) -> None:
    session = SessionJudge(GUARD, Context(standard_conforming_strings=False))
    assert session.judge(f"SELECT 'a\\' , '; {statement}; --'".encode()).verdict >= Verdict.HOLD


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["CREATE TEMP TABLE account (i int)", "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT a", "ROLLBACK TO a",
    "DROP TABLE account", "ALTER TABLE account RENAME TO b", "ALTER TABLE b RENAME TO account", "DISCARD TEMP", "SELECT 1",
    "CREATE TEMP TABLE account (i int) ON COMMIT DROP", "CREATE TABLE account (i int)"]), max_size=9))  # fmt: skip
def test_temporary_tables_are_never_believed_in_for_too_long(statements: list[str]) -> None:
    """Against a model of the server: what is judged harmless drops nothing but a temporary table."""
    session = SessionJudge(GUARD, Context())
    temp, committed, saved = set[str](), set[str](), None
    on_commit = set[str]()
    in_transaction = False
    for statement in statements:
        verdict = session.judge(statement.encode()).verdict
        if statement == "BEGIN":
            if not in_transaction:
                in_transaction, committed = True, set(temp)
        elif statement == "COMMIT":
            if in_transaction:
                temp -= on_commit
            in_transaction, saved = False, None
            on_commit.clear()
        elif statement == "ROLLBACK":
            if in_transaction:
                temp = set(committed)
            in_transaction, saved = False, None
            on_commit.clear()
        elif statement == "SAVEPOINT a":
            if not in_transaction:
                return  # an error
            saved = set(temp)
        elif statement == "ROLLBACK TO a":
            if saved is None:
                return
            temp = set(saved)
        elif statement == "DISCARD TEMP":
            temp.clear()
        elif statement.startswith("CREATE TEMP"):
            if "account" in temp:
                return
            temp.add("account")
            if "DROP" in statement:
                on_commit.add("account")
                if not in_transaction:
                    temp.discard("account")
        elif statement == "DROP TABLE account":
            assert verdict >= Verdict.HOLD or "account" in temp
            temp.discard("account")
        elif statement == "ALTER TABLE account RENAME TO b":
            if "account" in temp:
                if "b" in temp:
                    return
                temp.remove("account")
                temp.add("b")
        elif statement == "ALTER TABLE b RENAME TO account" and "b" in temp:
            if "account" in temp:
                return
            temp.remove("b")
            temp.add("account")
