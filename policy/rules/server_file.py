from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.rules._functions import SERVER_FILES
from policy.verdict import Severity, Verdict


@final
class ServerFile(Rule):
    """Reading or writing files of the database server: COPY with a file name, lo_import, lo_export, pg_read_file and the like.

    Why it is denied: it reads secrets or overwrites files with the rights of the server.
    Instead: COPY … TO STDOUT or FROM STDIN, which use the client's files
    Known gaps: extensions with functions of their own are not listed
    """

    id: ClassVar = "server-file"
    verdict: ClassVar = Verdict.DENY
    strict: ClassVar = Verdict.DENY
    severity: ClassVar = Severity.CRITICAL
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("calls", "copies")
    triggers: ClassVar = (
        Example("COPY account TO '/tmp/x'"),
        Example("COPY account FROM '/etc/passwd'"),
        Example("SELECT pg_read_file('/etc/passwd')"),
        Example("SELECT count(*) FROM (SELECT lo_import('/etc/passwd')) x"),
    )
    passes: ClassVar = (
        Example("COPY account TO STDOUT"),
        Example("COPY account FROM STDIN WITH (FORMAT csv)"),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for copy in facts.copies:
            if copy.filename is not None and not copy.is_program:
                yield self.found("COPY uses a file of the server", copy.statement, (copy.relation,) if copy.relation else ())
        for call in facts.calls:
            if call.name in SERVER_FILES:
                span = (call.position, call.position)
                yield self.found(f"calls {call.name}(), which uses files of the server", call.statement, (), span)
