"""Questions to the server's catalog, on a connection with an empty search_path. Each raises psycopg.Error."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from proxy.relkinds import RELATION_KINDS

Link = AsyncConnection[TupleRow]

TABLES: Final = frozenset({"table", "partitioned table"})
#: Kinds whose rows are their own.
FILLED: Final = frozenset({"table", "materialized view"})


@dataclass(frozen=True, slots=True)
class Known:
    """A relation as the catalog has it.

    Attributes:
        name: qualified and quoted.
        rows: the estimate of the last ANALYZE; None before the first (catalog-pg-class.html, reltuples).
        bytes: of its pages, by the catalog; sizes() knows better.
    """

    oid: int
    name: str
    kind: str
    rows: int | None
    bytes: int
    temporary: bool
    partition: bool


async def search_path(link: Link, role: str) -> list[str]:
    """Schemas that unqualified names of this role are looked up in here, by default: what ALTER ROLE and ALTER DATABASE say, else the server's."""
    cursor = await link.execute(
        "SELECT substr(c, 13) FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) c"
        " LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase"
        " WHERE c LIKE 'search\\_path=%%' AND (s.setrole = 0 OR r.rolname = %s) AND (s.setdatabase = 0 OR d.datname = current_database())"
        " ORDER BY s.setrole = 0, s.setdatabase = 0 LIMIT 1",
        (role,),
    )
    row = await cursor.fetchone()
    if row is None:
        row = await (await link.execute("SELECT reset_val FROM pg_settings WHERE name = 'search_path'")).fetchone()
    text = str(row[0]) if row is not None else ""
    return [role if name == "$user" else name for name in split_path(text)]


def split_path(text: str) -> Iterator[str]:
    """The schemas of a search_path, as the server splits it (runtime-config-client.html#GUC-SEARCH-PATH)."""
    position = 0
    while position < len(text):
        if text[position] in " ,\t\r\n":
            position += 1
        elif text[position] == '"':
            end = position + 1
            while (end := text.find('"', end)) >= 0 and text[end + 1 : end + 2] == '"':
                end += 2
            if end < 0:
                return
            yield text[position + 1 : end].replace('""', '"')
            position = end + 1
        else:
            end = text.find(",", position)
            end = len(text) if end < 0 else end
            yield text[position:end].strip().lower()
            position = end


async def resolve(link: Link, names: Sequence[tuple[str, str]], path: Sequence[str]) -> list[int | None]:
    """The relation that each (schema, name) means; schema "" is looked up along the path."""
    cursor = await link.execute(
        "SELECT a.i, c.oid FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY a(schema, name, i) CROSS JOIN LATERAL ("
        " SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = a.name::name"
        " AND CASE WHEN a.schema = '' THEN n.nspname::text = ANY (%s::text[]) ELSE n.nspname = a.schema::name END"
        " ORDER BY array_position(%s::text[], n.nspname::text) LIMIT 1) c",
        ([s for s, _ in names], [n for _, n in names], whole := _whole(path), whole),
    )
    found = {int(i): int(oid) for i, oid in await cursor.fetchall()}
    return [found.get(i + 1) for i in range(len(names))]


def _whole(path: Sequence[str]) -> list[str]:
    """pg_catalog is searched first when it is not named."""
    return list(path) if "pg_catalog" in path else ["pg_catalog", *path]


async def relations(link: Link, oids: Collection[int]) -> dict[int, Known]:
    """Those of them that are there."""
    cursor = await link.execute(
        "SELECT c.oid, format('%%I.%%I', n.nspname, c.relname), c.relkind::text, c.reltuples, c.relpages::int8 * current_setting('block_size')::int8,"
        " c.relpersistence = 't', c.relispartition"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY (%s::oid[])",
        (list(oids),),
    )
    return {
        int(oid): Known(
            int(oid), name, RELATION_KINDS.get(kind, "relation"), None if tuples < 0 else round(tuples), int(size), temporary, partition
        )
        for oid, name, kind, tuples, size, temporary, partition in await cursor.fetchall()
    }


