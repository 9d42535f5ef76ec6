"""Definitions: CREATE, ALTER and DROP of everything that a database holds."""

from __future__ import annotations

from typing import Final, cast

from policy.extract.data import created
from policy.extract.extractor import Extractor, Visitor
from policy.facts import Alter, Call, Drop, Relation
from policy.kinds import RELATION_KINDS, object_kind
from policy.nodes import function_names, is_on, items, list_items, mentions_column, name_parts, only, options, role_name
from policy.parse import Json, Node

# --- CREATE of relations ----------------------------------------------------------------------------------------------


def _is_temp(target: Node) -> bool:
    return target.get("relpersistence") == "t" or target.get("schemaname") == "pg_temp"


def _create_table(x: Extractor, fields: Node) -> bool:
    # A foreign table has the fields of a table in a field of their own.
    base = cast(Node, fields.get("base", fields))
    target = cast(Node, base.get("relation", {}))
    name = str(target.get("relname", ""))
    x.note(str(Relation(str(target.get("schemaname", "")), name)))
    is_foreign = base is not fields
    if _is_temp(target):
        x.creates_temp(name, base.get("oncommit") == "ONCOMMIT_DROP")
    x.act("CREATE FOREIGN TABLE" if is_foreign else "CREATE TABLE", (name,), _is_temp(target))
    for key in ("tableElts", "constraints", "partspec", "partbound", "inhRelations"):
        if key in base:
            x.visit(base[key])
    return False


def _create_sequence(x: Extractor, fields: Node) -> bool:
    target = cast(Node, fields.get("sequence", {}))
    if _is_temp(target):
        x.creates_temp(str(target.get("relname", "")))
    x.act("CREATE SEQUENCE", (str(target.get("relname", "")),), _is_temp(target))
    return False


def _create_table_as(x: Extractor, fields: Node) -> bool:
    into = cast(Node, fields.get("into", {}))
    is_view = fields.get("objtype") == "OBJECT_MATVIEW"
    x.statement.kind = "CREATE MATERIALIZED VIEW" if is_view else "CREATE TABLE AS"
    x.act(x.statement.kind, (str(cast(Node, into.get("rel", {})).get("relname", "")),))
    created(x, into)
    # Not planned, not run; but EXECUTE under it is looked up, and under a CREATE TABLE AS the server runs it before it looks.
    if not into.get("skipData") or (not is_view and "ExecuteStmt" in cast(Node, fields.get("query", {}))):
        x.visit(fields.get("query"))
    return False


def _create_index(x: Extractor, fields: Node) -> bool:
    table = x.relation(fields.get("relation"))
    concurrently = bool(fields.get("concurrent"))
    x.lock(table, "SHARE UPDATE EXCLUSIVE" if concurrently else "SHARE")
    x.act("CREATE INDEX CONCURRENTLY" if concurrently else "CREATE INDEX", (str(table),), table.is_temp)
    x.visit({k: v for k, v in fields.items() if k != "relation"})
    return False


def _create_trigger(x: Extractor, fields: Node) -> bool:
    table = x.relation(fields.get("relation"))
    x.forget_temp(table.name)  # a change of it may now change something else
    x.act("CREATE OR REPLACE TRIGGER" if fields.get("replace") else "CREATE TRIGGER", (str(table),))
    x.visit({"when": fields.get("whenClause")})
    return False


def _define(x: Extractor, fields: Node) -> bool:
    kind = object_kind(str(fields.get("kind")))
    x.statement.kind = f"CREATE {kind}"
    name = ".".join(p for n in items(fields, "defnames") for p in name_parts(n))
    x.act(("CREATE OR REPLACE " if fields.get("replace") else "CREATE ") + kind, (name,))
    if kind in ("OPERATOR", "AGGREGATE"):
        _functions_named(x, [only(d)[1].get("arg") for d in items(fields, "definition")])
    return False


def _functions_named(x: Extractor, nodes: list[Json]) -> None:
    """Functions that an operator, aggregate or cast will call when it is used, which no text shows then."""
    for node in nodes:
        if only(node)[0] in ("TypeName", "ObjectWithArgs"):
            parts = name_parts(node)
            x.facts.calls.append(Call(parts[-2] if len(parts) > 1 else "", parts[-1], (), x.index))


