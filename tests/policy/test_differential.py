"""Facts against the parse tree: a walk that knows nothing of the extraction reads the same tree, and what it finds must be in the facts,
unless they admit that they are not certain, or the statement is one whose insides are judged on their own."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from policy import Context, Engine
from policy.facts import Facts
from policy.parse import GrammarError, Json, Node, parse, tree
from policy.rules import ALL_RULES
from tests.policy.test_corpus import CORPUS, own_cases

ENGINE = Engine()

#: Inside of these nothing runs now, or it is judged on its own (PREPARE, rules, bodies).
CLOSED = {"PrepareStmt", "RuleStmt", "CreateFunctionStmt", "ViewStmt", "DoStmt"}


def statements() -> Iterator[str]:
    for rule in ALL_RULES:
        yield from (e.script for e in (*rule.triggers, *rule.passes))
    yield from (script for script, _ in own_cases())
    for name in ("adversarial", "orm", "tools", "squawk", "regress"):
        file = CORPUS / f"{name}.jsonl"
        if file.exists():
            yield from (json.loads(line)["sql"] for line in file.read_text().splitlines())


def found(node: Json, tag: str, under: tuple[str, ...] = ()) -> Iterator[tuple[Node, tuple[str, ...]]]:
    """Each node of this kind with the kinds above it."""
    stack: list[tuple[Json, tuple[str, ...]]] = [(node, under)]
    while stack:
        item, path = stack.pop()
        if isinstance(item, list):
            stack.extend((i, path) for i in item)
        elif isinstance(item, dict):
            for key, value in item.items():
                if key == tag and isinstance(value, dict):
                    yield value, path
                stack.append((value, (*path, key) if key[:1].isupper() else path))


def runs(path: tuple[str, ...], tree_of: Node) -> bool:
    return not CLOSED & set(path)


def name(fields: Node) -> str:
    relation = fields.get("relation")
    return str(relation.get("relname")) if isinstance(relation, dict) else ""


def is_planned_only(statement: Node) -> bool:
    """EXPLAIN without ANALYZE, WITH NO DATA: by the words, not by the extraction's own reading of the options."""
    text = json.dumps(statement)
    return ('"ExplainStmt"' in text and '"analyze"' not in text) or '"skipData": true' in text


def is_explained(statement: Node) -> bool:
    return '"ExplainStmt"' in json.dumps(statement)


def check(script: str) -> str | None:
    try:
        parsed = tree(parse(script.encode("utf-8", "surrogatepass")))
    except GrammarError:
        return None
    facts = ENGINE.facts(script.encode("utf-8", "surrogatepass"), Context())
    assert facts is not None
    for index, statement in enumerate(parsed):
        root = statement["stmt"]
        assert isinstance(root, dict)
        if not facts.statements[index].certain or is_planned_only(root):
            continue
        problem = compare(facts, index, root, is_explained(root))
        if problem:
            return problem
    return None


def compare(facts: Facts, index: int, root: Node, explained: bool) -> str | None:
    for tag, verb in (("DeleteStmt", "DELETE"), ("UpdateStmt", "UPDATE")):
        wanted = sorted(name(f) for f, path in found(root, tag) if runs(path, root))
        got = sorted(c.table.name for c in facts.changes if c.statement == index and c.verb == verb)
        if wanted != got and not (explained and not got):
            return f"{verb}: {wanted} in the tree, {got} in the facts"
        bare = sorted(name(f) for f, path in found(root, tag) if runs(path, root) and "whereClause" not in f)
        missing = sorted(c.table.name for c in facts.changes if c.statement == index and c.verb == verb and c.condition.name == "MISSING")
        if bare != missing and not (explained and not got):
            return f"{verb} without WHERE: {bare} in the tree, {missing} in the facts"
    for tag, kind in (("InsertStmt", "insert"), ("MergeStmt", "merge")):
        wanted = sorted(name(f) for f, path in found(root, tag) if runs(path, root))
        writes = [w.name for w in facts.statements[index].writes]
        if not explained and any(w not in writes for w in wanted):
            return f"{kind}: {wanted} in the tree, {writes} in the facts"
    for tag, count in (
        ("DropStmt", len([d for d in facts.drops if d.statement == index])),
        ("TruncateStmt", len([t for t in facts.truncates if t.statement == index])),
        ("CopyStmt", len([c for c in facts.copies if c.statement == index])),
        ("AlterTableCmd", len([a for a in facts.alters if a.statement == index])),
    ):
        wanted_count = sum(1 for _, path in found(root, tag) if runs(path, root))
        if wanted_count > count:
            return f"{tag}: {wanted_count} in the tree, {count} in the facts"
    called = sorted(
        str(f["funcname"][-1]["String"].get("sval", ""))  # type: ignore[call-overload, index, union-attr]
        for f, path in found(root, "FuncCall")
        if runs(path, root) and not {"CommentStmt", "GrantStmt"} & set(path)
    )
    calls = sorted(c.name for c in facts.calls if c.statement == index)
    if not explained and called != calls and not _definition_only(root):
        return f"calls: {called} in the tree, {calls} in the facts"
    return None


def _definition_only(root: Node) -> bool:
    """Defaults and conditions of these are stored, not run."""
    return next(iter(root)) in ("CreateDomainStmt", "AlterDomainStmt", "DefineStmt", "CreateStatsStmt", "AlterPublicationStmt", "CreatePublicationStmt", "AlterTypeStmt", "CompositeTypeStmt", "CreateForeignTableStmt", "CreateCastStmt")  # fmt: skip


def test_facts_say_what_the_tree_says() -> None:
    wrong = [(problem, script[:200]) for script in statements() if (problem := check(script)) is not None]
    assert wrong[:10] == []


@pytest.mark.parametrize(
    ("script", "problem"),
    [("DELETE FROM a", "DELETE: ['a'] in the tree, [] in the facts"), ("DROP TABLE a", "DropStmt: 1 in the tree, 0 in the facts")],
)
def test_the_comparison_can_fail(script: str, problem: str) -> None:
    facts = ENGINE.facts(b"SELECT 1", Context())
    assert facts is not None
    root = tree(parse(script.encode()))[0]["stmt"]
    assert isinstance(root, dict)
    assert compare(facts, 0, root, explained=False) == problem
