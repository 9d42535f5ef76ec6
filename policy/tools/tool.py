"""Tools that rebuild or migrate a schema, and what tells on the wire that one of them has begun to.

A tool sends its statements one by one and waits for each. What it is about to do is told by the first that is dangerous, by what it asked before, and by
its name for itself; from then on everything that belongs to it is one *act*: one hold, one decision.

Nothing here makes anything milder but in a test database: who imitates a tool gets a hold that lists more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from policy.judgement import Judgement


class Reach(StrEnum):
    """What an act is about."""

    STATEMENT = "statement"  # what its first statement names, and nothing after
    SCHEMA = "schema"  # the relations of the schemas in which those lie that its first statement names
    SCHEMAS = "schemas"  # the relations of all schemas but the server's own
    DATABASE = "database"  # a database as a whole


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known when a script is to be held.

    Attributes:
        marks: of all tools, those that the session's scripts contained so far (Tool.marks), the held one included.
        recent: what the session sent just before, oldest first, each cut at about 1 KiB.
        script: what is held, as text.
        judgement: of it.
    """

    application_name: str
    database: str
    marks: frozenset[str]
    recent: tuple[str, ...]
    script: str
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class Act:
    """What a tool has begun.

    Attributes:
        tool: its name, e.g. "Sequelize".
        kind: "force sync", "drop all", "flush", "downgrade or upgrade", …: words that stand well between the tool's name and "of 71 tables".
        forced: it destroys what is there to build it anew, whatever the state of the schema: the rule forced-sync decides about it. False: a
            migration that goes step by step; its statements are held as always, but as one.
        is_whole: it destroys all of its reach. False: it may be content with less ("of up to 71 tables").
    """

    tool: str
    kind: str
    reach: Reach = Reach.SCHEMA
    forced: bool = True
    is_whole: bool = True


class Tool(ABC):
    """One tool. Its docstring says which versions it was seen with, and what tells it.

    Attributes:
        marks: texts that its scripts contain and few others do, exactly as they are sent; a session that sent one is remembered to have.
            Each costs the judging of every new script some 40 ns: few and telling ones.
    """

    name: ClassVar[str]
    marks: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def recognise(self, evidence: Evidence) -> Act | None:
        """The act that this script begins; None when it is none of this tool's. The script was found dangerous already."""
