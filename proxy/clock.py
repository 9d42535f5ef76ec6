"""The real clock."""

from __future__ import annotations

from datetime import UTC, datetime


class SystemClock:
    """seams.Clock by the system's time."""

    def now(self) -> datetime:
        return datetime.now(UTC)
