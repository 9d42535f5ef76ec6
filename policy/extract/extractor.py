"""The walk over the grammar's tree, and what visitors share: relations, names, temporary objects, effects.

The walk is iterative (trees go deeper than Python's stack) and finds statements wherever the grammar allows them: in CTEs,
sub-selects, COPY (…), EXPLAIN, CREATE SCHEMA. table.py says for each kind of node what becomes of it; a kind that is not there is
*opaque*: the statement is not certain, and that is held.

A temporary relation is trusted only while nothing can have put another under its name. So a rollback, the end of a transaction (for
ON COMMIT DROP), a DO block, CALL, or a search_path that names pg_temp makes the names forgotten; a temporary *view* never counts,
because a DELETE from it reaches the table behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, cast

from policy.context import Context
from policy.facts import Act, Facts, Lock, Opaque, Relation, Setting, StatementFacts
from policy.judgement import (
    CreatesTemp,
    DistrustsTemp,
    ForgetsTemp,
    Judgement,
    SetsRole,
    SetsSearchPath,
    SetsStandardStrings,
)
from policy.kinds import SYSTEM_CATALOGS, SYSTEM_SCHEMAS, command
from policy.nodes import only
from policy.parse import Json, Node

#: Judges trees as if they were executed here, at one more level of depth. Given by the engine.
JudgeTree = Callable[[list[Node], Context, int], Judgement]
#: Reads one node's fields into facts; returns whether to look inside.
Visitor = Callable[["Extractor", Node], bool]

#: Constants of other statements may be code, settings or names of objects, so scripts with them depend on their constants.
_LITERAL_FREE_STATEMENTS: Final = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt"})
#: Before the names of temporary views; no name can hold it.
_VIEW: Final = "\0view "
#: Text within text (DO in DO, PREPARE in DO, …).
DEPTH_LIMIT: Final = 3


class Extractor:
    """Reads the trees of one script, in order.

    Args:
        visitors: of table.py, by tag; None is a node that is only looked through.
        judge: see JudgeTree.
        depth: how many levels of text within text (DO, PREPARE) this one is inside of.
    """

    def __init__(self, visitors: Mapping[str, Visitor | None], context: Context, judge: JudgeTree, depth: int = 0) -> None:
        self.facts = Facts()
        self.context = context
        self.depth = depth
        self.index = 0
        self.statement = StatementFacts("")
        self.prepared: dict[str, tuple[Judgement, ...]] = {}
        #: The setting that the SELECT at hand looks up in pg_settings, for set_config(name, …).
        self.named_setting: str | None = None
        self._visitors = visitors
        self._judge = judge
        self._temp = set(context.temp_relations)
        self._until_commit: set[str] = set()
        self._trusts_temp = context.trusts_temp

    def read(self, statements: list[Node], length: int = 0) -> Facts:
        for index, raw in enumerate(statements):
            self.index = index
            self.named_setting = None
            tag, fields = only(raw["stmt"])
            start = cast(int, raw.get("stmt_location", 0))
            size = cast(int, raw.get("stmt_len", 0))
            self.statement = StatementFacts(command(tag), (start, start + size if size else length))
            self.facts.statements.append(self.statement)
            if tag not in _LITERAL_FREE_STATEMENTS:
                self.facts.literal_free = False
            self.visit({tag: fields})
        return self.facts

    def visit(self, root: Json) -> None:
        visitors = self._visitors
        stack: list[Json] = [root]
        while stack:
            item = stack.pop()
            if isinstance(item, list):
                stack.extend(reversed(item))
                continue
            for key, value in cast(Node, item).items():
                if not isinstance(value, dict | list):
                    continue
                if key not in visitors or not isinstance(value, dict):
                    if key[:1].isupper():  # fields begin with a small letter
                        self.unclear(f"{command(key)} is not known to this version")
                    stack.append(value)
                    continue
                visitor = visitors[key]
                if visitor is None or visitor(self, value):
                    stack.append(value)

    # --- facts --------------------------------------------------------------------------------------------------

    def act(self, kind: str, objects: tuple[str, ...] = (), on_temp: bool = False, detail: str = "") -> None:
        self.facts.acts.append(Act(kind, self.index, objects, on_temp, detail))

    def lock(self, relation: Relation, mode: str) -> None:
        self.facts.locks.append(Lock(relation, mode, self.index))

    def unclear(self, what: str) -> None:
        """Something may do more than the facts say."""
        self.statement.certain = False
        self.facts.opaque.append(Opaque(what, self.index))

    def judge(self, statements: list[Node]) -> Judgement:
        """Judge as if it ran here, a level deeper; temporary relations count only if it runs once and now, which nobody can tell."""
        judgement = self._judge(statements, replace(self.context, temp_relations=frozenset()), self.depth + 1)
        if not judgement.context_free:
            self.facts.uses_context = True
        return judgement

    def judge_prepared(self, query: Node) -> Judgement:
        """Judge the body of PREPARE in the session as it is at this point of the script."""
        context = self.context
        if self.prepared or self._temp != context.temp_relations or self._trusts_temp != context.trusts_temp:
            context = replace(
                context,
                temp_relations=frozenset(self._temp),
                trusts_temp=self._trusts_temp,
                prepared={**dict(context.prepared), **self.prepared},
            )
        judgement = self._judge([{"stmt": query}], context, self.depth + 1)
        if not judgement.context_free:
            self.facts.uses_context = True
        return judgement

    # --- relations ----------------------------------------------------------------------------------------------

    def relation(self, node: Json) -> Relation:
        """The relation of a RangeVar, noted as an object of the statement."""
        fields = node if isinstance(node, dict) else {}
        if "RangeVar" in fields:
            fields = cast(Node, fields["RangeVar"])
        relation = self.named(str(fields.get("schemaname", "")), str(fields.get("relname", "")))
        self.note(str(relation))
        return relation

    def named(self, schema: str, name: str) -> Relation:
        if not schema:
            self.facts.uses_context = True
            return Relation(schema, name, self._trusts_temp and name in self._temp)
        # Another session's pg_temp_3 is not ours; pg_temp.x may be a view, so it must be known.
        return Relation(schema, name, schema == "pg_temp" and name in self._temp)

    def note(self, relation: str) -> None:
        if relation and relation not in self.statement.relations:
            self.statement.relations.append(relation)

    def reads(self, relation: Relation) -> None:
        self.note(str(relation))
        self.statement.reads.append(relation)

    def writes(self, relation: Relation) -> None:
        self.statement.writes.append(relation)
        if relation.schema in SYSTEM_SCHEMAS or (not relation.schema and SYSTEM_CATALOGS.match(relation.name)):
            self.facts.catalog_writes.append((str(relation), self.index))

    # --- temporary relations ------------------------------------------------------------------------------------

    def creates_temp(self, name: str, until_commit: bool = False) -> None:
        self._temp.add(name)
        if until_commit:
            self._until_commit.add(name)
        else:
            self._until_commit.discard(name)
            self.statement.effects.append(CreatesTemp(name))

    def creates_temp_view(self, name: str) -> None:
        """A view may be dropped as a temporary table may, but to change its rows changes those of the table behind it."""
        self.creates_temp(_VIEW + name)

    def is_temp_view(self, name: str) -> bool:
        return self._trusts_temp and _VIEW + name in self._temp

    def forget_temp(self, name: str) -> None:
        """The name may mean another relation from now on."""
        for known in (name, _VIEW + name):
            if known in self._temp:
                self._temp.discard(known)
                self.statement.effects.append(ForgetsTemp(known))

    def forget_all_temp(self) -> None:
        self._temp.clear()
        self.statement.effects.append(ForgetsTemp(None))

    def transaction_ends(self, committed: bool) -> None:
        """Within the script; the session's own end of a transaction is the core's business."""
        if committed:
            self._temp -= self._until_commit
        else:
            self._temp.clear()
        self._until_commit.clear()

    # --- settings -----------------------------------------------------------------------------------------------

    def sets(self, name: str, value: str | None, is_reset: bool = False) -> None:
        self.facts.settings.append(Setting(name, value, self.index, is_reset))
        if name == "search_path":
            self.statement.effects.append(SetsSearchPath(value))
            if not is_reset and (value is None or "pg_temp" in value):
                self._trusts_temp = False
                self.statement.effects.append(DistrustsTemp())
        elif name == "standard_conforming_strings":
            self.statement.effects.append(SetsStandardStrings(is_reset or (value or "").lower() in ("on", "true", "1", "yes", "t", "y")))
        elif name in ("role", "session_authorization"):
            self.statement.effects.append(SetsRole(None if is_reset else value))
