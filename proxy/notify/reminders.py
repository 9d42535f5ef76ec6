"""When to remind whom of a hold that still waits."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from proxy.model import Hold, HoldId
from proxy.notify.routes import Route
from proxy.seams import Clock

#: Two reminders closer together than this are one.
_APART_S = 5.0


def moments(hold: Hold, route: Route) -> Iterator[datetime]:
    """Of one hold's reminders on one route, in order."""
    waits_s = (hold.expires_at - hold.created_at).total_seconds()
    after = {part * waits_s for part in route.remind_at}
    if 0 < route.remind_before_s < waits_s:
        after.add(waits_s - route.remind_before_s)
    last = -_APART_S
    for seconds in sorted(after):
        if seconds - last >= _APART_S or seconds < _APART_S:
            yield hold.created_at + timedelta(seconds=seconds)
            last = seconds


class Reminders:
    """A clock with many hands; `on_time` gets the hold and the route's name."""

    def __init__(self, clock: Clock, on_time: Callable[[HoldId, str], None]) -> None:
        self._clock = clock
        self._on_time = on_time
        self._heap: list[tuple[datetime, HoldId, str]] = []
        self._wake = asyncio.Event()

    def add(self, hold: Hold, route: Route) -> None:
        for moment in moments(hold, route):
            heapq.heappush(self._heap, (moment, hold.id, route.name))
        self._wake.set()

    async def run(self) -> None:
        while True:
            self._wake.clear()
            now = self._clock.now()
            while self._heap and self._heap[0][0] <= now:
                _, hold_id, route = heapq.heappop(self._heap)
                self._on_time(hold_id, route)
            wait_s = (self._heap[0][0] - now).total_seconds() if self._heap else None
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
