"""Skip runs of DataRow (or CopyData) messages at the speed of the regular expression engine.

A large result is millions of small messages of a few different lengths. To read each header in Python costs about as much
as all else together, yet the boundaries must be known exactly: nothing in the rows themselves says where a message ends. A
pattern can say it: `D, length 25, 21 bytes | D, length 26, 22 bytes | …` repeated, for the lengths seen so far, is an exact
parse of the run. It is rebuilt when another length comes, up to a limit; what it does not match is walked one by one.
"""

from __future__ import annotations

import re
from typing import Final

#: Alternatives are tried in order, so many of them cost as much as walking.
_LENGTHS_LIMIT: Final = 24
#: Messages longer than this are few per chunk: walking them costs little.
_LONGEST: Final = 512


class RowSkipper:
    """Skips messages of one type. Give it positions at message boundaries only."""

    __slots__ = ("_kind", "_lengths", "_pattern")

    def __init__(self) -> None:
        self._kind = 0
        self._lengths: list[int] = []
        self._pattern: re.Pattern[bytes] | None = None

    def skip(self, data: bytes, position: int, kind: int) -> int:
        """Return the end of the run of whole messages of this type that begins at `position`."""
        size = len(data)
        if kind != self._kind:
            self._kind = kind
            self._lengths = []
            self._pattern = None
        while size - position >= 5 and data[position] == kind:
            if self._pattern is not None:
                match = self._pattern.match(data, position)
                assert match is not None
                if match.end() > position:
                    position = match.end()
                    continue
            length = int.from_bytes(data[position + 1 : position + 5], "big")
            end = position + 1 + length
            if length < 4 or end > size:
                return position
            if length <= _LONGEST and len(self._lengths) < _LENGTHS_LIMIT:
                self._learn(length)
            position = end
        return position

    def _learn(self, length: int) -> None:
        # Newest first: in a result that is ordered, the lengths of the rows to come are those seen last.
        self._lengths.insert(0, length)
        kind = re.escape(bytes([self._kind]))
        alternatives = b"|".join(re.escape(n.to_bytes(2, "big")) + b".{%d}" % (n - 4) for n in self._lengths)
        self._pattern = re.compile(b"(?:" + kind + b"\\x00\\x00(?:" + alternatives + b"))*+", re.DOTALL)
