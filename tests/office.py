"""The parts behind errands, in this process and on a real server; without sockets of our own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from policy import Context, Engine
from proxy.audit import JsonlAuditLog
from proxy.audit.start import open_audit
from proxy.backups.errands import Errands
from proxy.backups.model import Backup, BackupId, BackupState, Copied, CopyKind, CopyOrder, CopyPlan, Proof, ProtectError
from proxy.backups.seams import OnProgress
from proxy.backups.trash import Trash
from proxy.backups.undo import KeptRows, Undo
from proxy.clock import SystemClock
from proxy.config import Settings, Upstream
from proxy.control import Control
from proxy.holds import SqlHoldBook
from proxy.look import SeenObject, Sight
from proxy.model import Decision, HeldStatement, Hold, HoldId, HoldRequest, HoldState, Operator, Requester, Role, SessionId
from proxy.store import open_store
from proxy.store.backups import SqlBackups
from tests.servers import PostgresServer

ANA = Operator("ana", Role.APPROVER)


class Keeper:
    """A protector that keeps rows in memory; of anything else it says that nothing can be lost. `fails`: it cannot."""

    def __init__(self, at: Office) -> None:
        self.at = at
        self.fails = ""
        self.ended_with: list[tuple[str, bool]] = []

    async def plan(self, order: CopyOrder) -> CopyPlan:
        return CopyPlan(CopyKind.NONE, "kept elsewhere")

    async def copy(self, order: CopyOrder, plan: CopyPlan, rows: AsyncIterator[bytes] | None, progress: OnProgress) -> Copied:
        assert rows is not None
        data = b"".join([piece async for piece in rows])
        if self.fails:
            raise ProtectError(self.fails)
        backup = await self.at.register(order.hold_id, plan.image_relation, None, data)
        return Copied(backup.id, f"copy {backup.id}")

    async def ended(self, order: CopyOrder, copied: Copied, outcome: str, failed: bool) -> None:
        self.ended_with.append((outcome, failed))


@dataclass
class Office:
    server: PostgresServer
    database: str
    settings: Settings
    book: SqlHoldBook
    audit: JsonlAuditLog
    backups: SqlBackups
    control: Control
    errands: Errands
    trash: Trash
    undo: Undo
    logged: list[dict[str, Any]] = field(default_factory=list)
    keeper: Keeper = field(init=False)
    rows: dict[BackupId, KeptRows] = field(default_factory=dict)

    async def hold(self, script: str, *, role: str = "postgres") -> Hold:
        """A hold that is being run: released."""
        judgement = Engine().judge(script.encode(), Context())
        request = HoldRequest(
            Requester(SessionId(7), role, self.database, "test", "127.0.0.1"), "production", script, "00", judgement.rule_ids, (),
            tuple(HeldStatement(s.kind, script, s.relations) for s in judgement.statements), judgement.relations, "simple", False, 60.0,
        )  # fmt: skip
        hold = await self.book.open(request, None)
        await self.book.decide(hold.id, Decision(True, "ana", "tested", SystemClock().now()))
        await self.book.move(hold.id, HoldState.RELEASED)
        return await self.book.get(hold.id)

    def order(self, hold: Hold, *names: str) -> CopyOrder:
        """With the sight that the session would have of these relations, as SQL names them."""
        objects = []
        for name in names:
            [(oid,)] = self.server.sql(f"SELECT '{name.replace(chr(39), chr(39) * 2)}'::regclass::oid::int8", self.database)
            objects.append(SeenObject(name, oid, 0, name, "table", ""))
        script = hold.request.script
        judgement = Engine().judge(script.encode(), Context())
        return CopyOrder(hold.id, hold.request.requester, "production", script, "00", judgement, Sight(tuple(objects)))

    async def approve(self, hold: Hold) -> Hold:
        await self.book.decide(hold.id, Decision(True, "ana", "tested", SystemClock().now(), approvers=("ana",)))
        return await self.ended(hold)

    async def ended(self, hold: Hold) -> Hold:
        """Wait for its end."""
        changes = self.book.changes()
        first = anext(changes)
        final = {HoldState.DONE, HoldState.FAILED, HoldState.DENIED, HoldState.WITHDRAWN, HoldState.ABANDONED, HoldState.EXPIRED}
        import asyncio

        coming = asyncio.ensure_future(first)
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(30):
                while (now := await self.book.get(hold.id)).state not in final:
                    await coming
                    coming = asyncio.ensure_future(anext(changes))
        finally:
            coming.cancel()
        return now

    async def keep_rows(self, hold: Hold, relation: str, query: str) -> Backup:
        """The copy of rows of a hold, taken with the query."""
        with self.server.connect(self.database) as connection:
            connection.execute("SET search_path = ''")
            with connection.cursor().copy(f"COPY ({query}) TO STDOUT") as copy:
                data = b"".join(bytes(piece) for piece in copy)
            described = connection.execute(f"SELECT * FROM ({query}) q LIMIT 0").description
        assert described is not None
        return await self.register(hold.id, relation, tuple(c.name for c in described[1:]), data)

    async def register(self, hold_id: HoldId, relation: str, columns: tuple[str, ...] | None, data: bytes) -> Backup:
        backup = await self.backups.begin(CopyKind.ROWS, self.database, hold_id)
        from dataclasses import replace

        done = replace(backup, state=BackupState.DONE, proof=Proof.EQUAL)
        await self.backups.put(done)
        count = data.count(b"\n")

        def read() -> Iterator[bytes]:
            for start in range(0, len(data), 1000):
                yield data[start : start + 1000]

        self.rows[done.id] = KeptRows(relation, columns, count, read)
        return done

    def open_rows(self, backup: Backup) -> AbstractAsyncContextManager[KeptRows]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[KeptRows]:
            yield self.rows[backup.id]

        return opened()

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        return self.server.connect(self.database, **options)

    def sql(self, text: str) -> list[Any]:
        return self.server.sql(text, self.database)

    def events(self) -> list[str]:
        import json

        return [json.loads(line)["event"] for line in self.audit.path.read_text().splitlines()]


@asynccontextmanager
async def office(server: PostgresServer, database: str, folder: Path, *, user: str = "postgres", **settings: Any) -> AsyncIterator[Office]:
    url = f"postgresql://{user}@127.0.0.1:{server.port}/{database}"
    given = Settings(upstream=url, data_dir=folder, soft_drop=True, **settings)
    folder.mkdir(parents=True, exist_ok=True)
    clock = SystemClock()
    store = await open_store(folder)
    audit = open_audit(given, clock, lambda _: None)
    logged: list[dict[str, Any]] = []

    def log(event: str, **more: Any) -> None:
        logged.append({"event": event, **more})

    book = SqlHoldBook(store, clock, 100)
    control = Control(Upstream.from_url(url), 5)
    backups = SqlBackups(store, clock)
    errands = Errands(given, book, audit, control, log)
    trash = Trash(given, store, backups, book, control, errands, clock, log)
    undo = Undo(book, backups, control, errands, trash)
    made = Office(server, database, given, book, audit, backups, control, errands, trash, undo, logged)
    undo.open_rows = made.open_rows
    errands.protector = made.keeper = Keeper(made)
    try:
        yield made
    finally:
        await errands.close()
        await audit.close()
        await store.close()
