"""Everything without a mouse."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.chromium import Window
from tests.browser.conftest import Open
from tests.browser.scene import held, waiting
from tests.browser.steps import events, exists
from tests.browsing import PHRASE
from tests.servers import Pghold, PostgresServer

#: Of the focused element: what it is called, whether it is seen, and whether a ring is drawn around it or its card.
_FOCUSED = """() => {
  const at = document.activeElement;
  const box = at.getBoundingClientRect();
  const ring = [getComputedStyle(at), getComputedStyle(at, '::after')].some((s) => s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2);
  if (at === document.body) return ['BODY', true, true];
  const name = at.getAttribute('aria-label') || at.labels?.[0]?.innerText || at.innerText || at.tagName;
  return [name.replace(/\\s+/g, ' ').trim(), box.width > 0 && box.height > 0, ring];
}"""


def tab_through(page: Page, stops: int) -> list[str]:
    """The names of what Tab leads to; each must be visible with its focus."""
    names = []
    for _ in range(stops):
        page.keyboard.press("Tab")
        name, seen, ring = page.evaluate(_FOCUSED)
        if name == "BODY":
            break
        assert seen, f"{name} has the focus and is not seen"
        assert ring, f"{name} has the focus and does not show it"
        names.append(name)
    return names


def test_a_hold_is_found_opened_and_approved_by_keys_alone(window: Window, pghold: Pghold, postgres18: PostgresServer, table: str) -> None:
    client, hold_id = held(pghold, f"DROP TABLE {table}")
    page = window.live("/holds")
    keys = page.keyboard
    keys.press("j")
    expect(page.locator(f"#row-{hold_id}")).to_be_focused()
    keys.press("Enter")
    page.wait_for_url(f"**/holds/{hold_id}")
    page.wait_for_selector("body[data-connected]")
    keys.press("a")
    expect(page.locator("#object_name")).to_be_focused()
    keys.type(table)
    keys.press("Tab")
    keys.type(PHRASE)
    keys.press("Tab")
    keys.type("by keys alone: a d / ? j k h")
    keys.press("Enter")
    expect(page.locator("#standing")).to_contain_text("approved by operator: by keys alone: a d / ? j k h")
    client.join(10)
    assert client.error is None
    assert not exists(postgres18, table)
    assert "approved" in events(pghold, hold_id)


def test_a_hold_is_denied_by_keys_alone_and_the_list_is_a_key_away(window: Window, pghold: Pghold, table: str) -> None:
    client, hold_id = held(pghold, f"TRUNCATE {table}")
    page = window.live(f"/holds/{hold_id}")
    page.keyboard.press("d")
    expect(page.locator("#deny-reason")).to_be_focused()
    page.keyboard.type("no")
    page.keyboard.press("Escape")
    expect(page.locator("#deny-reason")).not_to_be_focused()
    page.keyboard.press("d")
    page.keyboard.press("End")
    page.keyboard.type("t tonight")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Deny", exact=True)).to_be_focused()
    page.keyboard.press("Space")
    expect(page.locator("#standing")).to_contain_text("denied by operator: not tonight")
    client.join(10)
    page.keyboard.press("h")
    page.wait_for_url("**/holds")


def test_j_and_k_walk_through_the_holds_and_stop_at_the_ends(window: Window, pghold: Pghold, table: str) -> None:
    with waiting(pghold, (f"TRUNCATE {table}", {}), (f"DROP TABLE {table}", {}), (f"DELETE FROM {table}", {})):
        page = window.live("/holds")
        rows = page.locator("a.row")
        expect(rows).to_have_count(3)
        page.keyboard.press("k")
        expect(rows.nth(2)).to_be_focused()
        for key, at in (("k", 1), ("k", 0), ("k", 0), ("j", 1), ("j", 2), ("j", 2)):
            page.keyboard.press(key)
            expect(rows.nth(at)).to_be_focused()
        page.keyboard.press("/")
        expect(page.get_by_label("Filter", exact=True)).to_be_focused()
        page.keyboard.type("/?jdrop")
        expect(page.get_by_label("Filter", exact=True)).to_have_value("/?jdrop")
        page.keyboard.press("Escape")
        page.keyboard.press("j")
        expect(rows.nth(0)).to_be_focused()


def test_the_list_of_keys_opens_holds_the_focus_and_closes(window: Window) -> None:
    page = window.live("/holds")
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_role("button", name="Close")).to_be_focused()
    page.keyboard.press("h")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_tab_goes_through_a_hold_in_the_order_of_the_page_and_always_shows_where_it_is(
    open_window: Open, pghold: Pghold, table: str
) -> None:
    with waiting(pghold, (f"DROP TABLE {table}", {})) as (hold_id,):
        page = open_window().live(f"/holds/{hold_id}")
        names = tab_through(page, 40)
        order = ("Skip to the content", "pghold", "Holds 1", "Sessions", "operator admin", "Sign out", "Dark or light", "Holds", "drop-table",
                 "The script as it was sent", "Download all of it", "Type the name of what is lost", "Type YES", "Reason", "Approve",
                 "Reason, which the client is told", "Deny", "Edit and return")  # fmt: skip
        found = iter(names)
        for wanted in order:
            assert any(name.startswith(wanted) for name in found), f"{wanted} does not come where it should in {names}"


def test_every_page_can_be_walked_by_tab_and_shows_the_focus(window: Window) -> None:
    for path in ("/holds", "/sessions", "/activity", "/audit", "/policy", "/health", "/people", "/account"):
        page = window.live(path)
        assert len(tab_through(page, 30)) >= 10, path
    # The first stop leads past the navigation.
    page = window.live("/holds")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
