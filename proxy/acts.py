"""Acts of tools, as a session's core sees them: one hold for everything that a tool has begun to destroy (policy.tools).

    the first dangerous script --> SURVEYING: the session is asked for all relations of the schemas concerned (act.sql)
                               --> OPENING …: held, decided, looked at again and copied as a whole, as any other
                               --> released: the act runs (`ActRun`)
    each further dangerous script of the session: when the act covers it, it is no hold of its own; when not, it is held as always
    denied, or expired --> the act is refused (`ActRun.refuses`): what belongs to it is refused at once, for tools that go on after an error
    the act is over: when the session ends, when it does something else for a while, or when another act begins

What an act covers: findings of the rules that acts are made of (policy.engine.ACT_RULES), about relations that the operator saw, by oid. So a name that
means something else by now is not covered; one that means nothing can destroy nothing. What the act itself has made meanwhile may be altered,
but not dropped or emptied again: that would be another act.

Rows that others write between the copy and the drop of a table are found out in the session itself (`unchanged_statement`), under the lock that the
drop needs; then that table is copied once more.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Final

from policy.engine import ACT_RULES
from policy.facts import Relation
from policy.judgement import Finding, Judgement, StatementReport
from policy.tools import Act, Reach
from policy.verdict import Verdict
from proxy.asides import aside_of
from proxy.look import CODECS, OTHER_OBJECTS, Question, SeenObject, Sight, answer_of, names_of, parts_of
from proxy.model import Decision, HeldAct, Hold, HoldId
from proxy.relkinds import RELATION_KINDS

QUESTION: Final = files("proxy").joinpath("act.sql").read_bytes().strip()
#: Relations of one act; where there are more, it is not held as one.
RELATIONS_LIMIT: Final = 10_000

#: An act that goes on with further statements.
SPREADING: Final = (Reach.SCHEMA, Reach.SCHEMAS)
#: Kinds of relations that have rows.
_TABLES: Final = frozenset(["table", "partitioned table", "foreign table", "materialized view"])
#: These destroy rows of relations that were there before: only what the operator saw.
_EMPTYING: Final = frozenset(
    ["drop-table", "truncate", "delete-without-where", "always-true-where", "drop-schema", "alter-table-drop-column"]
)
#: What may be dropped besides relations, by the word behind DROP; what else there is belongs to no schema.
_OTHERS: Final = frozenset(
    [
        "AGGREGATE",
        "COLLATION",
        "CONVERSION",
        "DOMAIN",
        "FUNCTION",
        "OPERATOR",
        "PROCEDURE",
        "ROUTINE",
        "STATISTICS",
        "TEXT",
        "TYPE",
    ]
)
#: Named by themselves, but parts of a relation.
_PARTS: Final = frozenset(["POLICY", "RULE", "TRIGGER"])

# --- what it is about -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ActSurvey(Question):
    """The question about the schemas of an act, in flight."""

    def sight(self, server_encoding: str) -> Sight:
        if self.problem or not self.row:
            return Sight(unbound=self.problem or "the server gave no answer")
        try:
            told = answer_of(self.row, server_encoding)
            return _read(told)
        except (ValueError, KeyError, TypeError, LookupError) as error:
            return Sight(unbound=f"the server's answer could not be read: {type(error).__name__}")


def make_survey(act: HeldAct, judgement: Judgement, number: int, client_encoding: str, *, has_sync: bool) -> ActSurvey | None:
    """The question about all relations of the schemas that a script names, or of all schemas; None when it cannot be put into the encoding."""
    codec = CODECS.get(client_encoding)
    if codec is None:
        return None
    asked = [{"kind": "all", "schema": "", "name": ""}] if act.reach == Reach.SCHEMAS else []
    for kind, name in dict.fromkeys(names_of(judgement)):
        parts = list(parts_of(name))
        if 1 <= len(parts) <= 2:
            asked.append({"kind": kind, "schema": parts[0] if len(parts) == 2 else "", "name": parts[-1]})
    for statement in judgement.statements:
        if statement.kind.split()[1:2] and statement.kind.split()[1] in OTHER_OBJECTS:
            named = [list(parts_of(name)) for name in statement.relations]
            asked += [{"kind": "other", "schema": p[0] if len(p) == 2 else "", "name": p[-1]} for p in named if 1 <= len(p) <= 2]
    try:
        argument = json.dumps(asked[:1000], ensure_ascii=False).encode(codec)
    except UnicodeEncodeError:
        return None
    aside = aside_of((QUESTION,), number, argument=argument, has_sync=has_sync)
    return ActSurvey(aside.messages, aside.kinds)


def _read(told: dict[str, object]) -> Sight:
    listed = told["objects"] or []
    if not isinstance(listed, list):
        raise TypeError("objects")
    if len(listed) > RELATIONS_LIMIT:
        return Sight(unbound=f"more than {RELATIONS_LIMIT:,} relations")
    page_bytes = int(str(told["page_bytes"]))
    objects = []
    for o in listed:
        name = str(Relation(str(o["schema"]), str(o["name"])))
        rows = o["rows"]
        objects.append(
            SeenObject(
                asked=name,
                oid=int(o["oid"]),
                node=int(o["node"]),
                now=name,
                kind=RELATION_KINDS.get(o["kind"], "relation"),
                digest="",
                owner=str(o["owner"] or ""),
                rows=None if rows is None else int(rows),
                bytes=int(o["pages"] or 0) * page_bytes,
                temporary=bool(o["temporary"]),
            )
        )
    locks = told["locks"] or []
    schemas = told["schemas"] or []
    assert isinstance(locks, list)
    assert isinstance(schemas, list)
    return Sight(tuple(objects), locks=tuple(map(str, locks)), schemas=tuple(sorted(str(s) for s in schemas if s)))


def survey_difference(before: Sight, now: Sight) -> tuple[str, ...]:
    """What changed of the relations that an operator saw, a sentence each. What is new is not covered, and so no difference."""
    if now.unbound:
        return (f"it cannot be told any more what it is about: {now.unbound}",)
    later = {o.asked: o for o in now.objects}
    told = []
    for old in before.objects:
        new = later.get(old.asked)
        if new is None:
            told.append(f"{old.asked} is not there any more")
        elif new.oid != old.oid:
            told.append(f"{old.asked} is another {new.kind} now (oid {new.oid}); it was oid {old.oid}")
        elif new.node != old.node:
            told.append(f"{old.asked} was truncated or written anew (its file is {new.node}, it was {old.node})")
    return tuple(told)


# --- for people -----------------------------------------------------------------------------------------------------


def held_act(act: Act) -> HeldAct:
    return HeldAct(act.tool, f"{act.tool} {act.kind}", str(act.reach), act.forced, act.is_whole)


def tables_of(sight: Sight | None) -> list[SeenObject]:
    """Those of the relations that have rows."""
    return [o for o in sight.objects if o.kind in _TABLES and not o.temporary] if sight is not None else []


def title(act: HeldAct, sight: Sight | None) -> str:
    """As people call it: "Sequelize force sync of 71 tables"."""
    if sight is None or sight.unbound or act.reach == Reach.DATABASE:
        return act.title
    count = len(tables_of(sight))
    return f"{act.title} of {'' if act.is_whole else 'up to '}{count:,} table{'' if count == 1 else 's'}"


def title_of(hold: Hold) -> str:
    """Of a hold; empty where it is no act."""
    return title(hold.request.act, hold.sight) if hold.request.act is not None else ""


# --- while it runs --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class PartCheck(Question):
    """What the names of a further statement mean now, in flight: their oids, and if `is_full` what these are."""

    names: tuple[str, ...] = ()
    is_full: bool = False

    def meanings(self) -> dict[str, Meaning] | None:
        """By name. None when the server did not say."""
        if self.problem or not self.row:
            return None
        try:
            told = answer_of(self.row, "UTF8")
        except (ValueError, LookupError):
            return None
        if not isinstance(told, list) or len(told) != len(self.names):
            return None
        return {
            name: Meaning(int(oid or 0), str(kind or ""), str(schema or ""))
            for name, (oid, kind, schema) in zip(self.names, told, strict=True)
        }


@dataclass(frozen=True, slots=True)
class Meaning:
    """Of a name: oid 0 means nothing; the kind is pg_class.relkind; both others are empty where they were not asked for."""

    oid: int
    kind: str = ""
    schema: str = ""


_OIDS: Final = (
    b"SELECT pg_catalog.encode(pg_catalog.convert_to(pg_catalog.json_agg("
    b"pg_catalog.json_build_array(pg_catalog.to_regclass(w.name)::pg_catalog.oid::pg_catalog.int8, NULL, NULL))::pg_catalog.text, 'UTF8'), 'hex')"
    b" FROM pg_catalog.json_array_elements_text($1::pg_catalog.json) AS w(name)"
)
_MEANINGS: Final = (
    b"SELECT pg_catalog.encode(pg_catalog.convert_to(pg_catalog.json_agg(pg_catalog.json_build_array(c.oid::pg_catalog.int8, c.relkind, n.nspname)"
    b" ORDER BY w.i::pg_catalog.int8 USING OPERATOR(pg_catalog.<))::pg_catalog.text, 'UTF8'), 'hex')"
    b" FROM pg_catalog.json_array_elements_text($1::pg_catalog.json) WITH ORDINALITY AS w(name, i)"
    b" LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(w.name)::pg_catalog.oid"
    b" LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace"
)


def make_part_check(names: tuple[str, ...], number: int, client_encoding: str, *, has_sync: bool, is_full: bool) -> PartCheck | None:
    codec = CODECS.get(client_encoding)
    try:
        argument = json.dumps(names, ensure_ascii=False).encode(codec or "ascii")
    except UnicodeEncodeError:
        return None
    aside = aside_of((_MEANINGS if is_full else _OIDS,), number, argument=argument, has_sync=has_sync)
    return PartCheck(aside.messages, aside.kinds, names=names, is_full=is_full)


def as_identifier(name: str) -> str:
    """A name as facts.Relation writes it, with every part quoted: it may be a key word."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts_of(name))


