"""What the HTTP API and the psql console get to work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from proxy.config import Settings
from proxy.metrics import Metrics
from proxy.seams import AuditLog, Clock, HoldBook, Operators, Sessions


@dataclass(frozen=True, slots=True)
class Services:
    """Shared by all ways in for operators.

    Attributes:
        reload: read policy and certificates again; returns what was done, raises ConfigError.
        problems: why the proxy is not ready, one sentence each; empty when it is.
    """

    settings: Settings
    book: HoldBook
    audit: AuditLog
    sessions: Sessions
    operators: Operators
    metrics: Metrics
    clock: Clock
    reload: Callable[[str], Awaitable[str]]
    problems: Callable[[], Awaitable[list[str]]]
