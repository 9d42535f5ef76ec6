"""What statements can destroy: every kind that can be held is classified, and in doubt it is anything."""

from __future__ import annotations

import pytest

from policy.context import Context
from policy.engine import Engine
from policy.extract.schema import _MILDER_LOCKS
from policy.judgement import StatementReport
from policy.losses import _ADDS, _REDEFINES, Lost, losses_of
from policy.rules import ALL_RULES
from policy.verdict import Profile

ENGINE = Engine()
STRICT = Engine(profile=Profile.STRICT)


def losses(sql: str) -> list[tuple[Lost, tuple[str, ...]]]:
    return [(x.what, x.names) for x in losses_of(sql, ENGINE.judge(sql.encode(), Context())) if x.what is not Lost.NOTHING]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("DROP TABLE a, s.b CASCADE", [(Lost.TABLES, ("a", "s.b"))]),
        ('DROP TABLE "Cards", "a""b"', [(Lost.TABLES, ('"Cards"', '"a""b"'))]),
        ("DROP SCHEMA a CASCADE", [(Lost.SCHEMAS, ("a",))]),
        ("DROP SCHEMA a", [(Lost.DEFINITIONS, ("a",))]),
        ("DROP DATABASE shop", [(Lost.DATABASE, ("shop",))]),
        ("TRUNCATE a CASCADE", [(Lost.CONTENT, ("a",))]),
        ("DELETE FROM a", [(Lost.CONTENT, ("a",))]),
        ("DELETE FROM a WHERE true", [(Lost.CONTENT, ("a",))]),
        ("DELETE FROM a WHERE id = 1", [(Lost.ROWS, ("a",))]),
        ("DELETE FROM a WHERE false", []),
        ("EXPLAIN ANALYZE DELETE FROM a", [(Lost.CONTENT, ("a",))]),
        ("EXPLAIN DELETE FROM a", []),
        ("WITH d AS (DELETE FROM a RETURNING 1) SELECT 1", [(Lost.CONTENT, ("a",))]),
        ("MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN DELETE", [(Lost.CONTENT, ("a",))]),
        ("MERGE INTO a USING b ON a.id = b.id WHEN NOT MATCHED THEN INSERT VALUES (1)", []),
        ("INSERT INTO a VALUES (1)", []),
        ("INSERT INTO a VALUES (1) ON CONFLICT (id) DO UPDATE SET x = 1", [(Lost.CONTENT, ("a",))]),
        ("INSERT INTO a SELECT * FROM b ON CONFLICT (id) DO UPDATE SET x = 1", [(Lost.CONTENT, ("a",))]),
        ("ALTER TABLE a DROP COLUMN b", [(Lost.CONTENT, ("a",))]),
        ("ALTER TABLE a ALTER b TYPE int", [(Lost.CONTENT, ("a",))]),
        ("ALTER TABLE a ALTER b SET EXPRESSION AS (1)", [(Lost.CONTENT, ("a",))]),
        ("ALTER TABLE a ADD b int", []),
        ("ALTER TABLE a DROP CONSTRAINT b", [(Lost.DEFINITIONS, ("a",))]),
        ("DROP TYPE t CASCADE", [(Lost.OBJECTS, ("t",))]),
        ("DROP TYPE t", [(Lost.DEFINITIONS, ("t",))]),
        ("DROP EXTENSION hstore", [(Lost.OBJECTS, ("hstore",))]),
        ("DROP OWNED BY app", [(Lost.UNKNOWN, ("app",))]),
        ("CREATE OR REPLACE VIEW v AS SELECT 1", [(Lost.DEFINITIONS, ("v",))]),
        ("SELECT lo_unlink(1)", [(Lost.LARGE_OBJECTS, ())]),
        ("SELECT setval('s', 1)", [(Lost.DEFINITIONS, ())]),
        ("SELECT lower('A'), count(*) FROM a", []),
        ("SELECT mystery(1)", [(Lost.CALLS, ("mystery",))]),
        ("REFRESH MATERIALIZED VIEW m", []),
        ("VACUUM FULL a", []),
        ("GRANT SELECT ON a TO b", []),
        ("COPY a FROM STDIN", []),
        ("COPY a TO PROGRAM 'x'", [(Lost.UNKNOWN, ())]),
    ],
)
def test_losses(sql: str, expected: list[tuple[Lost, tuple[str, ...]]]) -> None:
    judgement = STRICT.judge(sql.encode(), Context())
    if not judgement.statements:  # passed at a glance
        judgement = Engine(profile=Profile.STRICT, rules=()).judge(sql.encode(), Context())
    assert [(x.what, x.names) for x in losses_of(sql, judgement) if x.what is not Lost.NOTHING] == expected


