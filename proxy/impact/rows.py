"""The rows that a DELETE, UPDATE or MERGE matches now: estimated by the planner, counted where that is cheap, and ten of them shown.

The condition is the user's own and may call anything. So before it is given to the planner, which runs functions as well, each name that it
uses is looked up: where one of that name may be volatile ("can do anything, including modifying the database", xfunc-volatility.html), nothing is
run. The transaction is READ ONLY besides.
"""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import psycopg
from psycopg import errors

from policy.preview import Names, Preview, PreviewError, names_of_query, quoted
from proxy.control import first_line
from proxy.impact import catalog
from proxy.impact.catalog import Link
from proxy.impact.model import Matching

SAMPLE_ROWS: Final = 10
SAMPLE_COLUMNS: Final = 12
VALUE_CHARACTERS: Final = 80
#: A view of a view of … is followed so far.
_VIEWS: Final = 50
#: What IN, ORDER BY, DISTINCT and joins call without saying so.
_SILENT_OPERATORS: Final = ("=", "<>", "<", ">", "<=", ">=")
#: The planner's cost of what may be counted is at least this (a page read is 1).
_CHEAP: Final = 20_000.0

#: Types whose binary values psycopg reads, and whose text the server takes back (pg_type.dat).
_READABLE: Final = frozenset({16, 18, 19, 20, 21, 23, 25, 26, 700, 701, 1042, 1043, 1082, 1114, 1184, 1700, 2950})
_TEXTS: Final = frozenset({18, 19, 25, 1042, 1043})
_INTEGERS: Final = frozenset({20, 21, 23})
_NUMERIC: Final = 1700
_BYTEA: Final = 17


class NotAskedError(Exception):
    """Why rows are not looked for. For people."""


@asynccontextmanager
async def reading(link: Link, path: Sequence[str], timeout_s: float) -> AsyncIterator[None]:
    """A READ ONLY transaction with this search_path."""
    try:
        await link.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        schemas = ", ".join(quoted(s) for s in path)
        await link.execute(
            "SELECT set_config('search_path', %s, true), set_config('statement_timeout', %s, true)",
            (schemas, f"{max(1, round(timeout_s * 1000))}ms"),
        )
        yield
    finally:
        if not link.closed:
            await link.execute("ROLLBACK")


async def refuse_volatile(link: Link, preview: Preview, target: int, path: Sequence[str]) -> None:
    """Raises NotAskedError when its SELECT might do more than read."""
    functions = set(preview.functions)
    operators = {*preview.operators, *_SILENT_OPERATORS}
    attributes = set(preview.attributes)
    found = await catalog.resolve(link, [(r.schema, r.name) for r in preview.reads], path)
    missing = [str(r) for r, oid in zip(preview.reads, found, strict=True) if oid is None]
    if missing:
        raise NotAskedError(f"it reads {', '.join(missing)}, which only the session itself can see")
    waiting = {target, *(oid for oid in found if oid is not None)}
    seen: set[int] = set()
    while waiting:
        seen |= waiting
        if len(seen) > 10 * _VIEWS:
            raise NotAskedError("it reads too many views")
        waiting |= {child for _, child in await catalog.children(link, waiting)}
        views: list[int] = []
        for known in (await catalog.relations(link, waiting)).values():
            if known.kind == "foreign table":
                raise NotAskedError(f"it reads the foreign table {known.name}, which is elsewhere")
            if known.kind == "view":
                views.append(known.oid)
        waiting = set()
        for oid in views:
            names = await _names_of_view(link, oid)
            functions.update(names.functions)
            operators.update(names.operators)
            attributes.update(names.attributes)
            # pg_get_viewdef() qualifies what the empty search_path does not find.
            below = await catalog.resolve(link, [(r.schema, r.name) for r in names.reads], ["pg_catalog"])
            waiting |= {b for b in below if b is not None and b not in seen}
    volatile = await _volatile(link, functions, operators, attributes)
    if volatile:
        raise NotAskedError(f"it calls {', '.join(volatile[:5])}, which may change something: it was not run")


