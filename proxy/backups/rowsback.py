"""Rows put back as a copy has them: what is in the way, and the statements that do it, in one transaction on a connection of our own.

The copy is loaded into a temporary table of the columns' own types. Rows of a DELETE are inserted again; those of an UPDATE are set back, found by
the primary key or another key without NULLs. Each thing that is in the way is a condition over the copy's rows, so that it can be counted, told, and
left out. Keys are compared by the operators of their own index or constraint, values by their text, which every type has.

Triggers fire as for anybody: to switch them off takes a superuser, and what they would do may be wanted.

Whatever can run code of the table's owner (triggers, checks, domains, casts, generated columns) runs as that owner, not as the role of the
connection, which may be a superuser's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, cast

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow, dict_row

from policy.parse import GrammarError, TooDeepError, parse, tree
from proxy.backups.errands import ErrandError
from proxy.backups.softdrop import quoted
from proxy.backups.undoing import Conflict, Conflicts
from proxy.control import first_line

_IMAGE: Final = "pg_temp.pghold_image"


class Mode(Enum):
    """Where the rows of the copy should be now. GONE: a DELETE took them. THERE: an UPDATE changed them. EITHER: nobody can tell."""

    GONE = auto()
    THERE = auto()
    EITHER = auto()


@dataclass(frozen=True, slots=True)
class Image:
    """Rows as they were.

    Attributes:
        relation: where they belong, qualified and quoted.
        columns: of the copy, in order, behind the first (the relation that a row was found in); None: those that the table has now.
        rows: how many; None where nobody knows.
        changed: the columns that the statement set; None where that is not known.
        read: the rows in COPY's text format, in pieces.
    """

    relation: str
    columns: tuple[str, ...] | None
    rows: int | None
    mode: Mode
    changed: frozenset[str] | None
    read: Callable[[], Iterator[bytes]]


def mode_of(script: str) -> tuple[Mode, frozenset[str] | None]:
    """What a script did with the rows that were copied, and which columns it set."""
    unknown = (Mode.EITHER, None)
    try:
        statements = tree(parse(script.encode()))
    except (GrammarError, TooDeepError, ValueError):
        return unknown
    nodes = [cast("dict[str, Any]", s.get("stmt") or {}) for s in statements]  # any: libpg_query's JSON
    changing = [n for n in nodes if not n.keys() & {"TransactionStmt", "VariableSetStmt", "SelectStmt"}]
    if len(changing) != 1:
        return unknown
    [(tag, fields)] = changing[0].items()
    if tag == "DeleteStmt":
        return Mode.GONE, None
    if tag == "UpdateStmt" and (targets := fields.get("targetList")):
        names = [t.get("ResTarget", {}).get("name") for t in targets]
        return Mode.THERE, frozenset(names) if all(names) else None
    return unknown


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    is_generated: bool
    is_always: bool  # GENERATED ALWAYS AS IDENTITY


@dataclass(frozen=True, slots=True)
class Index:
    """A unique index of plain columns, with the operator for each that finds equal values."""

    name: str
    columns: tuple[str, ...]
    operators: tuple[str, ...]
    is_key: bool  # none of them can be NULL

    def match(self, left: str, right: str) -> str:
        return " AND ".join(f"{left}.{quoted(c)} {o} {right}.{quoted(c)}" for c, o in zip(self.columns, self.operators, strict=True))


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key of the table."""

    name: str
    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    operators: tuple[str, ...]
    to_itself: bool

    def match(self, parent: str, row: str) -> str:
        return " AND ".join(
            f"{parent}.{quoted(p)} {o} {row}.{quoted(c)}" for p, o, c in zip(self.parent_columns, self.operators, self.columns, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A conflict, and which rows of the copy (as i) it is about; empty: not about rows."""

    conflict: Conflict
    condition: str = ""


class RowsBack:
    """One undo of rows, in a transaction that its owner has begun and will end."""

    def __init__(self, connection: AsyncConnection[TupleRow], image: Image) -> None:
        self._connection = connection
        self._image = image
        self.relation = image.relation
        self.notes: list[str] = []
        self.obstacles: list[Obstacle] = []
        self.rows = 0
        self.oid = 0
        self.present_columns: tuple[str, ...] = ()
        self._columns: tuple[Column, ...] = ()
        self._key: Index | None = None
        self._skip = ""
        self._own_parents: list[str] = []
        self._owner = ""

    # --- looking ------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Load the copy and find what is in the way. Raises ErrandError, psycopg.Error."""
        # As copies are written: what is read back must not depend on the server's settings.
        await self._run(
            "SELECT pg_catalog.set_config('DateStyle', 'ISO', true), pg_catalog.set_config('IntervalStyle', 'postgres', true),"
            " pg_catalog.set_config('extra_float_digits', '1', true)"
        )
        oid = self.oid = await self._table()
        await self._load(oid)
        if any(not o.condition for o in self.obstacles):
            return
        indexes = [i for i in await self._indexes(oid) if set(i.columns) <= self._copied]
        self._key = next((i for i in indexes if i.is_key), None)
        self._check_key()
        found = [*self._key_obstacles(), *await self._changes(), *self._unique(indexes), *await self._parents(oid)]
        for conflict, condition in found:
            count = await self._count_as_owner(condition) if conflict.kind == "changed" else await self._count(condition)
            if count:
                told = Conflict(conflict.kind, count, conflict.text.format(n=_rows(count)), conflict.may_skip, conflict.may_overwrite)
                self.obstacles.append(Obstacle(told, condition))
        await self._note_triggers(oid)

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        return tuple(o.conflict for o in self.obstacles)

    @property
    def _copied(self) -> set[str]:
        return {c.name for c in self._columns}

    async def _table(self) -> int:
        row = await self._one("SELECT pg_catalog.to_regclass(%s)::pg_catalog.oid::int8 AS oid", self.relation)
        if row["oid"] is None:
            raise ErrandError(f"{self.relation} is not there any more: `pghold restore` can put the copy elsewhere")
        oid = int(row["oid"])
        row = await self._one(
            "SELECT relkind::text AS kind, pg_catalog.pg_get_userbyid(c.relowner) AS owner, pg_catalog.pg_has_role(c.relowner, 'MEMBER') AS may_be,"
            " EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhparent = c.oid) AS has_children"
            " FROM pg_catalog.pg_class c WHERE c.oid = %s",
            oid,
        )
        if row["kind"] not in ("r", "p"):
            raise ErrandError(f"{self.relation} is no table any more")
        # Who may not become the owner has no powers that the owner's code could abuse beyond those that he gave this role.
        self._owner = str(row["owner"]) if row["may_be"] else ""
        self._inherits = row["kind"] == "r" and bool(row["has_children"])
        return oid

    async def _load(self, oid: int) -> None:
        present = await self._all(
            "SELECT attname AS name, attgenerated <> '' AS generated, attidentity = 'a' AS always FROM pg_catalog.pg_attribute"
            " WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            oid,
        )
        names = [str(p["name"]) for p in present]
        self.present_columns = tuple(names)
        wanted = list(self._image.columns) if self._image.columns is not None else names
        if gone := [c for c in wanted if c not in names]:
            self._blocked(f"{self.relation} has no column {', '.join(map(quoted, gone))} any more")
            return
        self._columns = tuple(Column(str(p["name"]), bool(p["generated"]), bool(p["always"])) for p in present if str(p["name"]) in wanted)
        if new := [c for c in names if c not in wanted]:
            self.notes.append(f"columns that the copy does not have are left alone, or get their defaults: {', '.join(new)}")
        origin, self._skip = (_free(name, names) for name in ("pghold_origin", "pghold_skip"))
        listed = ", ".join(f"t.{quoted(c)}" for c in wanted)
        await self._run(
            f"CREATE TEMPORARY TABLE {_IMAGE} ON COMMIT DROP AS"
            f" SELECT NULL::pg_catalog.text AS {quoted(origin)}, {listed}, false AS {quoted(self._skip)} FROM {self.relation} t WITH NO DATA"
        )
        await self._run(f"ALTER TABLE {_IMAGE} ALTER COLUMN {quoted(self._skip)} SET DEFAULT false")
        if self._owner:
            await self._run(f"GRANT SELECT, INSERT, UPDATE ON {_IMAGE} TO {quoted(self._owner)}")
        into = ", ".join(map(quoted, [origin, *wanted]))
        try:
            async with (
                self._connection.transaction(),
                self._as_owner(),
                self._connection.cursor() as cursor,
                cursor.copy(f"COPY {_IMAGE} ({into}) FROM STDIN".encode()) as copy,
            ):
                for piece in self._image.read():
                    await copy.write(piece)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            self._blocked(f"the rows of the copy do not fit {self.relation} any more: {first_line(error)}")
            return
        self.rows = await self._count("true")
        if self._image.rows is not None and self.rows != self._image.rows:
            raise ErrandError(f"the copy should have {self._image.rows} rows, and has {self.rows}: nothing was done")
        if self._inherits and (await self._one(f"SELECT pg_catalog.count(DISTINCT {quoted(origin)}) AS n FROM {_IMAGE}"))["n"] > 1:
            raise ErrandError(
                f"the rows come from several tables that inherit from {self.relation}: `pghold restore` can put the copy elsewhere"
            )
        # What the planner should know of it.
        await self._run(f"ANALYZE {_IMAGE}")

    def _blocked(self, text: str) -> None:
        self.obstacles.append(Obstacle(Conflict("columns", 0, text, may_skip=False)))

    async def _indexes(self, oid: int) -> list[Index]:
        """Unique ones of plain columns; the primary key first, then other keys."""
        found = await self._all(
            """SELECT c.relname AS name, pg_catalog.array_agg(a.attname::text ORDER BY k.n) AS columns,
                pg_catalog.array_agg(pg_catalog.format('OPERATOR(%%I.%%s)', n.nspname, o.oprname) ORDER BY k.n) AS operators,
                pg_catalog.bool_and(a.attnotnull) AND i.indimmediate AS is_key
            FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
            CROSS JOIN LATERAL pg_catalog.generate_series(0, i.indnkeyatts - 1) AS k(n)
            JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.n]
            JOIN pg_catalog.pg_opclass p ON p.oid = i.indclass[k.n]
            JOIN pg_catalog.pg_amop m ON m.amopfamily = p.opcfamily AND m.amopstrategy = 3
                AND m.amoplefttype = p.opcintype AND m.amoprighttype = p.opcintype
            JOIN pg_catalog.pg_operator o ON o.oid = m.amopopr JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
            JOIN pg_catalog.pg_am x ON x.oid = c.relam AND x.amname = 'btree'
            WHERE i.indrelid = %s AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
            GROUP BY c.relname, i.indexrelid, i.indisprimary, i.indimmediate, i.indnkeyatts HAVING pg_catalog.count(*) = i.indnkeyatts
            ORDER BY i.indisprimary DESC, is_key DESC, i.indexrelid""",
            oid,
        )
        return [Index(str(f["name"]), tuple(f["columns"]), tuple(f["operators"]), bool(f["is_key"])) for f in found]

    def _check_key(self) -> None:
        mode, changed, key = self._image.mode, self._image.changed, self._key
        if key is None and mode is not Mode.GONE:
            raise ErrandError(
                f"{self.relation} has no key by which its rows could be found again: `pghold restore` can put the copy beside it"
            )
        if key is None:
            self.notes.append(f"{self.relation} has no key: whether some of the rows are there again cannot be told")
        elif changed is not None and changed & set(key.columns):
            raise ErrandError(
                f"the statement changed the key of {self.relation}, so that its rows cannot be found again: `pghold restore` can put the copy beside it"
            )
        if mode is Mode.EITHER:
            self.notes.append("rows that are there are set back, others inserted; whether they changed since cannot be told")
            self.notes.append("rows that the statement inserted are not taken away")
        elif mode is Mode.THERE and changed is None:
            self.notes.append("whether the rows changed since cannot be told")

    def _key_obstacles(self) -> Iterator[tuple[Conflict, str]]:
        if self._key is None:
            return
        if self._image.mode is Mode.GONE:
            yield Conflict("exists", 0, "{n} are there again, by their key", may_overwrite=True), self._is_there
        if self._image.mode is Mode.THERE:
            yield Conflict("deleted", 0, "{n} have been deleted since", may_overwrite=True), f"NOT {self._is_there}"

    @property
    def _is_there(self) -> str:
        if self._key is None:
            return "(false)"
        return f"EXISTS (SELECT FROM {self.relation} t WHERE {self._key.match('t', 'i')})"

    async def _changes(self) -> list[tuple[Conflict, str]]:
        """Rows that somebody else changed since: in columns that the statement did not set."""
        changed, key = self._image.changed, self._key
        if self._image.mode is not Mode.THERE or changed is None or key is None:
            return []
        found = []
        for column in self._columns:
            name = quoted(column.name)
            if column.is_generated or column.name in changed or column.name in key.columns:
                continue
            condition = (
                f"EXISTS (SELECT FROM {self.relation} t WHERE {key.match('t', 'i')}"
                f" AND t.{name}::pg_catalog.text IS DISTINCT FROM i.{name}::pg_catalog.text)"
            )
            text = f"{{n}} have another {_safe(name)} since, which the statement did not set"
            found.append((Conflict("changed", 0, text, may_overwrite=True), condition))
        return found

    def _unique(self, indexes: Iterable[Index]) -> Iterator[tuple[Conflict, str]]:
        key = self._key
        for index in indexes:
            if index == key:
                continue
            # Rows that are set back themselves give their values free.
            mine = f" AND NOT EXISTS (SELECT FROM {_IMAGE} j WHERE {key.match('t', 'j')})" if key is not None else ""
            condition = f"EXISTS (SELECT FROM {self.relation} t WHERE {index.match('t', 'i')}{mine})"
            yield Conflict("unique", 0, f"for {{n}} another row has the same {_safe(', '.join(map(quoted, index.columns)))}"), condition

    async def _parents(self, oid: int) -> list[tuple[Conflict, str]]:
        found = await self._all(
            """SELECT k.conname AS name, pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS parent, k.confrelid = k.conrelid AS itself,
                pg_catalog.array_agg(a.attname::text ORDER BY o.n) AS columns, pg_catalog.array_agg(b.attname::text ORDER BY o.n) AS parent_columns,
                pg_catalog.array_agg(pg_catalog.format('OPERATOR(%%I.%%s)', e.nspname, p.oprname) ORDER BY o.n) AS operators
            FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.confrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(k.conkey), pg_catalog.unnest(k.confkey), pg_catalog.unnest(k.conpfeqop)) WITH ORDINALITY AS o(child, parent, operator, n)
            JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = o.child
            JOIN pg_catalog.pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = o.parent
            JOIN pg_catalog.pg_operator p ON p.oid = o.operator JOIN pg_catalog.pg_namespace e ON e.oid = p.oprnamespace
            WHERE k.conrelid = %s AND k.contype = 'f'
            GROUP BY k.oid, k.conname, n.nspname, c.relname, k.confrelid, k.conrelid ORDER BY k.conname""",
            oid,
        )
        told = []
        for f in found:
            reference = Reference(
                str(f["name"]), tuple(f["columns"]), str(f["parent"]), tuple(f["parent_columns"]), tuple(f["operators"]), bool(f["itself"])
            )
            if not set(reference.columns) <= self._copied or (reference.to_itself and not set(reference.parent_columns) <= self._copied):
                continue
            given = " AND ".join(f"i.{quoted(c)} IS NOT NULL" for c in reference.columns)
            condition = f"({given} AND NOT EXISTS (SELECT FROM {reference.parent} p WHERE {reference.match('p', 'i')})"
            if reference.to_itself:
                condition += f" AND NOT EXISTS (SELECT FROM {_IMAGE} p WHERE {reference.match('p', 'i')} AND NOT p.{quoted(self._skip)})"
            text = f"{{n}} refer to rows of {_safe(reference.parent)} that are not there (foreign key {_safe(reference.name)})"
            told.append((Conflict("parent", 0, text), condition + ")"))
            if reference.to_itself:
                self._own_parents.append(condition + ")")
        return told

    async def _note_triggers(self, oid: int) -> None:
        rows = await self._all(
            "SELECT tgname FROM pg_catalog.pg_trigger WHERE tgrelid = %s AND NOT tgisinternal AND tgenabled IN ('O', 'A') ORDER BY tgname",
            oid,
        )
        if rows:
            self.notes.append(f"its triggers fire as for anybody: {', '.join(str(r['tgname']) for r in rows)}")
        taken = await self._all(
            "SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS name FROM pg_catalog.pg_constraint k"
            " JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " WHERE k.confrelid = %s AND k.contype = 'f' AND k.confdeltype IN ('c', 'n', 'd') AND k.conparentid = 0",
            oid,
        )
        if taken and self._image.mode is Mode.GONE:
            names = ", ".join(sorted({str(t["name"]) for t in taken}))
            self.notes.append(f"what went from {names} by ON DELETE with these rows is not in this copy")

    # --- doing --------------------------------------------------------------------------------------------------

    async def leave_out(self) -> int:
        """Mark the rows that something is in the way of; return how many are left out."""
        while True:
            marked = 0
            for kind, condition in (*((o.conflict.kind, o.condition) for o in self.obstacles), *(("parent", c) for c in self._own_parents)):
                mark = f"UPDATE {_IMAGE} i SET {quoted(self._skip)} = true WHERE NOT i.{quoted(self._skip)} AND {condition}"
                if kind == "changed":
                    async with self._as_owner():
                        marked += (await self._run(mark)).rowcount
                else:
                    marked += (await self._run(mark)).rowcount
            if not marked:
                # Rows that refer to one that was left out are left out in turn.
                return await self._count(f"i.{quoted(self._skip)}")

    async def lock(self) -> int:
        """Lock the rows that are there and will be set back; how many they are."""
        if self._key is None:
            return 0
        row = await self._one(
            f"SELECT pg_catalog.count(*) AS n FROM (SELECT FROM {self.relation} t WHERE {self._is_chosen} FOR UPDATE OF t) locked"
        )
        return int(row["n"])

    @property
    def _is_chosen(self) -> str:
        assert self._key is not None
        return f"EXISTS (SELECT FROM {_IMAGE} i WHERE {self._key.match('t', 'i')} AND NOT i.{quoted(self._skip)})"

    @property
    def present_query(self) -> str:
        """The rows that will be set back as they are now, in the form in which copies have them: the relation, then `present_columns`."""
        listed = ", ".join(f"t.{quoted(c)}" for c in self.present_columns)
        return f"SELECT t.tableoid::pg_catalog.regclass, {listed} FROM {self.relation} t WHERE {self._is_chosen}"

    async def present(self) -> AsyncIterator[bytes]:
        """Those rows, in COPY's text format."""
        async with self._connection.cursor() as cursor, cursor.copy(f"COPY ({self.present_query}) TO STDOUT".encode()) as copy:
            async for piece in copy:
                yield bytes(piece)

    @property
    def update_sql(self) -> str:
        """Empty when there is nothing to set."""
        key = self._key
        if key is None:
            return ""
        columns = [quoted(c.name) for c in self._columns if not c.is_generated and not c.is_always and c.name not in key.columns]
        if not columns:
            return ""
        sets = ", ".join(f"{c} = i.{c}" for c in columns)
        return f"UPDATE {self.relation} t SET {sets} FROM {_IMAGE} i WHERE {key.match('t', 'i')} AND NOT i.{quoted(self._skip)}"

    @property
    def insert_sql(self) -> str:
        columns = [quoted(c.name) for c in self._columns if not c.is_generated]
        chosen = ", ".join(f"i.{c}" for c in columns)
        return (
            f"INSERT INTO {self.relation} ({', '.join(columns)}) OVERRIDING SYSTEM VALUE SELECT {chosen} FROM {_IMAGE} i"
            f" WHERE NOT {self._is_there} AND NOT i.{quoted(self._skip)}"
        )

    async def put_back(self, there: int, left_out: int) -> tuple[int, int]:
        """Insert what is gone, set back the `there` rows that are there; (inserted, set). Raises ErrandError when the counts are others."""
        sets, inserts = there > 0 and bool(self.update_sql), there + left_out < self.rows
        async with self._as_owner():
            row = await self._one(self.both_sql(sets=sets, inserts=inserts))
            # Deferred triggers are the owner's code, too, and would run as whoever commits.
            await self._run("SET CONSTRAINTS ALL IMMEDIATE")
        inserted, updated = int(row["inserted"]), int(row["updated"]) if sets else there
        if updated != there or inserted + updated + left_out != self.rows:
            raise ErrandError(
                f"{self.rows - left_out} rows should have been put back, and {inserted + updated} were (a trigger or rule may do that): nothing was changed"
            )
        return inserted, updated

    def script(self, conflicts: Conflicts) -> str:
        """What runs, for people."""
        left = " without those that something is in the way of" if conflicts is Conflicts.SKIP and self.obstacles else ""
        mode, kinds = self._image.mode, {c.kind for c in self.conflicts}
        over = conflicts is Conflicts.OVERWRITE
        sets = mode is not Mode.GONE or ("exists" in kinds and over)
        inserts = mode is not Mode.THERE or ("deleted" in kinds and over)
        return (
            f"-- {_rows(self.rows)} as the copy has them, loaded into {_IMAGE}{left}; one transaction, the counts are checked\n"
            f"{self.both_sql(sets=sets, inserts=inserts)};"
        )

    def both_sql(self, *, sets: bool, inserts: bool) -> str:
        """One statement, so that foreign keys are checked when all rows are there; `inserted` and `updated` are its columns."""
        nothing = "SELECT WHERE false"
        return (
            f"WITH updated AS ({self.update_sql + ' RETURNING 1' if sets and self.update_sql else nothing}),\n"
            f" inserted AS ({self.insert_sql + ' RETURNING 1' if inserts else nothing})\n"
            "SELECT (SELECT pg_catalog.count(*) FROM inserted) AS inserted, (SELECT pg_catalog.count(*) FROM updated) AS updated"
        )

    @asynccontextmanager
    async def _as_owner(self) -> AsyncIterator[None]:
        if not self._owner:
            yield
            return
        await self._run(f"SET LOCAL ROLE {quoted(self._owner)}")
        yield
        # Not where it failed: the transaction, or its savepoint, is rolled back, and the role with it.
        await self._run("SET LOCAL ROLE NONE")

    async def _count_as_owner(self, condition: str) -> int:
        async with self._as_owner():
            return await self._count(condition)

    # --- asking -------------------------------------------------------------------------------------------------

    async def _run(self, query: str) -> psycopg.AsyncCursor[TupleRow]:
        return await self._connection.execute(query.encode())

    async def _all(self, query: str, *values: object) -> list[dict[str, Any]]:  # any: what the catalog's columns hold
        cursor = self._connection.cursor(row_factory=dict_row)
        return await (await cursor.execute(query.encode(), values or None)).fetchall()

    async def _one(self, query: str, *values: object) -> dict[str, Any]:  # any: as above
        return (await self._all(query, *values))[0]

    async def _count(self, condition: str) -> int:
        return int((await self._one(f"SELECT pg_catalog.count(*) AS n FROM {_IMAGE} i WHERE {condition}"))["n"])


def _free(name: str, taken: list[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _safe(name: str) -> str:
    """For str.format."""
    return name.replace("{", "{{").replace("}", "}}")
