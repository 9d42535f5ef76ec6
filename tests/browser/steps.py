"""What people do on the console's pages, and what is asked of the record afterwards."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page, expect

from tests.browsing import PHRASE
from tests.servers import Pghold, PostgresServer, wait_for


def approve(page: Page, *, name: str = "", reason: str = "tested", phrase: str = PHRASE, code: str = "") -> None:
    """Fill the form of a hold's page and send it."""
    form = page.locator("#approve")
    if name:
        form.get_by_label("Type the name of what is lost").fill(name)
    form.get_by_label("Type YES").fill(phrase)
    form.get_by_label("Reason").fill(reason)
    if code:
        form.get_by_label("Code of your second factor").fill(code)
    form.get_by_role("button", name="Approve").click()


def deny(page: Page, reason: str) -> None:
    form = page.locator("#deny")
    form.get_by_label("Reason, which the client is told").fill(reason)
    form.get_by_role("button", name="Deny").click()


def sign_in(page: Page, name: str, password: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password or token").fill(password)
    page.get_by_role("button", name="Sign in").click()


def problem(page: Page) -> str:
    """What the page says went wrong."""
    shown = page.locator(".problem").first
    expect(shown).to_be_visible()
    return shown.inner_text()


def events(pghold: Pghold, hold_id: int) -> list[str]:
    """Of the audit log, about one hold."""
    return [r["event"] for r in pghold.audit() if r["hold_id"] == hold_id]


def wait_for_event(pghold: Pghold, event: str, **values: Any) -> dict[str, Any]:
    """A record of the audit log with these values."""

    def found() -> list[dict[str, Any]]:
        return [r for r in pghold.audit() if r["event"] == event and all(r.get(k) == v for k, v in values.items())]

    wait_for(lambda: bool(found()), 5)
    return found()[-1]


def exists(server: PostgresServer, table: str) -> bool:
    return bool(server.sql(f"SELECT to_regclass('{table}') IS NOT NULL")[0][0])
