"""A script without its data: every literal is `?`, every comment empty. Names, keywords and operators stay.

Fails closed: a text that the scanner rejects, or that another setting would lex otherwise, is masked as a whole; nobody learns from it more than
how long it was.
"""

from __future__ import annotations

import re
from typing import Final

from policy import parse
from policy.bounds import COMMENT_DEPTH_LIMIT

#: Longer texts are masked as a whole; scanning costs a token object each.
_LIMIT_BYTES: Final = 1 << 20
_LITERAL: Final = "?"
_COMMENT: Final = "/* … */"
#: What may stand between tokens.
_SPACE: Final = re.compile(rb"[ \t\r\n\f\v]*\Z")
#: What a token that stays may be: a quoted name, or text without a quote, a digit at its start, or a dollar quote.
_PLAIN: Final = re.compile(rb"\"(?:[^\"]|\"\")*\"\Z|[uU]&\"(?:[^\"]|\"\")*\"\Z|\$\d{1,10}\Z|[^'\"0-9$][^'\"]*\Z", re.DOTALL)

_WORD: Final = re.compile(rb"[A-Za-z_0-9'\"$\x80-\xff]")


def mask_literals(text: str) -> str:
    """The text with its literals masked."""
    data = text.encode("utf-8", "surrogatepass")
    if not data:
        return text
    if len(data) > _LIMIT_BYTES or b"\0" in data or data.count(b"/*") > COMMENT_DEPTH_LIMIT:
        return _whole(text)
    tokens = parse.scan(data)
    if tokens is None:
        return _whole(text)
    out: list[bytes] = []
    position = 0
    for start, end, kind in tokens:
        between, token = data[position:start], data[start:end]
        if start < position or not _SPACE.match(between):
            return _whole(text)
        if start == position and out and out[-1] == _LITERAL.encode() and _WORD.match(token):
            # A literal that runs into a word is rarely meant so: more likely it was to end later, and the word is a part of it.
            return _whole(text)
        if between:
            out.append(between)
        position = end
        if kind in parse.COMMENT_TOKENS:
            out.append(_COMMENT.encode())
        elif kind in parse.LITERAL_TOKENS:
            if b"\\" in token and token[:1] == b"'":
                # With standard_conforming_strings off this literal may end elsewhere, and what follows may be its rest.
                return _whole(text)
            out.append(_LITERAL.encode())
        elif _PLAIN.match(token):
            out.append(token)
        else:
            return _whole(text)
    rest = data[position:]
    if not _SPACE.match(rest):
        return _whole(text)
    return b"".join([*out, rest]).decode("utf-8", "replace")


def _whole(text: str) -> str:
    return f"(masked: {len(text):,} characters)"
