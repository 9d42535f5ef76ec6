"""Versions of schemas for programs, and the questions that the API and the console ask of them. All may block."""

from __future__ import annotations

from proxy.holds_json import iso
from proxy.schema_history.compare import diff, summary
from proxy.schema_history.dump import text_of
from proxy.schema_history.model import SchemaVersion
from proxy.schema_history.store import SchemaStore, UnknownVersionError


def version_as_json(version: SchemaVersion) -> dict[str, object]:
    return {
        "version": version.number,
        "digest": version.digest,
        "at": iso(version.at),
        "by": list(version.by),
        "statements": list(version.statements),
        "holds": list(version.hold_ids),
        "drift": version.drift,
        "accepted_by": version.accepted_by,
        "objects": version.objects,
        "summary": list(version.summary),
    }


def log(store: SchemaStore, database: str, limit: int = 1000) -> list[SchemaVersion]:
    """Newest first. Raises UnknownVersionError, OSError."""
    found = store.versions(database)
    if not found:
        raise UnknownVersionError(f"no version of the schema of {database} is kept")
    return found[::-1][:limit]


def chosen(store: SchemaStore, database: str, number: int | None) -> SchemaVersion:
    """That version; the newest when none is given. Raises UnknownVersionError, OSError."""
    return log(store, database, 1)[0] if number is None else store.version(database, number)


def shown(store: SchemaStore, database: str, number: int | None) -> tuple[SchemaVersion, str]:
    """A version and its text. Raises UnknownVersionError, OSError."""
    version = chosen(store, database, number)
    return version, text_of(store.objects(database, version))


def compared(
    store: SchemaStore, database: str, before: int | None, now: int | None
) -> tuple[SchemaVersion, SchemaVersion, tuple[str, ...], list[str]]:
    """Two versions, the summary and the lines of their difference; by default the newest and the one before it.

    Raises UnknownVersionError, OSError.
    """
    new = chosen(store, database, now)
    if before is None:
        earlier = [v for v in store.versions(database) if v.number < new.number]
        if not earlier:
            raise UnknownVersionError(f"version {new.number} of {database} is the first that is kept")
        old = earlier[-1]
    else:
        old = store.version(database, before)
    was, now_is = store.objects(database, old), store.objects(database, new)
    names = (f"version {old.number}", f"version {new.number}")
    return old, new, summary(was, now_is), diff(text_of(was), text_of(now_is), names)
