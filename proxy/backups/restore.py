"""Copies come back: in place, into another database, or into a schema beside what is there now.

In place, in one transaction: the tables that differ from their copy are locked against writers, their present state is copied like that of any statement
that destroys, they are dropped with what depends on them, and then whatever is gone (by oid, selection.py) of the tables, of what depends on them
and of what they depend on is made again from the archive: owners, privileges, comments, indexes, foreign keys in both directions, views, triggers,
policies, publications, sequences with their values. Before the commit every table is compared with the copy, and whatever CASCADE took that the archive does not
have is a conflict; then, and on any error, all of it is rolled back.

An oid that is gone while a table with other columns has its name is a conflict as well. One with the same columns is taken for what an earlier restore made
of the copy, and is replaced like any other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, LiteralString

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow

from proxy.backups.archive import Archive, ArchiveError, Entry, Section
from proxy.backups.checksums import NoRowsError, table_checksum
from proxy.backups.model import CopiedTable
from proxy.backups.prove import compare
from proxy.backups.selection import to_restore
from proxy.control import Control

#: A restore may take so long, and each lock that it waits for.
_RUN_S: Final = 24 * 3600.0
_LOCK_S: Final = 30.0

_COPY: Final = re.compile(r'COPY ("(?:[^"]|"")*"|[^."\s]+)\.("(?:[^"]|"")*"|[^."\s]+) (?:\((.*)\))? ?FROM stdin', re.DOTALL)

#: What a person has made, and would miss; what belongs to a table as "… on table".
_WITNESSES: Final[LiteralString] = """
SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_')
UNION ALL
SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid, p.oid, p.oid::pg_catalog.regprocedure::pg_catalog.text FROM pg_catalog.pg_proc p
WHERE p.oid OPERATOR(pg_catalog.>=) 16384
UNION ALL
SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass::pg_catalog.oid, oid, pg_catalog.format('%I on %s', conname, conrelid::pg_catalog.regclass)
FROM pg_catalog.pg_constraint WHERE contype OPERATOR(pg_catalog.=) 'f' AND conparentid OPERATOR(pg_catalog.=) 0
UNION ALL
SELECT 'pg_catalog.pg_trigger'::pg_catalog.regclass::pg_catalog.oid, oid, pg_catalog.format('trigger %I on %s', tgname, tgrelid::pg_catalog.regclass)
FROM pg_catalog.pg_trigger WHERE NOT tgisinternal AND tgparentid OPERATOR(pg_catalog.=) 0
UNION ALL
SELECT 'pg_catalog.pg_policy'::pg_catalog.regclass::pg_catalog.oid, oid, pg_catalog.format('policy %I on %s', polname, polrelid::pg_catalog.regclass)
FROM pg_catalog.pg_policy
UNION ALL
SELECT 'pg_catalog.pg_rewrite'::pg_catalog.regclass::pg_catalog.oid, oid, pg_catalog.format('rule %I on %s', rulename, ev_class::pg_catalog.regclass)
FROM pg_catalog.pg_rewrite WHERE rulename OPERATOR(pg_catalog.<>) '_RETURN'
"""


_BEFORE_ATTACH: Final = ("INDEX", "CONSTRAINT", "CHECK CONSTRAINT")

#: Objects that have other privileges than a new one has without ALTER DEFAULT PRIVILEGES, which the archive does not expect.
_PRIVILEGES: Final[LiteralString] = """
SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, c.oid, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
    pg_catalog.format('%I.%I', n.nspname, c.relname), pg_catalog.pg_get_userbyid(c.relowner), '',
    ARRAY(SELECT coalesce(r.rolname, '') FROM pg_catalog.aclexplode(c.relacl) a LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) a.grantee)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE c.relacl IS NOT NULL AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.oid OPERATOR(pg_catalog.>=) 16384
