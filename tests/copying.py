"""A protector over real parts, and a session that does what the session's core does with its plans."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg

from policy.context import Context
from policy.engine import Engine
from proxy.backups.copy_metrics import CopyMetrics
from proxy.backups.model import Backup, Copied, CopyKind, CopyOrder, CopyPlan
from proxy.backups.protector import Proving, VaultProtector
from proxy.backups.sealing import read_key
from proxy.backups.targets import open_targets
from proxy.backups.vault import Vault
from proxy.clock import SystemClock
from proxy.config import Settings, Upstream
from proxy.control import Control
from proxy.look import SeenObject, Sight, names_of
from proxy.metrics import Metrics
from proxy.model import HoldId, Requester, SessionId
from proxy.protection import copy_statement, lock_statement, rows_of
from proxy.store import open_store
from proxy.store.backups import SqlBackups
from tests.servers import PostgresServer

_ENGINE = Engine()


@dataclass
class Workshop:
    """A protector, and what it stands on."""

    server: PostgresServer
    protector: VaultProtector
    vault: Vault
    backups: SqlBackups
    metrics: Metrics
    said: list[str] = field(default_factory=list)
    spawned: list[asyncio.Task[None]] = field(default_factory=list)

    async def last(self) -> Backup:
        return (await self.backups.find(limit=1))[0]

    def leftovers(self) -> list[str]:
        """What lies in the backup folder and is no finished copy."""
        known = set(self.vault.folders())
        return sorted(p.name for p in self.vault.root.iterdir() if p.name not in known) if self.vault.root.exists() else []


@asynccontextmanager
async def workshop(
    server: PostgresServer, folder: Path, *, role: str = "postgres", proving: Proving | None = None, **settings: Any
) -> AsyncIterator[Workshop]:
    given = Settings(data_dir=folder, **{"backup_min_free_bytes": 0, **settings})
    folder.mkdir(parents=True, exist_ok=True)
    store = await open_store(folder)
    clock = SystemClock()
    backups = SqlBackups(store, clock)
    metrics = Metrics()
    vault = Vault(
        given.backup_folder,
        key=read_key(given.backup_key_file) if given.backup_key_file else None,
        targets=open_targets(given.backup_targets),
        min_free_bytes=given.backup_min_free_bytes,
    )
    spawned: list[asyncio.Task[None]] = []
    protector = VaultProtector(
        given,
        control=Control(Upstream.from_url(f"postgresql://{role}@127.0.0.1:{server.port}/postgres"), 5),
        vault=vault,
        backups=backups,
        clock=clock,
        metrics=CopyMetrics(metrics.registry),
        spawn=lambda work, name: spawned.append(asyncio.get_running_loop().create_task(work, name=name)),
        proving=proving,
    )
    try:
        yield Workshop(server, protector, vault, backups, metrics, spawned=spawned)
    finally:
        for task in spawned:
            task.cancel()
        await asyncio.gather(*spawned, return_exceptions=True)
        await store.close()


class Held:
    """A client's session whose statements go by the protector first."""

    def __init__(self, shop: Workshop, connection: psycopg.AsyncConnection[Any], role: str, database: str) -> None:
        self._shop = shop
        self.connection = connection
        self._role = role
        self._database = database
        self._in_transaction = False

    def order(self, sql: str, *values: str | None) -> CopyOrder:
        return CopyOrder(
            hold_id=HoldId(7),
            requester=Requester(
                SessionId(1), self._role, self._database, "tests", "127.0.0.1", backend_pid=self.connection.info.backend_pid
            ),
            environment="production",
            script=sql,
            script_sha256="00",
            judgement=_ENGINE.judge(sql.encode(), Context()),
            sight=None,
            parameters=tuple((None if v is None else v.encode(), False) for v in values),
            backend_pid=self.connection.info.backend_pid,
            in_transaction=self._in_transaction,
            approvers=("ana",),
            reason="tested",
        )

    async def _sight(self, order: CopyOrder) -> Sight:
        """What the session's names mean to itself, as far as the planner asks."""
        objects, missing = [], []
        for _, name in names_of(order.judgement):
            row = await (await self.connection.execute("SELECT to_regclass(%s)::oid::int8", (name,))).fetchone()
            if row is None or row[0] is None:
                missing.append(name)
            else:
                objects.append(SeenObject(name, row[0], 0, name, "table", ""))
        return Sight(tuple(objects), tuple(missing))

    async def begin(self) -> None:
        await self.connection.execute("BEGIN")
        self._in_transaction = True

    async def commit(self) -> None:
        await self.connection.execute("COMMIT")
        self._in_transaction = False

    async def run(self, sql: str, *values: str | None, then: str = "") -> tuple[CopyPlan, Copied | None]:
        """Plan, lock, copy, run, as the core does. Raises ProtectError; then nothing has run."""
        order = self.order(sql, *values)
        if self._in_transaction:
            order = replace(order, sight=await self._sight(order))
        plan = await self._shop.protector.plan(order)
        own = not self._in_transaction
        copied = None
        if plan.kind is not CopyKind.NONE:
            if own and "DATABASE" not in sql:
                await self.connection.execute("BEGIN")
            try:
                copied = await self._copy(order, plan)
            except BaseException:
                await self.connection.rollback()
                self._in_transaction = False
                raise
        if then:
            await self.connection.execute(then.encode())
        cursor = self.connection.cursor()
        for number, value in enumerate(values, 1):
            sql = sql.replace(f"${number}", "NULL" if value is None else psycopg.sql.quote(value))
        await cursor.execute(sql.encode())
        if plan.counted and copied is not None:
            changed, backup = rows_of(cursor.statusmessage or ""), await self._shop.backups.get(copied.backup_id)
            assert changed == backup.rows, f"{changed} rows changed, {backup.rows} copied"
        if own:
            await self.connection.commit()
        if copied is not None:
            await self._shop.protector.ended(order, copied, cursor.statusmessage or "", False)
        return plan, copied

    async def protect(self, sql: str) -> Copied:
        """As `run`, but the statement itself does not run."""
        order = self.order(sql)
        plan = await self._shop.protector.plan(order)
        await self.connection.execute("BEGIN")
        try:
            return await self._copy(order, plan)
        finally:
            await self.connection.rollback()

    async def _copy(self, order: CopyOrder, plan: CopyPlan) -> Copied:
        if plan.lock:
            await self.connection.execute(lock_statement(plan.lock, 5).encode())
        rows = None
        if plan.kind is CopyKind.ROWS:
            async with self.connection.cursor().copy(copy_statement(plan.image).encode()) as copy:
                pieces = [bytes(piece) async for piece in copy]

            async def given() -> AsyncIterator[bytes]:
                for piece in pieces:
                    yield piece

            rows = given()
        return await self._shop.protector.copy(order, plan, rows, self._shop.said.append)


@asynccontextmanager
async def session(shop: Workshop, database: str, role: str = "postgres") -> AsyncIterator[Held]:
    connection: psycopg.AsyncConnection[Any] = await psycopg.AsyncConnection.connect(
        host="127.0.0.1", port=shop.server.port, user=role, dbname=database, autocommit=True
    )
    async with connection:
        yield Held(shop, connection, role, database)
