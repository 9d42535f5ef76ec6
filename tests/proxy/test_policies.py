"""The policy file: what it says, what it refuses to say, and whom it applies to."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from policy import Context, Environment, Profile, Verdict
from policy.view import matches
from proxy.config import load, load_policies, read_policy
from proxy.errors import ConfigError
from proxy.policies import Identity, Policies, PolicyFile

ANA = Identity("ana", "shop", "psql", "10.1.2.3")


def policies(text: str, tmp_path: Path, now: datetime | None = None, environment: Environment = Environment.PRODUCTION) -> Policies:
    file = tmp_path / "pghold.toml"
    file.write_text(text)
    return Policies(read_policy(file), environment=environment, now=lambda: now or datetime(2026, 11, 24, 12, 0, tzinfo=UTC))


def verdict(found: Policies, script: str, identity: Identity = ANA) -> Verdict:
    return found.engine(identity).judge(script.encode(), Context()).verdict


def rule(action: str, rules: str = "drop-table", more: str = "") -> str:
    return f'[[policy.rules]]\nrules = "{rules}"\naction = "{action}"\nreason = "because"\n{more}\n'


def test_actions(tmp_path: Path) -> None:
    for action, expected in (("allow", Verdict.WARN), ("warn", Verdict.WARN), ("hold", Verdict.HOLD), ("deny", Verdict.DENY)):
        assert verdict(policies(rule(action), tmp_path), "DROP TABLE t") is expected
    assert verdict(policies(rule("deny", "*"), tmp_path), "SELECT 1") is Verdict.ALLOW
    assert verdict(policies(rule("hold", "blocking-index"), tmp_path), "CREATE INDEX i ON t (a)") is Verdict.HOLD
    assert verdict(policies(rule("hold", "rename"), tmp_path), "ALTER TABLE t RENAME TO u") is Verdict.HOLD


def test_allow_carries_its_reason(tmp_path: Path) -> None:
    judgement = policies(rule("allow"), tmp_path).engine(ANA).judge(b"DROP TABLE t", Context())
    assert judgement.findings[0].allowed_because == "because"
    assert not judgement.plain
    both = policies(rule("allow"), tmp_path).engine(ANA).judge(b"DROP TABLE t; TRUNCATE t", Context())
    assert both.verdict is Verdict.HOLD


def test_the_strictest_that_applies_wins(tmp_path: Path) -> None:
    assert verdict(policies(rule("allow") + rule("deny"), tmp_path), "DROP TABLE t") is Verdict.DENY
    assert verdict(policies(rule("deny") + rule("allow", "drop-*"), tmp_path), "DROP TABLE t") is Verdict.DENY
    assert verdict(policies(rule("allow") + rule("warn"), tmp_path), "DROP TABLE t") is Verdict.WARN


@pytest.mark.parametrize(
    ("condition", "applies"),
    [
        ('databases = "shop"', True),
        ('databases = ["test_*", "sh?p"]', True),
        ('databases = "test_*"', False),
        ('roles = "an*"', True),
        ('roles = "bob"', False),
        ('applications = "psql"', True),
        ('applications = "django*"', False),
        ('networks = "10.0.0.0/8"', True),
        ('networks = ["192.168.0.0/16", "local"]', False),
        ('environments = ["production"]', True),
        ('environments = ["test"]', False),
        ('hours = "09:00-17:00"', True),
        ('hours = "13:00-17:00"', False),
        ('hours = "22:00-13:00"', True),
        ('hours = "12:30-14:00"\ntimezone = "Europe/Berlin"', True),
        ('days = ["tue"]', True),
        ('days = ["sat", "sun"]', False),
        ('roles = "ana"\ndatabases = "other"', False),
        ('groups = "people"', True),
        ('groups = "robots"', False),
    ],
)  # fmt: skip
def test_conditions(condition: str, applies: bool, tmp_path: Path) -> None:
    groups = '[policy.groups]\npeople = ["ana", "bob"]\nrobots = ["agent_*"]\n'
    found = verdict(policies(groups + rule("deny", more=condition), tmp_path), "DROP TABLE t")
    assert (found is Verdict.DENY) is applies


def test_window_over_midnight_belongs_to_the_day_it_began(tmp_path: Path) -> None:
    text = rule("deny", more='hours = "22:00-06:00"\ndays = ["mon"]')
    monday_night, tuesday_night = datetime(2026, 11, 24, 1, 0, tzinfo=UTC), datetime(2026, 11, 25, 1, 0, tzinfo=UTC)
    assert verdict(policies(text, tmp_path, monday_night), "DROP TABLE t") is Verdict.DENY
    assert verdict(policies(text, tmp_path, tuesday_night), "DROP TABLE t") is Verdict.HOLD


def test_addresses(tmp_path: Path) -> None:
    found = policies(rule("deny", more='networks = ["::1/128", "127.0.0.0/8", "local"]'), tmp_path)
    for address, expected in (
        ("::1", True),
        ("127.9.9.9", True),
        ("::ffff:127.0.0.1", True),
        ("local", True),
        ("8.8.8.8", False),
        ("", False),
    ):
        assert (verdict(found, "DROP TABLE t", Identity("a", "b", "", address)) is Verdict.DENY) is expected


def test_relations(tmp_path: Path) -> None:
    milder = policies(rule("allow", more='relations = ["tmp_*", "work.*"]'), tmp_path)
    assert verdict(milder, "DROP TABLE tmp_1") is Verdict.WARN
    assert verdict(milder, "DROP TABLE work.x, tmp_2") is Verdict.WARN
    assert verdict(milder, "DROP TABLE tmp_1, account") is Verdict.HOLD
    assert verdict(milder, "DROP TABLE other.account") is Verdict.HOLD
    assert verdict(milder, "DROP TABLE account") is Verdict.HOLD, "nobody knows that it is in work"
    stricter = policies(rule("deny", more='relations = "billing.*"'), tmp_path)
    assert verdict(stricter, "DROP TABLE account, billing.invoice") is Verdict.DENY
    assert verdict(stricter, "DROP TABLE account") is Verdict.DENY, "billing may be in the search_path"
    assert verdict(stricter, "DROP TABLE shop.account") is Verdict.HOLD


def test_names_without_a_schema() -> None:
    assert matches('"Users"', ["Users"])
    assert not matches("users", ["Users"])
    assert matches("public.users", ["users"])
    assert not matches("public.users", ["private.users"])


def test_rows_that_are_not_known_never_make_it_milder(tmp_path: Path) -> None:
    assert verdict(policies(rule("allow", more="rows_over = 10"), tmp_path), "DROP TABLE t") is Verdict.HOLD
    assert verdict(policies(rule("deny", more="rows_over = 10"), tmp_path), "DROP TABLE t") is Verdict.DENY


def test_protected_relations(tmp_path: Path) -> None:
    found = policies('[policy]\nprotected = ["billing.*"]', tmp_path)
    assert verdict(found, "UPDATE billing.invoice SET a = 1 WHERE id = 1") is Verdict.HOLD
    assert verdict(found, "INSERT INTO billing.invoice VALUES (1)") is Verdict.HOLD
    assert verdict(found, "DO $$ BEGIN INSERT INTO billing.invoice VALUES (1); END $$") is Verdict.HOLD
    assert verdict(found, "PREPARE p AS DELETE FROM billing.invoice WHERE id = 1; EXECUTE p") is Verdict.HOLD
    assert verdict(found, "COPY billing.invoice FROM STDIN") is Verdict.HOLD
    assert verdict(found, "SELECT * FROM billing.invoice") is Verdict.ALLOW


def test_read_only_identities(tmp_path: Path) -> None:
    found = policies('[[policy.read_only]]\nroles = "agent_*"', tmp_path)
    agent = Identity("agent_1", "shop")
    for script in (
        "INSERT INTO t VALUES (1)",
        "WITH d AS (DELETE FROM t WHERE id = 1 RETURNING 1) SELECT 1",
        "CREATE TABLE t (i int)",
        "DO $$ BEGIN INSERT INTO t VALUES (1); END $$",
        "SET default_transaction_read_only = off",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "BEGIN READ WRITE",
        "SET TRANSACTION READ WRITE",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
        "SET ROLE admin",
        "GRANT SELECT ON t TO bob",
        "SELECT nextval('s')",
        "SELECT * INTO copy FROM t",
        "COPY t FROM STDIN",
    ):
        assert verdict(found, script, agent) is Verdict.DENY, script
    for script in (
        "SELECT 1",
        "BEGIN",
        "BEGIN READ ONLY",
        "SHOW search_path",
        "COPY t TO STDOUT",
        "SELECT count(*) FROM t",
        "EXPLAIN DELETE FROM t",
    ):
        assert verdict(found, script, agent) is Verdict.ALLOW, script
    assert verdict(found, "INSERT INTO t VALUES (1)") is Verdict.ALLOW
    startup = found.engine(agent).judge_startup({"options": "-c default_transaction_read_only=off"}, Context())
    assert startup.verdict is Verdict.DENY


def test_profile_by_environment(tmp_path: Path) -> None:
    text = '[policy.environments.production]\nprofile = "strict"'
    assert policies(text, tmp_path).profile is Profile.STRICT
    assert policies(text, tmp_path, environment=Environment.TEST).profile is Profile.GUARD


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[[policy.rules]]\nrules = "drop-tabel"\naction = "deny"',
            "policy.rules[0].rules: 'drop-tabel' is no rule; did you mean drop-table?",
        ),
        (
            '[[policy.rules]]\nrules = "drop-table"\naction = "forbid"',
            "policy.rules[0].action: expected allow, warn, hold or deny, not 'forbid'",
        ),
        ('[[policy.rules]]\nrules = "drop-table"\naction = "allow"', "policy.rules[0]: an allow needs a reason"),
        ('[[policy.rules]]\naction = "deny"', "policy.rules[0].rules: is missing"),
        ('[[policy.rules]]\nrules = "drop-table"', "policy.rules[0].action: is missing"),
        (rule("deny", more='networks = "10.0.0.1/8"'), "policy.rules[0].networks: '10.0.0.1/8': expected a network such as 10.0.0.0/8"),
        (rule("deny", more='hours = "9 to 5"'), "policy.rules[0].hours: '9 to 5': expected hours such as 09:00-17:30"),
        (rule("deny", more='timezone = "Mars/Base"'), "policy.rules[0].timezone: 'Mars/Base': expected a time zone"),
        (rule("deny", more='groups = "nobody"'), "policy: rules[0].groups: 'nobody' is not in [policy.groups]"),
        (rule("deny", more='colour = "red"'), "policy.rules[0].colour: unknown key"),
        ('policy = "strict"', "policy: expected a table"),
        ("[policy", "not TOML"),
    ],
)
def test_errors_name_file_key_and_form(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "pghold.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_policy(file)
    assert str(error.value).startswith(f"{file}: ")
    assert said in str(error.value)


def test_settings_and_policy_share_a_file(tmp_path: Path) -> None:
    file = tmp_path / "pghold.toml"
    file.write_text('profile = "strict"\n' + rule("deny"))
    settings = load({"policy": file})
    found = load_policies(settings)
    assert found.profile is Profile.STRICT
    assert verdict(found, "DROP TABLE t") is Verdict.DENY
    file.write_text('profile = "lax"')
    with pytest.raises(ConfigError, match=r"pghold.toml: profile: "):
        load({"policy": file})


def test_engines_are_shared_by_what_applies(tmp_path: Path) -> None:
    found = policies(rule("deny", more='roles = "bob"'), tmp_path)
    assert found.engine(ANA) is found.engine(Identity("eve", "other"))
    assert found.engine(ANA) is not found.engine(Identity("bob", "shop"))
    assert not found.changes
    assert policies(rule("deny", more='hours = "09:00-17:00"'), tmp_path).changes


def test_models_are_frozen() -> None:
    with pytest.raises(ValidationError):
        PolicyFile.model_validate({"rules": [{"rules": "drop-table", "action": "hold", "rows_over": -1}]})
