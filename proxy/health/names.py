"""Names of relations as people and PostgreSQL write them."""

from __future__ import annotations

import re
from typing import Final

_PART: Final = re.compile(r'"((?:[^"]|"")+)"|([^".]+)')


def split_name(text: str) -> tuple[str, ...]:
    """The parts of a dotted name: what stands in quotes is taken as it is, the rest too (no folding to lower case).

    Raises ValueError.
    """
    parts: list[str] = []
    position = 0
    while True:
        match = _PART.match(text, position)
        if match is None:
            raise ValueError(f"{text!r}: expected DATABASE.SCHEMA.TABLE or SCHEMA.TABLE; a name with dots or quotes in double quotes")
        parts.append(match[1].replace('""', '"') if match[1] is not None else match[2].strip())
        position = match.end()
        if position == len(text):
            return tuple(parts)
        if text[position] != ".":
            raise ValueError(f"{text!r}: expected a dot behind {parts[-1]!r}")
        position += 1


def critical_name(text: str, database: str) -> tuple[str, str, str]:
    """(database, schema, table) of an entry of critical_tables. Raises ValueError."""
    match split_name(text):
        case (schema, table):
            return database, schema, table
        case (named, schema, table):
            return named, schema, table
        case _:
            raise ValueError(f"{text!r}: expected DATABASE.SCHEMA.TABLE or SCHEMA.TABLE")


def quoted(*parts: str) -> str:
    """As SQL: every part in double quotes."""
    return ".".join('"' + p.replace('"', '""') + '"' for p in parts)


def literal(text: str) -> str:
    """As a string constant (standard_conforming_strings on)."""
    return "'" + text.replace("'", "''") + "'"
