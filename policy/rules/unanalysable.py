from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Verdict


@final
class Unanalysable(Rule):
    """Text that cannot be analysed.

    Why it is held: what it does is not known: it is not text in the declared encoding, too long or too deep for
      the grammar, or rejected by it.
    Instead: send it in smaller parts, or check its syntax
    Known gaps: text without any word that can begin a changing statement is forwarded, and PostgreSQL answers
      with its own error
    """

    id: ClassVar = "unanalysable"
    verdict: ClassVar = Verdict.HOLD
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("unanalysable",)
    triggers: ClassVar = (
        Example("DROP TABLE account; DROP TALBE x"),
        Example("DELETE FROM account WHERE"),
    )
    passes: ClassVar = (
        Example("SELEC 1", because="PostgreSQL will say what is wrong"),
        Example(""),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        if facts.unanalysable is not None:
            yield self.found(facts.unanalysable, 0)
