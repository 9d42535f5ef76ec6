"""The grammar's statement nodes by PostgreSQL's command words, and the names that rules need to know by heart."""

from __future__ import annotations

import re
from typing import Final

_WORDS: Final = re.compile(r"[A-Z][a-z0-9]*")

#: Where the words in the node's name are not the command's.
_COMMANDS: Final = {
    "SelectStmt": "SELECT",
    "InsertStmt": "INSERT",
    "UpdateStmt": "UPDATE",
    "DeleteStmt": "DELETE",
    "MergeStmt": "MERGE",
    "CreateStmt": "CREATE TABLE",
    "IndexStmt": "CREATE INDEX",
    "ViewStmt": "CREATE VIEW",
    "RuleStmt": "CREATE RULE",
    "CreateTableAsStmt": "CREATE TABLE AS",
    "CreateSeqStmt": "CREATE SEQUENCE",
    "AlterSeqStmt": "ALTER SEQUENCE",
    "CreateTrigStmt": "CREATE TRIGGER",
    "CreateEventTrigStmt": "CREATE EVENT TRIGGER",
    "AlterEventTrigStmt": "ALTER EVENT TRIGGER",
    "CreatedbStmt": "CREATE DATABASE",
    "DropdbStmt": "DROP DATABASE",
    "DropTableSpaceStmt": "DROP TABLESPACE",
    "CreateTableSpaceStmt": "CREATE TABLESPACE",
    "CreatePLangStmt": "CREATE LANGUAGE",
    "DefineStmt": "CREATE",
    "VariableSetStmt": "SET",
    "VariableShowStmt": "SHOW",
    "DeclareCursorStmt": "DECLARE CURSOR",
    "ClosePortalStmt": "CLOSE",
    "CheckPointStmt": "CHECKPOINT",
    "CompositeTypeStmt": "CREATE TYPE",
    "CreateEnumStmt": "CREATE TYPE",
    "CreateRangeStmt": "CREATE TYPE",
    "AlterEnumStmt": "ALTER TYPE",
    "GrantRoleStmt": "GRANT ROLE",
    "ConstraintsSetStmt": "SET CONSTRAINTS",
    "RefreshMatViewStmt": "REFRESH MATERIALIZED VIEW",
    "SecLabelStmt": "SECURITY LABEL",
    "AlterObjectSchemaStmt": "ALTER SET SCHEMA",
    "AlterOwnerStmt": "ALTER OWNER",
    "RenameStmt": "ALTER RENAME",
    "CreateFdwStmt": "CREATE FOREIGN DATA WRAPPER",
    "CreateForeignServerStmt": "CREATE SERVER",
    "CreatePublicationStmt": "CREATE PUBLICATION",
    "CreateFunctionStmt": "CREATE FUNCTION",
}


def command(tag: str) -> str:
    """The command words of a statement node: "DropOwnedStmt" is DROP OWNED."""
    return _COMMANDS.get(tag) or " ".join(_WORDS.findall(tag.removesuffix("Stmt"))).upper()


#: Of DropStmt.removeType, where the words differ from the enum's.
OBJECTS: Final = {
    "OBJECT_MATVIEW": "MATERIALIZED VIEW",
    "OBJECT_OPCLASS": "OPERATOR CLASS",
    "OBJECT_OPFAMILY": "OPERATOR FAMILY",
    "OBJECT_FDW": "FOREIGN DATA WRAPPER",
    "OBJECT_FOREIGN_SERVER": "SERVER",
    "OBJECT_TSCONFIGURATION": "TEXT SEARCH CONFIGURATION",
    "OBJECT_TSDICTIONARY": "TEXT SEARCH DICTIONARY",
    "OBJECT_TSPARSER": "TEXT SEARCH PARSER",
    "OBJECT_TSTEMPLATE": "TEXT SEARCH TEMPLATE",
    "OBJECT_STATISTIC_EXT": "STATISTICS",
}


def object_kind(enum: str) -> str:
    return OBJECTS.get(enum) or enum.removeprefix("OBJECT_").replace("_", " ")


#: Kinds of DROP whose objects can be temporary relations.
RELATION_KINDS: Final = frozenset({"TABLE", "VIEW", "SEQUENCE", "INDEX"})

SYSTEM_SCHEMAS: Final = frozenset({"pg_catalog", "pg_toast", "information_schema"})

#: Shared and per-database catalogs that are worth an attack without their schema named (catalogs.html).
SYSTEM_CATALOGS: Final = re.compile(
    r"pg_(aggregate|am|amop|amproc|attrdef|attribute|auth_members|authid|cast|class|collation|constraint|conversion|database"
    r"|db_role_setting|default_acl|depend|description|enum|event_trigger|extension|foreign_\w+|index|inherits|init_privs|language"
    r"|largeobject\w*|namespace|opclass|operator|opfamily|parameter_acl|partitioned_table|policy|proc|publication\w*|range"
    r"|replication_origin|rewrite|seclabel|sequence|shdepend|shdescription|shseclabel|statistic\w*|subscription\w*|tablespace"
    r"|transform|trigger|ts_\w+|type|user_mapping|settings|shadow|roles|user)$"
)