def _create_cast(x: Extractor, fields: Node) -> bool:
    x.act("CREATE CAST")
    if isinstance(fields.get("func"), dict):
        _functions_named(x, [{"ObjectWithArgs": fields["func"]}])
    return False


# --- DROP -------------------------------------------------------------------------------------------------------------


def _drop(x: Extractor, fields: Node) -> bool:
    kind = object_kind(str(fields.get("removeType")))
    x.statement.kind = f"DROP {kind}"
    names: list[str] = []
    cascade = fields.get("behavior") == "DROP_CASCADE"
    # A function in pg_temp is the session's own; with CASCADE more might go.
    is_routine = kind in ("FUNCTION", "PROCEDURE", "ROUTINE", "AGGREGATE") and not cascade
    all_temp = kind in RELATION_KINDS or is_routine
    for item in items(fields, "objects"):
        parts = name_parts(item)
        relation = Relation(parts[-2] if len(parts) > 1 else "", parts[-1])
        if kind in RELATION_KINDS:
            relation = x.named(relation.schema, relation.name)
            # Nothing under pg_temp can be anything but temporary, and to drop it harms nothing behind it.
            is_view = kind == "VIEW" and not relation.schema and x.is_temp_view(relation.name)
            all_temp = all_temp and (relation.is_temp or relation.schema == "pg_temp" or is_view)
            x.forget_temp(relation.name)
            x.lock(relation, "ACCESS EXCLUSIVE")
        elif is_routine:
            all_temp = all_temp and relation.schema == "pg_temp"
        elif kind in ("TRIGGER", "RULE", "POLICY") and len(parts) > 1:
            relation = Relation("", parts[-1])
            x.note(str(Relation(parts[-3] if len(parts) > 2 else "", parts[-2])))
        names.append(str(relation))
        if kind not in ("TRIGGER", "RULE", "POLICY"):
            x.note(str(relation))
    _dropped(x, kind, tuple(names), cascade, all_temp)
    return False


def _dropped(x: Extractor, kind: str, names: tuple[str, ...], cascade: bool = False, all_temp: bool = False) -> None:
    x.facts.drops.append(Drop(kind, names, cascade, all_temp, x.index))
    x.act(f"DROP {kind}", names, all_temp)


def _drop_named(kind: str, field: str) -> Visitor:
    def visit(x: Extractor, fields: Node) -> bool:
        x.statement.kind = f"DROP {kind}"
        name = str(Relation("", str(fields.get(field))))
        x.note(name)
        _dropped(x, kind, (name,))
        return False

    return visit


def _drop_roles(kind: str) -> Visitor:
    def visit(x: Extractor, fields: Node) -> bool:
        x.statement.kind = f"DROP {kind}"
        names = tuple(role_name(r) for r in items(fields, "roles"))
        for name in names:
            x.note(name)
        _dropped(x, kind, names)
        return False

    return visit


# --- ALTER ------------------------------------------------------------------------------------------------------------

#: Lock levels of ALTER TABLE other than ACCESS EXCLUSIVE (AlterTableGetLockLevel; sql-altertable.html names them one by one).
_MILDER_LOCKS: Final = {
    **dict.fromkeys(["SetStatistics", "ClusterOn", "DropCluster", "SetOptions", "ResetOptions", "ValidateConstraint", "AttachPartition"], "SHARE UPDATE EXCLUSIVE"),
    **dict.fromkeys(["EnableTrig", "EnableAlwaysTrig", "EnableReplicaTrig", "EnableTrigAll", "EnableTrigUser", "DisableTrig", "DisableTrigAll", "DisableTrigUser"], "SHARE ROW EXCLUSIVE"),
}  # fmt: skip
#: Actions that write the whole table anew, or move it.
_REWRITES: Final = frozenset({"AlterColumnType", "SetLogged", "SetUnLogged", "SetAccessMethod", "SetTableSpace", "SetExpression"})
#: Functions that give another value for each row; what is not built in may do so too.
_VOLATILE: Final = frozenset({"random", "random_normal", "gen_random_uuid", "uuidv4", "uuidv7", "clock_timestamp", "timeofday", "nextval"})


