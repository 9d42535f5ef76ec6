"""What each statement of a script can destroy, so that it can be copied first.

Read from the text of a script that was held, by the same extraction that judged it. What is not known to be harmless is `UNKNOWN`, and then
everything is copied: a kind of statement, an action of ALTER TABLE, or a script that reads otherwise here than when it was judged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from policy.bounds import look
from policy.context import Context
from policy.engine import FUNCTION_CALL
from policy.extract import VISITORS, Extractor
from policy.facts import Alter, Condition, Facts, Relation
from policy.judgement import Judgement
from policy.nodes import only, walk
from policy.parse import GrammarError, Json, Node, TooDeepError, parse, tree, without_comments
from policy.rules._functions import LARGE_OBJECT_WRITERS, LATER_SCHEMAS, SECOND_CONNECTIONS, SERVER_FILES, SQL_TEXT_FUNCTIONS
from policy.rules._harmless import HARMLESS_FUNCTIONS
from policy.verdict import Verdict


class Lost(StrEnum):
    """What is lost with a statement.

    nothing: no data, no definition. definitions: of objects without rows of their own, or of parts of tables. rows: those that a condition
    matches. content: of whole tables, which stay. tables: with their content. objects: others, such as types or extensions, and what CASCADE
    takes with them. schemas, database: all that is in them. large objects: some of them. calls: whatever these functions change, if they
    can change something. unknown: anything.
    """

    NOTHING = "nothing"
    DEFINITIONS = "definitions"
    ROWS = "rows"
    CONTENT = "content"
    TABLES = "tables"
    OBJECTS = "objects"
    SCHEMAS = "schemas"
    DATABASE = "database"
    LARGE_OBJECTS = "large objects"
    CALLS = "calls"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Loss:
    """Of one statement; a statement may have several.

    Attributes:
        why: for people.
        names: of relations, schemas, … as written and quoted (facts.Relation); of functions for CALLS.
        kind: of OBJECTS and DEFINITIONS, the kind of object: "TYPE", "EXTENSION", …; of ROWS and CONTENT the verb.
        cascade: CASCADE was said, or what depends on it goes as well.
    """

    what: Lost
    statement: int
    why: str
    names: tuple[str, ...] = ()
    kind: str = ""
    cascade: bool = False


def losses_of(script: str, judgement: Judgement) -> tuple[Loss, ...]:
    """At least one for each statement; one UNKNOWN when the script cannot be read, or not as it was judged."""
    if FUNCTION_CALL in judgement.rule_ids:
        writers = [n for n in LARGE_OBJECT_WRITERS if f"{n}()" in judgement.display]
        if writers:
            return (Loss(Lost.LARGE_OBJECTS, 0, f"{writers[0]}() changes a large object"),)
        return (Loss(Lost.UNKNOWN, 0, "a function is called by its number"),)
    try:
        data = script.encode()
        if look(data) is not None:
            return (Loss(Lost.UNKNOWN, 0, "the script is too long or too deep to be analysed"),)
        statements = tree(_parsed(data))
        facts = Extractor(VISITORS, Context(), lambda _trees, _context, _depth: _NOT_JUDGED).read(statements, len(data))
        found = tuple(_losses(facts, statements, judgement))
    except (GrammarError, TooDeepError, RecursionError, UnicodeEncodeError):
        return (Loss(Lost.UNKNOWN, 0, "the script cannot be analysed"),)
    return found


#: What is inside DO blocks and functions plays no part: DO is unknown, and what is stored does not run.
_NOT_JUDGED: Final = Judgement(Verdict.ALLOW)


def _parsed(data: bytes) -> bytes:
    try:
        return parse(data)
    except GrammarError:
        bare = without_comments(data)
        if bare is None:
            raise
        return parse(bare)


def _losses(facts: Facts, statements: list[Node], judgement: Judgement) -> Iterator[Loss]:
    if [(s.kind, tuple(s.relations)) for s in facts.statements] != [(s.kind, s.relations) for s in judgement.statements]:
        # Backslashes in strings, settings of the session: whatever it was, it was read in another way.
        yield Loss(Lost.UNKNOWN, 0, "the script is read in another way than it was judged")
        return
    by_statement: dict[int, list[Loss]] = defaultdict(list)
    for loss in _each(facts):
        by_statement[loss.statement].append(loss)
    for index, raw in enumerate(statements):
        for table in _overwriting_inserts(raw["stmt"]):
            by_statement[index].append(
                Loss(Lost.CONTENT, index, f"INSERT … ON CONFLICT DO UPDATE changes rows of {table}", (table,), "INSERT")
            )
    destroys = any(x.what is not Lost.NOTHING for found in by_statement.values() for x in found)
    for index, statement in enumerate(facts.statements):
        found = by_statement.get(index, [])
        if not statement.certain:
            yield Loss(Lost.UNKNOWN, index, f"{statement.kind} has a part that is not known to this version")
        if not found and statement.kind not in _QUIET and not statement.kind.startswith("EXPLAIN "):
            yield Loss(Lost.UNKNOWN, index, f"what {statement.kind} can destroy is not known")
        yield from found or [Loss(Lost.NOTHING, index, f"{statement.kind} destroys nothing")]
    if destroys and len(facts.statements) > 1 and (shift := _shift(facts)):
        yield Loss(Lost.UNKNOWN, 0, f"after {shift} the names in the script mean something else")


def _shift(facts: Facts) -> str:
    """Why a later statement's names may not mean what they mean before the script runs; empty when they do."""
    for act in facts.acts:
        if act.kind.startswith(_SHIFTING):
            return act.kind
    for setting in facts.settings:
        if setting.name in ("search_path", "role", "session_authorization"):
            return f"SET {setting.name}"
    for alter in facts.alters:
        if alter.action in ("AttachPartition", "AddInherit"):
            return "ALTER TABLE … ATTACH PARTITION or INHERIT"
        if alter.constraint == "FOREIGN":
            return "ALTER TABLE … ADD FOREIGN KEY"
    return ""


