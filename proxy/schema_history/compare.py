"""Two versions of a schema, object by object. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from difflib import unified_diff
from typing import Final

from proxy.schema_history.model import SchemaObject

_COLUMN: Final = re.compile(r'^    (?P<name>"(?:[^"]|"")+"|[^\s"]+) (?P<rest>.+?),?$')
_NOT_COLUMNS: Final = ("CONSTRAINT ", "CHECK ", "EXCLUDE ", "LIKE ")
#: So many lines are kept of a summary.
SUMMARY_LINES: Final = 200


def summary(before: Iterable[SchemaObject], now: Iterable[SchemaObject]) -> tuple[str, ...]:
    """A line for each object: + it is new, - it is gone, ~ it changed, and how."""
    old, new = _keyed(before), _keyed(now)
    lines: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        was, now_is = old.get(key), new.get(key)
        if was is None and now_is is not None:
            lines.append(f"+ {now_is.shown}")
        elif now_is is None and was is not None:
            lines.append(f"- {was.shown}")
        elif was is not None and now_is is not None and was != now_is:
            changes = list(_changes(was, now_is))
            lines.append(f"~ {now_is.shown}" + (f" ({', '.join(changes)})" if changes else ""))
    if len(lines) > SUMMARY_LINES:
        lines[SUMMARY_LINES:] = [f"and {len(lines) - SUMMARY_LINES:,} more"]
    return tuple(lines)


def _keyed(found: Iterable[SchemaObject]) -> dict[tuple[str, str, str, int], SchemaObject]:
    """By schema, name and kind; what has the same (default privileges, say) is told apart by its place."""
    seen: Counter[tuple[str, str, str]] = Counter()
    keyed = {}
    for o in found:
        key = (o.schema, o.name, o.kind)
        keyed[(*key, seen[key])] = o
        seen[key] += 1
    return keyed


def _changes(was: SchemaObject, now: SchemaObject) -> Iterator[str]:
    if was.owner != now.owner:
        yield f"owner {was.owner or '-'} is {now.owner or '-'} now"
    if now.kind not in ("TABLE", "FOREIGN TABLE"):
        return
    old, new = dict(columns(was.ddl)), dict(columns(now.ddl))
    yield from (f"column {name} added" for name in new if name not in old)
    yield from (f"column {name} dropped" for name in old if name not in new)
    yield from (f"column {name} changed: {old[name]} is {new[name]} now" for name in new if name in old and old[name] != new[name])


def columns(ddl: str) -> Iterator[tuple[str, str]]:
    """(name as written, the rest) of each column of a CREATE TABLE as pg_dump writes it."""
    inside = False
    for line in ddl.splitlines():
        if not inside and line.endswith("("):
            inside = True
        elif inside and line.startswith(")"):
            return
        elif inside and not line.strip().startswith(_NOT_COLUMNS) and (match := _COLUMN.match(line)):
            yield match["name"], match["rest"]


def diff(before: str, now: str, names: tuple[str, str]) -> list[str]:
    """Lines of a unified diff, without their ends."""
    return list(unified_diff(before.splitlines(), now.splitlines(), *names, lineterm=""))
