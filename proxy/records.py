"""Audit entries about a hold that the book knows; those of a live session come from petition.py."""

from __future__ import annotations

from proxy.model import AuditEntry, AuditEvent, Hold


def about(event: AuditEvent, hold: Hold, *, operator: str = "", reason: str = "", outcome: str = "") -> AuditEntry:
    """What happened to this hold."""
    request = hold.request
    return AuditEntry(
        event,
        requester=request.requester,
        environment=request.environment,
        hold_id=hold.id,
        script=request.script,
        script_sha256=request.script_sha256,
        rule_ids=request.rule_ids,
        relations=request.relations,
        operator=operator,
        reason=reason.strip(),
        outcome=outcome,
    )