async def sizes(link: Link, oids: Collection[int]) -> dict[int, int]:
    """In bytes, with indexes and TOAST. It waits for whoever has locked one of them exclusively."""
    cursor = await link.execute(
        "SELECT c.oid, coalesce(pg_total_relation_size(c.oid), 0) FROM pg_class c WHERE c.oid = ANY (%s::oid[])", (list(oids),)
    )
    return {int(oid): int(size) for oid, size in await cursor.fetchall()}


async def table_count(link: Link) -> int:
    """Tables of the database that are not the system's."""
    cursor = await link.execute(
        "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'"
        " AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'"
    )
    row = await cursor.fetchone()
    return int(row[0]) if row is not None else 0


async def all_tables(link: Link) -> list[int]:
    cursor = await link.execute(
        "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'm', 'f')"
        " AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast' ORDER BY c.relpages DESC"
    )
    return [int(row[0]) for row in await cursor.fetchall()]


async def database_size(link: Link, name: str) -> int | None:
    """None where there is no such database. Needs CONNECT on it, or pg_read_all_stats."""
    cursor = await link.execute("SELECT pg_database_size(oid) FROM pg_database WHERE datname = %s::name", (name,))
    row = await cursor.fetchone()
    return None if row is None else int(row[0])


async def children(link: Link, oids: Collection[int]) -> list[tuple[int, int]]:
    """(parent, child) of partitions and of inheritance, all levels."""
    cursor = await link.execute(
        "WITH RECURSIVE tree AS (SELECT i.inhparent, i.inhrelid FROM pg_inherits i WHERE i.inhparent = ANY (%s::oid[])"
        " UNION SELECT i.inhparent, i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.inhrelid) SELECT inhparent, inhrelid FROM tree",
        (list(oids),),
    )
    return [(int(a), int(b)) for a, b in await cursor.fetchall()]


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Attributes:
    of, to: relations.
    name: quoted.
    on_delete, on_update: "a" no action, "r" restrict, "c" cascade, "n" set null, "d" set default (catalog-pg-constraint.html).
    columns, keys: of both sides, quoted, in order.
    """

    of: int
    to: int
    name: str
    on_delete: str
    on_update: str
    columns: tuple[str, ...]
    keys: tuple[str, ...]


async def foreign_keys(link: Link, to: Collection[int]) -> list[ForeignKey]:
    """That refer to these."""
    cursor = await link.execute(
        "SELECT c.conrelid, c.confrelid, quote_ident(c.conname), c.confdeltype::text, c.confupdtype::text, ("
        "  SELECT array_agg(quote_ident(a.attname) ORDER BY k.i) FROM unnest(c.conkey) WITH ORDINALITY k(n, i)"
        "  JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.n), ("
        "  SELECT array_agg(quote_ident(a.attname) ORDER BY k.i) FROM unnest(c.confkey) WITH ORDINALITY k(n, i)"
        "  JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.n)"
        " FROM pg_constraint c WHERE c.contype = 'f' AND c.confrelid = ANY (%s::oid[]) ORDER BY c.conrelid, c.conname",
        (list(to),),
    )
    return [
        ForeignKey(int(of), int(ref), name, on_delete, on_update, tuple(columns or ()), tuple(keys or ()))
        for of, ref, name, on_delete, on_update, columns, keys in await cursor.fetchall()
    ]


async def referenced(link: Link, oids: Collection[int]) -> set[int]:
    """Relations that foreign keys of these refer to."""
    cursor = await link.execute("SELECT confrelid FROM pg_constraint WHERE contype = 'f' AND conrelid = ANY (%s::oid[])", (list(oids),))
    return {int(row[0]) for row in await cursor.fetchall()}


async def triggers(link: Link, oids: Collection[int], event: str) -> list[str]:
    """That fire: bits of tgtype (catalog-pg-trigger.html): 4 INSERT, 8 DELETE, 16 UPDATE, 32 TRUNCATE."""
    bit = {"INSERT": 4, "DELETE": 8, "UPDATE": 16, "TRUNCATE": 32}.get(event)
    if bit is None:
        return []
    cursor = await link.execute(
        "SELECT format('%%I on %%I.%%I', t.tgname, n.nspname, c.relname) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')"
        " AND (t.tgtype::int4 & %s) <> 0 AND t.tgrelid = ANY (%s::oid[]) ORDER BY 1 LIMIT 200",
        (bit, list(oids)),
    )
    return [row[0] for row in await cursor.fetchall()]


async def event_triggers(link: Link, events: Sequence[str]) -> list[str]:
    cursor = await link.execute(
        "SELECT format('%%I on %%s', evtname, evtevent) FROM pg_event_trigger WHERE evtenabled IN ('O', 'A') AND evtevent = ANY (%s::name[]) ORDER BY 1",
        (list(events),),
    )
    return [row[0] for row in await cursor.fetchall()]


async def rules(link: Link, oids: Collection[int], event: str) -> list[str]:
    """That rewrite the statement: ev_type (catalog-pg-rewrite.html)."""
    kind = {"UPDATE": "2", "INSERT": "3", "DELETE": "4"}.get(event)
    if kind is None:
        return []
    cursor = await link.execute(
        "SELECT format('%%I on %%I.%%I', r.rulename, n.nspname, c.relname) FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE r.ev_enabled IN ('O', 'A') AND r.ev_type::text = %s AND r.ev_class = ANY (%s::oid[])"
        " ORDER BY 1 LIMIT 200",
        (kind, list(oids)),
    )
    return [row[0] for row in await cursor.fetchall()]


async def publications(link: Link, oids: Collection[int], event: str) -> list[str]:
    """That contain them, and pass on what happens here. DDL is not passed on: then all that contain them."""
    column = {"INSERT": "pubinsert", "UPDATE": "pubupdate", "DELETE": "pubdelete", "TRUNCATE": "pubtruncate"}.get(event)
    published = [*oids, *await _parents(link, oids)]
    cursor = await link.execute(
        "SELECT DISTINCT format('%%I', p.pubname) FROM pg_publication p CROSS JOIN LATERAL pg_get_publication_tables(p.pubname) t"
        f" WHERE t.relid = ANY (%s::oid[]){f' AND p.{column}' if column else ''} ORDER BY 1",
        (published,),
    )
    return [row[0] for row in await cursor.fetchall()]


async def _parents(link: Link, oids: Collection[int]) -> list[int]:
    """A partition is published under its root's name, where the publication says so."""
    cursor = await link.execute(
        "WITH RECURSIVE up AS (SELECT inhparent FROM pg_inherits WHERE inhrelid = ANY (%s::oid[])"
        " UNION SELECT i.inhparent FROM up JOIN pg_inherits i ON i.inhrelid = up.inhparent) SELECT inhparent FROM up",
        (list(oids),),
    )
    return [int(row[0]) for row in await cursor.fetchall()]


