from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Severity, Verdict


@final
class CopyProgram(Rule):
    """COPY … TO or FROM PROGRAM.

    Why it is denied: it runs a command on the database server.
    Instead: COPY … TO STDOUT or FROM STDIN, and run the program on the client
    Known gaps: none known
    """

    id: ClassVar = "copy-program"
    verdict: ClassVar = Verdict.DENY
    strict: ClassVar = Verdict.DENY
    severity: ClassVar = Severity.CRITICAL
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("copies",)
    triggers: ClassVar = (
        Example("COPY account TO PROGRAM 'cat > /tmp/x'"),
        Example("COPY (SELECT 1) TO PROGRAM 'sh'"),
    )
    passes: ClassVar = (Example("COPY account FROM STDIN"),)

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for copy in facts.copies:
            if copy.is_program:
                yield self.found("COPY runs a program on the server", copy.statement)
