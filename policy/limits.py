"""Row limits: which statements count towards them, and whether their CommandComplete tells how many rows they change."""

from __future__ import annotations

from typing import Final, TypedDict

from policy.facts import Facts
from policy.view import RowLimit

#: Their tags count the rows that they themselves change (protocol-message-formats.html, CommandComplete).
_COUNTED: Final = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "COPY"})
#: Nothing in them is executed here, or it changes no rows.
_NOT_DATA: Final = ("CREATE", "ALTER", "DROP", "PREPARE", "COMMENT", "GRANT", "REVOKE", "TRUNCATE", "LOCK")


class Limits(TypedDict):
    """The fields of StatementReport."""

    limits: tuple[RowLimit, ...]
    uncounted: bool


def limits_of(facts: Facts, index: int, row_limits: tuple[RowLimit, ...]) -> Limits:
    """Of one statement of a script."""
    statement = facts.statements[index]
    written = {str(r) for r in statement.writes if not r.is_temp}
    counted = statement.kind in _COUNTED
    if statement.kind == "EXECUTE":
        # Its tag is that of the prepared statement; who that is may be known only later.
        meanings = [m for e in facts.executed if e.statement == index for m in e.meanings]
        found = tuple(dict.fromkeys(limit for m in meanings for s in m.statements for limit in s.limits))
        return {"limits": found if meanings else row_limits, "uncounted": any(s.uncounted for m in meanings for s in m.statements)}
    if not written or statement.kind.startswith(_NOT_DATA):
        return {"limits": (), "uncounted": False}
    limits = tuple(limit for limit in row_limits if limit.concerns(written))
    # Rows that a WITH changes are not in the tag of the statement around it.
    return {"limits": limits, "uncounted": bool(limits) and (not counted or len(written) > 1 or _nested(facts, index))}


def _nested(facts: Facts, index: int) -> bool:
    changes = [c for c in facts.changes if c.statement == index]
    return len(changes) > 1 or (facts.statements[index].kind in ("INSERT", "COPY") and bool(changes))
