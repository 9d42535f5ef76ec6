"""Which words of the script a finding is about, in characters."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from policy.facts import Facts
from policy.judgement import Finding

_LEADING: Final = re.compile(r"(?:\s+|--[^\n]*|/\*.*?\*/|;)*", re.DOTALL)
_WORD: Final = re.compile(r'(?:[\w$]+|"[^"]*")(?:\s*\.\s*(?:[\w$]+|"[^"]*"))*')


def place(findings: list[Finding], facts: Facts, text: str, data: bytes) -> list[Finding]:
    """Give every finding the words it is about: those at its position, else the name of its object, else how its statement begins."""
    ascii_only = len(text) == len(data)
    return [replace(f, span=_span(f, facts, text, data, ascii_only)) for f in findings]


def _span(finding: Finding, facts: Facts, text: str, data: bytes, ascii_only: bool) -> tuple[int, int]:
    if not 0 <= finding.statement < len(facts.statements):
        return (0, 0)
    start, end = facts.statements[finding.statement].span
    start = min(_after_comments(text, start), end)
    position = finding.span[0]
    if position:
        position = position if ascii_only else len(data[:position].decode("utf-8", "replace"))
        word = _WORD.match(text, position)
        if word is not None and start <= position < end:
            return word.span()
    for relation in finding.relations:
        name = relation.rpartition(".")[2].strip('"').replace('""', '"')
        at = _find(text, name, start, end) if name else -1
        if at >= 0:
            return at, at + len(name)
    first = _WORD.match(text, start)
    return first.span() if first is not None else (start, end)


def _find(text: str, name: str, start: int, end: int) -> int:
    """Where the name stands as a word of its own, whatever its case; -1 when it does not."""
    if not (name.isascii() and text.isascii()):
        found = re.compile(rf"(?<![\w$]){re.escape(name)}(?![\w$])", re.I).search(text, start, end)
        return found.start() if found is not None else -1
    # Compiling a pattern for each name costs as much as the rest of the judging.
    lower, name = text.lower(), name.lower()
    at = lower.find(name, start, end)
    while at >= 0:
        around = lower[at - 1 : at] + lower[at + len(name) : at + len(name) + 1]
        if not any(c.isalnum() or c in "_$" for c in around):
            return at
        at = lower.find(name, at + 1, end)
    return -1


def _after_comments(text: str, start: int) -> int:
    found = _LEADING.match(text, start)
    return found.end() if found is not None else start
