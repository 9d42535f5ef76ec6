"""An archive of pg_dump -Fc: its table of contents, and the SQL and rows of chosen entries of it, through pg_restore.

Each entry names the catalog and the oid that its object had in the database that was dumped (pg_restore -l: "id; catalog oid KIND schema
name owner"), and what it depends on. Names in a table of contents cannot be told apart from what follows them, so that entries
are found by oid, and by what they depend on.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from proxy.embedded import bindir

#: Kinds that are about the database as a whole: they are for pg_restore --create only.
_OF_DATABASE: Final = frozenset({"ENCODING", "STDSTRINGS", "SEARCHPATH", "DATABASE", "DATABASE PROPERTIES"})

#: The kinds that pg_dump knows, longest first; the kind of an entry is the first of these that its line begins with.
_KINDS: Final = sorted(
    """ACCESS METHOD|ACL|AGGREGATE|BLOB|BLOB COMMENTS|BLOB METADATA|BLOBS|CAST|CHECK CONSTRAINT|COLLATION|COMMENT|CONSTRAINT|CONVERSION|DATABASE|
DATABASE PROPERTIES|DEFAULT|DEFAULT ACL|DOMAIN|ENCODING|EVENT TRIGGER|EXTENSION|FK CONSTRAINT|FOREIGN DATA WRAPPER|FOREIGN TABLE|FUNCTION|
INDEX|INDEX ATTACH|LANGUAGE|LARGE OBJECT|MATERIALIZED VIEW|MATERIALIZED VIEW DATA|OPERATOR|OPERATOR CLASS|OPERATOR FAMILY|POLICY|
PROCEDURAL LANGUAGE|PROCEDURE|PUBLICATION|PUBLICATION TABLE|PUBLICATION TABLES IN SCHEMA|ROW SECURITY|RULE|SCHEMA|SEARCHPATH|SECURITY LABEL|
SEQUENCE|SEQUENCE OWNED BY|SEQUENCE SET|SERVER|SHELL TYPE|STATISTICS|STATISTICS DATA|STDSTRINGS|SUBSCRIPTION|SUBSCRIPTION TABLE|TABLE|
TABLE ATTACH|TABLE DATA|TEXT SEARCH CONFIGURATION|TEXT SEARCH DICTIONARY|TEXT SEARCH PARSER|TEXT SEARCH TEMPLATE|TRANSFORM|TRIGGER|TYPE|
USER MAPPING|VIEW""".replace("\n", "").split("|"),
    key=len,
    reverse=True,
)

_DATA: Final = frozenset(
    {"TABLE DATA", "SEQUENCE SET", "BLOB METADATA", "BLOB", "BLOBS", "BLOB COMMENTS", "LARGE OBJECT", "STATISTICS DATA"}
)
_POST_DATA: Final = frozenset(
    """ACL|DEFAULT ACL|CHECK CONSTRAINT|CONSTRAINT|EVENT TRIGGER|FK CONSTRAINT|INDEX|INDEX ATTACH|MATERIALIZED VIEW DATA|POLICY|PUBLICATION|
PUBLICATION TABLE|PUBLICATION TABLES IN SCHEMA|ROW SECURITY|RULE|STATISTICS|SUBSCRIPTION|SUBSCRIPTION TABLE|TRIGGER""".replace(
        "\n", ""
    ).split("|")
)

_LINE: Final = re.compile(r"(\d+); (\d+) (\d+) (.*)", re.DOTALL)
_DEPENDS: Final = re.compile(r";\tdepends on:((?: \d+)+)")
#: Of a script: what only psql understands, what older servers do not know, and the limits, which are ours to set.
_LEFT_OUT: Final = frozenset(
    {
        "\\restrict pghold", "\\unrestrict pghold", "SET transaction_timeout = 0;", "SET statement_timeout = 0;", "SET lock_timeout = 0;",
        "SET idle_in_transaction_session_timeout = 0;",
    }
)  # fmt: skip
_STDERR_LINES: Final = 200


class ArchiveError(Exception):
    """The archive cannot be read, or pg_restore failed. The message is for people."""


class Section(StrEnum):
    """In this order they are restored."""

    PRE_DATA = "pre-data"
    DATA = "data"
    POST_DATA = "post-data"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the table of contents.

    Attributes:
        catalog, oid: of the object where it was dumped; 0 when it has none of its own.
        label: schema, name and owner, for people.
        line: as pg_restore -L wants it back.
        depends: ids of other entries, the object that it belongs to first.
    """

    id: int
    catalog: int
    oid: int
    kind: str
    label: str
    line: str
    section: Section
    depends: tuple[int, ...] = ()


