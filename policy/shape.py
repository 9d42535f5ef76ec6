"""A key under which scripts that differ only in plain constants are the same.

`SELECT … WHERE id = 1` and `… = 2` get one key, so the second is not parsed. That is sound for a class of scripts only: the key must
determine the tokens but for the values of constants, and the judgement must be proven independent of those values
(`Judgement.literal_free`).

Why the tokens are determined: the text has no comment, no dollar quote, no backslash, and no `?` of its own. What is left of quotes is
'…' and "…". The first ' of the text opens a string unless it stands inside a "…", where the key then has a ? inside quotes, and is
refused; each string is taken whole, '' included, so the next ' opens the next one. E'', B'', X'', U&'' and N'' have a letter or & before
the quote: they are not taken, a ' is left, and the key is refused. A number counts only between characters that can belong to no
other token. Bytes over 0x7F are letters to the lexer (sql-syntax-lexical.html), so they matter outside of strings only.
"""

from __future__ import annotations

import re
from typing import Final

#: '…' or a number, where only such can stand. It begins with a set of characters, which the engine of `re` looks for quickly; that what
#: is before them fits is asked behind them.
_CONSTANT: Final = re.compile(
    rb"['0-9](?<=[ =<>(,\n\[+*/-]['0-9])(?:(?<=')[^'\\]*+(?:''[^'\\]*+)*+'|(?<=[0-9])[0-9]*+(?:\.[0-9]++)?)(?=[ ,);:\n\]]|$)"
)
_DOLLAR_QUOTE: Final = re.compile(rb"\$[A-Za-z_$]")
#: The last is U&"…", whose name depends on the constant behind UESCAPE.
_UNSURE: Final = (b"'", b"--", b"/*", b"\\", b"\0", b'&"')

#: Longer scripts are parsed: the key would cost as much.
SHAPE_LIMIT_BYTES: Final = 4000


def shape(script: bytes) -> bytes | None:
    """The key, or None when the script is not of the class."""
    if len(script) > SHAPE_LIMIT_BYTES or b"?" in script:
        return None
    key, replaced = _CONSTANT.subn(b"?", script)
    if not replaced or not key.isascii():
        return None
    for text in _UNSURE:
        if text in key:
            return None
    if b"$" in key and _DOLLAR_QUOTE.search(key) is not None:
        return None
    if b'"' in key and any(b"?" in name for name in key.split(b'"')[1::2]):
        return None
    return key
