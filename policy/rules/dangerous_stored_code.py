from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Verdict


@final
class DangerousStoredCode(Rule):
    """A function, procedure or rule whose body would be held if it ran now.

    Why it is held: whoever calls it, or changes the table, runs what this proxy would have held.
    Instead: give the statements in the body a filter, or ask for approval of the code
    Known gaps: a body that puts text together at run time is held in profile strict only
    """

    id: ClassVar = "dangerous-stored-code"
    verdict: ClassVar = Verdict.HOLD
    strict: ClassVar = Verdict.HOLD
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("bodies",)
    triggers: ClassVar = (
        Example("CREATE FUNCTION wipe() RETURNS void LANGUAGE sql AS 'DELETE FROM account'"),
        Example("CREATE FUNCTION wipe() RETURNS void LANGUAGE plpgsql AS 'BEGIN TRUNCATE account; END'"),
        Example("CREATE RULE r AS ON INSERT TO log DO ALSO DELETE FROM account"),
        Example("CREATE FUNCTION wipe() RETURNS void BEGIN ATOMIC DELETE FROM account; END"),
    )
    passes: ClassVar = (Example("CREATE FUNCTION one(i int) RETURNS void LANGUAGE sql AS 'DELETE FROM account WHERE id = i'"),)

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for body in facts.bodies:
            found = body.judgement.findings if body.judgement is not None else ()
            for finding in found:
                if finding.rule_id not in ("unproven", self.id):
                    yield self.found(f"{body.what} {finding.message}", body.statement, finding.relations)
                    break
