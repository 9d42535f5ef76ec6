"""From a script that was approved to a plan of its copy: what it reaches, what is locked, which rows or tables are copied.

The catalog is asked on a connection of pghold's own. It sees what is committed: an object that only the session sees was made in its open
transaction, or is temporary, and nothing committed is lost with it. A table that the session's transaction has locked ACCESS EXCLUSIVE was changed
by it already and cannot be read by anybody else; a statement that would destroy it is refused, unless a copy was taken before in the same transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

import psycopg

from policy.losses import Loss, Lost, losses_of
from policy.preview import Preview, PreviewError, previews
from proxy.backups.model import CopyKind, CopyOrder, CopyPlan, ProtectError
from proxy.backups.reach import (
    Address,
    Connection,
    Table,
    all_tables,
    behind_views,
    dependants,
    fired,
    held_exclusively,
    in_schemas,
    objects_named,
    parts_of,
    quoted,
    referencing,
    relation_addresses,
    relations_named,
    transaction_of,
    truncated,
    volatile_functions,
    with_children,
)
from proxy.control import APPLICATION_NAME, Control, ControlError, first_line

#: Relations that LOCK TABLE takes.
_LOCKABLE: Final = frozenset("rp")
_SHOWN: Final = 5
_LEAVING_TRIES: Final = 10
_LEAVING_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Scope:
    """What a copy has to hold.

    Attributes:
        database: where.
        everything: the rows of all tables.
        oids: the tables whose rows matter.
        large_objects: they matter, whether or not a table refers to them.
        others: a database as a whole, dropped from another one.
        transaction: a name for the session's open transaction; empty when there is none.
        losses: from which this follows.
        columns: of ROWS: the names in the image, behind the relation's.
        changed: of ROWS: what the statement does to them: "DELETE", "UPDATE", "MERGE".
        bytes: what it takes on disk, at the most.
    """

    database: str
    everything: bool = False
    oids: frozenset[int] = frozenset()
    large_objects: bool = False
    others: bool = False
    transaction: str = ""
    losses: tuple[Loss, ...] = ()
    columns: tuple[str, ...] = ()
    changed: str = ""
    bytes: int = 0


@dataclass(slots=True)
class _Found:
    """What the losses of a script come to, as far as they have been looked at."""

    oids: set[int] = field(default_factory=set)
    besides: set[int] = field(default_factory=set)  # of them, those that only foreign keys, triggers and rules reach
    everything: str = ""  # why
    large_objects: bool = False
    definitions: bool = False


class Planner:
    """Makes plans.

    Attributes:
        copied: which relations have a copy already, by the name of the transaction in which it was taken.
    """

    def __init__(self, control: Control, lock_timeout_s: float) -> None:
        self.copied: dict[str, frozenset[int]] = {}
        self._control = control
        self._lock_timeout_s = lock_timeout_s

    async def plan(self, order: CopyOrder) -> CopyPlan:
        """Raises ProtectError."""
        # Off the loop: a long script takes a while to be parsed.
        losses = await asyncio.to_thread(losses_of, order.script, order.judgement)
        if all(x.what is Lost.NOTHING for x in losses):
            return CopyPlan(CopyKind.NONE, "; ".join(dict.fromkeys(x.why for x in losses)) or "the script is empty")
        requester = order.requester
        database = next((parts_of(n)[-1] for x in losses if x.what is Lost.DATABASE for n in x.names), "")
        try:
            if database:
                return await self._database(order, database, losses)
            async with self._control.connection(requester.database, role=requester.role, lock_timeout_s=self._lock_timeout_s) as connection:
                return await self._plan(connection, order, losses)
        except ControlError as error:
            raise ProtectError(f"no copy can be planned: {error}") from None
        except psycopg.Error as error:
            raise ProtectError(f"no copy can be planned: {first_line(error)}") from None

    # --- a database ---------------------------------------------------------------------------------------------

    async def _database(self, order: CopyOrder, database: str, losses: tuple[Loss, ...]) -> CopyPlan:
        if len(losses) > 1 and any(x.what not in (Lost.NOTHING, Lost.DATABASE) for x in losses):
            raise ProtectError("a script that drops a database and something else cannot be copied; send its statements one by one")
        if sum(len(x.names) for x in losses if x.what is Lost.DATABASE) > 1:
            raise ProtectError("a script that drops several databases cannot be copied; send its statements one by one")
        async with self._control.connection(order.requester.database, role=order.requester.role) as connection:
            row = await (
                await connection.execute("SELECT pg_database_size(oid), datallowconn FROM pg_database WHERE datname = %s", (database,))
            ).fetchone()
            if row is None:
                return CopyPlan(CopyKind.NONE, f"there is no database {database}")
            if not row[1]:
                raise ProtectError(f"database {database} allows no connections, so it cannot be copied")
            await refuse_when_used(connection, database)
        scope = Scope(database, everything=True, large_objects=True, others=True, losses=losses, bytes=row[0])
        return CopyPlan(CopyKind.DUMP, f"database {database}, {_size(row[0])}", detail=scope)

    # --- all others ---------------------------------------------------------------------------------------------

    async def _plan(self, connection: Connection, order: CopyOrder, losses: tuple[Loss, ...]) -> CopyPlan:
        tables = await all_tables(connection)
        found = _Found()
        for loss in losses:
            await self._reach(connection, order, loss, tables, found)
        if order.act and order.sight is not None:
            further = {o.oid for o in order.sight.objects if not o.temporary and o.oid in tables} - found.oids
            found.oids |= further
            found.besides |= further
            found.definitions = True
        if not found.oids and not found.everything and not found.large_objects and not found.definitions:
            return CopyPlan(CopyKind.NONE, "nothing that is committed can be lost: what it names is not there, or only this session has it")
        transaction = await transaction_of(connection, order.backend_pid) if order.in_transaction else ""
        own, _ = await held_exclusively(connection, order.backend_pid)
        wanted = set(tables) if found.everything else found.oids & tables.keys()
        before = self.copied.get(transaction, frozenset()) if transaction else frozenset()
        if stuck := sorted(tables[o].name for o in wanted & own - before if tables[o].kind == "r"):
            raise ProtectError(
                f"{_listed(stuck)}: changed by this session's open transaction already, and locked against everybody else,"
                " so what is committed cannot be copied any more; roll back, and send this statement first"
            )
        wanted -= own & before
        if foreign := sorted(tables[o].name for o in found.oids if o in tables and tables[o].kind == "f"):
            raise ProtectError(f"{_listed(foreign)}: the rows of a foreign table lie on another server, and are not copied here")
        # What has run and waits for its commit: everybody else still sees the rows as they were, and it has locked those that it changed.
        if (
            not order.committing
            and not order.act
            and not found.everything
            and (image := await self._image(connection, order, losses, tables, found)) is not None
        ):
            return replace(image, detail=replace(_scope_of(image), transaction=transaction))
        with_rows = [tables[o] for o in wanted if tables[o].kind == "r"]
        size = sum(t.bytes for t in with_rows)
        scope = Scope(
            order.requester.database, bool(found.everything), frozenset(wanted), found.large_objects, False, transaction, losses, bytes=size
        )
        lockable = {o for o in wanted if tables[o].kind in _LOCKABLE}
        # What its role may not change, a statement changes only by foreign keys and by the code of others; and its role may not lock it either.
        unsure = lockable if found.everything else lockable & found.besides
        lockable = lockable - unsure | await _changeable(connection, order.requester.role, unsure)
        locked = () if order.committing else tuple(sorted(lockable))
        lock = tuple(sorted(tables[o].name for o in locked))
        return CopyPlan(CopyKind.DUMP, _why(found, with_rows, size), lock=lock, locked=locked, detail=scope)

    async def _reach(self, connection: Connection, order: CopyOrder, loss: Loss, tables: dict[int, Table], found: _Found) -> None:
        match loss.what:
            case Lost.NOTHING:
                return
            case Lost.DEFINITIONS:
                found.definitions = True
            case Lost.LARGE_OBJECTS:
                found.large_objects = True
            case Lost.UNKNOWN:
                found.everything = found.everything or loss.why
            case Lost.CALLS:
                if volatile := await volatile_functions(connection, loss.names):
                    found.everything = found.everything or f"{volatile[0]}() can change anything"
            case Lost.SCHEMAS:
                addresses, _ = await in_schemas(connection, [parts_of(n)[-1] for n in loss.names])
                dropped = await dependants(connection, addresses, cascade=True)
                found.oids |= dropped
                found.besides -= dropped
                found.definitions = found.large_objects = bool(addresses) or found.definitions
            case Lost.OBJECTS:
                await self._objects(connection, loss, found)
            case Lost.TABLES:
                roots = await self._named(connection, order, loss, tables)
                addresses = await relation_addresses(connection, await with_children(connection, roots) if loss.cascade else roots)
                dropped = await dependants(connection, addresses, cascade=loss.cascade)
                found.oids |= dropped
                found.besides -= dropped
            case Lost.CONTENT | Lost.ROWS:
                roots = await self._named(connection, order, loss, tables)
                await self._content(connection, loss, roots, tables, found)
            case Lost.DATABASE:
                raise ProtectError("a database is copied by itself")

    async def _objects(self, connection: Connection, loss: Loss, found: _Found) -> None:
        found.definitions = True
        addresses: list[Address] | None = await objects_named(connection, loss.kind, loss.names)
        if addresses is None:
            # Rules, triggers, policies, casts: with CASCADE they may take what is not looked up here.
            found.everything = found.everything or loss.why
        else:
            found.oids |= await dependants(connection, addresses, cascade=loss.cascade)

    async def _content(self, connection: Connection, loss: Loss, roots: set[int], tables: dict[int, Table], found: _Found) -> None:
        if not roots:
            return
        reached = named = await with_children(connection, await behind_views(connection, roots))
        if loss.kind == "TRUNCATE":
            if loss.cascade:
                reached = named = await truncated(connection, reached)
        elif loss.kind in ("DELETE", "UPDATE", "INSERT", "MERGE", "MERGE DELETE"):
            reached = reached | await referencing(connection, reached)
        else:
            found.oids |= reached
            return
        while True:
            more, why = await fired(connection, reached, tables)
            if why:
                found.everything = found.everything or why
                break
            grown = reached | await with_children(connection, more)
            grown |= await referencing(connection, grown)
            if grown == reached:
                break
            reached = grown
        found.besides = (found.besides | (reached - named - found.oids)) - named
        found.oids |= reached

    async def _named(self, connection: Connection, order: CopyOrder, loss: Loss, tables: dict[int, Table]) -> set[int]:
        """The committed relations that a loss names."""
        sight = order.sight
        known = sight is not None and not sight.unbound
        found: set[int] = set()
        for name in loss.names:
            seen = [o for o in sight.objects if o.asked == name and o.kind != "schema"] if sight is not None and known else []
            if seen:
                found.update(o.oid for o in seen if not o.temporary and o.oid in tables)
            elif (sight is not None and known and name in sight.missing) or parts_of(name)[-2:-1] == ["pg_temp"]:
                continue
            else:
                if order.in_transaction and not known:
                    own, _ = await held_exclusively(connection, order.backend_pid)
                    if own & tables.keys():
                        # Names may have been given anew in it, and only the session could say.
                        raise ProtectError(
                            "what this statement names cannot be told: the session's open transaction has changed tables, and it could not be asked"
                        )
                found.update(o for o in await relations_named(connection, name) if o in tables)
        return found

    # --- the rows of one statement ------------------------------------------------------------------------------

    async def _image(
        self, connection: Connection, order: CopyOrder, losses: tuple[Loss, ...], tables: dict[int, Table], found: _Found
    ) -> CopyPlan | None:
        """When the script is one filtered DELETE, UPDATE or MERGE and touches nothing else: the rows that it changes."""
        of_rows = [x for x in losses if x.what is Lost.ROWS]
        others = [x for x in losses if x.what not in (Lost.ROWS, Lost.NOTHING, Lost.CALLS)]
        if len(of_rows) != 1 or others or len(order.judgement.statements) != 1:
            return None
        preview: Preview | None = next(iter(await asyncio.to_thread(previews, order.script)), None)
        if preview is None or preview.problem or preview.can_insert or not preview.verb:
            return None
        roots = await self._named(connection, order, of_rows[0], tables)
        if len(roots) != 1:
            return None
        table = tables[next(iter(roots))]
        family = await with_children(connection, roots)
        if table.kind not in _LOCKABLE or found.oids != family or any(tables[o].row_security for o in family if o in tables):
            return None
        if any(not tables[o].is_partition for o in family - roots if o in tables):
            return None  # children may have columns of their own
        if await self._has_code(connection, family) or not await self._may_lock_rows(connection, order.requester.role, table.oid):
            return None
        called = (*preview.functions, *preview.attributes)
        if await volatile_functions(connection, called) or await _changing_operators(connection, preview.operators):
            return None
        columns = await _columns(connection, table.oid)
        if columns is None:
            return None
        values: dict[int, str | None] = {}
        for number, (value, is_binary) in enumerate(order.parameters, 1):
            if is_binary and value is not None:
                return None  # its type is not known here
            try:
                values[number] = None if value is None else value.decode()
            except UnicodeDecodeError:
                return None
        name = quoted(preview.alias or preview.relation.name)
        listed = ", ".join(f"{name}.{quoted(c)}" for c in columns)
        try:
            image = preview.select(f"{await _origin(connection, name, family)}, {listed}", relation=table.name, lock=True, values=values)
        except PreviewError:
            return None
        scope = Scope(
            order.requester.database,
            False,
            frozenset(family),
            losses=losses,
            columns=tuple(columns),
            changed=preview.verb,
            bytes=table.bytes,
        )
        why = f"the rows of {table.name} that it changes"
        return CopyPlan(CopyKind.ROWS, why, image=image, image_relation=table.name, counted=True, detail=scope)

    async def _has_code(self, connection: Connection, oids: Iterable[int]) -> bool:
        """Triggers or rules of users: what they do, or leave undone, no image tells."""
        cursor = await connection.execute(
            "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = ANY(%(o)s) AND NOT tgisinternal)"
            " OR EXISTS (SELECT FROM pg_rewrite WHERE ev_class = ANY(%(o)s))",
            {"o": list(oids)},
        )
        row = await cursor.fetchone()
        return row is None or bool(row[0])

    async def _may_lock_rows(self, connection: Connection, role: str, oid: int) -> bool:
        """SELECT … FOR UPDATE needs both (sql-select.html#SQL-FOR-UPDATE-SHARE)."""
        cursor = await connection.execute(
            "SELECT has_table_privilege(r.oid, %s::oid, 'SELECT') AND has_table_privilege(r.oid, %s::oid, 'UPDATE') FROM pg_roles r WHERE rolname = %s",
            (oid, oid, role),
        )
        row = await cursor.fetchone()
        return row is not None and bool(row[0])


async def refuse_when_used(connection: Connection, database: str) -> None:
    """A database that somebody but pghold is connected to can be written to while it is copied. Raises ProtectError."""
    others = 0
    for _ in range(_LEAVING_TRIES):  # as DROP DATABASE itself, it gives those that are leaving a moment
        cursor = await connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            " AND NOT (application_name = %s AND usename = current_user)",
            (database, APPLICATION_NAME),
        )
        row = await cursor.fetchone()
        others = row[0] if row is not None else 1
        if not others:
            return
        await asyncio.sleep(_LEAVING_S)
    many = "1 other session is" if others == 1 else f"{others} other sessions are"
    raise ProtectError(f"{many} connected to database {database}, and may write to it while it is copied; end them first")


