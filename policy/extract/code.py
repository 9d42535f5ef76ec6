"""Code in text: DO blocks, function bodies, rules, PREPARE and EXECUTE.

A DO block runs here and now, so each of its statements is judged as the script's own. A function or rule is stored: its body is judged
too, and kept as a Body. What is put together at run time cannot be read, and is said to be so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, cast

from policy.bounds import look
from policy.conditions import constant
from policy.extract.extractor import DEPTH_LIMIT, Extractor, Visitor
from policy.facts import Body, Executed, Opaque, Relation
from policy.judgement import (
    ClosesCursor,
    Deallocates,
    Declares,
    Judgement,
    Prepares,
)
from policy.kinds import command
from policy.nodes import is_on, items, list_items, only, option_text, options, walk
from policy.parse import GrammarError, Json, Node, parse, parse_plpgsql, tree

_TAG: Final = "$pghold$"


def _do(x: Extractor, fields: Node) -> bool:
    x.forget_all_temp()
    arguments = [only(a)[1] for a in items(fields, "args")]
    # All pieces joined: the grammar may have cut one literal in two where the server would not.
    text = "".join(option_text(a.get("arg")) for a in arguments if a.get("defname") == "as")
    languages = [option_text(a.get("arg")).lower() for a in arguments if a.get("defname") == "language"]
    problem: str | None
    if languages and languages != ["plpgsql"]:
        problem = f"a DO block in language {languages[0]}"
    else:
        judgements, problem = _plpgsql(x, f"DO {_TAG}{text}{_TAG}", text)
        bad = next((j for j in judgements if j.findings), None)
        if bad is not None:
            problem = f"a DO block in which: {bad.findings[0].message}"
        elif problem is not None:
            problem = f"a DO block {problem}"
    x.act("DO")
    if problem is not None:
        x.facts.blocks.append(Opaque(problem, x.index))
    return False


def _plpgsql(x: Extractor, statement: str, body: str) -> tuple[list[Judgement], str | None]:
    """The judgement of each statement of PL/pgSQL code, and what of it cannot be read, if anything."""
    if _TAG in body or x.depth >= DEPTH_LIMIT or not x.context.standard_conforming_strings:
        return [], "that cannot be analysed"
    data = statement.encode()
    if look(data) is not None:
        return [], "that is too long or too deep to be analysed"
    judgements: list[Judgement] = []
    try:
        for is_dynamic, mode, text in _texts(parse_plpgsql(data)):
            if is_dynamic:
                constant_text = _string_of(text)
                if constant_text is None:
                    return judgements, "that executes a text made at run time"
                mode, text = 0, constant_text
            judgements.append(x.judge(tree(parse(text.encode(), mode=mode))))
    except GrammarError:
        return judgements, "that cannot be analysed"
    return judgements, None


def _texts(functions: list[Node]) -> Iterator[tuple[bool, int, str]]:
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
    select = only(statements[0]["stmt"])[1] if len(statements) == 1 else {}
    targets = items(select, "targetList")
    if len(targets) != 1 or "fromClause" in select:
        return None
    value = constant(only(targets[0])[1].get("val"))
    return value if isinstance(value, str) else None


# --- stored code ------------------------------------------------------------------------------------------------------


def _create_function(x: Extractor, fields: Node) -> bool:
    kind = "CREATE PROCEDURE" if fields.get("is_procedure") else "CREATE FUNCTION"
    x.statement.kind = kind
    found = options(fields)
    language = option_text(found.get("language")).lower() or "sql"
    name = ".".join(option_text(n) for n in items(fields, "funcname"))
    x.note(name)
    x.act(("CREATE OR REPLACE " if fields.get("replace") else "CREATE ") + kind[7:], (name,), detail=language)
    x.facts.languages.append((language, x.index))
    for option in items(fields, "options"):
        made_to_last(x, only(option)[1])
    x.facts.bodies += _bodies(x, f"{kind[7:]} {name}".lower(), language, fields, found)
    return False  # nothing of it runs before it is called


def made_to_last(x: Extractor, option: Node) -> None:
    """SET among the options of a function: what its statements mean, whenever it runs."""
    if option.get("defname") == "set":
        setting = only(option.get("arg"))[1]
        value = next((constant(a) for a in items(setting, "args")), "")
        x.act("FUNCTION SET", detail=f"{str(setting.get('name', '')).lower()}={value}")


def _alter_function(x: Extractor, fields: Node) -> bool:
    x.act("ALTER FUNCTION")
    for option in items(fields, "actions"):
        made_to_last(x, only(option)[1])
    return False


def _create_view(x: Extractor, fields: Node) -> bool:
    target = cast(Node, fields.get("view", {}))
    name = str(target.get("relname", ""))
    is_temp = target.get("relpersistence") == "t" or target.get("schemaname") == "pg_temp"
    x.note(str(Relation(str(target.get("schemaname", "")), name)))
    x.forget_temp(name)
    if is_temp:
        x.creates_temp_view(name)
    x.act("CREATE OR REPLACE VIEW" if fields.get("replace") else "CREATE VIEW", (name,), is_temp)
    # Its query runs when it is read, and then nobody sees the functions in it.
    x.facts.bodies.append(Body(f"view {name}", x.judge([{"stmt": fields.get("query", {})}]), "", x.index))
    return False


def _bodies(x: Extractor, what: str, language: str, fields: Node, found: dict[str, Json]) -> Iterator[Body]:
    if "sql_body" in fields:
        statements = [s for s in _statements(fields["sql_body"]) if only(s)[0] != "ReturnStmt"]
        yield Body(what, x.judge([{"stmt": s} for s in statements]), "", x.index)
        return
    text = option_text(found.get("as"))
    if language == "sql":
        data = text.encode()
        judgement, opaque = None, "that cannot be analysed"
        if x.depth < DEPTH_LIMIT and look(data) is None:
            try:
                judgement, opaque = x.judge(tree(parse(data, x.context.standard_conforming_strings))), ""
            except GrammarError:
                pass
        yield Body(what, judgement, opaque, x.index)
    elif language == "plpgsql":
        judgements, problem = _plpgsql(x, f"DO {_TAG}{text}{_TAG}", text)
        for judgement in judgements:
            yield Body(what, judgement, "", x.index)
        if problem is not None:
            yield Body(what, None, problem, x.index)
    else:
        yield Body(what, None, f"in language {language}", x.index)


def _statements(node: Json) -> Iterator[Json]:
    """The statements of BEGIN ATOMIC, which the grammar nests in lists."""
    if isinstance(node, list):
        for item in node:
            yield from _statements(item)
    elif only(node)[0] == "List":
        yield from _statements(list_items(node))
    elif only(node)[0]:
        yield node


def _create_rule(x: Extractor, fields: Node) -> bool:
    target = x.relation(fields.get("relation"))
    x.forget_temp(target.name)  # a change of it may now change something else
    x.act("CREATE OR REPLACE RULE" if fields.get("replace") else "CREATE RULE", (str(target),))
    what = f"rule {fields.get('rulename', '')}"
    for action in items(fields, "actions"):
        x.facts.bodies.append(Body(what, x.judge([{"stmt": action}]), "", x.index))
    return False


# --- names ------------------------------------------------------------------------------------------------------------


def _prepare(x: Extractor, fields: Node) -> bool:
    name = str(fields.get("name"))
    judgement = x.judge_prepared(cast(Node, fields["query"]))
    x.prepared[name] = (judgement,)
    x.statement.effects.append(Prepares(name, judgement))
    x.facts.prepared.append((name, judgement, x.index))
    return False


def _execute(x: Extractor, fields: Node) -> bool:
    name = str(fields.get("name"))
    x.facts.uses_context = True
    meanings = x.prepared.get(name)
    if meanings is None:
        meanings = x.context.prepared.get(name, ())
    x.facts.executed.append(Executed(name, meanings, x.index))
    return True


def _deallocate(x: Extractor, fields: Node) -> bool:
    name = cast("str | None", fields.get("name"))
    x.statement.effects.append(Deallocates(name))
    if name is None:
        x.prepared.clear()
    else:
        x.prepared.pop(name, None)
    return False


def _declare(x: Extractor, fields: Node) -> bool:
    x.statement.effects.append(Declares(str(fields.get("portalname"))))
    return True


def _close(x: Extractor, fields: Node) -> bool:
    x.statement.effects.append(ClosesCursor(cast("str | None", fields.get("portalname"))))
    return False


def _explain(x: Extractor, fields: Node) -> bool:
    found = options(fields)
    executes = "analyze" in found and is_on(found["analyze"])
    inner = next(iter(cast(Node, fields.get("query", {}))), "")
    x.statement.kind = "EXPLAIN ANALYZE" if executes else f"EXPLAIN {command(inner)}"
    if not executes:
        # Planning runs IMMUTABLE functions of constants, which can change nothing.
        for key, value in cast(Node, fields.get("query", {})).items():
            _read_only(x, key, value)
    return executes


def _read_only(x: Extractor, key: str, value: Json) -> None:
    """Note the relations of what is planned but not run."""
    for tag, fields in walk({key: value}):
        if tag in ("RangeVar", "relation") and isinstance(fields, dict) and "relname" in fields:
            x.reads(Relation(str(fields.get("schemaname", "")), str(fields["relname"])))


def _call_statement(x: Extractor, fields: Node) -> bool:
    x.forget_all_temp()
    function = cast(Node, fields.get("funccall", {}))
    name = ".".join(option_text(n) for n in items(function, "funcname"))
    x.act("CALL", (name,))
    return True


VISITORS: Final[dict[str, Visitor]] = {
    "DoStmt": _do,
    "CallStmt": _call_statement,
    "CreateFunctionStmt": _create_function,
    "RuleStmt": _create_rule,
    "ViewStmt": _create_view,
    "AlterFunctionStmt": _alter_function,
    "PrepareStmt": _prepare,
    "ExecuteStmt": _execute,
    "DeallocateStmt": _deallocate,
    "DeclareCursorStmt": _declare,
    "ClosePortalStmt": _close,
    "ExplainStmt": _explain,
}
