"""Taking a decision: the one place that checks who may, the phrase, the reason, the second factor and the number of people, whichever
way the operator came.

A refused attempt is on record. An approval that is one of several is on record before it counts; the last one decides the hold by
compare-and-set in the hold book, so that of two people at once one decides and the other is told who did.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from proxy.approvals import Needs, decides_for, needs, why_not
from proxy.model import AuditEntry, AuditEvent, Decision, Hold, HoldId, HoldState, Operator
from proxy.records import about
from proxy.seams import AuditError, LockedOutError, NotPendingError, StoreError, UnknownHoldError
from proxy.services import Services

#: Holds decided by one answer.
TOGETHER_LIMIT: Final = 1000


class DecisionRefusedError(Exception):
    """The decision was not taken.

    `code` is "forbidden", "phrase", "reason", "object", "second-factor", "already" (this operator approved before) or "invalid".
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operator answers.

    Attributes:
        code: of the TOTP device, where it is needed.
        object_name: the object's name as typed; None where the way in does not ask for it.
        suggestion: with a denial: the statement to send instead.
        break_glass: alone, where several are needed.
        without_backup: no copy is to be taken first; a permission of its own.
        session_grant_s: let the same rules pass in that session for so long; 0: only this statement.
    """

    approve: bool
    reason: str
    phrase: str = ""
    code: str = ""
    object_name: str | None = None
    suggestion: str = ""
    break_glass: bool = False
    without_backup: bool = False
    session_grant_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an answer.

    Attributes:
        hold: as it is now; still pending when more people are needed.
        approvers: who approved so far, this operator included.
        needed: how many it takes.
        retry: nobody waits for it; it runs when it is sent again.
    """

    hold: Hold
    approvers: tuple[str, ...] = ()
    needed: int = 1
    retry: bool = False

    @property
    def complete(self) -> bool:
        return self.hold.state not in (HoldState.PENDING, HoldState.EXPIRED, HoldState.ABANDONED)


async def decide(services: Services, operator: Operator, hold_id: HoldId, answer: Answer) -> Outcome:
    """Approve or deny a hold.

    Raises DecisionRefusedError, UnknownHoldError, NotPendingError, StoreError, AuditError.
    """
    hold = await services.book.get(hold_id)
    wanted = needs(services.policy().approvals, hold.request)
    await _check(services, operator, hold, answer, wanted)
    await _check_code(services, operator, [hold], answer, wanted.second_factor)
    return await _settle(services, operator, hold, answer, wanted)


async def decide_together(
    services: Services, operator: Operator, hold_ids: Sequence[HoldId], answer: Answer
) -> list[tuple[HoldId, Outcome | Exception]]:
    """One answer for several holds: all are checked before the first is decided; then each goes its own way.

    Raises DecisionRefusedError (nothing was decided), StoreError.
    """
    if not 0 < len(hold_ids) <= TOGETHER_LIMIT:
        raise DecisionRefusedError("invalid", f"between 1 and {TOGETHER_LIMIT} holds can be decided together")
    known: list[tuple[Hold, Needs]] = []
    results: list[tuple[HoldId, Outcome | Exception]] = []
    for hold_id in dict.fromkeys(hold_ids):
        try:
            hold = await services.book.get(hold_id)
        except UnknownHoldError as error:
            results.append((hold_id, error))
            continue
        wanted = needs(services.policy().approvals, hold.request)
        await _check(services, operator, hold, answer, wanted)
        known.append((hold, wanted))
    await _check_code(services, operator, [h for h, _ in known], answer, any(w.second_factor for _, w in known))
    for hold, wanted in known:
        try:
            results.append((hold.id, await _settle(services, operator, hold, answer, wanted)))
        except (DecisionRefusedError, NotPendingError, StoreError, AuditError) as error:
            results.append((hold.id, error))
    return results


async def revoke(services: Services, operator: Operator, grant_id: int) -> None:
    """Take a decision back that was taken ahead. Raises DecisionRefusedError, UnknownGrantError, AuditError, StoreError."""
    if not operator.role.may_decide:
        raise DecisionRefusedError("forbidden", f"the role {operator.role} may not decide")
    grant = await services.grants.get(grant_id)
    if not decides_for(operator, grant.database):
        raise DecisionRefusedError("forbidden", f"you do not decide for database {grant.database}")
    await services.grants.revoke(grant, operator.name)


