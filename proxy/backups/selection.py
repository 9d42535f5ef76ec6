"""Which entries of an archive must be restored so that tables are again as they were. Pure: no server, no files.

What is there still and what is gone is known by oid: an object keeps its oid for life, and the archive has that of each object. An entry
without an object of its own (a comment, a privilege, the rows) goes with the object it belongs to, its first dependency.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from proxy.backups.archive import Entry

#: They join two objects: either may have been gone.
_JOINTS: Final = frozenset({"TABLE ATTACH", "INDEX ATTACH"})
#: The contents of large objects are found by no table's entry.
_LARGE_OBJECTS: Final = frozenset({"BLOB METADATA", "BLOB", "BLOBS", "BLOB COMMENTS", "LARGE OBJECT"})
#: What has rows of other tables, or shows them, or is about the database as a whole.
_OTHERS: Final = frozenset(
    {
        "TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", "MATERIALIZED VIEW DATA", "EVENT TRIGGER", "PUBLICATION", "PUBLICATION TABLE",
        "PUBLICATION TABLES IN SCHEMA", "SUBSCRIPTION", "SUBSCRIPTION TABLE", "SERVER", "USER MAPPING", "FOREIGN DATA WRAPPER", "DEFAULT ACL",
    }
)  # fmt: skip


def to_restore(
    entries: Iterable[Entry], is_gone: Callable[[Entry], bool], seeds: Iterable[int], *, everything: bool = False
) -> tuple[Entry, ...]:
    """The entries to restore, in the archive's order.

    Args:
        is_gone: whether the object of an entry that has one does not exist any more.
        seeds: ids of what is to be as it was; what is gone of that which depends on it, and of that which it depends on, comes with it.
        everything: whatever is gone comes back, whether or not it has to do with the seeds.
    """
    ordered = [e for e in entries if e.kind not in _LARGE_OBJECTS]
    by_id = {e.id: e for e in ordered}
    gone = {e.id for e in ordered if e.oid and e.catalog and is_gone(e)}
    roots = _with_holders(ordered, set(seeds))
    chosen = set(gone) if everything else gone & roots
    while True:
        before = len(chosen)
        for entry in ordered:
            if entry.id in gone and entry.id not in chosen and any(d in chosen or d in roots for d in entry.depends):
                chosen.add(entry.id)
        for entry in reversed(ordered):
            if entry.id in chosen:
                chosen.update(d for d in entry.depends if d in gone)
        if len(chosen) == before:
            break
    added = True
    while added:
        # A column's privileges belong to a table's privileges, which belong to the table.
        more = {e.id for e in ordered if e.id not in chosen and not (e.oid and e.catalog) and _goes_with(e, chosen)}
        added = bool(more)
        chosen |= more
    return tuple(by_id[e.id] for e in ordered if e.id in chosen)


def _with_holders(entries: list[Entry], seeds: set[int]) -> set[int]:
    """With the tables that these are partitions of, and the keys of all, since foreign keys hang on either."""
    parents = {e.depends[0]: e.depends[1] for e in entries if e.kind == "TABLE ATTACH" and len(e.depends) > 1}
    roots = set(seeds)
    for seed in seeds:
        while seed in parents:
            seed = parents[seed]
            roots.add(seed)
    return roots | {e.id for e in entries if e.kind in ("CONSTRAINT", "INDEX") and any(d in roots for d in e.depends)}


def _goes_with(entry: Entry, chosen: set[int]) -> bool:
    if entry.kind in _JOINTS:
        return any(d in chosen for d in entry.depends)
    return bool(entry.depends) and entry.depends[0] in chosen


def only(entries: Iterable[Entry], tables: set[int]) -> tuple[Entry, ...]:
    """Some tables by themselves: what they need, and what needs no other table. In the archive's order.

    `tables`: ids of their entries. Foreign keys to and from other tables are not among it, and neither are views. Functions and types are, since values
    may name them.
    """
    ordered = [e for e in entries if e.kind not in _LARGE_OBJECTS]
    by_id = {e.id: e for e in ordered}
    chosen = set(tables)
    waiting = list(tables)
    while waiting:
        for needed in by_id[waiting.pop()].depends:
            if needed in by_id and needed not in chosen:
                chosen.add(needed)
                waiting.append(needed)
    while True:
        more = {e.id for e in ordered if e.id not in chosen and e.kind not in _OTHERS and all(d in chosen for d in e.depends if d in by_id)}
        if not more:
            return tuple(e for e in ordered if e.id in chosen)
        chosen |= more
