"""Is this WHERE a filter? Three-valued reasoning over the grammar's own tree.

A condition is judged without the data, so "true for every row" includes "true unless NULL" (`id = id`), and a condition that does not
speak of the target's rows at all is no filter whatever its value. FALSE is concluded only where it is certain: no cast, no operator
with a schema, nothing that may be NULL. rewrite.py asks sqlglot about what is left.
"""

from __future__ import annotations

import operator as operators
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import Enum, auto
from typing import Final, cast

from policy.facts import Condition
from policy.nodes import items, list_items, mentions_column, only, strings, walk
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
_EVERY_STRING: Final = frozenset({"", ".*", "^", "$", "^.*$", ".*$", "^.*"})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a condition stands.

    Attributes:
        target, alias: of the relation that is changed; an alias hides the name.
        has_others: other relations are in FROM or USING, so a qualified column may be theirs.
        not_null: columns of the target that the catalog says cannot be NULL; None when it was not asked.
    """

    target: str
    alias: str
    has_others: bool
    not_null: frozenset[str] | None = None

    @property
    def reference(self) -> str:
        return self.alias or self.target


def judge_condition(where: Json, at: Surroundings) -> Condition:
    """What the WHERE of a change filters."""
    if where is None:
        return Condition.MISSING
    return _CONDITIONS[_truth(where, at)]


_CONDITIONS: Final = {
    _Truth.TRUE: Condition.ALWAYS,
    _Truth.FALSE: Condition.NEVER,
    _Truth.NO_ROWS: Condition.UNLINKED,
    _Truth.ROWS: Condition.FILTERED,
}


def _truth(node: Json, at: Surroundings) -> _Truth:
    tag, fields = only(node)
    match tag:
        case "BoolExpr":
            return _bool(fields, at)
        case "A_Const":
            value = constant(node)
            if isinstance(value, bool):
                return _Truth.TRUE if value else _Truth.FALSE
            return _Truth.NO_ROWS if value is not None else _Truth.FALSE
        case "TypeCast":
            return _cast(fields, at)
        case "A_Expr":
            return _expression(fields, at)
        case "SubLink":
            return _sublink(fields, at)
        case "BooleanTest":
            return _boolean_test(_truth(fields.get("arg"), at), str(fields.get("booltesttype")))
        case "NullTest":
            return _null_test(fields, at)
        case "CoalesceExpr" | "CaseExpr" if _results(tag, fields) and all(_truth(r, at) is _Truth.TRUE for r in _results(tag, fields)):
            return _Truth.TRUE
        case "CurrentOfExpr":
            return _Truth.ROWS
        case _:
            return _rows_if(_speaks_of_rows(node, at))


def _results(tag: str, fields: Node) -> list[Json]:
    """What COALESCE or CASE may give; a CASE without ELSE may give NULL."""
    if tag == "CoalesceExpr":
        return items(fields, "args")
    results = [only(w)[1].get("result") for w in items(fields, "args")]
    return [*results, fields["defresult"]] if "defresult" in fields else []


def _rows_if(speaks: bool) -> _Truth:
    return _Truth.ROWS if speaks else _Truth.NO_ROWS


# --- AND, OR, NOT, IS ---------------------------------------------------------------------------------------------------


def _bool(fields: Node, at: Surroundings) -> _Truth:
    arguments = items(fields, "args")
    parts = [_truth(a, at) for a in arguments]
    operator = fields.get("boolop")
    if operator == "NOT_EXPR":
        return {_Truth.TRUE: _Truth.FALSE, _Truth.FALSE: _Truth.TRUE}.get(parts[0], parts[0])
    absorbing, neutral = (_Truth.FALSE, _Truth.TRUE) if operator == "AND_EXPR" else (_Truth.TRUE, _Truth.FALSE)
    if absorbing in parts:
        return absorbing
    left = [p for p in parts if p is not neutral]
    if not left:
        return neutral
    if operator == "AND_EXPR":
        return _Truth.ROWS if _Truth.ROWS in left else _Truth.NO_ROWS
    if _complementary(arguments):
        return _Truth.TRUE
    # `filter OR something that is no filter`: the other side may open it for every row.
    return _Truth.NO_ROWS if _Truth.NO_ROWS in left else _Truth.ROWS


_NEGATED: Final = {"=": "<>", "<>": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">", "~~": "!~~", "!~~": "~~"}


def _complementary(parts: list[Json]) -> bool:
    """Whether one of the parts is the opposite of another: `x OR NOT x`, `x IS NULL OR x IS NOT NULL`, `x > 1 OR x <= 1`."""
    plain = {repr(_without_places(p)) for p in parts}
    return any(repr(_opposite(p)) in plain for p in parts)


def _opposite(node: Json) -> Json:
    tag, fields = only(_without_places(node))
    if tag == "BoolExpr" and fields.get("boolop") == "NOT_EXPR":
        return items(fields, "args")[0]
    if tag == "NullTest":
        other = "IS_NOT_NULL" if fields.get("nulltesttype") == "IS_NULL" else "IS_NULL"
        return {tag: {**fields, "nulltesttype": other}}
    operator = strings(items(fields, "name")) if tag == "A_Expr" else []
    if len(operator) == 1 and operator[0] in _NEGATED:
        return {tag: {**fields, "name": [{"String": {"sval": _NEGATED[operator[0]]}}]}}
    return None


def _without_places(node: Json) -> Json:
    if isinstance(node, list):
        return [_without_places(n) for n in node]
    if isinstance(node, dict):
        return {k: _without_places(v) for k, v in node.items() if k not in ("location", "list_start", "list_end")}
    return node


def _boolean_test(inner: _Truth, kind: str) -> _Truth:
    """IS TRUE and its kind. What counts as FALSE here may be NULL, so FALSE is concluded from TRUE only."""
    if inner not in (_Truth.TRUE, _Truth.FALSE):
        return inner
    if kind == "IS_TRUE":
        return inner
    if inner is _Truth.TRUE:
        return {"IS_NOT_FALSE": _Truth.TRUE, "IS_FALSE": _Truth.FALSE, "IS_NOT_TRUE": _Truth.FALSE}.get(kind, _Truth.NO_ROWS)
    return _Truth.TRUE if kind in ("IS_FALSE", "IS_NOT_TRUE") else _Truth.NO_ROWS


#: Never NULL (ddl-system-columns.html).
_SYSTEM_COLUMNS: Final = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"})


def _null_test(fields: Node, at: Surroundings) -> _Truth:
    argument = fields.get("arg")
    if fields.get("nulltesttype") == "IS_NOT_NULL":
        column = next(_column_refs(argument))[-1] if only(argument)[0] == "ColumnRef" else ""
        if column in _SYSTEM_COLUMNS or (at.not_null is not None and column in at.not_null):
            return _Truth.TRUE
        if only(argument)[0] in ("NullTest", "BooleanTest"):
            return _Truth.TRUE
    return _rows_if(_speaks_of_rows(argument, at))


def only_null_tests(where: Json) -> bool:
    """Whether a condition asks for nothing but that columns are not NULL: all rows, where the columns are filled."""
    tag, fields = only(where)
    if tag == "BoolExpr" and fields.get("boolop") != "NOT_EXPR":
        return all(only_null_tests(a) for a in items(fields, "args"))
    if tag == "A_Expr" and fields.get("kind") == "AEXPR_DISTINCT":
        return only(fields.get("lexpr"))[0] == "ColumnRef" and "isnull" in only(fields.get("rexpr"))[1]
    return tag == "NullTest" and fields.get("nulltesttype") == "IS_NOT_NULL"


# --- expressions --------------------------------------------------------------------------------------------------------


def _cast(fields: Node, at: Surroundings) -> _Truth:
    inner = fields.get("arg")
    is_bool = strings(items(cast(Node, fields.get("typeName") or {}), "names"))[-1:] in (["bool"], ["boolean"])
    value = literal(inner)
    if is_bool and value is not None and not isinstance(value, Decimal):
        word = str(value).strip().lower()
        if word in _TRUE_WORDS:
            return _Truth.TRUE
        if word in _FALSE_WORDS:
            return _Truth.FALSE
        if isinstance(value, int):
            return _Truth.TRUE if value else _Truth.FALSE
    found = _truth(inner, at)
    return found if is_bool or found is not _Truth.FALSE else _Truth.NO_ROWS


def _expression(fields: Node, at: Surroundings) -> _Truth:
    kind = str(fields.get("kind"))
    left, right = fields.get("lexpr"), fields.get("rexpr")
    names = strings(items(fields, "name"))
    operator = names[-1] if names else ""
    built_in = len(names) == 1  # OPERATOR(public.<>) may be anything
    if _takes_every_string(kind, operator, right):
        return _Truth.TRUE
    if kind in ("AEXPR_OP", "AEXPR_LIKE", "AEXPR_ILIKE", "AEXPR_DISTINCT", "AEXPR_NOT_DISTINCT") and left is not None:
        if _same(left, right):
            if kind == "AEXPR_NOT_DISTINCT" or (operator in _SAME_IS_TRUE and kind != "AEXPR_DISTINCT"):
                return _Truth.TRUE
            differs = kind == "AEXPR_DISTINCT" or operator in _SAME_IS_FALSE
            # A cast between the two could make them differ, so FALSE is for bare columns.
            if differs and built_in and only(left)[0] == "ColumnRef" == only(right)[0]:
                return _Truth.FALSE
        compared = _compare(literal(left), operator, literal(right)) if kind == "AEXPR_OP" and built_in else None
        if compared is not None:
            return _Truth.TRUE if compared else _Truth.FALSE
    if kind in ("AEXPR_IN", "AEXPR_OP_ANY") and operator == "=" and any(_same(left, m) for m in _members(right)):
        return _Truth.TRUE
    if kind == "AEXPR_IN":
        found = _found(literal(left), [literal(m) for m in list_items(right)])
        if found is not None:
            return _Truth.TRUE if found is (operator == "=") else _Truth.FALSE
    if kind in ("AEXPR_BETWEEN", "AEXPR_BETWEEN_SYM") and all(_same(left, m) for m in list_items(right)):
        return _Truth.TRUE
    return _rows_if(_speaks_of_rows(left, at) or _speaks_of_rows(right, at))


def _takes_every_string(kind: str, operator: str, right: Json) -> bool:
    """`LIKE '%'`, `SIMILAR TO '%'`, `~ '.*'`, `>= ''`."""
    if kind == "AEXPR_SIMILAR":
        right = next(iter(items(only(right)[1], "args")), None)
    pattern = literal(right)
    if not isinstance(pattern, str):
        return False
    if kind in ("AEXPR_LIKE", "AEXPR_ILIKE", "AEXPR_SIMILAR"):
        return operator in ("~~", "~~*", "~") and pattern != "" and not pattern.strip("%")
    return (operator in ("~", "~*") and pattern in _EVERY_STRING) or (operator == ">=" and pattern == "")


def _members(node: Json) -> list[Json]:
    tag, fields = only(node)
    return items(fields, "elements") if tag == "A_ArrayExpr" else list_items(node)


def _found(value: Value | None, members: list[Value | None]) -> bool | None:
    """Whether a constant is in a list of constants; None when that cannot be told."""
    answers = [_compare(value, "=", m) for m in members]
    if True in answers:
        return True
    return None if None in answers or not answers else False


def _sublink(fields: Node, at: Surroundings) -> _Truth:
    select = only(fields.get("subselect"))[1]
    if fields.get("subLinkType") == "EXISTS_SUBLINK" and not {"fromClause", "whereClause", "limitCount", "limitOffset"} & set(select):
        return _Truth.TRUE
    test = fields.get("testexpr")
    if test is not None and _speaks_of_rows(test, at):
        return _Truth.TRUE if _is_whole_column(test, select, at) else _Truth.ROWS
    inner = {str(cast(Node, t.get("alias", {})).get("aliasname", "") or t.get("relname", "")) for t in _tables(select)}
    # Columns of the sub-select's own tables are no link; an unqualified one may be the target's.
    return _rows_if(
        any(len(names) == 1 or (names[-2] == at.reference and at.reference not in inner) for names in _column_refs(fields.get("subselect")))
    )


def _tables(node: Json) -> Iterator[Node]:
    for key, value in walk(node):
        if key == "RangeVar" and isinstance(value, dict):
            yield value


def _is_whole_column(test: Json, select: Node, at: Surroundings) -> bool:
    """`x IN (SELECT x FROM target)`: every row is in its own table."""
    if {"whereClause", "havingClause", "limitCount", "limitOffset", "larg", "withClause"} & set(select):
        return False
    tables, targets = items(select, "fromClause"), items(select, "targetList")
    if len(tables) != 1 or len(targets) != 1 or only(tables[0])[1].get("relname") != at.target:
        return False
    return _same(test, only(targets[0])[1].get("val"))


def _speaks_of_rows(node: Json, at: Surroundings) -> bool:
    """Whether a column of the target may be meant. With other tables in the statement a qualified name tells which."""
    return any(
        names[-1] != "tableoid" and (len(names) == 1 or not at.has_others or names[-2] == at.reference) for names in _column_refs(node)
    )


def _column_refs(node: Json) -> Iterator[list[str]]:
    for key, value in walk({"": node}):
        if key == "ColumnRef" and isinstance(value, dict):
            yield [str(only(p)[1].get("sval", "*")) for p in items(value, "fields")] or ["*"]


def _same(left: Json, right: Json) -> bool:
    """The same column, possibly through casts, or the same expression of columns, on both sides."""
    a, b = _column_of(left), _column_of(right)
    if a is not None and b is not None:
        return a == b or (a[-1] == b[-1] and (len(a) == 1 or len(b) == 1))
    if a is not None or b is not None or left is None or only(left)[0] in ("A_Const", "ParamRef"):
        return False
    return mentions_column(left) and _without_places(left) == _without_places(right)


def _column_of(node: Json) -> list[str] | None:
    tag, fields = only(node)
    if tag == "TypeCast":
        return _column_of(fields.get("arg"))
    if tag == "ColumnRef":
        return next(_column_refs(node))
    return None


def decided_by_value(where: Json) -> bool:
    """Whether a parameter could open the condition for every row: `name LIKE $1` with '%'. Then its value must be seen, too."""
    for key, value in walk({"": where}):
        if key != "A_Expr" or not isinstance(value, dict):
            continue
        operator = strings(items(value, "name"))[-1:]
        takes = value.get("kind") in ("AEXPR_LIKE", "AEXPR_ILIKE", "AEXPR_SIMILAR") or operator in (["~"], ["~*"], [">="])
        if takes and any(k == "ParamRef" for k, _ in walk({"": value.get("rexpr")})):
            return True
    return False


# --- constants ----------------------------------------------------------------------------------------------------------

Value = str | int | Decimal | bool


def constant(node: Json) -> Value | None:
    """The value of a constant, casts left aside; None for NULL and for what is none."""
    tag, fields = only(node)
    if tag == "TypeCast":
        return constant(fields.get("arg"))
    if tag == "A_Const" and "bsval" in fields:
        return str(cast(Node, fields["bsval"]).get("bsval", ""))
    return literal(node)


def literal(node: Json) -> Value | None:
    """The value of a constant that is written down as it is: a cast could make '01' and '1' equal. None for anything else."""
    tag, fields = only(node)
    if tag == "A_Expr" and fields.get("kind") == "AEXPR_OP" and fields.get("lexpr") is None and strings(items(fields, "name")) == ["-"]:
        value = literal(fields.get("rexpr"))
        return -value if isinstance(value, int | Decimal) and not isinstance(value, bool) else None
    if tag != "A_Const":
        return None
    if "ival" in fields:
        return cast(int, cast(Node, fields["ival"]).get("ival", 0))
    if "boolval" in fields:
        return bool(cast(Node, fields["boolval"]).get("boolval", False))
    if "sval" in fields:
        return str(cast(Node, fields["sval"]).get("sval", ""))
    if "fval" in fields:
        return _number(str(cast(Node, fields["fval"]).get("fval", "")))
    return None


_COMPARISONS: Final = {
    "=": operators.eq,
    "<>": operators.ne,
    "!=": operators.ne,
    "<": operators.lt,
    ">": operators.gt,
    "<=": operators.le,
    ">=": operators.ge,
}


def _compare(left: Value | None, operator: str, right: Value | None) -> bool | None:
    """What the server would say; None when that cannot be told."""
    if left is None or right is None or operator not in _COMPARISONS:
        return None
    if isinstance(left, str) and isinstance(right, str):
        # The collation decides which comes first, not whether they are equal.
        return bool(_COMPARISONS[operator](left, right)) if operator in ("=", "<>", "!=") else None
    # An untyped literal takes the other side's type: '1' = 1.
    a, b = _number(left), _number(right)
    return None if a is None or b is None else bool(_COMPARISONS[operator](a, b))


def _number(value: Value) -> Decimal | None:
    try:
        number = Decimal(value)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def wants_second_opinion(where: Json) -> bool:
    """Whether the condition has a shape in which sqlglot may find a tautology that is not found here."""
    return any(
        key in ("CaseExpr", "CoalesceExpr", "MinMaxExpr")
        or (key == "BoolExpr" and isinstance(value, dict) and value.get("boolop") in ("OR_EXPR", "NOT_EXPR"))
        for key, value in walk({"": where})
    )
