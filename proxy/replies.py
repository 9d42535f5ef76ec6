"""The ErrorResponses and NoticeResponses that pghold authors, worded for a person, an ORM's log and an AI agent alike.

The message says what happened, DETAIL names the rules and the hold, HINT the way forward. SQLSTATEs are those that PostgreSQL
would give (errcodes-appendix.html).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from policy.engine import FORCED_SYNC
from policy.judgement import Judgement
from policy.verdict import Verdict
from protocol import ErrorResponse, NoticeResponse, ReadyForQuery, TransactionStatus
from protocol.errors import ProtocolError
from proxy.model import Decision, HoldId

READY_IDLE: Final = ReadyForQuery(TransactionStatus.IDLE).encode()

INSUFFICIENT_PRIVILEGE: Final = "42501"
QUERY_CANCELED: Final = "57014"
ADMIN_SHUTDOWN: Final = "57P01"
CONNECTION_FAILURE: Final = "08006"
SUCCESSFUL_COMPLETION: Final = "00000"


@dataclass(frozen=True, slots=True)
class Reply:
    """One ErrorResponse or NoticeResponse, before it is put into the session's client_encoding."""

    severity: str
    code: str
    message: str
    detail: str = ""
    hint: str = ""

    def encode(self, client_encoding: str = "UTF8") -> bytes:
        fields = {
            "S": self.severity,
            "V": self.severity,
            "C": self.code,
            "M": self.message,
            "D": self.detail,
            "H": self.hint,
        }
        # Other encodings get ASCII: a character the client cannot read must not turn into one that it misreads.
        codec, errors = ("utf-8", "replace") if client_encoding == "UTF8" else ("ascii", "backslashreplace")
        encoded = tuple((key.encode(), value.replace("\0", " ").encode(codec, errors)) for key, value in fields.items() if value)
        kind = NoticeResponse if self.severity in ("NOTICE", "WARNING") else ErrorResponse
        return kind(encoded).encode()


#: Makes a reply about a held statement.
About = Callable[[Judgement, HoldId | None], Reply]


def _detail(judgement: Judgement, hold_id: HoldId | None) -> str:
    found = "; ".join(f"{f.rule_id}: {f.message}" for f in judgement.findings[:5])
    more = len(judgement.findings) - 5
    if more > 0:
        found += f"; and {more} more"
    return found if hold_id is None else f"Hold {hold_id}. {found}" if found else f"Hold {hold_id}."


def _instead(judgement: Judgement) -> str:
    hints = dict.fromkeys(f.hint.rstrip(".") for f in judgement.findings if f.hint)
    return "; ".join(list(hints)[:2])


def _hint(*sentences: str) -> str:
    return " ".join(s[0].upper() + s[1:] + "." for s in (t.strip().rstrip(".") for t in sentences) if s)


def _duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    return f"{whole // 60} min {whole % 60} s" if whole >= 120 and whole % 60 else (f"{whole // 60} min" if whole >= 120 else f"{whole} s")


def held_notice(hold_id: HoldId, judgement: Judgement, timeout_s: float, difference: tuple[str, ...] = (), act: str = "") -> Reply:
    changed = f"It was approved, but what it is about has changed since: {'; '.join(difference[:3])}. " if difference else ""
    again = " again" if difference else ""
    return Reply(
        "NOTICE",
        SUCCESSFUL_COMPLETION,
        f"pghold: {act or 'this statement'} is held{again} until an operator approves it (hold {hold_id})",
        changed + _detail(judgement, None),
        f"An operator decides with: pghold approve {hold_id}, or pghold deny {hold_id}. "
        f"It expires in {_duration(timeout_s)}; cancel it to take it back.",
    )


def warning(judgement: Judgement) -> Reply:
    """Told before the statement runs; nothing waits."""
    return Reply(
        "WARNING",
        SUCCESSFUL_COMPLETION,
        "pghold: " + "; ".join(f.message for f in judgement.findings if f.verdict is Verdict.WARN),
        _detail(judgement, None),
        next((f.hint for f in judgement.findings if f.hint), ""),
    )


def still_held_notice(hold_id: HoldId, waited_s: float, left_s: float) -> Reply:
    return Reply(
        "NOTICE",
        SUCCESSFUL_COMPLETION,
        f"pghold: hold {hold_id} still waits for an operator ({_duration(waited_s)} so far, expires in {_duration(left_s)})",
    )


