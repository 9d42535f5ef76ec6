"""A hold to practise on: real in the book, the audit log and on every page; behind it there is no session and no server."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from typing import Final

from policy import Context, Engine
from policy.catalogue import severity_of
from proxy.model import (
    AuditEvent,
    Decision,
    HeldStatement,
    Hold,
    HoldId,
    HoldRequest,
    HoldState,
    Requester,
    SessionId,
)
from proxy.petition import held_finding
from proxy.records import about
from proxy.services import Services

SCRIPT: Final = 'DROP TABLE IF EXISTS "Cards" CASCADE'
#: Where rules for approvals and notifications see it.
ENVIRONMENT: Final = "practice"
EXPIRES_S: Final = 600.0


async def open_practice_hold(services: Services) -> Hold:
    """Raises StoreError, AuditError."""
    judgement = Engine().judge(SCRIPT.encode(), Context())
    request = HoldRequest(
        requester=Requester(SessionId(0), "practice", "practice", "practice", "nowhere"),
        environment=ENVIRONMENT,
        script=SCRIPT,
        script_sha256=hashlib.sha256(SCRIPT.encode()).hexdigest(),
        rule_ids=judgement.rule_ids,
        findings=tuple(map(held_finding, judgement.findings)),
        statements=tuple(HeldStatement(s.kind, SCRIPT, s.relations) for s in judgement.statements),
        relations=judgement.relations,
        protocol="practice",
        in_transaction=False,
        expires_in_s=EXPIRES_S,
        severity=severity_of(judgement.rule_ids).label,
    )

    def decided(hold_id: HoldId, decision: Decision) -> None:
        services.spawn(_finish(services, replace(hold, id=hold_id), decision), "practice hold")

    hold = await services.book.open(request, decided)
    await services.audit.append(about(AuditEvent.HELD, hold))
    asyncio.get_running_loop().call_later(EXPIRES_S, lambda: services.spawn(_expire(services, hold), "practice hold's expiry"))
    return hold


async def _finish(services: Services, hold: Hold, decision: Decision) -> None:
    event = AuditEvent.APPROVED if decision.approved else AuditEvent.DENIED
    await services.audit.append(about(event, hold, operator=decision.operator, reason=decision.reason))
    if decision.approved:
        await services.book.move(hold.id, HoldState.RELEASED)
        await services.book.move(hold.id, HoldState.DONE, "practice: nothing was run")


async def _expire(services: Services, hold: Hold) -> None:
    if await services.book.move(hold.id, HoldState.EXPIRED, "expired"):
        await services.audit.append(about(AuditEvent.EXPIRED, hold))