async def replicas(link: Link) -> list[str]:
    """Standbys and subscribers that are connected, and slots that wait for one."""
    cursor = await link.execute(
        "SELECT format('%s %s', CASE WHEN s.slot_type = 'logical' THEN 'subscriber' ELSE 'standby' END, coalesce(nullif(r.application_name, ''), r.pid::text))"
        " || coalesce(' (' || r.state || ')', '') FROM pg_stat_replication r LEFT JOIN pg_replication_slots s ON s.active_pid = r.pid"
        " UNION ALL SELECT format('slot %I of %s replication, which nobody reads now', slot_name, slot_type) FROM pg_replication_slots WHERE NOT active"
        " ORDER BY 1 LIMIT 50"
    )
    return [row[0] for row in await cursor.fetchall()]


# --- dependencies -----------------------------------------------------------------------------------------------------

#: classid, objid, objsubid, as in pg_depend.
Address = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Dependant:
    """What goes when something else does.

    Attributes:
        parent: what it depends on.
        deptype: of pg_depend (catalog-pg-depend.html).
        type, identity: of pg_identify_object.
        relation: whose it is: the table of a constraint, trigger, policy, default, column; itself for a relation; 0 for others.
        is_relation: it is a relation as a whole.
        contype: of a constraint (catalog-pg-constraint.html).
    """

    address: Address
    parent: Address
    deptype: str
    type: str
    identity: str
    relation: int
    is_relation: bool
    contype: str


