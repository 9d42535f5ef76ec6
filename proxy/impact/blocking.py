"""Who waits behind a held session: a hold inside an open transaction keeps its locks, and others queue up behind them.

Once a second at most, and only while such a hold is pending, the server is asked on one connection for each database. What is found is kept with
the hold; the policy's [[policy.blocking]] says whether it only warns or the hold is denied.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from proxy.control import APPLICATION_NAME, Control, ControlError, first_line
from proxy.impact.model import Blocked, Consequences
from proxy.model import Decision, Hold, HoldId, HoldState
from proxy.policies import Identity, Policies
from proxy.seams import Clock, HoldBook, NotPendingError, StoreError, UnknownHoldError

_EVERY_S: Final = 1.0
_AGAIN_S: Final = 10.0
#: Of the text that a blocked session runs.
_QUERY_CHARACTERS: Final = 200
_LISTED: Final = 50
#: Who decides, on record.
POLICY: Final = "policy"

# pg_locks and pg_blocking_pids() tell everybody; of pg_stat_activity a role sees the rest only with pg_read_all_stats.
_WAITING: Final = """
SELECT w.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, ''),
    coalesce(extract(epoch FROM clock_timestamp() - w.since), 0)::float8, coalesce(left(a.query, %s), ''), w.blockers
