"""Holds as coloured text. Whatever a requester, an operator or the server wrote goes through `safe`, or piece by piece through `_shown`."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from functools import lru_cache
from typing import Final

from rich.cells import cell_len
from rich.console import Group as RenderGroup
from rich.console import RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from proxy.cli.watch.board import Board, Entry, Json, Row
from proxy.console.script import SHOWN_CHARACTERS, Piece, one_line, pieces, unusual_characters
from proxy.copy_words import copy_lines
from proxy.model import Hold, HoldState
from proxy.sight_words import sight_lines

SEVERITY: Final = {"critical": "bold white on red", "high": "bold red", "medium": "yellow", "low": "green"}
STATE: Final = {
    HoldState.PENDING: "bold yellow",
    HoldState.APPROVED: "green",
    HoldState.PROTECTING: "green",
    HoldState.RELEASED: "green",
    HoldState.DONE: "green",
    HoldState.DENIED: "red",
    HoldState.FAILED: "red",
}
_PIECE: Final = {"comment": "italic dim", "string": "green", "keyword": "bold cyan", "number": "magenta", "hidden": "bold black on yellow"}
#: Accents in a row that a letter may have; more of them climb over other lines.
_ACCENTS: Final = 2
#: A parameter, an impact or a finding longer than this is cut.
_VALUE_CHARACTERS: Final = 2000


def safe(text: str, limit: int = 500) -> str:
    """On one line, with everything that hides shown by its code."""
    # A script can be very long, and most of it is not shown.
    shown = _calm(one_line(text[: 20 * limit], limit))
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _calm(text: str) -> str:
    if text.isascii():
        return text
    out, run = [], 0
    for character in text:
        run = run + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        out.append(character if run <= _ACCENTS else f"<U+{ord(character):04X}>")
    return "".join(out)


def span(seconds: float) -> str:
    """5 s, 4:05, 2:04:05, 3 d: as short as it can be read."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" if whole < 86400 else f"{whole // 86400} d"


# --- the list ---------------------------------------------------------------------------------------------------------


def columns(width: int) -> list[tuple[str, int]]:
    """Name and width of each column; the statement has the rest. 40 columns are enough for the least of them."""
    wanted = [("", 3), ("ID", 6), ("AGE", 8), ("LEFT", 8), ("SEVERITY", 9), ("WHO", 20), ("WHERE", 16), ("RULES", 24)]
    if width < 130:
        wanted = [(n, {"WHO": 14, "WHERE": 12}.get(n, w)) for n, w in wanted if n != "RULES"]
    if width < 100:
        wanted = [c for c in wanted if c[0] != "WHERE"]
    if width < 60:
        wanted = [(n, {"SEVERITY": 5, "LEFT": 6, "ID": 5}.get(n, w)) for n, w in wanted if n not in ("AGE", "WHO")]
    return [*wanted, ("STATEMENT", max(1, width - sum(w for _, w in wanted)))]


def heading(width: int) -> Text:
    text = Text(style="bold")
    for name, size in columns(width):
        text.append_text(_cell(name, size))
    return text


def row_text(row: Row, board: Board, now: datetime, width: int) -> Text:
    """One line, exactly `width` cells wide."""
    hold = row.hold
    text = Text()
    for name, size in columns(width):
        value, style = _value(name, row, hold, board, now)
        if name == "SEVERITY" and size <= len(value):
            value = {"critical": "crit", "medium": "med"}[value]
        text.append_text(_cell(value, size, style))
    return text


def _value(name: str, row: Row, hold: Hold, board: Board, now: datetime) -> tuple[str, str]:
    request, who = hold.request, hold.request.requester
    waits = hold.state is HoldState.PENDING
    match name:
        case "":
            mark = "+" if set(row.ids) <= board.marked else "*" if board.fresh & set(row.ids) else " "
            return mark + (" " if row.is_member else ("v" if row.is_open else ">") if len(row.ids) > 1 else " "), "bold yellow"
        case "ID":
            return str(hold.id), ""
        case "AGE":
            return span((now - hold.created_at).total_seconds()), "dim"
        case "LEFT":
            if not waits:
                return str(hold.state), STATE.get(hold.state, "")
            left = (row.group.expires_first.expires_at - now).total_seconds()
            return span(left), "bold red" if left < 60 else ""
        case "SEVERITY":
            return row.group.severity, SEVERITY[row.group.severity]
        case "WHO":
            return safe(who.role, 100), ""
        case "WHERE":
            return safe(who.database, 100), ""
        case "RULES":
            return ", ".join(safe(r, 60) for r in row.group.rule_ids[:4]), "dim"
        case _:
            many = f"{len(row.ids)} x " if len(row.ids) > 1 else "  " if row.is_member else ""
            why = f"[{safe(row.group.why, 40)}] " if row.group.why else ""
            act = f"[{safe(request.act.title, 100)}] " if request.act is not None else ""
            return many + why + act + safe(request.script), ""


def _cell(value: str, size: int, style: str = "") -> Text:
    """Cut or filled to its size, with a blank behind it."""
    text = Text(value, style=style, no_wrap=True)
    if cell_len(value) > size - 1:
        text.truncate(max(0, size - 1), overflow="ellipsis")
    text.append(" " * (size - cell_len(text.plain)), style=Style.null())
    return text


# --- one hold ---------------------------------------------------------------------------------------------------------


