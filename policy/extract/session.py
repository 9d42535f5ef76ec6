"""The session and the server: transactions, settings, roles and rights, LISTEN, and commands to the server."""

from __future__ import annotations

from typing import Final

from policy.conditions import constant
from policy.extract.extractor import Extractor, Visitor
from policy.extract.schema import does
from policy.facts import RoleChange
from policy.judgement import ClosesCursor, Deallocates, SetsRole, SetsSearchPath, TransactionStep
from policy.nodes import is_on, items, list_items, only, role_name
from policy.parse import Json, Node

_STEPS: Final = {
    "TRANS_STMT_BEGIN": TransactionStep.BEGIN,
    "TRANS_STMT_START": TransactionStep.BEGIN,
    "TRANS_STMT_COMMIT": TransactionStep.COMMIT,
    "TRANS_STMT_ROLLBACK": TransactionStep.ROLLBACK,
    "TRANS_STMT_SAVEPOINT": TransactionStep.SAVEPOINT,
    "TRANS_STMT_RELEASE": TransactionStep.RELEASE,
    "TRANS_STMT_ROLLBACK_TO": TransactionStep.ROLLBACK_TO,
    "TRANS_STMT_PREPARE": TransactionStep.PREPARE,
}


def _transaction(x: Extractor, fields: Node) -> bool:
    kind = str(fields.get("kind"))
    x.statement.kind = kind.removeprefix("TRANS_STMT_").replace("_", " ")
    step = _STEPS.get(kind)
    x.statement.transaction = step
    if step in (TransactionStep.COMMIT, TransactionStep.ROLLBACK, TransactionStep.ROLLBACK_TO, TransactionStep.PREPARE):
        x.transaction_ends(committed=step is TransactionStep.COMMIT)
    _modes(x, items(fields, "options"))
    if kind in ("TRANS_STMT_PREPARE", "TRANS_STMT_COMMIT_PREPARED", "TRANS_STMT_ROLLBACK_PREPARED"):
        x.act("PREPARE TRANSACTION" if step else x.statement.kind)
    return False


def _modes(x: Extractor, options: list[Json]) -> None:
    """READ ONLY and READ WRITE, which are settings by another name (sql-set-transaction.html)."""
    for option in options:
        element = only(option)[1]
        if str(element.get("defname")).endswith("transaction_read_only"):
            x.sets("transaction_read_only", "on" if constant(element.get("arg")) else "off")


# --- settings ---------------------------------------------------------------------------------------------------------


def _variable_set(x: Extractor, fields: Node) -> bool:
    kind = str(fields.get("kind"))
    name = str(fields.get("name", "")).lower()
    if kind == "VAR_RESET_ALL":
        x.statement.kind = "RESET"
        x.statement.effects.append(SetsSearchPath(None))
    if kind == "VAR_SET_MULTI":
        _modes(x, items(fields, "args"))
    if kind in ("VAR_SET_MULTI", "VAR_SET_CURRENT") or not name:
        return False
    is_reset = kind in ("VAR_RESET", "VAR_SET_DEFAULT")
    if kind == "VAR_RESET":
        x.statement.kind = "RESET"
    x.sets(name, _value(fields), is_reset)
    return False


def _value(fields: Node) -> str | None:
    values = [constant(a) for a in items(fields, "args")]
    texts = ["on" if v is True else "off" if v is False else None if v is None else str(v) for v in values]
    return ", ".join(t for t in texts if t is not None) if texts and None not in texts else None


def _persisted(owner: str, field: str) -> Visitor:
    """ALTER ROLE … SET and ALTER DATABASE … SET: the setting of sessions to come."""

    def visit(x: Extractor, fields: Node) -> bool:
        setting = only({"s": fields.get("setstmt")})[1]
        name = str(setting.get("name", "all")).lower()
        target = fields.get(field)
        who = target if isinstance(target, str) else role_name(target) if target else "ALL"
        x.statement.kind = f"ALTER {owner} SET"
        x.act(f"ALTER {owner} SET", (str(who),), detail=f"{name}={_value(setting) or ''}")
        return False

    return visit