def _alter_table(x: Extractor, fields: Node) -> bool:
    kind = object_kind(str(fields.get("objtype")))
    x.statement.kind = f"ALTER {kind}"
    table = x.relation(fields.get("relation"))
    if kind != "INDEX":
        x.writes(table)
    x.act(f"ALTER {kind}", (str(table),), table.is_temp)
    for item in items(fields, "cmds"):
        _action(x, table, only(item)[1])
    x.visit(fields.get("cmds"))
    return False


def _action(x: Extractor, table: Relation, action: Node) -> None:
    name = str(action.get("subtype", "")).removeprefix("AT_")
    tag, definition = only(action.get("def"))
    using = definition.get("raw_default")
    overwrites = name == "AlterColumnType" and using is not None and not mentions_column(using)
    constraint, unchecked, volatile = "", False, False
    if tag == "Constraint":
        constraint = _constraint(definition)
        unchecked = bool(definition.get("skip_validation")) or "indexname" in definition
    elif name == "AddColumn":
        parts = [only(c)[1] for c in items(definition, "constraints")]
        kinds = [_constraint(c) for c in parts]
        constraint = next((k for k in kinds if k in ("FOREIGN", "CHECK", "UNIQUE", "PRIMARY")), "")
        serial = next(iter(name_parts(definition.get("typeName"))[-1:]), "") if "typeName" in definition else ""
        volatile = (
            any(k in ("IDENTITY", "GENERATED") for k in kinds)
            or serial in ("serial", "bigserial", "smallserial", "serial4", "serial8", "serial2")
            or any(f in _VOLATILE for c in parts for f in function_names(c.get("raw_expr")))
        )
    cascade = action.get("behavior") == "DROP_CASCADE"
    x.facts.alters.append(Alter(table, name, str(action.get("name", "")), overwrites, x.index, constraint, unchecked, volatile, cascade))
    x.lock(table, "SHARE ROW EXCLUSIVE" if constraint == "FOREIGN" else _MILDER_LOCKS.get(name, "ACCESS EXCLUSIVE"))
    if name in _REWRITES or volatile:
        x.facts.rewrites.append((table, x.index))


def _constraint(definition: Node) -> str:
    return str(definition.get("contype", "")).removeprefix("CONSTR_")


def _rename(x: Extractor, fields: Node) -> bool:
    kind = object_kind(str(fields.get("renameType")))
    x.statement.kind = f"ALTER {kind}"
    on_temp = False
    if "relation" in fields:
        relation = x.relation(fields["relation"])
        on_temp = relation.is_temp
        x.writes(relation)
        if fields.get("renameType") not in ("OBJECT_COLUMN", "OBJECT_TABCONSTRAINT", "OBJECT_TRIGGER", "OBJECT_RULE", "OBJECT_POLICY"):
            x.forget_temp(relation.name)
            x.forget_temp(str(fields.get("newname", "")))
    x.act(f"RENAME {kind}", (".".join(name_parts(fields.get("object"))),) if "object" in fields else (), on_temp)
    return False


def _set_schema(x: Extractor, fields: Node) -> bool:
    if "relation" in fields:
        x.forget_temp(x.relation(fields["relation"]).name)
    x.act("SET SCHEMA")
    return False


def _owner(x: Extractor, fields: Node) -> bool:
    x.act("ALTER OWNER", (".".join(name_parts(fields.get("object"))),))
    return False


def _alter_sequence(x: Extractor, fields: Node) -> bool:
    sequence = x.relation(fields.get("sequence"))
    restarts = bool({"restart", "minvalue", "maxvalue", "increment", "cycle"} & set(options(fields)))
    x.act(
        "ALTER SEQUENCE RESTART" if "restart" in options(fields) else "ALTER SEQUENCE",
        (str(sequence),),
        sequence.is_temp,
        "range" if restarts else "",
    )
    return False


def _alter_domain(x: Extractor, fields: Node) -> bool:
    x.act(
        {"X": "ALTER DOMAIN DROP CONSTRAINT", "N": "ALTER DOMAIN DROP NOT NULL"}.get(str(fields.get("subtype")), "ALTER DOMAIN"),
        (".".join(name_parts({"List": {"items": fields.get("typeName")}})),),
    )
    return False


# --- maintenance ------------------------------------------------------------------------------------------------------