SNAPSHOT: Final = "SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text"


def unchanged_statement(relations: Iterable[str], snapshot: str) -> str:
    """Whether no row of these was written since that snapshot, as one row of one value, "t" or "f".

    A row's xmin has 32 bits; since the snapshot far fewer transactions began, so what lies between its xmax and now is new. Transactions that were open then
    are told by the snapshot (functions-info.html#FUNCTIONS-PG-SNAPSHOT). Deleted rows are in the copy.
    """
    _, last, running = (*snapshot.split(":"), "")[:3]
    begin = int(last) % _XIDS
    open_then = ",".join(str(int(x) % _XIDS) for x in running.split(",") if x)
    now = "pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::pg_catalog.text::pg_catalog.int8"
    xmin = "t.xmin::pg_catalog.text::pg_catalog.int8"
    written = (
        f"{_since(xmin, begin)} OPERATOR(pg_catalog.<) {_since(now, begin)}"
        f" OR {xmin} OPERATOR(pg_catalog.=) ANY ('{{{open_then}}}'::pg_catalog.int8[])"
    )
    return "SELECT " + " AND ".join(f"NOT EXISTS (SELECT FROM {name} AS t WHERE {written})" for name in relations)


_XIDS: Final = 2**32


def _since(xid: str, begin: int) -> str:
    """How many transactions after `begin` it began, in 32 bits."""
    size = f"{_XIDS}::pg_catalog.int8"
    return (
        f"(({xid} OPERATOR(pg_catalog.%) {size} OPERATOR(pg_catalog.-) {begin}::pg_catalog.int8 OPERATOR(pg_catalog.+) {size})"
        f" OPERATOR(pg_catalog.%) {size})"
    )


