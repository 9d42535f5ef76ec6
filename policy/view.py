"""A policy as it applies to one session: what the conditions on who, where and when have left of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from policy.verdict import Verdict


@dataclass(frozen=True, slots=True)
class RuleAction:
    """What to do with findings of some rules.

    Attributes:
        rules: patterns of rule ids, with * and ?.
        action: the verdict of their findings.
        relations: patterns of relations as written (schema.name or name); empty is any. One that matches is enough for a stricter
            action; for a milder one all relations of the finding must match.
        rows_over: applies when more rows than this are estimated. An estimate that is not known counts as more for a stricter action,
            and never for a milder one.
        reason: why, which an `allow` must say.
    """

    rules: tuple[str, ...]
    action: Verdict
    relations: tuple[str, ...] = ()
    rows_over: int | None = None
    reason: str = ""

    def concerns(self, rule_id: str) -> bool:
        return any(fnmatchcase(rule_id, p) for p in self.rules)

    def applies(self, rule_id: str, relations: tuple[str, ...], default: Verdict, rows: int | None = None) -> bool:
        if not self.concerns(rule_id):
            return False
        stricter = self.action > default
        if self.rows_over is not None and (not stricter if rows is None else rows <= self.rows_over):
            return False
        if not self.relations:
            return True
        hits = [matches(r, self.relations, certainly=not stricter) for r in relations]
        return any(hits) if stricter else bool(hits) and all(hits)


def matches(relation: str, patterns: Iterable[str], *, certainly: bool = False) -> bool:
    """Whether a relation as written may be (or certainly is) meant by one of these patterns.

    A pattern without a schema is for every schema; a relation without one may be in any.
    """
    schema, _, name = relation.replace('"', "").rpartition(".")
    for pattern in patterns:
        wanted_schema, _, wanted = pattern.rpartition(".")
        unknown = not schema and not certainly
        if fnmatchcase(name, wanted) and (not wanted_schema or unknown or fnmatchcase(schema, wanted_schema)):
            return True
    return False


@dataclass(frozen=True, slots=True)
class RowLimit:
    """How many rows a transaction may change before its commit is held.

    Attributes:
        rows: the limit.
        relations: patterns of relations as written; empty is any.
    """

    rows: int
    relations: tuple[str, ...] = ()

    def concerns(self, relations: Iterable[str]) -> bool:
        return not self.relations or any(matches(r, self.relations) for r in relations)

    def __str__(self) -> str:
        return f"{self.rows:,}" + (f" in {', '.join(self.relations)}" if self.relations else "")


@dataclass(frozen=True, slots=True)
class View:
    """Attributes:
    actions: in the order of the file.
    protected: patterns of relations of which any change is held.
    read_only: the identity may only read.
    announces: somebody wants to be told of DDL that passes.
    row_limits: each counts by itself.
    allows_forced_sync: in production it is held, not denied.
    test_databases: patterns of databases in which forced syncs are left alone.
    """

    actions: tuple[RuleAction, ...] = ()
    protected: tuple[str, ...] = ()
    read_only: bool = False
    announces: bool = False
    row_limits: tuple[RowLimit, ...] = ()
    allows_forced_sync: bool = False
    test_databases: tuple[str, ...] = ()

    def decide(self, rule_id: str, relations: tuple[str, ...], default: Verdict) -> RuleAction | None:
        """The strictest action that applies to a finding; None leaves the profile's verdict."""
        found = [a for a in self.actions if a.applies(rule_id, relations, default)]
        return max(found, key=lambda a: a.action) if found else None

    def concerns(self, rule_id: str) -> bool:
        return any(a.concerns(rule_id) for a in self.actions)