AND NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_')
UNION ALL
SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid, p.oid, 'ROUTINE', p.oid::pg_catalog.regprocedure::pg_catalog.text,
    pg_catalog.pg_get_userbyid(p.proowner), 'EXECUTE',
    ARRAY(SELECT coalesce(r.rolname, '') FROM pg_catalog.aclexplode(p.proacl) a LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) a.grantee)
FROM pg_catalog.pg_proc p WHERE p.proacl IS NOT NULL AND p.oid OPERATOR(pg_catalog.>=) 16384
"""


class RestoreError(Exception):
    """It cannot be given back, and nothing was changed. The message is for people."""


@dataclass(frozen=True, slots=True)
class TableNow:
    """A table of the copy, and what is in its place.

    Attributes:
        rows_now: None when it is not there.
        fate: "made again", "replaced", "as in the copy".
    """

    name: str
    rows: int
    rows_now: int | None
    fate: str


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What a restore in place would do.

    Attributes:
        others: how many of each kind besides the tables would be made again, as ("INDEX", 3).
        conflicts: why it cannot be done as things are.
    """

    database: str
    tables: tuple[TableNow, ...]
    others: tuple[tuple[str, int], ...] = ()
    conflicts: tuple[str, ...] = ()

    @property
    def does_nothing(self) -> bool:
        return not self.others and all(t.fate == "as in the copy" for t in self.tables)

    @property
    def replaced(self) -> tuple[str, ...]:
        return tuple(t.name for t in self.tables if t.fate == "replaced")

    def script(self) -> str:
        """For people; the archive has the rest."""
        lines = [f"-- restore in place, from the copy; database {_comment(self.database)}"]
        for table in self.tables:
            now = "is not there" if table.rows_now is None else f"has {table.rows_now:,} rows now"
            lines.append(f"-- {_comment(table.name)} {now}; {table.fate}: {table.rows:,} rows")
        lines += [f"-- also: {count} × {kind}" for kind, count in self.others]
        lines += [f"DROP TABLE {', '.join(self.replaced)} CASCADE;"] if self.replaced else []
        return "\n".join([*lines, "-- then pg_restore of what is gone; compared with the copy before the commit"])


def _comment(text: str) -> str:
    return " ".join(text.split())


