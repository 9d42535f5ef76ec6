"""A hold as JSON: the object that the API, the CLI's --json and the events give out."""

from __future__ import annotations

from datetime import datetime

from proxy.model import Hold

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None


def iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def hold_as_json(hold: Hold) -> dict[str, Json]:
    """The fields of the contract first, then the rest."""
    request = hold.request
    requester = request.requester
    return {
        "id": int(hold.id),
        "state": str(hold.state),
        "created_at": iso(hold.created_at),
        "expires_at": iso(hold.expires_at),
        "rule_ids": list(request.rule_ids),
        "script": request.script,
        "statements": [{"kind": s.kind, "text": s.text, "relations": list(s.relations)} for s in request.statements],
        "relations": list(request.relations),
        "database": requester.database,
        "role": requester.role,
        "application_name": requester.application_name,
        "client_addr": requester.client_addr,
        "certificate": requester.certificate or None,
        "environment": request.environment,
        "impact": None,
        "backup": None,
        "severity": request.severity,
        "script_sha256": request.script_sha256,
        "findings": [
            {
                "rule_id": f.rule_id,
                "severity": f.severity,
                "irreversible": f.irreversible,
                "message": f.message,
                "hint": f.hint,
                "suggestion": f.suggestion,
                "relations": list(f.relations),
                "statement": f.statement,
                "span": list(f.span),
            }
            for f in request.findings
        ],
        "parameters": list(request.parameters),
        "protocol": request.protocol,
        "in_transaction": request.in_transaction,
        "session_id": int(requester.session_id),
        "decision": None
        if hold.decision is None
        else {
            "approved": hold.decision.approved,
            "operator": hold.decision.operator,
            "reason": hold.decision.reason,
            "decided_at": iso(hold.decision.decided_at),
            "approvers": list(hold.decision.approvers),
            "suggestion": hold.decision.suggestion,
            "break_glass": hold.decision.break_glass,
            "without_backup": hold.decision.without_backup,
        },
        "ended_at": iso(hold.ended_at),
        "outcome": hold.outcome,
    }
