"""PostgreSQL's own grammar, through libpg_query as postgast ships it. The only module that knows it.

libpg_query gives its tree as JSON, which is cheaper than protobuf and holds deeper trees. postgast exports the library but no
Python function for this call, so the signatures are declared here; postgast is pinned, and `self_test` runs at import.

Some inputs crash or stall the library (a chain of tens of thousands of operators overruns its C stack), so `parse` must only be
given text that bounds.look() has passed.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

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


class TooDeepError(Exception):
    """The tree nests deeper than its JSON can be read: about 500 parentheses."""


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
        ("stderr_buffer", ctypes.c_void_p),
        ("error", ctypes.c_void_p),  # a pointer to _Error; a typed one would cost an object for each call
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


class _ScanResult(ctypes.Structure):
    class _Protobuf(ctypes.Structure):
        _fields_ = (("len", ctypes.c_size_t), ("data", ctypes.c_void_p))

    _fields_ = (("pbuf", _Protobuf), ("stderr_buffer", ctypes.c_void_p), ("error", ctypes.c_void_p))


_scan = _library.pg_query_scan
_scan.argtypes = [ctypes.c_char_p]
_scan.restype = _ScanResult
_free_scan = _library.pg_query_free_scan_result
_free_scan.argtypes = [_ScanResult]
_free_scan.restype = None

#: In ScanToken.token (pg_query.proto).
_SQL_COMMENT: Final = 275
_C_COMMENT: Final = 276
_STRING: Final = 261
#: FCONST, SCONST, USCONST, BCONST, XCONST, ICONST.
LITERAL_TOKENS: Final = frozenset({260, 261, 262, 263, 264, 266})
COMMENT_TOKENS: Final = frozenset({_SQL_COMMENT, _C_COMMENT})


def scan(text: bytes) -> list[tuple[int, int, int]] | None:
    """Start, end and kind of each token, as the server's scanner finds them; None when it rejects the text. Without NUL."""
    result = _scan(text)
    try:
        return None if result.error else list(_tokens(ctypes.string_at(result.pbuf.data, result.pbuf.len)))
    finally:
        _free_scan(result)


def without_comments(text: bytes) -> bytes | None:
    """The text with each comment as white space of the same length and lines; None when it has none or cannot be scanned.

    libpg_query's parser stumbles over a comment between two tokens that it reads as one (`NOT /**/ IN`, `x /**/ UESCAPE '!'`), where the
    server does not. To both a comment is white space (sql-syntax-lexical.html#SQL-SYNTAX-COMMENTS), and the scanner is the server's own.
    """
    if b"--" not in text and b"/*" not in text:
        return None
    tokens = scan(text)
    if tokens is None:
        return None
    blank = bytearray(text)
    before, interrupted = 0, False
    for start, end, token in tokens:
        if token in (_SQL_COMMENT, _C_COMMENT):
            interrupted = interrupted or token == _C_COMMENT
            blank[start:end] = re.sub(rb"[^\r\n]", b" ", text[start:end])
        else:
            if token == before == _STRING and interrupted:
                return None  # between the parts of a literal the server takes no such comment
            before, interrupted = token, False
    return bytes(blank) if blank != text else None


def _tokens(message: bytes) -> Iterator[tuple[int, int, int]]:
    """Start, end and kind of each ScanToken (protobuf.dev/programming-guides/encoding)."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        value, position = _varint(message, position)
        if tag & 7 != 2:
            continue  # the version
        fields = {1: 0, 2: 0, 4: 0}
        end = position + value
        while position < end:
            inner, position = _varint(message, position)
            number, position = _varint(message, position)
            fields[inner >> 3] = number
        yield fields[1], fields[2], fields[4]


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def parse(text: bytes, standard_conforming_strings: bool = True, mode: int = 0) -> bytes:
    """The tree of a script in UTF-8 without NUL, as JSON bytes. Raises GrammarError.

    `mode` is the parseMode of a PL/pgSQL expression: 0 statements, 2 an expression, 3 to 5 assignments.
    """
    result = _parse(text, mode | (0 if standard_conforming_strings else _NONSTANDARD_STRINGS))
    try:
        if result.error:
            error = _Error.from_address(result.error)
            message = (error.message or b"syntax error").decode("utf-8", "replace")
            raise GrammarError(message, max(0, error.cursorpos - 1))
        return cast(bytes, result.parse_tree)
    finally:
        _free(result)


def tree(parsed: bytes) -> list[Node]:
    """The RawStmt nodes of what `parse` returned: {"stmt": {tag: fields}, "stmt_location": …, "stmt_len": …}.

    Raises TooDeepError.
    """
    return cast(list[Node], _read(parsed).get("stmts", []))


def _read(text: bytes) -> Any:  # any: the shape is the caller's to know
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise TooDeepError from error


def parse_plpgsql(statement: bytes) -> list[Node]:
    """The PL/pgSQL function of a DO or CREATE FUNCTION statement. Raises GrammarError, TooDeepError."""
    result = _parse_plpgsql(statement)
    try:
        if result.error:
            message = (result.error.contents.message or b"error").decode("utf-8", "replace")
            raise GrammarError(message, 0)
        return cast(list[Node], _read(result.plpgsql_funcs))
    finally:
        _free_plpgsql(result)


def self_test() -> None:
    """Check that the library speaks as the signatures say. Raises ImportError."""
    try:
        statements = tree(parse(b"SELECT 1; DROP TABLE t"))
        odd = parse(b"SELECT 'a\\''", standard_conforming_strings=False)
        body = parse_plpgsql(b"DO $$ BEGIN PERFORM 1; END $$")
        bare = without_comments(b"SELECT '--' /* ; */, 1 -- x")
    except GrammarError as error:
        raise ImportError(f"libpg_query does not answer as expected: {error}") from error
    if (
        len(statements) != 2
        or "DropStmt" not in cast(Node, statements[1]["stmt"])
        or b"a'" not in odd
        or not body
        or bare != b"SELECT '--'        , 1     "
    ):
        raise ImportError("libpg_query does not answer as expected")


self_test()