class InPlace:
    """One copy, to be restored where it was taken. Methods raise RestoreError, ArchiveError, ControlError or psycopg.Error."""

    def __init__(
        self, control: Control, database: str, archive: Archive, tables: Iterable[CopiedTable], *, everything: bool = False
    ) -> None:
        self._control = control
        self._database = database
        self._archive = archive
        self._tables = tuple(replace(t, name=canonical(t.name)) for t in tables)
        self._everything = everything

    async def plan(self) -> RestorePlan:
        """Look, and change nothing."""
        entries, seeds = await self._seeds()
        async with self._control.connection(self._database, statement_timeout_s=_RUN_S) as connection:
            now, replaced = await self._now(connection, seeds)
            existing = await _existing(connection, entries)
            replaced_ids = {seeds[name].table for name in replaced if name in seeds}
            gone = self._chosen(entries, seeds, now, existing, replaced_ids)
            conflicts = _conflicts(now)
        kinds = Counter(e.kind for e in gone if e.kind not in ("TABLE", "TABLE DATA", "ACL", "COMMENT"))
        return RestorePlan(self._database, now, tuple(sorted(kinds.items())), tuple(conflicts))

    async def run(self, protect: Callable[[str], Awaitable[object]], progress: Callable[[str], None]) -> str:
        """Do it. `protect` is awaited with the SQL that destroys, when the tables are locked and before anything is changed."""
        entries, seeds = await self._seeds()
        async with (
            self._control.connection(self._database, statement_timeout_s=_RUN_S, lock_timeout_s=_LOCK_S, read_only=False) as connection,
            connection.transaction(),
        ):
            await self._lock(connection)
            now, replaced = await self._now(connection, seeds)
            if conflicts := _conflicts(now):
                raise RestoreError("; ".join(conflicts))
            drop = f"DROP TABLE {', '.join(replaced)} CASCADE" if replaced else ""
            await protect(drop)
            before = await _witnesses(connection)
            if replaced:
                await connection.execute(drop.encode())
            existing = await _existing(connection, entries)
            chosen = self._chosen(entries, seeds, now, existing)
            if not chosen:
                return "nothing to do: all is as in the copy"
            await self._make(connection, chosen, before, progress)
            self._nothing_else_lost(before, await _witnesses(connection))
            await self._no_empty_tables(connection, before)
            if problems := await compare(connection, self._tables, progress):
                raise RestoreError(f"rolled back: what came back is not what was copied: {problems[0]}")
        made = [t for t in now if t.fate != "as in the copy"]
        rows = sum(t.rows for t in made)
        return f"restored: {len(made):,} tables, {rows:,} rows, {len(chosen):,} objects; equal to the copy"

    def _chosen(
        self,
        entries: tuple[Entry, ...],
        seeds: Mapping[str, _Seed],
        now: Iterable[TableNow],
        existing: set[tuple[int, int]],
        replaced: Iterable[int] = (),
    ) -> tuple[Entry, ...]:
        """What is to be made. `replaced`: ids of tables that will be gone then."""
        # An earlier restore made these, under other oids.
        again = {seeds[t.name].table for t in now if t.fate == "as in the copy" and (1259, seeds[t.name].rows.oid) not in existing}
        going = set(replaced)
        return to_restore(
            entries,
            lambda e: e.id in going or ((e.catalog, e.oid) not in existing and e.id not in again),
            {s.table for s in seeds.values()} - again,
            everything=self._everything,
        )

    async def _seeds(self) -> tuple[tuple[Entry, ...], dict[str, _Seed]]:
        """The archive's entries, and those of rows by the name of their table."""
        entries = await self._archive.entries()
        seeds: dict[str, _Seed] = {}
        wanted = {t.name for t in self._tables}
        for entry in entries:
            if entry.kind == "TABLE DATA" and entry.depends:
                async with self._archive.head(entry) as statement:
                    name, columns = read_copy(statement)
                if name in wanted:
                    seeds[name] = _Seed(name, columns, entry)
        if missing := [t.name for t in self._tables if t.rows and t.name not in seeds]:
            raise RestoreError(f"the archive has no rows of {missing[0]}")
        return entries, seeds

    async def _lock(self, connection: AsyncConnection[TupleRow]) -> None:
        """Against writers; pg_dump, which copies the present state, passes."""
        for table in self._tables:
            found = await (await connection.execute("SELECT pg_catalog.to_regclass(%s)", (table.name,))).fetchone()
            if found is not None and found[0] is not None:
                with suppress(psycopg.errors.WrongObjectType):
                    async with connection.transaction():
                        await connection.execute(f"LOCK TABLE ONLY {table.name} IN SHARE ROW EXCLUSIVE MODE".encode())

    async def _now(self, connection: AsyncConnection[TupleRow], seeds: Mapping[str, _Seed]) -> tuple[tuple[TableNow, ...], list[str]]:
        """Each table's state; and those that are to be dropped, so that they can be made again."""
        states: list[TableNow] = []
        replaced: dict[str, None] = {}
        for table in self._tables:
            if table.name not in seeds:
                continue  # a partitioned table, or a sequence: it comes with what it belongs to
            seed = seeds[table.name]
            name_now = await _name_of(connection, seed.rows.oid)
            if name_now is not None and name_now != table.name:
                raise RestoreError(f"{table.name} was renamed to {name_now} since the copy: rename it back, or restore into a schema")
            if name_now is None:
                states.append(found := await self._in_its_place(connection, table, seed))
                if found.fate == "replaced":
                    replaced[table.name] = None
                continue
            rows, checksum = await table_checksum(connection, seed.rows.oid)
            has_same_shape = await self._has_same_shape(connection, seed, seed.rows.oid)
            if (rows, checksum) == (table.rows, table.checksum) and has_same_shape:
                states.append(TableNow(table.name, table.rows, rows, "as in the copy"))
                continue
            states.append(TableNow(table.name, table.rows, rows, "replaced"))
            replaced[table.name] = None
            if not has_same_shape:
                # A partition has the columns of its table, which must be made again, too.
                replaced.update(dict.fromkeys(await self._partitioned(connection, seed.table)))
        return tuple(states), list(replaced)

    async def _in_its_place(self, connection: AsyncConnection[TupleRow], table: CopiedTable, seed: _Seed) -> TableNow:
        """Of a table that is gone: whatever has its name now. That may be what an earlier restore made of the copy."""
        found = await (await connection.execute("SELECT pg_catalog.to_regclass(%s)::pg_catalog.oid", (table.name,))).fetchone()
        if found is None or found[0] is None:
            return TableNow(table.name, table.rows, None, "made again")
        with suppress(NoRowsError):
            rows, checksum = await table_checksum(connection, found[0])
            has_same_shape = await self._has_same_shape(connection, seed, found[0])
            is_equal = has_same_shape and (rows, checksum) == (table.rows, table.checksum)
            return TableNow(table.name, table.rows, rows, "as in the copy" if is_equal else "replaced" if has_same_shape else "made again")
        return TableNow(table.name, table.rows, 0, "made again")

    async def _partitioned(self, connection: AsyncConnection[TupleRow], table: int) -> list[str]:
        """The tables that it is a partition of, in the archive, where they are still there."""
        entries = await self._archive.entries()
        parents = {e.depends[0]: e.depends[1] for e in entries if e.kind == "TABLE ATTACH" and len(e.depends) > 1}
        oids = {e.id: e.oid for e in entries if e.kind == "TABLE"}
        found: list[str] = []
        while table in parents:
            table = parents[table]
            if (name := await _name_of(connection, oids.get(table, 0))) is not None:
                found.append(name)
        return found

    async def _has_same_shape(self, connection: AsyncConnection[TupleRow], seed: _Seed, oid: int) -> bool:
        """Whether its columns have the names and types of the copy: a type may change and the text of its values not."""
        cursor = await connection.execute(
            "SELECT pg_catalog.quote_ident(attname), pg_catalog.format_type(atttypid, atttypmod), attgenerated OPERATOR(pg_catalog.=) '' "
            "FROM pg_catalog.pg_attribute "
            "WHERE attrelid OPERATOR(pg_catalog.=) %s AND attnum OPERATOR(pg_catalog.>) 0 AND NOT attisdropped ORDER BY attnum",
            (oid,),
        )
        columns = await cursor.fetchall()
        if sorted(name for name, _, has_rows in columns if has_rows) != sorted(_split(seed.columns)):
            return False
        definition = await self._archive.script([e for e in await self._archive.entries() if e.id == seed.table])
        # Inherited columns are not in it.
        return all(f"    {name} {kind}" in definition or f"    {name} " not in definition for name, kind, _ in columns)

    def _nothing_else_lost(self, before: dict[tuple[int, int], str], after: dict[tuple[int, int], str]) -> None:
        """Raises RestoreError for what CASCADE took and the archive does not have."""
        copied = {t.name for t in self._tables}
        lost = sorted(name for name in set(before.values()) - set(after.values()) if not _comes_with(name, copied))
        if lost:
            more = f", and {len(lost) - 5} more" if len(lost) > 5 else ""
            raise RestoreError(
                f"rolled back: made since the copy, and lost with the tables that are replaced: {', '.join(lost[:5])}{more}; "
                "drop them first, or restore into a schema"
            )

    async def _no_empty_tables(self, connection: AsyncConnection[TupleRow], before: dict[tuple[int, int], str]) -> None:
        """Raises RestoreError where a table was made whose rows the archive does not have."""
        copied = {t.name for t in self._tables}
        cursor = await connection.execute(
            "SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c "
            "JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace "
            "WHERE c.relkind OPERATOR(pg_catalog.=) 'r' AND NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_')"
        )
        old = {oid for _, oid in before}
        for oid, name in await cursor.fetchall():
            if oid not in old and canonical(name) not in copied:
                raise RestoreError(
                    f"rolled back: {name} is gone as well, and the copy has no rows of it; restore it from another copy first"
                )

    async def _make(
        self,
        connection: AsyncConnection[TupleRow],
        chosen: tuple[Entry, ...],
        before: dict[tuple[int, int], str],
        progress: Callable[[str], None],
    ) -> None:
        """In the archive's order, but that partitions are attached when their indexes are there: the index of a table that is still there would
        make them a second time."""
        script = self._archive.script
        progress("restoring: definitions")
        await _execute(connection, await script(e for e in chosen if e.section is Section.PRE_DATA and e.kind != "TABLE ATTACH"))
        await _reset_privileges(connection, before)
        with_rows = [e for e in chosen if e.kind == "TABLE DATA"]
        for number, entry in enumerate(with_rows, 1):
            progress(f"restoring: rows of table {number:,} of {len(with_rows):,}")
            async with (
                self._archive.rows(entry) as (statement, pieces),
                connection.cursor() as cursor,
                cursor.copy(statement.encode()) as copy,
            ):
                async for piece in pieces:
                    await copy.write(piece)
        await _execute(connection, await script(e for e in chosen if e.kind == "SEQUENCE SET"))
        progress("restoring: indexes, constraints and what depends on them")
        await _execute(connection, await script(e for e in chosen if e.kind in _BEFORE_ATTACH))
        await _execute(connection, await script(e for e in chosen if e.kind == "TABLE ATTACH"))
        rest = [e for e in chosen if e.section is Section.POST_DATA and e.kind not in (*_BEFORE_ATTACH, "MATERIALIZED VIEW DATA")]
        await _execute(connection, await script(rest))
        await _refresh(connection, before)


