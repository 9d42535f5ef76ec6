"""PostgreSQL's own grammar, through libpg_query as postgast ships it. The only module that knows it.

libpg_query gives its tree as JSON, which is cheaper than protobuf and holds deeper trees. postgast exports the library but no
Python function for this call, so the signatures are declared here; postgast is pinned, and `self_test` runs at import.

Some inputs crash or stall the library (a chain of tens of thousands of operators overruns its C stack), so `parse` must only be
given text that `look` has passed.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
from pathlib import Path
from typing import Final, cast

import orjson

#: A node of the tree: a dict with one key, its tag, or its fields.
Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None
Node = dict[str, Json]

#: PG_QUERY_DISABLE_STANDARD_CONFORMING_STRINGS and PG_QUERY_DISABLE_BACKSLASH_QUOTE live above the parse mode bits.
_NONSTANDARD_STRINGS: Final = 1 << 5


class GrammarError(Exception):
    """The grammar rejects the text. `position` is a byte offset into it, from 0."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class _Error(ctypes.Structure):
    _fields_ = (
        ("message", ctypes.c_char_p),
        ("funcname", ctypes.c_char_p),
        ("filename", ctypes.c_char_p),
        ("lineno", ctypes.c_int),
        ("cursorpos", ctypes.c_int),
        ("context", ctypes.c_char_p),
    )


class _ParseResult(ctypes.Structure):
    _fields_ = (
        ("parse_tree", ctypes.c_char_p),
        ("stderr_buffer", ctypes.c_char_p),
        ("error", ctypes.POINTER(_Error)),
    )


class _PlpgsqlResult(ctypes.Structure):
    _fields_ = (("plpgsql_funcs", ctypes.c_char_p), ("error", ctypes.POINTER(_Error)))


def _load() -> ctypes.CDLL:
    # Found without being imported: its Python modules would load protobuf, which nothing here needs.
    spec = importlib.util.find_spec("postgast")
    if spec is None or spec.origin is None:
        raise ImportError("postgast is not installed")
    folder = Path(spec.origin).parent
    for name in ("libpg_query.so", "libpg_query.dylib", "pg_query.dll"):
        if (folder / name).is_file():
            return ctypes.CDLL(str(folder / name))
    raise ImportError("postgast came without its libpg_query library")


_library: Final = _load()
_parse = _library.pg_query_parse_opts
_parse.argtypes = [ctypes.c_char_p, ctypes.c_int]
_parse.restype = _ParseResult
_free = _library.pg_query_free_parse_result
_free.argtypes = [_ParseResult]
_free.restype = None
_parse_plpgsql = _library.pg_query_parse_plpgsql
_parse_plpgsql.argtypes = [ctypes.c_char_p]
_parse_plpgsql.restype = _PlpgsqlResult
_free_plpgsql = _library.pg_query_free_plpgsql_parse_result
_free_plpgsql.argtypes = [_PlpgsqlResult]
_free_plpgsql.restype = None


def parse(text: bytes, standard_conforming_strings: bool = True, mode: int = 0) -> bytes:
    """The tree of a script in UTF-8 without NUL, as JSON bytes. Raises GrammarError.

    `mode` is the parseMode of a PL/pgSQL expression: 0 statements, 2 an expression, 3 to 5 assignments.
    """
    result = _parse(text, mode | (0 if standard_conforming_strings else _NONSTANDARD_STRINGS))
    try:
        if result.error:
            error = result.error.contents
            message = (error.message or b"syntax error").decode("utf-8", "replace")
            raise GrammarError(message, max(0, error.cursorpos - 1))
        return cast(bytes, result.parse_tree)
    finally:
        _free(result)


def tree(parsed: bytes) -> list[Node]:
    """The RawStmt nodes of what `parse` returned: {"stmt": {tag: fields}, "stmt_location": …, "stmt_len": …}."""
    return cast(list[Node], orjson.loads(parsed).get("stmts", []))


def parse_plpgsql(statement: bytes) -> list[Node]:
    """The PL/pgSQL function of a DO or CREATE FUNCTION statement. Raises GrammarError."""
    result = _parse_plpgsql(statement)
    try:
        if result.error:
            message = (result.error.contents.message or b"error").decode("utf-8", "replace")
            raise GrammarError(message, 0)
        return cast(list[Node], orjson.loads(result.plpgsql_funcs))
    finally:
        _free_plpgsql(result)


# --- a look before parsing ------------------------------------------------------------------------------------------

#: libpg_query recurses once for each operator of a left-deep chain; its stack gave out at 22,000 terms.
_OPERATORS_LIMIT: Final = 5000
#: The scanner of nested comments is quadratic in their depth, here as in the server.
_COMMENT_DEPTH_LIMIT: Final = 1000
_NESTING_LIMIT: Final = 3000
#: Below this nothing can be dangerous to the library.
_SMALL_BYTES: Final = 4000

_QUOTED: Final = re.compile(rb"'[^']*+'|\"[^\"]*+\"", re.DOTALL)
_OPERATOR: Final = re.compile(rb"[-+*/<>=~!@#%^&|`?]+|\b(?:and|or|not|union|intersect|except|is|in|like|between|join)\b", re.I)
_OPEN: Final = re.compile(rb"[(\[]|\bcase\b", re.I)


def look(text: bytes) -> str | None:
    """Why this text must not be given to `parse`; None when it may. Linear in its length."""
    if b"\0" in text:
        return "the text holds a NUL"
    if len(text) < _SMALL_BYTES:
        return None
    if text.count(b"/*") > _COMMENT_DEPTH_LIMIT:
        return "comments are nested too deep to be analysed"
    # Quoted parts hold no operators; an odd quote leaves too much in, never too little of what nests outside.
    bare = _QUOTED.sub(b"''", text) if text.count(b"\\") == 0 and b"$" not in text else text
    if sum(1 for _ in _OPERATOR.finditer(bare)) > _OPERATORS_LIMIT and _longest_chain(bare) > _OPERATORS_LIMIT:
        return "an expression is too long to be analysed"
    if bare.count(b"(") + bare.count(b"[") > _NESTING_LIMIT or len(_OPEN.findall(bare)) > _NESTING_LIMIT:
        depth = deepest = 0
        for match in re.finditer(rb"[()\[\]]|\b(?:case|end)\b", bare, re.I):
            depth += 1 if match[0].lower() in (b"(", b"[", b"case") else -1
            deepest = max(deepest, depth)
        if deepest > _NESTING_LIMIT:
            return "an expression is nested too deep to be analysed"
    return None


def _longest_chain(bare: bytes) -> int:
    """Most operators between two commas or semicolons: the items of a long VALUES list are no chain."""
    longest = 0
    for part in re.split(rb"[,;]", bare):
        if len(part) > longest:
            longest = max(longest, sum(1 for _ in _OPERATOR.finditer(part)))
    return longest


def self_test() -> None:
    """Check that the library speaks as the signatures say. Raises ImportError."""
    try:
        statements = tree(parse(b"SELECT 1; DROP TABLE t"))
        odd = parse(b"SELECT 'a\\''", standard_conforming_strings=False)
        body = parse_plpgsql(b"DO $$ BEGIN PERFORM 1; END $$")
    except GrammarError as error:
        raise ImportError(f"libpg_query does not answer as expected: {error}") from error
    if len(statements) != 2 or "DropStmt" not in cast(Node, statements[1]["stmt"]) or b"a'" not in odd or not body:
        raise ImportError("libpg_query does not answer as expected")


self_test()
