"""What happens elsewhere is on every open page at once; and when the server is gone, the page says so and comes back by itself."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
from playwright.sync_api import expect

from tests.browser.cable import Cable
from tests.browser.chromium import Window
from tests.browser.conftest import Open
from tests.browser.scene import held, operator, waiting
from tests.browser.steps import approve, events
from tests.browsing import PHRASE, Client
from tests.browsing import Browser as Http
from tests.servers import Pghold, PostgresServer, free_port, wait_for

#: A decision is on every open page within a second: waiting ends then, and fails.
SOON_MS = 1000


def test_a_decision_in_one_browser_is_on_every_other_open_page_within_a_second(open_window: Open, pghold: Pghold, table: str) -> None:
    client, hold_id = held(pghold, f"DROP TABLE {table}")
    listing, same, audit, decider = (open_window() for _ in range(4))
    listing.live("/holds")
    same.live(f"/holds/{hold_id}")
    audit.live("/audit")
    page = decider.live(f"/holds/{hold_id}")
    expect(listing.page.locator(f"#row-{hold_id}")).to_be_visible()
    approve(page, name=table, reason="it is time")
    expect(page.locator("#standing")).to_contain_text("approved by operator: it is time")
    expect(listing.page.locator(f"#row-{hold_id}")).to_be_hidden(timeout=SOON_MS)
    expect(same.page.locator("#standing")).to_contain_text("approved by operator: it is time", timeout=SOON_MS)
    expect(same.page.locator("#approve")).to_have_count(0)
    expect(audit.page.locator("#pending-count")).to_be_hidden(timeout=SOON_MS)
    client.join(10)
    assert client.error is None


def test_two_browsers_a_command_line_and_psql_racing_make_one_decision_and_all_are_told(
    open_window: Open, pghold: Pghold, postgres18: PostgresServer, table: str
) -> None:
    one, other = open_window(), open_window()
    for turn in range(3):
        postgres18.sql(f"TRUNCATE {table}")
        postgres18.sql(f"INSERT INTO {table} VALUES (1)")
        client, hold_id = held(pghold, f"TRUNCATE {table}")
        for page in (one.live(f"/holds/{hold_id}"), other.live(f"/holds/{hold_id}")):
            form = page.locator("#approve")
            form.get_by_label("Type the name of what is lost").fill(table)
            form.get_by_label("Type YES").fill(PHRASE)
            form.get_by_label("Reason").fill(f"browser, turn {turn}")
        command = [
            sys.executable, "-m", "proxy", "approve", str(hold_id), "--phrase", PHRASE, "--reason", "command line", "--console", pghold.console,
            "--token", pghold.token,
        ]  # fmt: skip
        console = psycopg.connect(
            host="127.0.0.1", port=pghold.port, user="operator", password=pghold.token, dbname="pghold", autocommit=True
        )

        def psql(console: psycopg.Connection = console, hold_id: int = hold_id) -> str:
            try:
                console.execute(f"APPROVE {hold_id} '{PHRASE}' 'psql'")  # type: ignore[call-overload]
            except psycopg.Error as error:
                return str(error)
            return ""

        # Without waiting for an answer. Who begins takes turns; where the decision came first, the form is gone already.
        press = "document.querySelector('#approve button')?.click()"
        with ThreadPoolExecutor(2) as pool:
            line = pool.submit(subprocess.run, command, capture_output=True, text=True)
            first = pool.submit(psql) if turn == 0 else None
            for page in (one.page, other.page) if turn == 1 else (other.page, one.page):
                page.evaluate(press)
            sql = first or pool.submit(psql)
            for page in (one.page, other.page):
                expect(page.locator("#standing")).not_to_contain_text("pending")
            said, told = line.result(), sql.result()
        console.close()
        client.join(10)
        assert client.error is None
        assert postgres18.sql(f"SELECT count(*) FROM {table}") == [(0,)]
        decisions = [r for r in pghold.audit() if r["hold_id"] == hold_id and r["event"] in ("approved", "denied")]
        assert len(decisions) == 1
        reason = decisions[0]["reason"]
        who = f"by operator: {reason}"
        assert (said.returncode == 0) == (reason == "command line"), said
        assert said.returncode in (0, 3)
        assert said.returncode == 0 or who in said.stdout + said.stderr
        assert (told == "") == (reason == "psql")
        assert told == "" or who in told
        for page in (one.page, other.page):
            # On the page of the loser, and of the winner, too.
            expect(page.locator("main")).to_contain_text(who)
            expect(page.locator("#approve")).to_have_count(0)


def test_an_open_page_says_that_the_console_is_gone_and_catches_up_after_a_restart(
    open_window: Open, postgres18: PostgresServer, table: str, tmp_path: Path
) -> None:
    port = free_port()
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", "--console", f"127.0.0.1:{port}", folder=tmp_path)
    try:
        window = open_window(proxy=proxy, offline=True)
        page = window.live("/holds")
        proxy.stop()
        expect(page.get_by_text("The console cannot be reached. What you see may be old; trying again.")).to_be_visible()
        proxy.start()
        client, hold_id = held(proxy, f"TRUNCATE {table}")
        expect(page.get_by_text("The console cannot be reached")).to_be_hidden()
        # It came while the page was not listening, or just after.
        expect(page.locator(f"#row-{hold_id}")).to_be_visible()
        proxy.deny(hold_id)
        expect(page.locator(f"#row-{hold_id}")).to_be_hidden()
        client.join(10)
    finally:
        proxy.stop()


def test_what_happened_while_the_network_was_away_is_shown_when_it_is_back(
    open_window: Open, pghold: Pghold, cable: Cable, table: str
) -> None:
    window = open_window(url=cable.url, offline=True)
    page = window.live("/holds")
    client, hold_id = held(pghold, f"DROP TABLE {table}")
    page.locator(f"#row-{hold_id}").click()
    page.wait_for_selector("body[data-connected]")
    page.locator("#deny-reason").fill("half a rea")
    cable.cut()
    expect(page.get_by_text("The console cannot be reached")).to_be_visible()
    pghold.deny(hold_id, "somebody else did")
    client.join(10)
    cable.mend()
    expect(page.get_by_text("The console cannot be reached")).to_be_hidden()
    expect(page.locator("#standing")).to_contain_text("denied by operator: somebody else did")
    expect(page.locator("#deny")).to_have_count(0)


def test_a_live_refresh_takes_neither_focus_nor_what_was_typed_nor_what_was_opened(open_window: Open, pghold: Pghold, table: str) -> None:
    page = open_window().live("/holds")
    group = [Client(pghold, f"DROP TABLE IF EXISTS {table}_{i}", application_name="sync") for i in range(3)]
    with waiting(pghold, (f"TRUNCATE {table}", {"application_name": "other"})) as (hold_id,):
        wait_for(lambda: len(pghold.holds()) == 4, 5)
        expect(page.locator("a.row")).to_have_count(2)
        page.get_by_text("each of them").click()
        row = page.locator(f"#row-{hold_id}")
        row.focus()
        row.evaluate("row => { row.wasHere = true; }")
        with waiting(pghold, ("DROP SCHEMA nowhere", {})) as (critical,):
            expect(page.locator(f"#row-{critical}")).to_be_visible()
            expect(row).to_be_focused()
            assert row.evaluate("row => row.wasHere === true"), "the node itself stays, and with it scrolling and selection"
            assert page.locator("details").evaluate("details => details.open")
            page.get_by_label("Filter", exact=True).fill("half typed")
        expect(page.locator(f"#row-{critical}")).to_be_hidden()
        expect(page.get_by_label("Filter", exact=True)).to_have_value("half typed")
        expect(page.get_by_label("Filter", exact=True)).to_be_focused()
    for client in group:
        client.join(10)


def test_when_the_focused_hold_goes_the_focus_goes_to_its_neighbour(window: Window, pghold: Pghold, table: str) -> None:
    scripts = ((f"TRUNCATE {table}", {}), (f"DROP TABLE {table}", {}), (f"DELETE FROM {table}", {}))
    with waiting(pghold, *scripts) as ids:
        page = window.live("/holds")
        expect(page.locator("a.row")).to_have_count(3)
        order = [int(i.removeprefix("row-")) for i in page.locator("a.row").evaluate_all("rows => rows.map(r => r.id)")]
        assert sorted(order) == sorted(ids)
        page.locator(f"#row-{order[1]}").focus()
        pghold.deny(order[1])
        expect(page.locator(f"#row-{order[1]}")).to_be_hidden()
        expect(page.locator(f"#row-{order[2]}")).to_be_focused()


def test_fields_of_a_hold_keep_what_was_typed_while_its_state_is_refreshed(open_window: Open, careful: Pghold, table: str) -> None:
    second = Http(careful, operator(Http(careful), "lv-second"))
    client, hold_id = held(careful, f"DROP TABLE {table}")
    page = open_window(proxy=careful).live(f"/holds/{hold_id}")
    page.locator("#approve-reason").fill("half a rea")
    assert second.approve(hold_id, object_name=table).status_code == 303
    expect(page.locator("#standing")).to_contain_text("1 of 2 approvals")
    expect(page.locator("#approve-reason")).to_have_value("half a rea")
    expect(page.locator("#approve-reason")).to_be_focused()
    approve(page, name=table)
    expect(page.locator("#standing")).to_contain_text("done")
    client.join(10)
    assert "approved" in events(careful, hold_id)


def test_a_dozen_pages_of_one_browser_are_all_live_and_the_next_takes_over_when_one_is_closed(window: Window, pghold: Pghold) -> None:
    """A browser opens six connections to a host: a stream of events for each page would leave none for the seventh."""
    window.live("/holds")
    pages = [window.page, *(window.context.new_page() for _ in range(11))]
    for page in pages[1:]:
        page.goto("/holds")
        page.wait_for_selector("body[data-connected]")
    client, hold_id = held(pghold, "DROP SCHEMA nowhere")
    for page in pages:
        expect(page.locator(f"#row-{hold_id}")).to_be_visible()
        expect(page.locator("#pending-count")).to_have_text("1")
    # The one that has the stream goes.
    pages.pop(0).close()
    pghold.deny(hold_id, "no")
    for page in pages:
        expect(page.locator(f"#row-{hold_id}")).to_be_hidden()
    client.join(10)


def test_a_page_that_sleeps_does_not_keep_the_others_from_the_events(window: Window, pghold: Pghold) -> None:
    """As a phone does with pages that are not in sight: they keep their locks, and answer nothing."""
    asleep = window.context.new_page()
    asleep.goto("/static/console.css")
    asleep.evaluate("() => { navigator.locks.request('pghold-events', () => new Promise(() => {})).catch(() => {}); }")
    page = window.live("/holds")
    client, hold_id = held(pghold, "DROP SCHEMA nowhere")
    expect(page.locator(f"#row-{hold_id}")).to_be_visible()
    # Two that are awake leave the stream where it is.
    other = window.context.new_page()
    other.goto(f"/holds/{hold_id}")
    other.wait_for_selector("body[data-connected]")
    pghold.deny(hold_id, "no")
    expect(other.locator("#standing")).to_contain_text("denied by operator: no")
    expect(page.locator(f"#row-{hold_id}")).to_be_hidden()
    client.join(10)
