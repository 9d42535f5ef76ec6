"""All rules, one file each."""

from __future__ import annotations

from typing import Final

from policy.rule import Rule
from policy.rules.alter_system import AlterSystem
from policy.rules.alter_table_drop_column import AlterTableDropColumn
from policy.rules.always_true_where import AlwaysTrueWhere
from policy.rules.catalog_dml import CatalogDml
from policy.rules.column_overwrite import ColumnOverwrite
from policy.rules.copy_program import CopyProgram
from policy.rules.dangerous_function import DangerousFunction
from policy.rules.dangerous_prepared_statement import DangerousPreparedStatement
from policy.rules.dangerous_setting import DangerousSetting
from policy.rules.delete_without_where import DeleteWithoutWhere
from policy.rules.do_block import DoBlock
from policy.rules.drop_database import DropDatabase
from policy.rules.drop_object import DropObject
from policy.rules.drop_owned import DropOwned
from policy.rules.drop_role import DropRole
from policy.rules.drop_schema import DropSchema
from policy.rules.drop_table import DropTable
from policy.rules.guard_setting import GuardSetting
from policy.rules.merge_unconditional import MergeUnconditional
from policy.rules.parser_setting import ParserSetting
from policy.rules.privilege_escalation import PrivilegeEscalation
from policy.rules.second_connection import SecondConnection
from policy.rules.server_file import ServerFile
from policy.rules.truncate import Truncate
from policy.rules.unanalysable import Unanalysable
from policy.rules.unknown_prepared_statement import UnknownPreparedStatement
from policy.rules.unlinked_where import UnlinkedWhere
from policy.rules.unproven import Unproven
from policy.rules.untrusted_language import UntrustedLanguage
from policy.rules.update_without_where import UpdateWithoutWhere

ALL_RULES: Final[tuple[Rule, ...]] = (
    AlterSystem(),
    AlterTableDropColumn(),
    AlwaysTrueWhere(),
    CatalogDml(),
    ColumnOverwrite(),
    CopyProgram(),
    DangerousFunction(),
    DangerousPreparedStatement(),
    DangerousSetting(),
    DeleteWithoutWhere(),
    DoBlock(),
    DropDatabase(),
    DropObject(),
    DropOwned(),
    DropRole(),
    DropSchema(),
    DropTable(),
    GuardSetting(),
    MergeUnconditional(),
    ParserSetting(),
    PrivilegeEscalation(),
    SecondConnection(),
    ServerFile(),
    Truncate(),
    Unanalysable(),
    UnknownPreparedStatement(),
    UnlinkedWhere(),
    Unproven(),
    UntrustedLanguage(),
    UpdateWithoutWhere(),
)
