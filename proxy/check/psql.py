"""A psql script cut into statements, as psql cuts it (app-psql.html): meta-commands and COPY data are not SQL.

What is cut wrongly is not lost: a piece with two statements in it is parsed as two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_TOKEN: Final = re.compile(
    r"""
    (?P<comment>--[^\n]*)
  | (?P<block>/\*)
  | (?P<escape>(?<![\w$])[eE]'(?:[^'\\]|\\.|'')*+(?:'|\Z))
  | (?P<string>'(?:[^']|'')*+(?:'|\Z))
  | (?P<name>"[^"]*+(?:"|\Z))
  | (?P<dollar>(?<![\w$])\$(?P<tag>(?:[A-Za-z_\x80-\U0010ffff][\w]*)?)\$)
  | (?P<variable>(?<![:\w]):(?:'\w+'|"\w+"|\{\?\w+\}|[A-Za-z_]\w*))
  | (?P<word>[A-Za-z_][\w$]*)
  | (?P<open>[(\[])
  | (?P<close>[)\]])
  | (?P<end>;)
  | (?P<meta>\\[^\n]*)
    """,
    re.VERBOSE | re.DOTALL,
)
_EDGE: Final = re.compile(r"/\*|\*/")
#: Meta-commands that send the statement before them.
_SENDS: Final = re.compile(r"\\(g|gx|gset|gexec|gdesc|crosstabview|watch|bind|bind_named|parse|sendpipeline)(?![a-z_])")
_COPY_IN: Final = re.compile(r"\s*(?:(?:--[^\n]*\n|/\*.*?\*/)\s*)*COPY\b.*\bFROM\s+STDIN\b", re.I | re.S)


@dataclass(frozen=True, slots=True)
class Piece:
    """One statement.

    Attributes:
        text: with psql's variables replaced by as many characters, so that places stay as they are.
        start: where it begins in the script, in characters.
        executes_result: \\gexec: what it returns is run as SQL.
    """

    text: str
    start: int
    executes_result: bool = False


def split(script: str) -> Iterator[Piece]:
    """The statements of a script, in order; empty ones left out."""
    scanner = _Scanner(script)
    while (piece := scanner.next()) is not None:
        if piece.text.strip():
            yield piece


class _Scanner:
    def __init__(self, script: str) -> None:
        self._script = script
        self._position = 0

    def next(self) -> Piece | None:
        script = self._script
        start = self._position
        if start >= len(script):
            return None
        parts: list[str] = []
        copied = start
        depth = begins = 0
        words: list[str] = []
        while True:
            match = _TOKEN.search(script, self._position)
            if match is None:
                self._position = len(script)
                return Piece("".join([*parts, script[copied:]]), start)
            self._position = match.end()
            kind = match.lastgroup if match["tag"] is None else "dollar"
            if kind == "block":
                self._skip_block()
            elif kind == "dollar":
                close = script.find(f"${match['tag']}$", match.end())
                self._position = len(script) if close < 0 else close + len(match["tag"]) + 2
            elif kind == "variable":
                parts += [script[copied : match.start()], _placeholder(match[0])]
                copied = match.end()
            elif kind == "word":
                word = match[0].lower()
                if len(words) < 4:
                    words.append(word)
                begins = _atomic(words, word, begins)
            elif kind == "open":
                depth += 1
            elif kind == "close":
                depth = max(0, depth - 1)
            elif kind == "end" and depth == 0 and begins == 0:
                parts.append(script[copied : match.start()])
                piece = Piece("".join(parts), start)
                if _COPY_IN.match(piece.text):
                    self._skip_data()
                return piece
            elif kind == "meta":
                parts.append(script[copied : match.start()])
                copied = match.end()
                sends = _SENDS.match(match[0])
                if match[0].startswith("\\;"):
                    parts.append(" ;")
                    self._position = copied = match.start() + 2
                elif sends is not None or not "".join(parts).strip():
                    return Piece("".join(parts), start, sends is not None and sends[1] == "gexec")
                else:
                    parts.append(" " * len(match[0]))

    def _skip_block(self) -> None:
        depth = 1
        for edge in _EDGE.finditer(self._script, self._position):
            depth += 1 if edge[0] == "/*" else -1
            if depth == 0:
                self._position = edge.end()
                return
        self._position = len(self._script)

    def _skip_data(self) -> None:
        """The lines of COPY data, up to \\. or the end."""
        end = re.compile(r"^\\\.\r?$", re.M).search(self._script, self._position)
        self._position = len(self._script) if end is None else end.end()


def _atomic(words: list[str], word: str, begins: int) -> int:
    """How many BEGIN … END are open: semicolons inside the body of a routine do not end its statement."""
    if words[:1] != ["create"] or not {"function", "procedure"} & set(words):
        return 0
    if word in ("begin", "case"):
        return begins + 1 if word == "begin" or begins else begins
    return max(0, begins - 1) if word == "end" else begins


def _placeholder(variable: str) -> str:
    """As long as the variable, and of its kind: :'x' is a string, :"x" a name, :x a name or number, :{?x} a boolean."""
    if variable.startswith(":{"):
        return "true".ljust(len(variable))
    return " " + variable[1:]
