"""A hold as JSON: the object that the API, the CLI's --json and the events give out."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from proxy.acts import tables_of, title_of
from proxy.look import Sight, parts_of
from proxy.model import Grant, Hold

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
        "impact": impact_as_json(hold),
        "backup": None if hold.copy is None else {"id": hold.copy.backup_id or None, **asdict(hold.copy)},
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
            "session_grant_s": hold.decision.session_grant_s,
        },
        "waits": request.waits,
        "follows": request.follows,
        "difference": list(request.difference),
        "recent": list(request.recent),
        "act": act_as_json(hold),
        "ended_at": iso(hold.ended_at),
        "outcome": hold.outcome,
    }


def act_as_json(hold: Hold) -> Json:
    """The act of a tool that the hold is about, with its tables; rows are exact where they were counted, else estimates. None: it is none."""
    act = hold.request.act
    if act is None:
        return None
    counted = {tuple(parts_of(r.name)): r for r in hold.consequences.reached} if hold.consequences is not None else {}
    if hold.consequences is not None:
        # What a session finds by its search_path is seen without its schema.
        counted |= {parts[-1:]: r for parts, r in counted.items() if sum(p[-1:] == parts[-1:] for p in counted) == 1}
    tables: list[Json] = []
    for seen in tables_of(hold.sight):
        told = counted.get(tuple(parts_of(seen.now)))
        rows = told.rows if told is not None and told.rows is not None else seen.rows
        tables.append(
            {
                "name": seen.asked,
                "rows": rows,
                "exact": told is not None and told.exact,
                "bytes": told.bytes if told is not None else seen.bytes,
            }
        )
    return {
        "tool": act.tool,
        "title": title_of(hold),
        "forced": act.forced,
        "whole": act.is_whole,
        "reach": act.reach,
        "tables": tables,
    }


def impact_as_json(hold: Hold) -> Json:
    """What the session saw, and what is foreseen under "consequences"; None until either is known."""
    if hold.sight is None and hold.consequences is None:
        return None
    seen = sight_as_json(hold.sight or Sight(unbound="the session has not said yet"))
    return {**seen, "consequences": None if hold.consequences is None else asdict(hold.consequences)}


def sight_as_json(sight: Sight) -> dict[str, Json]:
    """What the hold is about; `bytes` and `rows` are the catalog's estimates."""
    return {
        "objects": [
            {
                "name": o.asked,
                "resolved": o.now,
                "kind": o.kind,
                "oid": o.oid,
                "relfilenode": o.node,
                "owner": o.owner,
                "rows": o.rows,
                "bytes": o.bytes,
                "relations": o.relations,
                "views": list(o.views),
                "foreign_keys": list(o.foreign_keys),
                "triggers": list(o.triggers),
                "indexes": o.indexes,
                "sessions": o.users,
                "temporary": o.temporary,
            }
            for o in sight.objects
        ],
        "missing": list(sight.missing),
        "locks": list(sight.locks),
        "waiting": [{"pid": w.pid, "role": w.role, "application_name": w.application_name, "for_s": w.for_s} for w in sight.waiting],
        "unbound": sight.unbound,
    }


def grant_as_json(grant: Grant) -> dict[str, Json]:
    """A decision taken ahead."""
    return {
        "id": grant.id,
        "kind": str(grant.kind),
        "hold_id": int(grant.hold_id),
        "operator": grant.operator,
        "reason": grant.reason,
        "created_at": iso(grant.created_at),
        "expires_at": iso(grant.expires_at),
        "role": grant.role,
        "database": grant.database,
        "rule_ids": list(grant.rule_ids),
        "session_id": grant.session_id or None,
    }