async def _check(services: Services, operator: Operator, hold: Hold, answer: Answer, wanted: Needs) -> None:
    problem = _problem(services, operator, hold, answer, wanted)
    if problem is not None:
        await _refused(services, operator, hold, answer, problem)


def _problem(services: Services, operator: Operator, hold: Hold, answer: Answer, wanted: Needs) -> tuple[str, str] | None:
    not_allowed = why_not(operator, hold.request)
    phrase = services.settings.approval_phrase
    if not_allowed:
        return "forbidden", not_allowed
    if not answer.reason.strip():
        return "reason", "a reason is needed"
    if not answer.approve:
        return None
    if not hmac.compare_digest(answer.phrase.strip().encode(), phrase.encode()):
        return "phrase", f"to approve, type the phrase: {phrase}"
    if answer.object_name is not None and not is_named(hold, answer.object_name):
        return "object", f"to approve, type the name of what is lost: {names_to_type(hold)[0]}"
    if answer.break_glass and not wanted.break_glass:
        return "forbidden", "break-glass is not allowed for this one"
    if answer.without_backup and not operator.may_skip_backup:
        return "forbidden", "to approve without a backup takes a permission of its own"
    return _session_grant_problem(services, hold, answer)


def _session_grant_problem(services: Services, hold: Hold, answer: Answer) -> tuple[str, str] | None:
    longest_s = services.settings.session_grant_max_s
    if not answer.session_grant_s:
        return None
    if not 0 < answer.session_grant_s <= longest_s:
        return (
            "invalid",
            f"a grant for a session may last {round(longest_s / 60)} minutes at most" if longest_s else "there are no session grants",
        )
    if hold.request.protocol == "errand" or may_be_retried(services, hold):
        return "invalid", "no session waits for this one: a grant for its session has no use"
    return None


def may_be_retried(services: Services, hold: Hold) -> bool:
    """Nobody waits for it; approved, it runs when it is sent again."""
    return hold.may_be_retried(services.clock.now(), services.settings.retry_timeout_s)


async def _check_code(services: Services, operator: Operator, holds: list[Hold], answer: Answer, by_rule: bool) -> None:
    if not answer.approve or not holds or not (by_rule or any(services.wants_second_factor(h.request.severity) for h in holds)):
        return
    if not operator.second_factor:
        why = "this approval needs a second factor, and you have none yet: set one up under Account in the console"
        await _refused(services, operator, holds[0], answer, ("second-factor", why))
    try:
        good = bool(answer.code) and await services.operators.check_totp(operator.name, answer.code)
    except LockedOutError as error:
        seconds = max(1, round((error.until - services.clock.now()).total_seconds()))
        await _refused(services, operator, holds[0], answer, ("second-factor", f"too many wrong codes; try again in {seconds} s"))
    if not good:
        why = "the code is wrong, or was used before" if answer.code else "a code of your second factor is needed"
        await _refused(services, operator, holds[0], answer, ("second-factor", why))


