"""What the proxy judged, minute by minute, for the last day. In memory: a picture, not a record; the audit log is that."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from proxy.seams import Clock

_MINUTES: Final = 24 * 60
VERDICTS: Final = ("allow", "warn", "hold", "deny")


@dataclass(slots=True)
class Minute:
    """Judged scripts by verdict, in the minute that began at `start`."""

    start: datetime
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(VERDICTS, 0))


class Activity:
    """Counts; what was allowed is read from the sessions' own counters, since they allow without telling anybody.

    Args:
        allowed: scripts allowed so far, over all sessions.
    """

    def __init__(self, clock: Clock, allowed: Callable[[], int]) -> None:
        self._clock = clock
        self._allowed = allowed
        self._allowed_before = 0
        self._minutes: deque[Minute] = deque(maxlen=_MINUTES)

    def judged(self, verdict: str) -> None:
        """One script that was warned about, held or denied."""
        counts = self._now().counts
        counts[verdict] = counts.get(verdict, 0) + 1

    def sample(self) -> None:
        """Take in what was allowed since the last time; called every few seconds."""
        allowed = self._allowed()
        self._now().counts["allow"] += max(0, allowed - self._allowed_before)
        self._allowed_before = allowed

    def _now(self) -> Minute:
        start = self._clock.now().replace(second=0, microsecond=0)
        if not self._minutes or self._minutes[-1].start < start:
            self._minutes.append(Minute(start))
        return self._minutes[-1]

    def last(self, minutes: int, buckets: int) -> list[Minute]:
        """The last minutes in so many equal parts, oldest first; parts in which nothing happened are there with zeros."""
        self.sample()
        width = timedelta(minutes=minutes / buckets)
        end = self._clock.now().replace(second=0, microsecond=0) + timedelta(minutes=1)
        begin = end - timedelta(minutes=minutes)
        parts = [Minute(begin + width * i) for i in range(buckets)]
        for minute in self._minutes:
            index = int((minute.start - begin) / width)
            if 0 <= index < buckets:
                for verdict, count in minute.counts.items():
                    parts[index].counts[verdict] = parts[index].counts.get(verdict, 0) + count
        return parts
