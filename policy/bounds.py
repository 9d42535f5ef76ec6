"""A cheap, linear look at a script before it is parsed: is it within what the grammar's library can take?

libpg_query writes its tree by recursion in C, and a tree that is too deep overruns the stack and ends the process. What is deep
comes from left recursion alone: `1+1+1+…`, `a::int::int…`, `x COLLATE c COLLATE c…`, joins, set operations. (Right recursion and
nesting run into the grammar's own limit of 10,000, which is a clean error; AND and OR are flattened into one list.) So the
look measures the depth that left recursion can reach: the links of a chain, added up over the parentheses around it, begun anew
where a comma, a semicolon, AND or OR makes a new expression. Strings, quoted names and comments are taken out first, in the
way the lexer reads them (sql-syntax-lexical.html); a scan that is fooled there would let a chain hide.

The proxy judges long scripts in a process of their own and needs no look there (proxy/isolation.py); this is for those who judge in theirs, such as
`pghold check`.

Tried and dropped: counting operators between commas of the raw text (a comma inside f(1,2)+f(1,2)+… hides the chain, a quote in
a comment hides everything, and a base64 literal looks like a chain).
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

#: The library's stack gives out between 20,000 and 67,000 links, depending on the operator.
CHAIN_LIMIT: Final = 5000
#: Scanning nested comments costs the square of their depth, here as in the server.
COMMENT_DEPTH_LIMIT: Final = 64
#: Text outside of literals: each byte of it may take 20 bytes of tree.
BARE_LIMIT_BYTES: Final = 24 << 20
#: Below this no tree can be too deep.
_SMALL_BYTES: Final = 4000

_IDENTIFIER: Final = rb"[A-Za-z0-9_$\x80-\xff]"
_ESCAPED: Final = rb"'(?:[^'\\]++|\\.|'')*+(?:'|\Z)"
#: A literal goes on behind white space with a newline in it, and escapes go on with it.
_CONTINUED: Final = rb"(?:(?:[ \t\f\v]|--[^\n\r]*+)*+[\n\r](?:\s|--[^\n\r]*+)*+" + _ESCAPED + rb")*+"
_PLAIN: Final = rb"'[^']*+(?:'|\Z)"
_QUOTED: Final = rb'"[^"]*+(?:"|\Z)'
_LINE_COMMENT: Final = rb"--[^\n\r]*+"
_FLAT_COMMENT: Final = rb"/\*(?:[^*/]++|\*(?!/)|/(?!\*))*+\*/"
#: $tag$ … $tag$. Behind a letter it would belong to a name, behind a number or $1 it would not.
_DOLLAR: Final = (
    rb"(?<!" + _IDENTIFIER + rb")(?:\$?[0-9][0-9A-Za-z_.]*+|\.[0-9][0-9A-Za-z_.]*+)?"
    rb"\$((?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*+)?)\$.*?(?:\$\1\$|\Z)"
)
_HAS_DOLLAR: Final = re.compile(rb"\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*+)?\$")

_LINK: Final = (
    rb"[-+*/<>=~!@#%^&|`?]++|::|(?<!"
    + _IDENTIFIER
    + rb")(?:collate|at|operator|join|union|intersect|except|and|or)(?!"
    + _IDENTIFIER
    + rb")"
)
#: A name behind a dot may be any word: t.and is no AND.
_EVENT: Final = re.compile(rb"[(),;\[\]]|\.\s*+[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*+|" + _LINK, re.I)
_LINK_WORDS: Final = (b"collate", b"operator", b"join", b"union", b"intersect", b"except")
_AT: Final = re.compile(rb"\bat\b", re.I)


def look(text: bytes, standard_conforming_strings: bool = True) -> str | None:
    """Why this text must not be given to the grammar; None when it may. Linear in its length."""
    if b"\0" in text:
        return "the text holds a NUL"
    if len(text) < _SMALL_BYTES:
        return None
    bare = _without_literals(text, standard_conforming_strings)
    if bare is None:
        return "comments are nested too deep to be analysed"
    if len(bare) > BARE_LIMIT_BYTES:
        return "the text is too long to be analysed"
    if _links_at_most(bare) > CHAIN_LIMIT and _depth(bare) > CHAIN_LIMIT:
        return "an expression is too long to be analysed"
    return None


def _without_literals(text: bytes, standard: bool) -> bytes | None:
    """The text with each literal, quoted name and comment as one blank literal; None: comments too deep."""
    pattern = _literals(standard, b"\\" in text, b'"' in text, b"--" in text, b"/*" in text, _HAS_DOLLAR.search(text) is not None)
    bare = pattern.sub(b" '' ", text)
    if b"/*" not in bare:
        return bare
    # A comment within a comment: only counting finds its end.
    parts: list[bytes] = []
    position = 0
    pattern = re.compile(pattern.pattern + rb"|/\*", re.DOTALL)
    while (match := pattern.search(text, position)) is not None:
        parts.append(text[position : match.start()])
        position = match.end()
        if match[0] == b"/*":
            end = _comment_end(text, position)
            if end is None:
                return None
            position = end
    return b" '' ".join([*parts, text[position:]])


@cache
def _literals(standard: bool, backslashes: bool, names: bool, lines: bool, comments: bool, dollars: bool) -> re.Pattern[bytes]:
    """What is taken out, without the alternatives that cannot occur: each costs time at every byte."""
    found: list[bytes] = []
    if backslashes:
        found.append((rb"(?<!" + _IDENTIFIER + rb")[eE]" if standard else rb"(?:(?<!" + _IDENTIFIER + rb")[eE])?+") + _ESCAPED + _CONTINUED)
    if standard or not backslashes:
        found.append(_PLAIN)
    for present, part in ((names, _QUOTED), (lines, _LINE_COMMENT), (comments, _FLAT_COMMENT), (dollars, _DOLLAR)):
        if present:
            found.append(part)
    return re.compile(b"|".join(found), re.DOTALL)


_COMMENT_EDGE: Final = re.compile(rb"/\*|\*/")


def _comment_end(text: bytes, position: int) -> int | None:
    depth = 1
    for match in _COMMENT_EDGE.finditer(text, position):
        depth += 1 if match[0] == b"/*" else -1
        if depth == 0:
            return match.end()
        if depth > COMMENT_DEPTH_LIMIT:
            return None
    return len(text)


def _links_at_most(bare: bytes) -> int:
    """A quick upper bound: most long scripts have few links in all."""
    links = sum(
        map(bare.count, (b"+", b"-", b"*", b"/", b"<", b">", b"=", b"~", b"!", b"@", b"#", b"%", b"^", b"&", b"|", b"`", b"?", b"::"))
    )
    if links <= CHAIN_LIMIT:
        lower = bare.lower()
        links += sum(map(lower.count, _LINK_WORDS))
        if b"at" in lower:
            links += len(_AT.findall(lower))
    return links


def _depth(bare: bytes) -> int:
    """How deep left recursion can make the tree of this text."""
    # Of the innermost open parenthesis: links of the expression at hand, the deepest thing inside it, joins of the FROM item at
    # hand, set operations, and the deepest expression and item that are finished.
    chain = inside = joins = sets = expression = item = 0
    stack: list[tuple[int, int, int, int, int, int]] = []
    for match in _EVENT.finditer(bare):
        token = match[0]
        first = token[:1]
        if first in b"([":
            stack.append((chain, inside, joins, sets, expression, item))
            chain = inside = joins = sets = expression = item = 0
        elif first in b")]":
            if not stack:
                continue
            depth = 1 + sets + max(item, joins + max(expression, chain + inside))
            chain, inside, joins, sets, expression, item = stack.pop()
            inside = max(inside, depth)
        elif first in b",;":
            item = max(item, joins + max(expression, chain + inside))
            chain = inside = joins = expression = 0
            if first == b";":
                item = item + sets
                sets = 0
        elif first == b".":
            continue
        else:
            match token.lower():
                case b"and" | b"or":
                    expression = max(expression, chain + inside)
                    chain = inside = 0
                case b"join":
                    joins += 1
                case b"union" | b"intersect" | b"except":
                    item = max(item, joins + max(expression, chain + inside))
                    chain = inside = joins = expression = 0
                    sets += 1
                case _:
                    chain += 1
    depth = sets + max(item, joins + max(expression, chain + inside))
    while stack:
        chain, inside, joins, sets, expression, item = stack.pop()
        depth = 1 + sets + max(item, joins + max(expression, chain + max(inside, depth)))
    return depth
