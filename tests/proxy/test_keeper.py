"""The keeper over a real store, with a clock that is set by hand and copies that are folders."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from proxy.backups.alarm import Alarm, AlarmKind
from proxy.backups.keeper import BusyError, Keeper
from proxy.backups.model import Backup, BackupId, BackupState, CopiedTable, CopyKind, Proof, ProtectError
from proxy.backups.seams import OnProgress
from proxy.config import Settings
from proxy.model import AuditEntry, AuditEvent, HoldId
from proxy.seams import AuditError
from proxy.store import open_store
from proxy.store.backups import SqlBackups
from proxy.tasks import Tasks

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.moment = NOON - timedelta(hours=2)

    def now(self) -> datetime:
        return self.moment


class Record:
    """The audit log; `broken`: it cannot be written."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []
        self.broken = False

    def submit(self, entry: AuditEntry, *, late: bool = False) -> asyncio.Future[None]:
        raise NotImplementedError

    async def append(self, entry: AuditEntry) -> None:
        if self.broken:
            raise AuditError("no space left on device")
        self.entries.append(entry)

    def events(self) -> list[AuditEvent]:
        return [e.event for e in self.entries]


class Folder:
    """Takes, keeps, proves and removes copies that are one file each."""

    def __init__(self, place: Path, register: SqlBackups, clock: Clock) -> None:
        self.place, self.register, self.clock = place, register, clock
        self.problem = ""
        self.gate: asyncio.Event | None = None
        self.proof = (Proof.EQUAL, "restored, 10 rows, equal")
        self.proofs: list[BackupId] = []
        self.unremovable = False
        self.taking = 0

    async def take(self, database: str, progress: OnProgress) -> Backup:
        self.taking += 1
        assert self.taking == 1 or self.gate is not None
        try:
            backup = await self.register.begin(CopyKind.FULL, database)
            if self.gate is not None:
                await self.gate.wait()
            if self.problem:
                await self.register.put(replace(backup, state=BackupState.FAILED, error=self.problem))
                raise ProtectError(self.problem)
            return await self.keep(backup)
        finally:
            self.taking -= 1

    async def keep(self, backup: Backup, **changes: Any) -> Backup:
        folder = f"copy-{backup.id}"
        (self.place / folder).mkdir()
        done = replace(
            backup,
            state=BackupState.DONE,
            folder=folder,
            bytes=100,
            finished_at=self.clock.now(),
            tables=(CopiedTable("public.a", 10),),
            **changes,
        )
        await self.register.put(done)
        return done

    async def verify(self, backup: Backup, progress: OnProgress) -> tuple[Proof, str]:
        self.proofs.append(backup.id)
        return self.proof

    async def remove(self, backup: Backup) -> None:
        if self.unremovable:
            raise ProtectError("s3://bucket does not answer")
        (self.place / backup.folder).rmdir()

    async def manifest(self, backup: Backup) -> dict[str, Any]:
        return {"id": backup.id}

    async def folders(self) -> Collection[str]:
        return [p.name for p in self.place.iterdir()]


class House:
    """A keeper and all around it."""

    def __init__(self, register: SqlBackups, clock: Clock, place: Path, **settings: Any) -> None:
        self.clock, self.register, self.record, self.alarms = clock, register, Record(), list[Alarm]()
        self.folder = Folder(place, register, clock)
        self.names = ["shop"]
        self.settings = settings
        self.failed: list[BaseException] = []
        self.tasks = Tasks(lambda name, error: self.failed.append(error))
        self.keeper = self.start()

    def start(self) -> Keeper:
        """As a new process."""

        async def databases() -> list[str]:
            return self.names

        return Keeper(
            Settings(upstream="postgresql://x/shop", **self.settings), self.register, self.record, self.clock, databases=databases,
            alarm=self.alarms.append, log=lambda *_, **__: None, spawn=self.tasks.spawn, copier=self.folder, verifier=self.folder,
            shelf=self.folder, load=lambda: 0.0,
        )  # fmt: skip

    async def look(self, at: datetime | None = None) -> None:
        """One look, and whatever it begins ends."""
        if at is not None:
            self.clock.moment = at
        await self.keeper.look()
        await self.tasks.wait(5)
        assert self.failed == []

    async def copies(self, **wanted: Any) -> list[Backup]:
        return await self.register.find(**wanted)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    (tmp_path / "data").mkdir()
    (tmp_path / "copies").mkdir()
    store = await open_store(tmp_path / "data")
    clock = Clock()
    made = House(SqlBackups(store, clock), clock, tmp_path / "copies")
    yield made
    await made.keeper.close()
    await store.close()