def _conflicts(now: Iterable[TableNow]) -> list[str]:
    return [
        f"{t.name} is there, and is not the one of the copy: rename it, or restore into a schema"
        for t in now
        if t.fate == "made again" and t.rows_now is not None
    ]


def _comes_with(name: str, tables: set[str]) -> bool:
    """Something of a table that is replaced: an index, a trigger or a policy that was made since the copy goes with it, as the table becomes what it was."""
    _, found, table = name.rpartition(" on ")
    with suppress(RestoreError):
        return bool(found) and canonical(table) in tables
    return False


async def _execute(connection: AsyncConnection[TupleRow], script: str) -> None:
    if script:
        await connection.execute(script.encode())


async def _reset_privileges(connection: AsyncConnection[TupleRow], before: dict[tuple[int, int], str]) -> None:
    """Of what was made: as if there were no ALTER DEFAULT PRIVILEGES; the archive's own follow."""
    for catalog, oid, kind, name, owner, of_all, grantees in await (await connection.execute(_PRIVILEGES)).fetchall():
        if (catalog, oid) in before:
            continue
        what = f"{kind} {name}"  # both are quoted by the server
        for grantee in {*grantees, owner}:
            whom = sql.Identifier(grantee).as_string() if grantee else "PUBLIC"
            await connection.execute(f"REVOKE ALL ON {what} FROM {whom}".encode())
        await connection.execute(f"GRANT ALL ON {what} TO {sql.Identifier(owner).as_string()}".encode())
        if of_all:
            await connection.execute(f"GRANT {of_all} ON {what} TO PUBLIC".encode())