FROM (
    SELECT l.pid, min(l.waitstart) AS since, pg_blocking_pids(l.pid) AS blockers FROM pg_locks l WHERE NOT l.granted AND l.pid IS NOT NULL GROUP BY l.pid
) w LEFT JOIN pg_stat_activity a ON a.pid = w.pid
WHERE w.blockers && %s::int4[] AND NOT (coalesce(a.application_name, '') = %s AND coalesce(a.usename, '') = current_user)
ORDER BY w.since
"""

Place = tuple[str, str]


@dataclass(slots=True)
class Blocking:
    """Args:
    policies: the policy in force.

    Attributes:
        blocked_now: sessions that wait behind held ones, by hold; denied: holds that were denied for it.
    """

    book: HoldBook
    control: Control
    clock: Clock
    policies: Callable[[], Policies]
    log: Callable[..., None]
    blocked_now: dict[HoldId, tuple[Blocked, ...]] = field(default_factory=dict)
    denied: int = 0
    _pending: dict[HoldId, Hold] = field(default_factory=dict)
    _some: asyncio.Event = field(default_factory=asyncio.Event)
    _links: dict[Place, AsyncConnection[TupleRow]] = field(default_factory=dict)
    _failed: dict[Place, float] = field(default_factory=dict)

    def changed(self, hold: Hold) -> None:
        """A hold as the book tells of it."""
        if hold.state is HoldState.PENDING and hold.request.in_transaction and hold.request.requester.backend_pid:
            self._pending[hold.id] = hold
            self._some.set()
        else:
            self._pending.pop(hold.id, None)
            self.blocked_now.pop(hold.id, None)

    def sessions(self) -> int:
        """How many wait."""
        return len({b.pid for blocked in self.blocked_now.values() for b in blocked})

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            try:
                while True:
                    if not self._pending:
                        await self._close()
                        self._some.clear()
                        await self._some.wait()
                    places: dict[Place, list[Hold]] = {}
                    for hold in self._pending.values():
                        places.setdefault(self._place(hold), []).append(hold)
                    # Side by side: a server that does not answer for one database delays no other.
                    await asyncio.gather(*(group.create_task(self._ask(p, h), name="blocking") for p, h in places.items()))
                    for place in self._links.keys() - places.keys():
                        await self._links.pop(place).close()
                    await asyncio.sleep(_EVERY_S)
            finally:
                await self._close()

    def _place(self, hold: Hold) -> Place:
        requester = hold.request.requester
        return requester.database, "" if self.control.has_credentials else requester.role

    async def _close(self) -> None:
        while self._links:
            await self._links.popitem()[1].close()

    async def _ask(self, place: Place, holds: list[Hold]) -> None:
        pids = {h.request.requester.backend_pid: h for h in holds}
        try:
            async with asyncio.timeout(_AGAIN_S):
                waiting = await self._waiting(place, list(pids))
        except (psycopg.Error, ControlError, TimeoutError, UnicodeError) as error:
            if (link := self._links.pop(place, None)) is not None:
                await link.close()
            self._failed[place] = asyncio.get_running_loop().time()
            self.log("who waits behind a held session is not known", database=place[0], error=first_line(error))
            return
        for pid, hold in pids.items():
            await self._found(hold, tuple(b for b, blockers in waiting if pid in blockers)[:_LISTED])

    async def _waiting(self, place: Place, pids: list[int]) -> list[tuple[Blocked, list[int]]]:
        link = self._links.get(place)
        if link is None or link.closed:
            if asyncio.get_running_loop().time() - self._failed.get(place, -_AGAIN_S) < _AGAIN_S:
                return []
            link = self._links[place] = await self._connect(place)
        rows = await (await link.execute(_WAITING, (_QUERY_CHARACTERS, pids, APPLICATION_NAME))).fetchall()
        return [(Blocked(int(pid), role, name, max(0.0, for_s), query), list(by)) for pid, role, name, for_s, query, by in rows]

    async def _connect(self, place: Place) -> AsyncConnection[TupleRow]:
        link = await AsyncConnection.connect(self.control.conninfo(place[0], role=place[1]), autocommit=True)
        await link.execute(
            "SELECT set_config('search_path', '', false), set_config('statement_timeout', '5s', false),"
            " set_config('default_transaction_read_only', 'on', false)"
        )
        return link

    async def _found(self, hold: Hold, blocked: tuple[Blocked, ...]) -> None:
        if hold.id not in self._pending:
            return  # decided meanwhile
        before = self.blocked_now.get(hold.id, ())
        if blocked:
            self.blocked_now[hold.id] = blocked
        else:
            self.blocked_now.pop(hold.id, None)
        if [b.pid for b in before] != [b.pid for b in blocked]:
            await self._keep(hold, blocked)
        if blocked:
            await self._judge(hold, blocked)

    async def _keep(self, hold: Hold, blocked: tuple[Blocked, ...]) -> None:
        with suppress(UnknownHoldError):
            try:
                now = await self.book.get(hold.id)
                await self.book.foresee(hold.id, replace(now.consequences or Consequences(), blocked=blocked))
            except StoreError as error:
                self.log("who waits behind a hold was not kept", hold=int(hold.id), error=str(error))
        if blocked:
            self.log("a held session blocks others", hold=int(hold.id), waiting=len(blocked), pids=[b.pid for b in blocked])

    async def _judge(self, hold: Hold, blocked: tuple[Blocked, ...]) -> None:
        requester = hold.request.requester
        identity = Identity(requester.role, requester.database, requester.application_name, _address(requester.client_addr))
        longest = max(blocked, key=lambda b: b.for_s)
        after_s = self.policies().denies_blocking_after(identity)
        if after_s is None or longest.for_s < after_s:
            return
        who = f"{longest.role or 'process'} {longest.pid}" + (f" ({longest.application_name})" if longest.application_name else "")
        reason = f"its session blocks others: {len(blocked)} waited behind it, {who} for {longest.for_s:.0f} s"
        try:
            await self.book.decide(hold.id, Decision(False, POLICY, reason, self.clock.now()))
        except (NotPendingError, UnknownHoldError):
            return
        except StoreError as error:
            self.log("a hold that blocks others was not denied", hold=int(hold.id), error=str(error))
            return
        self.denied += 1


def _address(client: str) -> str:
    """Without the port, as the policy's networks are compared."""
    host, _, port = client.rpartition(":")
    return host.strip("[]") if host and port.isdigit() else client
