"""Holds on a terminal. The text of a statement is a stranger's: what does not show, or shows as something else, is made visible."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from proxy.copy_words import copy_lines, copy_mark
from proxy.sight_words import sight_lines

_STATE_STYLE = {"pending": "bold yellow", "approved": "green", "released": "green", "done": "green", "denied": "red", "failed": "red"}

_SEVERITY_STYLE = {"critical": "bold white on red", "high": "bold red", "medium": "yellow", "low": "green"}


def terminal(*, stderr: bool = False) -> Console:
    """As wide as the terminal; wide enough for whole lines when there is none."""
    out = Console(highlight=False, stderr=stderr)
    if not out.is_terminal:
        out.width = 200
    return out


@contextmanager
def progress_bar(what: str, quiet: bool = False) -> Iterator[Callable[[int, int, int], None] | None]:
    """Told what is done, of how much, and how many records; shown on a terminal only, and gone at the end."""
    err = terminal(stderr=True)
    if quiet or not err.is_terminal:
        yield None
        return
    columns = (TextColumn(what), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[records]:,} records"), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(what, total=None, records=0)
        yield lambda done, total, records: progress.update(task, completed=done, total=total, records=records)


def visible(text: str, keep_lines: bool = True) -> str:
    """Control, bidirectional, zero-width and other format characters as <U+XXXX>."""
    out = []
    for character in text:
        if character == "\n" and keep_lines:
            out.append(character)
        elif character == "\t":
            out.append("    ")
        elif unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp"):
            out.append(f"<U+{ord(character):04X}>")
        else:
            out.append(character)
    return "".join(out)


def span(seconds: float) -> str:
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def table(holds: list[dict[str, Any]]) -> Table:
    """One line for each hold, oldest first."""
    result = Table(box=None, header_style="bold", pad_edge=False)
    copies = [copy_mark(hold) for hold in holds]
    for name in ("ID", "STATE", "AGE", "LEFT", "WHO", "WHERE", "RULES", *(["BACKUP"] if any(copies) else [])):
        result.add_column(name, no_wrap=True, min_width=len(name), max_width=28, overflow="ellipsis")
    result.add_column("STATEMENT", overflow="ellipsis", no_wrap=True, min_width=20)
    now = datetime.now(UTC)
    for hold, copy in reversed(list(zip(holds, copies, strict=True))):
        state = hold["state"]
        left = span((_moment(hold["expires_at"]) - now).total_seconds()) if state == "pending" else "-"
        result.add_row(
            str(hold["id"]),
            Text(state, _STATE_STYLE.get(state, "")),
            span((now - _moment(hold["created_at"])).total_seconds()),
            left,
            Text(visible(f"{hold['role']}@{hold['client_addr']}", False)),
            Text(visible(hold["database"], False)),
            Text(visible(", ".join(hold["rule_ids"]), False), _SEVERITY_STYLE.get(hold["severity"], "") if state == "pending" else "dim"),
            *([Text(copy or "-", "bold red" if any(word.isupper() for word in copy.split()) else "")] if any(copies) else []),
            Text(visible(what(hold), False)),
        )
    return result


def what(hold: dict[str, Any]) -> str:
    """On one line: the act of a tool, before what it began with."""
    script = " ".join(hold["script"].split())
    return f"[{hold['act']['title']}] {script}" if hold.get("act") else script


def grant_table(grants: list[dict[str, Any]]) -> Table:
    """One line for each grant, oldest first."""
    result = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("ID", "KIND", "HOLD", "LEFT", "FOR", "WHERE", "RULES", "BY"):
        result.add_column(name, no_wrap=True, min_width=len(name), max_width=28, overflow="ellipsis")
    result.add_column("REASON", overflow="ellipsis", no_wrap=True, min_width=20)
    now = datetime.now(UTC)
    for grant in reversed(grants):
        session = f", session {grant['session_id']}" if grant["session_id"] else ""
        result.add_row(
            str(grant["id"]),
            grant["kind"],
            str(grant["hold_id"]),
            span((_moment(grant["expires_at"]) - now).total_seconds()),
            Text(visible(f"{grant['role']}{session}", False)),
            Text(visible(grant["database"], False)),
            ", ".join(grant["rule_ids"]),
            grant["operator"],
            Text(visible(grant["reason"], False)),
        )
    return result


def card(hold: dict[str, Any], console: Console) -> None:
    """Everything about one hold: our facts first, the requester's words last."""
    now = datetime.now(UTC)
    state = hold["state"]
    console.print(Text.assemble(("Hold ", "bold"), (str(hold["id"]), "bold"), "  ", (state, _STATE_STYLE.get(state, ""))))
    left = f", expires in {span((_moment(hold['expires_at']) - now).total_seconds())}" if state == "pending" else ""
    facts = [("age", span((now - _moment(hold["created_at"])).total_seconds()) + left)]
    facts += [("finding", f"{f['rule_id']}: {f['message']}") for f in hold["findings"]]
    facts += [("does", s["kind"] + (f" on {', '.join(s['relations'])}" if s["relations"] else "")) for s in hold["statements"]]
    facts += [
        ("who", f"{hold['role']} from {hold['client_addr']}" + (f" ({hold['application_name']})" if hold["application_name"] else "")),
        ("where", f"database {hold['database']}, {hold['environment']}"),
        (
            "how",
            f"{hold['protocol']} protocol" + (", inside a transaction: its locks stay while it waits" if hold["in_transaction"] else ""),
        ),
    ]
    facts += sight_lines(hold)
    facts += copy_lines(hold)
    if not hold["waits"]:
        facts.append(("client", "does not wait; approved, it runs when it is sent again"))
    if hold["decision"]:
        decision = hold["decision"]
        word = "approved" if decision["approved"] else "denied"
        facts.append(("decision", f"{word} by {decision['operator']}: {decision['reason']}"))
    if hold["outcome"]:
        facts.append(("outcome", hold["outcome"]))
    for name, value in facts:
        console.print(Text.assemble((f"  {name:10}", "dim"), visible(str(value), False)))
    for script in hold["recent"]:
        console.print(Text.assemble(("  before    ", "dim"), (visible(" ".join(script.split()), False)[:200], "dim")))
    for index, value in enumerate(hold["parameters"], 1):
        console.print(Text.assemble((f"  ${index:<9}", "dim"), "NULL" if value is None else visible(value, False)))
    console.print(Text("  --- the script, as it was sent ---", "dim"))
    for line in visible(hold["script"]).splitlines():
        console.print(Text("  " + line))