#: What gives names to things, takes them away, or makes one relation reach another.
_SHIFTING: Final = ("RENAME", "SET SCHEMA", "CREATE VIEW", "CREATE OR REPLACE", "CREATE RULE", "CREATE TRIGGER", "CREATE EVENT TRIGGER", "CREATE FUNCTION", "CREATE PROCEDURE", "ALTER EXTENSION")  # fmt: skip


def _each(facts: Facts) -> Iterator[Loss]:
    yield from _of_rows(facts)
    for drop in facts.drops:
        yield _of_drop(drop.kind, drop.names, drop.cascade, drop.statement)
    for alter in facts.alters:
        yield _of_alter(alter, facts.statements[alter.statement].kind)
    for act in facts.acts:
        if not act.kind.startswith(("DROP ", "ALTER TABLE")) or act.kind == "ALTER TABLE ALL IN TABLESPACE":
            yield _of_act(act.kind, act.statement, act.objects)
    for copy in facts.copies:
        if copy.is_program or (not copy.is_from and copy.filename is not None):
            yield Loss(Lost.UNKNOWN, copy.statement, "COPY to a program or a file of the server can change anything there")
        else:
            yield Loss(Lost.NOTHING, copy.statement, "COPY adds rows, or reads them")
    for executed in facts.executed:
        yield Loss(Lost.UNKNOWN, executed.statement, f"what EXECUTE {executed.name} runs is not in its text")
    for relation, statement in facts.catalog_writes:
        yield Loss(Lost.UNKNOWN, statement, f"{relation} belongs to the catalog")
    yield from _of_calls(facts)


