"""A script as an operator should see it: its tokens by kind, the words that findings are about, and every character that hides.

The text is a stranger's, and may be made to deceive: comments that look like code, letters of another alphabet, characters that reverse
the direction of reading or take no room. Nothing is hidden here, and everything unusual is named. Only the display is concerned: what was
judged and what will run are the session's own bytes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

#: Longer scripts are cut in the page; the whole text can be downloaded.
SHOWN_CHARACTERS: Final = 20_000

_WORD: Final = re.compile(r"[^\W\d]\w*")
_NUMBER: Final = re.compile(r"\d[\w.]*")
_DOLLAR: Final = re.compile(r"\$(?:[^\W\d]\w*)?\$")
_KEYWORDS: Final = frozenset(
    [
        "add",
        "all",
        "alter",
        "and",
        "any",
        "as",
        "asc",
        "begin",
        "between",
        "by",
        "cascade",
        "case",
        "cast",
        "check",
        "column",
        "commit",
        "concurrently",
        "conflict",
        "constraint",
        "copy",
        "create",
        "cross",
        "database",
        "declare",
        "default",
        "delete",
        "desc",
        "distinct",
        "do",
        "drop",
        "else",
        "end",
        "except",
        "exists",
        "explain",
        "extension",
        "false",
        "for",
        "force",
        "foreign",
        "from",
        "full",
        "function",
        "grant",
        "group",
        "having",
        "if",
        "ilike",
        "in",
        "index",
        "inner",
        "insert",
        "intersect",
        "into",
        "is",
        "join",
        "key",
        "lateral",
        "left",
        "like",
        "limit",
        "lock",
        "materialized",
        "merge",
        "not",
        "nothing",
        "null",
        "nulls",
        "of",
        "offset",
        "on",
        "only",
        "or",
        "order",
        "outer",
        "over",
        "owned",
        "owner",
        "partition",
        "primary",
        "procedure",
        "program",
        "reassign",
        "references",
        "refresh",
        "reindex",
        "rename",
        "replace",
        "restrict",
        "returning",
        "revoke",
        "right",
        "role",
        "rollback",
        "row",
        "rows",
        "schema",
        "security",
        "select",
        "sequence",
        "set",
        "some",
        "table",
        "temp",
        "temporary",
        "then",
        "to",
        "trigger",
        "true",
        "truncate",
        "type",
        "union",
        "unique",
        "unlogged",
        "update",
        "user",
        "using",
        "vacuum",
        "values",
        "view",
        "when",
        "where",
        "window",
        "with",
        "without",
    ]
)


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text that is shown in one way.

    Attributes:
        kind: comment, string, name, keyword, number, text, or "hidden" (text is then the character's code, note its name).
        danger: a finding is about it.
    """

    text: str
    kind: str
    danger: bool = False
    note: str = ""


def pieces(script: str, spans: Iterable[tuple[int, int]] = (), limit: int = SHOWN_CHARACTERS) -> list[Piece]:
    """The first `limit` characters; spans are in characters of the script."""
    shown = script[:limit]
    marked = bytearray(len(shown))
    for start, end in spans:
        if 0 <= start < end:
            marked[start : min(end, len(shown))] = b"\1" * (min(end, len(shown)) - start)
    found: list[Piece] = []
    for kind, start, end in _tokens(shown):
        foreign = _is_mixed(shown[start:end]) if kind in ("name", "keyword") else False
        run = start
        for position in range(start, end):
            character = shown[position]
            note = _unusual(character, foreign)
            if note:
                _add(found, shown, kind, run, position, marked)
                found.append(
                    Piece(f"U+{ord(character):04X}" if _is_invisible(character) else character, "hidden", bool(marked[position]), note)
                )
                run = position + 1
        _add(found, shown, kind, run, end, marked)
    return found


def _add(found: list[Piece], text: str, kind: str, start: int, end: int, marked: bytearray) -> None:
    while start < end:
        flag = marked[start]
        stop = marked.find(1 - flag, start, end)
        stop = end if stop < 0 else stop
        found.append(Piece(text[start:stop], kind, bool(flag)))
        start = stop


