"""A copy as JSON: the object that the API and the CLI's --json give out."""

from __future__ import annotations

from proxy.backups.keeper import DatabaseState, words_of
from proxy.backups.model import Backup
from proxy.holds_json import Json, iso


def backup_as_json(backup: Backup, *, tables: bool = False) -> dict[str, Json]:
    """The list leaves its tables out."""
    told: dict[str, Json] = {
        "id": int(backup.id),
        "kind": str(backup.kind),
        "state": str(backup.state),
        "database": backup.database,
        "hold_id": None if backup.hold_id is None else int(backup.hold_id),
        "created_at": iso(backup.created_at),
        "finished_at": iso(backup.finished_at),
        "what": words_of(backup),
        "rows": backup.rows,
        "table_count": len(backup.tables),
        "bytes": backup.bytes,
        "progress": backup.progress,
        "error": backup.error,
        "proof": str(backup.proof),
        "proof_text": backup.proof_text,
        "proved_at": iso(backup.proved_at),
        "folder": backup.folder,
        "targets": list(backup.targets),
        "manifest_sha256": backup.manifest_sha256,
    }
    if tables:
        told["tables"] = [{"name": t.name, "rows": t.rows, "bytes": t.bytes, "checksum": t.checksum} for t in backup.tables]
    return told


def database_as_json(state: DatabaseState) -> dict[str, Json]:
    return {
        "name": state.name,
        "proven_at": iso(state.proven_at),
        "taken_at": iso(state.taken_at),
        "next_at": iso(state.next_at),
        "running": state.running,
        "error": state.error,
    }
