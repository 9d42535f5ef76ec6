"""Protecting what an approved statement destroys, as the session's core sees it.

    PLANNING  --CopyPlanned-->     released, when nothing can be lost
                                   RECORDING, when the statement itself is replaced by one that keeps everything (soft drop)
                                   STEPPING, when the session must lock or copy something itself; else COPYING
    STEPPING  --the steps' answers--> COPYING
    COPYING   --CopyTaken-->       RECORDING
    RECORDING --Recorded-->        released

and from each of them CopyFailed, or whatever ends a hold, leads to a refusal. What the steps have opened is closed before that: `unwinding`.

The steps run in the transaction in which the statement will run: in the client's own, be it a block or a series that has no Sync yet; or, around a
Query or FunctionCall that would be a transaction of its own, in one that a BEGIN of ours opens (`wrapped`; escort.py ends it). So what is locked
for the copy stays locked until the statement has it, and nobody can write in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from proxy.backups.model import Copied, CopyPlan


class Phase(Enum):
    PLANNING = auto()
    STEPPING = auto()
    COPYING = auto()
    RECORDING = auto()


@dataclass(slots=True, eq=False)
class Protection:
    """Of one held message.

    Attributes:
        rows: how many its image has.
        wrapped: a BEGIN of ours is open.
        progress: how far the copy is, for people.
        started: the copy was begun, and must be stopped when the statement does not run.
        snapshot: of an act: when its copy began, with everything locked; of a part of one: since when nothing may have been written.
    """

    phase: Phase = Phase.PLANNING
    plan: CopyPlan | None = None
    copied: Copied | None = None
    rows: int = 0
    wrapped: bool = False
    progress: str = ""
    started: bool = False
    snapshot: str = ""


def lock_statement(relations: tuple[str, ...], timeout_s: float, oids: tuple[int, ...] = ()) -> str:
    """Lock them against writers, in whatever transaction is open.

    LOCK TABLE itself refuses a transaction that no BEGIN has opened (sql-lock.html); within a function it does not ask. The time limit is
    put back, for the statement that follows has its own.

    Fails when one of `oids` is not among what is locked then: while it waited, the name was given to something else.
    """
    wanted = ",".join(map(str, oids))
    body = (
        "DECLARE before pg_catalog.text := pg_catalog.current_setting('lock_timeout');"
        f" BEGIN PERFORM pg_catalog.set_config('lock_timeout', '{timeout_s * 1000:.0f}ms', true);"
        f" LOCK TABLE {', '.join(relations)} IN SHARE ROW EXCLUSIVE MODE;"
        " PERFORM pg_catalog.set_config('lock_timeout', before, true);"
        f" IF EXISTS (SELECT FROM pg_catalog.unnest('{{{wanted}}}'::pg_catalog.oid[]) AS w(o) WHERE w.o OPERATOR(pg_catalog.<>) ALL (ARRAY("
        "SELECT l.relation FROM pg_catalog.pg_locks AS l WHERE l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() AND l.granted"
        " AND l.mode OPERATOR(pg_catalog.=) 'ShareRowExclusiveLock' AND l.relation IS NOT NULL)))"
        " THEN RAISE EXCEPTION 'a table was replaced by another of its name before it could be locked'; END IF; END"
    )
    tag = "$pghold$"
    while tag in body:
        tag = f"{tag[:-1]}_$"
    return f"DO LANGUAGE plpgsql {tag}{body}{tag}"


def copy_statement(image: str) -> str:
    """The rows of a query as COPY's text format (sql-copy.html)."""
    return f"COPY ({image}) TO STDOUT"


def rows_of(tag: str) -> int | None:
    """The count in a CommandComplete tag, "DELETE 5" or "INSERT 0 5" (protocol-message-formats.html#…-COMMANDCOMPLETE); None without one."""
    last = tag.rpartition(" ")[2]
    return int(last) if last.isascii() and last.isdigit() else None
