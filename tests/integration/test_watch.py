"""The terminal view against a real pghold and a real PostgreSQL, driven key by key."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pyotp
import pytest
from textual.pilot import Pilot
from textual.widgets import Button, Input, Static

from proxy.cli.watch.app import HoldScreen, ListScreen, WatchApp
from proxy.cli.watch.board import Change
from proxy.cli.watch.dialogs import DecideDialog
from proxy.cli.watch.feed import Feed
from proxy.cli.watch.list import HoldList
from tests.browsing import PHRASE, Client
from tests.servers import Pghold, PostgresServer, free_port, wait_for


async def until(pilot: Pilot[Any], condition: Callable[[], object], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited in vain; the screen shows:\n{screen_text(pilot.app)}")
        await pilot.pause(0.02)


def screen_text(app: Any) -> str:
    """What a person sees, without the colours."""
    height = app.size.height
    lines = app.screen._compositor.render_strips()
    return "\n".join(strip.text for strip in lines[:height])


async def settled(app: WatchApp, pilot: Pilot[Any]) -> str:
    """The same, once nothing is left to be drawn."""
    await pilot.pause()
    return screen_text(app)


@asynccontextmanager
async def watching(proxy: Pghold, size: tuple[int, int] = (100, 24), token: str = "") -> AsyncIterator[tuple[WatchApp, Pilot[Any]]]:
    app = WatchApp(Feed(proxy.console, token or proxy.token))
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(pilot, lambda: not app._problem)
        yield app, pilot


def held(proxy: Pghold, script: str, **options: str) -> tuple[Client, int]:
    before = {h["id"] for h in proxy.holds()}
    client = Client(proxy, script, **options)
    wait_for(lambda: {h["id"] for h in proxy.holds()} - before, 10)
    return client, max({h["id"] for h in proxy.holds()} - before)


async def fill(app: WatchApp, pilot: Pilot[Any], **fields: str) -> None:
    """Type into the dialog that is coming, and send it."""
    await until(pilot, lambda: isinstance(app.screen, DecideDialog) and app.screen.query("#send"))
    for name, value in fields.items():
        app.screen.query_one(f"#{name}", Input).value = value
    app.screen.query_one("#send", Button).press()
    await pilot.pause()


def told(app: WatchApp) -> list[str]:
    return [str(n.message) for n in app._notifications]


def problem(app: WatchApp) -> str:
    return str(app.screen.query_one("#problem", Static).content)


async def rows(app: WatchApp, pilot: Pilot[Any], count: int) -> list[Any]:
    """The list's rows, once there are so many."""
    await until(pilot, lambda: bool(app.screen.query(HoldList)))  # the screen itself is made behind our back
    found = app.screen.query_one(HoldList)
    await until(pilot, lambda: len(found.rows) == count)
    return found.rows


@pytest.fixture(autouse=True)
def _nothing_left(pghold: Pghold) -> Iterator[None]:
    yield
    for hold in pghold.holds():
        pghold.deny(hold["id"], "the test is over")


async def test_an_approval_runs_the_statement(pghold: Pghold, postgres18: PostgresServer, table: str) -> None:
    async with watching(pghold) as (app, pilot):
        client, hold_id = held(pghold, f"DROP TABLE {table}")
        await until(pilot, lambda: hold_id in app.board.pending)
        await until(pilot, lambda: "1 new" in screen_text(app))
        assert f"DROP TABLE {table}" in screen_text(app)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, HoldScreen))
        await until(pilot, lambda: "cannot be taken back" in screen_text(app))
        await pilot.press("a")
        await fill(app, pilot, object_name=table, reason="it is a test", phrase=PHRASE)
        await until(pilot, lambda: isinstance(app.screen, HoldScreen))
        client.join(10)
        assert client.error is None
        assert postgres18.sql(f"SELECT to_regclass('{table}')") == [(None,)]
        await until(pilot, lambda: "approved by operator: it is a test" in screen_text(app))
        assert any("approved" in text for text in told(app))


async def test_keys_alone_are_enough(pghold: Pghold, postgres18: PostgresServer, table: str) -> None:
    async with watching(pghold, (80, 24)) as (app, pilot):
        client, hold_id = held(pghold, f"TRUNCATE {table}")
        await until(pilot, lambda: hold_id in app.board.pending)
        await rows(app, pilot, 1)
        await pilot.press("a")
        await until(pilot, lambda: isinstance(app.screen, DecideDialog) and app.focused is not None)
        for text in (table, "by keys", "", PHRASE):  # no grant for the session
            await pilot.press(*("space" if c == " " else c for c in text), "enter")
        client.join(10)
        assert client.error is None
        assert postgres18.sql(f"SELECT count(*) FROM {table}") == [(0,)]
        assert pghold.hold(hold_id)["decision"]["reason"] == "by keys"


