from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.rules._functions import SQL_TEXT_FUNCTIONS
from policy.verdict import Verdict


@final
class SqlTextFunction(Rule):
    """A function that runs SQL given as text: query_to_xml, ts_stat and the like.

    Why it is held: what it runs is not judged.
    Instead: run the query itself
    Known gaps: catalog-only variants such as schema_to_xml read tables, and pass in profile guard
    """

    id: ClassVar = "sql-text-function"
    verdict: ClassVar = Verdict.HOLD
    strict: ClassVar = Verdict.HOLD
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("calls",)
    triggers: ClassVar = (
        Example("SELECT query_to_xml('SELECT wipe()', true, false, '')"),
        Example("WITH x AS (SELECT * FROM ts_stat('SELECT v FROM account')) SELECT 1"),
    )
    passes: ClassVar = (Example("SELECT xmlparse(document '<a/>')"),)

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for call in facts.calls:
            if call.name in SQL_TEXT_FUNCTIONS:
                yield self.found(
                    f"calls {call.name}(), which runs SQL that is given as text", call.statement, (), (call.position, call.position)
                )