def _alter_system(x: Extractor, fields: Node) -> bool:
    x.statement.kind = "ALTER SYSTEM"
    x.act("ALTER SYSTEM")
    return False


def _discard(x: Extractor, fields: Node) -> bool:
    target = fields.get("target")
    x.statement.kind = f"DISCARD {str(target).removeprefix('DISCARD_')}"
    if target in ("DISCARD_ALL", "DISCARD_TEMP"):
        x.forget_all_temp()
    if target == "DISCARD_ALL":
        x.prepared.clear()
        x.statement.effects += [Deallocates(None), ClosesCursor(None), SetsRole(None), SetsSearchPath(None)]
    x.act(x.statement.kind)
    return False


# --- roles and rights -------------------------------------------------------------------------------------------------


def _role(kind: str) -> Visitor:
    def visit(x: Extractor, fields: Node) -> bool:
        powers = []
        for option in items(fields, "options"):
            element = only(option)[1]
            name = str(element.get("defname"))
            if name in ("superuser", "createrole", "isreplication", "bypassrls") and is_on(element.get("arg")):
                powers.append({"isreplication": "replication"}.get(name, name))
            if name in ("addroleto", "rolemembers") and any(role_name(r).startswith("pg_") for r in list_items(element.get("arg"))):
                powers.append("predefined role")
        target = fields.get("role")
        name = target if isinstance(target, str) else role_name(target)
        x.facts.roles.append(RoleChange(name, tuple(powers), x.index))
        x.act(kind, (name,))
        return False

    return visit


def _grant_role(x: Extractor, fields: Node) -> bool:
    granted = [str(only(r)[1].get("priv_name", "")) for r in items(fields, "granted_roles")]
    powers = tuple(r for r in granted if r.startswith("pg_")) if fields.get("is_grant") else ()
    x.facts.roles.append(RoleChange(", ".join(granted), powers, x.index))
    x.act("GRANT ROLE" if fields.get("is_grant") else "REVOKE ROLE", tuple(granted))
    return False


def _grant(x: Extractor, fields: Node) -> bool:
    if fields.get("objtype") == "OBJECT_TABLE":
        for item in items(fields, "objects"):
            if only(item)[0] == "RangeVar":
                x.relation(item)
    x.statement.kind = "GRANT" if fields.get("is_grant") else "REVOKE"
    x.act(x.statement.kind)
    return False


def _load(x: Extractor, fields: Node) -> bool:
    x.act("LOAD", (str(fields.get("filename", "")),))
    return False


def _security_label(x: Extractor, fields: Node) -> bool:
    x.act("SECURITY LABEL")
    return False


def _quiet(x: Extractor, fields: Node) -> bool:
    return False


VISITORS: Final[dict[str, Visitor]] = {
    "TransactionStmt": _transaction,
    "VariableSetStmt": _variable_set,
    "AlterRoleSetStmt": _persisted("ROLE", "role"),
    "AlterDatabaseSetStmt": _persisted("DATABASE", "dbname"),
    "AlterSystemStmt": _alter_system,
    "DiscardStmt": _discard,
    "CreateRoleStmt": _role("CREATE ROLE"),
    "AlterRoleStmt": _role("ALTER ROLE"),
    "GrantRoleStmt": _grant_role,
    "GrantStmt": _grant,
    "AlterDefaultPrivilegesStmt": does("ALTER DEFAULT PRIVILEGES"),
    "ReassignOwnedStmt": does("REASSIGN OWNED"),
    "SecLabelStmt": _security_label,
    "LoadStmt": _load,
    "CheckPointStmt": does("CHECKPOINT"),
    "VariableShowStmt": _quiet,
    "ConstraintsSetStmt": _quiet,
    "ListenStmt": _quiet,
    "UnlistenStmt": _quiet,
    "NotifyStmt": _quiet,
    "FetchStmt": _quiet,
}
