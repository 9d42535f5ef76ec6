"""Whole databases copied on schedule: the clock is set by hand, servers, pg_dump and proofs are real."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from proxy.backups.alarm import Alarm, AlarmKind
from proxy.backups.assembly import Copies
from proxy.backups.keeper import Keeper
from proxy.backups.model import Backup, BackupState, CopyKind, Proof, ProtectError
from proxy.backups.wiring import furnish, scheduled_databases
from proxy.clock import SystemClock
from proxy.config import Settings, Upstream
from proxy.control import Control
from proxy.metrics import Metrics
from proxy.model import AuditEntry, AuditEvent
from proxy.store import open_store
from proxy.store.backups import SqlBackups
from proxy.tasks import Tasks
from tests.servers import PostgresServer

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
HOSTILE = "we ird\"'%s <b>é\\;--"


class Clock:
    moment = NOON - timedelta(hours=2)

    def now(self) -> datetime:
        return self.moment


class Record:
    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    def submit(self, entry: AuditEntry, *, late: bool = False) -> asyncio.Future[None]:
        raise NotImplementedError

    async def append(self, entry: AuditEntry) -> None:
        self.entries.append(entry)


class Night:
    """A keeper over a real server, as a process has it."""

    def __init__(self, settings: Settings, keeper: Keeper, copies: Copies, register: SqlBackups, clock: Clock, tasks: Tasks) -> None:
        self.settings, self.keeper, self.copies, self.register, self.clock, self.tasks = settings, keeper, copies, register, clock, tasks
        self.record = Record()
        self.alarms: list[Alarm] = []

    async def look(self, at: datetime) -> None:
        self.clock.moment = at
        await self.keeper.look()
        await self.tasks.wait(60)

    async def copies_of(self, database: str) -> list[Backup]:
        return await self.register.find(database=database)


@asynccontextmanager
async def night(server: PostgresServer, folder: Path, **settings: Any) -> AsyncIterator[Night]:
    folder.mkdir(parents=True, exist_ok=True)
    given = Settings(
        data_dir=folder, upstream=f"postgresql://postgres@127.0.0.1:{server.port}/postgres", backup_min_free_bytes=0, **settings
    )
    store = await open_store(folder)
    clock, metrics, record = Clock(), Metrics(), Record()
    register = SqlBackups(store, clock)
    control = Control(Upstream.from_url(given.upstream), 5)
    tasks = Tasks(lambda name, error: pytest.fail(f"{name}: {error!r}"))
    alarms: list[Alarm] = []

    async def databases() -> list[str]:
        return await scheduled_databases(given, control)

    keeper = Keeper(
        given,
        register,
        record,
        clock,
        databases=databases,
        alarm=alarms.append,
        log=lambda *_, **__: None,
        spawn=tasks.spawn,
        load=lambda: 0.0,
    )
    spawn: Callable[[Coroutine[None, None, None], str], object] = tasks.spawn

    async def no_trash(order: object) -> None:
        return None

    copies = Copies(
        given,
        control=control,
        backups=register,
        clock=SystemClock(),
        registry=metrics.registry,
        spawn=spawn,
        plan_trash=no_trash,
        log=lambda *_, **__: None,
    )
    log: Any = None
    furnish(keeper, copies, log)
    made = Night(given, keeper, copies, register, clock, tasks)
    made.record, made.alarms = record, alarms
    try:
        yield made
    finally:
        await keeper.close()
        await copies.stop()
        await store.close()


def fill(server: PostgresServer, database: str) -> None:
    server.sql(f'DROP DATABASE IF EXISTS "{database.replace(chr(34), chr(34) * 2)}" WITH (FORCE)')
    server.sql(f'CREATE DATABASE "{database.replace(chr(34), chr(34) * 2)}"')
    server.sql(
        "CREATE TABLE a (id int PRIMARY KEY, t text); INSERT INTO a SELECT g, repeat('x', g % 90) FROM generate_series(1, 3000) g", database
    )
    server.sql('CREATE SCHEMA "S ch"; CREATE TABLE "S ch"."T "" b" AS SELECT 1 AS one', database)


@pytest.mark.parametrize("which", ["15", "18"])
async def test_noon_comes_and_each_database_has_a_proven_copy_with_its_roles(
    which: str, postgres15: PostgresServer, postgres18: PostgresServer, tmp_path: Path
) -> None:
    server = postgres15 if which == "15" else postgres18
    fill(server, "nightly")
    fill(server, HOSTILE)
    server.sql('DROP ROLE IF EXISTS "night role"; CREATE ROLE "night role" LOGIN PASSWORD \'very secret word\'')
    async with night(server, tmp_path, backup_databases=["nightly", HOSTILE]) as made:
        await made.look(NOON)
        for name in ("nightly", HOSTILE):
            (copy,) = await made.copies_of(name)
            assert (copy.kind, copy.state, copy.proof) == (CopyKind.FULL, BackupState.DONE, Proof.EQUAL), copy
            assert {t.name: t.rows for t in copy.tables} == {'"public"."a"': 3000, '"S ch"."T "" b"': 1}
            place = made.settings.backup_folder / copy.folder
            assert (place / "archive.dump").stat().st_size > 0
            roles = (place / "globals.sql").read_text()
            assert 'CREATE ROLE "night role"' in roles
            assert "secret" not in roles
            assert "SCRAM-SHA-256$" not in roles
            manifest, problem = await made.keeper.manifest(copy)
            assert (manifest or {})["database"] == name
            assert problem == ""
            assert place.stat().st_mode & 0o077 == 0
            assert all(p.stat().st_mode & 0o077 == 0 for p in place.iterdir())
        events = [e.event for e in made.record.entries]
        assert sorted(events) == [AuditEvent.BACKUP_PROVED, AuditEvent.BACKUP_PROVED, AuditEvent.BACKUP_TAKEN, AuditEvent.BACKUP_TAKEN]
        await made.look(NOON + timedelta(minutes=1))
        assert len(await made.register.find()) == 2
    server.sql('DROP ROLE "night role"')


async def test_an_empty_database_is_copied_and_proven(postgres18: PostgresServer, tmp_path: Path) -> None:
    postgres18.sql("DROP DATABASE IF EXISTS nothing_in_it WITH (FORCE)")
    postgres18.sql("CREATE DATABASE nothing_in_it")
    async with night(postgres18, tmp_path, backup_databases=["nothing_in_it"]) as made:
        await made.look(NOON)
        (copy,) = await made.copies_of("nothing_in_it")
        assert (copy.state, copy.proof, copy.tables) == (BackupState.DONE, Proof.EQUAL, ()), copy


async def test_a_database_that_is_gone_fails_loudly_and_the_others_are_copied(postgres18: PostgresServer, tmp_path: Path) -> None:
    fill(postgres18, "nightly")
    async with night(postgres18, tmp_path, backup_databases=["not there", "nightly"]) as made:
        await made.look(NOON)
        assert [(a.kind, a.database) for a in made.alarms] == [(AlarmKind.FAILED, "not there")]
        assert 'database "not there" does not exist' in made.alarms[0].text
        (done,) = await made.copies_of("nightly")
        assert done.proof is Proof.EQUAL, done.proof_text
        assert any("not there" in w for w in made.keeper.warnings())


async def test_a_full_disk_fails_loudly_and_leaves_nothing(postgres18: PostgresServer, tmp_path: Path) -> None:
    fill(postgres18, "nightly")
    async with night(postgres18, tmp_path, backup_databases=["nightly"]) as made:
        made.copies.vault._min_free_bytes = 1 << 60
        await made.look(NOON)
        assert [a.kind for a in made.alarms] == [AlarmKind.FAILED]
        assert [b.state for b in await made.register.find()] == [BackupState.FAILED]
        assert not made.settings.backup_folder.exists() or list(made.settings.backup_folder.iterdir()) == []
        made.copies.vault._min_free_bytes = 0
        await made.look(NOON + timedelta(minutes=6))
        (done,) = await made.register.find(states=[BackupState.DONE])
        assert done.proof is Proof.EQUAL, done.proof_text
        assert made.keeper.warnings() == []


async def test_a_copy_whose_file_was_changed_is_found_when_it_is_proven_again(postgres18: PostgresServer, tmp_path: Path) -> None:
    fill(postgres18, "nightly")
    async with night(postgres18, tmp_path, backup_databases=["nightly"], backup_schedule="0 12 1 1 *", backup_verify_days=7) as made:
        await made.keeper.take("nightly", "ana")
        await made.tasks.wait(60)
        (copy,) = await made.copies_of("nightly")
        assert copy.proof is Proof.EQUAL
        file = made.settings.backup_folder / copy.folder / "archive.dump"
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        await made.look(datetime.now(UTC) + timedelta(days=8))
        (copy,) = await made.copies_of("nightly")
        assert copy.proof is Proof.FAILED, copy
        assert AlarmKind.DIFFERENT in [a.kind for a in made.alarms]


async def test_what_runs_when_the_proxy_stops_is_killed_and_leaves_nothing(postgres18: PostgresServer, tmp_path: Path) -> None:
    fill(postgres18, "nightly")
    # pg_dump waits for this lock, and would for as long as it may.
    with postgres18.connect("nightly") as blocker:
        blocker.execute("BEGIN; LOCK TABLE a IN ACCESS EXCLUSIVE MODE")
        async with night(postgres18, tmp_path, backup_databases=["nightly"], backup_lock_timeout_s=60) as made:
            await made.keeper.take("nightly", "ana")
            for _ in range(200):
                if children("pg_dump"):
                    break
                await asyncio.sleep(0.05)
            assert children("pg_dump")
            await made.keeper.close()
            assert children("pg_dump") == []
            assert [b.state for b in await made.register.find()] == [BackupState.FAILED]
            assert list(made.settings.backup_folder.iterdir()) == []
            assert made.alarms == [], "it was stopped, and did not fail"


async def test_a_dump_that_is_killed_is_a_failure(postgres18: PostgresServer, tmp_path: Path) -> None:
    fill(postgres18, "nightly")
    with postgres18.connect("nightly") as blocker:
        blocker.execute("BEGIN; LOCK TABLE a IN ACCESS EXCLUSIVE MODE")
        async with night(postgres18, tmp_path, backup_databases=["nightly"], backup_lock_timeout_s=60) as made:
            await made.keeper.take("nightly", "ana")
            while not (found := children("pg_dump")):
                await asyncio.sleep(0.05)
            for pid in found:
                os.kill(pid, signal.SIGKILL)
            await made.tasks.wait(20)
            assert [a.kind for a in made.alarms] == [AlarmKind.FAILED]
            assert "signal 9" in made.alarms[0].text
            assert list(made.settings.backup_folder.iterdir()) == []


def children(program: str) -> list[int]:
    """Of this very process."""
    found = subprocess.run(["pgrep", "-P", str(os.getpid()), "-x", program], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


async def test_which_databases_are_copied(postgres18: PostgresServer) -> None:
    place = f"127.0.0.1:{postgres18.port}"
    fill(postgres18, "nightly")

    async def chosen(upstream: str, **settings: Any) -> list[str]:
        given = Settings(upstream=upstream, **settings)
        control = Control(Upstream.from_url(given.control or upstream), 5)
        return await scheduled_databases(given, control)

    assert await chosen(f"postgresql://{place}/nightly") == ["nightly"]
    assert await chosen(f"postgresql://{place}/nightly", backup_databases=["b", "a", "b"]) == ["b", "a"]
    assert await chosen(f"postgresql://{place}/nightly", control=f"postgresql://postgres@{place}/postgres") == ["nightly"]
    every = await chosen(f"postgresql://postgres@{place}")
    assert {"postgres", "nightly"} <= set(every)
    assert not {"template0", "template1"} & set(every)


async def test_without_a_copier_taking_one_says_so(tmp_path: Path, postgres18: PostgresServer) -> None:
    async with night(postgres18, tmp_path) as made:
        made.keeper.copier = None
        with pytest.raises(ProtectError, match="not available"):
            await made.keeper.take("", "ana")
