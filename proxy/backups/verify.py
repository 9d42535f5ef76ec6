"""Copies that lie in the vault, proven: read with their digests, restored in a scratch database, compared with their manifest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow
from pydantic import BaseModel, ValidationError

from proxy.backups.archive import Archive, ArchiveError, Section
from proxy.backups.model import Backup, CopiedTable, CopyKind, Proof
from proxy.backups.prove import PLAIN, ProofResult, Prover
from proxy.backups.restore import RestoreError, read_name
from proxy.backups.scratch import Scratch, ScratchError
from proxy.backups.vault import Opened, Vault, VaultError
from proxy.control import ControlError, first_line


class LargeObjects(BaseModel, frozen=True):
    """How many, and their checksum."""

    count: int
    checksum: str


class Manifest(BaseModel, frozen=True):
    """Of manifest.json, what proving and giving back need.

    Attributes:
        whole: all of the database is in it.
        what: for people.
        columns: of ROWS: behind the relation's name, in order.
    """

    kind: CopyKind
    database: str
    started_at: str = ""
    whole: bool = False
    what: str = ""
    encoding: str = "UTF8"
    tables: tuple[CopiedTable, ...] = ()
    large_objects: LargeObjects | None = None
    relation: str = ""
    columns: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    hold: int | None = None
    server_version: str = ""
    server_version_num: int = 0

    @classmethod
    def read(cls, found: dict[str, Any]) -> Manifest:  # any: JSON, checked here
        """Raises VaultError."""
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            first = error.errors()[0]
            raise VaultError(f"the manifest is damaged: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


class Verifier:
    """Proves copies of a vault."""

    def __init__(self, vault: Vault, scratch: Scratch, tools: Path | None = None, jobs: int = 2) -> None:
        self._vault = vault
        self._scratch = scratch
        self._tools = tools
        self._prover = Prover(scratch, tools, jobs)

    async def verify(self, backup: Backup | str, progress: Callable[[str], None] = lambda text: None) -> ProofResult:
        """Of a row, or of a folder. Never raises but for cancellation; what fails is Proof.FAILED, with the reason."""
        try:
            progress("reading its files")
            async with self._vault.open(backup) as opened:
                manifest = Manifest.read(opened.manifest)
                if manifest.kind is CopyKind.ROWS:
                    return await self._rows(opened, manifest, progress)
                objects = manifest.large_objects
                return await self._prover.prove(
                    opened.archive,
                    manifest.tables,
                    progress,
                    encoding=manifest.encoding,
                    large_objects=None if objects is None else (objects.count, objects.checksum),
                )
        except (VaultError, ArchiveError, RestoreError, ScratchError, ControlError) as error:
            return ProofResult(Proof.FAILED, f"not proven: {error}")
        except psycopg.Error as error:
            return ProofResult(Proof.FAILED, f"not proven: {first_line(error)}")
        except OSError as error:
            return ProofResult(Proof.FAILED, f"not proven: {error.strerror or error}")

    async def _rows(self, opened: Opened, manifest: Manifest, progress: Callable[[str], None]) -> ProofResult:
        """Rows as they were: each must be readable as a row of its table. They are text of the session's own settings, and so are not compared
        byte by byte; the digest of the file has been."""
        archive = Archive(opened.archive, self._tools)
        entries = await archive.entries()
        extensions = tuple(e.label.removeprefix("- ").strip() for e in entries if e.kind == "EXTENSION")
        definitions = [e for e in entries if e.section is Section.PRE_DATA]
        async with self._scratch.database(manifest.encoding, extensions) as database:
            progress("proving: definitions")
            restored = await archive.restore(database.environment, *PLAIN, entries=definitions)
            async with database.reader.connection(database.name, statement_timeout_s=24 * 3600, read_only=False) as connection:
                progress("proving: rows")
                try:
                    counted = await load_rows(connection, opened, manifest, sql.SQL("pg_temp.pghold_rows"))
                except psycopg.errors.UndefinedTable as error:
                    why = restored.errors[0] if restored.errors else first_line(error)
                    return ProofResult(Proof.FAILED, f"not proven: {manifest.relation} could not be made: {why}")
        wanted = manifest.tables[0].rows
        if counted != wanted:
            return ProofResult(Proof.DIFFERENT, f"different: {counted:,} rows, not {wanted:,}")
        return ProofResult(Proof.EQUAL, f"read back, {wanted:,} row{'' if wanted == 1 else 's'}")


async def load_rows(connection: AsyncConnection[TupleRow], opened: Opened, manifest: Manifest, table: sql.Composable) -> int:
    """The rows of a copy in a new table of the columns' own types, the relation that each was found in first; how many there are.

    It has no checks, and computes nothing. Raises VaultError, psycopg.Error.
    """
    if len(manifest.tables) != 1 or not manifest.columns:
        raise VaultError("the manifest does not say what rows these are")
    schema, name = read_name(manifest.relation)
    columns = sql.SQL(", ").join(sql.Identifier(c) for c in manifest.columns)
    await connection.execute(
        sql.SQL("CREATE TABLE {} AS SELECT NULL::pg_catalog.text AS {}, {} FROM {} WITH NO DATA").format(
            table, sql.Identifier("pghold: relation"), columns, sql.Identifier(schema, name)
        )
    )
    async with connection.cursor() as cursor, cursor.copy(sql.SQL("COPY {} FROM STDIN").format(table)) as copy:
        pieces = opened.rows()
        while piece := await asyncio.to_thread(_next, pieces):
            await copy.write(piece)
    counted = await (await connection.execute(sql.SQL("SELECT pg_catalog.count(*) FROM {}").format(table))).fetchone()
    assert counted is not None
    return int(counted[0])


def _next(pieces: Iterator[bytes]) -> bytes:
    return next(pieces, b"")
