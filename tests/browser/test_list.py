"""The list of holds as it is on an open page."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import expect

from tests.browser.chromium import Window
from tests.browser.conftest import Open
from tests.browser.scene import held, waiting
from tests.browser.steps import approve, events, exists, problem
from tests.browsing import PHRASE, Client
from tests.servers import Pghold, PostgresServer, wait_for


def test_the_first_page_explains_itself_and_a_practice_hold_goes_through_everything(open_window: Open, pghold: Pghold) -> None:
    window = open_window()
    page = window.live("/")
    expect(page.get_by_role("heading", name="Nothing waits. This is what will happen when something does.")).to_be_visible()
    page.get_by_role("button", name="Open a practice hold").click()
    expect(page.get_by_role("heading", name="DROP TABLE")).to_be_visible()
    hold_id = int(page.url.rpartition("/")[2])
    assert pghold.hold(hold_id)["environment"] == "practice"
    approve(page, name='"Cards"', reason="practising")
    expect(page.locator("#standing")).to_contain_text("done")
    expect(page.locator("#standing")).to_contain_text("practice: nothing was run")
    expect(page.locator("#answer")).to_be_hidden()
    assert events(pghold, hold_id)[:2] == ["held", "approved"]
    page.goto("/holds")
    expect(page.locator(".recent")).to_contain_text("practising")


def test_a_hold_appears_on_an_open_page_and_goes_when_it_was_decided(open_window: Open, pghold: Pghold, table: str) -> None:
    page = open_window().live("/holds")
    client, hold_id = held(pghold, f"DROP TABLE {table}", application_name="nightly")
    row = page.locator(f"#row-{hold_id}")
    expect(row).to_contain_text(f"#{hold_id}")
    card = page.locator(f"#hold-{hold_id}")
    for words in (f"DROP TABLE {table}", "nightly", "postgres", "drop-table", "high", "left"):
        expect(card).to_contain_text(words)
    expect(page).to_have_title(re.compile(r"^\(1\) Holds"))
    expect(page.locator("#pending-count")).to_have_text("1")
    expect(page.locator("#told")).to_contain_text(f"Hold {hold_id} waits")
    pghold.deny(hold_id, "not tonight")
    expect(row).to_be_hidden()
    expect(page.locator("#pending-count")).to_be_hidden()
    expect(page.locator("#told")).to_contain_text(f"Hold {hold_id} was denied by operator")
    expect(page.locator(".recent")).to_contain_text("by operator: not tonight")
    client.join(10)


def test_the_time_left_counts_down_and_is_marked_when_it_gets_short(open_window: Open, pghold: Pghold, table: str) -> None:
    window = open_window()
    window.page.clock.install()
    page = window.live("/holds")
    with waiting(pghold, (f"TRUNCATE {table}", {})) as (hold_id,):
        left = page.locator(f"#hold-{hold_id} .remains time")
        expect(left).to_have_text(re.compile(r"^9 min \d+ s$"))
        page.clock.fast_forward("08:00")
        expect(left).to_have_text(re.compile(r"^1 min \d+ s$"))
        expect(left).not_to_have_class(re.compile("soon"))
        page.clock.fast_forward("01:30")
        expect(left).to_have_class(re.compile("soon"))


def test_the_list_is_filtered_by_text_severity_database_and_state(
    window: Window, pghold: Pghold, postgres18: PostgresServer, table: str
) -> None:
    postgres18.sql("DROP DATABASE IF EXISTS billing_eu")
    postgres18.sql("CREATE DATABASE billing_eu")
    scripts = (
        (f"DROP TABLE {table}", {"application_name": "deploy"}),
        ("DROP SCHEMA nowhere", {"application_name": "psql"}),
        ("TRUNCATE invoices", {"dbname": "billing_eu"}),
    )
    with waiting(pghold, *scripts) as (table_id, schema_id, billing_id):
        page = window.live("/holds")
        rows = page.locator("a.row")
        expect(rows).to_have_count(3)
        for fields, wanted in (
            ({"Filter": "deploy"}, [table_id]),
            ({"Filter": f"#{schema_id}"}, [schema_id]),
            ({"Filter": "drop psql"}, [schema_id]),
            ({"Severity": "critical"}, [schema_id]),
            ({"Database": "billing*"}, [billing_id]),
            ({"Filter": "no such words"}, []),
        ):
            page.goto("/holds")
            for label, value in fields.items():
                field = page.get_by_label(label, exact=True)
                if label == "Severity":
                    field.select_option(value)
                else:
                    field.fill(value)
            page.get_by_role("button", name="Filter").click()
            expect(rows).to_have_count(len(wanted))
            for hold_id in wanted:
                expect(page.locator(f"#row-{hold_id}")).to_be_visible()
        expect(page.get_by_text("No hold fits the filter.")).to_be_visible()
        # The filter stays when the list changes by itself.
        page.goto("/holds?database=billing*")
        page.wait_for_selector("body[data-connected]")
        pghold.deny(schema_id)
        expect(page.locator("#told")).to_contain_text(f"Hold {schema_id} was denied")
        expect(rows).to_have_count(1)
        page.goto("/holds?state=denied")
        expect(page.locator(f"#row-{schema_id}")).to_be_visible()
        expect(page.locator(f"#row-{billing_id}")).to_be_hidden()


def test_thirty_drops_of_one_sync_are_approved_by_typing_how_many(window: Window, pghold: Pghold, postgres18: PostgresServer) -> None:
    names = [f"sync_{i}" for i in range(30)]
    for name in names:
        postgres18.sql(f"CREATE TABLE {name} ()")
    page = window.live("/holds")
    clients = [Client(pghold, f"DROP TABLE IF EXISTS {name} CASCADE", application_name="sync") for name in names]
    group = page.locator("a.row")
    expect(group).to_contain_text("30 statements")
    expect(group).to_contain_text("and 29 more objects")
    group.click()
    expect(page.get_by_role("heading", name="30 statements, one decision")).to_be_visible()
    expect(page.locator(".scripts li")).to_have_count(30)
    form = page.locator("#approve")

    def answer(count: str) -> None:
        form.get_by_label("How many statements will run?").fill(count)
        form.get_by_label("Type YES").fill(PHRASE)
        form.get_by_label("Reason").fill("the new release makes them again")
        form.get_by_role("button", name="Approve all").click()

    answer("29")
    assert "type how many statements will run: 30" in problem(page)
    assert len(pghold.holds()) == 30
    answer("30")
    expect(page.locator("#results li")).to_have_count(30)
    for client in clients:
        client.join(10)
    assert [c.error for c in clients] == [None] * 30
    assert not any(exists(postgres18, name) for name in names)
    approved = [r for r in pghold.audit() if r["event"] == "approved" and r["reason"] == "the new release makes them again"]
    assert len(approved) == 30
    expect(page.locator("#pending-count")).to_be_hidden()


def test_a_group_is_denied_at_once_and_every_client_is_told_why(window: Window, pghold: Pghold, table: str) -> None:
    clients = [Client(pghold, f"DROP TABLE IF EXISTS {table}_{i}", application_name="sync") for i in range(5)]
    wait_for(lambda: len(pghold.holds()) == 5, 10)
    page = window.live("/holds")
    page.get_by_text("each of them").click()
    expect(page.locator(".hold .each li")).to_have_count(5)
    page.locator("a.row").click()
    form = page.locator("#deny")
    form.get_by_label("Reason, which the client is told").fill("never against this database")
    form.get_by_role("button", name="Deny all").click()
    expect(page.locator("#results li")).to_have_count(5)
    for client in clients:
        client.join(10)
        assert "never against this database" in str(client.error)
    assert pghold.holds() == []


def test_a_viewer_sees_the_list_and_nothing_to_decide_with(
    open_window: Open, pghold: Pghold, table: str, person: Callable[..., str]
) -> None:
    with waiting(pghold, (f"DROP TABLE {table}", {}), (f"DROP TABLE {table}", {})) as ids:
        page = open_window(person("li-viewer", "viewer")).live("/holds")
        page.locator("a.row").click()
        expect(page.get_by_text("You cannot decide these: the role viewer may not decide.")).to_be_visible()
        expect(page.get_by_role("button", name=re.compile("Approve|Deny"))).to_have_count(0)
        page.goto(f"/holds/{ids[0]}")
        expect(page.get_by_text("You cannot decide this: the role viewer may not decide.")).to_be_visible()
        expect(page.get_by_role("button", name=re.compile("Approve|Deny|Return"))).to_have_count(0)


def test_what_follows_a_comment_does_not_look_like_a_part_of_it(window: Window, pghold: Pghold, table: str) -> None:
    with waiting(pghold, (f"-- harmless, a SELECT\nDROP TABLE {table}", {})) as (hold_id,):
        page = window.live("/holds")
        expect(page.locator(f"#hold-{hold_id} .text")).to_have_text(f"-- harmless, a SELECT ⏎ DROP TABLE {table}")
        page.goto(f"/audit?hold={hold_id}")
        expect(page.locator("#records code").first).to_have_text(f"-- harmless, a SELECT ⏎ DROP TABLE {table}")