async def _origin(connection: Connection, name: str, family: Iterable[int]) -> str:
    """The first column of an image: the relation, of a partition its own name; after a look whether values are written so that they can be read.

    How they are written is up to the session's settings, which nobody else sees: a date as 01/02/2003 could be read as two days. The look is a
    sub-select that refers to nothing, so that it costs the same for any number of rows.
    """
    settings = (
        "pg_catalog.current_setting('DateStyle') OPERATOR(pg_catalog.!~~) 'ISO%'"
        " OR pg_catalog.current_setting('IntervalStyle') OPERATOR(pg_catalog.=) 'sql_standard'"
        " OR pg_catalog.current_setting('extra_float_digits')::pg_catalog.int4 OPERATOR(pg_catalog.<) 1"
        " OR pg_catalog.current_setting('client_encoding') OPERATOR(pg_catalog.<>) 'UTF8'"
    )
    odd = _failing("pghold copies rows only from sessions with DateStyle ISO, extra_float_digits 1 or more and client_encoding UTF8")
    cursor = await connection.execute(
        "SELECT c.oid::int8, format('%%I.%%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.oid = ANY(%s) AND c.relkind IN ('r', 'f') ORDER BY c.oid",
        (list(family),),
    )
    cases = "".join(f" WHEN '{oid}' THEN {_literal(shown)}" for oid, shown in await cursor.fetchall())
    new = _failing("a partition has come since the copy was planned")
    return f"CASE WHEN (SELECT {settings}) THEN {odd} ELSE CASE {name}.tableoid{cases} ELSE {new} END END"


