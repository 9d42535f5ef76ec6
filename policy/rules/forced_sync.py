from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class ForcedSync(Rule):
    """A tool drops or empties everything to build it anew: an ORM's forced sync, a migration tool's reset, a restore with --clean.

    Why it is held: it is one act of many statements, and the first one tells what the others will do. In production it is denied, unless
      DB_ALLOW_FORCE_SYNC=true or the policy says otherwise; in development it is held as one; in the test environment, and in databases
      whose names match `test_databases`, it passes.
    Instead: run the migrations; where it is denied, DB_ALLOW_FORCE_SYNC=true lets it be held and approved
    Known gaps: which tools are recognised, and by what, is in docs/tools/
    """

    id: ClassVar = "forced-sync"
    verdict: ClassVar = Verdict.HOLD
    strict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.CRITICAL
    irreversible: ClassVar = True
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ()
    triggers: ClassVar = ()
    passes: ClassVar = (
        Example("CREATE TABLE IF NOT EXISTS account (id int)", because="an ordinary sync"),
        Example("CREATE TEMP TABLE work (id int); DROP TABLE work", because="it is temporary"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        """It is found in a session, not in a script: see Engine.as_act."""
        return iter(())
