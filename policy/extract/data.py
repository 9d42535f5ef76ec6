"""Statements on rows: SELECT, INSERT, UPDATE, DELETE, MERGE, TRUNCATE, COPY, and the functions that they call."""

from __future__ import annotations

from typing import Final, cast

from policy.conditions import Surroundings, constant, decided_by_value, judge_condition, only_null_tests, wants_second_opinion
from policy.extract.extractor import Extractor, Visitor
from policy.facts import Call, Change, Condition, Copy, Merge, Relation, Truncate, Upsert
from policy.nodes import items, list_items, mentions_column, only, strings
from policy.parse import Json, Node

_ORDER: Final = (Condition.NEVER, Condition.FILTERED, Condition.UNLINKED, Condition.ALWAYS, Condition.MISSING)


def _range_var(x: Extractor, fields: Node) -> bool:
    x.reads(Relation(str(fields.get("schemaname", "")), str(fields.get("relname", ""))))
    return False


# --- changes of rows --------------------------------------------------------------------------------------------------


def _alias(target: Node) -> str:
    return str(cast(Node, target.get("alias", {})).get("aliasname", ""))


def _delete(x: Extractor, fields: Node) -> bool:
    return _change(x, "DELETE", fields, "usingClause")


def _update(x: Extractor, fields: Node) -> bool:
    return _change(x, "UPDATE", fields, "fromClause")


def _change(x: Extractor, verb: str, fields: Node, others: str) -> bool:
    target = cast(Node, fields["relation"])
    used_context = x.facts.uses_context
    table = x.relation(target)
    x.writes(table)
    where = fields.get("whereClause")
    surroundings = Surroundings(table.name, _alias(target), others in fields, _not_null(x, table))
    condition = judge_condition(where, surroundings)
    if condition is Condition.FILTERED:
        # A filter is a filter whatever table it is: nothing rests on the session here.
        x.facts.uses_context = used_context
        if not _simply_filtered(where):
            x.facts.literal_free = False
    else:
        x.facts.literal_free = False
    position = cast(int, target.get("location", 0))
    filtered = condition is Condition.FILTERED
    x.facts.changes.append(
        Change(
            verb,
            table,
            condition,
            x.index,
            position,
            filtered and wants_second_opinion(where),
            filtered and decided_by_value(where),
            filtered and only_null_tests(where),
        )
    )
    x.visit({k: v for k, v in fields.items() if k != "relation"})
    return False


def _not_null(x: Extractor, table: Relation) -> frozenset[str] | None:
    known = x.context.not_null
    return None if known is None else frozenset(column for relation, column in known if relation == str(table))


def _insert(x: Extractor, fields: Node) -> bool:
    used_context = x.facts.uses_context
    table = x.relation(fields["relation"])
    x.writes(table)
    x.facts.uses_context = used_context
    conflict = only({"c": fields.get("onConflictClause")})[1]
    if conflict:
        source = only(fields.get("selectStmt"))[1]
        if conflict.get("action") == "ONCONFLICT_UPDATE" and "whereClause" not in conflict and "fromClause" in source:
            x.facts.upserts.append(Upsert(table, x.index))
    x.visit({k: v for k, v in fields.items() if k != "relation"})
    return False


def _merge(x: Extractor, fields: Node) -> bool:
    target = cast(Node, fields["relation"])
    table = x.relation(target)
    x.writes(table)
    surroundings = Surroundings(table.name, _alias(target), False, _not_null(x, table))
    on = judge_condition(fields.get("joinCondition"), surroundings)
    outcome: dict[str, Condition | None] = {"CMD_DELETE": None, "CMD_UPDATE": None}
    for clause in items(fields, "mergeWhenClauses"):
        when = only(clause)[1]
        kind = str(when.get("commandType"))
        if kind not in outcome or when.get("matchKind") == "MERGE_WHEN_NOT_MATCHED_BY_TARGET":
            continue
        extra = when.get("condition")
        condition = judge_condition(extra, surroundings) if extra is not None else Condition.MISSING
        if when.get("matchKind") == "MERGE_WHEN_NOT_MATCHED_BY_SOURCE" or condition in (Condition.FILTERED, Condition.NEVER):
            found = condition
        elif kind == "CMD_DELETE":
            found = Condition.MISSING if on is Condition.FILTERED else on
        else:
            found = on
        outcome[kind] = _worse(outcome[kind], found)
    position = cast(int, target.get("location", 0))
    x.facts.merges.append(Merge(table, outcome["CMD_DELETE"], outcome["CMD_UPDATE"], x.index, position))
    x.visit({k: v for k, v in fields.items() if k != "relation"})
    return False


def _worse(a: Condition | None, b: Condition) -> Condition:
    return b if a is None or _ORDER.index(b) > _ORDER.index(a) else a


def _truncate(x: Extractor, fields: Node) -> bool:
    tables = tuple(x.relation(r) for r in items(fields, "relations"))
    for table in tables:
        x.writes(table)
        x.lock(table, "ACCESS EXCLUSIVE")
    cascade = fields.get("behavior") == "DROP_CASCADE"
    x.facts.truncates.append(Truncate(tables, cascade, all(t.is_temp for t in tables), x.index))
    return False


def _copy(x: Extractor, fields: Node) -> bool:
    relation = ""
    is_from, is_program = bool(fields.get("is_from")), bool(fields.get("is_program"))
    if "relation" in fields:
        used_context = x.facts.uses_context
        target = x.relation(fields["relation"])
        x.facts.uses_context = used_context
        relation = str(target)
        if is_from:
            x.writes(target)
        else:
            x.reads(target)
    x.facts.copies.append(Copy(relation, is_from, is_program, cast("str | None", fields.get("filename")), x.index))
    x.visit({k: v for k, v in fields.items() if k != "relation"})
    return False


