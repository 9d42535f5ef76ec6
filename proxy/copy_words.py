"""What copy a hold has, or will have, in words: from the JSON that the API gives, so that every way in says the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.backups.commands import back_command

Json = Mapping[str, Any]  # any: JSON


def copy_lines(hold: Json) -> Iterator[tuple[str, str]]:
    """A name and what is so. Nothing is escaped here."""
    decision, copy, outlook = hold.get("decision") or {}, hold.get("backup"), hold.get("backup_outlook")
    if decision.get("without_backup"):
        yield "backup", f"NONE: approved WITHOUT A BACKUP by {decision['operator']}"
    elif copy is None:
        if outlook is not None:
            yield "backup", outlook["text"]
    elif copy["state"] == "running":
        yield "copying", copy["text"] or "begun"
    elif copy["state"] == "failed":
        yield "backup", f"FAILED: {copy['text']}"
    elif copy["state"] == "none":
        yield "backup", f"none: {copy['text'] or 'nothing could be lost'}"
    else:
        yield "backup", copy["text"]
        if command := back_command(copy["kind"], int(hold["id"])):
            yield "back", f"{command} brings it back"


def copy_mark(hold: Json) -> str:
    """The same in a word or two, for a list; empty when there is nothing to say yet."""
    copy = hold.get("backup")
    if (hold.get("decision") or {}).get("without_backup"):
        return "WITHOUT"
    match copy["state"] if copy else "":
        case "running":
            return "copying"
        case "failed":
            return "FAILED"
        case "done":
            proof = {"equal": "proven", "different": "DIFFERENT", "failed": "UNPROVEN"}.get(copy["proof"], "") if copy else ""
            return f"{copy['backup_id']} {proof}".strip() if copy and copy["backup_id"] else "made"
        case "none":
            return "none"
        case _:
            return ""
