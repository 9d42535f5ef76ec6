from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.rules._functions import READING_ACTS, READING_STATEMENTS
from policy.verdict import Verdict
from policy.view import View


@final
class ReadOnly(Rule):
    """Anything but reading, for a read-only identity.

    Why it is denied: the policy says that this identity only reads.
    Instead: connect as a role that may write
    Known gaps: functions that write are stopped by the server, since default_transaction_read_only is on
    """

    id: ClassVar = "read-only"
    verdict: ClassVar = Verdict.DENY
    strict: ClassVar = Verdict.DENY
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("acts", "calls", "settings", "statements")
    view: ClassVar = View(read_only=True)
    triggers: ClassVar = (
        Example("INSERT INTO account VALUES (1)"),
        Example("EXPLAIN ANALYZE DELETE FROM account WHERE id = 1"),
        Example("SET transaction_read_only = off"),
        Example("BEGIN READ WRITE"),
    )
    passes: ClassVar = (Example("SELECT * FROM account"),)

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        if not context.read_only:
            return
        for index, statement in enumerate(facts.statements):
            if statement.kind not in READING_STATEMENTS or any(not r.is_temp for r in statement.writes):
                yield self.found(f"{statement.kind} for a read-only identity", index)
        for act in facts.acts:
            if act.kind not in READING_ACTS:
                yield self.found(f"{act.kind} for a read-only identity", act.statement, act.objects)
        for setting in facts.settings:
            leaves = setting.name in ("transaction_read_only", "default_transaction_read_only") and (setting.value or "").lower() not in (
                "on",
                "true",
                "yes",
                "1",
            )
            if leaves or (setting.name in ("role", "session_authorization") and not setting.is_reset):
                yield self.found(f"changes {setting.name} for a read-only identity", setting.statement)
        for call in facts.calls:
            if call.name in ("setval", "nextval", "lo_unlink", "lo_put", "lo_create", "lo_creat", "lowrite", "lo_from_bytea"):
                yield self.found(f"calls {call.name}() for a read-only identity", call.statement, (), (call.position, call.position))
