"""Every rule's examples against the rule alone, and the form of its documentation."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from policy import Context, Engine, Verdict
from policy.facts import Facts
from policy.rule import ActRule, Example, Rule
from policy.rules import ALL_RULES
from policy.view import RuleAction

TRIGGERS = [pytest.param(r, e, id=f"{r.id}: {e.script[:40]}") for r in ALL_RULES for e in r.triggers]
PASSES = [pytest.param(r, e, id=f"{r.id}: {e.script[:40]}") for r in ALL_RULES for e in r.passes]


def judge(rule: Rule, script: str) -> Verdict:
    """The rule alone, switched on whatever the profiles say."""
    view = replace(rule.view, actions=(RuleAction((rule.id,), Verdict.HOLD),))
    # PREPARE and bodies are judged by all rules; what they hold is the business of the rule at hand.
    rules = ALL_RULES if rule.id in ("dangerous-prepared-statement", "dangerous-stored-code", "do-block") else (rule,)
    judgement = Engine(rules=rules, view=view).judge(script.encode(), Context())
    return max((f.verdict for f in judgement.findings if rule.id in (f.rule_id, "dangerous-prepared-statement")), default=Verdict.ALLOW)


@pytest.mark.parametrize(("rule", "example"), TRIGGERS)
def test_rule_finds_its_triggers(rule: Rule, example: Example) -> None:
    assert judge(rule, example.script) is Verdict.HOLD


@pytest.mark.parametrize(("rule", "example"), PASSES)
def test_rule_lets_its_near_misses_pass(rule: Rule, example: Example) -> None:
    assert judge(rule, example.script) is Verdict.ALLOW


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda r: r.id)
def test_strict_is_never_milder_than_guard(rule: Rule) -> None:
    assert rule.strict >= rule.verdict


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda r: r.id)
def test_rule_is_documented_as_the_others_are(rule: Rule) -> None:
    cls = type(rule)
    assert cls.__module__ == f"policy.rules.{rule.id.replace('-', '_')}"
    assert cls.__name__ == "".join(word.capitalize() for word in rule.id.split("-"))
    assert cls.section("Why it is held") or cls.section("Why it is denied")
    assert cls.section("Instead")
    assert cls.section("Known gaps")
    assert len(rule.triggers) >= 2 or not rule.looks_at  # without: it is found in a session, not in a script
    assert rule.passes


def test_every_rule_file_is_listed() -> None:
    folder = Path(__file__).parents[2] / "policy" / "rules"
    files = {p.stem.replace("_", "-") for p in folder.glob("*.py") if not p.stem.startswith("_")}
    assert files == {rule.id for rule in ALL_RULES}


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda r: r.id)
def test_rule_says_what_it_looks_at(rule: Rule) -> None:
    source = inspect.getsource(type(rule).check)
    if "super().check" in source:
        source += inspect.getsource(ActRule.check)
    assert set(rule.looks_at) == set(re.findall(r"\bfacts\.(\w+)", source))
    assert set(rule.looks_at) <= {field.name for field in fields(Facts)}
