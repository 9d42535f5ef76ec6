"""The words of the psql console: names and numbers, strings as PostgreSQL writes them, parameters. Comments are blanks.

Strings: 'it''s', E'it\\'s', $$it's$$, $tag$…$tag$ (sql-syntax-lexical.html#SQL-SYNTAX-STRINGS).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple


class SyntaxProblemError(ValueError):
    """Where the text is no command; the message is for people."""


class Token(NamedTuple):
    """A word or a string.

    Attributes:
        is_value: it was quoted, or is a parameter; it is never a keyword.
        parameter: its number, where it is one.
    """

    text: str
    is_value: bool = False
    parameter: int = 0

    @property
    def keyword(self) -> str:
        """In capitals; empty when it is a value."""
        return "" if self.is_value else self.text.upper()


_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_TOKEN: Final = re.compile(
    r"""(?P<blank>\s+|--[^\n]*|/\*)
    |(?P<escaped>[eE]'(?:[^'\\]|''|\\.)*')
    |(?P<string>'(?:[^']|'')*')
    |"(?P<name>[^"]*)"
    |\$(?P<parameter>\d{1,4})\b
    |(?P<dollar>\$(?:[^\W\d]\w*)?\$)
    |(?P<end>;)
    |(?P<word>[^\s';"$]+)""",
    re.DOTALL | re.VERBOSE,
)


def commands(text: str) -> Iterator[list[Token]]:
    """Each command of a text, without those that are empty. Raises SyntaxProblemError."""
    found: list[Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            character = text[position]
            raise SyntaxProblemError("unterminated quoted string" if character in "'\"" else f"syntax error at {character!r}")
        position = match.end()
        kind = match.lastgroup
        if kind == "blank":
            if match[0] == "/*":
                position = _comment_end(text, position)
        elif kind == "end":
            if found:
                yield found
            found = []
        elif kind == "dollar":
            end = text.find(match[0], position)
            if end < 0:
                raise SyntaxProblemError("unterminated dollar-quoted string")
            found.append(Token(text[position:end], True))
            position = end + len(match[0])
        else:
            found.append(_token(kind or "", match))
    if found:
        yield found


def _token(kind: str, match: re.Match[str]) -> Token:
    match kind:
        case "string":
            return Token(match[0][1:-1].replace("''", "'"), True)
        case "escaped":
            body = match[0][2:-1].replace("''", "'")
            return Token(re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), body, flags=re.DOTALL), True)
        case "name":
            return Token(match["name"], True)
        case "parameter":
            return Token("", True, int(match["parameter"]))
        case _:
            return Token(match[0])


def _comment_end(text: str, position: int) -> int:
    """Comments nest."""
    depth = 1
    for match in re.compile(r"/\*|\*/").finditer(text, position):
        depth += 1 if match[0] == "/*" else -1
        if depth == 0:
            return match.end()
    raise SyntaxProblemError("unterminated comment")
