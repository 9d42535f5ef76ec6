"""Coming in, being kept out, and going."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.cable import Cable
from tests.browser.conftest import Open
from tests.browser.steps import problem, sign_in, wait_for_event
from tests.browsing import Browser as Http
from tests.conftest import make_certificate
from tests.servers import Pghold, PostgresServer

PASSWORD = "correct horse battery"


def with_password(pghold: Pghold, token: str) -> None:
    assert Http(pghold, token).post("/account/password", new=PASSWORD, again=PASSWORD).status_code == 200


def test_a_token_signs_in_and_leads_where_one_wanted_to_go(open_window: Open, pghold: Pghold) -> None:
    window = open_window(None)
    page = window.go("/audit?text=held")
    assert "/login?next=" in page.url
    sign_in(page, "", pghold.token)
    expect(page).to_have_url(re.compile(r"/audit\?text=held$"))
    expect(page.get_by_role("link", name="operator admin")).to_be_visible()
    wait_for_event(pghold, "logged in", operator="operator", outcome="token")
    cookie = next(c for c in window.context.cookies() if c["name"] == "pghold")
    assert cookie["httpOnly"] is True
    assert cookie["sameSite"] == "Lax"
    assert page.evaluate("document.cookie") == ""


def test_a_password_is_set_under_account_and_signs_in(open_window: Open, pghold: Pghold, person: Callable[..., str]) -> None:
    window = open_window(person("si-ana"))
    page = window.go("/account")
    page.get_by_label("A new one").fill(PASSWORD)
    page.get_by_label("Again").fill("something else entirely")
    page.get_by_role("button", name="Set the password").click()
    assert "differ" in problem(page)
    page.get_by_label("A new one").fill(PASSWORD)
    page.get_by_label("Again").fill(PASSWORD)
    page.get_by_role("button", name="Set the password").click()
    expect(page.get_by_text("The password is set")).to_be_visible()
    wait_for_event(pghold, "operator changed", operator="si-ana", outcome="password set")
    other = open_window(None).go("/login")
    sign_in(other, "si-ana", PASSWORD)
    expect(other.get_by_role("heading", name="Holds")).to_be_visible()
    wait_for_event(pghold, "logged in", operator="si-ana", outcome="password")


def test_a_wrong_password_says_so_keeps_the_name_and_is_on_record(open_window: Open, pghold: Pghold, person: Callable[..., str]) -> None:
    with_password(pghold, person("si-bob"))
    page = open_window(None).go("/login")
    sign_in(page, "si-bob", "wrong")
    assert problem(page) == "Wrong name, password or token."
    expect(page.get_by_label("Name")).to_have_value("si-bob")
    expect(page.get_by_label("Password or token")).to_have_value("")
    wait_for_event(pghold, "login failed", operator="si-bob")


def test_five_wrong_passwords_lock_the_name_for_a_while(open_window: Open, pghold: Pghold, person: Callable[..., str]) -> None:
    with_password(pghold, person("si-loc"))
    page = open_window(None).go("/login")
    for _ in range(5):
        sign_in(page, "si-loc", "wrong")
        assert problem(page) == "Wrong name, password or token."
    sign_in(page, "si-loc", PASSWORD)
    assert re.search(r"Too many failed attempts for this name\. Try again in \d+ s\.", problem(page))
    wait_for_event(pghold, "login failed", operator="si-loc", outcome="locked out")
    people = open_window().go("/people")
    expect(people.get_by_role("row", name="si-loc").get_by_text("locked out")).to_be_visible()


def test_signing_out_ends_the_session_for_the_server_too(open_window: Open, pghold: Pghold, person: Callable[..., str]) -> None:
    window = open_window(person("si-out"))
    page = window.go("/holds")
    kept = window.context.cookies()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    wait_for_event(pghold, "logged out", operator="si-out")
    window.context.add_cookies(kept)
    window.go("/holds")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_an_open_page_says_that_its_session_is_over_and_keeps_what_was_typed(
    open_window: Open, pghold: Pghold, cable: Cable, person: Callable[..., str]
) -> None:
    token = person("si-end")
    window = open_window(token, url=cable.url, offline=True)
    page = window.live("/policy")
    statement = page.get_by_role("textbox", name="Statement")
    statement.fill("DROP TABLE half_typed")
    other = Http(pghold, None)
    for cookie in window.context.cookies():
        other.http.cookies.set(cookie["name"], cookie["value"])
    assert other.post("/logout").status_code == 303
    # The stream breaks, and asking for it again is refused.
    cable.cut()
    expect(page.get_by_text("The console cannot be reached")).to_be_visible()
    cable.mend()
    expect(page.get_by_text("Your session is over")).to_be_visible()
    expect(statement).to_have_value("DROP TABLE half_typed")
    # Signed in again in another tab, this one is live again, and its form is good.
    window.sign_in(token)
    expect(page.get_by_text("Your session is over")).to_be_hidden()
    page.get_by_role("button", name="Judge it").click()
    expect(page.locator("#tried")).to_contain_text("It would be: held")


def test_a_page_of_somebody_who_is_not_signed_in_any_more_is_not_another_persons(
    open_window: Open, cable: Cable, person: Callable[..., str]
) -> None:
    first, second = person("si-first"), person("si-second", "viewer")
    window = open_window(first, url=cable.url, offline=True)
    page = window.live("/holds")
    cable.cut()
    window.sign_in(second)
    cable.mend()
    expect(page.get_by_role("link", name="si-second viewer")).to_be_visible()


def test_all_other_browsers_are_signed_out_from_one(open_window: Open, pghold: Pghold, person: Callable[..., str]) -> None:
    token = person("si-two")
    left_open, here = open_window(token), open_window(token)
    left_open.go("/holds")
    page = here.go("/account")
    page.get_by_role("link", name="Signed-in browsers").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page.locator("tbody tr").first).to_contain_text("this one")
    here.answers_dialogs = True
    page.get_by_role("button", name="Sign all others out").click()
    expect(page.get_by_text("You are signed in nowhere else")).to_be_visible()
    wait_for_event(pghold, "operator changed", operator="si-two", outcome="signed out all other browsers")
    expect(left_open.go("/holds").get_by_role("heading", name="Sign in")).to_be_visible()


def test_under_tls_the_cookie_is_for_this_host_alone_and_the_page_is_live(
    open_window: Open, postgres18: PostgresServer, folder: Path
) -> None:
    make_certificate(folder / "console")
    files = {"PGHOLD_CONSOLE_TLS_CERT": "server.crt", "PGHOLD_CONSOLE_TLS_KEY": "server.key"}
    environment = {key: str(folder / "console" / name) for key, name in files.items()}
    proxy = Pghold(f"postgresql://127.0.0.1:{postgres18.port}/postgres", environment=environment)
    try:
        window = open_window(None, proxy=proxy, ignore_https_errors=True)
        page = window.go("/login")
        assert page.url.startswith("https://")
        sign_in(page, "", proxy.token)
        page.wait_for_selector("body[data-connected]")
        cookie = window.context.cookies()[0]
        assert (cookie["name"], cookie["secure"], cookie["httpOnly"]) == ("__Host-pghold", True, True)
        page.get_by_role("button", name="Open a practice hold").click()
        expect(page.locator("#standing")).to_contain_text("pending")
    finally:
        proxy.stop()
