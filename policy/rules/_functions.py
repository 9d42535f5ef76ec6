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

_TEXT: Final = "it runs SQL that is given as text"
_SERVER: Final = "it changes the state of the server"
_SLOT: Final = "it changes what replicas and subscribers get"
_LATER: Final = "it runs SQL later or elsewhere"

#: What each does.
DANGEROUS: Final[dict[str, str]] = {
    "lo_unlink": "it destroys a large object",
    "lo_put": "it overwrites a large object",
    "lowrite": "it overwrites a large object",
    "lo_truncate": "it cuts a large object",
    "lo_truncate64": "it cuts a large object",
    "pg_terminate_backend": "it ends other sessions",
    "pg_cancel_backend": "it cancels statements of other sessions",
    **dict.fromkeys(
        [
            "query_to_xml",
            "query_to_xmlschema",
            "query_to_xml_and_xmlschema",
            "cursor_to_xml",
            "table_to_xml_and_xmlschema",
            "ts_stat",
            "ts_rewrite_query",
            "xpath_table",
            "crosstab",
            "connectby",
        ],
        _TEXT,
    ),
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
        ],
        _SERVER,
    ),
    **dict.fromkeys(
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
            "pg_logical_emit_message",
        ],
        _SLOT,
    ),
    **dict.fromkeys(["schedule_in_database", "pg_background_launch", "http_post", "http_delete", "http_put"], _LATER),
}

#: Statements that prove themselves: what is dangerous about them has a rule of its own.
PROVEN: Final = frozenset(
    """SELECT|INSERT|UPDATE|DELETE|MERGE|COPY|BEGIN|START|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|ROLLBACK TO|SHOW|FETCH|CLOSE
    |DECLARE CURSOR|PREPARE|EXECUTE|DEALLOCATE|LISTEN|UNLISTEN|NOTIFY|EXPLAIN ANALYZE|EXPLAIN SELECT|EXPLAIN INSERT|EXPLAIN UPDATE
    |EXPLAIN DELETE|EXPLAIN MERGE|EXPLAIN EXECUTE|EXPLAIN CREATE TABLE AS|VACUUM|CREATE TABLE|CREATE TABLE AS|CREATE INDEX
    |CREATE SEQUENCE|CREATE SCHEMA|CREATE VIEW|CREATE MATERIALIZED VIEW|COMMENT|CREATE TYPE|CREATE DOMAIN|DROP TABLE|DROP SCHEMA
    |TRUNCATE|SET CONSTRAINTS|CREATE STATS|ALTER TABLE|SET|RESET|DISCARD PLANS|DISCARD SEQUENCES|DISCARD TEMP
    |startup""".replace("\n    ", "").split("|")
)

__all__ = ["DANGEROUS", "HARMLESS_FUNCTIONS", "PROVEN", "SECOND_CONNECTIONS", "SERVER_FILES"]