def _vacuum(x: Extractor, fields: Node) -> bool:
    found = options(fields)
    is_full = "full" in found and is_on(found["full"])
    kind = "VACUUM FULL" if is_full else "VACUUM" if fields.get("is_vacuumcmd") else "ANALYZE"
    x.statement.kind = kind
    for item in items(fields, "rels"):
        relation = x.relation(only(item)[1].get("relation"))
        if is_full:
            x.lock(relation, "ACCESS EXCLUSIVE")
            x.facts.rewrites.append((relation, x.index))
    x.act(kind)
    return False


def _cluster(x: Extractor, fields: Node) -> bool:
    objects: tuple[str, ...] = ()
    if "relation" in fields:
        table = x.relation(fields["relation"])
        objects = (str(table),)
        x.lock(table, "ACCESS EXCLUSIVE")
        x.facts.rewrites.append((table, x.index))
    x.act("CLUSTER", objects)
    return False


def _reindex(x: Extractor, fields: Node) -> bool:
    found = options(fields, "params")
    concurrently = "concurrently" in found and is_on(found["concurrently"])
    if "relation" in fields:
        x.note(str(x.relation(fields["relation"])))
    x.act("REINDEX CONCURRENTLY" if concurrently else "REINDEX")
    return False


def _refresh(x: Extractor, fields: Node) -> bool:
    view = x.relation(fields.get("relation"))
    kind = "REFRESH MATERIALIZED VIEW" + (
        " CONCURRENTLY" if fields.get("concurrent") else " WITH NO DATA" if fields.get("skipData") else ""
    )
    x.lock(view, "EXCLUSIVE" if fields.get("concurrent") else "ACCESS EXCLUSIVE")
    x.act(kind, (str(view),))
    return False


# --- what needs no more than its name -----------------------------------------------------------------------------------


def does(kind: str, inside: bool = False) -> Visitor:
    """A statement that is told by its command words alone; `inside` when expressions or queries in it run now."""

    def visit(x: Extractor, fields: Node) -> bool:
        x.act(kind)
        return inside

    return visit


def _create_schema(x: Extractor, fields: Node) -> bool:
    x.act("CREATE SCHEMA", (str(fields.get("schemaname", "")),))
    return True


def _create_extension(x: Extractor, fields: Node) -> bool:
    x.act("CREATE EXTENSION", (str(fields.get("extname", "")),))
    return False


def _create_language(x: Extractor, fields: Node) -> bool:
    x.act("CREATE LANGUAGE", (str(fields.get("plname", "")),))
    return False


def _replica_identity(x: Extractor, fields: Node) -> bool:
    if fields.get("identity_type") == "n":
        x.act("REPLICA IDENTITY NOTHING")
    return False


def _policy(kind: str) -> Visitor:
    def visit(x: Extractor, fields: Node) -> bool:
        x.act(kind, (str(x.relation(fields.get("table"))),))
        x.visit({"qual": fields.get("qual"), "with_check": fields.get("with_check")})
        return False

    return visit


def _publication(kind: str) -> Visitor:
    def visit(x: Extractor, fields: Node) -> bool:
        x.act(kind, (str(fields.get("pubname") or fields.get("subname") or ""),))
        return False

    return visit


def _enum(x: Extractor, fields: Node) -> bool:
    x.act("ALTER TYPE" if "oldVal" not in fields else "RENAME VALUE", (".".join(name_parts({"List": {"items": fields.get("typeName")}})),))
    return False


def _comment(x: Extractor, fields: Node) -> bool:
    if isinstance(fields.get("object"), dict | list):
        x.note(".".join(name_parts(fields["object"])))
    x.act("COMMENT")
    return False


def _statistics(x: Extractor, fields: Node) -> bool:
    x.act("CREATE STATISTICS", tuple(p for n in list_items(fields.get("defnames")) for p in name_parts(n)))
    return False


