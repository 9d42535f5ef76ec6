"""What a prepared statement or a portal would do when it is executed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from policy.judgement import Finding, Judgement
from policy.verdict import Verdict


@dataclass(frozen=True, slots=True, eq=False)
class Meaning:
    """The script behind a name, judged.

    Attributes:
        judgement: as of `generation`; judged again at Execute when the session has changed since.
        script: its bytes; None when they were never seen on their own (the body of a SQL PREPARE).
        generation: of the session's context when it was judged.
        bind: for a portal, the Bind message that opened it (its values are shown to operators).
        alternatives: when the name may mean several things, all of them; `judgement` is then the strictest.
    """

    judgement: Judgement
    script: bytes | None = None
    generation: int = 0
    bind: bytes = b""
    alternatives: tuple[Meaning, ...] = ()


#: Every statement that is harmless whatever the session, and has no effect to track. One instance, so that the
#: relay recognises it by identity and no object is made for an ordinary Bind.
HARMLESS: Final = Meaning(Judgement(Verdict.ALLOW))

#: A name that was never seen: prepared by a function, or not at all. In the second case the backend will say so.
UNKNOWN: Final = Meaning(
    Judgement(
        Verdict.HOLD,
        (
            Finding(
                "unknown-prepared-statement",
                Verdict.HOLD,
                "executes a prepared statement or portal that was not prepared through this session's messages",
                "prepare the statement through this connection, so that its text can be judged",
            ),
        ),
        context_free=False,
    )
)


#: A long statement that was judged when the session was another.
CHANGED: Final = Meaning(
    Judgement(
        Verdict.HOLD,
        (
            Finding(
                "unanalysable",
                Verdict.HOLD,
                "executes a long prepared statement that was judged before the session's settings or names changed",
                "prepare the statement again",
            ),
        ),
        context_free=False,
    )
)


def strictest(meanings: list[Meaning | None]) -> Meaning:
    """What a name with these possible meanings stands for; a closed name (None) can do no harm."""
    present = [m for m in meanings if m is not None]
    if not meanings:
        return UNKNOWN
    if not present:
        return HARMLESS
    if len(present) == 1:
        return present[0]
    worst = max(present, key=lambda m: m.judgement.verdict)
    return Meaning(worst.judgement, worst.script, worst.generation, worst.bind, tuple(present))