def _of_rows(facts: Facts) -> Iterator[Loss]:
    for change in facts.changes:
        table = str(change.table)
        if change.condition is Condition.NEVER:
            yield Loss(Lost.NOTHING, change.statement, f"{change.verb} on {table} matches no row")
        elif change.condition is Condition.FILTERED:
            yield Loss(Lost.ROWS, change.statement, f"{change.verb} changes rows of {table}", (table,), change.verb)
        else:
            yield Loss(Lost.CONTENT, change.statement, f"{change.verb} changes every row of {table}", (table,), change.verb)
    for merge in facts.merges:
        table = str(merge.table)
        if merge.deletes is None and merge.updates is None:
            yield Loss(Lost.NOTHING, merge.statement, f"MERGE adds rows to {table}")
        else:
            # Whether it inserts as well, which makes its count say nothing, is for the preview to tell.
            filtered = {merge.deletes, merge.updates} <= {None, Condition.FILTERED, Condition.NEVER}
            what = Lost.ROWS if filtered else Lost.CONTENT
            yield Loss(
                what, merge.statement, f"MERGE changes rows of {table}", (table,), "MERGE" if merge.deletes is None else "MERGE DELETE"
            )
    for truncate in facts.truncates:
        names = tuple(str(t) for t in truncate.tables)
        yield Loss(Lost.CONTENT, truncate.statement, f"TRUNCATE empties {', '.join(names)}", names, "TRUNCATE", truncate.cascade)


#: No rows of their own, and nothing without CASCADE that has.
_BARE: Final = frozenset(
    """VIEW|MATERIALIZED VIEW|INDEX|SEQUENCE|FOREIGN TABLE|TRIGGER|RULE|POLICY|FUNCTION|PROCEDURE|ROUTINE|AGGREGATE|TYPE|DOMAIN|OPERATOR
    |OPERATOR CLASS|OPERATOR FAMILY|COLLATION|CONVERSION|CAST|TRANSFORM|LANGUAGE|ACCESS METHOD|SERVER|FOREIGN DATA WRAPPER|USER MAPPING
    |TEXT SEARCH CONFIGURATION|TEXT SEARCH DICTIONARY|TEXT SEARCH PARSER|TEXT SEARCH TEMPLATE|STATISTICS|EVENT TRIGGER|PUBLICATION
    |SUBSCRIPTION|TABCONSTRAINT|DOMCONSTRAINT""".replace("\n    ", "").split("|")
)


def _of_drop(kind: str, names: tuple[str, ...], cascade: bool, statement: int) -> Loss:
    why = f"DROP {kind} {', '.join(names)}"
    if kind == "TABLE":
        return Loss(Lost.TABLES, statement, why, names, kind, cascade)
    if kind == "SCHEMA":
        return Loss(Lost.SCHEMAS if cascade else Lost.DEFINITIONS, statement, why, names, kind, cascade)
    if kind == "DATABASE":
        return Loss(Lost.DATABASE, statement, why, names, kind)
    if kind == "TABLESPACE":
        return Loss(Lost.NOTHING, statement, "a tablespace can be dropped only when it is empty", names, kind)
    if kind in ("ROLE", "USER", "GROUP"):
        return Loss(
            Lost.NOTHING, statement, "a role that owns something cannot be dropped, and the role itself is in no database", names, kind
        )
    if kind == "EXTENSION":
        return Loss(Lost.OBJECTS, statement, why, names, kind, cascade)
    if kind in _BARE:
        return Loss(Lost.OBJECTS if cascade else Lost.DEFINITIONS, statement, why, names, kind, cascade)
    return Loss(Lost.UNKNOWN, statement, why, names, kind, cascade)