@dataclass(slots=True)
class ActRun:
    """An act that was decided, in the session for which it was.

    Attributes:
        sight: what the operator saw.
        refuses: it was not approved; no `decision`: nobody decided in time.
        snapshot: of the copy of it all; empty where there is none, and then each part is protected by itself.
        in_block: the relations are still locked by the transaction block in which they were copied.
        made: bare names of relations that the act has created.
        done: commands that have run, by their words, with how often.
        failures, problem: how many parts have failed, and why the last did.
        beats: how often the timer fired since a part ran; `allowed`: the session's count of harmless scripts when it last did.
    """

    hold_id: HoldId
    act: HeldAct
    decision: Decision | None
    sight: Sight
    refuses: bool = False
    snapshot: str = ""
    in_block: bool = False
    made: set[str] = field(default_factory=set)
    done: dict[str, int] = field(default_factory=dict)
    failures: int = 0
    problem: str = ""
    beats: int = 0
    allowed: int = -1
    _oids: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._oids = {o.oid: o.asked for o in self.sight.objects}

    # --- what it covers -----------------------------------------------------------------------------------------

    def names_to_check(self, judgement: Judgement) -> tuple[str, ...] | None:
        """The relations whose meaning decides whether it covers a script; None when it cannot."""
        if self.act.reach not in SPREADING or not judgement.statements:
            return None
        names: dict[str, None] = {}
        for finding in judgement.findings:
            if finding.verdict < Verdict.HOLD:
                continue
            statement = _statement(judgement, finding)
            if finding.verdict is Verdict.DENY or finding.rule_id not in ACT_RULES or statement is None:
                return None
            second = (statement.kind.split()[1:2] or [""])[0]
            if finding.rule_id == "drop-database":
                return None
            if finding.rule_id == "drop-schema":
                if not set(finding.relations) <= {str(Relation("", s)) for s in self.sight.schemas}:
                    return None
            elif finding.rule_id == "drop-object" and second in _OTHERS:
                if not all(self._is_here(name) for name in finding.relations):
                    return None
            elif finding.rule_id == "drop-object" and second in _PARTS:
                if not statement.relations:
                    return None
                names.update(dict.fromkeys(statement.relations))
            elif second in OTHER_OBJECTS or not finding.relations:
                return None
            else:
                names.update(dict.fromkeys(finding.relations))
        return tuple(names)

    def _is_here(self, name: str) -> bool:
        parts = list(parts_of(name.partition("(")[0]))
        return len(parts) == 1 or (len(parts) == 2 and parts[0] in self.sight.schemas)

    def covers(self, judgement: Judgement, meanings: dict[str, Meaning]) -> bool:
        """Whether all that a script destroys belongs to it. `meanings` are those of `names_to_check`."""
        for finding in judgement.findings:
            statement = _statement(judgement, finding)
            names = set(finding.relations) | set(statement.relations if statement is not None else ())
            for name in names & meanings.keys():
                meaning = meanings[name]
                if meaning.oid == 0 or meaning.oid in self._oids:
                    continue
                has_rows = meaning.kind in ("r", "p", "f", "m")
                if meaning.schema not in self.sight.schemas:
                    return False
                if has_rows and (finding.rule_id in _EMPTYING or list(parts_of(name))[-1:] != [self._made(name)]):
                    return False
        return True

    def needs_more(self, check: PartCheck) -> bool:
        """Whether it must be asked what some of the names mean: they are none of those that the operator saw."""
        meanings = check.meanings()
        return not check.is_full and meanings is not None and any(m.oid and m.oid not in self._oids for m in meanings.values())

    def _made(self, name: str) -> str:
        """The bare name, if the act has made a relation of it."""
        bare = (list(parts_of(name)) or [""])[-1]
        return bare if bare in self.made else ""

    def known(self, meanings: dict[str, Meaning]) -> list[tuple[str, int]]:
        """Of these, the tables that were copied: qualified name and oid."""
        tables = {o.oid for o in tables_of(self.sight) if o.kind in ("table", "partitioned table")}
        found = {m.oid for m in meanings.values() if m.oid in tables}
        return [(self._oids[oid], oid) for oid in sorted(found)]

    # --- what it does -------------------------------------------------------------------------------------------

    def saw(self, judgement: Judgement) -> None:
        """A harmless script of the session goes to the server."""
        for statement in judgement.statements:
            if statement.kind.startswith("CREATE ") and statement.relations:
                self.made.update(list(parts_of(statement.relations[0]))[-1:])

    def ran(self, judgement: Judgement, failed: str | None) -> None:
        """A part of it is over."""
        self.beats = 0
        if failed is not None:
            self.failures += 1
            self.problem = failed
            return
        for statement in judgement.statements:
            self.done[statement.kind] = self.done.get(statement.kind, 0) + 1

    @property
    def outcome(self) -> str:
        told = [f"{count:,} x {kind}" for kind, count in self.done.items()]
        if self.failures:
            told.append(f"{self.failures:,} failed ({self.problem})")
        return ", ".join(told) or "nothing was done"


def _statement(judgement: Judgement, finding: Finding) -> StatementReport | None:
    return judgement.statements[finding.statement] if finding.statement < len(judgement.statements) else None
