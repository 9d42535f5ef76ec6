"""The database is gone: a whole copy is restored into a new database, from the folders of copies alone. No proxy and no store are needed.

The newest full copy whose files are as they were written is taken; a damaged one is told, and the one before it is taken instead. Without any full
copy the newest copy that was made before a statement is: it has the definitions of the whole database and the rows of what the statement destroyed.
Nothing is overwritten: a database that has tables is only moved aside, and only when told so.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from proxy.backups.archive import Archive, ArchiveError, program, running
from proxy.backups.checksums import large_objects_checksum
from proxy.backups.model import CopiedTable, CopyKind
from proxy.backups.prove import compare
from proxy.backups.vault import Opened, Vault, VaultError
from proxy.backups.verify import Manifest
from proxy.control import Control, ControlError, first_line

GLOBALS: Final = "globals.sql"
_READ_S: Final = 24 * 3600.0
#: For the restoring sessions: what is lost when the server crashes meanwhile is restored again.
_OPTIONS: Final = "-c synchronous_commit=off -c maintenance_work_mem=256MB -c max_parallel_maintenance_workers=0"


class RecoverError(Exception):
    """It cannot be recovered, or not as asked. The message is for people."""


@dataclass(frozen=True, slots=True)
class Found:
    """A copy in the vault, by its manifest."""

    folder: str
    manifest: Manifest

    @property
    def at(self) -> datetime:
        try:
            found = datetime.fromisoformat(self.manifest.started_at)
        except ValueError:
            return datetime.fromtimestamp(0, UTC)
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Survey:
    """What there is of a database.

    Attributes:
        candidates: copies to restore from, the best first.
        newer: copies made before statements since then, which have later states of some tables; oldest first.
        unreadable: folders whose manifest cannot be read, and why.
    """

    database: str
    candidates: tuple[Found, ...]
    newer: tuple[Found, ...] = ()
    unreadable: tuple[str, ...] = ()


@dataclass
class Recovered:
    """What came of it.

    Attributes:
        compared: every table with its rows, in the copy; `different` are those that are not equal.
        problems: what pg_restore said.
        skipped: copies that are damaged, and why.
    """

    found: Found
    database: str
    moved_to: str = ""
    compared: tuple[CopiedTable, ...] = ()
    different: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_equal(self) -> bool:
        return not self.different


def survey(vault: Vault, database: str = "", at: datetime | None = None) -> Survey:
    """Look at all manifests. `database` empty: the only one that there are full copies of. `at`: as it was then. Raises RecoverError."""
    found: list[Found] = []
    unreadable: list[str] = []
    for folder in vault.folders():
        try:
            found.append(Found(folder, Manifest.read(vault.manifest(folder))))
        except VaultError as error:
            unreadable.append(str(error))
    found = sorted((f for f in found if at is None or f.at <= at), key=lambda f: f.at)
    names = sorted({f.manifest.database for f in found if f.manifest.kind in (CopyKind.FULL, CopyKind.DUMP)})
    if not database:
        full = sorted({f.manifest.database for f in found if f.manifest.kind is CopyKind.FULL})
        choices = full or names
        if len(choices) != 1:
            raise RecoverError(
                f"say which database: there are copies of {', '.join(names)}" if names else f"there are no copies in {vault.root}"
            )
        database = choices[0]
    of_it = [f for f in found if f.manifest.database == database]
    full_ones = [f for f in of_it if f.manifest.kind is CopyKind.FULL]
    dumps = [f for f in of_it if f.manifest.kind is CopyKind.DUMP]
    candidates = [*reversed(full_ones), *reversed(dumps)]
    if not candidates:
        known = f"; there are copies of {', '.join(names)}" if names else ""
        raise RecoverError(f"there is no copy of database {database!r} in {vault.root}{known}")
    newer = [f for f in of_it if f.at > candidates[0].at and f.manifest.kind in (CopyKind.DUMP, CopyKind.ROWS)] if full_ones else []
    return Survey(database, tuple(candidates), tuple(newer), tuple(unreadable))


async def recover(
    vault: Vault,
    plan: Survey,
    control: Control,
    *,
    into: str = "",
    jobs: int = 2,
    move_aside: bool = False,
    tools: Path | None = None,
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> Recovered:
    """Restore the best candidate.

    Args:
        into: the database's name; default: what it was.
        move_aside: a database of that name that has tables is renamed; else it is refused.
        progress: told what it is at, and so many of so many.

    Raises RecoverError, and leaves what it had made, for people to look at.
    """
    started = asyncio.get_running_loop().time()
    name = into or plan.database
    skipped: list[str] = []
    for candidate in plan.candidates:
        try:
            progress("reading the copy", 0, 0)
            async with vault.open(candidate.folder) as opened:
                manifest = Manifest.read(opened.manifest)
                done = Recovered(Found(candidate.folder, manifest), name, skipped=skipped)
                archive = Archive(opened.archive, tools)
                entries = await archive.entries()
                done.moved_to = await make_database(control, name, manifest.encoding, move_aside)
                await _globals(opened, control, tools, done)
                await _restore(control, archive, name, jobs, sum(e.kind == "TABLE DATA" for e in entries), done, progress)
                await _compare(control, name, manifest, jobs, done, progress)
                with suppress(ControlError):
                    progress("statistics for the planner", 0, 0)
                    async with control.connection(name, statement_timeout_s=_READ_S, read_only=False) as connection:
                        await connection.execute("ANALYZE")
                done.seconds = asyncio.get_running_loop().time() - started
                return done
        except (VaultError, ArchiveError) as error:
            skipped.append(f"{candidate.folder}: {error}")
        except ControlError as error:
            raise RecoverError(str(error)) from None
    raise RecoverError(f"no copy can be used: {'; '.join(skipped)}")


async def make_database(control: Control, name: str, encoding: str, move_aside: bool) -> str:
    """An empty database; returns what the one that was there is called now. Raises RecoverError, ControlError."""
    moved = ""
    async with control.connection("postgres", read_only=False, statement_timeout_s=600) as connection:
        exists = await (await connection.execute("SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s", (name,))).fetchone()
        if exists is not None:
            tables = await _tables(control, name)
            if tables == 0:
                return ""
            if not move_aside:
                raise RecoverError(
                    f"database {name!r} is there and has {tables:,} tables: give another name (--database … --into NAME), or --move-aside renames it"
                )
            moved = f"{name[:40]}_before_{datetime.now(UTC):%Y%m%d_%H%M%S}"
            await connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(name), sql.Identifier(moved)))
        await connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {}").format(sql.Identifier(name), sql.Literal(encoding))
            if encoding == "UTF8"
            else sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C'").format(
                sql.Identifier(name), sql.Literal(encoding)
            )
        )
    return moved


async def _tables(control: Control, name: str) -> int:
    async with control.connection(name) as connection:
        found = await (
            await connection.execute(
                "SELECT pg_catalog.count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
                "WHERE c.relkind IN ('r', 'p', 'm', 'f', 'S') AND n.nspname <> 'information_schema' AND NOT pg_catalog.starts_with(n.nspname::text, 'pg_')"
            )
        ).fetchone()
    assert found is not None
    return int(found[0])


async def _globals(opened: Opened, control: Control, tools: Path | None, done: Recovered) -> None:
    """Roles that are not there; those that are stay as they are."""
    if GLOBALS not in opened.files:
        return
    command: list[str | Path] = [program("psql", tools), "--no-psqlrc", "--quiet", f"--file={opened.files[GLOBALS]}"]
    async with running(command, control.environment("postgres")) as process:
        _, said = await process.communicate()
    for line in said.decode(errors="replace").splitlines():
        text = re.sub(r"^.*?ERROR:\s+", "", line)
        if "ERROR" in line and "already exists" not in line:
            done.problems.append(f"roles: {text}")


async def _restore(
    control: Control, archive: Archive, name: str, jobs: int, tables: int, done: Recovered, progress: Callable[[str, int, int], None]
) -> None:
    finished = 0

    def on_item(line: str) -> None:
        nonlocal finished
        if (line.startswith("finished item") and " TABLE DATA " in line) or (jobs == 1 and line.startswith("processing data for table")):
            finished += 1
        progress("restoring", finished, tables)

    progress("restoring", 0, tables)
    environment = {**control.environment(name), "PGOPTIONS": _OPTIONS}
    restored = await archive.restore(environment, f"--jobs={jobs}", on_item=on_item)
    if restored.code < 0:
        raise RecoverError(f"pg_restore was killed by signal {-restored.code}")
    done.problems += restored.errors


async def _compare(
    control: Control, name: str, manifest: Manifest, jobs: int, done: Recovered, progress: Callable[[str, int, int], None]
) -> None:
    waiting = sorted(manifest.tables, key=lambda t: -t.bytes)
    total, finished = len(waiting), 0

    async def some() -> None:
        nonlocal finished
        async with control.connection(name, statement_timeout_s=_READ_S) as connection:
            while waiting:
                table = waiting.pop(0)
                try:
                    done.different += await compare(connection, [table])
                except psycopg.Error as error:
                    raise RecoverError(f"the server is gone: {first_line(error)}") from None
                finished += 1
                progress("comparing", finished, total)

    progress("comparing", 0, total)
    await asyncio.gather(*(some() for _ in range(jobs)))
    if manifest.large_objects is not None:
        async with control.connection(name, statement_timeout_s=_READ_S) as connection:
            if await large_objects_checksum(connection) != (manifest.large_objects.count, manifest.large_objects.checksum):
                done.different.append("the large objects are not those of the copy")
    done.compared = manifest.tables


def newer_tables(found: Iterable[Found]) -> list[tuple[str, Found]]:
    """The last of the newer copies that has each table."""
    last: dict[str, Found] = {}
    for copy in found:
        for table in copy.manifest.tables:
            last[table.name] = copy
    return sorted(last.items())
