"""A thousand holds at once: the list opens, filters, turns its pages, keeps up, and is decided."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.chromium import Window
from tests.browser.crowd import RawClient, crowd
from tests.browser.steps import approve
from tests.browsing import PHRASE
from tests.servers import Pghold, wait_for

MANY = 1000
ELEMENTS = 4000


@pytest.fixture(autouse=True)
def _no_holds_left() -> None:
    """Closing the clients ends them."""


@pytest.fixture
def different(pghold: Pghold) -> Iterator[None]:
    clients = crowd(pghold, MANY, alike=False)
    yield
    _leave(pghold, clients)


@pytest.fixture
def alike(pghold: Pghold) -> Iterator[None]:
    clients = crowd(pghold, MANY, alike=True)
    yield
    _leave(pghold, clients)


def _leave(pghold: Pghold, clients: list[RawClient]) -> None:
    for client in clients:
        client.close()
    wait_for(lambda: not pghold.holds(), 60)


def test_a_thousand_different_holds_are_listed_filtered_and_kept_up_with(window: Window, pghold: Pghold, different: None) -> None:
    page = window.live("/holds")
    expect(page.locator("#total")).to_have_text("1,000 holds")
    expect(page.locator("#pending-count")).to_have_text("1000")
    expect(page.locator("a.row")).to_have_count(100)
    assert page.evaluate("document.querySelectorAll('*').length") < ELEMENTS
    page.get_by_role("link", name="next").click()
    expect(page.locator(".pages")).to_contain_text("page 2 of 10")
    page.get_by_label("Filter", exact=True).fill("table_777")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("a.row")).to_have_count(1)
    page.locator("a.row").click()
    approve(page, name='"table_777"', reason="one of a thousand")
    expect(page.locator("#standing")).to_contain_text("done")
    window.live("/holds")
    expect(page.locator("#total")).to_have_text("999 holds")
    expect(page.locator(".recent")).to_contain_text("one of a thousand")
    # What is worse than all of them comes to the top of the open page.
    client = RawClient(pghold.port, "one more")
    client.query("DROP SCHEMA one_more")
    expect(page.locator("a.row").first).to_contain_text("DROP SCHEMA one_more")
    client.close()
    expect(page.locator("a.row").first).not_to_contain_text("one_more")


def test_a_thousand_holds_of_one_sync_are_one_decision(window: Window, pghold: Pghold, alike: None) -> None:
    page = window.live("/holds")
    expect(page.locator("a.row")).to_have_count(1)
    page.locator("a.row").click()
    expect(page.get_by_role("heading", name="1000 statements, one decision")).to_be_visible()
    form = page.locator("#approve")
    form.get_by_label("How many statements will run?").fill(str(MANY))
    form.get_by_label("Type YES").fill(PHRASE)
    form.get_by_label("Reason").fill("the whole sync")
    # Each is on record and flushed before it runs: that takes its time, and the button says that something goes on.
    form.get_by_role("button", name="Approve all").click(no_wait_after=True, timeout=60_000)
    expect(page.locator("#results li")).to_have_count(MANY, timeout=90_000)
    wait_for(lambda: sum(r["event"] == "outcome" for r in pghold.audit()) >= MANY, 60)
    approved = [r["hold_id"] for r in pghold.audit() if r["event"] == "approved" and r["reason"] == "the whole sync"]
    assert len(approved) == len(set(approved)) == MANY