async def test_noon_brings_one_copy_and_its_proof(house: House) -> None:
    await house.folder.keep(await house.register.begin(CopyKind.FULL, "shop"), proof=Proof.EQUAL, proved_at=house.clock.now())
    await house.look(NOON - timedelta(seconds=1))
    assert len(await house.copies()) == 1
    await house.look(NOON)
    newest = (await house.copies())[0]
    assert (newest.database, newest.kind, newest.state, newest.proof) == ("shop", CopyKind.FULL, BackupState.DONE, Proof.EQUAL)
    assert house.record.events() == [AuditEvent.BACKUP_TAKEN, AuditEvent.BACKUP_PROVED]
    for minutes in (1, 30, 600):
        await house.look(NOON + timedelta(minutes=minutes))
    assert len(await house.copies()) == 2
    await house.look(NOON + timedelta(hours=12))
    assert len(await house.copies()) == 3
    assert house.alarms == []


async def test_a_missed_noon_is_made_up_for_once_a_minute_after_the_start(house: House) -> None:
    await house.folder.keep(await house.register.begin(CopyKind.FULL, "shop"), proof=Proof.EQUAL, proved_at=NOON)
    house.clock.moment = NOON + timedelta(days=3, hours=2)
    house.keeper = house.start()
    await house.look()
    assert len(await house.copies()) == 1
    await house.look(house.clock.moment + timedelta(seconds=60))
    assert len(await house.copies()) == 2
    await house.look(house.clock.moment + timedelta(hours=1))
    assert len(await house.copies()) == 2


async def test_a_start_that_missed_nothing_makes_nothing_up(house: House) -> None:
    await house.look(NOON)
    assert len(await house.copies()) == 1
    house.clock.moment = NOON + timedelta(hours=1)
    house.keeper = house.start()
    await house.look(house.clock.moment + timedelta(minutes=5))
    assert len(await house.copies()) == 1


async def test_a_failure_is_an_alarm_and_is_tried_again(house: House) -> None:
    await house.folder.keep(await house.register.begin(CopyKind.FULL, "shop"), proof=Proof.EQUAL, proved_at=NOON)
    house.folder.problem = "disk full"
    await house.look(NOON)
    assert [(a.kind, a.database) for a in house.alarms] == [(AlarmKind.FAILED, "shop")]
    assert house.record.events() == [AuditEvent.BACKUP_FAILED]
    assert "the last full copy of database shop failed: disk full" in house.keeper.warnings()
    await house.look(NOON + timedelta(seconds=15))
    assert len(house.alarms) == 1
    house.folder.problem = ""
    await house.look(NOON + timedelta(minutes=5))
    assert house.record.events()[1:] == [AuditEvent.BACKUP_TAKEN, AuditEvent.BACKUP_PROVED]
    assert house.keeper.warnings() == []
    assert dict(house.keeper.figures.scheduled) == {"failed": 1, "taken": 1}


async def test_a_late_copy_is_an_alarm_once_until_it_is_there(house: House) -> None:
    house.keeper.copier = None  # nothing can make one
    for minutes in (0, 29, 31, 60, 120):
        await house.look(NOON + timedelta(minutes=minutes))
    assert [a.kind for a in house.alarms] == [AlarmKind.LATE]
    assert house.keeper.warnings() == ["the scheduled copy of database shop is late"]
    house.keeper.copier = house.folder
    await house.look(NOON + timedelta(minutes=121))
    await house.look(NOON + timedelta(minutes=122))
    assert house.keeper.warnings() == []


async def test_never_two_at_once_for_one_database(house: House) -> None:
    house.folder.gate = asyncio.Event()
    assert await house.keeper.take("shop", "ana") == ["shop"]
    await asyncio.sleep(0)
    with pytest.raises(BusyError, match="shop is being made already"):
        await house.keeper.take("shop", "ana")
    assert await house.keeper.take("other", "ana") == ["other"]
    house.clock.moment = NOON
    await house.keeper.look()  # by the schedule: it runs already
    house.folder.gate.set()
    await house.tasks.wait(5)
    assert sorted(b.database for b in await house.copies()) == ["other", "shop"]
    assert {e.operator for e in house.record.entries if e.event is AuditEvent.BACKUP_TAKEN} == {"ana"}


async def test_nothing_is_begun_while_a_held_statement_is_copied(house: House) -> None:
    safety = await house.register.begin(CopyKind.DUMP, "shop", HoldId(7))
    await house.look(NOON)
    assert len(await house.copies(kinds=[CopyKind.FULL])) == 0
    await house.folder.keep(safety, proof=Proof.EQUAL, proved_at=NOON)
    await house.look(NOON + timedelta(seconds=15))
    assert len(await house.copies(kinds=[CopyKind.FULL])) == 1


async def test_a_server_that_does_not_tell_its_databases_is_a_warning_and_no_end(house: House) -> None:
    async def fails() -> list[str]:
        raise ProtectError("no route to host")

    await house.look()
    house.keeper._databases = fails
    await house.look(NOON)
    assert any("no route to host" in w for w in house.keeper.warnings())
    assert [b.database for b in await house.copies()] == ["shop"], "what was known is copied"