async def _names_of_view(link: Link, oid: int) -> Names:
    row = await (await link.execute("SELECT pg_get_viewdef(%s::oid)", (oid,))).fetchone()
    names = names_of_query(str(row[0])) if row is not None else None
    if names is None:
        raise NotAskedError("it reads a view that could not be looked into")
    return names


async def _volatile(link: Link, functions: Collection[str], operators: Collection[str], attributes: Collection[str]) -> list[str]:
    cursor = await link.execute(
        "SELECT format('%%I.%%I()', n.nspname, p.proname) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
        " WHERE p.provolatile = 'v' AND (p.proname = ANY (%s::name[]) OR p.proname = ANY (%s::name[]) AND p.pronargs = 1"
        "  AND EXISTS (SELECT FROM pg_type t WHERE t.oid = p.proargtypes[0] AND t.typtype = 'c'))"
        " UNION SELECT format('the operator %%s', o.oprname) FROM pg_operator o JOIN pg_proc p ON p.oid = o.oprcode"
        "  WHERE o.oprname = ANY (%s::name[]) AND p.provolatile = 'v'"
        " UNION SELECT format('a cast to %%s', c.casttarget::regtype) FROM pg_cast c JOIN pg_proc p ON p.oid = c.castfunc"
        "  WHERE p.provolatile = 'v' AND p.oid >= 16384 ORDER BY 1",
        (list(functions), list(attributes), list(operators)),
    )
    return [row[0] for row in await cursor.fetchall()]


async def values_of(link: Link, preview: Preview, relation: str, shown: Sequence[str | None]) -> dict[int, str | None]:
    """The values of its parameters as texts that the server takes. In a transaction of reading(). Raises NotAskedError, psycopg.Error.

    `shown`: of model.HoldRequest: text values as they are, binary ones in hexadecimal, long ones cut.
    """
    if not preview.parameters:
        return {}
    if len(shown) < preview.parameters[-1]:
        raise NotAskedError("the values of its parameters are not known")
    values: dict[int, str | None] = {}
    binary: dict[int, bytes] = {}
    for number in preview.parameters:
        value = shown[number - 1]
        if value is not None and value.endswith("…"):
            raise NotAskedError(f"parameter ${number} is too long to be known here")
        values[number] = value
        if value is not None and value.startswith("\\x"):
            try:
                binary[number] = bytes.fromhex(value[2:])
            except ValueError:
                continue
    if binary:
        types = await _types(link, preview, relation)
        for number, data in binary.items():
            values[number] = _text(number, types.get(number, 0), data)
    return values


async def _types(link: Link, preview: Preview, relation: str) -> dict[int, int]:
    """OIDs of the types that the server gives the parameters."""
    last = preview.parameters[-1]
    given = ", ".join("unknown" if n in preview.parameters else "text" for n in range(1, last + 1))
    # Comes from the grammar's tree of one statement (policy.preview); prepared, never executed.
    await link.execute(f"PREPARE pghold_preview ({given}) AS {preview.select('1', relation=relation)}".encode())
    try:
        cursor = await link.execute(
            "SELECT array(SELECT t::oid::int8 FROM unnest(parameter_types) WITH ORDINALITY u(t, i) ORDER BY i)"
            " FROM pg_prepared_statements WHERE name = 'pghold_preview'"
        )
        row = await cursor.fetchone()
    finally:
        if not link.closed and link.info.transaction_status is not psycopg.pq.TransactionStatus.INERROR:
            await link.execute("DEALLOCATE pghold_preview")
    return {} if row is None else {n + 1: int(oid) for n, oid in enumerate(row[0])}


def _text(number: int, oid: int, data: bytes) -> str:
    if oid == _BYTEA:
        return "\\x" + data.hex()
    if (oid in _INTEGERS and len(data) in (2, 4, 8)) or (oid == _NUMERIC and len(data) in (2, 4)):
        return str(int.from_bytes(data, "big", signed=True))  # a driver takes the smallest type that holds the value
    if oid not in _READABLE:
        raise NotAskedError(f"parameter ${number} is in a binary format that is not read here")
    try:
        if oid in _TEXTS:
            return data.decode()
        loader = psycopg.adapt.Transformer().get_loader(oid, psycopg.pq.Format.BINARY)
        return str(loader.load(data))
    except (psycopg.Error, ValueError, LookupError, ArithmeticError, struct.error) as error:
        raise NotAskedError(f"parameter ${number} could not be read ({type(error).__name__})") from None


