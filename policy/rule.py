"""What a rule is: the code, the documentation and the tests in one class."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.verdict import Severity, Verdict
from policy.view import View


@dataclass(frozen=True, slots=True)
class Example:
    """A script for which a rule does, or does not, find something."""

    script: str
    because: str = ""


class Rule(ABC):
    """One pattern, one file, one id.

    Attributes:
        id: names the pattern; equals the file's name with dashes.
        verdict: in profile guard.
        strict: in profile strict.
        severity: of what it finds.
        irreversible: what it finds cannot be taken back by another statement.
        since: the version that brought it.
        looks_at: the fields of Facts that `check` reads; when all of them are empty it is not asked.
        triggers, passes: examples that run as tests.
        view: the policy under which the examples are meant.
    """

    id: ClassVar[str]
    verdict: ClassVar[Verdict] = Verdict.HOLD
    strict: ClassVar[Verdict] = Verdict.HOLD
    severity: ClassVar[Severity] = Severity.MEDIUM
    irreversible: ClassVar[bool] = False
    since: ClassVar[str] = "0.1.0"
    looks_at: ClassVar[tuple[str, ...]]
    triggers: ClassVar[tuple[Example, ...]]
    passes: ClassVar[tuple[Example, ...]]
    view: ClassVar[View] = View()

    @abstractmethod
    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        """Yield what was found."""

    def found(self, message: str, statement: int, relations: tuple[str, ...] = (), span: tuple[int, int] = (0, 0)) -> Finding:
        """A finding of this rule; the engine puts in the profile's verdict."""
        return Finding(self.id, self.verdict, message, self.hint(), statement, span, relations)

    @classmethod
    def section(cls, title: str) -> str:
        """The text behind "title:" in the docstring, on one line."""
        lines = inspect.cleandoc(cls.__doc__ or "").splitlines()
        taken: list[str] = []
        inside = False
        for line in lines:
            if line.startswith(f"{title}:"):
                inside = True
                taken.append(line.partition(":")[2].strip())
            elif inside and line.startswith("  "):
                taken.append(line.strip())
            else:
                inside = False
        return " ".join(taken)

    @classmethod
    def hint(cls) -> str:
        return cls.section("Instead")


class ActRule(Rule):
    """A rule that finds every act of some kinds.

    Attributes:
        kinds: of facts.Act.
    """

    kinds: ClassVar[frozenset[str]]

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for act in facts.acts:
            if act.kind in self.kinds and not act.on_temp:
                yield self.found(" ".join([act.kind, ", ".join(act.objects)]).rstrip(), act.statement, act.objects)
