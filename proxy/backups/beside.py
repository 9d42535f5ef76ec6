"""A copy restored beside what there is: into another database, or into a new schema of its own database. Nothing that is there is touched.

A schema: the tables are restored in a scratch database, taken out of whatever they are partitions or children of, moved into a schema of the wanted name,
and taken from there by pg_dump and pg_restore, in one transaction. They have their columns, types, defaults and rows; no keys, no indexes, no
triggers: they are there to copy rows from.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow

from proxy.backups.archive import Archive, ArchiveError, Entry, Section, program, running
from proxy.backups.model import CopiedTable, CopyKind
from proxy.backups.prove import PLAIN, compare
from proxy.backups.recover import make_database
from proxy.backups.restore import RestoreError, canonical, read_copy, read_name
from proxy.backups.scratch import Scratch
from proxy.backups.selection import only
from proxy.backups.vault import Opened
from proxy.backups.verify import Manifest, load_rows
from proxy.control import Control

_RUN_S: Final = 24 * 3600.0
#: The table that a copy of rows becomes.
ROWS_TABLE: Final = "pghold_rows"


async def into_database(
    control: Control,
    opened: Opened,
    name: str,
    tables: Iterable[str] = (),
    *,
    tools: Path | None = None,
    jobs: int = 2,
    progress: Callable[[str], None] = lambda text: None,
) -> str:
    """Make the database where it is missing, and restore; what came of it, for people. `tables`: only those; else all that have rows in the copy.

    Raises RestoreError, RecoverError, ArchiveError, VaultError, ControlError, psycopg.Error.
    """
    manifest = Manifest.read(opened.manifest)
    archive = Archive(opened.archive, tools)
    entries = await archive.entries()
    wanted = chosen(manifest, tables)
    listed: tuple[Entry, ...] | None = None
    if manifest.kind is CopyKind.ROWS:
        listed = tuple(e for e in entries if e.section is Section.PRE_DATA)
    elif not (manifest.whole or manifest.kind is CopyKind.FULL) or tables:
        listed = only(entries, set((await table_ids(archive, wanted)).values()))
    await make_database(control, name, manifest.encoding, move_aside=False)
    done = 0

    def on_item(line: str) -> None:
        nonlocal done
        if line.startswith("processing data for table"):
            done += 1
            progress(f"restoring: table {done:,}")

    restored = await archive.restore(control.environment(name), f"--jobs={jobs}", entries=listed, on_item=on_item)
    said = f"; pg_restore said: {'; '.join(restored.errors[:5])}" if restored.errors else ""
    async with control.connection(name, statement_timeout_s=_RUN_S, read_only=False) as connection:
        if manifest.kind is CopyKind.ROWS:
            rows = await load_rows(connection, opened, manifest, sql.Identifier("public", ROWS_TABLE))
            return f"{rows:,} rows are in table public.{ROWS_TABLE} of database {name}"
        if problems := await compare(connection, wanted, progress):
            raise RestoreError(f"database {name}: what was restored is not what was copied: {problems[0]}{said}")
    return f"database {name}: {len(wanted):,} tables, {sum(t.rows for t in wanted):,} rows, equal to the copy{said}"


async def into_schema(
    control: Control,
    scratch: Scratch,
    opened: Opened,
    schema: str,
    tables: Iterable[str] = (),
    *,
    tools: Path | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> str:
    """As into_database, in the database that was copied, in a schema that is not there yet."""
    manifest = Manifest.read(opened.manifest)
    wanted = chosen(manifest, tables)
    async with control.connection(manifest.database, statement_timeout_s=_RUN_S, read_only=False) as connection:
        found = await (await connection.execute("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s", (schema,))).fetchone()
        if found is not None:
            raise RestoreError(f"schema {schema} is there already: give another name")
        if manifest.kind is CopyKind.ROWS:
            async with connection.transaction():
                await connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
                rows = await load_rows(connection, opened, manifest, sql.Identifier(schema, read_name(manifest.relation)[1]))
            return f"{rows:,} rows are in schema {schema}"
    archive = Archive(opened.archive, tools)
    entries = await archive.entries()
    ids = await table_ids(archive, wanted)
    definitions = {e.id for e in entries if e.section is Section.PRE_DATA}
    listed = [e for e in only(entries, set(ids.values())) if e.id in definitions or e.kind == "TABLE DATA" or e.kind == "SEQUENCE SET"]
    extensions = tuple(e.label.removeprefix("- ").strip() for e in entries if e.kind == "EXTENSION")
    async with scratch.database(manifest.encoding, extensions) as database:
        progress("restoring in a scratch database")
        restored = await archive.restore(database.environment, *PLAIN, entries=listed)
        async with database.reader.connection(database.name, statement_timeout_s=_RUN_S, read_only=False) as connection:
            if problems := await compare(connection, wanted, progress):
                raise RestoreError(f"it cannot be restored: {problems[0]}{f': {restored.errors[0]}' if restored.errors else ''}")
            moved = await _move(connection, schema, wanted)
        with tempfile.TemporaryDirectory(prefix="pghold-beside-") as folder:
            path = Path(folder) / "beside.dump"
            progress(f"copying into schema {schema}")
            await _dump(database.reader.environment(database.name), schema, path, tools)
            beside = Archive(path, tools)
            done = await beside.restore(
                control.environment(manifest.database), "--single-transaction", "--exit-on-error", *PLAIN,
                entries=[e for e in await beside.entries() if e.section is not Section.POST_DATA],
            )  # fmt: skip
            if done.code or done.errors:
                raise RestoreError(
                    f"schema {schema} could not be made: {done.errors[0] if done.errors else f'pg_restore exited with {done.code}'}"
                )
    async with control.connection(manifest.database, statement_timeout_s=_RUN_S) as connection:
        if problems := await compare(connection, moved, progress):
            raise RestoreError(f"schema {schema}: what was restored is not what was copied: {problems[0]}")
    return f"schema {schema}: {len(moved):,} tables, {sum(t.rows for t in moved):,} rows, equal to the copy"


async def table_ids(archive: Archive, wanted: Iterable[CopiedTable]) -> dict[str, int]:
    """The ids of tables' entries, by name. Raises RestoreError."""
    names = {canonical(t.name) for t in wanted}
    found: dict[str, int] = {}
    for entry in await archive.entries():
        if entry.kind == "TABLE DATA" and entry.depends:
            async with archive.head(entry) as statement:
                name, _ = read_copy(statement)
            if name in names:
                found[name] = entry.depends[0]
    if missing := sorted(names - found.keys()):
        raise RestoreError(f"the archive has no rows of {missing[0]}")
    return found


