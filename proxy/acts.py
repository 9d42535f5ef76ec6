"""Acts of tools, as a session's core sees them: one hold for everything that a tool has begun to destroy (policy.tools).

    the first dangerous script --> SURVEYING: the session is asked for all relations of the schemas concerned (act.sql)
                               --> OPENING …: held, decided, looked at again and copied as a whole, as any other
                               --> released: the act runs (`ActRun`)
    each further dangerous script of the session: when the act covers it, it is no hold of its own; when not, it is held as always
    denied, or expired --> the act is refused (`ActRun.refuses`): what belongs to it is refused at once, for tools that go on after an error
    the act is over: when the session ends, when it does something else for a while, or when another act begins

What an act covers: findings of the rules that acts are made of (policy.engine.ACT_RULES), about relations that the operator saw, by oid. So a name that
means something else by now is not covered; one that means nothing can destroy nothing. What changes rows must reach none but these by foreign keys,
start no code of anybody's, and each table once. What the act itself has made meanwhile may be altered, but not dropped or emptied again: that would be another act.
It is covered for the role that had it approved.

Rows that others write between the copy and the drop of a table are found out in the session itself (`unchanged_statement`), under the lock that the
drop needs; then that table is copied once more.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
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
from proxy.model import AuditEntry, Decision, HeldAct, Hold, HoldId, HoldRequest
from proxy.relkinds import RELATION_KINDS

QUESTION: Final = files("proxy").joinpath("act.sql").read_bytes().strip()
#: Relations of one act; where there are more, it is not held as one.
RELATIONS_LIMIT: Final = 10_000

#: An act that goes on with further statements.
SPREADING: Final = (Reach.SCHEMA, Reach.SCHEMAS)
#: Kinds of relations that have rows.
_TABLES: Final = frozenset(["table", "partitioned table", "foreign table", "materialized view"])
#: These change rows, and by foreign keys those of other tables.
_CHANGING: Final = frozenset(["truncate", "delete-without-where", "always-true-where", "update-without-where"])
#: These destroy rows of relations that were there before: only what the operator saw.
_EMPTYING: Final = _CHANGING - {"update-without-where"} | {"drop-table", "drop-schema", "alter-table-drop-column"}
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


def survey_difference(before: Sight, now: Sight, *, all_goes: bool = False) -> tuple[str, ...]:
    """What changed of the relations that an operator saw, a sentence each. What is new is not covered, and so no difference, but where
    `all_goes`: a schema is dropped, with whatever is in it."""
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
    if all_goes:
        seen = {o.asked for o in before.objects}
        told += [f"{name} is new" for name in later if name not in seen]
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


@dataclass(frozen=True, slots=True)
class Asked:
    """What must be known of a further statement before it can be said whether an act covers it.

    Attributes:
        names: of relations, as written.
        types: that are dropped with CASCADE: with them go columns.
        reaches: what the statement reaches by foreign keys matters as well, and the code that it starts.
    """

    names: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    reaches: bool = False

    def __bool__(self) -> bool:
        return bool(self.names or self.types)


@dataclass(frozen=True, slots=True)
class Meaning:
    """A relation: oid 0 means that there is none; the kind is pg_class.relkind; it and the schema are empty where they were not asked for."""

    oid: int
    kind: str = ""
    schema: str = ""
    has_code: bool = False

    @property
    def has_rows(self) -> bool:
        return self.kind in ("r", "p", "f", "m")


@dataclass(frozen=True, slots=True)
class Meanings:
    """What the names of a statement mean, and what else it reaches."""

    named: dict[str, Meaning] = field(default_factory=dict)
    reached: tuple[Meaning, ...] = ()


@dataclass(slots=True)
class PartCheck(Question):
    """What a further statement is about, in flight: oids, and if `is_full` what these are. `name`: only its oid was asked for."""

    is_full: bool = False
    name: str = ""

    def meanings(self) -> Meanings | None:
        """None when the server did not say."""
        if self.problem or not self.row:
            return None
        if self.name:
            value = self.row[6:]  # one column; NULL has no bytes
            return Meanings({self.name: Meaning(int(value or b"0"))}) if value.isdigit() or not value else None
        named: dict[str, Meaning] = {}
        reached: list[Meaning] = []
        try:
            for name, oid, kind, schema, has_code in answer_of(self.row, "UTF8") or []:
                meaning = Meaning(int(oid or 0), str(kind or ""), str(schema or ""), bool(has_code))
                if name is None:
                    reached.append(meaning)
                else:
                    named[str(name)] = meaning
        except (ValueError, TypeError, LookupError):
            return None
        return Meanings(named, tuple(reached))


#: Of one name, without more: it is asked for most parts.
_OID: Final = "SELECT pg_catalog.to_regclass($1::pg_catalog.text)::pg_catalog.oid"
#: Rows of (name, oid, relkind, schema, has code) as one hexadecimal JSON value; the names that mean nothing with oid null.
_ANSWER: Final = (
    "SELECT pg_catalog.encode(pg_catalog.convert_to(pg_catalog.json_agg(pg_catalog.json_build_array({}))::pg_catalog.text, 'UTF8'), 'hex')"
)
_NAMES: Final = "pg_catalog.json_array_elements_text(pg_catalog.json_extract_path($1::pg_catalog.json, 'names')) AS w(name)"
_OIDS: Final = (
    _ANSWER.format("w.name, pg_catalog.to_regclass(w.name)::pg_catalog.oid::pg_catalog.int8, NULL, NULL, false") + f" FROM {_NAMES}"
)
_MEANINGS: Final = files("proxy").joinpath("part.sql").read_text().strip()


def make_part_check(asked: Asked, number: int, client_encoding: str, *, has_sync: bool, is_full: bool) -> PartCheck | None:
    codec = CODECS.get(client_encoding)
    is_full = is_full or asked.reaches or bool(asked.types)
    if not is_full and len(asked.names) == 1:
        try:
            name = asked.names[0].encode(codec or "ascii")
        except UnicodeEncodeError:
            return None
        aside = aside_of((_OID.encode(),), number, argument=name, has_sync=has_sync)
        return PartCheck(aside.messages, aside.kinds, name=asked.names[0])
    told = {"names": asked.names, "types": asked.types, "reaches": asked.reaches}
    try:
        argument = json.dumps(told, ensure_ascii=False).encode(codec or "ascii")
    except UnicodeEncodeError:
        return None
    aside = aside_of(((_MEANINGS if is_full else _OIDS).encode(),), number, argument=argument, has_sync=has_sync)
    return PartCheck(aside.messages, aside.kinds, is_full=is_full)


def as_identifier(name: str) -> str:
    """A name as facts.Relation writes it, with every part quoted: it may be a key word."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts_of(name))


