"""Copies on a terminal. Names in them come from a database, so what does not show is made visible."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from proxy.backups.manifests import files_of
from proxy.cli.render import span, visible
from proxy.sight_words import size

_PROOF = {"equal": "green", "running": "yellow", "none": "yellow", "different": "bold white on red", "failed": "bold red"}
_STATE = {"done": "green", "running": "yellow", "failed": "bold red", "removed": "dim"}
#: Tables and files of one copy that are listed; --json has all.
_LISTED = 50

Json = dict[str, Any]


def _ago(moment: str | None) -> str:
    return "-" if moment is None else span((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())


def proof_text(backup: Json) -> Text:
    """Whether it can be relied on, in a word or a sentence."""
    if backup["state"] != "done":
        return Text(visible(backup["error"] or backup["progress"] or backup["state"], False), _STATE.get(backup["state"], ""))
    words = {"equal": "proven", "running": "being proven", "none": "not proven yet"}
    return Text(visible(words.get(backup["proof"], "") or backup["proof_text"] or backup["proof"], False), _PROOF[backup["proof"]])


def table(backups: list[Json]) -> Table:
    """One line for each, oldest first."""
    result = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("ID", "AGE", "HOLD", "DATABASE", "KIND", "WHAT", "SIZE", "PROOF", "WHERE"):
        flexible = name in ("DATABASE", "WHERE")
        result.add_column(name, no_wrap=True, overflow="ellipsis", min_width=len(name), max_width=24 if flexible else 40)
    for backup in reversed(backups):
        places = ["here", *(visible(t.partition("?")[0], False) for t in backup["targets"])] if backup["state"] == "done" else ["-"]
        what = backup["what"].rpartition(", ")[0] if backup["table_count"] else "-"
        result.add_row(
            str(backup["id"]),
            _ago(backup["created_at"]),
            str(backup["hold_id"] or "-"),
            Text(visible(backup["database"], False)),
            backup["kind"],
            what,
            size(backup["bytes"]) if backup["bytes"] else "-",
            proof_text(backup),
            Text(", ".join(places)),
        )
    return result


def summary(found: Json, console: Console) -> None:
    """How well each database is covered, the disk, and what is wrong."""
    console.print()
    for database in found["databases"]:
        proven = f"last proven full copy {_ago(database['proven_at'])} ago" if database["proven_at"] else "no proven full copy"
        following = f", next {database['next_at'][:16].replace('T', ' ')} UTC" if database["next_at"] else ""
        running = ", one is being made" if database["running"] else ""
        style = "" if database["proven_at"] else "bold yellow"
        console.print(Text.assemble((f"  {visible(database['name'], False):20} ", "bold"), (f"{proven}{following}{running}", style)))
    if not found["schedule"]:
        console.print(Text("  no schedule: whole databases are copied only when asked (backup_schedule)", "bold yellow"))
    free = f", {size(found['free_bytes'])} of {size(found['disk_bytes'])} are free" if found["disk_bytes"] else ""
    console.print(Text(f"  {found['kept']:,} kept, {size(found['kept_bytes'])} in {visible(found['folder'], False)}{free}", "dim"))
    for warning in found["warnings"]:
        console.print(Text(f"  ! {visible(warning, False)}", "bold red"))


def card(backup: Json, console: Console) -> None:
    """Everything about one."""
    console.print(
        Text.assemble((f"Copy {backup['id']}", "bold"), "  ", (backup["state"], _STATE.get(backup["state"], "")), "  ", proof_text(backup))
    )
    facts = [
        ("what", backup["what"]),
        ("database", backup["database"]),
        ("kind", _KINDS.get(backup["kind"], backup["kind"])),
        ("hold", str(backup["hold_id"]) if backup["hold_id"] else "none: on schedule, or by hand"),
        ("made", f"{backup['created_at'][:19].replace('T', ' ')} UTC, {_ago(backup['created_at'])} ago"),
        ("proof", f"{backup['proof_text'] or backup['proof']}" + (f", {_ago(backup['proved_at'])} ago" if backup["proved_at"] else "")),
        ("error", backup["error"]),
        ("folder", backup["folder"]),
        ("also at", ", ".join(t.partition("?")[0] for t in backup["targets"])),
        ("manifest", f"SHA-256 {backup['manifest_sha256']}" if backup["manifest_sha256"] else ""),
        ("not read", backup["manifest_problem"]),
    ]
    for name, value in facts:
        if value:
            console.print(Text.assemble((f"  {name:10}", "dim"), visible(value, False)))
    for name, rows in (
        ("tables", [_table_line(t) for t in backup["tables"]]),
        ("files", [_file_line(f) for f in files_of(backup["manifest"])]),
    ):
        if rows:
            console.print(Text(f"  --- {name} ---", "dim"))
        for line in rows[:_LISTED]:
            console.print(Text(f"  {visible(line, False)}"))
        if len(rows) > _LISTED:
            console.print(Text(f"  and {len(rows) - _LISTED:,} more; --json has all", "dim"))
    if backup["commands"]:
        console.print(Text("  --- to bring it back ---", "dim"))
    for command in backup["commands"]:
        console.print(Text.assemble("  ", (command["command"], "bold"), (f"   {command['what']}", "dim")))


_KINDS = {
    "dump": "dump: an archive of pg_dump of what the statement reached",
    "rows": "rows: those that the statement changed, as they were",
    "trash": "trash: the table itself, in the schema pghold_trash",
    "full": "full: the whole database",
}


def _table_line(found: Json) -> str:
    return f"{found['name']}  {found['rows']:,} rows" + (f", {size(found['bytes'])}" if found["bytes"] else "")


def _file_line(found: Json) -> str:
    return f"{found.get('name', '?')}  {size(found.get('bytes') or 0)}  {str(found.get('sha256', ''))[:16]}"