def chosen(manifest: Manifest, tables: Iterable[str]) -> tuple[CopiedTable, ...]:
    """The tables of a copy that are asked for, with or without `public.`; all when none is. Raises RestoreError."""
    names = list(tables)
    if not names:
        return manifest.tables
    by_name = {canonical(t.name): t for t in manifest.tables}
    found = [by_name.get(canonical(name if "." in name else f"public.{name}")) for name in names]
    if None in found:
        raise RestoreError(f"the copy has no table {names[found.index(None)]}; it has {', '.join(sorted(by_name)[:20])}")
    return tuple(t for t in found if t is not None)


async def _move(connection: AsyncConnection[TupleRow], schema: str, wanted: Iterable[CopiedTable]) -> tuple[CopiedTable, ...]:
    """Into one schema; of two with one name the second is called SCHEMA_TABLE. Returns them by their new names."""
    moved: list[CopiedTable] = []
    taken: set[str] = set()
    async with connection.transaction():
        await connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        for table in wanted:
            origin, name = read_name(table.name)
            this = sql.Identifier(origin, name)
            parents = await connection.execute(
                "SELECT n.nspname, p.relname, c.relispartition FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class p ON p.oid = i.inhparent "
                "JOIN pg_catalog.pg_namespace n ON n.oid = p.relnamespace JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid "
                "WHERE i.inhrelid = %s::pg_catalog.regclass",
                (table.name,),
            )
            for parent_schema, parent, is_partition in await parents.fetchall():
                form = "ALTER TABLE {1} DETACH PARTITION {0}" if is_partition else "ALTER TABLE {0} NO INHERIT {1}"
                await connection.execute(sql.SQL(form).format(this, sql.Identifier(parent_schema, parent)))
            if name in taken:
                fresh = f"{origin}_{name}".encode()[:63].decode(errors="ignore")
                await connection.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(this, sql.Identifier(fresh)))
                name = fresh
            taken.add(name)
            await connection.execute(sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(sql.Identifier(origin, name), sql.Identifier(schema)))
            moved.append(replace(table, name=f"{_quoted(schema)}.{_quoted(name)}"))
    return tuple(moved)


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string()


async def _dump(environment: dict[str, str], schema: str, path: Path, tools: Path | None) -> None:
    pattern = '"' + schema.replace('"', '""') + '"'
    command: list[str | Path] = [program("pg_dump", tools), "--format=custom", "--compress=0", f"--schema={pattern}", f"--file={path}"]
    async with running(command, environment) as process:
        _, said = await process.communicate()
    if process.returncode:
        raise ArchiveError(f"pg_dump: {(said.decode(errors='replace').splitlines() or ['failed'])[-1]}")
