"""The list of databases and tables from round to round, and what is missed. File work is off the loop; every method raises OSError."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from proxy.health.memory import DatabaseMemory, Memory, Missed, ServerMemory
from proxy.health.model import Check, HealthState
from proxy.health.server import joined
from proxy.health.tables import Announced, KnownTable, compare, drops_database
from proxy.seams import Clock

_FIX = (
    "Nothing that went through pghold says so: somebody is past it, or a function did it. pghold audit search and the server's log may tell;"
    " pghold backups list has the copies.\nIf it was on purpose: pghold health accept"
)


class Known:
    """What was there, and what is missed."""

    def __init__(self, memory: Memory, clock: Clock) -> None:
        self._memory = memory
        self._clock = clock
        self._databases: dict[str, DatabaseMemory] = {}
        self._server: ServerMemory | None = None

    async def _load(self) -> ServerMemory:
        if self._server is None:
            self._server = await asyncio.to_thread(self._memory.server)
        return self._server

    async def _database(self, name: str) -> DatabaseMemory:
        if name not in self._databases:
            self._databases[name] = await asyncio.to_thread(self._memory.database, name)
        return self._databases[name]

    async def first_at(self) -> datetime:
        """When this server was first looked at; now, if it never was."""
        return (await self._load()).first_at or self._clock.now()

    async def databases(self, system: str, names: Sequence[str], announced: Sequence[Announced]) -> Check:
        """Compare, and keep."""
        memory, now = await self._load(), self._clock.now()
        if memory.system != system:
            memory = ServerMemory(first_at=now, system=system)
        gone = [n for n in memory.databases if n not in names]
        missed = [(n, at) for n, at in memory.missed if n not in names]
        for name in gone:
            if not any(drops_database(a, name) for a in announced):
                missed.append((name, now))
            self._databases.pop(name, None)
            await asyncio.to_thread(self._memory.forget_database, name)
        fresh = ServerMemory(memory.first_at or now, system, now, list(names), missed)
        # The time alone is not worth a write.
        if self._server is None or (fresh.databases, fresh.missed, system) != (
            self._server.databases,
            self._server.missed,
            self._server.system,
        ):
            await asyncio.to_thread(self._memory.keep_server, fresh)
        self._server = fresh
        if missed:
            text = f"gone without an approved statement: {joined([f'{n} (since {at:%Y-%m-%d %H:%M} UTC)' for n, at in missed])}"
            return Check("databases", HealthState.FAIL, text, _FIX)
        return Check("databases", HealthState.OK, f"{len(names):,} databases")

    async def tables(self, database: str, server: str, now: Sequence[KnownTable], announced: Sequence[Announced]) -> None:
        """Compare one database's, and keep."""
        memory, moment = await self._database(database), self._clock.now()
        fresh = DatabaseMemory(database, server, moment, list(now), [])
        if memory.server == server:
            found = compare(memory.tables, now, announced)
            there = {(t.schema, t.name) for t in now}
            fresh.missed = [m for m in memory.missed if m.remade or (m.table.schema, m.table.name) not in there]
            fresh.missed += [Missed(t, moment) for t in found.unexplained] + [Missed(t, moment, True) for t in found.remade]
        if (fresh.server, fresh.tables, fresh.missed) != (memory.server, memory.tables, memory.missed):
            await asyncio.to_thread(self._memory.keep_database, fresh)
        self._databases[database] = fresh

    async def check(self, counts: dict[str, int], problems: Sequence[str], mode: str) -> Check:
        """Of all tables together."""
        missed = [
            f"{name}.{m.table.shown}{' (made anew)' if m.remade else ''}" for name, memory in self._databases.items() for m in memory.missed
        ]
        if missed:
            since = min(m.at for memory in self._databases.values() for m in memory.missed)
            unseen = "; mode is off, so nothing that passed was looked at" if mode == "off" else ""
            text = f"gone without an approved statement since {since:%Y-%m-%d %H:%M} UTC: {joined(missed)}{unseen}"
            return Check("tables", HealthState.FAIL, text, _FIX)
        if problems:
            return Check("tables", HealthState.UNKNOWN, joined(problems), "GRANT CONNECT on it to pghold's role.")
        return Check("tables", HealthState.OK, ", ".join(f"{name}: {count:,} tables" for name, count in counts.items()))

    async def remembered(self, names: Sequence[str]) -> list[str]:
        """Those of which a list of tables is kept."""
        return await asyncio.to_thread(lambda: [n for n in names if self._memory.knows(n)])

    async def missed(self) -> list[str]:
        """All that is, by name."""
        memory = await self._load()
        found = [name for name, _ in memory.missed]
        return found + [f"{name}.{m.table.shown}" for name, database in self._databases.items() for m in database.missed]

    async def accept(self) -> None:
        """It is missed no more."""
        memory = await self._load()
        memory.missed = []
        await asyncio.to_thread(self._memory.keep_server, memory)
        for database in self._databases.values():
            if database.missed:
                database.missed = []
                await asyncio.to_thread(self._memory.keep_database, database)
