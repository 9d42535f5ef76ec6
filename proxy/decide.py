"""Taking a decision: the one place that checks who may, the phrase and the reason, whichever way the operator came."""

from __future__ import annotations

import hmac

from proxy.model import AuditEntry, AuditEvent, Decision, Hold, HoldId, Operator
from proxy.seams import AuditError, NotPendingError
from proxy.services import Services


class DecisionRefusedError(Exception):
    """The decision was not taken. `code` is "forbidden", "phrase" or "reason"."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


async def decide(services: Services, operator: Operator, hold_id: HoldId, *, approve: bool, reason: str, phrase: str = "") -> Hold:
    """Approve or deny a pending hold.

    Raises DecisionRefusedError, UnknownHoldError, NotPendingError, StoreError. A refused attempt is on record.
    """
    hold = await services.book.get(hold_id)
    reason = reason.strip()
    problem: tuple[str, str] | None = None
    if not operator.role.may_decide:
        problem = ("forbidden", f"the role {operator.role} may not decide")
    elif not reason:
        problem = ("reason", "a reason is needed")
    elif approve and not hmac.compare_digest(phrase.strip().encode(), services.settings.approval_phrase.encode()):
        problem = ("phrase", f"to approve, type the phrase: {services.settings.approval_phrase}")
    if problem is not None:
        await _record(services, AuditEvent.OPERATOR_REFUSED, hold, operator, reason, problem[1])
        raise DecisionRefusedError(*problem)
    decision = Decision(approve, operator.name, reason, services.clock.now())
    try:
        return await services.book.decide(hold_id, decision)
    except NotPendingError as error:
        await _record(services, AuditEvent.DECISION_TOO_LATE, error.hold, operator, reason, f"it is {error.hold.state}")
        raise


async def _record(services: Services, event: AuditEvent, hold: Hold, operator: Operator, reason: str, why: str) -> None:
    request = hold.request
    entry = AuditEntry(
        event,
        requester=request.requester,
        environment=request.environment,
        hold_id=hold.id,
        script=request.script,
        script_sha256=request.script_sha256,
        rule_ids=request.rule_ids,
        relations=request.relations,
        operator=operator.name,
        reason=reason,
        outcome=why,
    )
    try:
        await services.audit.append(entry)
    except AuditError:
        pass  # nothing took effect; a decision that would is refused by the session when its own record fails
