"""The grammar's tree read into facts.

The walk is iterative (trees go deeper than Python's stack) and finds statements wherever the grammar allows them: in CTEs,
sub-selects, COPY (…), EXPLAIN, rules, function bodies. What is not executed (EXPLAIN without ANALYZE, the body of a rule or a
function that is only defined) yields no facts about data; what is executed later by name is kept by that name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, cast

from policy.conditions import constant, judge_condition, wants_second_opinion
from policy.context import Context
from policy.facts import (
    Alter,
    Call,
    Change,
    Condition,
    Copy,
    Drop,
    Executed,
    Facts,
    Merge,
    Opaque,
    Relation,
    RoleChange,
    Setting,
    StatementFacts,
    Truncate,
)
from policy.judgement import (
    ClosesCursor,
    CreatesTemp,
    Deallocates,
    Declares,
    ForgetsTemp,
    Judgement,
    Prepares,
    SetsRole,
    SetsSearchPath,
    TransactionStep,
)
from policy.kinds import RELATION_KINDS, SYSTEM_CATALOGS, SYSTEM_SCHEMAS, command, object_kind
from policy.parse import GrammarError, Json, Node, look, parse, parse_plpgsql, tree

_STEPS: Final = {
    "TRANS_STMT_BEGIN": TransactionStep.BEGIN,
    "TRANS_STMT_START": TransactionStep.BEGIN,
    "TRANS_STMT_COMMIT": TransactionStep.COMMIT,
    "TRANS_STMT_ROLLBACK": TransactionStep.ROLLBACK,
    "TRANS_STMT_SAVEPOINT": TransactionStep.SAVEPOINT,
    "TRANS_STMT_RELEASE": TransactionStep.RELEASE,
    "TRANS_STMT_ROLLBACK_TO": TransactionStep.ROLLBACK_TO,
    "TRANS_STMT_PREPARE": TransactionStep.PREPARE,
}

#: Constants of these may hold code, settings or object names, so scripts with them are not independent of literals.
_LITERAL_FREE_STATEMENTS: Final = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt"})

#: Judges a text on its own: the body of PREPARE, one statement of a DO block. Given by the engine.
JudgeTree = Callable[[list[Node], Context, int], Judgement]


class Extractor:
    """Reads the trees of one script, in order.

    Args:
        judge: judges a list of RawStmt nodes as if they were executed here, at one more level of depth.
        depth: how many levels of text within text (DO, PREPARE) this one is inside of.
    """

    def __init__(self, context: Context, judge: JudgeTree, depth: int = 0) -> None:
        self.facts = Facts()
        self._context = context
        self._judge = judge
        self._depth = depth
        self._temp = set(context.temp_relations)
        self._prepared: dict[str, tuple[Judgement, ...]] = {}
        self._index = 0
        self._statement = StatementFacts("")
        self._named_setting: str | None = None

    def read(self, statements: list[Node], length: int = 0) -> Facts:
        for index, raw in enumerate(statements):
            self._index = index
            self._named_setting = None
            tag, fields = _only(raw["stmt"])
            start = cast(int, raw.get("stmt_location", 0))
            size = cast(int, raw.get("stmt_len", 0))
            self._statement = StatementFacts(command(tag), (start, start + size if size else length))
            self.facts.statements.append(self._statement)
            if tag not in _LITERAL_FREE_STATEMENTS:
                self.facts.literal_free = False
            self._visit_all({tag: fields})
        return self.facts

    # --- the walk -----------------------------------------------------------------------------------------------

    def _visit_all(self, root: Json) -> None:
        stack: list[Json] = [root]
        while stack:
            item = stack.pop()
            if isinstance(item, list):
                stack.extend(reversed(item))
            elif isinstance(item, dict):
                for key, value in item.items():
                    visitor = _VISITORS.get(key)
                    if visitor is None or not isinstance(value, dict):
                        if isinstance(value, dict | list):
                            stack.append(value)
                    elif visitor(self, value):
                        stack.append(value)

    def _relation(self, node: Json, note: bool = True) -> Relation:
        fields = node if isinstance(node, dict) else {}
        if "RangeVar" in fields:
            fields = cast(Node, fields["RangeVar"])
        relation = self._named(str(fields.get("schemaname", "")), str(fields.get("relname", "")))
        if note:
            self._note(str(relation))
        return relation

    def _named(self, schema: str, name: str) -> Relation:
        if not schema:
            self.facts.uses_context = True
        is_temp = schema == "pg_temp" or schema.startswith("pg_temp_") or (not schema and name in self._temp)
        return Relation(schema, name, is_temp)

    def _note(self, relation: str) -> None:
        if relation and relation not in self._statement.relations:
            self._statement.relations.append(relation)

    def _write(self, relation: Relation) -> None:
        if relation.schema in SYSTEM_SCHEMAS or (not relation.schema and SYSTEM_CATALOGS.match(relation.name)):
            self.facts.catalog_writes.append((str(relation), self._index))

    # --- data ---------------------------------------------------------------------------------------------------

    def _delete(self, fields: Node) -> bool:
        self._change("DELETE", fields, "usingClause")
        return True

    def _update(self, fields: Node) -> bool:
        self._change("UPDATE", fields, "fromClause")
        return True

    def _change(self, verb: str, fields: Node, others: str) -> None:
        target = cast(Node, fields["relation"])
        uses_context = self.facts.uses_context
        table = self._relation(target)
        alias = str(cast(Node, target.get("alias", {})).get("aliasname", ""))
        where = fields.get("whereClause")
        condition = judge_condition(where, table.name, alias, others in fields)
        if condition is Condition.FILTERED:
            # A filter is a filter whatever table it is: nothing rests on the session here.
            self.facts.uses_context = uses_context
            if not _simply_filtered(where):
                self.facts.literal_free = False
        else:
            self.facts.literal_free = False
        self._write(table)
        position = cast(int, target.get("location", 0))
        second = condition is Condition.FILTERED and wants_second_opinion(where)
        self.facts.changes.append(Change(verb, table, condition, self._index, position, second))

    def _insert(self, fields: Node) -> bool:
        uses_context = self.facts.uses_context
        self._write(self._relation(fields["relation"]))
        self.facts.uses_context = uses_context
        if "onConflictClause" in fields:
            self.facts.literal_free = False
        return True

    def _merge(self, fields: Node) -> bool:
        target = cast(Node, fields["relation"])
        table = self._relation(target)
        alias = str(cast(Node, target.get("alias", {})).get("aliasname", ""))
        on = judge_condition(fields.get("joinCondition"), table.name, alias, False)
        outcome: dict[str, Condition | None] = {"CMD_DELETE": None, "CMD_UPDATE": None}
        for clause in cast(list[Json], fields.get("mergeWhenClauses", [])):
            _, when = _only(clause)
            kind = str(when.get("commandType"))
            if kind not in outcome or when.get("matchKind") == "MERGE_WHEN_NOT_MATCHED_BY_TARGET":
                continue
            extra = when.get("condition")
            condition = judge_condition(extra, table.name, alias, False) if extra is not None else Condition.MISSING
            if when.get("matchKind") == "MERGE_WHEN_NOT_MATCHED_BY_SOURCE" or condition in (Condition.FILTERED, Condition.NEVER):
                found = condition
            elif kind == "CMD_DELETE":
                found = Condition.MISSING if on is Condition.FILTERED else on
            else:
                found = on
            outcome[kind] = _worse(outcome[kind], found)
        self._write(table)
        position = cast(int, target.get("location", 0))
        self.facts.merges.append(Merge(table, outcome["CMD_DELETE"], outcome["CMD_UPDATE"], self._index, position))
        return True

    def _truncate(self, fields: Node) -> bool:
        tables = tuple(self._relation(r) for r in cast(list[Json], fields["relations"]))
        for table in tables:
            self._write(table)
        cascade = fields.get("behavior") == "DROP_CASCADE"
        self.facts.truncates.append(Truncate(tables, cascade, all(t.is_temp for t in tables), self._index))
        return False

    def _copy(self, fields: Node) -> bool:
        relation = ""
        if "relation" in fields:
            uses_context = self.facts.uses_context
            target = self._relation(fields["relation"])
            self.facts.uses_context = uses_context
            relation = str(target)
            if fields.get("is_from"):
                self._write(target)
        filename = cast("str | None", fields.get("filename"))
        is_from, is_program = bool(fields.get("is_from")), bool(fields.get("is_program"))
        self.facts.copies.append(Copy(relation, is_from, is_program, filename, self._index))
        return True

    def _select(self, fields: Node) -> bool:
        into = fields.get("intoClause")
        if isinstance(into, dict):
            self.facts.literal_free = False
            self._into(into)
        self._named_setting = _setting_looked_up(fields) or self._named_setting
        return True

    def _into(self, into: Node) -> None:
        target = cast(Node, into.get("rel", {}))
        if target.get("relpersistence") == "t":
            self._creates_temp(str(target.get("relname", "")), into.get("onCommit") == "ONCOMMIT_DROP")

    def _creates_temp(self, name: str, until_commit: bool) -> None:
        self._temp.add(name)
        if not until_commit:
            self._statement.effects.append(CreatesTemp(name))

    def _create_table(self, fields: Node) -> bool:
        target = cast(Node, fields.get("relation", {}))
        if target.get("relpersistence") == "t" or str(target.get("schemaname", "")).startswith("pg_temp"):
            self._creates_temp(str(target.get("relname", "")), fields.get("oncommit") == "ONCOMMIT_DROP")
        return True

    def _create_view(self, fields: Node) -> bool:
        target = cast(Node, fields.get("view", {}))
        if target.get("relpersistence") == "t":
            self._creates_temp(str(target.get("relname", "")), False)
        return False  # its query runs when it is read

    def _create_sequence(self, fields: Node) -> bool:
        target = cast(Node, fields.get("sequence", {}))
        if target.get("relpersistence") == "t":
            self._creates_temp(str(target.get("relname", "")), False)
        return False

    def _create_table_as(self, fields: Node) -> bool:
        into = cast(Node, fields.get("into", {}))
        kind = fields.get("objtype")
        if kind == "OBJECT_MATVIEW" and into.get("skipData"):
            return False
        self._statement.kind = "CREATE MATERIALIZED VIEW" if kind == "OBJECT_MATVIEW" else "CREATE TABLE AS"
        self._into(into)
        return not (into.get("skipData") and "ExecuteStmt" not in cast(Node, fields.get("query", {})))

    # --- definitions --------------------------------------------------------------------------------------------

    def _drop(self, fields: Node) -> bool:
        kind = object_kind(str(fields.get("removeType")))
        self._statement.kind = f"DROP {kind}"
        names: list[str] = []
        all_temp = kind in RELATION_KINDS
        for item in cast(list[Json], fields.get("objects", [])):
            parts = _name_parts(item)
            relation = Relation(parts[-2] if len(parts) > 1 else "", parts[-1])
            if kind in RELATION_KINDS:
                relation = self._named(relation.schema, relation.name)
                all_temp = all_temp and relation.is_temp
                self._forget(relation)
            elif kind in ("TRIGGER", "RULE", "POLICY") and len(parts) > 1:
                relation = Relation("", parts[-1])
                self._note(str(Relation(parts[-3] if len(parts) > 2 else "", parts[-2])))
            names.append(str(relation))
            if kind not in ("TRIGGER", "RULE", "POLICY"):
                self._note(str(relation))
        cascade = fields.get("behavior") == "DROP_CASCADE"
        self.facts.drops.append(Drop(kind, tuple(names), cascade, all_temp, self._index))
        return False

    def _forget(self, relation: Relation) -> None:
        """The name may mean another relation from now on."""
        if relation.name in self._temp:
            self._temp.discard(relation.name)
            self._statement.effects.append(ForgetsTemp(relation.name))

    def _forget_all(self) -> None:
        self._temp.clear()
        self._statement.effects.append(ForgetsTemp(None))

    def _drop_named(self, kind: str, names: tuple[str, ...]) -> None:
        self._statement.kind = f"DROP {kind}"
        for name in names:
            self._note(name)
        self.facts.drops.append(Drop(kind, names, False, False, self._index))

    def _drop_database(self, fields: Node) -> bool:
        self._drop_named("DATABASE", (str(Relation("", str(fields.get("dbname")))),))
        return False

    def _drop_tablespace(self, fields: Node) -> bool:
        self._drop_named("TABLESPACE", (str(fields.get("tablespacename")),))
        return False

    def _drop_role(self, fields: Node) -> bool:
        self._drop_named("ROLE", tuple(_role(r) for r in cast(list[Json], fields.get("roles", []))))
        return False

    def _drop_owned(self, fields: Node) -> bool:
        self._drop_named("OWNED", tuple(_role(r) for r in cast(list[Json], fields.get("roles", []))))
        return False

    def _drop_subscription(self, fields: Node) -> bool:
        self._drop_named("SUBSCRIPTION", (str(fields.get("subname")),))
        return False

    def _drop_user_mapping(self, fields: Node) -> bool:
        self._drop_named("USER MAPPING", (str(fields.get("servername")),))
        return False

    def _alter_table(self, fields: Node) -> bool:
        kind = object_kind(str(fields.get("objtype")))
        self._statement.kind = f"ALTER {kind}"
        table = self._relation(fields.get("relation"))
        if kind != "INDEX":
            self._write(table)
        for item in cast(list[Json], fields.get("cmds", [])):
            _, action = _only(item)
            definition = _only(action.get("def"))[1]
            using = definition.get("raw_default")
            overwrites = action.get("subtype") == "AT_AlterColumnType" and using is not None and not _mentions_column(using)
            self.facts.alters.append(
                Alter(
                    table,
                    str(action.get("subtype", "")).removeprefix("AT_"),
                    str(action.get("name", "")),
                    overwrites,
                    self._index,
                )
            )
        return True

    def _rename(self, fields: Node) -> bool:
        if "relation" in fields:
            relation = self._relation(fields["relation"])
            self._write(relation)
            if fields.get("renameType") != "OBJECT_COLUMN":
                self._forget(relation)
                self._forget(Relation("", str(fields.get("newname", ""))))
        self._statement.kind = f"ALTER {object_kind(str(fields.get('renameType')))}"
        return False

    def _set_schema(self, fields: Node) -> bool:
        if "relation" in fields:
            self._forget(self._relation(fields["relation"]))
        return False

    def _create_function(self, fields: Node) -> bool:
        language = "sql"
        for option in cast(list[Json], fields.get("options", [])):
            _, element = _only(option)
            if element.get("defname") == "language":
                language = str(_only(element.get("arg"))[1].get("sval", "")).lower()
        self._statement.kind = "CREATE PROCEDURE" if fields.get("is_procedure") else "CREATE FUNCTION"
        self.facts.languages.append((language, self._index))
        return False  # its body runs when it is called

    def _create_rule(self, fields: Node) -> bool:
        return False

    def _create_role(self, fields: Node) -> bool:
        powers = []
        for option in cast(list[Json], fields.get("options", [])):
            _, element = _only(option)
            name = str(element.get("defname"))
            if name in ("superuser", "createrole", "isreplication", "bypassrls") and _is_on(element.get("arg")):
                powers.append({"isreplication": "replication"}.get(name, name))
            if name in ("addroleto", "rolemembers") and any(_role(r).startswith("pg_") for r in _list_items(element.get("arg"))):
                powers.append("predefined role")
        role = str(fields.get("role") or "") if isinstance(fields.get("role"), str) else _role(fields.get("role"))
        self.facts.roles.append(RoleChange(role, tuple(powers), self._index))
        return False

    def _grant_role(self, fields: Node) -> bool:
        granted = [str(_only(r)[1].get("priv_name", "")) for r in cast(list[Json], fields.get("granted_roles", []))]
        powers = tuple(r for r in granted if r.startswith("pg_")) if fields.get("is_grant") else ()
        self.facts.roles.append(RoleChange(", ".join(granted), powers, self._index))
        return False

    def _alter_system(self, fields: Node) -> bool:
        self._statement.kind = "ALTER SYSTEM"
        return False

    # --- code, names, settings ----------------------------------------------------------------------------------

    def _call(self, fields: Node) -> bool:
        names = [str(_only(n)[1].get("sval", "")) for n in cast(list[Json], fields.get("funcname", []))]
        values = [constant(a) for a in cast(list[Json], fields.get("args", []))]
        arguments = tuple(v if isinstance(v, str) else str(v).lower() if isinstance(v, bool) else None for v in values)
        schema = names[-2] if len(names) > 1 else ""
        position = cast(int, fields.get("location", 0))
        self.facts.calls.append(Call(schema, names[-1], arguments, self._index, position))
        if names[-1] == "set_config":
            self.facts.literal_free = False
            name = arguments[0] if arguments else None
            if name is None and _is_column_name(cast(list[Json], fields.get("args", [None]))[0]):
                name = self._named_setting
            if name is not None:
                self._set(name.lower(), arguments[1] if len(arguments) > 1 else None)
            else:
                self.facts.opaque.append(Opaque("set_config() of a setting that is not a constant", self._index))
        return True

    def _call_statement(self, fields: Node) -> bool:
        self._forget_all()
        return True

    def _do(self, fields: Node) -> bool:
        self._forget_all()
        text = "".join(
            str(_only(_only(a)[1].get("arg"))[1].get("sval", ""))
            for a in cast(list[Json], fields.get("args", []))
            if _only(a)[1].get("defname") == "as"
        )
        languages = [
            str(_only(_only(a)[1].get("arg"))[1].get("sval", "")).lower()
            for a in cast(list[Json], fields.get("args", []))
            if _only(a)[1].get("defname") == "language"
        ]
        if languages and languages != ["plpgsql"]:
            self.facts.blocks.append(Opaque(f"a DO block in language {languages[0]}", self._index))
            return False
        problem = self._judge_block(text)
        if problem is not None:
            self.facts.blocks.append(Opaque(problem, self._index))
        return False

    def _judge_block(self, body: str) -> str | None:
        """Why the PL/pgSQL block may be dangerous; None when each of its statements is known and allowed."""
        tag = "$pghold$"
        if tag in body or self._depth > 3:
            return "a DO block that cannot be analysed"
        statement = f"DO {tag}{body}{tag}".encode()
        if look(statement) is not None:
            return "a DO block that is too long or too deep to be analysed"
        try:
            functions = parse_plpgsql(statement)
        except GrammarError:
            return "a DO block that cannot be analysed"
        for is_dynamic, mode, text in _plpgsql_texts(functions):
            if is_dynamic:
                constant_text = _string_of(text)
                if constant_text is None:
                    return "a DO block that executes a text made at run time"
                mode, text = 0, constant_text
            try:
                judgement = self._judge(tree(parse(text.encode(), mode=mode)), self._context, self._depth + 1)
            except GrammarError:
                return "a DO block that cannot be analysed"
            if judgement.findings:
                return f"a DO block in which: {judgement.findings[0].message}"
        return None

    def _set(self, name: str, value: str | None, is_reset: bool = False) -> None:
        self.facts.settings.append(Setting(name, value, self._index, is_reset))
        if name == "search_path":
            self._statement.effects.append(SetsSearchPath(value))
            if value is None or "pg_temp" in value:
                self._forget_all()
        elif name in ("role", "session_authorization"):
            self._statement.effects.append(SetsRole(None if is_reset else value))

    def _variable_set(self, fields: Node) -> bool:
        kind = str(fields.get("kind"))
        name = str(fields.get("name", "")).lower()
        if kind in ("VAR_SET_MULTI", "VAR_SET_CURRENT") or not name:
            if kind == "VAR_RESET_ALL":
                self._statement.kind = "RESET"
            return False
        values = [constant(a) for a in cast(list[Json], fields.get("args", []))]
        texts = ["on" if v is True else "off" if v is False else None if v is None else str(v) for v in values]
        value = ", ".join(t for t in texts if t is not None) if texts and None not in texts else None
        is_reset = kind in ("VAR_RESET", "VAR_SET_DEFAULT")
        if kind == "VAR_RESET":
            self._statement.kind = "RESET"
        self._set(name, value, is_reset)
        return False

    def _transaction(self, fields: Node) -> bool:
        kind = str(fields.get("kind"))
        self._statement.kind = kind.removeprefix("TRANS_STMT_").replace("_", " ")
        self._statement.transaction = _STEPS.get(kind)
        return False

    def _prepare(self, fields: Node) -> bool:
        name = str(fields.get("name"))
        body: Node = {"stmt": fields["query"]}
        judgement = self._judge([body], self._inner_context(), self._depth + 1)
        self._prepared[name] = (judgement,)
        self._statement.effects.append(Prepares(name, judgement))
        self.facts.prepared.append((name, judgement, self._index))
        if not judgement.context_free:
            self.facts.uses_context = True
        return False

    def _inner_context(self) -> Context:
        if not self._prepared and self._temp == self._context.temp_relations:
            return self._context
        context = self._context
        return Context(
            context.role,
            context.database,
            context.application_name,
            context.environment,
            context.profile,
            context.client_encoding,
            context.standard_conforming_strings,
            context.search_path,
            context.transaction_status,
            frozenset(self._temp),
            {**dict(context.prepared), **self._prepared},
        )

    def _execute(self, fields: Node) -> bool:
        name = str(fields.get("name"))
        self.facts.uses_context = True
        meanings = self._prepared.get(name)
        if meanings is None:
            meanings = self._context.prepared.get(name, ())
        self.facts.executed.append(Executed(name, meanings, self._index))
        return True

    def _deallocate(self, fields: Node) -> bool:
        name = cast("str | None", fields.get("name"))
        self._statement.effects.append(Deallocates(name))
        if name is None:
            self._prepared.clear()
        else:
            self._prepared.pop(name, None)
        return False

    def _declare(self, fields: Node) -> bool:
        self._statement.effects.append(Declares(str(fields.get("portalname"))))
        return True

    def _close_cursor(self, fields: Node) -> bool:
        self._statement.effects.append(ClosesCursor(cast("str | None", fields.get("portalname"))))
        return False

    def _discard(self, fields: Node) -> bool:
        target = fields.get("target")
        self._statement.kind = f"DISCARD {str(target).removeprefix('DISCARD_')}"
        if target in ("DISCARD_ALL", "DISCARD_TEMP"):
            self._forget_all()
        if target == "DISCARD_ALL":
            self._statement.effects += [Deallocates(None), ClosesCursor(None), SetsRole(None), SetsSearchPath(None)]
        return False

    def _explain(self, fields: Node) -> bool:
        options = {str(_only(o)[1].get("defname")): _only(o)[1].get("arg") for o in cast(list[Json], fields.get("options", []))}
        executes = "analyze" in options and (options["analyze"] is None or _is_on(options["analyze"]))
        inner = next(iter(cast(Node, fields.get("query", {}))), "")
        self._statement.kind = "EXPLAIN ANALYZE" if executes else f"EXPLAIN {command(inner)}"
        return executes

    def _create_schema(self, fields: Node) -> bool:
        return True

    def _load(self, fields: Node) -> bool:
        self.facts.languages.append(("c", self._index))
        return False


def _only(node: Json) -> tuple[str, Node]:
    if isinstance(node, dict) and len(node) == 1:
        ((tag, fields),) = node.items()
        if isinstance(fields, dict):
            return tag, fields
    return "", {}


def _list_items(node: Json) -> list[Json]:
    if isinstance(node, list):
        return node
    return cast(list[Json], _only(node)[1].get("items", []))


def _role(node: Json) -> str:
    fields = _only(node)[1] if isinstance(node, dict) and len(node) == 1 else cast(Node, node or {})
    return str(fields.get("rolename") or str(fields.get("roletype", "")).removeprefix("ROLESPEC_").lower())


def _is_on(node: Json) -> bool:
    if node is None:
        return True
    tag, fields = _only(node)
    if tag == "Boolean":
        return bool(fields.get("boolval", False))
    if tag == "Integer":
        return bool(fields.get("ival", 0))
    return str(fields.get("sval", "on")).lower() not in ("off", "false", "0", "no")


def _name_parts(node: Json) -> list[str]:
    """The name of an object of DROP: a String, a List of them, a TypeName or an ObjectWithArgs."""
    tag, fields = _only(node)
    if tag == "String":
        return [str(fields.get("sval", ""))]
    items = fields.get("items") or fields.get("names") or fields.get("objname") or []
    parts = [p for item in cast(list[Json], items) for p in _name_parts(item)]
    return parts or ["?"]


def _worse(a: Condition | None, b: Condition) -> Condition:
    order = [Condition.NEVER, Condition.FILTERED, Condition.UNLINKED, Condition.ALWAYS, Condition.MISSING]
    return b if a is None or order.index(b) > order.index(a) else a


def _mentions_column(node: Json) -> bool:
    stack = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, dict):
            if "ColumnRef" in item:
                return True
            stack.extend(item.values())
    return False


def _simply_filtered(where: Json) -> bool:
    """Whether one `column operator constant` decides that this is a filter, whatever the constants are."""
    tag, fields = _only(where)
    if tag == "BoolExpr" and fields.get("boolop") == "AND_EXPR":
        return any(_simply_filtered(a) for a in cast(list[Json], fields.get("args", []))) and not _has_literal_test(where)
    if tag == "A_Expr" and fields.get("kind") == "AEXPR_OP":
        left, right = _only(fields.get("lexpr"))[0], _only(fields.get("rexpr"))[0]
        return left == "ColumnRef" and right in ("A_Const", "ParamRef")
    return False


def _has_literal_test(where: Json) -> bool:
    """A conjunct of constants only could turn false into true: then the constants matter."""
    _, fields = _only(where)
    return any(not _mentions_column(a) for a in cast(list[Json], fields.get("args", [])))


def _plpgsql_texts(functions: list[Node]) -> Iterator[tuple[bool, int, str]]:
    """Each SQL text of a PL/pgSQL function: whether its value is run as a statement, its parse mode, and the text."""
    stack: list[tuple[bool, Json]] = [(False, cast(Json, functions))]
    while stack:
        is_dynamic, item = stack.pop()
        if isinstance(item, list):
            stack.extend((is_dynamic, i) for i in item)
        elif isinstance(item, dict):
            for key, value in item.items():
                if key == "PLpgSQL_expr" and isinstance(value, dict):
                    yield is_dynamic, cast(int, value.get("parseMode", 0)), str(value.get("query", ""))
                elif key in ("PLpgSQL_stmt_dynexecute", "PLpgSQL_stmt_dynfors") and isinstance(value, dict):
                    stack.append((True, value.get("query")))
                    stack.append((False, {k: v for k, v in value.items() if k != "query"}))
                else:
                    stack.append((key == "dynquery", value))


def _string_of(expression: str) -> str | None:
    """The text of an EXECUTE whose operand is a string constant."""
    try:
        statements = tree(parse(f"SELECT {expression}".encode()))
    except GrammarError:
        return None
    select = _only(statements[0]["stmt"])[1] if len(statements) == 1 else {}
    targets = cast(list[Json], select.get("targetList", []))
    if len(targets) != 1 or "fromClause" in select:
        return None
    value = constant(_only(targets[0])[1].get("val"))
    return value if isinstance(value, str) else None


def _is_column_name(node: Json) -> bool:
    tag, fields = _only(node)
    return tag == "ColumnRef" and [_only(p)[1].get("sval") for p in cast(list[Json], fields.get("fields", []))] == ["name"]


def _setting_looked_up(select: Node) -> str | None:
    """The constant in `… FROM pg_settings WHERE name = 'constant'`, which is how pg_dump sets what may not exist."""
    tables = cast(list[Json], select.get("fromClause", []))
    where = _only(select.get("whereClause"))[1]
    if len(tables) != 1 or _only(tables[0])[1].get("relname") != "pg_settings" or where.get("kind") != "AEXPR_OP":
        return None
    operator = [_only(n)[1].get("sval") for n in cast(list[Json], where.get("name", []))]
    value = constant(where.get("rexpr"))
    if operator != ["="] or not _is_column_name(where.get("lexpr")) or not isinstance(value, str):
        return None
    return value


_Visitor = Callable[[Extractor, Node], bool]


def _quiet(extractor: Extractor, fields: Node) -> bool:
    return False


def _range_var(extractor: Extractor, fields: Node) -> bool:
    schema, name = str(fields.get("schemaname", "")), str(fields.get("relname", ""))
    extractor._note(str(Relation(schema, name)))
    return False


#: Whether to look inside is what a visitor returns.
_VISITORS: Final[dict[str, _Visitor]] = {
    "RangeVar": _range_var,
    "DeleteStmt": Extractor._delete,
    "UpdateStmt": Extractor._update,
    "InsertStmt": Extractor._insert,
    "MergeStmt": Extractor._merge,
    "TruncateStmt": Extractor._truncate,
    "CopyStmt": Extractor._copy,
    "SelectStmt": Extractor._select,
    "CreateStmt": Extractor._create_table,
    "ViewStmt": Extractor._create_view,
    "CreateSeqStmt": Extractor._create_sequence,
    "CreateTableAsStmt": Extractor._create_table_as,
    "DropStmt": Extractor._drop,
    "DropdbStmt": Extractor._drop_database,
    "DropTableSpaceStmt": Extractor._drop_tablespace,
    "DropRoleStmt": Extractor._drop_role,
    "DropOwnedStmt": Extractor._drop_owned,
    "DropSubscriptionStmt": Extractor._drop_subscription,
    "DropUserMappingStmt": Extractor._drop_user_mapping,
    "AlterTableStmt": Extractor._alter_table,
    "RenameStmt": Extractor._rename,
    "AlterObjectSchemaStmt": Extractor._set_schema,
    "CreateFunctionStmt": Extractor._create_function,
    "RuleStmt": Extractor._create_rule,
    "CreateRoleStmt": Extractor._create_role,
    "AlterRoleStmt": Extractor._create_role,
    "GrantRoleStmt": Extractor._grant_role,
    "AlterSystemStmt": Extractor._alter_system,
    "AlterRoleSetStmt": _quiet,
    "AlterDatabaseSetStmt": _quiet,
    "FuncCall": Extractor._call,
    "CallStmt": Extractor._call_statement,
    "DoStmt": Extractor._do,
    "VariableSetStmt": Extractor._variable_set,
    "TransactionStmt": Extractor._transaction,
    "PrepareStmt": Extractor._prepare,
    "ExecuteStmt": Extractor._execute,
    "DeallocateStmt": Extractor._deallocate,
    "DeclareCursorStmt": Extractor._declare,
    "ClosePortalStmt": Extractor._close_cursor,
    "DiscardStmt": Extractor._discard,
    "ExplainStmt": Extractor._explain,
    "CreateSchemaStmt": Extractor._create_schema,
    "LoadStmt": Extractor._load,
}
