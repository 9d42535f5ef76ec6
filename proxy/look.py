"""A look at what a held statement is about: one read-only question, asked on the session's own backend link.

Only the session itself sees what its names mean: its search_path, its temporary tables, what its transaction has made and not
committed. The question (look.sql) reads the catalog and nothing else: it locks no relation of the user's, every function and operator in it is
named with its schema so that none of the user's is called, and it looks names up by joins, because to_regclass() fails on a schema that
may not be used and a failure would abort the user's transaction. Its answer is hexadecimal, so that no character of it has to be
converted into the client's encoding.

The question goes as Parse, Bind, Execute and Close of a named statement, so that the unnamed ones of the frontend stay; with a Sync when
nothing is in flight, and with a Flush inside a series, where a Sync would end the user's implicit transaction.

What was seen is kept with the hold. Before the release the same question is asked again, and what differs is told: a decision is about
the objects that the operator saw, not about whatever has their names by then.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from policy.judgement import Judgement
from proxy.asides import Aside, aside_of
from proxy.relkinds import RELATION_KINDS

QUESTION: Final = files("proxy").joinpath("look.sql").read_bytes().strip()
#: Names asked about; a script that names more is bound to the first ones.
NAMES_LIMIT: Final = 200

_KINDS: Final = {**RELATION_KINDS, "schema": "schema"}


@dataclass(frozen=True, slots=True)
class SeenObject:
    """A relation or schema, as the session's catalog had it.

    Attributes:
        asked: the name as it was written; `now` as the server writes it.
        oid, node: of pg_class and its file (catalog-pg-class.html; node 0: it has none).
        digest: over all relations of a partitioned or inherited table, or of a schema.
        columns: names and types, for the difference to be told.
        rows, bytes: the catalog's estimates; None where it was never analysed.
        relations: with partitions and children; of a schema, what is in it.
        views, foreign_keys, triggers: what depends on it, at most 100 of each.
        users: other sessions that have a lock on it now.
    """

    asked: str
    oid: int
    node: int
    now: str
    kind: str
    digest: str
    columns: str = ""
    owner: str = ""
    rows: int | None = None
    bytes: int = 0
    relations: int = 1
    views: tuple[str, ...] = ()
    foreign_keys: tuple[str, ...] = ()
    triggers: tuple[str, ...] = ()
    indexes: int = 0
    users: int = 0
    temporary: bool = False


@dataclass(frozen=True, slots=True)
class Waiter:
    """A session that waits for a lock of the held one."""

    pid: int
    role: str
    application_name: str
    for_s: float


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look found.

    Attributes:
        missing: names that mean no relation and no schema; functions, types and the like are among them.
        locks: what the session has locked already, and how.
        unbound: why nothing was seen; the decision is then about the text alone.
        schemas: of an act (acts.py): those of which all relations were seen.
    """

    objects: tuple[SeenObject, ...] = ()
    missing: tuple[str, ...] = ()
    locks: tuple[str, ...] = ()
    waiting: tuple[Waiter, ...] = ()
    unbound: str = ""
    schemas: tuple[str, ...] = ()


class Question(Aside):
    """An aside that changes and locks nothing."""

    __slots__ = ()


@dataclass(slots=True)
class Look(Question):
    """One question in flight.

    Attributes:
        names: asked about, in order.
    """

    names: tuple[str, ...] = ()

    def sight(self, server_encoding: str) -> Sight:
        if self.problem or not self.row:
            return Sight(unbound=self.problem or "the server gave no answer")
        try:
            return _read(self.row, self.names, server_encoding)
        except (ValueError, KeyError, TypeError, LookupError) as error:
            return Sight(unbound=f"the server's answer could not be read: {type(error).__name__}")


#: Second words of commands whose names are of something else.
OTHER_OBJECTS: Final = frozenset(
    [
        "ACCESS",
        "AGGREGATE",
        "CAST",
        "COLLATION",
        "CONVERSION",
        "DATABASE",
        "DOMAIN",
        "EVENT",
        "EXTENSION",
        "FUNCTION",
        "LANGUAGE",
        "OPERATOR",
        "OWNED",
        "PROCEDURE",
        "PUBLICATION",
        "ROLE",
        "ROUTINE",
        "SERVER",
        "SUBSCRIPTION",
        "TABLESPACE",
        "TEXT",
        "TRANSFORM",
        "TYPE",
        "USER",
    ]
)


def names_of(judgement: Judgement) -> Iterator[tuple[str, str]]:
    """The relations and schemas that a script is about, as (kind, name as written)."""
    for index, statement in enumerate(judgement.statements):
        word = statement.kind.split()[1:2]
        if word and word[0] in OTHER_OBJECTS:
            continue
        kind = "schema" if word == ["SCHEMA"] else "relation"
        # What only a finding names is in code that the statement runs or prepares.
        names = statement.relations or tuple(name for f in judgement.findings if f.statement == index for name in f.relations)
        yield from ((kind, name) for name in names)
    if not judgement.statements:
        yield from (("relation", name) for f in judgement.findings for name in f.relations)


def make_look(names: Iterable[tuple[str, str]], number: int, client_encoding: str, *, has_sync: bool) -> Look | None:
    """The question about these (kind, name as written); None when there is nothing to ask about, or it cannot be put into the encoding.

    `number` tells the statements of one session apart.
    """
    asked = list(dict.fromkeys(names))[:NAMES_LIMIT]
    questions = []
    for index, (kind, name) in enumerate(asked):
        parts = list(parts_of(name))
        if 1 <= len(parts) <= 2:
            questions.append({"i": index, "kind": kind, "schema": parts[0] if len(parts) == 2 else "", "name": parts[-1]})
    codec = CODECS.get(client_encoding)
    if not questions or codec is None:
        return None
    try:
        argument = json.dumps(questions, ensure_ascii=False).encode(codec)
    except UnicodeEncodeError:
        return None
    aside = aside_of((QUESTION,), number, argument=argument, has_sync=has_sync)
    return Look(aside.messages, aside.kinds, names=tuple(name for _, name in asked))


