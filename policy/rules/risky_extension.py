from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict

_RISKY = frozenset(
    {
        "dblink",
        "file_fdw",
        "postgres_fdw",
        "adminpack",
        "plperlu",
        "plpython3u",
        "plpythonu",
        "pltclu",
        "pg_cron",
        "pg_background",
        "pg_net",
        "http",
        "pageinspect",
        "pg_surgery",
    }
)


@final
class RiskyExtension(Rule):
    """CREATE EXTENSION of one that reads files, opens connections, runs SQL later or runs untrusted code; CREATE LANGUAGE.

    Why it is held: what it brings goes past this proxy.
    Instead: ask for approval
    Known gaps: other extensions are not listed
    """

    id: ClassVar = "risky-extension"
    verdict: ClassVar = Verdict.HOLD
    strict: ClassVar = Verdict.DENY
    severity: ClassVar = Severity.HIGH
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("acts",)
    triggers: ClassVar = (
        Example("CREATE EXTENSION dblink"),
        Example("CREATE SCHEMA x; CREATE EXTENSION IF NOT EXISTS file_fdw"),
        Example("CREATE LANGUAGE plperlu"),
    )
    passes: ClassVar = (Example("CREATE EXTENSION pgcrypto"),)

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for act in facts.acts:
            if (act.kind == "CREATE EXTENSION" and _RISKY.intersection(act.objects)) or act.kind == "CREATE LANGUAGE":
                yield self.found(f"{act.kind} {', '.join(act.objects)}", act.statement, act.objects)
