from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from policy.context import Context
from policy.facts import Facts
from policy.judgement import Finding
from policy.rule import Example, Rule
from policy.verdict import Verdict


@final
class DoBlock(Rule):
    """A DO block that is not proven harmless.

    Why it is held: it can run any statement, also one that is put together at run time.
    Instead: send the statements one by one, so that each can be judged
    Known gaps: a function that the block calls is not looked into
    """

    id: ClassVar = "do-block"
    verdict: ClassVar = Verdict.HOLD
    since: ClassVar = "0.1.0"
    looks_at: ClassVar = ("blocks",)
    triggers: ClassVar = (
        Example("DO $$ BEGIN DELETE FROM account; END $$"),
        Example("DO $$ BEGIN EXECUTE 'DROP TABLE account'; END $$"),
        Example("DO $$ DECLARE t text; BEGIN FOR t IN SELECT tablename FROM pg_tables LOOP EXECUTE 'DROP TABLE ' || t; END LOOP; END $$"),
        Example("DO LANGUAGE plperl $$ 1 $$"),
    )
    passes: ClassVar = (
        Example("DO $$ BEGIN RAISE NOTICE 'hello'; END $$"),
        Example("DO $$ BEGIN PERFORM 1; DELETE FROM account WHERE id = 7; END $$"),
        Example(
            "DO $$ BEGIN CREATE TYPE mood AS ENUM ('ok'); EXCEPTION WHEN duplicate_object THEN null; END $$",
            because="how ORMs make an enum",
        ),
    )

    def check(self, facts: Facts, context: Context) -> Iterator[Finding]:
        for block in facts.blocks:
            yield self.found(block.what, block.statement)
