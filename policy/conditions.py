"""Is this WHERE a filter? Three-valued reasoning over the grammar's own tree.

A condition is judged without the catalog, so "true for every row" includes "true unless NULL" (`id = id`), and a condition that
does not speak of the target's rows at all is no filter whatever its value. rewrite.py asks sqlglot about what is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import Final, cast

from policy.facts import Condition
from policy.parse import Json, Node


class _Truth(Enum):
    TRUE = auto()
    FALSE = auto()
    NO_ROWS = auto()  # says nothing about rows of the target: a parameter, now() > …, a sub-select of other tables
    ROWS = auto()


_TRUE_WORDS: Final = frozenset({"t", "tr", "tru", "true", "y", "ye", "yes", "on", "1"})
_FALSE_WORDS: Final = frozenset({"f", "fa", "fal", "fals", "false", "n", "no", "of", "off", "0"})
_SAME_IS_TRUE: Final = frozenset({"=", ">=", "<=", "~~"})
_SAME_IS_FALSE: Final = frozenset({"<>", "!=", "<", ">"})


def judge_condition(where: Json, target: str, alias: str, has_other_tables: bool) -> Condition:
    """What the WHERE of a change of `target` (under `alias`, if any) filters."""
    if where is None:
        return Condition.MISSING
    reference = alias or target
    truth = _truth(where, reference, has_other_tables)
    if truth is _Truth.TRUE:
        return Condition.ALWAYS
    if truth is _Truth.FALSE:
        return Condition.NEVER
    return Condition.UNLINKED if truth is _Truth.NO_ROWS else Condition.FILTERED


def _only(node: Json) -> tuple[str, Node]:
    """Tag and fields of a wrapped node."""
    if isinstance(node, dict) and len(node) == 1:
        ((tag, fields),) = node.items()
        if isinstance(fields, dict):
            return tag, fields
    return "", {}


def _truth(node: Json, reference: str, others: bool) -> _Truth:
    tag, fields = _only(node)
    match tag:
        case "BoolExpr":
            return _bool(fields, reference, others)
        case "A_Const":
            value = constant(node)
            if value in (True, False):
                return _Truth.TRUE if value else _Truth.FALSE
            return _Truth.NO_ROWS if value is not None else _Truth.FALSE
        case "TypeCast":
            return _cast(fields, reference, others)
        case "A_Expr":
            return _expression(fields, reference, others)
        case "SubLink":
            return _sublink(node, fields, reference)
        case "BooleanTest":
            inner = _truth(fields.get("arg"), reference, others)
            return _boolean_test(inner, str(fields.get("booltesttype")))
        case "CurrentOfExpr":
            return _Truth.ROWS
        case _:
            return _Truth.ROWS if _speaks_of_rows(node, reference, others) else _Truth.NO_ROWS


def _bool(fields: Node, reference: str, others: bool) -> _Truth:
    parts = [_truth(a, reference, others) for a in cast(list[Json], fields.get("args", []))]
    operator = fields.get("boolop")
    if operator == "NOT_EXPR":
        return {_Truth.TRUE: _Truth.FALSE, _Truth.FALSE: _Truth.TRUE}.get(parts[0], parts[0])
    absorbing, neutral = (_Truth.FALSE, _Truth.TRUE) if operator == "AND_EXPR" else (_Truth.TRUE, _Truth.FALSE)
    if absorbing in parts:
        return absorbing
    left = [p for p in parts if p is not neutral]
    if not left:
        return neutral
    if operator == "OR_EXPR" and _complementary(cast(list[Json], fields.get("args", []))):
        return _Truth.TRUE
    if operator == "AND_EXPR":
        return _Truth.ROWS if _Truth.ROWS in left else _Truth.NO_ROWS
    # `filter OR something that is no filter`: the other side may open it for every row.
    return _Truth.NO_ROWS if _Truth.NO_ROWS in left else _Truth.ROWS


def _complementary(parts: list[Json]) -> bool:
    """Whether one of the parts is the opposite of another: `x OR NOT x`, `x IS NULL OR x IS NOT NULL`."""
    plain = {repr(_without_places(p)) for p in parts}
    return any(repr(_opposite(p)) in plain for p in parts)


def _opposite(node: Json) -> Json:
    tag, fields = _only(_without_places(node))
    if tag == "BoolExpr" and fields.get("boolop") == "NOT_EXPR":
        return cast(list[Json], fields.get("args", [None]))[0]
    if tag == "NullTest":
        other = "IS_NOT_NULL" if fields.get("nulltesttype") == "IS_NULL" else "IS_NULL"
        return {tag: {**fields, "nulltesttype": other}}
    return None


def _without_places(node: Json) -> Json:
    if isinstance(node, list):
        return [_without_places(n) for n in node]
    if isinstance(node, dict):
        return {k: _without_places(v) for k, v in node.items() if k != "location"}
    return node


def _boolean_test(inner: _Truth, kind: str) -> _Truth:
    if inner not in (_Truth.TRUE, _Truth.FALSE):
        return inner
    holds = {"IS_TRUE": inner is _Truth.TRUE, "IS_NOT_FALSE": inner is _Truth.TRUE, "IS_NOT_UNKNOWN": True}
    holds |= {"IS_FALSE": inner is _Truth.FALSE, "IS_NOT_TRUE": inner is _Truth.FALSE, "IS_UNKNOWN": False}
    return _Truth.TRUE if holds.get(kind, True) else _Truth.FALSE


def _cast(fields: Node, reference: str, others: bool) -> _Truth:
    inner = fields.get("arg")
    value = constant(inner)
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _TRUE_WORDS:
            return _Truth.TRUE
        if word in _FALSE_WORDS:
            return _Truth.FALSE
    if isinstance(value, int) and not isinstance(value, bool):
        return _Truth.TRUE if value else _Truth.FALSE
    return _truth(inner, reference, others)


def _expression(fields: Node, reference: str, others: bool) -> _Truth:
    kind = fields.get("kind")
    left, right = fields.get("lexpr"), fields.get("rexpr")
    names = cast(list[Json], fields.get("name", []))
    operator = str(_only(names[-1])[1].get("sval", "")) if names else ""
    if kind in ("AEXPR_OP", "AEXPR_LIKE", "AEXPR_ILIKE", "AEXPR_DISTINCT", "AEXPR_NOT_DISTINCT") and left is not None:
        if kind in ("AEXPR_LIKE", "AEXPR_ILIKE") and operator in ("~~", "~~*"):
            pattern = constant(right)
            if isinstance(pattern, str) and pattern and not pattern.strip("%"):
                return _Truth.TRUE
        if _same(left, right):
            if kind == "AEXPR_NOT_DISTINCT" or (operator in _SAME_IS_TRUE and kind != "AEXPR_DISTINCT"):
                return _Truth.TRUE
            if kind == "AEXPR_DISTINCT" or operator in _SAME_IS_FALSE:
                return _Truth.FALSE
        compared = _compare(constant(left), operator, constant(right)) if kind == "AEXPR_OP" else None
        if compared is not None:
            return _Truth.TRUE if compared else _Truth.FALSE
    if kind == "AEXPR_IN":
        value = constant(left)
        items = [constant(i) for i in _list_items(right)]
        if value is not None and None not in items:
            found = any(type(value) is type(i) and value == i for i in items)
            return _Truth.TRUE if found is (operator == "=") else _Truth.FALSE
        if any(_same(left, i) for i in _list_items(right)) and operator == "=":
            return _Truth.TRUE
    speaks = _speaks_of_rows(left, reference, others) or _speaks_of_rows(right, reference, others)
    return _Truth.ROWS if speaks else _Truth.NO_ROWS


def _list_items(node: Json) -> list[Json]:
    if isinstance(node, list):
        return node
    return cast(list[Json], _only(node)[1].get("items", []))


def _sublink(node: Json, fields: Node, reference: str) -> _Truth:
    if fields.get("subLinkType") == "EXISTS_SUBLINK":
        select = _only(fields.get("subselect"))[1]
        if "fromClause" not in select and "whereClause" not in select and "limitCount" not in select:
            return _Truth.TRUE
    if fields.get("testexpr") is not None and _speaks_of_rows(fields.get("testexpr"), reference, False):
        return _Truth.ROWS
    return _Truth.ROWS if _speaks_of_rows(fields.get("subselect"), reference, False) else _Truth.NO_ROWS


def _speaks_of_rows(node: Json, reference: str, others: bool) -> bool:
    """Whether a column of the target may be meant. With other tables in the statement a qualified name tells which."""
    return any(len(names) == 1 or not others or names[-2] == reference for names in _column_refs(node))


def _column_refs(node: Json) -> Iterator[list[str]]:
    stack = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, dict):
            for key, value in item.items():
                if key == "ColumnRef" and isinstance(value, dict):
                    parts = cast(list[Json], value.get("fields", []))
                    yield [str(_only(p)[1].get("sval", "*")) for p in parts] or ["*"]
                else:
                    stack.append(value)


def _same(left: Json, right: Json) -> bool:
    """The same column, possibly through casts and parentheses, on both sides."""
    a, b = _column_of(left), _column_of(right)
    return a is not None and b is not None and (a == b or (a[-1] == b[-1] and (len(a) == 1 or len(b) == 1)))


def _column_of(node: Json) -> list[str] | None:
    tag, fields = _only(node)
    if tag == "TypeCast":
        return _column_of(fields.get("arg"))
    if tag == "ColumnRef":
        return next(_column_refs(node))
    return None


def constant(node: Json) -> str | int | float | bool | None:
    """The value of a constant; None for NULL and for what is none."""
    tag, fields = _only(node)
    if tag == "TypeCast":
        return constant(fields.get("arg"))
    if tag == "A_Expr" and fields.get("kind") == "AEXPR_OP" and fields.get("lexpr") is None:
        value = constant(fields.get("rexpr"))
        return -value if isinstance(value, int | float) and not isinstance(value, bool) else None
    if tag != "A_Const":
        return None
    for key, kind in (("ival", "ival"), ("boolval", "boolval"), ("sval", "sval"), ("fval", "fval"), ("bsval", "bsval")):
        if key in fields:
            inner = cast(Node, fields[key])
            if key == "ival":
                return cast(int, inner.get(kind, 0))
            if key == "boolval":
                return bool(inner.get(kind, False))
            if key == "fval":
                try:
                    return float(str(inner.get(kind, "0")))
                except ValueError:
                    return None
            return str(inner.get(kind, ""))
    return None


def _compare(left: str | int | float | bool | None, operator: str, right: str | int | float | bool | None) -> bool | None:
    if left is None or right is None:
        return None
    if isinstance(left, str) != isinstance(right, str):
        # An untyped literal takes the other side's type: '1' = 1.
        try:
            left, right = float(left), float(right)
        except ValueError:
            return None
    if isinstance(left, str) and operator not in ("=", "<>", "!="):
        return None  # the collation decides
    a, b = cast(float, left), cast(float, right)
    match operator:
        case "=":
            return a == b
        case "<>" | "!=":
            return a != b
        case "<":
            return a < b
        case ">":
            return a > b
        case "<=":
            return a <= b
        case ">=":
            return a >= b
        case _:
            return None


def wants_second_opinion(where: Json) -> bool:
    """Whether the condition has a shape in which sqlglot may find a tautology that is not found here."""
    stack = [where]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, dict):
            for key, value in item.items():
                if key in ("CaseExpr", "CoalesceExpr", "MinMaxExpr"):
                    return True
                if key == "BoolExpr" and isinstance(value, dict) and value.get("boolop") in ("OR_EXPR", "NOT_EXPR"):
                    return True
                stack.append(value)
    return False
