"""What can be typed into the psql console, and what comes back as rows."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from typing import Final

from proxy.decide import Answer as Decided
from proxy.decide import DecisionRefusedError, decide, too_late
from proxy.errors import ConfigError
from proxy.model import Hold, HoldId, Operator, SessionId
from proxy.seams import AuditError, NotPendingError, StoreError, UnknownHoldError
from proxy.services import Services


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


HELP: Final = (
    ("SHOW HOLDS", "what waits for a decision"),
    ("SHOW HOLDS ALL", "the newest 1000 holds, ended ones too"),
    ("SHOW HOLD id", "everything about one hold"),
    ("APPROVE id 'phrase' 'reason' ['code']", "let it run, once; with the code of a second factor where one is needed"),
    ("DENY id 'reason' ['statement']", "refuse it; the client is told the statement to send instead"),
    ("SHOW SESSIONS", "who is connected"),
    ("SHOW STATS", "counters"),
    ("KILL id", "end a session (admin)"),
    ("RELOAD", "read policy and certificates again (admin)"),
    ("SHOW VERSION", "the version that runs"),
)

_TOKEN: Final = re.compile(r"\s*(?:'((?:[^']|'')*)'|\"([^\"]*)\"|(\$\d+)|([^\s';\"]+))", re.DOTALL)
_HOLD_COLUMNS: Final = (
    "id", "state", "age", "expires_in", "role", "database", "application_name", "client_addr", "rules", "statement"
)  # fmt: skip


def tokens(text: str, parameters: tuple[str | None, ...] = ()) -> list[str]:
    """Words, and strings without their quotes; $1 stands for a parameter. Raises CommandError."""
    text = re.sub(r"/\*.*?\*/|--[^\n]*", " ", text, flags=re.DOTALL) if "'" not in text else text
    found: list[str] = []
    position = 0
    text = text.strip().rstrip(";").strip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise CommandError("42601", "syntax error", "SHOW HELP lists the commands.")
        if match[1] is not None:
            found.append(match[1].replace("''", "'"))
        elif match[3] is not None:
            index = int(match[3][1:]) - 1
            if not 0 <= index < len(parameters):
                found.append("")
            else:
                found.append(parameters[index] or "")
        else:
            found.append(match[2] if match[2] is not None else match[4])
        position = match.end()
    return found


async def run(services: Services, operator: Operator, text: str, parameters: tuple[str | None, ...] = ()) -> Answer | None:
    """Run one command; None for an empty text. Raises CommandError."""
    words = tokens(text, parameters)
    if not words:
        return None
    handler = _HANDLERS.get(words[0].upper())
    try:
        if handler is not None:
            return await handler(services, operator, words)
        return _noise(words)
    except UnknownHoldError:
        raise CommandError("42704", f"hold {words[1] if len(words) > 1 else ''} does not exist".replace("  ", " ")) from None
    except NotPendingError as error:
        raise CommandError("55000", too_late(error)) from None
    except StoreError as error:
        raise CommandError("58000", str(error)) from None


def columns_of(text: str) -> tuple[str, ...] | None:
    """What Describe can be told before the command runs. Raises CommandError."""
    words = [w.upper() for w in tokens(text)]
    if words[:2] == ["SHOW", "HOLDS"]:
        return _HOLD_COLUMNS
    if words[:1] == ["SHOW"]:
        return {
            "HOLD": ("field", "value"),
            "SESSIONS": _SESSION_COLUMNS,
            "STATS": ("name", "value"),
            "HELP": ("command", "meaning"),
        }.get(words[1] if len(words) > 1 else "", (text.split()[-1].strip(";").lower() if len(words) == 2 else "setting",))
    if words[:1] in (["APPROVE"], ["DENY"]):
        return ("hold", "state", "operator")
    if words[:1] == ["SELECT"]:
        return ("?column?",)
    return None


async def _show(services: Services, operator: Operator, words: list[str]) -> Answer:
    what = words[1].upper() if len(words) > 1 else ""
    now = services.clock.now()
    match what:
        case "HOLDS":
            every = len(words) > 2 and words[2].upper() == "ALL"
            holds = await services.book.list(pending_only=not every)
            return Answer("SHOW", _HOLD_COLUMNS, [_hold_row(h, now) for h in reversed(holds)])
        case "HOLD":
            hold = await services.book.get(HoldId(_id(words, 2)))
            return Answer("SHOW", ("field", "value"), _hold_fields(hold, now))
        case "SESSIONS":
            return Answer("SHOW", _SESSION_COLUMNS, [_session_row(services, index) for index in range(len(services.sessions.list()))])
        case "STATS":
            return Answer("SHOW", ("name", "value"), _stats(services))
        case "HELP":
            return Answer("SHOW", ("command", "meaning"), [(a, b) for a, b in HELP], "commands end with a semicolon")
        case "VERSION":
            return Answer("SHOW", ("version",), [(f"pghold {version('pghold')}",)])
        case _:
            return _setting(words)


def _id(words: list[str], index: int) -> int:
    if len(words) <= index:
        raise CommandError("42601", "an id is missing", "SHOW HOLDS lists them.")
    if not words[index].isascii() or not words[index].isdigit() or len(words[index]) > 18:
        raise CommandError("42601", f"not an id: {words[index][:40]}", "SHOW HOLDS lists them.")
    return int(words[index])


def _span(seconds: float) -> str:
    whole = max(0, int(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def _hold_row(hold: Hold, now: datetime) -> tuple[str | None, ...]:
    request = hold.request
    statement = " ".join(request.script.split())
    return (
        str(hold.id),
        str(hold.state),
        _span((now - hold.created_at).total_seconds()),
        _span((hold.expires_at - now).total_seconds()) if hold.state == "pending" else None,
        request.requester.role,
        request.requester.database,
        request.requester.application_name,
        request.requester.client_addr,
        ", ".join(request.rule_ids),
        statement if len(statement) <= 100 else statement[:99] + "…",
    )


def _hold_fields(hold: Hold, now: datetime) -> list[tuple[str | None, ...]]:
    request = hold.request
    rows: list[tuple[str | None, ...]] = list(zip(_HOLD_COLUMNS[:-1], _hold_row(hold, now)[:-1], strict=True))
    rows += [(f"finding: {f.rule_id}", f.message) for f in request.findings]
    rows += [("relations", ", ".join(request.relations)), ("environment", request.environment), ("protocol", request.protocol)]
    rows += [("in transaction", "yes" if request.in_transaction else "no")]
    rows += [(f"parameter {i}", v) for i, v in enumerate(request.parameters, 1)]
    rows += [("script", request.script)]
    if hold.decision is not None:
        rows += [("decided by", hold.decision.operator), ("reason", hold.decision.reason)]
    if hold.outcome:
        rows.append(("outcome", hold.outcome))
    return rows


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


async def _approve(services: Services, operator: Operator, words: list[str]) -> Answer:
    if len(words) not in (4, 5):
        raise CommandError("42601", "APPROVE takes an id, the phrase and a reason", "APPROVE id 'phrase' 'reason' ['code']")
    answer = Decided(approve=True, phrase=words[2], reason=words[3], code="".join(words[4:]))
    return await _settle(services, operator, _id(words, 1), answer)


async def _deny(services: Services, operator: Operator, words: list[str]) -> Answer:
    if len(words) not in (3, 4):
        raise CommandError("42601", "DENY takes an id and a reason", "DENY id 'reason' ['statement']")
    return await _settle(services, operator, _id(words, 1), Decided(approve=False, reason=words[2], suggestion="".join(words[3:])))


async def _settle(services: Services, operator: Operator, hold_id: int, answer: Decided) -> Answer:
    try:
        outcome = await decide(services, operator, HoldId(hold_id), answer)
    except DecisionRefusedError as error:
        raise CommandError("42501" if error.code == "forbidden" else "22023", str(error)) from None
    except AuditError as error:
        raise CommandError("58030", f"not decided: {error}") from None
    hold = outcome.hold
    notice = "" if outcome.complete else f"{len(outcome.approvers)} of {outcome.needed} approvals"
    row = (str(hold.id), str(hold.state), operator.name)
    return Answer("APPROVE" if answer.approve else "DENY", ("hold", "state", "operator"), [row], notice)


def _needs_admin(operator: Operator) -> None:
    if not operator.role.may_administer:
        raise CommandError("42501", f"the role {operator.role} may not do that", "It takes an admin.")


async def _kill(services: Services, operator: Operator, words: list[str]) -> Answer:
    _needs_admin(operator)
    session_id = _id(words, 1)
    if not services.sessions.kill(SessionId(session_id), operator.name):
        raise CommandError("42704", f"session {session_id} does not exist", "SHOW SESSIONS lists them.")
    return Answer("KILL")


async def _reload(services: Services, operator: Operator, words: list[str]) -> Answer:
    _needs_admin(operator)
    try:
        return Answer("RELOAD", notice=f"reloaded: {await services.reload(operator.name)}")
    except ConfigError as error:
        raise CommandError("F0000", str(error)) from None


_Handler = Callable[[Services, Operator, list[str]], Awaitable[Answer]]
_HANDLERS: Final[dict[str, _Handler]] = {
    "SHOW": _show,
    "APPROVE": _approve,
    "DENY": _deny,
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


def _setting(words: list[str]) -> Answer:
    name = "_".join(w.lower() for w in words[1:])
    key = {"transaction_isolation_level": "transaction_isolation", "time_zone": "timezone"}.get(name, name)
    if key not in _SETTINGS:
        raise CommandError("42704", f"unrecognized parameter: {name[:60]}", "SHOW HELP lists the commands.")
    return Answer("SHOW", (name,), [(_SETTINGS[key],)])


def _noise(words: list[str]) -> Answer:
    """What drivers send without being asked: harmless, and answered so that they go on."""
    first = words[0].upper()
    if first in _IGNORED:
        return Answer(_IGNORED[first])
    if first == "SELECT":
        value = " ".join(words[1:]).lower()
        if value.startswith("version"):
            return Answer("SELECT 1", ("version",), [(f"PostgreSQL 18.0 (pghold {version('pghold')})",)])
        if re.fullmatch(r"\d+", value):
            return Answer("SELECT 1", ("?column?",), [(value,)])
        if value.startswith(("current_user", "current_database()", "current_schema", "pg_is_in_recovery", "current_setting", "set_config")):
            return Answer("SELECT 1", (value.partition("(")[0],), [("pghold",)])
    raise CommandError("42601", f"unknown command: {words[0][:40]}", "SHOW HELP lists the commands.")
