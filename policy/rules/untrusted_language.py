from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class UntrustedLanguage(Rule):
    """CREATE FUNCTION in a language that is not trusted.

    Why it is held: its code runs with the rights of the server's operating-system user.
    Instead: write it in SQL or PL/pgSQL
    Known gaps: none known
    """

    id: ClassVar = "untrusted-language"
    verdict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.HIGH
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("languages",)
    triggers: ClassVar = (
        Example("CREATE FUNCTION f() RETURNS int AS 'lib', 'f' LANGUAGE c"),
        Example("CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE plpython3u AS 'import os'"),
    )
    passes: ClassVar = (
        Example("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
        Example("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for language, statement in facts.languages:
            if language in ("c", "internal") or language.endswith("u"):
                yield self.found(f"makes code in language {language}", statement)
