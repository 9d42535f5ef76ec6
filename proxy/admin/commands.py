"""What can be typed into the psql console, and what comes back as rows."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from typing import Final

from proxy.acts import title_of
from proxy.admin.backups import BACKUP_COLUMNS, backup_fields, backup_rows
from proxy.admin.syntax import SyntaxProblemError, Token, commands
from proxy.approvals import needs, why_not
from proxy.backups.errands import ErrandError, ErrandRefusedError
from proxy.backups.model import ProtectError
from proxy.backups.undoing import Conflicts
from proxy.console.script import one_line, plain
from proxy.control import ControlError
from proxy.copy_words import copy_lines
from proxy.decide import Answer as Decided
from proxy.decide import DecisionRefusedError, decide, names_to_type, revoke, too_late
from proxy.errors import ConfigError
from proxy.grants import UnknownGrantError
from proxy.health.model import Check
from proxy.holds_json import hold_as_json
from proxy.model import Grant, Hold, HoldId, HoldState, Operator, Role, SessionId
from proxy.operators import Person
from proxy.seams import AuditError, NotPendingError, StoreError, UnknownHoldError
from proxy.services import Services
from proxy.sight_words import sight_lines
from proxy.store.backups import UnknownBackupError
from proxy.store.trash import Item


@dataclass(frozen=True, slots=True)
class Answer:
    """Columns are None for a command without rows."""

    tag: str
    columns: tuple[str, ...] | None = None
    rows: list[tuple[str | None, ...]] = field(default_factory=list)
    notice: str = ""


class CommandError(Exception):
    """Told to the client as an ErrorResponse."""

    def __init__(self, sqlstate: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.hint = hint


APPROVE_FORM: Final = "APPROVE id 'phrase' 'reason' [CODE 'code'] [OBJECT 'name'] [SESSION minutes] [WITHOUT BACKUP] [BREAK GLASS]"
DENY_FORM: Final = "DENY id 'reason' [SUGGEST 'statement']"
UNDO_FORM: Final = "UNDO id 'reason' [CONFLICTS 'abort, skip or overwrite']"
PURGE_FORM: Final = "PURGE id 'reason'"
HELP: Final = (
    ("SHOW HOLDS", "what waits for a decision"),
    ("SHOW HOLDS ALL", "the newest 1000 holds, ended ones too"),
    ("SHOW HOLD id", "everything about one hold"),
    (APPROVE_FORM, "let it run, once; the code of a second factor, the name of what is lost, alone where several must"),
    (DENY_FORM, "refuse it; the client is told the statement to send instead"),
    ("SHOW BACKUPS", "the newest 1000 copies, of holds and on schedule"),
    ("SHOW BACKUP id", "one copy: what is in it, its proof, how to bring it back"),
    (UNDO_FORM, "take back what it destroyed; held like any statement"),
    ("SHOW TRASH", "tables that were soft-dropped"),
    (PURGE_FORM, "drop what is in the trash for good; held like any statement"),
    ("SHOW GRANTS", "what was decided ahead and can still be used"),
    ("REVOKE id", "take a grant back"),
    ("SHOW OPERATORS", "who may decide (admin, auditor)"),
    ("SHOW SESSIONS", "who is connected"),
    ("SHOW STATS", "counters"),
    ("SHOW HEALTH", "the checks of the server and of pghold, and what to do"),
    ("KILL id", "end a session (admin)"),
    ("RELOAD", "read policy and certificates again (admin)"),
    ("SHOW VERSION", "the version that runs"),
)

_HOLD_COLUMNS: Final = (
    "id", "state", "age", "expires_in", "role", "database", "application_name", "client_addr", "rules", "statement"
)  # fmt: skip


def parse(text: str) -> list[list[Token]]:
    """The commands of a text. Raises CommandError."""
    try:
        return list(commands(text))
    except SyntaxProblemError as error:
        raise CommandError("42601", str(error), "SHOW HELP lists the commands.") from None


def bound(words: list[Token], parameters: tuple[str | None, ...]) -> list[Token]:
    """With the values of Bind in the places of its parameters. Raises CommandError."""
    found = []
    for word in words:
        if word.parameter > len(parameters):
            raise CommandError("08P01", f"parameter ${word.parameter} has no value")
        found.append(Token(parameters[word.parameter - 1] or "", True) if word.parameter else word)
    return found


async def run(services: Services, operator: Operator, words: list[Token]) -> Answer:
    """Run one command. Raises CommandError."""
    handler = _HANDLERS.get(words[0].keyword)
    try:
        if handler is not None:
            return await handler(services, operator, words)
        return _noise(words)
    except UnknownHoldError:
        raise CommandError("42704", f"hold {words[_ID[words[0].keyword]].text} does not exist", "SHOW HOLDS lists them.") from None
    except UnknownBackupError as error:
        raise CommandError("42704", f"backup {error} does not exist", "SHOW BACKUPS lists them.") from None
    except NotPendingError as error:
        raise CommandError("55000", _told(too_late(error))) from None
    except StoreError as error:
        raise CommandError("58000", str(error)) from None


#: Where a command has its id.
_ID: Final = {"SHOW": 2, "APPROVE": 1, "DENY": 1, "UNDO": 1}


def columns_of(words: list[Token]) -> tuple[str, ...] | None:
    """What Describe can be told before the command runs."""
    first, second = words[0].keyword, words[1].keyword if len(words) > 1 else ""
    if first == "SHOW":
        columns = {
            "HOLDS": _HOLD_COLUMNS,
            "HOLD": ("field", "value"),
            "BACKUPS": BACKUP_COLUMNS,
            "BACKUP": ("field", "value"),
            "OPERATORS": _OPERATOR_COLUMNS,
            "SESSIONS": _SESSION_COLUMNS,
            "GRANTS": _GRANT_COLUMNS,
            "TRASH": _TRASH_COLUMNS,
            "STATS": ("name", "value"),
            "HEALTH": _HEALTH_COLUMNS,
            "HELP": ("command", "meaning"),
        }
        return columns.get(second) or (_setting_name(words),)
    if first in ("APPROVE", "DENY", "UNDO", "PURGE"):
        return ("hold", "state", "operator")
    return ("?column?",) if first == "SELECT" else None


async def _show(services: Services, operator: Operator, words: list[Token]) -> Answer:
    what = words[1].keyword if len(words) > 1 else ""
    now = services.clock.now()
    match what:
        case "HOLDS":
            every = len(words) > 2 and words[2].keyword == "ALL"
            holds = await services.book.list(pending_only=not every)
            return Answer("SHOW", _HOLD_COLUMNS, [_hold_row(h, now) for h in reversed(holds)])
        case "HOLD":
            hold = await services.book.get(HoldId(_id(words, 2)))
            return Answer("SHOW", ("field", "value"), _hold_fields(hold, now) + await _demands(services, operator, hold))
        case "BACKUPS":
            return Answer("SHOW", BACKUP_COLUMNS, await backup_rows(services.backups, now))
        case "BACKUP":
            return Answer("SHOW", ("field", "value"), await backup_fields(services.backups, _id(words, 2)))
        case "OPERATORS":
            if operator.role not in (Role.ADMIN, Role.AUDITOR):
                raise CommandError("42501", f"the role {operator.role} may not do that", "It takes an admin or an auditor.")
            return Answer("SHOW", _OPERATOR_COLUMNS, [_operator_row(p) for p in await services.operators.people()])
        case "SESSIONS":
            return Answer("SHOW", _SESSION_COLUMNS, [_session_row(services, index) for index in range(len(services.sessions.list()))])
        case "GRANTS":
            return Answer("SHOW", _GRANT_COLUMNS, [_grant_row(g) for g in reversed(await services.grants.open_ones())])
        case "TRASH":
            return Answer("SHOW", _TRASH_COLUMNS, [_trash_row(i) for i in reversed(await services.trash.listed())])
        case "STATS":
            return Answer("SHOW", ("name", "value"), _stats(services))
        case "HEALTH":
            report = services.health.report
            return Answer("SHOW", _HEALTH_COLUMNS, [_health_row(c) for c in [*report.checks, *report.access]])
        case "HELP":
            return Answer("SHOW", ("command", "meaning"), [(a, b) for a, b in HELP], "commands end with a semicolon")
        case "VERSION":
            return Answer("SHOW", ("version",), [(f"pghold {version('pghold')}",)])
        case _:
            return _setting(words)


def _id(words: list[Token], index: int) -> int:
    if len(words) <= index:
        raise CommandError("42601", "an id is missing", "SHOW HOLDS lists them.")
    text = words[index].text
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise CommandError("42601", f"not an id: {_told(text)[:40]}", "SHOW HOLDS lists them.")
    return int(text)


def _told(text: str) -> str:
    """On one line of somebody's terminal, with what hides in it made visible."""
    return one_line(text, 1000)


