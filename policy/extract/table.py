"""Every kind of node of the grammar, and what the walk does with it: visit, look through, or never meet.

test_table.py compares this with the grammar's own list, so that a node that a new version brings is noticed; at run time a kind that
is not here makes its statement uncertain, which is held.
"""

from __future__ import annotations

from typing import Final

from policy.extract import code, data, schema, session
from policy.extract.extractor import Visitor

#: Parts of statements and expressions: they do nothing of their own, and what is inside them is looked at.
THROUGH: Final = frozenset(
    """A_ArrayExpr A_Const A_Expr A_Indices A_Indirection A_Star ATAlterConstraint AccessPriv Alias AlterTableCmd BitString BoolExpr
    Boolean BooleanTest CTECycleClause CTESearchClause CaseExpr CaseWhen CoalesceExpr CollateClause ColumnDef ColumnRef CommonTableExpr
    Constraint CreateOpClassItem CurrentOfExpr DefElem Float FunctionParameter GroupingFunc GroupingSet IndexElem InferClause Integer
    IntoClause JoinExpr JsonAggConstructor JsonArgument JsonArrayAgg JsonArrayConstructor JsonArrayQueryConstructor JsonBehavior
    JsonExpr JsonFormat JsonFuncExpr JsonIsPredicate JsonKeyValue JsonObjectAgg JsonObjectConstructor JsonOutput JsonParseExpr
    JsonReturning JsonScalarExpr JsonSerializeExpr JsonTable JsonTableColumn JsonTablePathSpec JsonValueExpr LockingClause
    MergeSupportFunc MergeWhenClause MinMaxExpr MultiAssignRef NamedArgExpr NullTest ObjectWithArgs OnConflictClause PLAssignStmt
    ParamRef PartitionBoundSpec PartitionCmd PartitionElem PartitionRangeDatum PartitionSpec PublicationObjSpec PublicationTable
    RangeFunction RangeSubselect RangeTableFunc RangeTableFuncCol RangeTableSample RawStmt ResTarget ReturnStmt ReturningClause
    ReturningOption RoleSpec RowExpr SQLValueFunction SetToDefault SortBy StatsElem String SubLink TableLikeClause TriggerTransition
    TypeCast TypeName VacuumRelation WindowDef WithClause XmlExpr XmlSerialize""".split()
)

#: Made by the server's analysis, planner or executor; the grammar never returns them.
NEVER_PARSED: Final = frozenset(
    """Aggref AlternativeSubPlan ArrayCoerceExpr ArrayExpr CallContext CaseTestExpr CoerceToDomain CoerceToDomainValue CoerceViaIO
    CollateExpr ConvertRowtypeExpr DistinctExpr FieldSelect FieldStore FromExpr FuncExpr InferenceElem InlineCodeBlock IntList
    JsonConstructorExpr JsonTablePath JsonTablePathScan JsonTableSiblingJoin MergeAction NextValueExpr NullIfExpr OidList OnConflictExpr
    OpExpr Param Query RTEPermissionInfo RangeTblEntry RangeTblFunction RangeTblRef RelabelType ReturningExpr RowCompareExpr
    RowMarkClause ScalarArrayOpExpr SetOperationStmt SortGroupClause SubPlan SubscriptingRef TableFunc TableSampleClause TargetEntry Var
    WindowClause WindowFunc WindowFuncRunCondition WithCheckOption""".split()
)

VISITORS: Final[dict[str, Visitor | None]] = {
    **dict.fromkeys(THROUGH),
    **data.VISITORS,
    **schema.VISITORS,
    **code.VISITORS,
    **session.VISITORS,
}
