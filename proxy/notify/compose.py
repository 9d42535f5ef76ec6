"""What happened, put into messages. The words are for somebody who was woken: how bad, what, where, who, how long, where to click."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from policy.catalogue import severity_of
from policy.judgement import Judgement
from proxy.backups.alarm import Alarm, AlarmKind
from proxy.backups.commands import back_command
from proxy.console.views import span, title_of
from proxy.holds_json import Json, hold_as_json, iso
from proxy.model import Hold, HoldState, Requester
from proxy.notify.message import SETTLED, Message, Topic
from proxy.notify.words import REASON_CHARACTERS, STATEMENT_CHARACTERS, SUBJECT_CHARACTERS, cut, name

#: Of the script, in the facts for programs; the whole of it is in the API.
_FACT_CHARACTERS: Final = 4000
_LISTED: Final = 10

_TOPICS: Final = {
    HoldState.APPROVED: Topic.APPROVED,
    HoldState.DENIED: Topic.DENIED,
    HoldState.EXPIRED: Topic.EXPIRED,
    HoldState.WITHDRAWN: Topic.WITHDRAWN,
    HoldState.ABANDONED: Topic.ABANDONED,
}
_NOT_RUN: Final = {
    Topic.EXPIRED: "nobody decided in time",
    Topic.WITHDRAWN: "taken back",
    Topic.ABANDONED: "the client or the server is gone",
}


def opened(hold: Hold, now: datetime) -> Message:
    left = span((hold.expires_at - now).total_seconds())
    subject = f"{hold.request.severity.upper()}: {_title(hold)} waits for a decision in {_where(hold)}"
    return _about(hold, Topic.OPENED, subject, now, [f"Expires in {left}, at {_clock(hold.expires_at)}"])


def reminded(hold: Hold, now: datetime) -> Message:
    left = span((hold.expires_at - now).total_seconds())
    subject = f"{hold.request.severity.upper()}: {left} left: {_title(hold)} still waits in {_where(hold)}"
    return _about(hold, Topic.REMINDED, subject, now, [f"Waits since {_clock(hold.created_at)}, expires at {_clock(hold.expires_at)}"])


def settled(hold: Hold, now: datetime) -> Message | None:
    """None for a hold that still waits, or that goes on its way after a decision that was told."""
    topic = _TOPICS.get(hold.state)
    if topic is None:
        return None
    decision = hold.decision
    if decision is None:
        why = _NOT_RUN.get(topic, "")
        subject = f"{str(hold.state).capitalize()}: {_title(hold)} in {_where(hold)} did not run: {why}"
        detail = [cut(hold.outcome, REASON_CHARACTERS)] if hold.outcome and hold.outcome not in (str(hold.state), why) else []
        return _about(hold, topic, subject, now, detail)
    who, reason = name(decision.operator), cut(decision.reason, REASON_CHARACTERS)
    if topic is Topic.APPROVED and decision.break_glass:
        topic = Topic.BREAK_GLASS
        subject = f"BREAK-GLASS by {who}: {_title(hold)} in {_where(hold)} was approved by one person alone"
    elif topic is Topic.DENIED and decision.approved:
        subject = f"NOT RUN: {_title(hold)} in {_where(hold)}: no copy could be made, after {who} had approved it"
    elif topic is Topic.APPROVED and decision.without_backup:
        subject = f"WITHOUT A BACKUP, approved by {who}: {_title(hold)} in {_where(hold)}"
    elif topic in (Topic.APPROVED, Topic.DENIED):
        subject = f"{str(hold.state).capitalize()} by {who}: {_title(hold)} in {_where(hold)}"
    else:
        subject = f"{str(hold.state).capitalize()}: {_title(hold)} in {_where(hold)}, after {who} had approved it"
    others = [name(a) for a in decision.approvers if a != decision.operator]
    lines = [*_copy(hold), f"Reason: {reason}", *([f"With: {', '.join(others[:5])}"] if others else [])]
    if decision.without_backup:
        lines.insert(0, "WITHOUT A BACKUP: nothing was copied before it ran.")
    if decision.suggestion:
        lines.append(f"Suggested instead: {cut(decision.suggestion, STATEMENT_CHARACTERS)}")
    return _about(hold, topic, subject, now, lines)


def protected(hold: Hold, now: datetime) -> Message | None:
    """Of one that was approved and is about to run, or has run: which copy was made. None when there is none."""
    copy, decision = hold.copy, hold.decision
    if copy is None or copy.state != "done" or decision is None:
        return None
    subject = f"Copied: {cut(copy.text, 60)}, before {_title(hold)} in {_where(hold)}"
    said = [f"Approved by {name(decision.operator)}: {cut(decision.reason, REASON_CHARACTERS)}"]
    if command := back_command(copy.kind, int(hold.id)):
        said.append(f"To bring it back: {command}")
    return _about(hold, Topic.PROTECTED, subject, now, [*_copy(hold), *said])


def _copy(hold: Hold) -> list[str]:
    copy = hold.copy
    if copy is None or copy.state not in ("done", "failed"):
        return []
    return [f"Copy: {'FAILED: ' if copy.state == 'failed' else ''}{cut(copy.text, REASON_CHARACTERS)}"]


def finished(hold: Hold, now: datetime) -> Message | None:
    """Of one that has run: that it was approved."""
    return settled(replace(hold, state=HoldState.APPROVED), now) if hold.decision is not None and hold.decision.approved else None


def _about(hold: Hold, topic: Topic, subject: str, now: datetime, first: list[str]) -> Message:
    request = hold.request
    who = request.requester
    script = request.script
    lines = script.count("\n") + 1
    irreversible = any(f.irreversible for f in request.findings)
    told = [
        *first,
        _who(who),
        f"Where: database {name(who.database)}, {name(request.environment)}",
        f"What: {cut(script, STATEMENT_CHARACTERS)}",
        *([f"Lines: {lines:,}, statements: {len(request.statements):,}"] if lines > 1 or len(request.statements) > 1 else []),
        *(f"Found: {cut(f.message, REASON_CHARACTERS)}" for f in request.findings[:3]),
        *([f"and {len(request.findings) - 3:,} more findings"] if len(request.findings) > 3 else []),
        *(["It cannot be taken back."] if irreversible and topic in (Topic.OPENED, Topic.REMINDED) else []),
        *(["It is in a transaction: its locks stay while it waits."] if request.in_transaction and topic not in SETTLED else []),
    ]
    return Message(
        topic=topic,
        severity="critical" if topic is Topic.BREAK_GLASS else request.severity,
        thread=f"hold-{hold.id}",
        subject=cut(subject, SUBJECT_CHARACTERS),
        lines=tuple(told),
        at=str(iso(now)),
        path=f"/holds/{hold.id}",
        key="" if topic is Topic.REMINDED else f"{hold.created_at.isoformat()} {topic}",
        environment=request.environment,
        database=who.database,
        kind=request.statements[0].kind if request.statements else "statement",
        facts={"hold": facts_of(hold)},
    )


def facts_of(hold: Hold) -> dict[str, Json]:
    """The hold as the API gives it, in bounds: the whole of a script, and of long lists, is there."""
    facts = hold_as_json(hold)
    bounded = _bounded(facts, _FACT_CHARACTERS)
    assert isinstance(bounded, dict)
    bounded["script_cut"] = len(hold.request.script) > _FACT_CHARACTERS
    return bounded


def _bounded(value: Json, characters: int) -> Json:
    """Lone surrogates cannot be written as UTF-8, and would be no news to anybody."""
    match value:
        case str():
            return value[:characters].encode("utf-8", "backslashreplace").decode()
        case list():
            return [_bounded(v, characters // 8) for v in value[:_LISTED]]
        case dict():
            return {k: _bounded(v, characters) for k, v in value.items()}
        case _:
            return value


def _title(hold: Hold) -> str:
    return f"{cut(title_of(hold), 60)} (hold {hold.id})"


def _where(hold: Hold) -> str:
    return f"{cut(hold.request.requester.database, 30)} ({cut(hold.request.environment, 20)})"


def _who(who: Requester) -> str:
    application = f" with {name(who.application_name)}" if who.application_name else ""
    return f"Who: {name(who.role)}{application} from {name(who.client_addr)}"


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M:%S} UTC"


# --- the proxy itself -------------------------------------------------------------------------------------------------


def problem(sentences: Sequence[str], thread: str, environment: str, began: datetime, now: datetime) -> Message:
    return Message(
        topic=Topic.PROBLEM,
        severity="critical",
        thread=thread,
        subject=cut(f"PROBLEM: {sentences[0]}" + (f", and {len(sentences) - 1} more" if len(sentences) > 1 else ""), SUBJECT_CHARACTERS),
        lines=(f"Where: pghold, {environment}", *(cut(s, REASON_CHARACTERS) for s in sentences[:_LISTED])),
        at=str(iso(now)),
        path="/health",
        facts={"problems": list(sentences[:_LISTED]), "proxy_environment": environment, "began": began.isoformat()},
    )


def solved(thread: str, environment: str, began: datetime, now: datetime) -> Message:
    return Message(
        topic=Topic.SOLVED,
        severity="critical",  # whoever was told of the problem is told of its end
        thread=thread,
        subject=f"Solved: pghold ({environment}) is well again, after {span((now - began).total_seconds())}",
        lines=("Statements can be held, decided on and recorded again.",),
        at=str(iso(now)),
        path="/health",
        facts={"proxy_environment": environment, "began": iso(began)},
    )


_ALARMS: Final = {
    AlarmKind.FAILED: (
        Topic.BACKUP_FAILED,
        "high",
        "Until one succeeds, the last full copy is all there is. `pghold backups` shows which.",
    ),
    AlarmKind.LATE: (Topic.BACKUP_LATE, "high", "The proxy was down, or something keeps it from copying; `pghold backups` shows what."),
    AlarmKind.DIFFERENT: (Topic.BACKUP_DIFFERENT, "critical", "Do not rely on it. Take another now: pghold backups take"),
    AlarmKind.MISSING: (
        Topic.BACKUP_MISSING,
        "critical",
        "Whoever removed them did so without pghold. Take another now: pghold backups take",
    ),
    AlarmKind.REMOVAL: (Topic.BACKUP_REMOVAL, "medium", "It is tried again every hour."),
}


def alarmed(alarm: Alarm, environment: str, now: datetime) -> Message:
    """Something is wrong with a copy."""
    topic, severity, advice = _ALARMS[alarm.kind]
    return Message(
        topic=topic,
        severity=severity,
        thread=f"backup-{alarm.kind}-{alarm.backup_id or cut(alarm.database, 80)}",
        subject=cut(f"BACKUP: {alarm.text}", SUBJECT_CHARACTERS),
        lines=(
            f"Where: database {name(alarm.database)}, {environment}",
            *([cut(alarm.text, REASON_CHARACTERS)] if len(alarm.text) > SUBJECT_CHARACTERS - 10 else []),
            advice,
        ),
        at=str(iso(now)),
        path=f"/backups/{alarm.backup_id}" if alarm.backup_id else "/backups",
        environment=environment,
        database=alarm.database,
        kind="backup",
        facts={"alarm": str(alarm.kind), "database": alarm.database, "backup": alarm.backup_id, "text": cut(alarm.text, _FACT_CHARACTERS)},
    )


def locked_out(operator: str, until: datetime, now: datetime) -> Message:
    who = name(operator)
    return Message(
        topic=Topic.LOCKED_OUT,
        severity="high",
        thread=f"operator-{who}",
        subject=cut(f"Operator {who} is locked out after too many wrong passwords or codes", SUBJECT_CHARACTERS),
        lines=(f"Until {_clock(until)}", "If it was not this operator, somebody is guessing."),
        at=str(iso(now)),
        path="/people",
        facts={"operator": operator, "until": iso(until)},
    )


def changed(requester: Requester, environment: str, judgement: Judgement, now: datetime) -> Message:
    """DDL that passed and has succeeded."""
    kinds = list(dict.fromkeys(s.kind for s in judgement.statements if s.changes_schema))
    relations = [r for s in judgement.statements if s.changes_schema for r in s.relations]
    what = cut(", ".join(kinds[:3]) + (" " + ", ".join(relations[:3]) if relations else ""), 80)
    where = f"{cut(requester.database, 30)} ({environment})"
    return Message(
        topic=Topic.CHANGED,
        severity=severity_of(judgement.rule_ids).label,
        thread="",
        subject=cut(f"Changed: {what} in {where} by {name(requester.role)}", SUBJECT_CHARACTERS),
        lines=(
            _who(requester),
            f"Where: database {name(requester.database)}, {environment}",
            f"What: {cut(judgement.display, STATEMENT_CHARACTERS)}",
        ),
        at=str(iso(now)),
        environment=environment,
        database=requester.database,
        kind=kinds[0] if kinds else "statement",
        facts={
            "kinds": list(kinds[:_LISTED]),
            "relations": _bounded(list(relations), _FACT_CHARACTERS),
            "script": _bounded(judgement.display, _FACT_CHARACTERS),
            "role": requester.role,
            "application_name": _bounded(requester.application_name, _FACT_CHARACTERS),
            "client_addr": requester.client_addr,
        },
    )


def test(route: str, who: str, now: datetime) -> Message:
    return Message(
        topic=Topic.TEST,
        severity="low",
        thread="",
        subject=f"Test: pghold can reach the route {route}",
        lines=(f"Asked for by {name(who)}. Nothing is wrong and nothing waits.",),
        at=str(iso(now)),
        path="/health",
    )


# --- many at once -----------------------------------------------------------------------------------------------------


def digest(messages: Sequence[Message], now: datetime, left_out: int = 0) -> Message:
    """One message in the place of many."""
    topics = Counter(m.topic for m in messages)
    parts = [f"{count:,} {_PLURALS[topic]}" for topic, count in topics.most_common()]
    worst = max(messages, key=lambda m: m.rank)
    kinds = ", ".join(f"{count:,} × {cut(kind, 30)}" for kind, count in Counter(m.kind for m in messages if m.kind).most_common(4))
    databases = sorted({m.database for m in messages if m.database})
    places = ", ".join(map(name, databases[:3])) + (f" and {len(databases) - 3} more" if len(databases) > 3 else "")
    shown = sorted(messages, key=lambda m: -m.rank)[:_LISTED]
    more = len(messages) - len(shown) + left_out
    return Message(
        topic=worst.topic,
        severity=worst.severity,
        thread="",
        subject=cut(f"{worst.severity.upper()}: {'; '.join(parts)}" + (f" in {places}" if places else ""), SUBJECT_CHARACTERS),
        lines=(
            *([f"Of them: {kinds}"] if kinds else []),
            *(m.subject for m in shown),
            *([f"and {more:,} more"] if more else []),
        ),
        at=str(iso(now)),
        path="/holds" if any(m.path.startswith("/holds") for m in messages) else "",
        facts={"count": len(messages) + left_out, "topics": {str(t): c for t, c in topics.items()}},
    )


_PLURALS: Final = {
    Topic.OPENED: "statements wait for a decision",
    Topic.REMINDED: "statements still wait",
    Topic.APPROVED: "approved",
    Topic.DENIED: "denied",
    Topic.EXPIRED: "expired",
    Topic.WITHDRAWN: "withdrawn",
    Topic.ABANDONED: "abandoned",
    Topic.BREAK_GLASS: "approved by break-glass",
    Topic.LOCKED_OUT: "operators locked out",
    Topic.PROBLEM: "problems",
    Topic.SOLVED: "problems solved",
    Topic.FAILING: "checks fail",
    Topic.WORKS: "checks work again",
    Topic.BYPASS: "alarms of sessions past pghold",
    Topic.PROTECTED: "copied before they ran",
    Topic.BACKUP_FAILED: "copies failed",
    Topic.BACKUP_LATE: "copies late",
    Topic.BACKUP_DIFFERENT: "copies not proven",
    Topic.BACKUP_MISSING: "copies without their files",
    Topic.BACKUP_REMOVAL: "copies not removed",
    Topic.CHANGED: "changes passed",
    Topic.TEST: "tests",
}