SNAPSHOT: Final = "SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text"


def unchanged_statement(relations: Iterable[str], snapshot: str) -> str:
    """Whether no row of these was written since that snapshot, as one row of one value, "t" or "f".

    A row's xmin has 32 bits; since the snapshot far fewer transactions began, so what lies between its xmax and now is new. Transactions that were open then
    are told by the snapshot (functions-info.html#FUNCTIONS-PG-SNAPSHOT). Deleted rows are in the copy. Where the session does not see every row, because of
    its isolation level or of row security, the answer is "f".
    """
    relations = tuple(relations)
    _, last, running = (*snapshot.split(":"), "")[:3]
    begin = int(last) % _XIDS
    open_then = ",".join(str(int(x) % _XIDS) for x in running.split(",") if x)
    now = "pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::pg_catalog.text::pg_catalog.int8"
    xmin = "t.xmin::pg_catalog.text::pg_catalog.int8"
    written = (
        f"{_since(xmin, begin)} OPERATOR(pg_catalog.<) {_since(now, begin)}"
        f" OR {xmin} OPERATOR(pg_catalog.=) ANY ('{{{open_then}}}'::pg_catalog.int8[])"
    )
    sees_all = [
        "pg_catalog.current_setting('transaction_isolation') OPERATOR(pg_catalog.=) 'read committed'::pg_catalog.text",
        *(f"NOT pg_catalog.row_security_active({_literal(name)}::pg_catalog.text)" for name in relations),
    ]
    return "SELECT " + " AND ".join([*sees_all, *(f"NOT EXISTS (SELECT FROM {name} AS t WHERE {written})" for name in relations)])


