from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict

_CHECKED = frozenset({"FOREIGN", "CHECK", "UNIQUE", "PRIMARY", "EXCLUSION"})


@final
class BlockingConstraint(Rule):
    """ADD CONSTRAINT that checks every row or builds an index under the lock, SET NOT NULL, or a column with a volatile default.

    Why it is held: everybody waits while each row is read or written.
    Instead: ADD CONSTRAINT … NOT VALID, then VALIDATE CONSTRAINT; for a key CREATE UNIQUE INDEX CONCURRENTLY, then ADD CONSTRAINT …
      USING INDEX
    Known gaps: the size of the table is not known: off in both profiles, for a policy to switch on
    """

    id: ClassVar = "blocking-constraint"
    verdict: ClassVar = Verdict.ALLOW
    strict: ClassVar = Verdict.ALLOW
    severity: ClassVar = Severity.LOW
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("acts", "alters")
    triggers: ClassVar = (
        Example("ALTER TABLE account ADD CONSTRAINT fk FOREIGN KEY (owner) REFERENCES person (id)"),
        Example("BEGIN; ALTER TABLE account ADD CHECK (balance >= 0); COMMIT"),
        Example("ALTER TABLE account ALTER email SET NOT NULL"),
        Example("ALTER TABLE account ADD token uuid DEFAULT gen_random_uuid()"),
    )
    passes: ClassVar = (
        Example("ALTER TABLE account ADD CONSTRAINT fk FOREIGN KEY (owner) REFERENCES person (id) NOT VALID"),
        Example("ALTER TABLE account VALIDATE CONSTRAINT fk"),
        Example("ALTER TABLE account ADD CONSTRAINT u UNIQUE USING INDEX account_u"),
        Example("ALTER TABLE account ADD note text DEFAULT 'none'"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        made = {o for act in facts.acts if act.kind == "CREATE TABLE" for o in act.objects}
        for alter in facts.alters:
            if alter.table.is_temp or alter.table.name in made:
                continue
            if (
                (alter.constraint in _CHECKED and not alter.unchecked and alter.action == "AddConstraint")
                or alter.action == "SetNotNull"
                or (alter.action == "AddColumn" and (alter.volatile_default or alter.constraint in ("UNIQUE", "PRIMARY")))
            ):
                yield self.found(f"reads or writes every row of {alter.table} under a lock", alter.statement, (str(alter.table),))