VISITORS: Final[dict[str, Visitor]] = {
    "CreateStmt": _create_table,
    "CreateForeignTableStmt": _create_table,
    "CreateSeqStmt": _create_sequence,
    "CreateTableAsStmt": _create_table_as,
    "IndexStmt": _create_index,
    "CreateTrigStmt": _create_trigger,
    "DefineStmt": _define,
    "CreateSchemaStmt": _create_schema,
    "CreateExtensionStmt": _create_extension,
    "CreatePLangStmt": _create_language,
    "CreatePolicyStmt": _policy("CREATE POLICY"),
    "AlterPolicyStmt": _policy("ALTER POLICY"),
    "CreatePublicationStmt": _publication("CREATE PUBLICATION"),
    "AlterPublicationStmt": _publication("ALTER PUBLICATION"),
    "CreateSubscriptionStmt": _publication("CREATE SUBSCRIPTION"),
    "AlterSubscriptionStmt": _publication("ALTER SUBSCRIPTION"),
    "CreateStatsStmt": _statistics,
    "DropStmt": _drop,
    "DropdbStmt": _drop_named("DATABASE", "dbname"),
    "DropTableSpaceStmt": _drop_named("TABLESPACE", "tablespacename"),
    "DropSubscriptionStmt": _drop_named("SUBSCRIPTION", "subname"),
    "DropUserMappingStmt": _drop_named("USER MAPPING", "servername"),
    "DropRoleStmt": _drop_roles("ROLE"),
    "DropOwnedStmt": _drop_roles("OWNED"),
    "AlterTableStmt": _alter_table,
    "ReplicaIdentityStmt": _replica_identity,
    "RenameStmt": _rename,
    "AlterObjectSchemaStmt": _set_schema,
    "AlterOwnerStmt": _owner,
    "AlterSeqStmt": _alter_sequence,
    "AlterDomainStmt": _alter_domain,
    "AlterEnumStmt": _enum,
    "CommentStmt": _comment,
    "VacuumStmt": _vacuum,
    "ClusterStmt": _cluster,
    "ReindexStmt": _reindex,
    "RefreshMatViewStmt": _refresh,
    "AlterTableMoveAllStmt": does("ALTER TABLE ALL IN TABLESPACE"),
    "CreateDomainStmt": does("CREATE DOMAIN", inside=True),
    "CompositeTypeStmt": does("CREATE TYPE"),
    "CreateEnumStmt": does("CREATE TYPE"),
    "CreateRangeStmt": does("CREATE TYPE"),
    "AlterTypeStmt": does("ALTER TYPE"),
    "AlterCollationStmt": does("ALTER COLLATION"),
    "AlterOperatorStmt": does("ALTER OPERATOR"),
    "AlterStatsStmt": does("ALTER STATISTICS"),
    "AlterObjectDependsStmt": does("ALTER DEPENDS"),
    "AlterTSDictionaryStmt": does("ALTER TEXT SEARCH DICTIONARY"),
    "AlterTSConfigurationStmt": does("ALTER TEXT SEARCH CONFIGURATION"),
    "CreateOpClassStmt": does("CREATE OPERATOR CLASS"),
    "CreateOpFamilyStmt": does("CREATE OPERATOR FAMILY"),
    "AlterOpFamilyStmt": does("ALTER OPERATOR FAMILY"),
    "CreateConversionStmt": does("CREATE CONVERSION"),
    "CreateCastStmt": _create_cast,
    "CreateTransformStmt": does("CREATE TRANSFORM"),
    "CreateAmStmt": does("CREATE ACCESS METHOD"),
    "CreateEventTrigStmt": does("CREATE EVENT TRIGGER"),
    "AlterEventTrigStmt": does("ALTER EVENT TRIGGER"),
    "AlterExtensionStmt": does("ALTER EXTENSION"),
    "AlterExtensionContentsStmt": does("ALTER EXTENSION"),
    "CreateFdwStmt": does("CREATE FOREIGN DATA WRAPPER"),
    "AlterFdwStmt": does("ALTER FOREIGN DATA WRAPPER"),
    "CreateForeignServerStmt": does("CREATE SERVER"),
    "AlterForeignServerStmt": does("ALTER SERVER"),
    "CreateUserMappingStmt": does("CREATE USER MAPPING"),
    "AlterUserMappingStmt": does("ALTER USER MAPPING"),
    "ImportForeignSchemaStmt": does("IMPORT FOREIGN SCHEMA"),
    "CreateTableSpaceStmt": does("CREATE TABLESPACE"),
    "AlterTableSpaceOptionsStmt": does("ALTER TABLESPACE"),
    "CreatedbStmt": does("CREATE DATABASE"),
    "AlterDatabaseStmt": does("ALTER DATABASE"),
    "AlterDatabaseRefreshCollStmt": does("ALTER DATABASE"),
}