def _span(seconds: float) -> str:
    whole = max(0, int(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def _hold_row(hold: Hold, now: datetime) -> tuple[str | None, ...]:
    request = hold.request
    return (
        str(hold.id),
        str(hold.state),
        _span((now - hold.created_at).total_seconds()),
        _span((hold.expires_at - now).total_seconds()) if hold.state == "pending" else None,
        _told(request.requester.role),
        _told(request.requester.database),
        _told(request.requester.application_name),
        request.requester.client_addr,
        ", ".join(request.rule_ids),
        one_line(f"[{title_of(hold)}] {request.script}" if request.act is not None else request.script, 100),
    )


def _hold_fields(hold: Hold, now: datetime) -> list[tuple[str | None, ...]]:
    request = hold.request
    rows: list[tuple[str | None, ...]] = list(zip(_HOLD_COLUMNS[:-1], _hold_row(hold, now)[:-1], strict=True))
    rows += [("severity", request.severity)]
    rows += [(f"finding: {f.rule_id}", _told(f.message)) for f in request.findings]
    rows += [("safer", _told(f.suggestion)) for f in request.findings if f.suggestion]
    rows += [("relations", _told(", ".join(request.relations))), ("environment", request.environment), ("protocol", request.protocol)]
    rows += [("in transaction", "yes" if request.in_transaction else "no"), ("client waits", "yes" if request.waits else "no")]
    rows += [(name, _told(value)) for name, value in (*sight_lines(hold_as_json(hold)), *copy_lines(hold_as_json(hold)))]
    rows += [("before", one_line(script, 200)) for script in request.recent]
    rows += [(f"parameter {i}", None if v is None else _told(v)) for i, v in enumerate(request.parameters, 1)]
    rows += [("script", plain(request.script))]
    if hold.decision is not None:
        rows += [("decided by", ", ".join(hold.decision.approvers) or hold.decision.operator), ("reason", _told(hold.decision.reason))]
    if hold.outcome:
        rows.append(("outcome", _told(hold.outcome)))
    return rows


async def _demands(services: Services, operator: Operator, hold: Hold) -> list[tuple[str | None, ...]]:
    """What it takes to decide it."""
    if hold.state is not HoldState.PENDING:
        return []
    outlook = await services.forecast.of(hold)
    wanted = needs(services.policy().approvals, hold.request)
    rows: list[tuple[str | None, ...]] = [("backup", _told(outlook.text))]
    if why := why_not(operator, hold.request):
        rows.append(("not yours to decide", why))
    if names := names_to_type(hold):
        rows.append(("cannot be taken back", _told(", ".join(names))))
    if wanted.approvers > 1:
        given = ", ".join(a.operator for a in await services.approvals.of(hold.id))
        rows.append(("approvals", f"{wanted.approvers} are needed; so far: {given or 'none'}"))
    if wanted.second_factor or services.wants_second_factor(hold.request.severity):
        rows.append(("second factor", "a code is needed"))
    return rows


_OPERATOR_COLUMNS: Final = (
    "name",
    "role",
    "databases",
    "max_severity",
    "database_roles",
    "second_factor",
    "password",
    "tokens",
    "disabled",
)


def _operator_row(person: Person) -> tuple[str | None, ...]:
    who = person.operator
    return (
        who.name,
        str(who.role),
        ", ".join(who.databases) or None,
        who.max_severity or None,
        ", ".join(who.database_roles) or None,
        "yes" if who.second_factor else "no",
        "yes" if person.has_password else "no",
        ", ".join(t.name for t in person.tokens),
        "yes" if person.disabled else "no",
    )


_SESSION_COLUMNS: Final = ("id", "role", "database", "application_name", "client_addr", "state", "hold", "tls", "since")


def _session_row(services: Services, index: int) -> tuple[str | None, ...]:
    s = services.sessions.list()[index]
    return (
        str(s.id),
        s.requester.role,
        s.requester.database,
        s.requester.application_name,
        s.requester.client_addr,
        s.state,
        str(s.hold_id) if s.hold_id is not None else None,
        "yes" if s.tls else "no",
        s.started_at.isoformat(sep=" ", timespec="seconds"),
    )


def _stats(services: Services) -> list[tuple[str | None, ...]]:
    rows: list[tuple[str | None, ...]] = []
    for line in services.metrics.render().decode().splitlines():
        name, _, value = line.rpartition(" ")
        if not line.startswith("#") and "_bucket" not in name and "_created" not in name:
            rows.append((name, value))
    return rows


_HEALTH_COLUMNS: Final = ("check", "state", "since", "found", "fix")


def _health_row(check: Check) -> tuple[str | None, ...]:
    since = check.since.isoformat(sep=" ", timespec="seconds") if check.since is not None else None
    return (check.id, str(check.state), since, _told(check.text), plain(check.fix) if check.state != "ok" else None)


_GRANT_COLUMNS: Final = ("id", "kind", "hold", "for", "database", "rules", "operator", "reason", "until")


def _grant_row(grant: Grant) -> tuple[str | None, ...]:
    return (
        str(grant.id),
        str(grant.kind),
        str(grant.hold_id),
        _told(grant.role) + (f", session {grant.session_id}" if grant.session_id else ""),
        _told(grant.database),
        ", ".join(grant.rule_ids),
        grant.operator,
        _told(grant.reason),
        grant.expires_at.isoformat(sep=" ", timespec="seconds"),
    )


#: Two words that say it, without a value.
_FLAGS: Final = {"BREAK": "GLASS", "WITHOUT": "BACKUP"}


def _options(words: list[Token], known: dict[str, str], form: str) -> dict[str, str]:
    """Words behind what must be there: a keyword and its value, each once. `known` has keywords and what they are called inside."""
    found: dict[str, str] = {}
    position = 0
    while position < len(words):
        keyword = words[position].keyword
        second = words[position + 1].keyword if position + 1 < len(words) else ""
        if keyword in known and _FLAGS.get(keyword, "-") == second:
            name, value = known[keyword], "yes"
        elif keyword in known and keyword not in _FLAGS and position + 1 < len(words):
            name, value = known[keyword], words[position + 1].text
        else:
            raise CommandError("42601", f"syntax error at {_told(words[position].text)[:40] or 'a string'}", form)
        if name in found:
            raise CommandError("42601", f"{keyword} is given twice", form)
        found[name] = value
        position += 2
    return found


async def _approve(services: Services, operator: Operator, words: list[Token]) -> Answer:
    if len(words) < 4:
        raise CommandError("42601", "APPROVE takes an id, the phrase and a reason", APPROVE_FORM)
    rest = words[4:]
    code = rest.pop(0).text if rest and rest[0].is_value else ""
    known = {"CODE": "code", "OBJECT": "object", "BREAK": "break", "WITHOUT": "without", "SESSION": "session"}
    given = _options(rest, known, APPROVE_FORM)
    answer = Decided(
        approve=True,
        phrase=words[2].text,
        reason=words[3].text,
        code=given.get("code", code),
        object_name=given.get("object"),
        break_glass="break" in given,
        without_backup="without" in given,
        session_grant_s=_minutes(given.get("session", "0")) * 60,
    )
    return await _settle(services, operator, _id(words, 1), answer)


def _minutes(text: str) -> float:
    if not text.isascii() or not text.isdigit() or len(text) > 5:
        raise CommandError("42601", f"not a number of minutes: {_told(text)[:40]}", APPROVE_FORM)
    return float(text)


async def _deny(services: Services, operator: Operator, words: list[Token]) -> Answer:
    if len(words) < 3:
        raise CommandError("42601", "DENY takes an id and a reason", DENY_FORM)
    rest = words[3:]
    suggestion = rest.pop(0).text if rest and rest[0].is_value else ""
    given = _options(rest, {"SUGGEST": "suggestion"}, DENY_FORM)
    answer = Decided(approve=False, reason=words[2].text, suggestion=given.get("suggestion", suggestion))
    return await _settle(services, operator, _id(words, 1), answer)


async def _settle(services: Services, operator: Operator, hold_id: int, answer: Decided) -> Answer:
    try:
        outcome = await decide(services, operator, HoldId(hold_id), answer)
    except DecisionRefusedError as error:
        raise CommandError("42501" if error.code == "forbidden" else "22023", _told(str(error))) from None
    except AuditError as error:
        raise CommandError("58030", f"not decided: {error}") from None
    hold = outcome.hold
    notice = "" if outcome.complete else f"{len(outcome.approvers)} of {outcome.needed} approvals"
    if answer.approve and outcome.retry:
        notice = f"nobody waits for it: it runs when it is sent again, until {hold.expires_at.isoformat(sep=' ', timespec='seconds')}"
    row = (str(hold.id), str(hold.state), operator.name)
    return Answer("APPROVE" if answer.approve else "DENY", ("hold", "state", "operator"), [row], notice)


_TRASH_COLUMNS: Final = ("id", "hold", "state", "database", "schema", "until", "tables")


def _trash_row(item: Item) -> tuple[str | None, ...]:
    return (
        str(item.backup_id),
        str(item.hold_id),
        str(item.state),
        _told(item.database),
        _told(item.move.trash),
        item.purge_at.isoformat(sep=" ", timespec="seconds"),
        _told(", ".join(f"{t.schema}.{t.name}" for t in item.move.tables)),
    )


async def _undo(services: Services, operator: Operator, words: list[Token]) -> Answer:
    if len(words) < 3:
        raise CommandError("42601", "UNDO takes an id and a reason", UNDO_FORM)
    given = _options(words[3:], {"CONFLICTS": "conflicts"}, UNDO_FORM).get("conflicts", "abort").lower()
    if given not in list(Conflicts):
        raise CommandError("22023", f"not a way with conflicts: {_told(given)[:40]}", UNDO_FORM)
    hold_id = HoldId(_id(words, 1))
    return await _asked(operator, lambda: services.undo.submit(hold_id, operator, conflicts=Conflicts(given), reason=words[2].text))


async def _purge(services: Services, operator: Operator, words: list[Token]) -> Answer:
    if len(words) != 3:
        raise CommandError("42601", "PURGE takes an id and a reason", PURGE_FORM)
    backup_id = _id(words, 1)
    return await _asked(operator, lambda: services.trash.submit_purge([backup_id], operator, reason=words[2].text))


async def _asked(operator: Operator, submit: Callable[[], Awaitable[Hold]]) -> Answer:
    if not operator.role.may_decide:
        raise CommandError("42501", f"the role {operator.role} may not do that", "It takes an approver or an admin.")
    try:
        hold = await submit()
    except ErrandRefusedError as error:
        raise CommandError("42501", _told(str(error))) from None
    except ErrandError as error:
        raise CommandError("55000", _told(str(error))) from None
    except (ControlError, ProtectError) as error:
        raise CommandError("58000", _told(str(error))) from None
    except AuditError as error:
        raise CommandError("58030", f"not asked for: {error}") from None
    row = (str(hold.id), str(hold.state), operator.name)
    return Answer("SHOW", ("hold", "state", "operator"), [row], f"hold {hold.id} waits for a decision: APPROVE {hold.id} …")


async def _revoke(services: Services, operator: Operator, words: list[Token]) -> Answer:
    grant_id = _id(words, 1)
    try:
        await revoke(services, operator, grant_id)
    except DecisionRefusedError as error:
        raise CommandError("42501", str(error)) from None
    except UnknownGrantError:
        raise CommandError("42704", f"there is no open grant {grant_id}", "SHOW GRANTS lists them.") from None
    except AuditError as error:
        raise CommandError("58030", f"not revoked: {error}") from None
    return Answer("REVOKE")


def _needs_admin(operator: Operator) -> None:
    if not operator.role.may_administer:
        raise CommandError("42501", f"the role {operator.role} may not do that", "It takes an admin.")


async def _kill(services: Services, operator: Operator, words: list[Token]) -> Answer:
    _needs_admin(operator)
    session_id = _id(words, 1)
    if not services.sessions.kill(SessionId(session_id), operator.name):
        raise CommandError("42704", f"session {session_id} does not exist", "SHOW SESSIONS lists them.")
    return Answer("KILL")


async def _reload(services: Services, operator: Operator, words: list[Token]) -> Answer:
    _needs_admin(operator)
    try:
        return Answer("RELOAD", notice=f"reloaded: {await services.reload(operator.name)}")
    except ConfigError as error:
        raise CommandError("F0000", str(error)) from None


_Handler = Callable[[Services, Operator, list[Token]], Awaitable[Answer]]
_HANDLERS: Final[dict[str, _Handler]] = {
    "SHOW": _show,
    "APPROVE": _approve,
    "DENY": _deny,
    "REVOKE": _revoke,
    "UNDO": _undo,
    "PURGE": _purge,
    "KILL": _kill,
    "RELOAD": _reload,
}

_SETTINGS: Final = {
    "server_version": "18.0",
    "server_version_num": "180000",
    "server_encoding": "UTF8",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "transaction_isolation": "read committed",
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "integer_datetimes": "on",
    "search_path": "pghold",
    "default_transaction_read_only": "off",
    "transaction_read_only": "off",
}
_IGNORED: Final = {
    "SET": "SET", "RESET": "RESET", "DISCARD": "DISCARD ALL", "BEGIN": "BEGIN", "START": "START TRANSACTION", "COMMIT": "COMMIT",
    "ROLLBACK": "ROLLBACK", "END": "COMMIT", "DEALLOCATE": "DEALLOCATE", "UNLISTEN": "UNLISTEN", "CLOSE": "CLOSE CURSOR",
}  # fmt: skip


#: As one function each, called by drivers, poolers and frameworks when they connect.
_FUNCTIONS: Final = {
    "current_user": "pghold",
    "session_user": "pghold",
    "user": "pghold",
    "current_database": "pghold",
    "current_catalog": "pghold",
    "current_schema": "pghold",
    "current_setting": "pghold",
    "set_config": "pghold",
    "pg_is_in_recovery": "f",
}


def _setting_name(words: list[Token]) -> str:
    return "_".join(w.text.lower() for w in words[1:])


def _setting(words: list[Token]) -> Answer:
    name = _setting_name(words)
    key = {"transaction_isolation_level": "transaction_isolation", "time_zone": "timezone"}.get(name, name)
    if key not in _SETTINGS:
        raise CommandError("42704", f"unrecognized parameter: {_told(name)[:60]}", "SHOW HELP lists the commands.")
    return Answer("SHOW", (name,), [(_SETTINGS[key],)])


def _noise(words: list[Token]) -> Answer:
    """What drivers send without being asked: harmless, and answered so that they go on."""
    first = words[0].keyword
    if first in _IGNORED:
        return Answer(_IGNORED[first])
    if first == "SELECT":
        return _selected(" ".join(w.text for w in words[1:]).lower())
    raise CommandError("42601", f"unknown command: {_told(words[0].text)[:40]}", "SHOW HELP lists the commands.")


def _selected(what: str) -> Answer:
    name = what.removeprefix("pg_catalog.").partition("(")[0].strip()
    if name == "version":
        return Answer("SELECT 1", ("version",), [(f"PostgreSQL 18.0 (pghold {version('pghold')})",)])
    if re.fullmatch(r"\d{1,9}", what):
        return Answer("SELECT 1", ("?column?",), [(what,)])
    if name in _FUNCTIONS and " from " not in what:
        return Answer("SELECT 1", (name,), [(_FUNCTIONS[name],)])
    why = "this is pghold's own console: there are no tables, functions or catalogs here"
    # undefined_object, which drivers that look for a type when they connect take for "there is none".
    raise CommandError("42704", why, "SHOW HELP lists the commands; connect to another database for the server.")