async def _settle(services: Services, operator: Operator, hold: Hold, answer: Answer, wanted: Needs) -> Outcome:
    approvers: tuple[str, ...] = ()
    broken = False
    retry = may_be_retried(services, hold)
    if answer.approve and wanted.approvers > 1:
        if hold.state is not HoldState.PENDING and not retry:
            await _too_late(services, operator, hold, answer)
        approvers = await _count(services, operator, hold, answer)
        broken = len(approvers) < wanted.approvers and answer.break_glass
        if len(approvers) < wanted.approvers and not broken:
            return Outcome(await services.book.get(hold.id), approvers, wanted.approvers)
    if broken:
        # Loud, and on record before it takes effect. Raises AuditError.
        why = f"1 of {wanted.approvers} approvals, by break-glass"
        await services.audit.append(about(AuditEvent.BREAK_GLASS, hold, operator=operator.name, reason=answer.reason, outcome=why))
    decision = Decision(
        answer.approve,
        operator.name,
        answer.reason.strip(),
        services.clock.now(),
        approvers=approvers or ((operator.name,) if answer.approve else ()),
        suggestion="" if answer.approve else answer.suggestion.strip(),
        break_glass=broken,
        without_backup=answer.approve and answer.without_backup,
        session_grant_s=answer.session_grant_s if answer.approve else 0.0,
    )
    grant = 0
    try:
        if retry and answer.approve:
            return Outcome(await services.grants.approve_retry(hold, decision), approvers, wanted.approvers, retry=True)
        if retry and hold.state is HoldState.PENDING:
            # No session is there to put the denial on record.
            await services.audit.append(about(AuditEvent.DENIED, hold, operator=operator.name, reason=answer.reason))
        elif decision.session_grant_s and hold.state is HoldState.PENDING:
            # First, because the session sends the next statement as soon as this one is decided.
            grant = await services.grants.give_session(hold, decision)
        return Outcome(await services.book.decide(hold.id, decision), approvers, wanted.approvers)
    except NotPendingError as error:
        if grant:
            await services.grants.end(grant)
        await _too_late(services, operator, error.hold, answer)
        raise


async def _count(services: Services, operator: Operator, hold: Hold, answer: Answer) -> tuple[str, ...]:
    """Add this operator's approval; return the names of all who approved and still may."""
    before = [a.operator for a in await services.approvals.of(hold.id)]
    if operator.name in before:
        if not answer.break_glass:
            await _refused(services, operator, hold, answer, ("already", "you have approved this already; another person must, too"))
    else:
        why = f"approval {len(before) + 1}"
        await services.audit.append(about(AuditEvent.APPROVAL, hold, operator=operator.name, reason=answer.reason, outcome=why))
        try:
            await services.approvals.add(hold.id, operator.name, answer.reason.strip())
        except StoreError:
            # The same operator at the same time, from another browser: he counts once.
            if operator.name not in [a.operator for a in await services.approvals.of(hold.id)]:
                raise
            await _refused(services, operator, hold, answer, ("already", "you have approved this already; another person must, too"))
        services.book.touch(hold)
    names = []
    for approval in await services.approvals.of(hold.id):
        other = await services.operators.get(approval.operator)
        if other is not None and not why_not(other, hold.request):
            names.append(approval.operator)
    return tuple(names)


async def _too_late(services: Services, operator: Operator, hold: Hold, answer: Answer) -> None:
    """Raises NotPendingError."""
    await _record(
        services, about(AuditEvent.DECISION_TOO_LATE, hold, operator=operator.name, reason=answer.reason, outcome=f"it is {hold.state}")
    )
    raise NotPendingError(hold)


async def _refused(services: Services, operator: Operator, hold: Hold, answer: Answer, problem: tuple[str, str]) -> None:
    """Raises DecisionRefusedError."""
    await _record(services, about(AuditEvent.OPERATOR_REFUSED, hold, operator=operator.name, reason=answer.reason, outcome=problem[1]))
    raise DecisionRefusedError(*problem)


async def _record(services: Services, entry: AuditEntry) -> None:
    try:
        await services.audit.append(entry)
    except AuditError:
        pass  # nothing took effect; a decision that would is refused by the session when its own record fails


# --- the object's name ------------------------------------------------------------------------------------------------


def names_to_type(hold: Hold) -> tuple[str, ...]:
    """The objects of which one must be named to approve: those of what cannot be taken back."""
    return tuple(dict.fromkeys(name for f in hold.request.findings if f.irreversible for name in f.relations if name))


def is_named(hold: Hold, typed: str) -> bool:
    """Whether one of them was typed; with or without its schema, with or without quotes."""
    names = names_to_type(hold)
    return not names or _bare(typed) in {part for name in names for part in (_bare(name), _bare(name.rpartition(".")[2]))}


def _bare(name: str) -> str:
    return name.strip().replace('"', "")


def too_late(error: NotPendingError) -> str:
    """Who was faster."""
    hold = error.hold
    who = f", by {hold.decision.operator}: {hold.decision.reason}" if hold.decision is not None else ""
    return f"hold {hold.id} is no longer pending: it is {hold.state}{who}"
