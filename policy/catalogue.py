"""What is known of a finding by its rule's id alone: how bad it is, and what its documentation says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from policy.rule import Rule
from policy.rules import ALL_RULES
from policy.verdict import Severity

RULES: Final[dict[str, Rule]] = {rule.id: rule for rule in ALL_RULES}


def severity_of(rule_ids: Iterable[str]) -> Severity:
    """The worst of these rules; what is no rule (a FunctionCall of an unknown function, an id of another version) is HIGH."""
    return max((RULES[i].severity if i in RULES else Severity.HIGH for i in rule_ids), default=Severity.LOW)


def is_irreversible(rule_id: str) -> bool:
    return rule_id in RULES and RULES[rule_id].irreversible
