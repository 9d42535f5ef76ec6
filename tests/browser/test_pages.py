"""Every page as it looks and reads: at phone width, in the dark, without a script, and to axe-core."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.chromium import AXE, PHONE, Window, run_axe, violations
from tests.browser.conftest import Open
from tests.browser.scene import build, held
from tests.browser.steps import approve, deny, exists
from tests.browsing import PHRASE, Client
from tests.servers import Pghold, PostgresServer, wait_for

#: "{hold}" and "{ids}" stand for those that wait.
PAGES = (
    "/holds", "/holds?q=nothing", "/holds?state=all", "/holds/{hold}", "/holds/{ended}", "/holds/together?ids={ids}", "/sessions", "/activity",
    "/audit", "/policy", "/backups", "/schema", "/health", "/people", "/account", "/account/browsers", "/rules/drop-table", "/nowhere",
)  # fmt: skip
NARROW = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def places(pghold: Pghold, postgres18: PostgresServer) -> Iterator[dict[str, str]]:
    """Something on every page: holds of several kinds, long names, an ended one."""
    build(postgres18)
    long_name = '"' + "a_table_with_a_name_as_long_as_postgresql_allows_it_to_be_63_b" + '"'
    client, ended = held(pghold, 'TRUNCATE "Sessions"', application_name="ops")
    pghold.deny(ended, "which ones? " + "x" * 200)
    client.join(10)
    clients = [Client(pghold, f'DROP TABLE IF EXISTS "{n}" CASCADE', application_name="api sequelize") for n in ("Cards", "Users", "Carts")]
    wait_for(lambda: len(pghold.holds()) == 3, 10)
    ids = ",".join(str(h["id"]) for h in pghold.holds())
    script = f"-- nightly \u202e job\nDROP TABLE IF EXISTS {long_name}; DELETE FROM {long_name}; SELECT '{'y' * 400}', 1"
    client, hold_id = held(pghold, script, application_name="a program with quite a long name, as some have, which says " + "a" * 5)
    clients.append(client)
    yield {"hold": str(hold_id), "ended": str(ended), "ids": ids}
    for hold in pghold.holds():
        pghold.deny(hold["id"])
    for client in clients:
        client.join(10)


@pytest.fixture(autouse=True)
def _no_holds_left() -> None:
    """They stay for the whole module here."""


@pytest.fixture
def paths(places: dict[str, str]) -> list[str]:
    return [p.format(**places) for p in PAGES]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_on_any_page(browser: Browser, pghold: Pghold, paths: list[str], scheme: str) -> None:
    if not AXE.exists():
        pytest.fail("axe-core is not installed: npm ci --prefix tests/node")
    window = Window(browser, pghold, bypass_csp=True, color_scheme=scheme)
    found = {}
    for path in paths:
        window.go(path)
        found[path] = run_axe(window.page)
    window.close()
    assert {p: v for p, v in found.items() if v} == {}


def test_axe_finds_nothing_serious_on_a_phone_nor_before_signing_in(browser: Browser, pghold: Pghold, places: dict[str, str]) -> None:
    for path in ("/holds", f"/holds/{places['hold']}", "/sessions", "/audit", "/people"):
        assert violations(browser, pghold, path, viewport=PHONE, color_scheme="dark") == [], path
    window = Window(browser, pghold, None, bypass_csp=True)
    window.go("/login")
    assert run_axe(window.page) == []
    window.close()


@pytest.mark.parametrize("size", [NARROW, PHONE, {"width": 768, "height": 1024}, {"width": 1280, "height": 900}])
def test_no_page_scrolls_sideways(open_window: Open, paths: list[str], size: dict[str, int]) -> None:
    window = open_window(viewport=size)
    for path in paths:
        page = window.go(path)
        over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert over <= 0, f"{path} is {over} px wider than {size['width']}"


#: Whatever is pressed, smaller than a finger needs; links within a sentence or a cell of a table are as high as their line.
_SMALL = """() => [...document.querySelectorAll('button, input:not([type=hidden]), select, textarea, summary, nav a, a.button, a.row')]
  .filter((e) => e.checkVisibility() && !e.closest('[hidden]'))
  .map((e) => [e.innerText || e.id || e.name, e.getBoundingClientRect()])
  .filter(([name, box]) => box.width > 1 && (box.height < 24 || box.width < 24))
  .map(([name, box]) => `${name}: ${Math.round(box.width)} x ${Math.round(box.height)}`)"""


def test_what_is_pressed_on_a_phone_is_big_enough(open_window: Open, paths: list[str]) -> None:
    window = open_window(viewport=PHONE, has_touch=True)
    for path in paths:
        page = window.go(path)
        assert page.evaluate(_SMALL) == [], path
        for button in page.locator("main button:visible:not(.link)").all()[:6]:
            box = button.bounding_box()
            assert box is not None
            assert box["height"] >= 38, f"{path}: {button.inner_text()}"


def test_a_hold_is_decided_on_a_phone(open_window: Open, pghold: Pghold, postgres18: PostgresServer) -> None:
    postgres18.sql("CREATE TABLE IF NOT EXISTS phone ()")
    client, hold_id = held(pghold, "DROP TABLE phone")
    page = open_window(viewport=PHONE, has_touch=True, is_mobile=True).live("/holds")
    page.locator(f"#hold-{hold_id}").tap()
    page.wait_for_url(f"**/holds/{hold_id}")
    bar = page.get_by_role("navigation", name="Decide")
    expect(bar).to_be_visible()
    bar.get_by_role("link", name="Approve…").tap()
    expect(page.locator("#approve")).to_be_in_viewport()
    expect(bar).to_be_hidden()
    approve(page, name="phone")
    expect(page.locator("#standing")).to_contain_text("done")
    client.join(10)
    assert not exists(postgres18, "phone")


def _ground(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))


def test_the_page_is_dark_or_light_as_the_system_is_until_it_is_switched(open_window: Open) -> None:
    light, dark = "rgb(255, 255, 255)", "rgb(20, 23, 27)"
    assert _ground(open_window(color_scheme="light").go("/holds")) == light
    window = open_window(color_scheme="dark")
    page = window.go("/holds")
    assert _ground(page) == dark
    page.get_by_role("button", name="Dark or light").click()
    assert _ground(page) == light
    page.reload()
    assert _ground(page) == light, "the choice is kept"


def test_nothing_moves_for_those_who_want_no_motion(open_window: Open, pghold: Pghold) -> None:
    for motion, wanted in (("reduce", "none"), ("no-preference", "rise")):
        page = open_window(reduced_motion=motion).live("/holds")
        client, hold_id = held(pghold, "DROP SCHEMA nowhere")
        line = page.locator("#told p").last
        expect(line).to_contain_text(f"Hold {hold_id} waits")
        assert line.evaluate("p => getComputedStyle(p).animationName") == wanted
        pghold.deny(hold_id)
        client.join(10)


def test_reading_and_deciding_work_without_javascript(open_window: Open, pghold: Pghold, postgres18: PostgresServer) -> None:
    postgres18.sql("CREATE TABLE IF NOT EXISTS plain ()")
    client, hold_id = held(pghold, "DROP TABLE plain")
    other, denied = held(pghold, "DROP SCHEMA plain")
    page = open_window(java_script_enabled=False).go("/holds")
    expect(page.locator(f"#hold-{hold_id} .remains time")).to_have_text(re.compile(r"^\d+ min \d+ s$"))
    page.locator(f"#row-{hold_id}").click()
    approve(page, name="plain", phrase=PHRASE)
    expect(page.locator("#standing")).to_contain_text("approved by operator")
    client.join(10)
    assert client.error is None
    page.goto(f"/holds/{denied}")
    deny(page, "no")
    expect(page.locator("#standing")).to_contain_text("denied by operator: no")
    other.join(10)
    page.goto("/audit")
    expect(page.get_by_text("The chain is whole")).to_be_visible()


def test_every_page_is_quiet_for_every_role(open_window: Open, person, paths: list[str]) -> None:  # type: ignore[no-untyped-def]
    """No error, no violation of the content policy, no other host: what `open_window` looks for at the end."""
    for role in ("viewer", "auditor", "approver"):
        window = open_window(person(f"pg-{role}", role))
        for path in paths:
            if path == "/people" and role != "auditor":
                continue
            window.go(path)
            expect(window.page.get_by_role("main")).not_to_be_empty()