#: Of a column and a constant: a filter, whatever the constant. (`>= ''` and `~ '.*'` are none.)
_FILTERS: Final = frozenset({"=", "<>", "<", ">", "<="})


def _simply_filtered(where: Json) -> bool:
    """Whether a comparison of a column decides that this is a filter, whatever the constants are."""
    tag, fields = only(where)
    if tag == "BoolExpr" and fields.get("boolop") == "AND_EXPR":
        parts = items(fields, "args")
        # A conjunct of constants only could turn false into true: then the constants matter.
        return any(_simply_filtered(a) for a in parts) and all(mentions_column(a) for a in parts)
    if tag == "NullTest":
        return only(fields.get("arg"))[0] == "ColumnRef"
    if tag != "A_Expr" or fields.get("kind") not in ("AEXPR_OP", "AEXPR_IN"):
        return False
    if strings(items(fields, "name"))[-1:][0] not in _FILTERS:
        return False
    left, right = fields.get("lexpr"), fields.get("rexpr")
    if fields.get("kind") == "AEXPR_IN":
        return only(left)[0] == "ColumnRef" and all(_is_value(i) for i in list_items(right))
    sides = {only(left)[0], only(right)[0]}
    return "ColumnRef" in sides and len(sides) == 2 and (_is_value(left) or _is_value(right))


def _is_value(node: Json) -> bool:
    return only(node)[0] in ("A_Const", "ParamRef")


# --- reading ----------------------------------------------------------------------------------------------------------


def _select(x: Extractor, fields: Node) -> bool:
    into = fields.get("intoClause")
    if isinstance(into, dict):
        x.facts.literal_free = False
        x.act("CREATE TABLE AS", (str(cast(Node, into.get("rel", {})).get("relname", "")),))
        created(x, into)
        x.visit({k: v for k, v in fields.items() if k != "intoClause"})
        return False
    x.named_setting = _setting_looked_up(fields) or x.named_setting
    return True


def created(x: Extractor, into: Node) -> None:
    """The table of SELECT INTO or CREATE TABLE AS."""
    target = cast(Node, into.get("rel", {}))
    name = str(target.get("relname", ""))
    x.note(str(Relation(str(target.get("schemaname", "")), name)))
    if target.get("relpersistence") == "t" or target.get("schemaname") == "pg_temp":
        x.creates_temp(name, into.get("onCommit") == "ONCOMMIT_DROP")


def _setting_looked_up(select: Node) -> str | None:
    """The constant in `… FROM pg_settings WHERE name = 'constant'`, which is how pg_dump sets what may not exist."""
    tables = items(select, "fromClause")
    where = only(select.get("whereClause"))[1]
    table = only(tables[0])[1] if len(tables) == 1 else {}
    if table.get("relname") != "pg_settings" or where.get("kind") != "AEXPR_OP":
        return None
    value = constant(where.get("rexpr"))
    if strings(items(where, "name")) != ["="] or not _is_column_name(where.get("lexpr")) or not isinstance(value, str):
        return None
    return value


def _is_column_name(node: Json) -> bool:
    tag, fields = only(node)
    return tag == "ColumnRef" and strings(items(fields, "fields")) == ["name"]


def _call(x: Extractor, fields: Node) -> bool:
    names = strings(items(fields, "funcname"))
    arguments = items(fields, "args")
    values = [constant(a) for a in arguments]
    texts = tuple(v if isinstance(v, str) else str(v).lower() if v is not None else None for v in values)
    x.facts.calls.append(Call(names[-2] if len(names) > 1 else "", names[-1], texts, x.index, cast(int, fields.get("location", 0))))
    if names[-1] == "set_config":
        x.facts.literal_free = False
        if any(only(a)[0] == "NamedArgExpr" for a in arguments) or fields.get("func_variadic"):
            x.unclear("set_config() with arguments by name")
            return True
        name = texts[0] if texts else None
        if name is None and arguments and _is_column_name(arguments[0]):
            name = x.named_setting
        if name is not None:
            x.sets(name.strip().lower(), texts[1] if len(texts) > 1 else None)
        else:
            x.unclear("set_config() of a setting that is not a constant")
    elif names[-1] in ("lo_open", "loread"):
        x.facts.literal_free = False  # its mode is a constant
    return True


def _lock(x: Extractor, fields: Node) -> bool:
    mode = _LOCK_MODES.get(cast(int, fields.get("mode", 8)), "ACCESS EXCLUSIVE")
    tables = [x.relation(r) for r in items(fields, "relations")]
    for table in tables:
        x.lock(table, mode)
    x.act("LOCK", tuple(str(t) for t in tables), all(t.is_temp for t in tables), mode)
    return False


_LOCK_MODES: Final = {
    1: "ACCESS SHARE",
    2: "ROW SHARE",
    3: "ROW EXCLUSIVE",
    4: "SHARE UPDATE EXCLUSIVE",
    5: "SHARE",
    6: "SHARE ROW EXCLUSIVE",
    7: "EXCLUSIVE",
    8: "ACCESS EXCLUSIVE",
}


def _in_expression(x: Extractor, fields: Node) -> bool:
    """A list of constants holds nothing to look at: a long IN list costs no walk."""
    return not all(only(i)[0] == "A_Const" for i in list_items({"List": fields}))


VISITORS: Final[dict[str, Visitor]] = {
    "RangeVar": _range_var,
    "DeleteStmt": _delete,
    "UpdateStmt": _update,
    "InsertStmt": _insert,
    "MergeStmt": _merge,
    "TruncateStmt": _truncate,
    "CopyStmt": _copy,
    "SelectStmt": _select,
    "FuncCall": _call,
    "LockStmt": _lock,
    "List": _in_expression,
}