async def test_a_denial_tells_the_client_reason_and_suggestion(pghold: Pghold, postgres18: PostgresServer, table: str) -> None:
    async with watching(pghold) as (app, pilot):
        client, hold_id = held(pghold, f"DELETE FROM {table}")
        await rows(app, pilot, 1)
        await pilot.press("d")
        await fill(app, pilot, reason="one tenant only", suggestion=f"DELETE FROM {table} WHERE id = 7")
        client.join(10)
        assert client.error is not None
        assert "one tenant only" in str(client.error)
        assert f"DELETE FROM {table} WHERE id = 7" in str(client.error.diag.message_hint)
        assert postgres18.sql(f"SELECT count(*) FROM {table}") == [(10,)]
        await until(pilot, lambda: hold_id not in app.board.pending)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"phrase": "yes"}, "type the phrase"),
        ({"reason": " "}, "a reason is needed"),
        ({"object_name": "another"}, "type the name of what is lost"),
        ({"object_name": ""}, "type the name of what is lost"),
    ],
)
async def test_what_is_lacking_is_said_and_what_was_typed_stays(pghold: Pghold, table: str, fields: dict[str, str], expected: str) -> None:
    async with watching(pghold) as (app, pilot):
        client, hold_id = held(pghold, f"DROP TABLE {table}")
        await rows(app, pilot, 1)
        await pilot.press("a")
        answer = {"object_name": table, "reason": "why not", "phrase": PHRASE, **fields}
        await fill(app, pilot, **answer)
        await until(pilot, lambda: expected in problem(app))
        assert app.screen.query_one("#phrase", Input).value == answer["phrase"]
        assert pghold.hold(hold_id)["state"] == "pending"
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, ListScreen))
    pghold.deny(hold_id)
    client.join(10)


def _left_alone(connection: psycopg.Connection[Any], script: str) -> None:
    with suppress(psycopg.Error):
        connection.execute(script)  # type: ignore[call-overload]


async def test_a_session_grant_lets_the_next_statement_pass(pghold: Pghold, table: str) -> None:
    async with watching(pghold) as (app, pilot):
        with pghold.connect() as connection:
            client = threading.Thread(target=lambda: connection.execute(f"DELETE FROM {table}"))
            client.start()
            await rows(app, pilot, 1)
            await pilot.press("a")
            await fill(app, pilot, object_name=table, reason="the whole clean-up", session_minutes="5", phrase=PHRASE)
            await until(pilot, lambda: not client.is_alive())
            await asyncio.to_thread(connection.execute, f"DELETE FROM {table}")
        assert [h["state"] for h in pghold.holds("all")[:2]] == ["done", "done"]


async def test_a_hold_nobody_waits_for_any_more_is_approved_for_one_retry(pghold: Pghold, postgres18: PostgresServer, table: str) -> None:
    connection = pghold.connect()
    client = threading.Thread(target=_left_alone, args=(connection, f"DELETE FROM {table}"))
    async with watching(pghold) as (app, pilot):
        client.start()
        await rows(app, pilot, 1)
        hold_id = pghold.holds()[0]["id"]
        with socket.socket(fileno=os.dup(connection.fileno())) as link:
            link.shutdown(socket.SHUT_RDWR)
        await until(pilot, lambda: hold_id in app.board.ended)
        client.join(10)
        connection.close()
        await pilot.press("o", "a")
        await until(pilot, lambda: isinstance(app.screen, DecideDialog))
        await fill(app, pilot, object_name=table, reason="it was right", phrase=PHRASE)
        await until(pilot, lambda: pghold.hold(hold_id)["state"] == "approved")
        await until(pilot, lambda: str(app.board.ended[hold_id].hold.state) == "approved")
    with pghold.connect() as again:
        again.execute(f"DELETE FROM {table}")  # type: ignore[call-overload]
    assert postgres18.sql(f"SELECT count(*) FROM {table}") == [(0,)]


async def test_who_comes_too_late_is_told_who_decided(pghold: Pghold, table: str) -> None:
    async with watching(pghold) as (app, pilot):
        client, hold_id = held(pghold, f"DELETE FROM {table}")
        await rows(app, pilot, 1)
        await pilot.press("a")
        await until(pilot, lambda: isinstance(app.screen, DecideDialog) and app.screen.query(Input))
        pghold.deny(hold_id, "faster by far")
        # The open dialog says so before anything is sent, and again when it is.
        await until(pilot, lambda: "it is denied, by operator: faster by far" in problem(app))
        await fill(app, pilot, reason="too slow", phrase=PHRASE)
        await until(pilot, lambda: any("it is denied, by operator: faster by far" in text for text in told(app)))
        assert isinstance(app.screen, ListScreen)
        client.join(10)
        assert client.error is not None


