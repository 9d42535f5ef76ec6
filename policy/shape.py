"""A key under which scripts that differ only in plain constants are the same.

`SELECT … WHERE id = 1` and `… = 2` get one key, so the second is not parsed. That is sound for a class of scripts only: the key
must determine the tokens but for the values of constants, and the judgement must be proven independent of those values
(`Judgement.literal_free`). The key is therefore made only of text in which a quote or digit can mean nothing else: no
backslash, dollar quote or comment is in it, and a number counts only where an
operator, a comma, a parenthesis or a space is before it.
"""

from __future__ import annotations

import re
from typing import Final

#: A constant: '…' without quotes or backslashes inside, or a number, after a character that cannot belong to either.
#: E'', U&'', B'', X'' and N'' have a letter before the quote, so they do not match; neither does $1.
_CONSTANT: Final = re.compile(rb"(?<=[ =<>(,])(?:'[^'\\\x80-\xff]*+'|[0-9]+(?:\.[0-9]+)?)(?=[ ,);]|$)")
#: Text in which that could go wrong: comments, dollar quotes, escapes, an odd quote left over, adjacent literals.
_UNSURE: Final = re.compile(rb"--|/\*|\\|\$[A-Za-z_$\x80-\xff]|\$\$|['\x80-\xff\x00\n\r]|\bLIMIT\b|\bFETCH\b", re.I)

#: Longer scripts are parsed: the key would cost as much.
SHAPE_LIMIT_BYTES: Final = 2000


def shape(script: bytes) -> bytes | None:
    """The key, or None when the script is not of the class."""
    if len(script) > SHAPE_LIMIT_BYTES:
        return None
    key, replaced = _CONSTANT.subn(b"?", script)
    if not replaced or _UNSURE.search(key) is not None:
        return None
    return key