async def _refresh(connection: AsyncConnection[TupleRow], before: dict[tuple[int, int], str]) -> None:
    """Materialized views that were made again, oldest first: a later one may read an earlier one."""
    cursor = await connection.execute(
        "SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c "
        "JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace "
        "WHERE c.relkind OPERATOR(pg_catalog.=) 'm' AND NOT c.relispopulated ORDER BY c.oid"
    )
    old = {oid for _, oid in before}
    for oid, name in await cursor.fetchall():
        if oid not in old:
            await connection.execute(f"REFRESH MATERIALIZED VIEW {name}".encode())


async def _existing(connection: AsyncConnection[TupleRow], entries: Iterable[Entry]) -> set[tuple[int, int]]:
    """Which of the entries' objects exist, as (catalog, oid)."""
    by_catalog: dict[int, list[int]] = {}
    for entry in entries:
        if entry.catalog and entry.oid:
            by_catalog.setdefault(entry.catalog, []).append(entry.oid)
    found: set[tuple[int, int]] = set()
    for catalog, oids in by_catalog.items():
        named = await (
            await connection.execute(
                "SELECT relname FROM pg_catalog.pg_class WHERE oid OPERATOR(pg_catalog.=) %s::pg_catalog.oid AND oid OPERATOR(pg_catalog.<) 16384",
                (catalog,),
            )
        ).fetchone()
        if named is None:
            raise RestoreError(f"the archive names a catalog {catalog} that the server does not have")
        if named[0] == "pg_largeobject":
            continue
        query = sql.SQL("SELECT oid FROM pg_catalog.{} WHERE oid OPERATOR(pg_catalog.=) ANY (%s::pg_catalog.oid[])").format(
            sql.Identifier(named[0])
        )
        found.update((catalog, row[0]) for row in await (await connection.execute(query, (oids,))).fetchall())
    return found