def granted_notice(hold_id: HoldId, decision: Decision) -> Reply:
    return Reply(
        "NOTICE", SUCCESSFUL_COMPLETION, f"pghold: {decision.operator} approved this statement before (hold {hold_id}); it runs now"
    )


def protecting_notice(hold_id: HoldId, progress: str, waited_s: float) -> Reply:
    how_far = progress or "it is being looked what must be copied"
    return Reply(
        "NOTICE",
        SUCCESSFUL_COMPLETION,
        f"pghold: hold {hold_id} is approved; what it destroys is copied first ({_duration(waited_s)} so far: {how_far})",
    )


def copied_notice(hold_id: HoldId, text: str) -> Reply:
    return Reply(
        "NOTICE",
        SUCCESSFUL_COMPLETION,
        f"pghold: hold {hold_id} runs now; {text}",
        hint=f"It can be taken back with: pghold undo {hold_id}, or pghold restore {hold_id}.",
    )


def substitute_notice(text: str) -> Reply:
    return Reply("NOTICE", SUCCESSFUL_COMPLETION, f"pghold: {text}")


def not_protected(judgement: Judgement, hold_id: HoldId | None, why: str) -> Reply:
    return Reply(
        "ERROR",
        INSUFFICIENT_PRIVILEGE,
        f"pghold: this statement was approved, but no proven copy of what it destroys could be made: {why}",
        _detail(judgement, hold_id),
        "It was not executed. Remove the reason and send it again; to approve without a copy takes a permission of its own.",
    )


def not_counted(judgement: Judgement, hold_id: HoldId | None, why: str) -> Reply:
    return Reply(
        "ERROR",
        INSUFFICIENT_PRIVILEGE,
        f"pghold: this statement was rolled back: {why}",
        _detail(judgement, hold_id),
        "Nothing has changed. Send it again; it will be looked at and copied anew.",
    )


def not_waiting(judgement: Judgement, hold_id: HoldId, retry_s: float) -> Reply:
    """For clients that do not wait (pghold.on_hold=reject)."""
    return Reply(
        "ERROR",
        INSUFFICIENT_PRIVILEGE,
        f"pghold: this statement needs an operator's approval (hold {hold_id})",
        _detail(judgement, hold_id),
        _hint(
            f"it was not executed. An operator decides with: pghold approve {hold_id}, or pghold deny {hold_id}. Once it is approved, send "
            f"it again, with the same parameters, within {_duration(retry_s)}; it then runs once",
            _instead(judgement),
        ),
    )


def look_failed(judgement: Judgement, hold_id: HoldId | None, problem: str) -> Reply:
    return Reply(
        "ERROR",
        INSUFFICIENT_PRIVILEGE,
        f"pghold: this statement needs approval, but the server did not say what it is about: {problem}",
        _detail(judgement, hold_id),
        "It was not executed.",
    )


def denied_by_policy(judgement: Judgement) -> Reply:
    # Tools show the message, and often nothing else.
    forced = next((f.message for f in judgement.findings if f.rule_id == FORCED_SYNC and f.verdict is Verdict.DENY), "")
    return Reply(
        "ERROR",
        INSUFFICIENT_PRIVILEGE,
        f"pghold: {forced or 'this statement is not allowed here'}",
        _detail(judgement, None),
        _hint(_instead(judgement)),
    )


def denied_by_operator(judgement: Judgement, hold_id: HoldId | None, decision: Decision) -> Reply:
    # The operator's own statement is worth more than the rule's advice.
    instead = f"the operator suggests: {decision.suggestion}" if decision.suggestion else _instead(judgement)
    return Reply(
        "ERROR",
        INSUFFICIENT_PRIVILEGE,
        f"pghold: this statement was denied by {decision.operator}: {decision.reason}",
        _detail(judgement, hold_id),
        _hint("it was not executed; do not retry it unchanged", instead),
    )


def expired(judgement: Judgement, hold_id: HoldId | None) -> Reply:
    return Reply(
        "ERROR",
        INSUFFICIENT_PRIVILEGE,
        "pghold: no operator approved this statement in time",
        _detail(judgement, hold_id),
        _hint(
            f"it was not executed. An operator can still approve it (pghold approve {hold_id}): then send it again, with the same parameters",
            _instead(judgement),
        ),
    )