async def test_a_group_is_one_decision_with_its_count(pghold: Pghold, table: str) -> None:
    async with watching(pghold) as (app, pilot):
        clients = [Client(pghold, f"DROP TABLE IF EXISTS {table}_{i}", application_name="sync") for i in range(12)]
        await until(pilot, lambda: len(app.board.pending) == 12)
        await until(pilot, lambda: "12 x [sync]" in screen_text(app))
        await pilot.press("x")
        await until(pilot, lambda: screen_text(app).count("DROP TABLE IF EXISTS") == 13)
        await pilot.press("x", "a")
        await fill(app, pilot, count="11", reason="the sync", phrase=PHRASE)
        await until(pilot, lambda: "type how many statements will run: 12" in problem(app))
        assert len(pghold.holds()) == 12
        await fill(app, pilot, count="12")
        await until(pilot, lambda: not app.board.pending)
        for client in clients:
            client.join(10)
        assert [c.error for c in clients] == [None] * 12


async def test_marked_holds_are_decided_together(pghold: Pghold, table: str) -> None:
    async with watching(pghold) as (app, pilot):
        one, _ = held(pghold, f"DELETE FROM {table}", application_name="a")
        two, _ = held(pghold, f"TRUNCATE {table}", application_name="b")
        three, kept = held(pghold, f"ALTER TABLE {table} DROP COLUMN id", application_name="c")
        await rows(app, pilot, 3)
        for row in await rows(app, pilot, 3):
            await pilot.press("j" if row.ids == (kept,) else "space")
        await until(pilot, lambda: "2 marked" in screen_text(app))
        await pilot.press("d")
        await fill(app, pilot, reason="neither of them")
        await until(pilot, lambda: set(app.board.pending) == {kept})
        for client in (one, two):
            client.join(10)
            assert "neither of them" in str(client.error)
    pghold.deny(kept)
    three.join(10)


async def test_a_second_person_is_needed_and_each_sees_the_other(postgres18: PostgresServer, tmp_path: Path, table: str) -> None:
    policy = tmp_path / "pghold.toml"
    policy.write_text("[[policy.approvals]]\napprovers = 2\n")
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", "--policy", str(policy))
    try:
        made = proxy.http.post("/api/v1/operators", json={"name": "ben", "role": "approver"}).json()
        client, hold_id = held(proxy, f"DELETE FROM {table}")
        async with watching(proxy) as (app, pilot):
            await rows(app, pilot, 1)
            await pilot.press("a")
            await until(pilot, lambda: "2 people must approve" in screen_text(app))
            await fill(app, pilot, object_name=table, reason="the first", phrase=PHRASE)
            await until(pilot, lambda: any("1 more must approve" in text for text in told(app)))
            assert proxy.hold(hold_id)["state"] == "pending"
            async with watching(proxy, token=made["token"]) as (other, second):
                await second.press("enter")
                await until(second, lambda: "so far: operator" in screen_text(other))
                await second.press("a")
                await fill(other, second, object_name=table, reason="the second", phrase=PHRASE)
                client.join(10)
                assert client.error is None
            await until(pilot, lambda: hold_id not in app.board.pending)
        assert proxy.hold(hold_id)["decision"]["approvers"] == ["operator", "ben"]
    finally:
        assert proxy.stop() == 0


async def test_a_code_is_asked_for_and_the_glass_can_be_broken(postgres18: PostgresServer, tmp_path: Path, table: str) -> None:
    policy = tmp_path / "pghold.toml"
    policy.write_text("[[policy.approvals]]\napprovers = 2\nsecond_factor = true\n")
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", "--policy", str(policy))
    try:
        secret = proxy.http.post("/api/v1/operators/operator/second-factor").json()["secret"]
        device, now = pyotp.TOTP(secret), int(time.time())
        confirmed = proxy.http.put("/api/v1/operators/operator/second-factor", json={"secret": secret, "code": device.at(now - 30)})
        assert confirmed.status_code == 204
        client, hold_id = held(proxy, f"DELETE FROM {table}")
        async with watching(proxy) as (app, pilot):
            await rows(app, pilot, 1)
            await pilot.press("enter", "a")
            await fill(app, pilot, object_name=table, reason="at night", phrase=PHRASE, code="", break_glass="yes")
            await until(pilot, lambda: "a code of your second factor is needed" in problem(app))
            await fill(app, pilot, code=device.at(now), break_glass="Y")
            # Anything but yes is no.
            await until(pilot, lambda: any("1 more must approve" in text for text in told(app)))
            assert proxy.hold(hold_id)["state"] == "pending"
            await pilot.press("a")
            await fill(app, pilot, object_name=table, reason="at night", phrase=PHRASE, code=device.at(now + 30), break_glass=" yes ")
            client.join(10)
            assert client.error is None
        assert proxy.hold(hold_id)["decision"]["break_glass"] is True
    finally:
        assert proxy.stop() == 0