def card(entry: Entry, review: Json | None, now: datetime) -> RenderableType:
    """Everything about a hold: our facts first, the requester's words last."""
    hold, request = entry.hold, entry.hold.request
    facts = _Facts()
    _decided(facts, hold)
    _demanded(facts, review or {})
    for statement in request.statements:
        facts.add("does", statement.kind + (f" on {', '.join(statement.relations)}" if statement.relations else ""), "bold")
    _rules(facts, hold, review or {})
    for name, line in sight_lines(entry.raw):
        facts.add(name, line, "bold" if name in ("changed", "waits") else "")
    for name, line in copy_lines({**entry.raw, "backup_outlook": (review or {}).get("backup_outlook")}):
        facts.add(name, line, "bold red" if line.startswith(("NONE", "FAILED")) else "")
    _asked(facts, hold, now)
    group = (review or {}).get("group", {"ids": [], "why": ""})
    if len(group["ids"]) > 1:
        facts.add("with it", f"{len(group['ids'])} wait together: {group['why']}")
    for one in (review or {}).get("similar", []):
        facts.add("before", f"hold {one['id']} {one['state']} by {one['operator']}: {one['reason']}", "dim")
    for number, value in enumerate(request.parameters, 1):
        facts.add(f"${number}", "NULL" if value is None else value)
    return RenderGroup(_title(hold, now), facts.table, Text(), _script(request.script, tuple(f.span for f in request.findings)))


def _title(hold: Hold, now: datetime) -> Text:
    text = Text(f"Hold {hold.id}  ", "bold")
    text.append(str(hold.state), STATE.get(hold.state, "not bold"))
    text.append("  ")
    text.append(f" {hold.request.severity} ", SEVERITY[hold.request.severity])
    if hold.state is HoldState.PENDING:
        left = (hold.expires_at - now).total_seconds()
        text.append(f"  expires in {span(left)}", "bold red" if left < 60 else "not bold")
    return text


class _Facts:
    """Names on the left, what is so on the right, however long."""

    def __init__(self) -> None:
        self.table = Table.grid(padding=(0, 1))
        self.table.add_column(style="dim", min_width=9, max_width=18)
        self.table.add_column(ratio=1)

    def add(self, name: str, value: str, style: str = "") -> None:
        self.table.add_row(Text(name), Text(safe(value, _VALUE_CHARACTERS), style))


def _decided(facts: _Facts, hold: Hold) -> None:
    if hold.decision is not None:
        word = "approved" if hold.decision.approved else "denied"
        by = ", ".join(hold.decision.approvers) or hold.decision.operator
        facts.add("decision", f"{word} by {by}: {hold.decision.reason}", "bold")
        if hold.decision.suggestion:
            facts.add("suggested", hold.decision.suggestion)
    if hold.outcome:
        facts.add("outcome", hold.outcome)


def _demanded(facts: _Facts, review: Json) -> None:
    if review.get("why_not"):
        facts.add("yours", f"not to decide: {review['why_not']}", "bold yellow")
    needed = review.get("approvers_needed", 1)
    if needed > 1:
        given = ", ".join(a["operator"] for a in review.get("approvals", ())) or "none yet"
        facts.add("approvals", f"{needed} people must approve; so far: {given}", "bold yellow")
    if review.get("second_factor"):
        facts.add("code", "of your second factor is needed")


def _rules(facts: _Facts, hold: Hold, review: Json) -> None:
    for finding in hold.request.findings:
        facts.add("finding", f"{finding.rule_id}: {finding.message}", SEVERITY.get(finding.severity, "").partition(" on ")[0])
        if finding.irreversible:
            facts.add("", "it cannot be taken back", "bold red")
        rule = review.get("rules", {}).get(finding.rule_id, {})
        for name, value in (("why", rule.get("why")), ("instead", finding.hint or rule.get("instead")), ("safer", finding.suggestion)):
            if value:
                facts.add(name, value, "" if name == "safer" else "dim")


def _asked(facts: _Facts, hold: Hold, now: datetime) -> None:
    request, who = hold.request, hold.request.requester
    facts.add("who", f"{who.role} from {who.client_addr}" + (f" ({who.application_name})" if who.application_name else ""))
    facts.add("where", f"database {who.database}, {request.environment}, session {who.session_id}")
    waits = "; inside a transaction: its locks stay while it waits" if request.in_transaction else ""
    facts.add("how", f"{request.protocol} protocol, {span((now - hold.created_at).total_seconds())} ago{waits}")


def _more(facts: _Facts, name: str, value: object) -> None:
    """Facts whose shape another part of the proxy decides: each on a line, with its way to it."""
    if value in (None, "", [], {}):
        return
    if isinstance(value, dict):
        for key, one in value.items():
            _more(facts, f"{name} {safe(str(key), 40)}", one)
    elif isinstance(value, list):
        for one in value:
            _more(facts, name, " ".join(f"{k}={v}" for k, v in one.items()) if isinstance(one, dict) else one)
    else:
        facts.add(name, str(value))


@lru_cache(maxsize=8)
def _script(script: str, spans: tuple[tuple[int, int], ...]) -> Text:
    """Drawn every second, while it never changes."""
    text = Text()
    unusual = unusual_characters(script)
    if unusual:
        text.append("The text hides something: " + ", ".join(safe(u, 80) for u in unusual[:20]) + "\n", "bold black on yellow")
    text.append("--- the script, as it was sent ---\n", "dim")
    for piece in pieces(script, spans):
        text.append(_shown(piece), _PIECE.get(piece.kind, "") + (" bold underline red" if piece.danger and piece.kind != "hidden" else ""))
    if len(script) > SHOWN_CHARACTERS:
        text.append(f"\n… {len(script) - SHOWN_CHARACTERS} more characters; `pghold show` has all", "bold")
    return text


def _shown(piece: Piece) -> str:
    if piece.kind == "hidden":
        return f"<{piece.text}>" if piece.text.startswith("U+") else f"{piece.text}<{piece.note.partition(' ')[0]}>"
    return _calm(piece.text.replace("\t", "    "))