def _failing(problem: str) -> str:
    """An expression that fails with this text when it is evaluated, and not before: concat() is no constant to the planner."""
    return f"pg_catalog.concat('{problem}')::pg_catalog.int4::pg_catalog.text"


def _literal(text: str) -> str:
    """As a string constant, whatever standard_conforming_strings is."""
    doubled = text.replace("'", "''")
    return "E'" + doubled.replace("\\", "\\\\") + "'" if "\\" in doubled else f"'{doubled}'"


async def _changeable(connection: Connection, role: str, oids: Iterable[int]) -> set[int]:
    """Those of these relations whose rows the role may change, which are those that it may lock (sql-lock.html)."""
    cursor = await connection.execute(
        "SELECT t.oid::int8 FROM unnest(%s::oid[]) t(oid), pg_roles r WHERE r.rolname = %s"
        " AND has_table_privilege(r.oid, t.oid, 'UPDATE, DELETE, TRUNCATE')",
        (list(oids), role),
    )
    return {row[0] for row in await cursor.fetchall()}


async def _columns(connection: Connection, oid: int) -> list[str] | None:
    """In order; None when one is of a type whose text depends on the server's locale (money)."""
    cursor = await connection.execute(
        "SELECT attname, atttypid = ANY('{money,_money}'::regtype[]::oid[]) FROM pg_attribute"
        " WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        (oid,),
    )
    rows = await cursor.fetchall()
    return None if any(row[1] for row in rows) or not rows else [row[0] for row in rows]