#: Rules whose examples destroy nothing that is in the database.
HARMLESS = frozenset(
    [
        "alter-system",
        "blocking-constraint",
        "blocking-index",
        "blocking-maintenance",
        "dangerous-persisted-setting",
        "dangerous-setting",
        "dangerous-stored-code",
        "detach-partition",
        "extension",
        "foreign-data",
        "guard-setting",
        "load-library",
        "lock-table",
        "opaque-stored-code",
        "parser-setting",
        "persisted-setting",
        "privilege-change",
        "privilege-escalation",
        "protection-disabled",
        "reassign-owned",
        "rename",
        "replication-change",
        "risky-extension",
        "server-state",
        "set-role",
        "set-unlogged",
        "stored-code",
        "table-rewrite",
        "text-encoding",
        "two-phase-commit",
        "untrusted-language",
        "drop-role",
        "drop-database",
        "dangerous-prepared-statement",
        "server-file",
        "read-only",
        "protected-relation",
        "unproven",
        "session-function",
        "unknown-function",
    ]
)


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda r: r.id)
def test_every_rule_s_examples_lose_something_or_are_known_to_lose_nothing(rule: object) -> None:
    for example in rule.triggers:  # type: ignore[attr-defined]
        judgement = STRICT.judge(example.script.encode(), Context())
        found = losses_of(example.script, judgement)
        assert found, example.script
        if all(x.what is Lost.NOTHING for x in found):
            assert rule.id in HARMLESS, example.script  # type: ignore[attr-defined]
        if rule.id in ("drop-table", "truncate", "delete-without-where", "update-without-where", "drop-schema"):  # type: ignore[attr-defined]
            assert any(x.what not in (Lost.NOTHING, Lost.UNKNOWN) for x in found), example.script


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABL a",
        "DO $$ BEGIN NULL; END $$",
        "CALL p()",
        "EXECUTE p",
        "COMMIT PREPARED 'x'",
        "ALTER EXTENSION hstore UPDATE",
        "DELETE FROM pg_class WHERE oid = 1",
        "SELECT dblink_exec('', '')",
        "SELECT query_to_xml('SELECT 1', true, false, '')",
        "ALTER TABLE a RENAME TO b; DROP TABLE b",
        "SET search_path = x; DROP TABLE b",
        "ALTER TABLE a SET SCHEMA s; DROP SCHEMA s CASCADE",
        "CREATE VIEW v AS SELECT * FROM a; DELETE FROM v",
        "ALTER TABLE a INHERIT b; TRUNCATE b",
        "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'DELETE FROM a RETURNING 1'; DELETE FROM b WHERE x = 1",
    ],
)
def test_in_doubt_it_is_anything(sql: str) -> None:
    assert Lost.UNKNOWN in {what for what, _ in losses(sql)}


def test_a_script_that_reads_otherwise_than_it_was_judged_may_destroy_anything() -> None:
    judgement = ENGINE.judge(b"DROP TABLE a", Context())
    assert [x.what for x in losses_of("DROP TABLE b", judgement)] == [Lost.UNKNOWN]
    assert [x.what for x in losses_of("SELECT 1", judgement)] == [Lost.UNKNOWN]
    # Backslashes hide a statement where the session reads strings in the old way.
    script = r"SELECT 'a\' , '; DROP TABLE a; --'"
    other = ENGINE.judge(script.encode(), Context(standard_conforming_strings=False))
    assert [x.what for x in losses_of(script, other)] == [Lost.UNKNOWN]


def test_a_function_call_by_number_is_no_empty_script() -> None:
    assert [x.what for x in losses_of("-- FunctionCall lo_unlink()", ENGINE.judge_function_call(964, Context()))] == [Lost.LARGE_OBJECTS]
    assert [x.what for x in losses_of("-- FunctionCall of OID 5", ENGINE.judge_function_call(5, Context()))] == [Lost.UNKNOWN]


def test_statements_of_unknown_kinds_may_destroy_anything() -> None:
    judgement = ENGINE.judge(b"SELECT 1; DROP TABLE a", Context())
    assert isinstance(judgement.statements[0], StatementReport)
    assert [x.what for x in losses_of("SELECT 1; DROP TABLE a", judgement)] == [Lost.NOTHING, Lost.TABLES]


def test_actions_of_alter_table_that_take_rows_away_are_in_no_list_of_harmless_ones() -> None:
    assert not {"DropColumn", "AlterColumnType", "SetExpression"} & (_ADDS | _REDEFINES)
    # Those that the extraction knows to lock less than everything take no rows away.
    assert set(_MILDER_LOCKS) <= _ADDS | _REDEFINES
