"""Labelled scripts: each with the rules that must find something in it, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from policy import Context, Engine, Verdict

#: A larger corpus, when one lies beside the checkout.
CORPUS = Path(os.environ.get("PGHOLD_CORPUS", Path(__file__).parents[3] / "shared" / "corpus"))

#: Where a label and the documented rule disagree.
EXCEPTIONS = {
    "o-reg-11992": "UPDATE … FROM without a link to the target is held",
    "o-squ-00012": "libpg_query rejects a comment before UESCAPE: held",
    "o-squ-00013": "libpg_query rejects a comment before UESCAPE: held",
    "o-squ-00014": "libpg_query rejects a comment behind UESCAPE: held",
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


def test_labelled_statements() -> None:
    files = [CORPUS / f"{name}.jsonl" for name in ("adversarial", "orm", "tools", "squawk", "regress")]
    engine = Engine()
    wrong = []
    for file in files:
        if not file.exists():
            continue
        for line in file.read_text().splitlines():
            case = json.loads(line)
            verdict = engine.judge(case["sql"].encode(), Context()).verdict
            expected = case["expect"]["class"]
            held = verdict >= Verdict.HOLD
            if case["id"] not in EXCEPTIONS and ((expected == "hold" and not held) or (expected == "pass" and held)):
                wrong.append((case["id"], expected, case["sql"][:100]))
    assert wrong == []
