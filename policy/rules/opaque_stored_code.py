from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class OpaqueStoredCode(Rule):
    """A function whose body cannot be read: another language, or SQL put together at run time.

    Why it is held: nobody can tell what it does.
    Instead: write it in SQL or PL/pgSQL with static statements
    Known gaps: none known
    """

    id: ClassVar = "opaque-stored-code"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.LOW
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("bodies",)
    triggers: ClassVar = (
        Example("CREATE FUNCTION f(t text) RETURNS void LANGUAGE plpgsql AS 'BEGIN EXECUTE t; END'"),
        Example("CREATE FUNCTION f() RETURNS int LANGUAGE plperl AS '1'"),
    )
    passes: ClassVar = (Example("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'"),)

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for body in facts.bodies:
            if body.opaque:
                yield self.found(f"{body.what} {body.opaque}", body.statement)
