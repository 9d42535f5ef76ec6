"""The statement to write instead, where one exists. Only ever shown; what is sent stays as it was."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from policy.judgement import Finding

_SPACE: Final = r"(?:\s|--[^\n]*\n|/\*.*?\*/)+"


def suggest(finding: Finding, statement: str, script_creates: frozenset[str]) -> str:
    """A rewritten statement, or ""."""
    statement = statement.strip().strip(";").strip()
    rewrite = _REWRITES.get(finding.rule_id)
    if rewrite is None or len(statement) > 2000:
        return ""
    if "'" not in statement and '"' not in statement and "--" not in statement:
        statement = " ".join(statement.split())
    found = rewrite(statement, finding.relations, script_creates)
    return "" if found == statement else found


def _with(statement: str, end: str) -> str:
    """On a line of its own behind a comment, which would swallow it: the statement would then be as dangerous as before."""
    return f"{statement}\n{end}" if "--" in statement.rpartition("\n")[2] else f"{statement} {end}"


def _drop_table(statement: str, relations: tuple[str, ...], creates: frozenset[str]) -> str:
    if len(relations) != 1:
        return ""
    name = relations[0]
    if name.rpartition(".")[2].strip('"') in creates:
        return f"CREATE TABLE IF NOT EXISTS {name} (…), without the DROP"
    last = name.rpartition(".")[2].strip('"')
    return f'ALTER TABLE {name} RENAME TO "{last}_dropped"' if not last.isidentifier() else f"ALTER TABLE {name} RENAME TO {last}_dropped"


def _bounded(statement: str, relations: tuple[str, ...], creates: frozenset[str]) -> str:
    match = re.fullmatch(
        rf"(DELETE{_SPACE}FROM{_SPACE}\S+|UPDATE{_SPACE}\S+{_SPACE}SET{_SPACE}.*?)(?:{_SPACE}WHERE\b.*)?", statement, re.I | re.S
    )
    return _with(match[1], "WHERE id = …") if match and " returning " not in match[1].lower() else ""


def _truncate(statement: str, relations: tuple[str, ...], creates: frozenset[str]) -> str:
    return f"DELETE FROM {relations[0]} WHERE …" if len(relations) == 1 else ""


def _concurrently(after: str) -> Callable[[str, tuple[str, ...], frozenset[str]], str]:
    pattern = re.compile(rf"^(\s*{after})(?={_SPACE})", re.I | re.S)

    def rewrite(statement: str, relations: tuple[str, ...], creates: frozenset[str]) -> str:
        return pattern.sub(r"\1 CONCURRENTLY", statement, count=1)

    return rewrite


def _drop_index(statement: str, relations: tuple[str, ...], creates: frozenset[str]) -> str:
    if re.match(rf"DROP{_SPACE}INDEX{_SPACE}CONCURRENTLY", statement, re.I) or not re.match(r"DROP\s+INDEX", statement, re.I):
        return ""
    return _concurrently("DROP\\s+INDEX")(statement, relations, creates)


def _detach(statement: str, relations: tuple[str, ...], creates: frozenset[str]) -> str:
    return _with(statement, "CONCURRENTLY") if re.search(r"DETACH\s+PARTITION\s+\S+$", statement, re.I) else ""


def _constraint(statement: str, relations: tuple[str, ...], creates: frozenset[str]) -> str:
    table = relations[0] if relations else "…"
    null = re.search(r"ALTER\s+(?:COLUMN\s+)?(\S+)\s+SET\s+NOT\s+NULL$", statement, re.I)
    if null:
        check = f"ADD CONSTRAINT {null[1]}_not_null CHECK ({null[1]} IS NOT NULL) NOT VALID"
        return f"ALTER TABLE {table} {check}; ALTER TABLE {table} VALIDATE CONSTRAINT {null[1]}_not_null; {statement}"
    named = re.search(r"ADD\s+CONSTRAINT\s+(\S+)\s+(FOREIGN|CHECK|UNIQUE|PRIMARY)\b", statement, re.I)
    if named is None:
        return ""
    if named[2].upper() in ("FOREIGN", "CHECK"):
        return f"{_with(statement, 'NOT VALID')}; ALTER TABLE {table} VALIDATE CONSTRAINT {named[1]}"
    kind = "PRIMARY KEY" if named[2].upper() == "PRIMARY" else "UNIQUE"
    index = f"CREATE UNIQUE INDEX CONCURRENTLY {named[1]} ON {table} (…)"
    return f"{index}; ALTER TABLE {table} ADD CONSTRAINT {named[1]} {kind} USING INDEX {named[1]}"


_REWRITES: Final[dict[str, Callable[[str, tuple[str, ...], frozenset[str]], str]]] = {
    "drop-table": _drop_table,
    "delete-without-where": _bounded,
    "update-without-where": _bounded,
    "always-true-where": _bounded,
    "unlinked-where": _bounded,
    "truncate": _truncate,
    "drop-object": _drop_index,
    "detach-partition": _detach,
    "blocking-index": _concurrently(r"CREATE\s+(?:UNIQUE\s+)?INDEX"),
    "blocking-maintenance": _concurrently(r"REINDEX\s+(?:TABLE|INDEX|SCHEMA|DATABASE)"),
    "blocking-constraint": _constraint,
}