_DEPENDANTS: Final = """
SELECT d.classid, d.objid, d.objsubid, d.refclassid, d.refobjid, t.sub, d.deptype::text, i.type, i.identity,
    coalesce(CASE d.classid
        WHEN 'pg_class'::regclass THEN d.objid
        WHEN 'pg_constraint'::regclass THEN (SELECT conrelid FROM pg_constraint WHERE oid = d.objid)
        WHEN 'pg_attrdef'::regclass THEN (SELECT adrelid FROM pg_attrdef WHERE oid = d.objid)
        WHEN 'pg_trigger'::regclass THEN (SELECT tgrelid FROM pg_trigger WHERE oid = d.objid)
        WHEN 'pg_rewrite'::regclass THEN (SELECT ev_class FROM pg_rewrite WHERE oid = d.objid)
        WHEN 'pg_policy'::regclass THEN (SELECT polrelid FROM pg_policy WHERE oid = d.objid)
        WHEN 'pg_publication_rel'::regclass THEN (SELECT prrelid FROM pg_publication_rel WHERE oid = d.objid)
    END, 0)::int8,
    coalesce((SELECT contype::text FROM pg_constraint WHERE oid = d.objid AND d.classid = 'pg_constraint'::regclass), '')
FROM unnest(%s::int8[], %s::int8[], %s::int4[]) t(class, obj, sub)
JOIN pg_depend d ON d.refclassid = t.class::oid AND d.refobjid = t.obj::oid AND (t.sub = 0 OR d.refobjsubid = t.sub)
    AND d.deptype = ANY (%s::"char"[])
CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, d.objsubid) i
ORDER BY 1, 2, 3
LIMIT %s
"""


async def dependants(link: Link, of: Sequence[Address], deptypes: str, limit: int) -> list[Dependant]:
    """One level of what depends on these, by these kinds of dependency."""
    cursor = await link.execute(_DEPENDANTS, ([a[0] for a in of], [a[1] for a in of], [a[2] for a in of], list(deptypes), limit))
    found: list[Dependant] = []
    for row in await cursor.fetchall():
        classid, objid, sub, refclass, refobj, refsub, deptype, kind, identity, relation, contype = row
        address = (int(classid), int(objid), int(sub))
        found.append(
            Dependant(
                address,
                (int(refclass), int(refobj), int(refsub)),
                deptype,
                kind or "object",
                identity or "",
                int(relation),
                int(relation) == address[1] and sub == 0,
                contype,
            )
        )
    return found


async def classes(link: Link) -> Mapping[str, int]:
    """OIDs of the catalogs that addresses need."""
    cursor = await link.execute(
        "SELECT relname::text, oid FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace"
        " AND relname IN ('pg_class', 'pg_namespace', 'pg_type', 'pg_proc', 'pg_extension', 'pg_rewrite', 'pg_constraint')"
    )
    return {name: int(oid) for name, oid in await cursor.fetchall()}


async def column_number(link: Link, relation: int, column: str) -> int | None:
    cursor = await link.execute(
        "SELECT attnum FROM pg_attribute WHERE attrelid = %s::oid AND attname = %s::name AND NOT attisdropped", (relation, column)
    )
    row = await cursor.fetchone()
    return None if row is None else int(row[0])


async def named_otherwise(link: Link, kind: str, schema: str, name: str, path: Sequence[str]) -> list[tuple[str, int, str]]:
    """(catalog, oid, name) of schemas, types, functions (all of that name) and extensions."""
    if kind in ("schema", "extension"):
        catalog, column = ("pg_namespace", "nspname") if kind == "schema" else ("pg_extension", "extname")
        cursor = await link.execute(f"SELECT '{catalog}', oid, quote_ident({column}) FROM {catalog} WHERE {column} = %s::name", (name,))
        return [(c, int(o), n) for c, o, n in await cursor.fetchall()]
    catalog, prefix = ("pg_type", "typ") if kind == "type" else ("pg_proc", "pro")
    cursor = await link.execute(
        f"SELECT '{catalog}', x.oid, (pg_identify_object('{catalog}'::regclass, x.oid, 0)).identity FROM {catalog} x JOIN pg_namespace n ON n.oid = x.{prefix}namespace"
        f" WHERE x.{prefix}name = %s::name AND CASE WHEN %s = '' THEN n.nspname::text = ANY (%s::text[]) ELSE n.nspname = %s::name END",
        (name, schema, _whole(path), schema),
    )
    return [(c, int(o), n) for c, o, n in await cursor.fetchall()]
