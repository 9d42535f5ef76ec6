"""Reading single nodes of the grammar's tree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from policy.parse import Json, Node


def only(node: Json) -> tuple[str, Node]:
    """Tag and fields of a wrapped node; ("", {}) for what is none."""
    if isinstance(node, dict) and len(node) == 1:
        ((tag, fields),) = node.items()
        if isinstance(fields, dict):
            return tag, fields
    return "", {}


def items(fields: Node, name: str) -> list[Json]:
    """The list in this field; empty when it is absent."""
    return cast(list[Json], fields.get(name) or [])


def list_items(node: Json) -> list[Json]:
    if isinstance(node, list):
        return node
    return items(only(node)[1], "items")


def strings(nodes: list[Json]) -> list[str]:
    return [str(only(n)[1].get("sval", "")) for n in nodes]


def role_name(node: Json) -> str:
    fields = only(node)[1] if isinstance(node, dict) and len(node) == 1 else cast(Node, node or {})
    return str(fields.get("rolename") or str(fields.get("roletype", "")).removeprefix("ROLESPEC_").lower())


def is_on(node: Json) -> bool:
    """A boolean option as the server reads it (defGetBoolean); without a value it is on."""
    tag, fields = only(node)
    if not tag:
        return True
    if tag == "Boolean":
        return bool(fields.get("boolval", False))
    if tag == "Integer":
        return bool(fields.get("ival", 0))
    return str(fields.get("sval", "on")).lower() not in ("off", "false", "0", "no")


def options(fields: Node, name: str = "options") -> dict[str, Json]:
    """DefElems by name; the last of a name counts."""
    return {str(e.get("defname")): e.get("arg") for e in (only(o)[1] for o in items(fields, name))}


def option_text(arg: Json) -> str:
    """The value of an option as text, pieces of a list joined; a type's last name."""
    tag, fields = only(arg)
    if tag == "List":
        return "".join(option_text(i) for i in items(fields, "items"))
    if tag == "TypeName":
        return (strings(items(fields, "names")) or [""])[-1]
    return str(fields.get("sval", ""))


def name_parts(node: Json) -> list[str]:
    """The name of an object: a String, a List of them, a TypeName or an ObjectWithArgs."""
    tag, fields = only(node)
    if tag == "String":
        return [str(fields.get("sval", ""))]
    found = fields.get("items") or fields.get("names") or fields.get("objname") or []
    return [p for item in cast(list[Json], found) for p in name_parts(item)] or ["?"]


def walk(root: Json) -> Iterator[tuple[str, Json]]:
    """Every key and value below this node."""
    stack = [root]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, dict):
            for key, value in item.items():
                yield key, value
                stack.append(value)


def mentions_column(node: Json) -> bool:
    return any(key == "ColumnRef" for key, _ in walk(node))


def function_names(node: Json) -> Iterator[str]:
    for key, value in walk(node):
        if key == "FuncCall" and isinstance(value, dict):
            yield (strings(items(value, "funcname")) or [""])[-1]
