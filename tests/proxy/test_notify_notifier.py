"""Who is told of what, when, how often, and what becomes of it when services fail: with a real store, and services that the test plays."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from proxy.model import AuditEntry, AuditEvent, Hold, HoldState
from proxy.notify.message import Topic
from proxy.notify.notifier import Notifier
from proxy.notify.reminders import moments
from proxy.notify.routes import Route
from proxy.notify.senders import DeliveryError
from proxy.notify.watch import ChainWatch, HealthWatch
from proxy.seams import StoreError, UnknownHoldError
from proxy.store import Store, open_store
from tests.proxy.notifying import NOW, FakeSender, FixedClock, a_hold, a_route, decided


async def until(condition: Callable[[], object]) -> None:
    """Let others work until it is so."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


class FakeBook:
    """Holds that the test moves."""

    def __init__(self) -> None:
        self.holds: dict[int, Hold] = {}
        self.queue: asyncio.Queue[Hold] = asyncio.Queue()

    def show(self, hold: Hold) -> None:
        self.holds[hold.id] = hold
        self.queue.put_nowait(hold)

    async def changes(self) -> AsyncIterator[Hold]:
        while True:
            yield await self.queue.get()

    async def get(self, hold_id: int) -> Hold:
        if hold_id not in self.holds:
            raise UnknownHoldError(hold_id)
        return self.holds[hold_id]

    async def list(self, *, pending_only: bool = True, limit: int = 1000, before: int | None = None) -> Sequence[Hold]:
        return [h for h in self.holds.values() if h.state is HoldState.PENDING]

    def pending_count(self) -> int:
        return sum(h.state is HoldState.PENDING for h in self.holds.values())


class FakeAudit:
    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    def submit(self, entry: AuditEntry) -> asyncio.Future[None]:
        self.entries.append(entry)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future

    async def append(self, entry: AuditEntry) -> None:
        self.entries.append(entry)


