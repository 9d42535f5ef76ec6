"""The pages Health and Schema with something wrong on them: what they say, on every screen, and to axe-core."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from playwright.sync_api import Browser, expect

from tests.browser.chromium import PHONE, violations
from tests.browser.conftest import Open
from tests.integration.test_health import begin, ident, rounds, wait_for_check
from tests.servers import Pghold, PostgresServer, wait_for

NAME = '<img src=x onerror=alert(1)> & "quoted" ' + "x" * 20


@pytest.fixture(scope="module")
def ill(postgres18: PostgresServer) -> Iterator[Pghold]:
    """A table is gone, somebody is past the proxy, and the schema has drifted."""
    postgres18.sql(f"CREATE TABLE {ident(NAME)} (id int)")
    proxy = begin(postgres18, PGHOLD_SCHEMA_HISTORY="true")
    wait_for(lambda: proxy.http.get("/api/v1/schema/log").status_code == 200, 20)
    rounds(proxy)
    assert proxy.stop() == 0
    postgres18.sql(f"DROP TABLE {ident(NAME)}")
    proxy.start()
    try:
        with psycopg.connect(host="127.0.0.1", port=postgres18.port, user="scram", password="secret", dbname="postgres"):
            for name in ("tables", "schema-drift", "bypass"):
                wait_for_check(proxy, name, "fail", 20)
            yield proxy
    finally:
        proxy.stop()


@pytest.mark.parametrize("path", ["/health", "/schema", "/schema/diff"])
def test_they_read_well_everywhere(browser: Browser, open_window: Open, ill: Pghold, path: str) -> None:
    for scheme in ("light", "dark"):
        assert violations(browser, ill, path, color_scheme=scheme) == []
    assert violations(browser, ill, path, color_scheme="dark", viewport=PHONE) == []
    page = open_window(proxy=ill, viewport={"width": 360, "height": 740}).go(path)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


def test_what_is_wrong_is_said_and_what_to_do(open_window: Open, ill: Pghold) -> None:
    page = open_window(proxy=ill).go("/health")
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="tables", exact=True))
    expect(row).to_contain_text(NAME)
    row.get_by_text("What to do").click()
    expect(row).to_contain_text("pghold health accept")
    expect(page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="bypass"))).to_contain_text("scram@postgres")
    page.goto(f"{ill.console}/schema")
    expect(page.get_by_role("alert")).to_contain_text("nothing explains")
    page.get_by_role("link", name="2", exact=True).click()
    expect(page.locator(".diff .removed").first).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_contain_text("version 1 to 2")


def test_both_are_accepted_by_an_admin(open_window: Open, ill: Pghold) -> None:
    page = open_window(proxy=ill).go("/health")
    page.get_by_role("button", name="What is missing is gone on purpose").click()
    wait_for_check(ill, "tables", "ok")
    page.goto(f"{ill.console}/schema")
    page.get_by_role("button", name="They are on purpose").click()
    expect(page.get_by_text("accepted by operator")).to_be_visible()
    wait_for_check(ill, "schema-drift", "ok")