async def test_what_differs_is_an_alarm(house: House) -> None:
    house.folder.proof = (Proof.DIFFERENT, "public.a has 9 rows, not 10")
    await house.look(NOON)
    (alarm,) = house.alarms
    assert (alarm.kind, alarm.backup_id) == (AlarmKind.DIFFERENT, (await house.copies())[0].id)
    assert "9 rows, not 10" in alarm.text
    assert (await house.copies())[0].proof is Proof.DIFFERENT
    await house.look(NOON + timedelta(hours=7))
    assert len(house.folder.proofs) == 1, "what differs will differ again"


async def test_copies_are_proven_again_the_oldest_proof_first_one_at_a_time(house: House) -> None:
    house.names = []
    for days in (8, 10, 9, 2):
        backup = await house.register.begin(CopyKind.DUMP, "shop", HoldId(days))
        await house.folder.keep(backup, proof=Proof.EQUAL, proved_at=NOON - timedelta(days=days))
    for _ in range(5):
        await house.look(NOON)
    assert house.folder.proofs == [2, 3, 1]
    assert {b.proved_at for b in await house.copies() if b.id in (1, 2, 3)} == {NOON}


async def test_a_busy_machine_proves_later_but_not_never(house: House) -> None:
    house.names = []
    house.keeper._load = lambda: 3.0
    backup = await house.register.begin(CopyKind.DUMP, "shop", HoldId(1))
    await house.folder.keep(backup, proof=Proof.EQUAL, proved_at=NOON)
    await house.look(NOON + timedelta(days=7, hours=23))
    assert house.folder.proofs == []
    await house.look(NOON + timedelta(days=8, hours=1))
    assert house.folder.proofs == [1]


async def test_removal_is_on_record_before_the_files_go(house: House) -> None:
    old = await house.folder.keep(await house.register.begin(CopyKind.DUMP, "shop", HoldId(7)), proof=Proof.EQUAL, proved_at=NOON)
    house.clock.moment = NOON + timedelta(days=31)
    assert [r.why for r in await house.keeper.prune("ana", dry_run=True)] == ["older than 30 days"]
    assert (house.folder.place / old.folder).exists()
    house.record.broken = True
    with pytest.raises(AuditError):
        await house.keeper.prune("ana")
    assert (house.folder.place / old.folder).exists(), "nothing goes that is not on record"
    house.record.broken = False
    await house.keeper.prune("ana")
    assert not (house.folder.place / old.folder).exists()
    assert (await house.register.get(old.id)).state is BackupState.REMOVED
    (entry,) = house.record.entries
    assert (entry.event, entry.operator, entry.hold_id, entry.reason) == (AuditEvent.BACKUP_REMOVED, "ana", 7, "older than 30 days")


async def test_files_that_cannot_be_removed_keep_their_row_and_are_tried_again(house: House) -> None:
    old = await house.folder.keep(await house.register.begin(CopyKind.DUMP, "shop", HoldId(7)), proof=Proof.EQUAL, proved_at=NOON)
    house.clock.moment = NOON + timedelta(days=31)
    house.folder.unremovable = True
    for _ in range(2):
        assert await house.keeper.prune("retention") == []
    assert [a.kind for a in house.alarms] == [AlarmKind.REMOVAL]
    assert (await house.register.get(old.id)).state is BackupState.DONE
    assert any("could not be removed" in w for w in house.keeper.warnings())
    house.folder.unremovable = False
    assert len(await house.keeper.prune("retention")) == 1
    assert house.keeper.warnings() == []


async def test_a_copy_that_is_read_is_not_removed(house: House) -> None:
    old = await house.folder.keep(await house.register.begin(CopyKind.DUMP, "shop", HoldId(7)), proof=Proof.EQUAL, proved_at=NOON)
    house.clock.moment = NOON + timedelta(days=31)
    with house.keeper.using(old.id):
        assert await house.keeper.prune("ana") == []
        assert not await house.keeper.remove(old, "ana", "by hand")
    assert len(await house.keeper.prune("ana")) == 1


async def test_files_that_are_gone_are_an_alarm_and_no_proof_any_more(house: House) -> None:
    house.names = []
    backup = await house.folder.keep(await house.register.begin(CopyKind.DUMP, "shop", HoldId(7)), proof=Proof.EQUAL, proved_at=NOON)
    (house.folder.place / backup.folder).rmdir()
    (house.folder.place / "stray").mkdir()
    await house.look()
    assert [(a.kind, a.backup_id) for a in house.alarms] == [(AlarmKind.MISSING, backup.id)]
    found = await house.register.get(backup.id)
    assert (found.proof, found.proof_text, len(found.tables)) == (Proof.FAILED, "its files are gone", 1)
    assert house.keeper.warnings() == ["the files of copy 1 are gone", "1 folder of copies not in the register: stray"]
    assert (house.folder.place / "stray").exists(), "what nobody knows may be all that is left"


async def test_what_runs_at_the_end_is_cancelled(house: House) -> None:
    house.folder.gate = asyncio.Event()
    await house.keeper.take("shop", "ana")
    await asyncio.sleep(0)
    await house.keeper.close()
    assert len(house.tasks) == 0
    assert house.record.entries == [], "it neither was made nor failed"
