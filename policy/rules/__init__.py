"""All rules, one file each."""

from __future__ import annotations

from typing import Final

from policy.rule import Rule
from policy.rules.alter_column_type import AlterColumnType
from policy.rules.alter_system import AlterSystem
from policy.rules.alter_table_drop_column import AlterTableDropColumn
from policy.rules.always_true_where import AlwaysTrueWhere
from policy.rules.blocking_constraint import BlockingConstraint
from policy.rules.blocking_index import BlockingIndex
from policy.rules.blocking_maintenance import BlockingMaintenance
from policy.rules.call_procedure import CallProcedure
from policy.rules.catalog_dml import CatalogDml
from policy.rules.column_overwrite import ColumnOverwrite
from policy.rules.copy_program import CopyProgram
from policy.rules.dangerous_function import DangerousFunction
from policy.rules.dangerous_persisted_setting import DangerousPersistedSetting
from policy.rules.dangerous_prepared_statement import DangerousPreparedStatement
from policy.rules.dangerous_setting import DangerousSetting
from policy.rules.dangerous_stored_code import DangerousStoredCode
from policy.rules.delete_without_where import DeleteWithoutWhere
from policy.rules.detach_partition import DetachPartition
from policy.rules.do_block import DoBlock
from policy.rules.do_code import DoCode
from policy.rules.drop_constraint import DropConstraint
from policy.rules.drop_database import DropDatabase
from policy.rules.drop_object import DropObject
from policy.rules.drop_owned import DropOwned
from policy.rules.drop_role import DropRole
from policy.rules.drop_schema import DropSchema
from policy.rules.drop_table import DropTable
from policy.rules.extension import Extension
from policy.rules.forced_sync import ForcedSync
from policy.rules.foreign_data import ForeignData
from policy.rules.guard_setting import GuardSetting
from policy.rules.large_object import LargeObject
from policy.rules.load_library import LoadLibrary
from policy.rules.lock_table import LockTable
from policy.rules.merge_unconditional import MergeUnconditional
from policy.rules.null_test_where import NullTestWhere
from policy.rules.opaque_stored_code import OpaqueStoredCode
from policy.rules.parser_setting import ParserSetting
from policy.rules.persisted_setting import PersistedSetting
from policy.rules.privilege_change import PrivilegeChange
from policy.rules.privilege_escalation import PrivilegeEscalation
from policy.rules.protected_relation import ProtectedRelation
from policy.rules.protection_disabled import ProtectionDisabled
from policy.rules.read_only import ReadOnly
from policy.rules.reassign_owned import ReassignOwned
from policy.rules.rename import Rename
from policy.rules.replication_change import ReplicationChange
from policy.rules.replication_slot import ReplicationSlot
from policy.rules.risky_extension import RiskyExtension
from policy.rules.row_limit import RowLimit
from policy.rules.second_connection import SecondConnection
from policy.rules.sequence_reset import SequenceReset
from policy.rules.server_file import ServerFile
from policy.rules.server_state import ServerState
from policy.rules.session_function import SessionFunction
from policy.rules.set_role import SetRole
from policy.rules.set_unlogged import SetUnlogged
from policy.rules.sql_text_function import SqlTextFunction
from policy.rules.stored_code import StoredCode
from policy.rules.table_rewrite import TableRewrite
from policy.rules.text_encoding import TextEncoding
from policy.rules.truncate import Truncate
from policy.rules.two_phase_commit import TwoPhaseCommit
from policy.rules.unanalysable import Unanalysable
from policy.rules.unbounded_upsert import UnboundedUpsert
from policy.rules.unknown_function import UnknownFunction
from policy.rules.unknown_prepared_statement import UnknownPreparedStatement
from policy.rules.unlinked_where import UnlinkedWhere
from policy.rules.unproven import Unproven
from policy.rules.untrusted_language import UntrustedLanguage
from policy.rules.update_without_where import UpdateWithoutWhere

ALL_RULES: Final[tuple[Rule, ...]] = (
    AlterColumnType(),
    AlterSystem(),
    AlterTableDropColumn(),
    AlwaysTrueWhere(),
    BlockingConstraint(),
    BlockingIndex(),
    BlockingMaintenance(),
    CallProcedure(),
    CatalogDml(),
    ColumnOverwrite(),
    CopyProgram(),
    DangerousFunction(),
    DangerousPersistedSetting(),
    DangerousPreparedStatement(),
    DangerousSetting(),
    DangerousStoredCode(),
    DeleteWithoutWhere(),
    DetachPartition(),
    DoBlock(),
    DoCode(),
    DropConstraint(),
    DropDatabase(),
    DropObject(),
    DropOwned(),
    DropRole(),
    DropSchema(),
    DropTable(),
    Extension(),
    ForcedSync(),
    ForeignData(),
    GuardSetting(),
    LargeObject(),
    LoadLibrary(),
    LockTable(),
    MergeUnconditional(),
    NullTestWhere(),
    OpaqueStoredCode(),
    ParserSetting(),
    PersistedSetting(),
    PrivilegeChange(),
    PrivilegeEscalation(),
    ProtectedRelation(),
    ProtectionDisabled(),
    ReadOnly(),
    ReassignOwned(),
    Rename(),
    ReplicationChange(),
    ReplicationSlot(),
    RiskyExtension(),
    SecondConnection(),
    RowLimit(),
    SequenceReset(),
    ServerFile(),
    ServerState(),
    SessionFunction(),
    SetRole(),
    SetUnlogged(),
    SqlTextFunction(),
    StoredCode(),
    TableRewrite(),
    TextEncoding(),
    Truncate(),
    TwoPhaseCommit(),
    Unanalysable(),
    UnboundedUpsert(),
    UnknownFunction(),
    UnknownPreparedStatement(),
    UnlinkedWhere(),
    Unproven(),
    UntrustedLanguage(),
    UpdateWithoutWhere(),
)
