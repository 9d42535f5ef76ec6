"""The proof of a copy: it is restored into a scratch database, and what is there is compared with what was copied.

Compared are the tables that the copy says it has: that they are there, their rows, and the checksum of their content (checksums.py). Whatever
cannot be compared is no proof: a table whose types cannot be made where it is proven, a checksum that is missing, a server that went away.
Owners, privileges, policies and publications are not restored there, since their roles do not exist there. Indexes, constraints and triggers
of the copied tables are; where they cannot be made, the copy is equal all the same, and the problem is told beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from proxy.backups.archive import Archive, ArchiveError, Entry, Section
from proxy.backups.checksums import NoRowsError, large_objects_checksum, table_checksum
from proxy.backups.model import CopiedTable, Proof
from proxy.backups.scratch import Scratch, ScratchDatabase, ScratchError
from proxy.control import ControlError, first_line

PLAIN: Final = (
    "--no-owner", "--no-privileges", "--no-comments", "--no-policies", "--no-publications", "--no-subscriptions", "--no-security-labels",
    "--no-tablespaces", "--no-table-access-method", "--no-statistics",
)  # fmt: skip
#: Of a table's own, made after its rows; the rest needs roles, or other tables' rows.
_AFTERWARDS: Final = frozenset(
    {"INDEX", "INDEX ATTACH", "CONSTRAINT", "CHECK CONSTRAINT", "FK CONSTRAINT", "TRIGGER", "RULE", "STATISTICS"}
)
#: Reading a table may take so long.
_READ_S: Final = 24 * 3600.0
_PROBLEMS: Final = 20


@dataclass(frozen=True, slots=True)
class ProofResult:
    """What came of it.

    Attributes:
        proof: EQUAL, DIFFERENT or FAILED.
        text: for people: "restored, 41,220 rows, equal".
        problems: what else was seen, a sentence each; they do not speak against an equal content.
    """

    proof: Proof
    text: str
    problems: tuple[str, ...] = ()

    @property
    def is_equal(self) -> bool:
        return self.proof is Proof.EQUAL


class Prover:
    """Proves copies, each in a database of its own."""

    def __init__(self, scratch: Scratch, tools: Path | None = None, jobs: int = 2) -> None:
        self._scratch = scratch
        self._tools = tools
        self._jobs = jobs

    async def prove(
        self,
        archive: Path,
        tables: Iterable[CopiedTable],
        progress: Callable[[str], None] = lambda text: None,
        *,
        encoding: str = "UTF8",
        large_objects: tuple[int, str] | None = None,
    ) -> ProofResult:
        """Restore an archive of pg_dump -Fc and compare. Never raises but for cancellation; what fails is Proof.FAILED, with the reason.

        `encoding`: of the database that was copied; checksums are over its bytes. `large_objects`: their number and checksum, where they were copied.
        """
        wanted = tuple(tables)
        try:
            contents = Archive(archive, self._tools)
            entries = await contents.entries()
            extensions = tuple(e.label.removeprefix("- ").strip() for e in entries if e.kind == "EXTENSION")
            async with self._scratch.database(encoding, extensions) as database:
                return await self._in(database, contents, entries, wanted, progress, large_objects)
        except (ArchiveError, ScratchError, ControlError) as error:
            return ProofResult(Proof.FAILED, f"not proven: {error}")
        except psycopg.Error as error:
            return ProofResult(Proof.FAILED, f"not proven: {first_line(error)}")
        except OSError as error:
            return ProofResult(Proof.FAILED, f"not proven: {error.strerror or error}")

    async def _in(
        self,
        database: ScratchDatabase,
        archive: Archive,
        entries: tuple[Entry, ...],
        wanted: tuple[CopiedTable, ...],
        progress: Callable[[str], None],
        large_objects: tuple[int, str] | None,
    ) -> ProofResult:
        with_rows = [e for e in entries if e.kind == "TABLE DATA"]
        done = 0

        def on_item(line: str) -> None:
            nonlocal done
            if line.startswith("processing data for table"):
                done += 1
                progress(f"proving: table {done:,} of {len(with_rows):,}")

        jobs = f"--jobs={self._jobs if len(with_rows) > 1 else 1}"
        options = ("--section=pre-data", "--section=data", jobs, *PLAIN)
        restored = await archive.restore(database.environment, *options, on_item=on_item)
        if restored.code < 0:
            return ProofResult(Proof.FAILED, f"not proven: pg_restore was killed by signal {-restored.code}")
        async with database.reader.connection(database.name, statement_timeout_s=_READ_S) as connection:
            problems = await compare(connection, wanted, progress)
            if large_objects is not None and (found := await large_objects_checksum(connection)) != large_objects:
                problems.append(f"there are {found[0]:,} large objects, not the {large_objects[0]:,} of the copy, or their content differs")
        rows = sum(t.rows for t in wanted)
        if problems and restored.errors:
            return ProofResult(
                Proof.FAILED, f"not proven: {problems[0]}: {restored.errors[0]}", tuple([*problems[1:], *restored.errors][:_PROBLEMS])
            )
        if problems:
            return ProofResult(Proof.DIFFERENT, f"different: {problems[0]}", tuple(problems[1:_PROBLEMS]))
        notes = await self._afterwards(database, archive, entries, with_rows, progress)
        many = f"{len(wanted):,} tables, " if len(wanted) > 1 else ""
        return ProofResult(Proof.EQUAL, f"restored, {many}{rows:,} row{'' if rows == 1 else 's'}, equal", notes)

    async def _afterwards(
        self,
        database: ScratchDatabase,
        archive: Archive,
        entries: tuple[Entry, ...],
        with_rows: list[Entry],
        progress: Callable[[str], None],
    ) -> tuple[str, ...]:
        """Indexes, constraints and triggers of the tables whose rows are in the archive; what could not be made."""
        owners = {e.depends[0] for e in with_rows if e.depends}
        by_id = {e.id: e for e in entries}
        tables = {e.id for e in entries if e.kind in ("TABLE", "FOREIGN TABLE")}

        def reached(entry: Entry) -> set[int]:
            direct = set(entry.depends)
            for other in entry.depends:
                if other in by_id and by_id[other].section is Section.POST_DATA:
                    direct |= reached(by_id[other])
            return direct & tables

        chosen = [e for e in entries if e.kind in _AFTERWARDS and (of := reached(e)) and of <= owners]
        if not chosen:
            return ()
        progress("proving: indexes and constraints")
        restored = await archive.restore(database.environment, *PLAIN, entries=chosen)
        return tuple(restored.errors[:_PROBLEMS])


async def compare(
    connection: AsyncConnection[TupleRow], wanted: Iterable[CopiedTable], progress: Callable[[str], None] = lambda text: None
) -> list[str]:
    """What differs between the tables in a database and those that were copied, a sentence each.

    Raises psycopg.Error when the server is gone.
    """
    problems: list[str] = []
    for number, table in enumerate(tables := list(wanted), 1):
        progress(f"comparing: table {number:,} of {len(tables):,}")
        try:
            rows, checksum = await table_checksum(connection, table.name)
        except NoRowsError as error:
            problems.append(f"{table.name}: {error}")
        except psycopg.Error as error:
            if connection.broken:
                raise
            problems.append(f"{table.name} is not there" if error.sqlstate in ("42P01", "3F000") else f"{table.name}: {first_line(error)}")
        else:
            if rows != table.rows:
                problems.append(f"{table.name} has {rows:,} rows, not {table.rows:,}")
            elif table.rows and not table.checksum:
                problems.append(f"{table.name} has no checksum to compare with")
            elif table.rows and checksum != table.checksum:
                problems.append(f"{table.name} has other content, in as many rows")
    return problems