async def _name_of(connection: AsyncConnection[TupleRow], oid: int) -> str | None:
    """Of a relation, qualified and quoted; None when it is gone."""
    cursor = await connection.execute(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c "
        "JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace WHERE c.oid OPERATOR(pg_catalog.=) %s",
        (oid,),
    )
    row = await cursor.fetchone()
    return None if row is None else sql.Identifier(*row).as_string()


def _split(columns: str) -> list[str]:
    return re.findall(r'"(?:[^"]|"")*"|[^",\s]+', columns)


async def _witnesses(connection: AsyncConnection[TupleRow]) -> dict[tuple[int, int], str]:
    return {(catalog, oid): name for catalog, oid, name in await (await connection.execute(_WITNESSES)).fetchall()}


@dataclass(frozen=True, slots=True)
class _Seed:
    """A table with rows in the archive.

    Attributes:
        columns: those of its COPY, quoted, in order.
        rows: the entry of its rows; `table`: the id of its own entry.
    """

    name: str
    columns: str
    rows: Entry

    @property
    def table(self) -> int:
        return self.rows.depends[0]


def read_copy(statement: str) -> tuple[str, str]:
    """The table of a COPY of pg_dump's, qualified and quoted, and its list of columns. Raises ArchiveError."""
    match = _COPY.fullmatch(statement)
    if match is None:
        raise ArchiveError("a COPY of the archive names no table")
    return canonical(f"{match[1]}.{match[2]}"), match[3] or ""


def canonical(name: str) -> str:
    """A qualified and quoted name with all quotes, so that two can be compared: who quotes leaves out different ones. Raises RestoreError."""
    return sql.Identifier(*read_name(name)).as_string()


def read_name(name: str) -> tuple[str, str]:
    """Schema and table of a qualified and quoted name. Raises RestoreError."""
    match = re.fullmatch(r'("(?:[^"]|"")*"|[^."]+)\.("(?:[^"]|"")*"|[^."]+)', name, re.DOTALL)
    if match is None:
        raise RestoreError(f"{name} is no qualified name")
    schema, table = (part[1:-1].replace('""', '"') if part.startswith('"') else part for part in match.groups())
    return schema, table
