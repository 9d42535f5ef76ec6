"""What is foreseen of a hold, in words: from the JSON that the API gives, so that console, psql and command line say the same.

Nothing is escaped here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Json = Mapping[str, Any]  # any: JSON

#: Relations and names listed on a card.
LISTED: Final = 12
_TABLES: Final = ("table", "partitioned table")


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that should be seen first, and what it counts. `loud`: something is lost."""

    number: str
    what: str
    loud: bool = True


def figures(consequences: Json) -> list[Figure]:
    """The big numbers: what is lost, then what waits."""
    reached: Sequence[Json] = consequences["reached"]
    found: list[Figure] = []
    gone = [r for r in reached if r["fate"] in ("dropped", "emptied")]
    for fate in ("dropped", "emptied"):
        tables = sum(r["kind"] in _TABLES and r["fate"] == fate for r in reached)
        if tables:
            of = consequences["of_relations"]
            what = f"{'table' if (of or tables) == 1 else 'tables'} {fate}"
            found.append(Figure(f"{tables:,} of {of:,}" if of is not None and of >= tables else f"{tables:,}", what))
    filled = [r for r in gone if r["rows"] is not None and r["kind"] in _TABLES]
    if filled:
        rows = sum(r["rows"] for r in filled)
        exact = all(r["exact"] for r in filled)
        found.append(Figure(f"{'' if exact else 'about '}{rows:,}", "row in them" if rows == 1 else "rows in them"))
    views = sum(r["kind"] in ("view", "materialized view") for r in gone)
    if views:
        found.append(Figure(f"{views:,}", "view dropped" if views == 1 else "views dropped"))
    columns = sum(r["fate"].startswith("loses column") for r in reached)
    if columns:
        found.append(Figure(f"{columns:,}", "column lost" if columns == 1 else "columns lost"))
    total = sum(r["bytes"] for r in gone)
    if total:
        found.append(Figure(size(total), "of data and indexes"))
    for one in consequences["matching"]:
        if one["rows"] is not None:
            share = f", {percent(one['share'])} of {one['relation']}" if one["share"] is not None else f" of {one['relation']}"
            found.append(
                Figure(
                    f"{'' if one['exact'] else 'about '}{one['rows']:,}", f"{'row matches' if one['rows'] == 1 else 'rows match'}{share}"
                )
            )
    below = [r for r in reached if r["fate"] in ("rows deleted", "rows changed") and r["why"] != "named" and r["rows"]]
    if below:
        rows = sum(r["rows"] for r in below)
        found.append(Figure(f"{rows:,}", f"{'row' if rows == 1 else 'rows'} of other tables by foreign key"))
    if consequences["blocked"]:
        count = len(consequences["blocked"])
        found.append(Figure(f"{count:,}", f"{'session waits' if count == 1 else 'sessions wait'} behind it"))
    return found


def percent(share: float) -> str:
    """Nothing that is not all is said to be all, and nothing that is some to be none."""
    if share >= 1:
        return "all"
    if share <= 0:
        return "none"
    return "less than 0.1 %" if share < 0.001 else "more than 99.9 %" if share > 0.999 else f"{100 * share:.1f} %"


def lines(consequences: Json) -> Iterator[tuple[str, str]]:
    """A name and what is so, for terminals."""
    numbers = figures(consequences)
    if numbers:
        yield "impact", "; ".join(f"{f.number} {f.what}" for f in numbers)
    for one in consequences["matching"]:
        if one["problem"]:
            yield "not counted", f"{one['relation']}: {one['problem']}"
        for row in one["sample"][:3]:
            yield "such as", ", ".join(f"{c}={'NULL' if v is None else v}" for c, v in zip(one["columns"], row, strict=False))
    reached: Sequence[Json] = consequences["reached"]
    for one in reached[:LISTED]:
        yield "reaches", reached_line(one)
    if len(reached) > LISTED:
        yield "reaches", f"and {len(reached) - LISTED:,} more"
    for name, key in (
        ("fires", "triggers"),
        ("rules", "rules"),
        ("published", "publications"),
        ("replicas", "replicas"),
        ("takes", "locks"),
        ("rewrites", "rewrites"),
    ):
        if consequences[key]:
            yield name, some(consequences[key])
    for one in consequences["blocked"][:LISTED]:
        yield "blocks", blocked_line(one)
    for note in consequences["notes"]:
        yield "note", note
    if consequences["problem"]:
        yield "unforeseen", consequences["problem"]


def reached_line(one: Json) -> str:
    """One relation on a line."""
    parts = [f"{one['name']}: {one['kind']}, {one['fate']}"]
    if one["why"] != "named":
        parts.append(one["why"])
    if one["rows"] is not None:
        parts.append(f"{'' if one['exact'] else 'about '}{one['rows']:,} {'row' if one['rows'] == 1 else 'rows'}")
    if one["bytes"]:
        parts.append(size(one["bytes"]))
    return ", ".join(parts)


def blocked_line(one: Json) -> str:
    program = f" ({one['application_name']})" if one["application_name"] else ""
    return f"{one['role'] or 'process'} {one['pid']}{program} waits behind it for {one['for_s']:.0f} s: {one['query']}"


def some(names: Sequence[str]) -> str:
    """The first few."""
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more:,} more" if more > 0 else "")


def size(count: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError
