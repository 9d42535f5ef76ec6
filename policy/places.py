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
        found = re.compile(rf"(?<![\w$]){re.escape(name)}(?![\w$])", re.I).search(text, start, end)
        if name and found is not None:
            return found.span()
    first = _WORD.match(text, start)
    return first.span() if first is not None else (start, end)


def _after_comments(text: str, start: int) -> int:
    found = _LEADING.match(text, start)
    return found.end() if found is not None else start
