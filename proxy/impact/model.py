"""What is foreseen of a held statement. Immutable; kept with the hold as JSON."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reached:
    """A relation that the statement reaches, by name or through others.

    Attributes:
        name: qualified and quoted.
        kind: "table", "view", …
        why: how it is reached: "named", "CASCADE from public.orders", "foreign key ON DELETE CASCADE of public.lines", "partition of …".
        fate: what becomes of it: "dropped", "emptied", "rows deleted", "rows changed", "loses a foreign key", "locked", …
        rows: exact where `exact`, else the catalog's estimate; None where nobody knows.
        bytes: with indexes and TOAST.
    """

    name: str
    kind: str
    why: str
    fate: str
    rows: int | None = None
    exact: bool = False
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Matching:
    """The rows that a DELETE, UPDATE or MERGE matches now.

    Attributes:
        relation: qualified and quoted.
        rows: exact where `exact`, else the planner's estimate.
        share: of the table, 0 to 1; None when its size is not known.
        columns, sample: at most ten rows as text, values cut; None is NULL.
        problem: why there is no count.
    """

    relation: str
    rows: int | None = None
    exact: bool = False
    share: float | None = None
    columns: tuple[str, ...] = ()
    sample: tuple[tuple[str | None, ...], ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Blocked:
    """A session that waits behind the held one."""

    pid: int
    role: str
    application_name: str
    for_s: float
    query: str = ""


@dataclass(frozen=True, slots=True)
class Consequences:
    """All that is foreseen.

    Attributes:
        reached: relations, those that are named first.
        of_relations: how many tables the database has, so that "71 of 71" can be said.
        matching: one for each DELETE, UPDATE or MERGE of the script.
        triggers, rules: that fire, as "name on relation".
        publications, replicas: whose subscribers and standbys get the change as well.
        locks: the lock modes that it takes, as "ACCESS EXCLUSIVE on public.orders".
        rewrites: relations that are written anew as a whole.
        blocked: who waits behind the held session.
        notes: what else should be known, a sentence each.
        problem: why nothing, or not all, could be foreseen.
        source: who was asked: "control connection".
    """

    reached: tuple[Reached, ...] = ()
    of_relations: int | None = None
    matching: tuple[Matching, ...] = ()
    triggers: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    publications: tuple[str, ...] = ()
    replicas: tuple[str, ...] = ()
    locks: tuple[str, ...] = ()
    rewrites: tuple[str, ...] = ()
    blocked: tuple[Blocked, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str = ""
    source: str = ""
