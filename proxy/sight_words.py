"""What a hold is about, in lines for a terminal: from the JSON that the API gives, so that every way in says the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from proxy.impact.words import lines as consequence_lines
from proxy.impact.words import size as size  # for those who import it from here

Json = Mapping[str, Any]  # any: JSON

_LISTED: Final = 8


def sight_lines(hold: Json) -> Iterator[tuple[str, str]]:
    """A name and what is so, for each fact of hold["impact"] and hold["difference"]. Nothing is escaped here."""
    for sentence in hold.get("difference") or ():
        yield "changed", sentence
    if (act := hold.get("act")) is not None:
        yield "act", act_line(act)
    impact = hold.get("impact")
    if impact is None:
        return
    if (consequences := impact.get("consequences")) is not None:
        # The tables of an act are listed once, all of them.
        yield from ((label, text) for label, text in consequence_lines(consequences) if act is None or label not in ("reaches", "takes"))
    if act is None:
        for found in impact["objects"]:
            yield "object", object_line(found)
    else:
        for table in act["tables"]:
            yield "table", table_line(table)
    if impact["missing"]:
        yield "not there", some(impact["missing"])
    if impact["locks"]:
        yield "locks", f"the session has {some(impact['locks'])}"
    for waiter in impact["waiting"]:
        program = f" ({waiter['application_name']})" if waiter["application_name"] else ""
        yield "waits", f"{waiter['role'] or 'process'} {waiter['pid']}{program} waits behind it since {waiter['for_s']:.0f} s"
    if impact["unbound"]:
        yield "not seen", impact["unbound"]


def act_line(act: Json) -> str:
    """What a tool has begun, with all its rows."""
    rows = [t["rows"] for t in act["tables"]]
    known = sum(r for r in rows if r is not None)
    about = "" if all(t["exact"] for t in act["tables"]) else "about "
    return f"{act['title']}, {about}{known:,} rows in all" if any(r is not None for r in rows) else str(act["title"])


def table_line(table: Json) -> str:
    """One table of an act."""
    rows = "rows not counted" if table["rows"] is None else f"{'' if table['exact'] else 'about '}{table['rows']:,} rows"
    return f"{table['name']}: {rows}, {size(table['bytes'])}"


def object_line(found: Json) -> str:
    """One object on a line."""
    resolved = found["resolved"]
    parts = [f"{found['name']}: {found['kind']}" + (f" {resolved}" if resolved != found["name"] else "") + f" of {found['owner']}"]
    if found["temporary"]:
        parts.append("temporary")
    if found["kind"] == "schema":
        parts.append(f"{found['relations']} relations")
    elif found["relations"] > 1:
        parts.append(f"{found['relations']} relations with its partitions and children")
    if found["rows"] is not None:
        parts.append(f"about {found['rows']:,} rows")
    parts.append(size(found["bytes"]))
    for what, names in (("views", found["views"]), ("foreign keys from", found["foreign_keys"]), ("triggers", found["triggers"])):
        if names:
            parts.append(f"{what} {some(names)}")
    if found["sessions"]:
        parts.append(f"{found['sessions']} other session{'' if found['sessions'] == 1 else 's'} use it now")
    return ", ".join(parts)


def some(names: Sequence[str]) -> str:
    """The first few."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