#: Actions that take nothing away. What is in none of the two sets changes content, as far as anybody here knows.
_ADDS: Final = frozenset(
    """AddColumn|AddColumnToView|AddConstraint|AddIndex|AddIndexConstraint|SetNotNull|SetStatistics|ValidateConstraint|AddIdentity
    |AttachPartition|DetachPartition|DetachPartitionFinalize|EnableTrig|EnableAlwaysTrig|EnableReplicaTrig|EnableTrigAll|EnableTrigUser
    |DisableTrig|DisableTrigAll|DisableTrigUser|EnableRule|EnableAlwaysRule|EnableReplicaRule|DisableRule|EnableRowSecurity
    |DisableRowSecurity|ForceRowSecurity|NoForceRowSecurity|ClusterOn|DropCluster|SetTableSpace|SetLogged|SetUnLogged|SetAccessMethod
    |AddInherit|DropInherit|AddOf|DropOf|ReplicaIdentity|ChangeOwner|SetStorage|SetCompression""".replace("\n    ", "").split("|")
)
_REDEFINES: Final = frozenset(
    """ColumnDefault|CookedColumnDefault|DropConstraint|DropNotNull|AlterConstraint|DropIdentity|SetIdentity|DropExpression|SetRelOptions
    |ResetRelOptions|ReplaceRelOptions|SetOptions|ResetOptions|GenericOptions|AlterColumnGenericOptions""".replace("\n    ", "").split("|")
)


def _of_alter(alter: Alter, kind: str) -> Loss:
    table, action = str(alter.table), alter.action
    if action in _ADDS:
        return Loss(Lost.NOTHING, alter.statement, f"{kind} … {action} takes nothing away")
    if action in _REDEFINES or kind in ("ALTER VIEW", "ALTER INDEX", "ALTER SEQUENCE", "ALTER MATERIALIZED VIEW"):
        return Loss(Lost.DEFINITIONS, alter.statement, f"{kind} {table} {action}", (table,), "TABLE")
    if kind == "ALTER TYPE":
        return Loss(Lost.OBJECTS, alter.statement, f"{kind} {table} {action}", (table,), "TYPE", True)
    if kind in ("ALTER TABLE", "ALTER FOREIGN TABLE"):
        return Loss(Lost.CONTENT, alter.statement, f"{kind} {table} {action}", (table,), action)
    return Loss(Lost.UNKNOWN, alter.statement, f"{kind} {table} {action}", (table,))


_UNKNOWN_ACTS: Final = {
    "DO": "a DO block can change anything",
    "CALL": "a procedure can change anything",
    "ALTER EXTENSION": "the update script of an extension can change anything",
    "COMMIT PREPARED": "what another session has prepared can be anything",
}
_NO_LOSS: Final = frozenset(
    """ALTER DATABASE|ALTER DATABASE SET|ALTER ROLE SET|FUNCTION SET|ALTER DEFAULT PRIVILEGES|ALTER OWNER|ALTER DEPENDS|ALTER ROLE|ALTER SYSTEM
    |ALTER TABLE ALL IN TABLESPACE|ALTER TABLESPACE|ANALYZE|CHECKPOINT|CLUSTER|GRANT|GRANT ROLE|REVOKE|REVOKE ROLE|IMPORT FOREIGN SCHEMA|LOAD|LOCK
    |PREPARE TRANSACTION|ROLLBACK PREPARED|REASSIGN OWNED|REFRESH MATERIALIZED VIEW|REFRESH MATERIALIZED VIEW CONCURRENTLY
    |REFRESH MATERIALIZED VIEW WITH NO DATA|REINDEX|REINDEX CONCURRENTLY|REPLICA IDENTITY NOTHING|SET SCHEMA|VACUUM|VACUUM FULL
    |DISCARD ALL|DISCARD PLANS|DISCARD SEQUENCES|DISCARD TEMP""".replace("\n    ", "").split("|")
)
_REPLACED: Final = frozenset(
    """ALTER COLLATION|ALTER DOMAIN|ALTER DOMAIN DROP CONSTRAINT|ALTER DOMAIN DROP NOT NULL|ALTER EVENT TRIGGER|ALTER FOREIGN DATA WRAPPER
    |ALTER FUNCTION|ALTER OPERATOR|ALTER OPERATOR FAMILY|ALTER POLICY|ALTER PUBLICATION|ALTER SEQUENCE|ALTER SEQUENCE RESTART|ALTER SERVER
    |ALTER STATISTICS|ALTER SUBSCRIPTION|ALTER TEXT SEARCH CONFIGURATION|ALTER TEXT SEARCH DICTIONARY|ALTER TYPE|ALTER USER MAPPING
    |ALTER VIEW|ALTER INDEX|ALTER MATERIALIZED VIEW|ALTER FOREIGN TABLE|COMMENT|SECURITY LABEL""".replace("\n    ", "").split("|")
)


