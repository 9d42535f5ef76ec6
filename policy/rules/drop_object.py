from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict

#: Kinds with a rule of their own.
_ELSEWHERE = frozenset({"TABLE", "FOREIGN TABLE", "MATERIALIZED VIEW", "SCHEMA", "DATABASE", "TABLESPACE", "OWNED", "ROLE"})


@final
class DropObject(Rule):
    """DROP of anything that has no rule of its own: views, indexes, functions, types, sequences, extensions and so on.

    Why it is held: what uses it breaks; with CASCADE so does more, and a type or extension takes columns with
      it.
    Instead: CREATE OR REPLACE where the object allows it, or ask for approval
    Known gaps: a table that a function drops is not seen
    """

    id: ClassVar = "drop-object"
    verdict: ClassVar = Verdict.HOLD
    severity: ClassVar = Severity.HIGH
    irreversible: ClassVar = True
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("drops",)
    triggers: ClassVar = (
        Example("DROP VIEW totals"),
        Example("DROP INDEX CONCURRENTLY account_name_idx"),
        Example("DROP EXTENSION hstore CASCADE"),
        Example("DROP FUNCTION add(int, int)"),
        Example("DROP FUNCTION pg_temp.one(), two()"),
        Example("DROP POLICY mine ON account"),
    )
    passes: ClassVar = (
        Example("CREATE TEMP VIEW v AS SELECT 1; DROP VIEW v", because="it is temporary"),
        Example("DROP FUNCTION IF EXISTS pg_temp.testfunc()", because="it is temporary"),
        Example("CREATE OR REPLACE VIEW totals AS SELECT 1"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for drop in facts.drops:
            if drop.kind not in _ELSEWHERE and not drop.all_temp:
                names = ", ".join(drop.names)
                cascade = " with CASCADE" if drop.cascade else ""
                yield self.found(f"DROP {drop.kind} {names}{cascade}", drop.statement, drop.names)
