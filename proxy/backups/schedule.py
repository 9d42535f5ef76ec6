"""When whole databases are copied: cron's five fields, in UTC, and what is due by them.

What counts is whether a copy was begun since the last time that the expression names. So a time at which the proxy was down is made up
for, once, and a time that comes while a copy still runs asks for no second one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from cronsim import CronSim, CronSimError

#: After a failure the next try waits so long, then twice as long, and so on.
_RETRY_S: Final = 300.0
_RETRY_UP_TO_S: Final = 3600.0


class Timetable:
    """The times that an expression names. An empty one names none. Raises ValueError for what cron would not read, or what never comes."""

    def __init__(self, expression: str) -> None:
        self.expression = " ".join(expression.split())
        if not self.expression:
            return
        try:
            if len(self.expression.split()) != 5:
                raise CronSimError(f"{len(self.expression.split())} fields")
            next(CronSim(self.expression, datetime(2026, 1, 1, tzinfo=UTC)))
        except CronSimError as error:
            why = f": {error}" if str(error) else ""
            raise ValueError(f"expected cron's five fields, such as 0 0,12 * * * for noon and midnight UTC{why}") from None
        except StopIteration:
            raise ValueError(f"{self.expression}: no such day ever comes") from None

    def after(self, moment: datetime) -> datetime | None:
        """The first of them after it."""
        return next(CronSim(self.expression, moment), None) if self.expression else None

    def last(self, moment: datetime) -> datetime | None:
        """The last of them that is not after it."""
        # The iterator leaves out the minute that it begins with.
        following = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
        return next(CronSim(self.expression, following, reverse=True), None) if self.expression else None


@dataclass(frozen=True, slots=True)
class Tries:
    """What was tried for one database since the process began.

    Attributes:
        at: the last try.
        failures: in a row; `error` of the last of them.
    """

    at: datetime | None = None
    failures: int = 0
    error: str = ""

    def failed(self, at: datetime, error: str) -> Tries:
        return replace(self, at=at, failures=self.failures + 1, error=error)

    def again_at(self) -> datetime | None:
        """When a failed one is tried again; None when the last did not fail."""
        if self.at is None or not self.failures:
            return None
        return self.at + timedelta(seconds=min(_RETRY_UP_TO_S, _RETRY_S * 2.0 ** min(self.failures - 1, 10)))


def is_due(timetable: Timetable, now: datetime, last: datetime | None, tries: Tries) -> bool:
    """Whether a database wants a copy now. `last`: when its newest copy that did not fail was begun."""
    named = timetable.last(now)
    if named is None or (last is not None and last >= named):
        return False
    again = tries.again_at()
    return again is None or now >= again


def is_late(timetable: Timetable, now: datetime, last: datetime | None, grace: timedelta) -> bool:
    """Whether a copy should have been there since `grace`."""
    named = timetable.last(now - grace)
    return named is not None and (last is None or last < named)