def _literal(text: str) -> str:
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


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
        role: that had it approved.
        refuses: it was not approved; no `decision`: nobody decided in time.
        snapshot: of the copy of it all; empty where there is none, and then each part is protected by itself.
        in_block: the relations are still locked by the transaction block in which they were copied.
        made: bare names of relations that the act has created.
        done: commands that have run, by their words, with how often.
        failures, problem: how many parts have failed, and why the last did.
        notes: outcomes of parts that are not on record yet: one write for several.
        beats: how often the timer fired since a part ran; `allowed`: the session's count of harmless scripts when it last did.
    """

    hold_id: HoldId
    act: HeldAct
    decision: Decision | None
    sight: Sight
    role: str = ""
    refuses: bool = False
    snapshot: str = ""
    in_block: bool = False
    made: set[str] = field(default_factory=set)
    done: dict[str, int] = field(default_factory=dict)
    failures: int = 0
    problem: str = ""
    beats: int = 0
    allowed: int = -1
    notes: list[AuditEntry] = field(default_factory=list)
    _changed: set[tuple[str, int]] = field(default_factory=set)
    _oids: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._oids = {o.oid: o.asked for o in self.sight.objects}

    # --- what it covers -----------------------------------------------------------------------------------------

    def asks(self, judgement: Judgement) -> Asked | None:
        """What decides whether it covers a script; None when it cannot."""
        if self.act.reach not in SPREADING or not judgement.statements:
            return None
        names: dict[str, None] = {}
        types: dict[str, None] = {}
        reaches = False
        for finding in judgement.findings:
            if finding.verdict < Verdict.HOLD:
                continue
            statement = _statement(judgement, finding)
            if finding.verdict is Verdict.DENY or finding.rule_id not in ACT_RULES or statement is None:
                return None
            second = (statement.kind.split()[1:2] or [""])[0]
            cascades = finding.message.endswith(" with CASCADE")
            if finding.rule_id == "drop-database":
                return None
            if finding.rule_id == "drop-schema":
                # Without CASCADE the server drops it only when it is empty.
                if cascades or not set(finding.relations) <= {str(Relation("", s)) for s in self.sight.schemas}:
                    return None
            elif finding.rule_id == "drop-object" and second in _OTHERS:
                if not all(self._is_here(name) for name in finding.relations):
                    return None
                if cascades and second not in ("TYPE", "DOMAIN"):
                    return None
                types.update(dict.fromkeys(finding.relations if cascades else ()))
            elif finding.rule_id == "drop-object" and second in _PARTS:
                if not statement.relations:
                    return None
                names.update(dict.fromkeys(statement.relations))
            elif second in OTHER_OBJECTS or not finding.relations:
                return None
            else:
                names.update(dict.fromkeys(finding.relations))
                reaches = reaches or finding.rule_id in _CHANGING
        return Asked(tuple(names), tuple(types), reaches)

    def _is_here(self, name: str) -> bool:
        parts = list(parts_of(name.partition("(")[0]))
        return len(parts) == 1 or (len(parts) == 2 and parts[0] in self.sight.schemas)

    def covers(self, judgement: Judgement, meanings: Meanings) -> bool:
        """Whether all that a script destroys belongs to it. `meanings` are those of what it `asks`."""
        if any(m.oid not in self._oids or m.has_code for m in meanings.reached):
            return False
        for finding, name, meaning in _named(judgement, meanings):
            if meaning.oid == 0:
                continue
            if meaning.oid in self._oids:
                if (finding.rule_id, meaning.oid) in self._changed:
                    return False
                continue
            if meaning.schema not in self.sight.schemas:
                return False
            if meaning.has_rows and (finding.rule_id in _EMPTYING or not self._has_made(name)):
                return False
        return True

    def takes(self, judgement: Judgement, meanings: Meanings) -> None:
        """It was decided to cover this: no second time."""
        self._changed |= {
            (f.rule_id, m.oid) for f, _, m in _named(judgement, meanings) if f.rule_id in _CHANGING - {"update-without-where"}
        }

    def begins_with(self, judgement: Judgement) -> None:
        """The same of its first statement, whose names were not asked about one by one."""
        by_name: dict[str, Meaning] = {}
        for oid, qualified in self._oids.items():
            for name in (qualified, str(Relation("", list(parts_of(qualified))[-1]))):
                by_name[name] = Meaning(oid)
        self.takes(judgement, Meanings(by_name))

    def needs_more(self, check: PartCheck) -> bool:
        """Whether it must be asked what some of the names mean: they are none of those that the operator saw."""
        meanings = check.meanings()
        return not check.is_full and meanings is not None and any(m.oid and m.oid not in self._oids for m in meanings.named.values())

    def _has_made(self, name: str) -> bool:
        return (list(parts_of(name)) or [""])[-1] in self.made

    def known(self, meanings: Meanings) -> list[tuple[str, int]]:
        """Of these, the tables that were copied: qualified name and oid."""
        tables = {o.oid for o in tables_of(self.sight) if o.kind in ("table", "partitioned table")}
        found = {m.oid for m in (*meanings.named.values(), *meanings.reached)} & tables
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


def covered_rules(request: HoldRequest) -> tuple[str, ...]:
    """The rules whose findings an approval lets pass: of an act that goes on, not only those of its first statement."""
    if request.act is None or request.act.reach not in SPREADING:
        return request.rule_ids
    return (*request.rule_ids, *ACT_RULES)


def _named(judgement: Judgement, meanings: Meanings) -> Iterator[tuple[Finding, str, Meaning]]:
    """What each finding is about, as far as that was asked."""
    for finding in judgement.findings:
        statement = _statement(judgement, finding)
        names = set(finding.relations) | set(statement.relations if statement is not None else ())
        yield from ((finding, name, meanings.named[name]) for name in names & meanings.named.keys())


def _statement(judgement: Judgement, finding: Finding) -> StatementReport | None:
    return judgement.statements[finding.statement] if finding.statement < len(judgement.statements) else None
