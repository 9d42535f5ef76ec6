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
    impact = hold.get("impact")
    if impact is None:
        return
    if (consequences := impact.get("consequences")) is not None:
        yield from consequence_lines(consequences)
    for found in impact["objects"]:
        yield "object", object_line(found)
    if impact["missing"]:
        yield "not there", some(impact["missing"])
    if impact["locks"]:
        yield "locks", f"the session has {some(impact['locks'])}"
    for waiter in impact["waiting"]:
        program = f" ({waiter['application_name']})" if waiter["application_name"] else ""
        yield "waits", f"{waiter['role'] or 'process'} {waiter['pid']}{program} waits behind it since {waiter['for_s']:.0f} s"
    if impact["unbound"]:
        yield "not seen", impact["unbound"]


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
