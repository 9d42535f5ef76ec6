"""What a decision on a hold takes, for programs that ask a person: who may, what must be typed, what belongs together."""

from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, Field

from policy.catalogue import RULES
from proxy.approvals import needs, why_not
from proxy.backups.outlook import outlook_as_json
from proxy.console.grouping import group
from proxy.console.history import History
from proxy.console.problems import ProblemError, pick
from proxy.console.rulebook import rule_text
from proxy.console.script import one_line
from proxy.decide import TOGETHER_LIMIT, Answer, DecisionRefusedError, Outcome, decide_together, may_be_retried, names_to_type, too_late
from proxy.holds_json import hold_as_json, iso
from proxy.model import Hold, HoldId, Operator
from proxy.people import operator_as_json
from proxy.seams import NotPendingError, UnknownHoldError
from proxy.services import Services


class Together(BaseModel):
    """One answer for several holds."""

    ids: list[Annotated[int, Field(ge=1, lt=2**63)]] = Field(description="The holds.", min_length=1, max_length=TOGETHER_LIMIT)
    approve: bool = Field(description="Whether they may run.")
    reason: str = Field(description="Why.", max_length=4000)
    count: int = Field(0, description="To approve: how many there are, typed.", ge=0)
    phrase: str = Field("", description="To approve: the approval phrase, typed.", max_length=1000)
    code: str = Field("", description="Of the operator's TOTP device, where one is needed.", max_length=20)
    suggestion: str = Field("", description="To deny: the statement to send instead.", max_length=20_000)
    break_glass: bool = Field(False, description="Alone, where several people are needed; loud.")


def review_routes(services: Services, operator: Callable[..., Awaitable[Operator]]) -> APIRouter:
    """/api/v1/me, /api/v1/review, /api/v1/holds/{id}/review, /api/v1/holds/together."""
    router = APIRouter(prefix="/api/v1", tags=["holds"])
    history = History(services.store, services.clock)
    Who = Annotated[Operator, Depends(operator)]

    @router.get("/me", operation_id="me", responses=pick(401))
    async def me(who: Who) -> dict[str, object]:
        """Who the token is of, what he may do, and which proxy this is."""
        return {
            **operator_as_json(who),
            "may_decide": who.role.may_decide,
            "may_administer": who.role.may_administer,
            "phrase": services.settings.approval_phrase,
            "environment": str(services.settings.effective_environment),
            "mode": services.settings.mode,
            "backup_before_danger": services.settings.backup_before_danger,
            "version": version("pghold"),
            "now": iso(services.clock.now()),
        }

    @router.get("/review", operation_id="reviewHolds", responses=pick(401, 404, 422, 503))
    async def review_several(
        who: Who, ids: Annotated[str, Query(pattern=r"^\d{1,18}(,\d{1,18})*$", max_length=19_000, description="ids, comma-separated")]
    ) -> dict[str, object]:
        """What it takes to decide these together."""
        wanted = list(dict.fromkeys(int(i) for i in ids.split(",")))
        if len(wanted) > TOGETHER_LIMIT:
            raise ProblemError(422, "too many", f"at most {TOGETHER_LIMIT} holds can be decided together")
        return _demands(services, who, [await _get(services, i) for i in wanted])

    @router.get("/holds/{hold_id}/review", operation_id="reviewHold", responses=pick(401, 404, 503))
    async def review(who: Who, hold_id: Annotated[int, Path(ge=1, lt=2**63)]) -> dict[str, object]:
        """One hold, what it takes to decide it, what its rules say, and what was decided before."""
        hold = await _get(services, hold_id)
        pending = await services.book.list(limit=TOGETHER_LIMIT)
        alike = next((g for g in group(pending) if any(h.id == hold.id for h in g.holds)), None)
        given = await services.approvals.of(hold.id)
        return {
            "hold": hold_as_json(hold),
            "backup_outlook": await outlook_as_json(services.forecast, hold),
            **_demands(services, who, [hold]),
            "approvals": [{"operator": a.operator, "reason": a.reason, "at": iso(a.at)} for a in given],
            "rules": {i: rule_text(RULES[i]) for i in hold.request.rule_ids if i in RULES},
            "group": {"ids": [int(h.id) for h in alike.holds], "why": alike.why} if alike is not None else {"ids": [], "why": ""},
            "similar": [_similar(h) for h in await history.similar(hold)],
        }

    @router.post("/holds/together", operation_id="decideTogether", responses=pick(401, 403, 422, 503))
    async def together(who: Who, body: Together) -> list[dict[str, object]]:
        """Decide several holds by one answer: all are checked before the first is decided; then each goes its own way."""
        ids = list(dict.fromkeys(body.ids))
        if body.approve and body.count != len(ids):
            raise ProblemError(422, "not decided", f"to approve, type how many statements will run: {len(ids)}")
        answer = Answer(
            approve=body.approve,
            reason=body.reason,
            phrase=body.phrase,
            code=body.code,
            suggestion=body.suggestion,
            break_glass=body.break_glass,
        )
        try:
            results = await decide_together(services, who, [HoldId(i) for i in ids], answer)
        except DecisionRefusedError as error:
            raise ProblemError(403 if error.code == "forbidden" else 422, "not decided", str(error)) from None
        return [_result(hold_id, result) for hold_id, result in results]

    return router


async def _get(services: Services, hold_id: int) -> Hold:
    try:
        return await services.book.get(HoldId(hold_id))
    except UnknownHoldError:
        raise ProblemError(404, "no such hold", f"there is no hold {hold_id}") from None


def _demands(services: Services, who: Operator, holds: list[Hold]) -> dict[str, object]:
    wanted = [needs(services.policy().approvals, h.request) for h in holds]
    return {
        # Nobody waits for it (any more): approved, it runs when it is sent again.
        "retry": len(holds) == 1 and may_be_retried(services, holds[0]),
        "session_grant_max_s": services.settings.session_grant_max_s,
        "why_not": next((why for h in holds if (why := why_not(who, h.request))), ""),
        "phrase": services.settings.approval_phrase,
        "approvers_needed": max(w.approvers for w in wanted),
        "break_glass": all(w.break_glass for w in wanted),
        "second_factor": any(
            w.second_factor or services.wants_second_factor(h.request.severity) for w, h in zip(wanted, holds, strict=True)
        ),
        # Of several, their number is typed instead of a name.
        "names_to_type": list(names_to_type(holds[0])) if len(holds) == 1 else [],
    }


def _similar(hold: Hold) -> dict[str, object]:
    decision = hold.decision
    return {
        "id": int(hold.id),
        "state": str(hold.state),
        "operator": decision.operator if decision is not None else "",
        "reason": decision.reason if decision is not None else "",
        "decided_at": iso(decision.decided_at) if decision is not None else None,
        "statement": one_line(hold.request.script),
    }


def _result(hold_id: HoldId, result: Outcome | Exception) -> dict[str, object]:
    told: dict[str, object] = {"id": int(hold_id), "state": None, "error": None, "approvers": [], "approvers_needed": 1}
    match result:
        case Outcome():
            told |= {"state": str(result.hold.state), "approvers": list(result.approvers), "approvers_needed": result.needed}
        case NotPendingError():
            told |= {"state": str(result.hold.state), "error": too_late(result)}
        case UnknownHoldError():
            told["error"] = f"there is no hold {hold_id}"
        case _:
            told["error"] = str(result)
    return told
