"""pghold check and explain, as a person and a CI job use them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from policy import Context, Engine, Verdict
from proxy.check.checker import check_lines, check_text, sql_files
from proxy.check.psql import split


def pghold(*arguments: str, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "proxy", *arguments], input=stdin, capture_output=True, text=True, timeout=60, check=False, cwd=cwd
    )


def pieces(script: str) -> list[str]:
    return [p.text.strip() for p in split(script)]


DUMP = """\
--
-- PostgreSQL database dump
--
\\restrict abc
SET client_encoding = 'UTF8';
SELECT pg_catalog.set_config('search_path', '', false);
CREATE TABLE public.account (id integer, note text);
COPY public.account (id, note) FROM stdin;
1\tDROP TABLE x;
2\t'it''s; DELETE FROM y
\\.

CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN true THEN 1 ELSE 2 END; SELECT 2; END;
ALTER TABLE ONLY public.account ADD CONSTRAINT account_pkey PRIMARY KEY (id);
\\unrestrict abc
"""


def test_dump_holds_nothing() -> None:
    report = check_text(Engine(), Context(), "dump.sql", DUMP)
    assert report.findings == []
    assert report.errors == []
    assert report.statements == 6


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("SELECT 1; SELECT 2", ["SELECT 1", "SELECT 2"]),
        ("SELECT 1 \\g\nSELECT 2 \\gset\nSELECT 3", ["SELECT 1", "SELECT 2", "SELECT 3"]),
        ("SELECT ';'; SELECT $a$;$a$; SELECT \";\"", ["SELECT ';'", "SELECT $a$;$a$", 'SELECT ";"']),
        ("SELECT E'\\';'; SELECT 2", ["SELECT E'\\';'", "SELECT 2"]),
        ("-- a;\nSELECT 1 /* ; /* ; */ ; */ + 1; SELECT 2", ["-- a;\nSELECT 1 /* ; /* ; */ ; */ + 1", "SELECT 2"]),
        ("\\set x 1\n\\if :x\nSELECT :x, :'x', :\"x\", a::int\n;\n\\endif", ["SELECT  x,  'x',  \"x\", a::int"]),
        ("CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); SELECT 3", ["CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)", "SELECT 3"]),
        ("SELECT 1\\; SELECT 2;", ["SELECT 1 ; SELECT 2"]),
        ("COPY t FROM STDIN;\nDROP\n\\.\nSELECT 1", ["COPY t FROM STDIN", "SELECT 1"]),
        ("SELECT 'unended; DROP TABLE t", ["SELECT 'unended; DROP TABLE t"]),
        ("SELECT a[1:2], x:y", ["SELECT a[1:2], x:y"]),
    ],
)  # fmt: skip
def test_scripts_are_cut_as_psql_cuts_them(script: str, expected: list[str]) -> None:
    assert pieces(script) == expected


def test_places_count_lines_and_characters() -> None:
    report = check_text(Engine(), Context(), "x.sql", "SELECT 'ö';\r\n\n/* ü */ DROP TABLE\n  \"Ä b\";")
    (found,) = report.findings
    assert found.finding.rule_id == "drop-table"
    assert (found.place.line, found.place.column) == (4, 4)
    assert found.source == '  "Ä b";'


def test_file_is_one_session() -> None:
    script = "CREATE TEMP TABLE w (i int);\nDROP TABLE w;\nDROP TABLE w;\nPREPARE p AS DELETE FROM t;\nEXECUTE p;"
    report = check_text(Engine(), Context(), "x.sql", script)
    assert [f.place.line for f in report.findings] == [3, 4, 5]


def test_generated_sql_is_held() -> None:
    report = check_text(Engine(), Context(), "x.sql", "SELECT 'drop table ' || relname FROM pg_class \\gexec\n")
    assert [f.finding.rule_id for f in report.findings] == ["unanalysable"]


def test_lines_are_judged_in_order_and_by_session() -> None:
    lines = [
        {"id": 1, "sql": "CREATE TEMP TABLE w (i int)", "session": "a"},
        {"id": 2, "sql": "DROP TABLE w", "session": "b"},
        {"id": 3, "sql": "DROP TABLE w", "session": "a"},
        {"id": 4, "sql": "BEGIN; CREATE TEMP TABLE v (i int)", "session": "a"},
        {"id": 5, "sql": "ROLLBACK", "session": "a"},
        {"id": 6, "sql": "DROP TABLE v", "session": "a"},
        {"id": 7, "sql": "SELEC 1"},
        {"id": 8, "sql": "SET standard_conforming_strings = off", "session": "c"},
        {"id": 9, "sql": "SELECT 'a\\' , '; DELETE FROM t; --'", "session": "c"},
        {"id": 10, "sql": "SELECT 'a\\' , '; DELETE FROM t; --'"},
    ]
    found = list(check_lines(Engine(), Context, [json.dumps(line) for line in lines]))
    assert [f["id"] for f in found] == list(range(1, 11))
    verdicts = [f["verdict"] for f in found]
    assert verdicts == ["allow", "hold", "allow", "allow", "allow", "hold", "allow", "deny", "hold", "allow"]
    assert [f["id"] for f in found if f["error"]] == [7]


def test_jsonl_on_the_command_line() -> None:
    done = pghold("check", "--format", "jsonl", "-", stdin='{"id": "x", "sql": "TRUNCATE t"}\n{"id": "y", "sql": "SELECT 1"}\n')
    assert done.returncode == 1
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"id": "x", "verdict": "hold", "rules": ["truncate"], "error": None},
        {"id": "y", "verdict": "allow", "rules": [], "error": None},
    ]
    broken = pghold("check", "--format", "jsonl", "-", stdin="not json\n")
    assert broken.returncode == 2
    assert "not a JSON object" in broken.stdout


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    folder = tmp_path / "migrations"
    (folder / "later").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    (folder / "1.sql").write_text("CREATE TABLE account (id int);\n")
    (folder / "2, and more.sql").write_text("-- drop\nDROP TABLE account;\n")
    (folder / "later" / "3.sql").write_text("COPY account TO PROGRAM 'curl x';\n")
    (folder / ".hidden" / "4.sql").write_text("DROP TABLE never;\n")
    (folder / "notes.txt").write_text("DROP TABLE never;\n")
    return folder


def test_folders_are_searched(migrations: Path) -> None:
    assert [p.name for p in sql_files([migrations])] == ["1.sql", "2, and more.sql", "3.sql"]
    with pytest.raises(FileNotFoundError):
        list(sql_files([migrations / "nothing"]))


def test_text_shows_the_words(migrations: Path) -> None:
    done = pghold("check", str(migrations))
    assert done.returncode == 1
    assert ":2:12: hold drop-table: DROP TABLE account" in done.stdout
    assert "     2 | DROP TABLE account;\n" + " " * 9 + " " * 11 + "^" * 7 in done.stdout
    assert "for example: ALTER TABLE account RENAME TO account_dropped" in done.stdout
    assert "3 files, 3 statements: 1 held, 1 denied" in done.stdout


def test_json_and_sarif_and_github(migrations: Path) -> None:
    files = json.loads(pghold("check", "--format", "json", str(migrations)).stdout)["files"]
    assert [f["verdict"] for f in files] == ["allow", "hold", "deny"]
    assert files[1]["findings"][0] | {"hint": ""} == {
        "rule": "drop-table",
        "verdict": "hold",
        "message": "DROP TABLE account",
        "hint": "",
        "suggestion": "ALTER TABLE account RENAME TO account_dropped",
        "relations": ["account"],
        "line": 2,
        "column": 12,
        "end_line": 2,
        "end_column": 19,
    }
    (run,) = json.loads(pghold("check", "--format", "sarif", str(migrations)).stdout)["runs"]
    assert [r["id"] for r in run["tool"]["driver"]["rules"]] == ["copy-program", "drop-table"]
    drop, copy = run["results"]
    assert (drop["ruleId"], drop["ruleIndex"], drop["level"]) == ("drop-table", 1, "warning")
    assert copy["level"] == "error"
    assert drop["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].endswith("2%2C%20and%20more.sql")
    github = pghold("check", "--format", "github", str(migrations)).stdout.splitlines()
    assert github[0].startswith("::error file=")
    assert "2%2C and more.sql,line=2,endLine=2,col=12,endColumn=19,title=pghold drop-table::DROP TABLE account" in github[0]


def test_exit_codes(migrations: Path, tmp_path: Path) -> None:
    assert pghold("check", str(migrations / "1.sql")).returncode == 0
    bad = tmp_path / "bad.sql"
    bad.write_text("DROP TALBE x;")
    done = pghold("check", str(bad))
    assert (done.returncode, "error syntax" in done.stdout) == (2, True)
    assert pghold("check", str(tmp_path / "none.sql")).returncode == 2
    assert pghold("check", "--format", "xml", str(bad)).returncode == 2
    assert pghold("check", "--profile", "lax", str(bad)).returncode == 2
    assert pghold("check").returncode == 2
    latin = tmp_path / "latin.sql"
    latin.write_bytes(b"SELECT '\xe9';")
    assert "not UTF-8" in pghold("check", str(latin)).stderr


def test_profile_and_policy_apply(migrations: Path) -> None:
    file = migrations / "1.sql"
    file.write_text("SELECT mystery(); CREATE INDEX i ON account (id);")
    assert pghold("check", str(file)).returncode == 0
    assert pghold("check", "--profile", "strict", str(file)).returncode == 1
    policy = migrations / "pghold.toml"
    policy.write_text('[[policy.rules]]\nrules = "blocking-*"\naction = "warn"\n')
    done = pghold("check", "--policy", str(policy), str(file))
    assert done.returncode == 0
    assert "warn blocking-index" in done.stdout
    assert "for example: CREATE INDEX CONCURRENTLY i ON account (id)" in done.stdout


def test_explain() -> None:
    done = pghold("explain", "UPDATE shop.account SET balance = 0 WHERE 1 = 1")
    assert done.returncode == 1
    assert "always-true-where" in done.stdout
    assert "writes    shop.account" in done.stdout
    facts = json.loads(pghold("explain", "--json", "SELECT lower(a) FROM t").stdout)
    assert facts["verdict"] == "allow"
    assert facts["statements"][0]["reads"] == ["t"]
    assert facts["statements"][0]["calls"][0]["name"] == "lower"
    assert pghold("explain", "DROP TALBE").returncode == 2


def test_hostile_text_is_made_visible(tmp_path: Path) -> None:
    file = tmp_path / "x.sql"
    file.write_text('DROP TABLE "a\x1b[31m\u202eb";')
    done = pghold("check", str(file))
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout
    assert "<U+202E>" in done.stdout


def test_warning_is_an_allow_in_jsonl() -> None:
    from policy.view import RuleAction, View

    engine = Engine(view=View((RuleAction(("drop-table",), Verdict.WARN),)))
    (found,) = check_lines(engine, Context, ['{"id": 1, "sql": "DROP TABLE t"}'])
    assert (found["verdict"], found["rules"]) == ("allow", ["drop-table"])
