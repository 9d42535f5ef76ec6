from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class Extension(Rule):
    """CREATE or ALTER EXTENSION, or CREATE LANGUAGE.

    Why it is held: it brings functions that are not known here.
    Instead: ask for approval
    Known gaps: which extensions are trusted is the server's business
    """

    id: ClassVar = "extension"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.LOW
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("acts",)
    triggers: ClassVar = (
        Example("CREATE EXTENSION hstore"),
        Example("BEGIN; ALTER EXTENSION hstore UPDATE; COMMIT"),
    )
    passes: ClassVar = (
        Example("CREATE EXTENSION IF NOT EXISTS plpgsql"),
        Example("SELECT * FROM pg_extension"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for act in facts.acts:
            if act.kind in ("CREATE EXTENSION", "ALTER EXTENSION", "CREATE LANGUAGE") and act.objects != ("plpgsql",):
                yield self.found(f"{act.kind} {', '.join(act.objects)}".rstrip(), act.statement, act.objects)
