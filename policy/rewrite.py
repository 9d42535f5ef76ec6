"""Reasoning about expressions with sqlglot, the only module that imports it.

It may add a hold; it never clears a text, and its failure is never a reason to hold: it reads PostgreSQL's grammar only in part.
"""

from __future__ import annotations

import re
from typing import Final

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.simplify import simplify

#: Its simplification takes time that grows with a power of the condition's size (600 characters of nested OR: 0.8 s), and it recurses.
_LIMIT_CHARACTERS: Final = 600
_LIMIT_TERMS: Final = 12
_TERM: Final = re.compile(r"\b(?:and|or|not|case|when|coalesce)\b|[-+*/|(]", re.I)


def has_always_true_where(statement: str) -> bool:
    """Whether the WHERE of a DELETE or UPDATE in this statement simplifies to true."""
    if len(statement) > _LIMIT_CHARACTERS or len(_TERM.findall(statement)) > 2 * _LIMIT_TERMS:
        return False
    try:
        parsed = sqlglot.parse_one(statement, dialect="postgres")
        for change in parsed.find_all(exp.Delete, exp.Update):
            where = change.args.get("where")
            if where is not None:
                simplified = simplify(where.this.copy(), dialect="postgres")
                if isinstance(simplified, exp.Boolean) and simplified.this:
                    return True
    except (SqlglotError, RecursionError, AttributeError, TypeError, ValueError, KeyError):
        return False
    return False