#: What a parameter can be sent in; in others (the East Asian ones that are for clients only) nothing is asked.
CODECS: Final = {
    "UTF8": "utf-8",
    "SQL_ASCII": "utf-8",
    "LATIN1": "latin-1",
    "LATIN2": "iso8859-2",
    "LATIN9": "iso8859-15",
    "WIN1250": "cp1250",
    "WIN1251": "cp1251",
    "WIN1252": "cp1252",
    "KOI8R": "koi8-r",
    "EUC_JP": "euc_jp",
    "EUC_KR": "euc_kr",
    "EUC_CN": "gb2312",
}


def parts_of(name: str) -> Iterator[str]:
    """The parts of a name as policy.facts.Relation writes it; nothing for what is no such name."""
    parts: list[str] = []
    position = 0
    while True:
        if name[position : position + 1] == '"':
            end = position + 1
            while True:
                end = name.find('"', end)
                if end < 0:
                    return
                if name[end + 1 : end + 2] != '"':
                    break
                end += 2
            parts.append(name[position + 1 : end].replace('""', '"'))
            position = end + 1
        else:
            end = name.find(".", position)
            end = len(name) if end < 0 else end
            parts.append(name[position:end])
            if "(" in parts[-1]:
                return
            position = end
        if position == len(name):
            break
        if name[position] != ".":
            return
        position += 1
    if all(parts):
        yield from parts


def answer_of(row: bytes, server_encoding: str) -> Any:  # any: JSON
    """The one value of a DataRow: hexadecimal JSON. Raises ValueError, LookupError."""
    size = int.from_bytes(row[2:6], "big")
    codec = {"SQL_ASCII": "utf-8"}.get(server_encoding) or CODECS.get(server_encoding, "utf-8")
    return json.loads(bytes.fromhex(row[6 : 6 + size].decode("ascii")).decode(codec, "backslashreplace"))


def _read(row: bytes, names: tuple[str, ...], server_encoding: str) -> Sight:
    told = answer_of(row, server_encoding)
    page_bytes = int(told["page_bytes"])
    objects = tuple(
        SeenObject(
            asked=names[o["i"]],
            oid=int(o["oid"]),
            node=int(o["node"]),
            now=str(o["now"]),
            kind=_KINDS.get(o["kind"], "relation"),
            digest=str(o["digest"] or ""),
            columns=str(o["columns"] or ""),
            owner=str(o["owner"] or ""),
            rows=None if o["rows"] is None else int(o["rows"]),
            bytes=int(o["pages"] or 0) * page_bytes,
            relations=int(o["relations"]),
            views=tuple(sorted(map(str, o["views"] or ()))),
            foreign_keys=tuple(sorted(map(str, o["foreign_keys"] or ()))),
            triggers=tuple(sorted(map(str, o["triggers"] or ()))),
            indexes=int(o["indexes"] or 0),
            users=int(o["users"] or 0),
            temporary=bool(o["temporary"]),
        )
        for o in sorted(told["objects"] or (), key=lambda o: int(o["i"]))
    )
    found = {o.asked for o in objects}
    return Sight(
        objects,
        tuple(n for n in names if n not in found),
        tuple(map(str, told["locks"] or ())),
        tuple(
            Waiter(int(w["pid"]), str(w["role"] or ""), str(w["application_name"] or ""), max(0.0, float(w["for_s"] or 0)))
            for w in told["waiting"] or ()
        ),
    )


def difference(before: Sight, now: Sight, *, cascades: bool = False) -> tuple[str, ...]:
    """What changed between two looks, a sentence each. `cascades`: what depends on the objects counts as well."""
    if before.unbound:
        return ()
    if now.unbound:
        return (f"it cannot be told any more what it is about: {now.unbound}",)
    later = {o.asked: o for o in now.objects}
    told: list[str] = []
    for old in before.objects:
        new = later.pop(old.asked, None)
        told += [f"{old.asked} is not there any more"] if new is None else _changes(old, new, cascades)
    told += [f"{name} means a {new.kind} now ({new.now}); before, it was not there" for name, new in later.items()]
    return tuple(told)


def _changes(old: SeenObject, new: SeenObject, cascades: bool) -> Iterator[str]:
    name = old.asked
    if new.oid != old.oid:
        yield f"{name} is another {new.kind} now ({new.now}, oid {new.oid}); it was {old.now}, oid {old.oid}"
        return
    if new.now != old.now:
        yield f"{name} was {old.now} and is {new.now} now: it was renamed or moved"
    if new.node != old.node:
        yield f"{name} was truncated or written anew (its file is {new.node}, it was {old.node})"
    if new.columns != old.columns:
        yield f"{name} has other columns: {new.columns[:400] or 'none'}; it had {old.columns[:400] or 'none'}"
    if new.digest != old.digest:
        yield f"{name} consists of other relations now ({new.relations}, before {old.relations})"
    if cascades:
        for what, had, has in (("views", old.views, new.views), ("foreign keys", old.foreign_keys, new.foreign_keys)):
            more = [x for x in has if x not in had]
            if more:
                yield f"more {what} depend on {name}: {', '.join(more[:10])}"
