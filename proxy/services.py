"""What the console, the HTTP API and the psql console get to work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING

from policy.verdict import Severity
from proxy.activity import Activity
from proxy.audit import JsonlAuditLog
from proxy.audit.care import AuditCare
from proxy.backups.errands import Errands
from proxy.backups.giveback import Restores
from proxy.backups.keeper import Keeper
from proxy.backups.outlook import Forecast
from proxy.backups.trash import Trash
from proxy.backups.undo import Undo
from proxy.config import Settings
from proxy.control import Control
from proxy.grants import SqlGrants
from proxy.judging import Judging
from proxy.metrics import Metrics
from proxy.operators import SqlOperators
from proxy.policies import PolicyFile
from proxy.seams import Clock, HoldBook, Sessions
from proxy.store import Store
from proxy.store.approvals import SqlApprovals
from proxy.store.backups import SqlBackups

if TYPE_CHECKING:
    # They put things in the console's words, and so come after the console.
    from proxy.health.monitor import HealthMonitor
    from proxy.notify import Notifier
    from proxy.schema_history.history import SchemaHistory


@dataclass(frozen=True, slots=True)
class Services:
    """Shared by all ways in for operators.

    Attributes:
        reload: read policy and certificates again; returns what was done, raises ConfigError.
        problems: why the proxy is not ready, one sentence each; empty when it is.
        spawn: run a background task that the process owns.
        console_url: the console's address as people reach it, without a slash at its end.
        keeper: of the set of copies; `forecast`: whether a statement that waits would get one.
    """

    settings: Settings
    store: Store
    book: HoldBook
    grants: SqlGrants
    approvals: SqlApprovals
    audit: JsonlAuditLog
    audit_care: AuditCare
    sessions: Sessions
    operators: SqlOperators
    judging: Judging
    activity: Activity
    metrics: Metrics
    clock: Clock
    reload: Callable[[str], Awaitable[str]]
    problems: Callable[[], Awaitable[list[str]]]
    spawn: Callable[[Coroutine[None, None, None], str], object]
    console_url: Callable[[], str]
    notifier: Notifier
    control: Control
    backups: SqlBackups
    health: HealthMonitor
    schemas: SchemaHistory
    errands: Errands
    restores: Restores
    trash: Trash
    undo: Undo
    keeper: Keeper
    forecast: Forecast

    def policy(self) -> PolicyFile:
        """The policy file in force."""
        return self.judging.policies.file

    def wants_second_factor(self, severity: str) -> bool:
        """Whether the settings want a code for approvals of this severity."""
        least = self.settings.second_factor_from
        return bool(least) and Severity[severity.upper()] >= Severity[least.upper()]
