"""What a decision takes: how many people, a second factor, and who may not. From [[policy.approvals]] of the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from policy.verdict import Severity
from proxy.acts import covered_rules
from proxy.model import HoldRequest, Operator, Requester
from proxy.policies import ApprovalEntry


@dataclass(frozen=True, slots=True)
class Needs:
    """Of one hold.

    Attributes:
        approvers: distinct people who must approve.
        second_factor: each of them with a code of his device.
        break_glass: whether one of them may do it alone, loudly.
    """

    approvers: int = 1
    second_factor: bool = False
    break_glass: bool = True


def needs(entries: Sequence[ApprovalEntry], request: HoldRequest) -> Needs:
    """Of the entries that match, the most demanding of each."""
    matching = [e for e in entries if _matches(e, request)]
    return Needs(
        max((e.approvers for e in matching), default=1),
        any(e.second_factor for e in matching),
        all(e.break_glass for e in matching),
    )


def _matches(entry: ApprovalEntry, request: HoldRequest) -> bool:
    who = request.requester
    return (
        Severity[request.severity.upper()] >= Severity[entry.min_severity.upper()]
        and _any(who.database, entry.databases)
        and _any(who.role, entry.roles)
        and _any(who.application_name, entry.applications)
        and (not entry.environments or request.environment in entry.environments)
        and (not entry.rules or any(_any(rule_id, entry.rules) for rule_id in covered_rules(request)))
    )


def _any(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(name, p) for p in patterns)


def decides_for(operator: Operator, database: str) -> bool:
    return _any(database, operator.databases)


def why_not(operator: Operator, request: HoldRequest) -> str:
    """Why this operator may not decide this hold; empty when he may."""
    if not operator.role.may_decide:
        return f"the role {operator.role} may not decide"
    # An errand is pghold's own statement: whoever asked for it may approve it, whatever the role that it runs as.
    if request.protocol != "errand" and is_own(operator, request.requester):
        return "a requester never decides his own statement"
    if not decides_for(operator, request.requester.database):
        return f"you decide for {', '.join(operator.databases)}, not for database {request.requester.database}"
    if operator.max_severity and Severity[request.severity.upper()] > Severity[operator.max_severity.upper()]:
        return f"you decide up to severity {operator.max_severity}; this one is {request.severity}"
    return ""


def is_own(operator: Operator, requester: Requester) -> bool:
    """By database role or client certificate; upper and lower case are the same. An e-mail address counts as its local part, too, with and
    without what follows a plus sign: of ana+db@example.com, ana+db and ana."""
    theirs = {requester.role, requester.certificate, *requester.certificate_emails} - {""}
    return bool(_names(operator.name, *operator.database_roles) & _names(*theirs))


def _names(*names: str) -> set[str]:
    found = {name.casefold() for name in names}
    for name in list(found):
        local, at, _ = name.partition("@")
        if at and local:
            found |= {local, local.partition("+")[0]}
    return found - {""}
