"""Functions and statements that rules know by name."""

from __future__ import annotations

from typing import Final

from policy.rules._harmless import HARMLESS_FUNCTIONS

#: Read or write files of the server (functions-admin.html#FUNCTIONS-ADMIN-GENFILE, lo-funcs.html, adminpack, file_fdw).
SERVER_FILES: Final = frozenset(
    [
        "lo_import",
        "lo_export",
        "pg_read_file",
        "pg_read_binary_file",
        "pg_ls_dir",
        "pg_ls_logdir",
        "pg_ls_waldir",
        "pg_ls_archive_statusdir",
        "pg_ls_tmpdir",
        "pg_ls_replslotdir",
        "pg_ls_logicalsnapdir",
        "pg_ls_logicalmapdir",
        "pg_ls_summariesdir",
        "pg_stat_file",
        "pg_file_write",
        "pg_file_rename",
        "pg_file_unlink",
        "pg_file_sync",
        "pg_file_read",
        "pg_file_length",
        "pg_logdir_ls",
    ]
)

#: Open a connection that nobody here sees, or run SQL through one.
SECOND_CONNECTIONS: Final = frozenset(["dblink", "dblink_exec", "dblink_open", "dblink_connect", "dblink_connect_u", "dblink_send_query"])

_SERVER: Final = "it changes the state of the server"
_LATER: Final = "it runs SQL later or elsewhere"

#: What each does, for those without a rule of their own (functions-admin.html).
DANGEROUS: Final[dict[str, str]] = {
    "pg_terminate_backend": "it ends other sessions",
    "pg_cancel_backend": "it cancels statements of other sessions",
    **dict.fromkeys(
        [
            "pg_reload_conf",
            "pg_rotate_logfile",
            "pg_switch_wal",
            "pg_promote",
            "pg_wal_replay_pause",
            "pg_wal_replay_resume",
            "pg_backup_start",
            "pg_backup_stop",
            "pg_start_backup",
            "pg_stop_backup",
            "pg_create_restore_point",
            "pg_stat_reset",
            "pg_stat_reset_shared",
            "pg_import_system_collations",
            "pg_extension_config_dump",
            "pg_nextoid",
            "pg_stop_making_pinned_objects",
        ],
        _SERVER,
    ),
    **dict.fromkeys(["schedule_in_database", "pg_background_launch", "http_post", "http_delete", "http_put"], _LATER),
}
#: Extensions whose schema is their own: anything but looking runs later or elsewhere.
LATER_SCHEMAS: Final = {"cron": ("schedule", "unschedule", "alter_job"), "net": ("http_get", "http_post", "http_delete")}

#: Run SQL that is given as text. ts_rewrite does so with two arguments only.
SQL_TEXT_FUNCTIONS: Final = frozenset(
    [
        "query_to_xml",
        "query_to_xmlschema",
        "query_to_xml_and_xmlschema",
        "cursor_to_xml",
        "cursor_to_xmlschema",
        "ts_stat",
        "xpath_table",
        "crosstab",
        "crosstab2",
        "crosstab3",
        "crosstab4",
        "connectby",
    ]
)

LARGE_OBJECT_WRITERS: Final = {
    "lo_unlink": "destroys",
    "lo_put": "overwrites",
    "lowrite": "overwrites",
    "lo_truncate": "cuts",
    "lo_truncate64": "cuts",
}

#: Replication slots and origins (functions-admin.html#FUNCTIONS-REPLICATION).
SLOT_FUNCTIONS: Final = frozenset(
    [
        "pg_drop_replication_slot",
        "pg_replication_slot_advance",
        "pg_logical_slot_get_changes",
        "pg_logical_slot_get_binary_changes",
        "pg_replication_origin_drop",
        "pg_replication_origin_advance",
        "pg_replication_origin_create",
        "pg_replication_origin_session_setup",
        "pg_replication_origin_session_reset",
        "pg_replication_origin_xact_setup",
        "pg_replication_origin_xact_reset",
        "pg_logical_emit_message",
    ]
)

#: Keep a connection busy, make large objects or reset what others look at.
SESSION_FUNCTIONS: Final = frozenset(
    [
        "pg_sleep",
        "pg_sleep_for",
        "pg_sleep_until",
        "lo_creat",
        "lo_create",
        "lo_from_bytea",
        "lo_open",
        "pg_stat_reset_slru",
        "pg_stat_reset_single_table_counters",
        "pg_stat_reset_single_function_counters",
        "pg_stat_reset_replication_slot",
        "pg_stat_reset_subscription_stats",
        "pg_stat_reset_backend_stats",
        "pg_stat_statements_reset",
        "pg_create_physical_replication_slot",
        "pg_create_logical_replication_slot",
        "pg_copy_physical_replication_slot",
        "pg_copy_logical_replication_slot",
        "pg_log_backend_memory_contexts",
    ]
)

#: Functions that another rule speaks of.
NAMED_ELSEWHERE: Final = (
    frozenset(DANGEROUS)
    | SQL_TEXT_FUNCTIONS
    | frozenset(LARGE_OBJECT_WRITERS)
    | SLOT_FUNCTIONS
    | SESSION_FUNCTIONS
    | SERVER_FILES
    | SECOND_CONNECTIONS
    | {"setval", "set_config"}
)

#: What a read-only identity may send.
READING_STATEMENTS: Final = frozenset(
    """SELECT|BEGIN|START|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|ROLLBACK TO|SHOW|SET|RESET|FETCH|CLOSE|DECLARE CURSOR|PREPARE|EXECUTE
    |DEALLOCATE|LISTEN|UNLISTEN|NOTIFY|EXPLAIN|EXPLAIN ANALYZE|EXPLAIN SELECT|EXPLAIN INSERT|EXPLAIN UPDATE|EXPLAIN DELETE|EXPLAIN MERGE
    |EXPLAIN EXECUTE|EXPLAIN CREATE TABLE AS|EXPLAIN DECLARE CURSOR|COPY|SET CONSTRAINTS|LOCK|DISCARD ALL|DISCARD PLANS|DISCARD SEQUENCES
    |DISCARD TEMP|startup|CREATE TABLE|CREATE TABLE AS|INSERT|UPDATE|DELETE|MERGE|TRUNCATE|DROP TABLE""".replace("\n    ", "").split("|")
)
READING_ACTS: Final = frozenset({"LOCK", "DISCARD ALL", "DISCARD PLANS", "DISCARD SEQUENCES", "DISCARD TEMP"})

__all__ = [
    "DANGEROUS",
    "HARMLESS_FUNCTIONS",
    "LARGE_OBJECT_WRITERS",
    "LATER_SCHEMAS",
    "NAMED_ELSEWHERE",
    "READING_ACTS",
    "READING_STATEMENTS",
    "SECOND_CONNECTIONS",
    "SERVER_FILES",
    "SESSION_FUNCTIONS",
    "SLOT_FUNCTIONS",
    "SQL_TEXT_FUNCTIONS",
]
