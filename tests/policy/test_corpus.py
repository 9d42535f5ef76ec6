"""Labelled scripts: each with the rules that must find something in it, and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from policy import Context, Engine, Profile, Verdict
from proxy.check.session import SessionJudge

#: A larger corpus, when one lies beside the checkout.
CORPUS = Path(os.environ.get("PGHOLD_CORPUS", Path(__file__).parents[3] / "shared" / "corpus"))

#: Where a label and the documented rule disagree.
EXCEPTIONS = {
    "o-reg-11992": "UPDATE … FROM without a link to the target is held",
}


def own_cases() -> list[tuple[str, frozenset[str]]]:
    cases = []
    for file in sorted((Path(__file__).parent / "corpus").glob("*.sql")):
        for block in file.read_text().split("\n\n"):
            script, _, rules = block.strip().rpartition("\n=")
            if script:
                cases.append((script, frozenset(rules.split())))
    return cases


@pytest.mark.parametrize(("script", "rules"), own_cases())
def test_known_script(script: str, rules: frozenset[str]) -> None:
    assert frozenset(Engine().judge(script.encode(), Context()).rule_ids) == rules


def labelled() -> Iterator[tuple[str, bytes, str]]:
    for name in ("adversarial", "orm", "tools", "squawk", "regress"):
        file = CORPUS / f"{name}.jsonl"
        if file.exists():
            for line in file.read_text().splitlines():
                case = json.loads(line)
                yield case["id"], case["sql"].encode("utf-8", "surrogatepass"), case["expect"]["class"]


def test_labelled_statements_in_profile_guard() -> None:
    engine = Engine()
    wrong = []
    for identity, script, expected in labelled():
        held = engine.judge(script, Context()).verdict >= Verdict.HOLD
        if identity not in EXCEPTIONS and ((expected == "hold" and not held) or (expected == "pass" and held)):
            wrong.append((identity, expected, script[:100]))
    assert wrong == []


def test_labelled_statements_in_profile_strict() -> None:
    engine = Engine(profile=Profile.STRICT)
    wrong = [(i, s[:100]) for i, s, expected in labelled() if expected != "pass" and engine.judge(s, Context()).verdict < Verdict.HOLD]
    assert wrong == []


def test_labelled_sessions() -> None:
    file = CORPUS / "sessions.jsonl"
    engine = Engine()
    wrong = []
    for line in file.read_text().splitlines() if file.exists() else []:
        case = json.loads(line)
        session = SessionJudge(engine, Context())
        for index, statement in enumerate(case["statements"]):
            held = session.judge(statement["sql"].encode()).verdict >= Verdict.HOLD
            expected = statement["expect"]["class"]
            if (expected == "hold" and not held) or (expected == "pass" and held):
                wrong.append((case["id"], index, expected, statement["sql"][:100]))
    assert wrong == []