class World:
    """A notifier, and all that it meets."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder = folder
        self.store = store
        self.book = FakeBook()
        self.audit = FakeAudit()
        self.clock = FixedClock()
        self.senders: dict[str, FakeSender] = {}
        self.problems: list[str] = []
        self.logged: list[str] = []

    def sender(self, name: str = "ops") -> FakeSender:
        return self.senders.setdefault(name, FakeSender())

    async def start(self, *routes: Route, recovered: Sequence[Hold] = ()) -> Notifier:
        async def problems() -> list[str]:
            return self.problems

        def log(event: str, **fields: Any) -> None:
            self.logged.append(f"{event} {fields}")

        notifier = Notifier(
            routes or (a_route(),),
            store=self.store,
            book=self.book,  # type: ignore[arg-type]  # what of it is used
            audit=self.audit,
            clock=self.clock,
            environment="production",
            console_url=lambda: "https://console.example.com",
            problems=problems,
            chain=ChainWatch(self.folder / "audit.jsonl", 0, log),
            log=log,
            make_sender=lambda route: self.sender(route.name),
        )
        await notifier.start(recovered)
        return notifier


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = await open_store(tmp_path)
    yield World(tmp_path, store)
    await store.close()


async def test_a_hold_is_told_and_its_decision_follows_once(world: World) -> None:
    notifier = await world.start()
    hold = a_hold()
    world.book.show(hold)
    await until(lambda: world.sender().topics() == ["hold.opened"])
    world.book.show(hold)
    world.book.show(decided(hold))
    world.book.show(replace(decided(hold), state=HoldState.RELEASED))
    world.book.show(replace(decided(hold), state=HoldState.DONE))
    await until(lambda: len(world.sender().sent) == 2)
    await notifier.close(1)
    opened, approved = world.sender().sent
    assert [str(p.message.topic) for p in world.sender().sent] == ["hold.opened", "hold.approved"]
    assert (opened.message.thread, approved.message.thread) == ("hold-1", "hold-1")
    assert approved.supersedes == opened.delivery
    assert opened.link == "https://console.example.com/holds/1"


async def test_what_is_settled_before_its_opening_left_is_told_as_settled_only(world: World) -> None:
    notifier = await world.start(a_route(digest_s=60))
    world.book.show(a_hold(1))
    world.book.show(decided(a_hold(1), False))
    world.book.show(a_hold(2))
    world.book.show(replace(a_hold(2), state=HoldState.WITHDRAWN))
    await until(lambda: world.book.queue.empty() and notifier.states()[0].waiting == 1)
    await notifier.close(1)
    assert world.sender().topics() == ["hold.denied"]


async def test_a_route_is_told_of_the_end_of_what_it_was_told_whatever_its_events(world: World) -> None:
    await world.start(a_route(events="hold.opened"), a_route(name="other", events="hold.denied"), a_route(name="none", events="health.*"))
    world.book.show(a_hold())
    await until(lambda: world.sender().sent)
    world.book.show(replace(a_hold(), state=HoldState.EXPIRED))
    await until(lambda: len(world.sender().sent) == 2)
    assert world.sender().topics() == ["hold.opened", "hold.expired"]
    assert world.sender("other").sent == []
    assert world.sender("none").sent == []


async def test_one_of_several_approvals_is_no_new_hold(world: World) -> None:
    """The hold book shows the hold anew; when it has ended meanwhile, as it was before."""
    notifier = await world.start()
    world.book.show(a_hold())
    await until(lambda: world.sender().sent)
    world.book.show(a_hold())
    world.book.show(replace(a_hold(), state=HoldState.EXPIRED))
    world.book.queue.put_nowait(a_hold())
    await until(lambda: len(world.sender().sent) == 2 and world.book.queue.empty())
    await notifier.close(1)
    assert world.sender().topics() == ["hold.opened", "hold.expired"]


async def test_an_approval_that_comes_to_nothing_is_corrected(world: World) -> None:
    await world.start()
    world.book.show(a_hold())
    await until(lambda: len(world.sender().sent) == 1)
    world.book.show(decided(a_hold()))
    await until(lambda: len(world.sender().sent) == 2)
    world.book.show(replace(decided(a_hold()), state=HoldState.ABANDONED))
    await until(lambda: len(world.sender().sent) == 3)
    assert world.sender().topics() == ["hold.opened", "hold.approved", "hold.abandoned"]
    assert world.sender().sent[2].supersedes == world.sender().sent[1].delivery


async def test_fifty_holds_are_one_message_and_their_decisions_another(world: World) -> None:
    await world.start(a_route(digest_s=0.05, digest_over=5))
    for number in range(1, 51):
        world.book.show(a_hold(number))
    await until(lambda: world.sender().sent)
    for number in range(1, 51):
        world.book.show(decided(a_hold(number)))
    await until(lambda: len(world.sender().sent) == 2)
    assert [len(p.many) for p in world.sender().sent] == [50, 50]
    assert world.sender().sent[0].message.subject.startswith("HIGH: 50 statements wait for a decision")


async def test_few_holds_are_told_one_by_one(world: World) -> None:
    await world.start(a_route(digest_s=0.02, digest_over=5))
    for number in range(1, 6):
        world.book.show(a_hold(number))
    await until(lambda: len(world.sender().sent) == 5)
    assert all(not p.many for p in world.sender().sent)


async def test_what_is_settled_leaves_a_digest_that_could_not_be_sent(world: World) -> None:
    notifier = await world.start(a_route(digest_s=0.02, digest_over=2, retry_from_s=0.2, retry_up_to_s=0.2))
    world.sender().problems = ["down"]
    for number in range(1, 6):
        world.book.show(a_hold(number))
    await until(lambda: world.sender().tried)
    world.book.show(replace(a_hold(3), state=HoldState.WITHDRAWN))
    await until(lambda: world.sender().sent)
    assert [m.thread for m in world.sender().sent[0].many] == ["hold-1", "hold-2", "hold-4", "hold-5"]
    assert world.sender().sent[0].delivery == world.sender().tried[0].delivery
    await notifier.close(1)
    assert len(world.sender().sent) == 1


async def test_break_glass_reaches_every_route_at_once(world: World) -> None:
    quiet = a_route(name="quiet", databases="billing", events="health.*", min_severity="critical", digest_s=600)
    await world.start(a_route(digest_s=600), quiet)
    world.book.show(a_hold())
    world.book.show(decided(a_hold(), break_glass=True))
    await until(lambda: world.sender().sent and world.sender("quiet").sent)
    assert world.sender("quiet").topics() == world.sender().topics() == ["break-glass"]


async def test_failures_are_tried_again_with_the_same_delivery_and_given_up_in_the_end(world: World) -> None:
    notifier = await world.start(a_route(tries=3))
    world.sender().problems = ["it answered 500", "it answered 500"]
    world.book.show(a_hold(1))
    await until(lambda: world.sender().sent)
    assert len({p.delivery for p in world.sender().tried}) == 1
    assert len(world.sender().tried) == 3
    world.sender().problems = ["down"] * 3
    world.book.show(a_hold(2))
    await until(notifier.dead_letters)
    dead = notifier.dead_letters()[0]
    assert (dead.message.thread, dead.tries, dead.error) == ("hold-2", 3, "down")
    lost = world.audit.entries[-1]
    assert lost.event is AuditEvent.NOTIFICATION_LOST
    assert (lost.hold_id, lost.outcome, lost.detail["route"], lost.detail["tries"]) == (2, "down", "ops", 3)
    assert notifier.dead_by_route() == {"ops": 1}
    # And the service is back: it is sent again, once.
    assert notifier.send_again(dead.id) == ""
    await until(lambda: len(world.sender().sent) == 2)
    assert notifier.dead_letters() == []
    assert notifier.send_again(dead.id) != ""


async def test_a_dead_letter_of_a_hold_that_waits_no_more_is_not_sent_again(world: World) -> None:
    notifier = await world.start(a_route(tries=1))
    world.sender().problems = ["down"]
    world.book.show(a_hold())
    await until(notifier.dead_letters)
    world.book.show(replace(a_hold(), state=HoldState.WITHDRAWN))
    await until(lambda: not notifier._pending)
    assert "stale" in notifier.send_again(notifier.dead_letters()[0].id)
    assert await notifier.dismiss(notifier.dead_letters()[0].id, "ana")
    assert notifier.dead_letters() == []
    assert (world.audit.entries[-1].operator, world.audit.entries[-1].outcome) == ("ana", "dismissed")
    assert not await notifier.dismiss(1, "ana")


async def test_a_letter_that_a_service_does_not_like_holds_up_no_other(world: World) -> None:
    class Picky(FakeSender):
        async def send(self, parcel: Any) -> None:
            if parcel.message.thread == "hold-1":
                self.problems = ["too ugly"]
            await super().send(parcel)

    world.senders["ops"] = Picky()
    await world.start(a_route(retry_from_s=0.01, retry_up_to_s=0.01, tries=100))
    for number in (1, 2, 3):
        world.book.show(a_hold(number))
    await until(lambda: len(world.sender().sent) == 2)
    assert {p.message.thread for p in world.sender().sent} == {"hold-2", "hold-3"}


async def test_a_hanging_service_holds_up_no_other_route_and_not_the_end(world: World) -> None:
    class Hanging(FakeSender):
        async def send(self, parcel: Any) -> None:
            self.tried.append(parcel)
            await asyncio.Event().wait()

    world.senders["stuck"] = Hanging()
    notifier = await world.start(a_route(), a_route(name="stuck"))
    for number in (1, 2, 3):
        world.book.show(a_hold(number))
    await until(lambda: len(world.sender().sent) == 3)
    assert len(world.sender("stuck").tried) == 1
    async with asyncio.timeout(5):
        await notifier.close(0.1)


async def test_a_restart_keeps_what_was_pending_and_sends_it_once(world: World) -> None:
    route = a_route(retry_from_s=600, retry_up_to_s=600)
    notifier = await world.start(route)
    world.sender().problems = ["down"]
    world.book.show(a_hold(1))
    await until(lambda: world.sender().tried)
    await notifier.close(0.1)
    assert world.sender().sent == []
    del world.senders["ops"]
    # The hold still waits (it was refused at once, and may be tried again).
    second = await world.start(route)
    await until(lambda: world.sender().sent)
    await second.close(0.1)
    assert [p.message.thread for p in world.sender().sent] == ["hold-1"]
    del world.senders["ops"]
    third = await world.start(route)
    await third.close(0.1)
    assert world.sender().sent == []


async def test_what_a_dead_process_left_is_followed_up_once(world: World) -> None:
    first = await world.start()
    hold = a_hold()
    world.book.show(hold)
    await until(lambda: world.sender().sent)
    await first.close(1)
    abandoned = replace(hold, state=HoldState.ABANDONED, outcome="the proxy stopped while it waited")
    world.book.holds[1] = abandoned
    world.book.queue = asyncio.Queue()
    second = await world.start(recovered=[abandoned])
    await until(lambda: len(world.sender().sent) == 2)
    await second.close(1)
    third = await world.start(recovered=[])
    await third.close(1)
    assert world.sender().topics() == ["hold.opened", "hold.abandoned"]
    assert world.sender().sent[1].supersedes == world.sender().sent[0].delivery


async def test_a_decision_of_a_process_that_died_before_telling_it_is_told(world: World) -> None:
    first = await world.start()
    world.book.show(a_hold())
    await until(lambda: world.sender().sent)
    await first.close(1)
    world.book.holds[1] = replace(decided(a_hold()), state=HoldState.DONE)
    world.book.queue = asyncio.Queue()
    await world.start()
    await until(lambda: len(world.sender().sent) == 2)
    assert world.sender().topics() == ["hold.opened", "hold.approved"]


async def test_holds_that_nobody_was_told_of_and_that_a_dead_process_left_wake_nobody(world: World) -> None:
    notifier = await world.start(recovered=[replace(a_hold(), state=HoldState.ABANDONED)])
    await notifier.close(1)
    assert world.sender().sent == []


async def test_the_store_may_be_gone_and_people_are_still_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    notifier = await world.start()

    def gone() -> object:
        raise StoreError("the disk is full")

    monkeypatch.setattr(world.store, "transaction", gone)
    world.book.show(a_hold())
    await until(lambda: world.sender().sent)
    await until(lambda: world.logged)
    world.book.show(decided(a_hold()))
    await until(lambda: len(world.sender().sent) == 2)
    assert "the disk is full" in world.logged[0]
    await notifier.close(0.1)


async def test_a_queue_is_bounded_and_says_what_it_left_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.notify.courier.WAITING_LIMIT", 10)
    notifier = await world.start(a_route(digest_s=0.1, digest_over=2))
    for number in range(1, 31):
        world.book.show(a_hold(number))
    await until(lambda: world.sender().sent)
    assert len(world.sender().sent[0].many) == 10
    assert world.sender().sent[0].message.facts["count"] == 30
    assert notifier.states()[0].left_out == 20
    assert [e.event for e in world.audit.entries] == [AuditEvent.NOTIFICATION_LOST]


async def test_other_routes_from_a_reload_on(world: World) -> None:
    notifier = await world.start(a_route(retry_from_s=600, retry_up_to_s=600), a_route(name="gone", digest_s=600))
    world.sender().problems = ["down"]
    world.book.show(a_hold())
    await until(lambda: world.sender().tried)
    notifier.replace([a_route(tries=3), a_route(name="new")])
    await until(lambda: world.sender().sent)
    world.book.show(decided(a_hold()))
    await until(lambda: world.sender("new").sent)
    assert [s.name for s in notifier.states()] == ["ops", "new"]
    assert [x.error for x in notifier.dead_letters()] == ["the route is no longer in the file"]
    assert world.sender("new").topics() == ["hold.approved"]


@pytest.mark.parametrize("by_restart", [True, False])
async def test_what_became_stale_while_it_was_being_sent_is_not_sent_by_the_next(world: World, by_restart: bool) -> None:
    class Hanging(FakeSender):
        async def send(self, parcel: Any) -> None:
            self.tried.append(parcel)
            await asyncio.Event().wait()

    hanging = world.senders["ops"] = Hanging()
    notifier = await world.start()
    world.book.show(a_hold())
    await until(lambda: hanging.tried)
    world.book.show(decided(a_hold()))
    await until(lambda: notifier.states()[0].waiting == 2)
    world.senders["ops"] = FakeSender()
    if by_restart:
        await notifier.close(0.01)
        world.book.queue = asyncio.Queue()
        notifier = await world.start()
    else:
        notifier.replace([a_route(tries=3)])
    await until(lambda: world.sender().sent)
    await notifier.close(1)
    assert world.sender().topics() == ["hold.approved"]


async def test_lockouts_are_told_once_in_a_while(world: World) -> None:
    notifier = await world.start()
    for _ in range(5):
        notifier.locked_out("ana", NOW + timedelta(seconds=60))
    await until(lambda: world.sender().sent)
    world.clock.moment += timedelta(seconds=301)
    notifier.locked_out("ana", NOW + timedelta(seconds=900))
    await until(lambda: len(world.sender().sent) == 2)
    assert world.sender().topics() == ["operator.locked-out"] * 2
    assert "ana" in world.sender().sent[0].message.subject


async def test_a_test_message_says_which_route_fails(world: World) -> None:
    notifier = await world.start(a_route(), a_route(name="bad"))
    world.sender("bad").problems = ["it answered 404"]
    results = {r.route: (r.arrived, r.problem) for r in await notifier.test("ana")}
    assert results == {"ops": (True, ""), "bad": (False, "it answered 404")}
    assert [r.route for r in await notifier.test("ana", "ops")] == ["ops"]
    assert await notifier.test("ana", "nobody") == []


async def test_health_is_told_when_it_changes_and_its_end_in_the_same_thread(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.notify.watch.LOOK_S", 0.001)
    notifier = await world.start()
    world.problems = ["could not connect to the server at 10.0.0.7:5432: refused"]
    await until(lambda: world.sender().sent)
    world.problems = []
    await until(lambda: len(world.sender().sent) == 2)
    await notifier.close(1)
    first, last = world.sender().sent
    assert world.sender().topics() == ["health.problem", "health.solved"]
    assert first.message.thread == last.message.thread
    assert last.supersedes == first.delivery
    assert "10.0.0.7" in first.message.subject


async def test_the_end_of_a_problem_is_told_by_the_next_process(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.notify.watch.LOOK_S", 0.001)
    first = await world.start()
    world.problems = ["the store failed"]
    await until(lambda: world.sender().sent)
    await first.close(1)
    world.problems = []
    await world.start()
    await until(lambda: len(world.sender().sent) == 2)
    assert world.sender().topics() == ["health.problem", "health.solved"]


def test_what_passes_by_itself_wakes_nobody() -> None:
    told: list[object] = []

    async def look() -> list[str]:
        return []

    clock = FixedClock()
    watch = HealthWatch(look, clock, lambda problems, began: told.append(list(problems)), lambda began: told.append("solved"))
    for problems in (["a"], [], ["a"], [], []):
        watch.see(problems)
    assert told == []
    for problems in (["a 1"], ["a 2"], ["a 3"], ["b"], [], ["b"]):
        watch.see(problems)
    assert told == [["a 2"]]
    clock.moment += timedelta(seconds=61)
    for problems in (["b"], ["b"], [], []):
        watch.see(problems)
    assert told == [["a 2"], ["b"], "solved"]


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_fails_whenever_no_thread_is_out_of_order_stale_or_told_twice(world: World, seed: int) -> None:
    """Random holds, decisions, failures, reloads and restarts."""
    chance = random.Random(seed)
    settled: dict[str, int] = {}
    begun: list[tuple[str, str, int]] = []  # thread, topic, whether the hold was settled when this try began

    class Moody(FakeSender):
        async def send(self, parcel: Any) -> None:
            for message in parcel.many or (parcel.message,):
                begun.append((message.thread, str(message.topic), settled.get(message.thread, 0)))
            for _ in range(chance.choice([0, 1, 30])):
                await asyncio.sleep(0)
            if chance.random() < 0.3 and not calm:
                raise DeliveryError("moody")
            self.sent.append(parcel)

    calm = False
    world.senders["ops"] = sender = Moody()
    settings: dict[str, Any] = {"tries": 100, "retry_from_s": 0.001, "digest_over": 2}
    notifier = await world.start(a_route(digest_s=0.002, **settings))
    open_holds: list[Hold] = []
    for number in range(1, 41):
        if chance.random() < 0.6:
            hold = a_hold(number)
            open_holds.append(hold)
            world.book.show(hold)
        elif open_holds:
            hold = open_holds.pop(chance.randrange(len(open_holds)))
            state = chance.choice([HoldState.EXPIRED, HoldState.WITHDRAWN, HoldState.ABANDONED, None, None])
            now = replace(hold, state=state) if state is not None else decided(hold, chance.random() < 0.5)
            world.book.show(now)
            await until(world.book.queue.empty)
            await asyncio.sleep(0)
            settled[f"hold-{hold.id}"] = 1
        if chance.random() < 0.1:
            notifier.replace([a_route(digest_s=chance.choice([0, 0.002, 0.01]), **settings)])
        if chance.random() < 0.05:
            await notifier.close(0.05)
            world.book.queue = asyncio.Queue()
            notifier = await world.start(a_route(digest_s=0.002, **settings))
        for _ in range(chance.randrange(20)):
            await asyncio.sleep(0)
    calm = True
    await until(lambda: world.book.queue.empty() and notifier.states()[0].waiting == 0)
    await notifier.close(1)
    threads: dict[str, list[str]] = {}
    for parcel in sender.sent:
        for message in parcel.many or (parcel.message,):
            threads.setdefault(message.thread, []).append(str(message.topic))
    assert notifier.dead_letters() == []
    ends = {"hold.approved", "hold.denied", "hold.expired", "hold.withdrawn", "hold.abandoned"}
    for thread, topics in threads.items():
        assert topics.count("hold.opened") <= 1, (thread, topics)
        assert len([t for t in topics if t in ends]) == (thread in settled), (thread, topics)
        assert topics == sorted(topics, key=lambda t: t in ends), (thread, topics)
    assert [b for b in begun if b[1] == "hold.opened" and b[2]] == []
    assert notifier._outbox.waiting() == []


# --- reminders --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        ({}, [300, 540]),
        ({"remind_at": [], "remind_before_s": 0}, []),
        ({"remind_at": [0.25, 0.75], "remind_before_s": 30}, [150, 450, 570]),
        ({"remind_before_s": 3600}, [300]),
        ({"remind_before_s": 299}, [300]),
    ],
)
def test_when_to_remind(settings: dict[str, Any], seconds: list[int]) -> None:
    assert [(m - NOW).total_seconds() for m in moments(a_hold(), a_route(**settings))] == seconds


async def test_reminders_come_in_time_and_not_for_what_is_settled(world: World) -> None:
    notifier = await world.start(a_route(remind_at=[0.5], remind_before_s=60))
    world.book.show(a_hold(1))
    world.book.show(a_hold(2))
    await until(lambda: len(world.sender().sent) == 2)
    world.book.show(decided(a_hold(2)))
    await until(lambda: len(world.sender().sent) == 3)
    world.clock.moment += timedelta(seconds=301)
    notifier._reminders._wake.set()
    await until(lambda: len(world.sender().sent) == 4)
    world.clock.moment += timedelta(seconds=250)
    notifier._reminders._wake.set()
    await until(lambda: len(world.sender().sent) == 5)
    assert world.sender().topics()[3:] == ["hold.reminded", "hold.reminded"]
    assert [p.message.thread for p in world.sender().sent[3:]] == ["hold-1", "hold-1"]
    assert world.sender().sent[3].supersedes == world.sender().sent[0].delivery
    assert world.sender().sent[4].supersedes == world.sender().sent[3].delivery
    assert "49 s left" in world.sender().sent[4].message.subject
    assert Topic.REMINDED not in {p.message.topic for p in world.sender().sent if p.message.thread == "hold-2"}