@dataclass
class Restored:
    """What pg_restore said."""

    code: int
    errors: list[str] = field(default_factory=list)


def program(name: str, folder: Path | None = None) -> Path:
    """pg_restore and the like, of the embedded PostgreSQL unless a folder is set. Raises ArchiveError."""
    path = (folder or bindir()) / name
    if not path.exists():
        raise ArchiveError(f"{path} is not there; set pg_bin")
    return path


@asynccontextmanager
async def running(
    command: Iterable[str | Path], environment: Mapping[str, str] | None = None, *, nice: int = 0, stdin: int = asyncio.subprocess.DEVNULL
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program in a process group of its own, which is killed when the block is left before it has ended."""
    process = await asyncio.create_subprocess_exec(
        *(str(part) for part in command),
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**_plain_environment(), **(environment or {})},
        start_new_session=True,
        limit=1 << 22,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError, PermissionError):
            # The whole group, even when its head is gone: pg_restore -j has children.
            os.killpg(process.pid, signal.SIGKILL)
        if process.returncode is None:
            await asyncio.shield(process.wait())


def _plain_environment() -> dict[str, str]:
    """Without libpq's variables: nothing is reached that was not named. Messages in English, since some are looked for."""
    return {k: v for k, v in os.environ.items() if not k.startswith("PG")} | {"LC_ALL": "C"}


class Archive:
    """One archive in a file. Every method raises ArchiveError."""

    def __init__(self, path: Path, tools: Path | None = None) -> None:
        self.path = path
        self._program = program("pg_restore", tools)
        self._entries: tuple[Entry, ...] = ()

    async def entries(self) -> tuple[Entry, ...]:
        """All that can be restored, in the archive's order."""
        if not self._entries:
            text = await self._output("--list", "--verbose")
            self._entries = tuple(_read(text))
            # A database without anything of its own has an archive, too.
            if not self._entries and "TOC Entries:" not in text:
                raise ArchiveError(f"{self.path.name} has no table of contents")
        return self._entries

    async def script(self, entries: Iterable[Entry], *options: str) -> str:
        """The SQL of entries without rows. Commands of psql and settings that older servers do not know are left out."""
        chosen = list(entries)
        if not chosen:
            return ""
        with self._list(chosen) as file:
            text = await self._output(f"--use-list={file.name}", "--restrict-key=pghold", "--file=-", *options)
        return "\n".join(line for line in text.split("\n") if line not in _LEFT_OUT)

    @asynccontextmanager
    async def rows(self, entry: Entry) -> AsyncIterator[tuple[str, AsyncIterator[bytes]]]:
        """The COPY statement of a TABLE DATA entry, and its rows in COPY's text format, in pieces."""
        with self._list([entry]) as file:
            command = (self._program, f"--use-list={file.name}", "--restrict-key=pghold", "--file=-", self.path)
            async with running(command) as process:
                assert process.stdout is not None
                assert process.stderr is not None
                errors = asyncio.ensure_future(process.stderr.read())
                try:
                    statement = await _copy_statement(process.stdout)
                    yield statement, _pieces(process.stdout)
                    async for _ in _rest(process.stdout):
                        pass
                    await process.wait()
                    if process.returncode:
                        raise ArchiveError(
                            _first_error((await errors).decode(errors="replace")) or f"pg_restore exited with {process.returncode}"
                        )
                finally:
                    errors.cancel()

    @asynccontextmanager
    async def head(self, entry: Entry) -> AsyncIterator[str]:
        """The COPY statement of a TABLE DATA entry."""
        with self._list([entry]) as file:
            command = (self._program, f"--use-list={file.name}", "--restrict-key=pghold", "--file=-", self.path)
            async with running(command) as process:
                assert process.stdout is not None
                yield await _copy_statement(process.stdout)

    async def restore(
        self,
        environment: Mapping[str, str],
        *options: str,
        entries: Iterable[Entry] | None = None,
        on_item: Callable[[str], None] | None = None,
    ) -> Restored:
        """pg_restore into the database of PGDATABASE; it goes on after errors, which are returned. `on_item` is told each thing it does."""
        with self._list(list(entries) if entries is not None else None) as file:
            chosen = [f"--use-list={file.name}"] if entries is not None else []
            command: list[str | Path] = [
                self._program,
                "--no-password",
                "--verbose",
                f"--dbname={environment['PGDATABASE']}",
                *options,
                *chosen,
                self.path,
            ]
            async with running(command, environment) as process:
                assert process.stdout is not None
                assert process.stderr is not None
                result = Restored(0)
                async for raw in process.stderr:
                    _take(raw.decode(errors="replace").rstrip("\n"), result, on_item)
                result.code = await process.wait()
                return result

    async def _output(self, *arguments: str) -> str:
        async with running([self._program, *arguments, self.path]) as process:
            out, error = await process.communicate()
        if process.returncode:
            raise ArchiveError(_first_error(error.decode(errors="replace")) or f"pg_restore exited with {process.returncode}")
        return out.decode()

    def _list(self, entries: list[Entry] | None) -> tempfile._TemporaryFileWrapper[str]:
        file = tempfile.NamedTemporaryFile("w", prefix="pghold-list-", encoding="utf-8")  # noqa: SIM115  # its user closes it
        file.writelines(f"{entry.line}\n" for entry in entries or ())
        file.flush()
        return file


def _read(text: str) -> list[Entry]:
    found: list[Entry] = []
    sections: dict[int, Section] = {}
    for line in text.splitlines():
        if (match := _DEPENDS.fullmatch(line)) and found:
            depends = tuple(map(int, match[1].split()))
            last = found[-1]
            # A comment comes with what it is about.
            section = sections.get(depends[0], last.section) if last.kind in ("COMMENT", "SECURITY LABEL") else last.section
            found[-1] = replace(last, section=section, depends=depends)
        elif match := _LINE.fullmatch(line):
            rest = match[4]
            kind = next((k for k in _KINDS if rest.startswith(f"{k} ")), rest.partition(" ")[0])
            if kind not in _OF_DATABASE:
                label = rest.removeprefix(kind).strip()
                section = Section.DATA if kind in _DATA else Section.POST_DATA if kind in _POST_DATA else Section.PRE_DATA
                sections[int(match[1])] = section
                # Only the id counts for pg_restore -L.
                found.append(Entry(int(match[1]), int(match[2]), int(match[3]), kind, label, f"{match[1]};", section))
    return found


def _take(line: str, result: Restored, on_item: Callable[[str], None] | None) -> None:
    text = line.removeprefix("pg_restore: ")
    if text.startswith("error: "):
        if "transaction_timeout" not in text and len(result.errors) < _STDERR_LINES:
            result.errors.append(text.removeprefix("error: ").removeprefix("could not execute query: ").removeprefix("ERROR:  "))
    elif text.startswith("fatal: "):
        result.errors.append(text.removeprefix("fatal: "))
    elif on_item is not None and text.startswith(("processing data", "creating ", "finished item")):
        on_item(text)


def _first_error(text: str) -> str:
    lines = [line.removeprefix("pg_restore: ").removeprefix("error: ").removeprefix("fatal: ") for line in text.splitlines()]
    return lines[0] if lines else ""


async def _copy_statement(stream: asyncio.StreamReader) -> str:
    """What is before the rows, from its COPY on. A name may have line breaks in it."""
    statement: list[str] = []
    async for raw in stream:
        line = raw.decode()
        if not statement and not line.startswith("COPY "):
            continue
        statement.append(line)
        if line.endswith(" FROM stdin;\n"):
            return "".join(statement).rstrip(";\n")
    raise ArchiveError("an entry of rows has no COPY")


async def _pieces(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    waiting: list[bytes] = []
    size = 0
    async for line in _lines(stream):
        if line == b"\\.\n":
            if waiting:
                yield b"".join(waiting)
            return
        waiting.append(line)
        size += len(line)
        if size > 1 << 18:
            yield b"".join(waiting)
            waiting, size = [], 0
    raise ArchiveError("the rows of an entry end before their end")


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length."""
    begun: list[bytes] = []
    while True:
        try:
            line = await stream.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            begun.append(await stream.readexactly(error.consumed))
            continue
        except asyncio.IncompleteReadError as error:
            if error.partial or begun:
                raise ArchiveError("the rows of an entry end in the middle of a line") from None
            return
        yield b"".join([*begun, line]) if begun else line
        begun = []


async def _rest(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while piece := await stream.read(1 << 16):
        yield piece