def unusual_characters(text: str) -> list[str]:
    """What is unusual in a text, each once, for the warning above it: "U+202E RIGHT-TO-LEFT OVERRIDE"."""
    seen: dict[str, None] = {}
    for piece in pieces(text):
        if piece.kind == "hidden":
            seen[piece.note] = None
    return list(seen)


def plain(text: str) -> str:
    """For a line of a list, a message or a terminal: one line, characters that hide as <U+XXXX>."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"<U+{ord(c):04X}>" if _is_invisible(c) and c not in "\n\t\r" else c for c in text)


#: Of a longer text no more is looked at for one line: a list of a thousand holds must not read a thousand long scripts.
_LOOKED_AT: Final = 4000


def one_line(text: str, limit: int = 200) -> str:
    line = plain(" ".join(text[:_LOOKED_AT].split())[: limit + 1])
    return line if len(line) <= limit and len(text) <= _LOOKED_AT else line[: limit - 1] + "…"


def _tokens(text: str) -> Iterator[tuple[str, int, int]]:
    position, size = 0, len(text)
    while position < size:
        start = position
        character = text[position]
        kind = "text"
        if text.startswith("--", position):
            kind, position = "comment", _until(text, "\n", position)
        elif text.startswith("/*", position):
            kind, position = "comment", _comment_end(text, position)
        elif character == "'":
            kind, position = "string", _until(text, "'", position + 1)
        elif character == '"':
            kind, position = "name", _until(text, '"', position + 1)
        elif character == "$" and (opener := _DOLLAR.match(text, position)):
            kind, position = "string", _until(text, opener[0], opener.end())
        elif match := _WORD.match(text, position):
            kind, position = "keyword" if match[0].lower() in _KEYWORDS else "name", match.end()
        elif match := _NUMBER.match(text, position):
            kind, position = "number", match.end()
        else:
            position += 1
        yield kind, start, position


def _until(text: str, closing: str, start: int) -> int:
    found = text.find(closing, start)
    return len(text) if found < 0 else found + (0 if closing == "\n" else len(closing))


def _comment_end(text: str, start: int) -> int:
    """Comments nest (sql-syntax-lexical.html#SQL-SYNTAX-COMMENTS)."""
    depth, position = 0, start
    for match in re.compile(r"/\*|\*/").finditer(text, start):
        depth += 1 if match[0] == "/*" else -1
        position = match.end()
        if depth == 0:
            return position
    return len(text)


def _unusual(character: str, foreign: bool) -> str:
    if character in "\n\t" or " " <= character <= "~":
        return ""
    if _is_invisible(character):
        return _named(character)
    return _named(character) if foreign and character.isalpha() else ""


def _named(character: str) -> str:
    return f"U+{ord(character):04X} {unicodedata.name(character, 'control character' if ord(character) < 160 else 'unnamed')}"


def _is_invisible(character: str) -> bool:
    """Takes no room, changes the direction, or is a blank that is no space. Hangul fillers and the braille blank are letters and symbols."""
    if (
        character in "\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5"
        or "\ufe00" <= character <= "\ufe0f"
        or "\U000e0100" <= character <= "\U000e01ef"
    ):
        return True
    category = unicodedata.category(character)
    return category in ("Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp") or (category == "Zs" and character != " ")


def _is_mixed(word: str) -> bool:
    """Letters that are not Latin beside ASCII ones, or a whole word of letters that look like ASCII."""
    letters = [c for c in word if c.isalpha() and not c.isascii()]
    if not letters:
        return False
    others = [c for c in letters if not unicodedata.name(c, "").startswith("LATIN ")]
    return bool(others) and (any(c.isascii() and c.isalpha() for c in word) or all(c in _LOOK_ALIKE for c in others))


#: Letters of other alphabets that look like ASCII ones in most typefaces (Unicode TR 39, confusables, the common ones).
_LOOK_ALIKE: Final = frozenset("АВЕЅІЈКМНОРСТУХаеіјосрухѕԁԛԝһΑΒΕΖΗΙΚΜΝΟΡΤΥΧοναιкпгυԍɡ")
