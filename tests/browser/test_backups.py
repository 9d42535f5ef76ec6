"""The pages of the copies in Chromium: as they look and read, live, by keyboard, on a phone, without a script."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.chromium import PHONE, Window, violations
from tests.browser.conftest import Open
from tests.browser.scene import build, held
from tests.browser.steps import approve
from tests.servers import Pghold, PostgresServer, wait_for


@pytest.fixture(scope="module")
def pghold(postgres18: PostgresServer, folder: Path) -> Iterator[Pghold]:
    """One with copies."""
    build(postgres18)
    proxy = Pghold(
        f"postgresql://postgres@127.0.0.1:{postgres18.port}/postgres", backups=True,
        environment={"PGHOLD_BACKUP_MIN_FREE_BYTES": "0", "PGHOLD_BACKUP_SCHEDULE": "0 0 1 1 *"},
    )  # fmt: skip
    yield proxy
    assert proxy.stop() == 0


@pytest.fixture(scope="module")
def copies(pghold: Pghold, postgres18: PostgresServer) -> dict[str, int]:
    """A full copy, and that of a hold."""
    pghold.http.post("/api/v1/backups", json={"database": "postgres"})

    def newest() -> dict[str, object]:
        return next(iter(pghold.http.get("/api/v1/backups").json()), {})

    wait_for(lambda: newest().get("proof") == "equal", 30)
    full = newest()["id"]
    postgres18.sql('CREATE TABLE IF NOT EXISTS "Leftovers" AS SELECT g AS id FROM generate_series(1, 1234) g')
    client, hold = held(pghold, 'DROP TABLE "Leftovers"')
    body = {"phrase": "YES I UNDERSTAND THE RISKS", "reason": "tested", "object_name": "Leftovers"}
    assert pghold.http.post(f"/api/v1/holds/{hold}/approve", json=body).status_code == 200
    client.join(30)
    assert client.error is None, client.error
    pghold.wait_for_state(hold, "done")
    return {"full": int(str(full)), "hold": hold, "dump": int(pghold.hold(hold)["backup"]["backup_id"])}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, pghold: Pghold, copies: dict[str, int], scheme: str) -> None:
    for path in ("/backups", "/backups?state=failed", f"/backups/{copies['full']}", f"/holds/{copies['hold']}"):
        assert violations(browser, pghold, path, color_scheme=scheme) == [], path
    assert violations(browser, pghold, "/backups", viewport=PHONE, color_scheme=scheme) == []


def test_a_copy_is_made_by_hand_and_the_page_shows_it_without_being_loaded_again(open_window: Open, copies: dict[str, int]) -> None:
    page = open_window().live("/backups")
    page.get_by_role("button", name="copy now: postgres").click()
    row = page.locator(f"#copy-{copies['dump'] + 1}")
    expect(row).to_contain_text("proven")
    expect(page.locator("#database-1")).to_contain_text("ago")
    expect(page.get_by_role("img", name=re.compile("Copies take .* must stay so"))).to_be_visible()


def test_from_a_hold_to_its_copy_and_how_to_bring_it_back(open_window: Open, pghold: Pghold, copies: dict[str, int]) -> None:
    page = open_window().go(f"/holds/{copies['hold']}")
    expect(page.locator("#standing")).to_contain_text("1,234 rows")
    expect(page.locator("#standing")).to_contain_text("equal")
    page.get_by_role("link", name=re.compile(f"copy {copies['dump']}")).click()
    page.wait_for_url(f"**/backups/{copies['dump']}")
    expect(page.locator("main")).to_contain_text('"public"."Leftovers"')
    expect(page.locator("main")).to_contain_text("pghold restore")
    expect(page.get_by_role("link", name=f"hold #{copies['hold']}")).to_be_visible()
    page.get_by_text("Manifest", exact=True).click()
    expect(page.locator("#manifest pre")).to_contain_text('"script_sha256"')


def test_before_the_decision_the_card_says_what_will_be_copied_and_afterwards_what_was(
    open_window: Open, pghold: Pghold, postgres18: PostgresServer
) -> None:
    postgres18.sql("CREATE TABLE IF NOT EXISTS leaving AS SELECT 1 AS one")
    client, hold = held(pghold, "DROP TABLE leaving")
    page = open_window().live(f"/holds/{hold}")
    expect(page.locator("#standing")).to_contain_text("Backup: made before it runs")
    approve(page, name="leaving")
    expect(page.locator("#standing .copy")).to_contain_text("1 row")
    client.join(10)
    assert client.error is None


def test_a_copy_is_verified_by_keyboard(open_window: Open, pghold: Pghold, copies: dict[str, int]) -> None:
    page = open_window().live(f"/backups/{copies['full']}")
    before = pghold.http.get(f"/api/v1/backups/{copies['full']}").json()["proved_at"]
    page.get_by_role("button", name="Verify now").focus()
    page.keyboard.press("Enter")
    wait_for(lambda: pghold.http.get(f"/api/v1/backups/{copies['full']}").json()["proved_at"] != before, 20)
    expect(page.locator(".standing")).to_contain_text("proven")


def test_a_table_is_restored_into_another_database_from_its_page(
    open_window: Open, pghold: Pghold, postgres18: PostgresServer, copies: dict[str, int]
) -> None:
    postgres18.sql('DROP DATABASE IF EXISTS "back again" WITH (FORCE)')
    page = open_window().live(f"/backups/{copies['dump']}")
    page.get_by_text("Restore…", exact=True).first.click()
    page.get_by_label("Name of the database").fill("back again")
    page.locator("#restore-reason").fill("look at it")
    page.get_by_role("button", name="Restore…").click()
    page.wait_for_url(re.compile(r"/holds/\d+$"))
    expect(page.locator("h1")).to_contain_text("RESTORE")
    hold = int(page.url.rpartition("/")[2])
    body = {"phrase": "YES I UNDERSTAND THE RISKS", "reason": "yes", "object_name": "back again"}
    answer = pghold.http.post(f"/api/v1/holds/{hold}/approve", json=body)
    assert answer.status_code == 200, answer.text
    expect(page.locator("#standing")).to_contain_text("done", timeout=30_000)
    assert postgres18.sql('SELECT count(*) FROM "Leftovers"', "back again") == [(1234,)]
    postgres18.sql('DROP DATABASE "back again" WITH (FORCE)')


@pytest.mark.parametrize("path", ["/backups", "/backups/{full}", "/holds/{hold}"])
def test_nothing_is_wider_than_a_phone(open_window: Open, copies: dict[str, int], path: str) -> None:
    page = open_window(viewport={"width": 360, "height": 740}).go(path.format(**copies))
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


def test_all_of_it_works_without_javascript(open_window: Open, pghold: Pghold, copies: dict[str, int]) -> None:
    page = open_window(java_script_enabled=False).go("/backups")
    page.get_by_label("kind").select_option("full")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator(f"#copy-{copies['full']}")).to_be_visible()
    expect(page.locator(f"#copy-{copies['dump']}")).to_have_count(0)
    page.get_by_role("link", name=f"copy {copies['full']}", exact=True).click()
    expect(page.locator("h1")).to_contain_text("copy of the whole database")
    page.go_back()
    newest = pghold.http.get("/api/v1/backups").json()[0]["id"]
    page.get_by_role("button", name="copy now: postgres").click()
    wait_for(lambda: pghold.http.get("/api/v1/backups").json()[0]["id"] > newest, 20)


def test_a_viewer_sees_all_of_it_and_changes_nothing(open_window: Open, person, copies: dict[str, int]) -> None:  # type: ignore[no-untyped-def]
    window: Window = open_window(person("keeping-viewer", "viewer"))
    expect(window.go("/backups").locator(f"#copy-{copies['full']}")).to_be_visible()
    expect(window.page.get_by_role("button", name=re.compile("copy now"))).to_have_count(0)
    window.go(f"/backups/{copies['full']}")
    expect(window.page.get_by_role("button", name="Verify now")).to_have_count(0)


def test_the_practice_hold_works_with_copies(open_window: Open, pghold: Pghold) -> None:
    page = open_window().go("/holds")
    csrf = page.locator("body").get_attribute("data-csrf")
    page.evaluate(
        "csrf => { const f = document.createElement('form'); f.method = 'post'; f.action = '/holds/practice';"
        " const i = document.createElement('input'); i.name = 'csrf'; i.value = csrf; f.append(i); document.body.append(f); f.submit(); }",
        csrf,
    )
    page.wait_for_url(re.compile(r"/holds/\d+$"))
    expect(page.locator("#standing")).to_contain_text("a hold to practise on")
    page.locator("#deny-reason").fill("practised")
    page.get_by_role("button", name="Deny", exact=True).click()
    expect(page.locator("#standing")).to_contain_text("denied")