async def _changing_operators(connection: Connection, names: Iterable[str]) -> bool:
    """Whether an operator of one of these names calls a volatile function that is not PostgreSQL's own."""
    cursor = await connection.execute(
        "SELECT EXISTS (SELECT FROM pg_operator o JOIN pg_proc p ON p.oid = o.oprcode JOIN pg_namespace n ON n.oid = p.pronamespace"
        " WHERE o.oprname = ANY(%s) AND p.provolatile = 'v' AND n.nspname <> 'pg_catalog')",
        (list(names),),
    )
    row = await cursor.fetchone()
    return row is None or bool(row[0])


def _scope_of(plan: CopyPlan) -> Scope:
    assert isinstance(plan.detail, Scope)
    return plan.detail


def _why(found: _Found, tables: list[Table], size: int) -> str:
    if found.everything:
        return f"the whole database, {len(tables):,} tables, {_size(size)}: {found.everything}"
    if not tables:
        return "large objects and all definitions" if found.large_objects else "all definitions"
    rows = sum(max(t.rows, 0) for t in tables)
    some = f"some {rows:,} rows, " if all(t.rows >= 0 for t in tables) else ""
    return f"{len(tables):,} {'table' if len(tables) == 1 else 'tables'}, {some}{_size(size)}"


def _size(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MB" if size >= 10 << 20 else f"{size / 1024:,.0f} kB"


def _listed(names: list[str]) -> str:
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest
