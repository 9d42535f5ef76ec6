"""Errands: held, decided, on record, carried out once; and what becomes of them when something goes wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proxy.backups.errands import Errand, ErrandError, ErrandRefusedError, Work
from proxy.model import AuditEntry, AuditEvent, Decision, ErrandKind, HoldId, HoldState, Operator, Role
from proxy.seams import AuditError, NotPendingError
from tests.office import ANA, Office, office
from tests.servers import PostgresServer


@pytest.fixture
async def at(postgres18: PostgresServer, tmp_path: Path) -> AsyncIterator[Office]:
    async with office(postgres18, "postgres", tmp_path / "data") as made:
        yield made


def errand(at: Office, *, sql: str = "SELECT 1", **more: Any) -> Errand:
    async def run(work: Work) -> str:
        async with at.control.connection("postgres", read_only=False) as connection, connection.transaction():
            await connection.execute(sql.encode())
        return "done as asked"

    return Errand(ErrandKind.UNDO, "postgres", sql, "does something", more.pop("run", run), of=HoldId(1), **more)


async def test_it_runs_once_it_is_approved_and_everything_is_on_record(at: Office) -> None:
    at.sql("DROP TABLE IF EXISTS made_by_errand")
    hold = await at.errands.submit(errand(at, sql="CREATE TABLE public.made_by_errand ()"), ANA, reason="a test", client_addr="192.0.2.1:5")
    assert hold.request.requester.role == "postgres"
    assert hold.request.requester.client_addr == "192.0.2.1:5"
    assert hold.request.requester.application_name == "pghold undo"
    assert at.sql("SELECT to_regclass('made_by_errand')") == [(None,)]
    ended = await at.approve(hold)
    assert (ended.state, ended.outcome) == (HoldState.DONE, "done as asked")
    assert at.sql("SELECT to_regclass('made_by_errand')") == [("made_by_errand",)]
    assert at.events() == ["held", "approved", "released", "outcome", "given back"]
    held = json.loads(at.audit.path.read_text().splitlines()[0])
    assert (held["operator"], held["reason"], held["detail"]["of_hold"]) == ("ana", "a test", 1)
    with pytest.raises(NotPendingError):
        await at.approve(hold)


async def test_denied_it_does_not_run(at: Office) -> None:
    hold = await at.errands.submit(errand(at, sql="SELECT 1/0"), ANA)
    await at.book.decide(hold.id, Decision(False, "ben", "no", hold.created_at))
    assert (await at.ended(hold)).state is HoldState.DENIED
    async with asyncio.timeout(5):
        while at.events() != ["held", "denied"]:
            await asyncio.sleep(0.01)


async def test_expired_it_does_not_run(at: Office) -> None:
    hold = await at.errands.submit(errand(at, sql="SELECT 1/0", expires_in_s=0.05), ANA)
    assert (await at.ended(hold)).state is HoldState.EXPIRED


async def test_what_fails_has_failed(at: Office) -> None:
    ended = await at.approve(await at.errands.submit(errand(at, sql="SELECT 1/0"), ANA))
    assert ended.state is HoldState.FAILED
    assert "division by zero" in str(ended.outcome)

    async def broken(work: Work) -> str:
        raise KeyError("a bug")

    ended = await at.approve(await at.errands.submit(errand(at, run=broken), ANA))
    assert (ended.state, ended.outcome) == (HoldState.FAILED, "internal error: KeyError")


@pytest.mark.parametrize(
    "operator",
    [Operator("eve", Role.VIEWER), Operator("eve", Role.AUDITOR), Operator("eve", Role.APPROVER, databases=("other",))],
    ids=["viewer", "auditor", "other database"],
)
async def test_who_may_not_decide_may_not_ask(at: Office, operator: Operator) -> None:
    with pytest.raises(ErrandRefusedError):
        await at.errands.submit(errand(at), operator)
    assert await at.book.list(pending_only=False) == []


class FailingAudit:
    """Fails from the given event on."""

    def __init__(self, real: Any, event: AuditEvent) -> None:
        self._real = real
        self._event = event
        self.seen: list[AuditEvent] = []

    def submit(self, entry: AuditEntry, *, late: bool = False) -> asyncio.Future[None]:
        self.seen.append(entry.event)
        future: asyncio.Future[None] = self._real.submit(entry, late=late)
        return future

    async def append(self, entry: AuditEntry) -> None:
        self.seen.append(entry.event)
        if entry.event is self._event:
            raise AuditError("the disk is full")
        await self._real.append(entry)


async def test_what_cannot_be_put_on_record_does_not_run(at: Office) -> None:
    for event, state in (
        (AuditEvent.APPROVED, HoldState.WITHDRAWN),
        (AuditEvent.RELEASED, HoldState.FAILED),
    ):
        at.sql("DROP TABLE IF EXISTS made_by_errand")
        at.errands._audit = FailingAudit(at.audit, event)
        ended = await at.approve(await at.errands.submit(errand(at, sql="CREATE TABLE public.made_by_errand ()"), ANA))
        assert ended.state is state
        assert "the disk is full" in str(ended.outcome)
        assert at.sql("SELECT to_regclass('made_by_errand')") == [(None,)]
    at.errands._audit = FailingAudit(at.audit, AuditEvent.HELD)
    with pytest.raises(AuditError):
        await at.errands.submit(errand(at), ANA)
    assert (await at.book.list(pending_only=False))[0].state is HoldState.WITHDRAWN


async def test_a_stop_withdraws_what_waits_and_breaks_off_what_runs(at: Office) -> None:
    at.sql("DROP TABLE IF EXISTS made_by_errand")
    running = asyncio.Event()

    async def endless(work: Work) -> str:
        async with at.control.connection("postgres", read_only=False) as connection, connection.transaction():
            await connection.execute("CREATE TABLE public.made_by_errand ()")
            running.set()
            await connection.execute("SELECT pg_sleep(60)")
        return "never"

    waits = await at.errands.submit(errand(at), ANA)
    runs = await at.errands.submit(errand(at, run=endless), ANA)
    await at.book.decide(runs.id, Decision(True, "ana", "go", runs.created_at))
    await running.wait()
    async with asyncio.timeout(15):
        await at.errands.close()
    assert (await at.book.get(waits.id)).state is HoldState.WITHDRAWN
    ended = await at.book.get(runs.id)
    assert ended.state is HoldState.ABANDONED
    assert at.sql("SELECT to_regclass('made_by_errand')") == [(None,)]
    assert at.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()") == [(0,)]


async def test_a_process_that_died_leaves_them_abandoned(at: Office) -> None:
    hold = await at.errands.submit(errand(at), ANA)
    # As the next process finds the store.
    assert [h.id for h in await at.book.recover()] == [hold.id]
    assert (await at.book.get(hold.id)).state is HoldState.ABANDONED


async def test_a_connection_lost_at_the_commit_leaves_it_in_doubt(at: Office) -> None:
    at.sql(
        "DROP TABLE IF EXISTS public.fatal; CREATE TABLE public.fatal (id int);"
        "CREATE OR REPLACE FUNCTION public.die() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid()); RETURN NULL; END';"
        "CREATE CONSTRAINT TRIGGER die AFTER INSERT ON public.fatal DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.die()"
    )

    async def run(work: Work) -> str:
        async with at.control.connection("postgres", read_only=False) as connection, connection.transaction():
            await connection.execute("INSERT INTO public.fatal VALUES (1)")
            work.commits()
        return "never"

    ended = await at.approve(await at.errands.submit(errand(at, run=run), ANA))
    assert ended.state is HoldState.ABANDONED
    assert "not known" in str(ended.outcome)


async def test_what_destroys_must_ask_for_its_copy_first(at: Office) -> None:
    order: list[str] = []

    async def run(work: Work) -> str:
        order.append((await at.book.get(work.hold.id)).state)
        await work.protect("DROP TABLE pg_catalog.nothing")
        order.append((await at.book.get(work.hold.id)).state)
        return "gone"

    ended = await at.approve(await at.errands.submit(errand(at, run=run, destroys=True), ANA))
    assert order == ["approved", "released"]
    assert ended.state is HoldState.DONE
    assert ended.copy is not None
    assert ended.copy.text == "kept elsewhere"
    assert "unprotected" in at.events()

    async def refuses(work: Work) -> str:
        raise ErrandError("something is in the way")

    ended = await at.approve(await at.errands.submit(errand(at, run=refuses, destroys=True), ANA))
    assert ended.state is HoldState.DENIED
    assert ended.outcome == "something is in the way"


async def test_holds_of_errands_are_nobodys_retry_and_belong_to_no_group(at: Office) -> None:
    from proxy.console.grouping import group

    one, two = [await at.errands.submit(errand(at, expires_in_s=0.1), ANA) for _ in range(2)]
    assert len(group([one, two])) <= 2
    ended = await at.ended(one)
    assert not ended.may_be_retried(ended.created_at, 3600)
    await at.ended(two)