async def match(
    link: Link, preview: Preview, known: catalog.Known, values: Mapping[int, str | None], *, exact_rows: int, columns: Sequence[str]
) -> Matching:
    """In a transaction of reading(), after refuse_volatile(). `columns`: of the target, for the sample."""
    found = Matching(known.name)
    try:
        estimate, cost = await _explain(link, preview.select("1", relation=known.name, values=values))
        found = Matching(known.name, estimate, share=_share(estimate, known.rows))
        small = known.rows is not None and known.rows <= exact_rows
        if small or cost <= max(_CHEAP, exact_rows * 0.1):
            found = await _counted(link, preview, known, values)
        sample = await _sample(link, preview, known, values, columns)
    except PreviewError as error:
        return Matching(known.name, problem=str(error))
    except errors.QueryCanceled:
        return _with(found, problem="" if found.exact else "to count them takes too long: estimated")
    except psycopg.Error as error:
        return _with(found, problem=first_line(error))
    return _with(found, columns=columns, sample=sample)


def _with(found: Matching, *, columns: Sequence[str] = (), sample: Sequence[tuple[str | None, ...]] = (), problem: str = "") -> Matching:
    return Matching(found.relation, found.rows, found.exact, found.share, tuple(columns), tuple(sample), problem)


def _share(rows: int, of: int | None) -> float | None:
    return None if of is None else 0.0 if rows == 0 else min(1.0, rows / max(of, rows))


async def _explain(link: Link, query: str) -> tuple[int, float]:
    """The planner's rows and total cost."""
    row = await (await link.execute(f"EXPLAIN (FORMAT JSON) {query}".encode())).fetchone()
    plan = (row[0] if row is not None and isinstance(row[0], list) else json.loads(str(row[0] if row is not None else "[]")))[0]["Plan"]
    return int(plan["Plan Rows"]), float(plan["Total Cost"])


async def _counted(link: Link, preview: Preview, known: catalog.Known, values: Mapping[int, str | None]) -> Matching:
    query = preview.select("pg_catalog.count(*)", relation=known.name, values=values)
    row = await (await link.execute(query.encode())).fetchone()
    rows = int(row[0]) if row is not None else 0
    whole = await count(link, known.name, only=preview.is_only)
    return Matching(known.name, rows, True, _share(rows, whole))


async def _sample(
    link: Link, preview: Preview, known: catalog.Known, values: Mapping[int, str | None], columns: Sequence[str]
) -> tuple[tuple[str | None, ...], ...]:
    if not columns:
        return ()
    name = quoted(preview.alias or preview.relation.name)
    shown = ", ".join(f"pg_catalog.left({name}.{quoted(c)}::pg_catalog.text, {VALUE_CHARACTERS + 1})" for c in columns)
    query = preview.select(shown, relation=known.name, values=values) + f" LIMIT {SAMPLE_ROWS}"
    rows = await (await link.execute(query.encode())).fetchall()
    return tuple(tuple(_cut(value) for value in row) for row in rows)


def _cut(value: str | None) -> str | None:
    return value if value is None or len(value) <= VALUE_CHARACTERS else value[:VALUE_CHARACTERS] + "…"


async def columns_of(link: Link, oid: int) -> list[str]:
    """The first ones, by name."""
    cursor = await link.execute(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = %s::oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum LIMIT %s",
        (oid, SAMPLE_COLUMNS),
    )
    return [row[0] for row in await cursor.fetchall()]


async def count(link: Link, name: str, *, only: bool = False) -> int:
    """All rows of a relation, whose name is qualified and quoted. In a transaction of reading()."""
    row = await (await link.execute(f"SELECT pg_catalog.count(*) FROM {'ONLY ' if only else ''}{name}".encode())).fetchone()
    return int(row[0]) if row is not None else 0