async def test_who_may_not_decide_is_told_so_before_he_types(pghold: Pghold, table: str) -> None:
    token = pghold.http.post("/api/v1/operators", json={"name": "w-vera", "role": "viewer"}).json()["token"]
    client, hold_id = held(pghold, f"DELETE FROM {table}")
    async with watching(pghold, token=token) as (app, pilot):
        await rows(app, pilot, 1)
        await pilot.press("a")
        await until(pilot, lambda: any("the role viewer may not decide" in text for text in told(app)))
        assert isinstance(app.screen, ListScreen)
    pghold.deny(hold_id)
    client.join(10)


async def test_a_lost_connection_is_shown_and_found_again(postgres18: PostgresServer, table: str) -> None:
    console = f"127.0.0.1:{free_port()}"
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", "--console", console)
    try:
        client, hold_id = held(proxy, f"DELETE FROM {table}")
        async with watching(proxy) as (app, pilot):
            await until(pilot, lambda: hold_id in app.board.pending)
            await asyncio.to_thread(proxy.stop)
            client.join(10)
            await until(pilot, lambda: "NOT CONNECTED" in screen_text(app))
            await pilot.press("a")
            await asyncio.to_thread(proxy.start)
            await until(pilot, lambda: "NOT CONNECTED" not in screen_text(app))
            # What ended while nobody could be asked is known afterwards.
            await until(pilot, lambda: hold_id not in app.board.pending)
            assert app.board.ended[hold_id].hold.state == "withdrawn"
            again, other = held(proxy, f"TRUNCATE {table}")
            await until(pilot, lambda: other in app.board.pending)
            proxy.deny(other)
            again.join(10)
    finally:
        assert proxy.stop() == 0


async def test_a_token_that_is_taken_back_ends_it(pghold: Pghold) -> None:
    token = pghold.http.post("/api/v1/operators", json={"name": "w-gone"}).json()["token"]
    app = WatchApp(Feed(pghold.console, token))
    pghold.http.delete("/api/v1/operators/w-gone")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app._exit)
    assert app.return_code == 4


async def test_news_that_was_missed_is_found_by_looking_again(pghold: Pghold, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client, hold_id = held(pghold, f"DELETE FROM {table}")
    async with watching(pghold) as (app, pilot):
        await rows(app, pilot, 1)
        with monkeypatch.context() as deaf:
            missed: list[str] = []
            deaf.setattr(app.board, "apply", lambda raw, news=True: missed.append(raw["state"]) or Change.NONE)
            pghold.deny(hold_id, "unheard")
            client.join(10)
            await until(pilot, lambda: "denied" in missed)
        assert hold_id in app.board.pending
        app._look_again()
        await until(pilot, lambda: hold_id not in app.board.pending)
        assert app.board.ended[hold_id].hold.state == "denied"
        await rows(app, pilot, 0)


HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202e\u200b[bold red]x[/] \u5bb6\u65cf \U0001f4a3 e" + "\u0301" * 40


@pytest.mark.parametrize("size", [(100, 24), (80, 24), (40, 20), (120, 50)])
async def test_the_text_of_a_stranger_does_nothing_to_the_terminal(pghold: Pghold, table: str, size: tuple[int, int]) -> None:
    script = f'DELETE FROM {table} /* {HOSTILE} */ -- "\u0430dmin"'
    client, _ = held(pghold, script, application_name="[red]\u202eevil\u200b")
    async with watching(pghold, size) as (app, pilot):
        await rows(app, pilot, 1)
        seen = [await settled(app, pilot)]
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, HoldScreen) and "Hold" in screen_text(app))
        seen.append(await settled(app, pilot))
        for _ in range(100):  # what comes from the console later makes it longer
            await pilot.press("G")
            if "U+202E" in await settled(app, pilot):
                break
        assert "U+202E" in screen_text(app)
        seen.append(await settled(app, pilot))
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, DecideDialog) and app.screen.query(Input))
        seen.append(await settled(app, pilot))
        await fill(app, pilot, reason=f"no {HOSTILE}")
        await until(pilot, lambda: told(app))
        await pilot.press("q", "o")
        await until(pilot, lambda: "denied" in screen_text(app))
        seen.append(await settled(app, pilot))
    text = "\n".join(seen)
    for character in ("\x1b", "\x07", "\u202e", "\u200b", "\u0301" * 3):
        assert character not in text
    assert [line for line in text.split("\n") if _cells(line) != size[0]] == [], "every line is as wide as the terminal"
    client.join(10)