def cancelled(judgement: Judgement, hold_id: HoldId | None) -> Reply:
    return Reply(
        "ERROR",
        QUERY_CANCELED,
        "canceling statement due to user request",
        _detail(judgement, hold_id),
        "It was held and did not run.",
    )


def rolled_back(judgement: Judgement, hold_id: HoldId | None) -> Reply:
    return Reply(
        "ERROR",
        QUERY_CANCELED,
        "pghold: the held statement was withdrawn, because ROLLBACK was sent behind it",
        _detail(judgement, hold_id),
        "It did not run.",
    )


def stopping(judgement: Judgement, hold_id: HoldId | None) -> Reply:
    return Reply(
        "ERROR",
        ADMIN_SHUTDOWN,
        "pghold: the held statement was withdrawn, because the proxy is shutting down",
        _detail(judgement, hold_id),
        "It did not run. Connect again and send it again.",
    )


def not_stored(judgement: Judgement, reason: str) -> Reply:
    return Reply(
        "ERROR",
        INSUFFICIENT_PRIVILEGE,
        f"pghold: this statement needs approval, but it could not be held: {reason}",
        _detail(judgement, None),
        "It was not executed. Statements that need no approval go on as usual.",
    )


def not_recorded(judgement: Judgement, hold_id: HoldId | None) -> Reply:
    return Reply(
        "ERROR",
        INSUFFICIENT_PRIVILEGE,
        "pghold: this statement was refused, because the decision about it could not be recorded in the audit log",
        _detail(judgement, hold_id),
        "It was not executed. Statements that need no approval go on as usual; tell the operator of the proxy.",
    )


def shutting_down() -> Reply:
    return Reply("FATAL", ADMIN_SHUTDOWN, "terminating connection due to administrator command", "pghold is shutting down.")


def killed() -> Reply:
    return Reply(
        "FATAL",
        ADMIN_SHUTDOWN,
        "terminating connection due to administrator command",
        "An operator of pghold ended it.",
    )


def backend_lost(reason: str) -> Reply:
    return Reply(
        "FATAL",
        CONNECTION_FAILURE,
        "pghold: the connection to the server was lost" + (f": {reason}" if reason else ""),
        "",
        "Whether the last statement took effect is unknown, unless it was held; held statements did not run.",
    )


def violation(error: ProtocolError) -> Reply:
    return Reply("FATAL", error.sqlstate, str(error))


# --- before a session began ---------------------------------------------------------------------------------------------


def login_timeout() -> Reply:
    return Reply("FATAL", QUERY_CANCELED, "canceling authentication due to timeout")


def unsupported_protocol(version: str) -> Reply:
    return Reply("FATAL", "0A000", f"unsupported frontend protocol {version}: server supports 3.0 to 3.2")


def no_user() -> Reply:
    return Reply("FATAL", "28000", "no PostgreSQL user name specified in startup packet")


def too_many() -> Reply:
    return Reply("FATAL", "53300", "sorry, too many clients already")


def tls_required() -> Reply:
    return Reply("FATAL", "28000", "pghold: connections without TLS are not accepted here", "", "Connect with sslmode=require.")


def no_replication() -> Reply:
    return Reply(
        "FATAL",
        INSUFFICIENT_PRIVILEGE,
        "pghold: replication connections are not allowed",
        "They run statements that cannot be held.",
        "Connect to the server directly, or start pghold with --replication.",
    )


def startup_refused(judgement: Judgement) -> Reply:
    return Reply(
        "FATAL",
        INSUFFICIENT_PRIVILEGE,
        "pghold: a setting in the connection parameters is not allowed here",
        _detail(judgement, None),
        _hint(_instead(judgement)),
    )


def unknown_choice(name: str, value: str) -> Reply:
    return Reply("FATAL", "22023", f'invalid value for parameter "{name}": "{value[:40]}"', "", "Available values: wait, reject.")


def server_unreachable(why: str) -> Reply:
    return Reply("FATAL", CONNECTION_FAILURE, f"pghold: {why}")


def different_certificates(why: str) -> Reply:
    return Reply("FATAL", "28000", f"pghold: {why}")