def _of_act(kind: str, statement: int, objects: tuple[str, ...]) -> Loss:
    if kind in _UNKNOWN_ACTS:
        return Loss(Lost.UNKNOWN, statement, _UNKNOWN_ACTS[kind])
    if kind.startswith("CREATE OR REPLACE") or kind in _REPLACED:
        return Loss(Lost.DEFINITIONS, statement, f"{kind} replaces a definition", objects)
    if kind.startswith(("CREATE ", "RENAME")) or kind in _NO_LOSS:
        return Loss(Lost.NOTHING, statement, f"{kind} takes no data and no definition away")
    return Loss(Lost.UNKNOWN, statement, f"what {kind} can destroy is not known")


def _of_calls(facts: Facts) -> Iterator[Loss]:
    names: dict[int, dict[str, None]] = defaultdict(dict)
    for call in facts.calls:
        if call.name in LARGE_OBJECT_WRITERS:
            yield Loss(Lost.LARGE_OBJECTS, call.statement, f"{call.name}() {LARGE_OBJECT_WRITERS[call.name]} a large object")
        elif call.name in SECOND_CONNECTIONS or call.name in SQL_TEXT_FUNCTIONS or call.name in LATER_SCHEMAS.get(call.schema, ()):
            yield Loss(Lost.UNKNOWN, call.statement, f"{call.name}() runs SQL that is not seen here")
        elif call.name in SERVER_FILES:
            yield Loss(Lost.UNKNOWN, call.statement, f"{call.name}() reaches files of the server")
        elif call.name in ("setval", "nextval"):
            yield Loss(Lost.DEFINITIONS, call.statement, f"{call.name}() sets a sequence", kind="SEQUENCE")
        elif call.name not in HARMLESS_FUNCTIONS or call.schema not in ("", "pg_catalog"):
            names[call.statement][str(Relation(call.schema, call.name))] = None
    for statement, called in names.items():
        yield Loss(Lost.CALLS, statement, f"calls {', '.join(called)}", tuple(called))


def _overwriting_inserts(node: Json) -> Iterator[str]:
    """Tables whose rows an INSERT … ON CONFLICT DO UPDATE anywhere in the statement may change."""
    for key, value in walk(node):
        if key == "InsertStmt" and isinstance(value, dict):
            conflict = only({"c": value.get("onConflictClause")})[1]
            target = only({"r": value.get("relation")})[1]
            if conflict.get("action") == "ONCONFLICT_UPDATE":
                yield str(Relation(str(target.get("schemaname", "")), str(target.get("relname", ""))))


#: Statements that say by themselves that they destroy nothing: what they contain of others is found by its own facts.
_QUIET: Final = frozenset(
    """SELECT|INSERT|UPDATE|DELETE|MERGE|COPY|BEGIN|START|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|ROLLBACK TO|PREPARE|SET|RESET|SHOW|SET CONSTRAINTS
    |LISTEN|UNLISTEN|NOTIFY|FETCH|CLOSE|DECLARE CURSOR|PREPARE TRANSACTION|DEALLOCATE|EXPLAIN ANALYZE|EXECUTE|LOCK|CALL|startup""".replace(
        "\n    ", ""
    ).split("|")
)