def _cells(line: str) -> int:
    from rich.cells import cell_len

    return cell_len(line)


async def test_filter_and_ended_ones(pghold: Pghold, table: str) -> None:
    async with watching(pghold) as (app, pilot):
        one, first = held(pghold, f"DELETE FROM {table}", application_name="alpha")
        two, second = held(pghold, f"TRUNCATE {table}", application_name="beta")
        await rows(app, pilot, 2)
        await pilot.press("slash", *"beta", "enter")
        await until(pilot, lambda: [r.ids for r in app.screen.query_one(HoldList).rows] == [(second,)])
        await pilot.press("escape")
        await rows(app, pilot, 2)
        pghold.deny(first)
        pghold.deny(second)
        one.join(10)
        two.join(10)
        await pilot.press("o")
        await until(pilot, lambda: {r.ids for r in app.screen.query_one(HoldList).rows} >= {(first,), (second,)})
        await pilot.press("question_mark")
        await until(pilot, lambda: "Holds of one session" in screen_text(app))


async def test_the_row_under_the_cursor_is_seen(pghold: Pghold, table: str) -> None:
    async with watching(pghold) as (app, pilot):
        one, _ = held(pghold, f"DELETE FROM {table}", application_name="alpha")
        two, _ = held(pghold, f"TRUNCATE {table}", application_name="beta")
        await rows(app, pilot, 2)

        def reversed_lines() -> list[int]:
            strips = [app.screen.query_one(HoldList).render_line(y) for y in range(3)]
            return [y for y, strip in enumerate(strips) if all(s.style is not None and s.style.reverse for s in strip)]

        assert reversed_lines() == [0]
        await pilot.press("j")
        assert reversed_lines() == [1]
        for hold in pghold.holds():
            pghold.deny(hold["id"])
        one.join(10)
        two.join(10)


async def test_the_mouse_opens_and_marks(pghold: Pghold, table: str) -> None:
    async with watching(pghold) as (app, pilot):
        client, hold_id = held(pghold, f"DELETE FROM {table}")
        await rows(app, pilot, 1)
        await pilot.click("#list", offset=(0, 0))
        await until(pilot, lambda: app.board.marked == {hold_id})
        await pilot.click("#list", offset=(10, 0))
        await until(pilot, lambda: isinstance(app.screen, HoldScreen))
        pghold.deny(hold_id)
        client.join(10)


@pytest.mark.timeout(400)
async def test_a_thousand_holds_do_not_stall_it(postgres18: PostgresServer, table: str) -> None:
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres")
    clients: list[psycopg.Connection[Any]] = []
    try:
        async with watching(proxy, (120, 40)) as (app, pilot):
            for number in range(1000):
                connection = proxy.connect(application_name=f"worker {number % 50}")
                clients.append(connection)
                connection.pgconn.send_query(f"DELETE FROM {table} /* {number} */".encode())
                if number % 25 == 0:
                    await pilot.pause()
            await until(pilot, lambda: len(app.board.pending) == 1000, 200)
            await until(pilot, lambda: sum(len(r.ids) for r in app.screen.query_one(HoldList).rows) == 1000)
            await rows(app, pilot, 50)
            lines = 0

            def counted(y: int, draw: Callable[[int], Any] = app.screen.query_one(HoldList).render_line) -> Any:
                nonlocal lines
                lines += 1
                return draw(y)

            app.screen.query_one(HoldList).render_line = counted  # type: ignore[method-assign]
            await pilot.press("G", "x")
            assert app.screen.query_one(HoldList).cursor == 49
            await rows(app, pilot, 70)
            assert lines < 1000, "only what is in sight is drawn"
            await pilot.press("d")
            await fill(app, pilot, reason="all of that worker")
            await until(pilot, lambda: len(app.board.pending) == 980, 100)
            await pilot.press("slash", *"#7", "enter")
            await until(pilot, lambda: 0 < sum(len(r.ids) for r in app.screen.query_one(HoldList).rows) < 980)
            assert all(str(i).startswith("7") for r in app.screen.query_one(HoldList).rows for i in r.ids)
    finally:
        for connection in clients:
            connection.close()
        assert proxy.stop() == 0
